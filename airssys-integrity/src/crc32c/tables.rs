//! Portable CRC32C: slice-by-8 over tables built at compile time.

/// The Castagnoli polynomial, bit-reflected, without its leading term.
const POLYNOMIAL: u32 = 0x82F6_3B78;

type Row = [u32; 256];

/// `TABLES[n]` steps the register over one byte followed by `n` zero bytes.
static TABLES: [Row; 8] = [
    row(0),
    row(1),
    row(2),
    row(3),
    row(4),
    row(5),
    row(6),
    row(7),
];

const fn row(zero_bytes: u32) -> Row {
    let mut row = [0; 256];
    let mut byte = 0;
    let mut slots: &mut [u32] = &mut row;
    while let Some((slot, rest)) = slots.split_first_mut() {
        *slot = entry(byte, zero_bytes);
        byte += 1;
        slots = rest;
    }
    row
}

const fn entry(byte: u32, zero_bytes: u32) -> u32 {
    let mut state = byte;
    let mut shifts = 8 * (zero_bytes + 1);
    while shifts > 0 {
        let carry = state & 1;
        state >>= 1;
        if carry == 1 {
            state ^= POLYNOMIAL;
        }
        shifts -= 1;
    }
    state
}

fn look_up(row: &Row, byte: u8) -> u32 {
    // A byte cannot miss in 256 entries, so the fallback is never taken.
    row.get(usize::from(byte)).copied().unwrap_or_default()
}

/// The register after one more byte.
pub(super) fn step(state: u32, byte: u8) -> u32 {
    let [low, ..] = state.to_le_bytes();
    let [row, ..] = &TABLES;
    (state >> 8) ^ look_up(row, low ^ byte)
}

fn step_word(state: u32, word: u64) -> u32 {
    // The first byte has the other seven still to come behind it.
    let bytes = (word ^ u64::from(state)).to_le_bytes();
    bytes
        .iter()
        .zip(TABLES.iter().rev())
        .fold(0, |sum, (byte, row)| sum ^ look_up(row, *byte))
}

/// The register after `bytes`.
pub(super) fn scan(state: u32, bytes: &[u8]) -> u32 {
    let (words, tail) = bytes.as_chunks();
    let state = words.iter().fold(state, |state, word| {
        step_word(state, u64::from_le_bytes(*word))
    });
    tail.iter().fold(state, |state, byte| step(state, *byte))
}

/// The register after `source`, which is written to `destination` on the way.
/// Both slices have the same length.
#[cfg(any(feature = "alloc", test))]
pub(super) fn copy(mut state: u32, source: &[u8], destination: &mut [u8]) -> u32 {
    use core::hint::black_box;

    let (words, tail) = source.as_chunks();
    let (slots, slots_tail) = destination.as_chunks_mut();
    for (bytes, slot) in words.iter().zip(slots) {
        // Without the black box the optimiser may turn the stores into a block
        // copy that reads the source a second time, behind the CRC's back.
        let word = black_box(u64::from_le_bytes(*bytes));
        state = step_word(state, word);
        *slot = word.to_le_bytes();
    }
    for (byte, slot) in tail.iter().zip(slots_tail) {
        let byte = black_box(*byte);
        state = step(state, byte);
        *slot = byte;
    }
    state
}
