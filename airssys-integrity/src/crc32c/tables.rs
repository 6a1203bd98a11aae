//! Portable CRC32C: slice-by-8 over tables built at compile time.

/// The Castagnoli polynomial, bit-reflected, without its leading term.
pub(crate) const POLYNOMIAL: u32 = 0x82F6_3B78;

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

/// The register after the eight bytes of `lane`.
pub(super) fn step_lane(state: u32, lane: u64) -> u32 {
    // The first byte has the other seven still to come behind it.
    let bytes = (lane ^ u64::from(state)).to_le_bytes();
    bytes
        .iter()
        .zip(TABLES.iter().rev())
        .fold(0, |sum, (byte, row)| sum ^ look_up(row, *byte))
}

/// The register after up to seven bytes.
pub(super) fn tail(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| step(state, *byte))
}

/// The register after the lanes `0..lanes`, each asked for once, in order.
pub(super) fn fold(state: u32, lanes: usize, lane_at: &mut impl FnMut(usize) -> u64) -> u32 {
    (0..lanes).fold(state, |state, lane| step_lane(state, lane_at(lane)))
}
