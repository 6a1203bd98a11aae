//! CRC32C over bytes in memory or bytes on their way to a copy.

#[cfg(target_arch = "x86_64")]
mod sse42;
mod tables;

/// A CRC32C (Castagnoli) being computed: polynomial `0x1EDC6F41`, reflected,
/// initial value and final XOR `0xFFFF_FFFF` (RFC 3720, section 12.1).
///
/// Input may come in any split; only the order of the bytes counts.
///
/// ```
/// use airssys_integrity::Crc32c;
///
/// let mut crc = Crc32c::new();
/// crc.update(b"1234");
/// crc.update(b"56789");
/// assert_eq!(crc.finish(), 0xE306_9283);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Crc32c {
    /// The register before the final inversion.
    state: u32,
}

impl Crc32c {
    /// The CRC of nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: !0 }
    }

    /// Adds the eight bytes of `word` in little-endian order.
    pub fn update_u64(&mut self, word: u64) {
        self.update(&word.to_le_bytes());
    }

    /// Adds one byte.
    pub fn update_byte(&mut self, byte: u8) {
        self.state = tables::step(self.state, byte);
    }

    /// Adds `bytes` in order.
    pub fn update(&mut self, bytes: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(state) = sse42::scan(self.state, bytes) {
            self.state = state;
            return;
        }
        self.state = tables::scan(self.state, bytes);
    }

    /// Adds `source` and writes it to `destination`, each word from the one
    /// register that also feeds the CRC. Stops at the end of the shorter slice.
    #[cfg(any(feature = "alloc", test))]
    pub(crate) fn update_copying(&mut self, source: &[u8], destination: &mut [u8]) {
        // Unequal lengths would put the word loop and the byte loop out of step.
        let common = source.len().min(destination.len());
        let (source, _) = source.split_at(common);
        let (destination, _) = destination.split_at_mut(common);
        #[cfg(target_arch = "x86_64")]
        if let Some(state) = sse42::copy(self.state, source, destination) {
            self.state = state;
            return;
        }
        self.state = tables::copy(self.state, source, destination);
    }

    /// The CRC of everything added so far. More may be added afterwards.
    #[must_use]
    pub const fn finish(self) -> u32 {
        !self.state
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "x86_64")]
    use super::sse42;
    use super::{Crc32c, tables};
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn oracle(bytes: &[u8]) -> u32 {
        crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(bytes)
    }

    proptest! {
        #[test]
        fn tables_agree_with_the_oracle(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(!tables::scan(!0, &bytes), oracle(&bytes));
        }

        #[test]
        #[cfg(target_arch = "x86_64")]
        fn instructions_agree_with_tables(
            state in any::<u32>(),
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Some(found) = sse42::scan(state, &bytes) {
                prop_assert_eq!(found, tables::scan(state, &bytes));
            }
        }

        #[test]
        fn every_copy_path_copies_and_sums_the_source(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut copied: Vec<u8> = vec![0; bytes.len()];
            prop_assert_eq!(!tables::copy(!0, &bytes, &mut copied), oracle(&bytes));
            prop_assert_eq!(&copied, &bytes);

            let mut copied: Vec<u8> = vec![0; bytes.len()];
            let mut crc = Crc32c::new();
            crc.update_copying(&bytes, &mut copied);
            prop_assert_eq!(crc.finish(), oracle(&bytes));
            prop_assert_eq!(&copied, &bytes);
        }
    }

    #[test]
    fn a_short_destination_ends_the_copy_and_the_sum() {
        let source: Vec<u8> = (0..29).collect();
        for room in 0..source.len() {
            let mut copied = vec![0; room];
            let mut crc = Crc32c::new();
            crc.update_copying(&source, &mut copied);
            let (held, _) = source.split_at(room);
            assert_eq!(copied, held);
            assert_eq!(crc.finish(), oracle(held));
        }
    }
}
