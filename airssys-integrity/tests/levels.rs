//! What buffers on the heap do at each level, and the views on what they verified.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use airssys_integrity::{
    BLOCK_BYTES, BufferWriter, CheckedBuffer, LengthMismatch, SampleRate, VerificationLevel,
    VerifyError,
};
use proptest::prelude::*;

const LEVELS: [VerificationLevel; 5] = [
    VerificationLevel::Off,
    VerificationLevel::Sampling(SampleRate::ONE_IN_64),
    VerificationLevel::Standard,
    VerificationLevel::Full,
    VerificationLevel::Redundant,
];

fn source(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 29 + at / 255) as u8).collect()
}

fn buffer(level: VerificationLevel, bytes: &[u8]) -> CheckedBuffer {
    let mut writer = BufferWriter::with_limit(bytes.len()).level(level);
    writer.append(bytes).unwrap();
    writer.finish()
}

proptest! {
    #[test]
    fn content_equals_the_appended_bytes_at_every_level(
        parts in proptest::collection::vec(
            prop_oneof![
                4 => proptest::collection::vec(any::<u8>(), 0..10),
                1 => proptest::collection::vec(any::<u8>(), 0..1_600),
            ],
            0..20,
        ),
    ) {
        let model = parts.concat();
        for level in LEVELS {
            let mut writer = BufferWriter::with_limit(model.len()).level(level);
            for part in &parts {
                writer.append(part).unwrap();
            }
            let buffer = writer.finish();
            prop_assert_eq!(buffer.level(), level);
            prop_assert_eq!(buffer.read().unwrap(), &model[..]);
            prop_assert_eq!(buffer.unverified(), &model[..]);
            match buffer.verify() {
                Ok(bytes) => prop_assert_eq!(&*bytes, &model[..]),
                Err(error) => {
                    prop_assert_eq!(error, VerifyError::Unverified);
                    prop_assert_eq!(level, VerificationLevel::Off);
                }
            }
        }
    }

    #[test]
    fn samples_keep_every_bit_also_of_nan(bits in proptest::collection::vec(any::<u32>(), 0..300)) {
        let wire: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let buffer = buffer(VerificationLevel::Standard, &wire);
        let samples = buffer.verify().unwrap().as_samples().unwrap();
        prop_assert_eq!(samples.len(), bits.len());
        prop_assert!(samples.iter().map(f32::to_bits).eq(bits.iter().copied()));
        for (index, bits) in bits.iter().enumerate() {
            prop_assert_eq!(samples.get(index).map(f32::to_bits), Some(*bits));
        }
        prop_assert!(samples.get(bits.len()).is_none());
        if cfg!(target_endian = "little") {
            // No copy: the slice is where the message is.
            let slice = samples.as_slice().unwrap();
            prop_assert!(slice.iter().map(|sample| sample.to_bits()).eq(bits.iter().copied()));
            prop_assert!(slice.is_empty() || slice.as_ptr().cast() == buffer.unverified().as_ptr());
        }
    }
}

#[test]
fn the_first_sample_is_little_endian() {
    let buffer = buffer(VerificationLevel::Standard, &[0x00, 0x00, 0xC0, 0x3F]);
    let samples = buffer.verify().unwrap().as_samples().unwrap();
    assert_eq!(samples.get(0), Some(1.5));
}

#[test]
fn a_view_of_a_broken_length_is_refused() {
    let buffer = buffer(VerificationLevel::Standard, &source(1_030));
    let bytes = buffer.verify().unwrap();
    let mismatch = |item_bytes| LengthMismatch {
        len: 1_030,
        item_bytes,
    };
    assert_eq!(bytes.as_samples().unwrap_err(), mismatch(4));
    assert_eq!(bytes.as_blocks::<100>().unwrap_err(), mismatch(100));
    let blocks = bytes.as_blocks::<103>().unwrap();
    assert_eq!(blocks.len(), 10);
    assert_eq!(blocks.concat(), source(1_030));
}

#[test]
fn the_mirror_of_redundant_is_checked_bit_by_bit() {
    let len = BLOCK_BYTES + 3;
    let mut buffer = buffer(VerificationLevel::Redundant, &source(len));
    let mirror = 8 * (len + 3 * 4);
    for bit in mirror..mirror + 8 * len {
        assert!(buffer.flip_bit(bit));
        let corrupt = buffer.read().unwrap_err();
        assert_eq!(corrupt.block, (bit - mirror) / 8 / BLOCK_BYTES);
        assert!(corrupt.persistent);
        assert!(buffer.flip_bit(bit));
    }
    assert!(!buffer.flip_bit(mirror + 8 * len));
    buffer.verify().unwrap();
}

/// Messages are mostly read once, so the first reads of many must share the checks.
#[test]
fn the_first_reads_of_many_sampled_messages_are_checked_at_the_rate() {
    let rate = SampleRate::one_in_power_of_two(4).unwrap();
    let caught = (0..1_600)
        .filter(|_| {
            let mut message = buffer(VerificationLevel::Sampling(rate), &source(64));
            message.flip_bit(5);
            message.read().is_err()
        })
        .count();
    // 100 expected, within five standard deviations.
    assert!((52..=148).contains(&caught), "{caught}");
}

#[test]
fn a_seed_decides_which_read_checks() {
    let rate = SampleRate::ONE_IN_64;
    let first_catch = |seed| {
        let mut writer = BufferWriter::with_limit(64)
            .level(VerificationLevel::Sampling(rate))
            .seed(seed);
        writer.append(&source(64)).unwrap();
        let mut message = writer.finish();
        message.flip_bit(5);
        (0..64).find(|_| message.read().is_err()).unwrap()
    };
    let turns: Vec<_> = (0..8).map(first_catch).collect();
    assert_eq!(turns, (0..8).map(first_catch).collect::<Vec<_>>());
    assert!(turns.iter().any(|turn| Some(turn) != turns.first()));
}

/// At `Standard` the tag is the source's, so a copy that went wrong is seen when it is read.
#[test]
fn a_bit_that_changed_while_it_was_copied_is_caught_at_every_level_with_tags() {
    let bytes = source(700);
    for level in LEVELS {
        for bit in 0..700 * 8 {
            let mut writer = BufferWriter::with_limit(700).level(level);
            let refused = writer.append_with_hit(&bytes, bit).is_err();
            let at_once = matches!(
                level,
                VerificationLevel::Full | VerificationLevel::Redundant
            );
            assert_eq!(refused, at_once, "bit {bit} at {level:?}");
            if !refused {
                assert!(writer.finish().verify().is_err(), "bit {bit} at {level:?}");
            }
        }
    }
}
