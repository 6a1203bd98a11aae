//! What a checked buffer promises, seen from outside.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

use airssys_integrity::{
    AppendError, BLOCK_BYTES, BufferWriter, CheckedBuffer, Corrupt, Crc32c, VerifyError,
};
use proptest::prelude::*;

const LENGTHS: [usize; 5] = [1, 511, 512, 513, 1_500];

fn source(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 37 + at / 251) as u8).collect()
}

fn buffer(len: usize) -> CheckedBuffer {
    CheckedBuffer::from_source(&source(len), len).unwrap()
}

fn corrupt(buffer: &CheckedBuffer) -> Corrupt {
    match buffer.verify() {
        Err(VerifyError::Corrupt(corrupt)) => corrupt,
        other => panic!("{other:?}"),
    }
}

/// Bits at rest: the data, a tag per block, the tag of the length.
fn bits(len: usize) -> usize {
    len * 8 + (len.div_ceil(BLOCK_BYTES) + 1) * 32
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(bytes);
    crc.finish()
}

#[test]
fn crc32c_gives_the_known_answers() {
    assert_eq!(crc32c(b""), 0);
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
}

/// RFC 3720, appendix B.4.
#[test]
fn crc32c_gives_the_answers_of_the_iscsi_standard() {
    let up: Vec<u8> = (0..32).collect();
    let down: Vec<u8> = (0..32).rev().collect();
    let mut read_command = [0; 48];
    read_command[0] = 0x01;
    read_command[1] = 0xC0;
    read_command[16] = 0x14;
    read_command[22] = 0x04;
    read_command[27] = 0x14;
    read_command[31] = 0x18;
    read_command[32] = 0x28;
    read_command[40] = 0x02;

    assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
    assert_eq!(crc32c(&up), 0x46DD_794E);
    assert_eq!(crc32c(&down), 0x113F_DB5C);
    assert_eq!(crc32c(&read_command), 0xD996_3A56);
}

#[test]
fn every_single_flip_of_data_and_tags_is_caught() {
    for len in LENGTHS {
        let mut buffer = buffer(len);
        for bit in 0..bits(len) {
            assert!(buffer.flip_bit(bit));
            assert!(buffer.verify().is_err(), "bit {bit} of {len} bytes");
            assert!(buffer.flip_bit(bit));
        }
        assert!(!buffer.flip_bit(bits(len)));
        assert_eq!(&*buffer.verify().unwrap(), source(len));
    }
}

#[test]
fn a_corrupt_block_is_named_with_its_range_and_both_tags() {
    let mut buffer = buffer(1_500);
    buffer.flip_bit(1_024 * 8);
    let in_data = corrupt(&buffer);
    assert_eq!(
        (in_data.block, in_data.offset, in_data.len),
        (2, 1_024, 476)
    );
    assert_ne!(in_data.expected, in_data.found);
    assert!(in_data.persistent);

    buffer.flip_bit(1_024 * 8);
    buffer.flip_bit(1_500 * 8 + 2 * 32 + 5);
    let in_tag = corrupt(&buffer);
    assert_eq!(in_tag.block, 2);
    assert_eq!(in_tag.found, in_data.expected);
    assert_eq!(in_tag.expected, in_data.expected ^ (1 << 5));
}

/// The layout a second implementation would have to produce, from the oracle.
#[test]
fn a_tag_covers_the_block_index_and_then_the_bytes() {
    let bytes = source(BLOCK_BYTES + 3);
    let mut covered = 1_u64.to_le_bytes().to_vec();
    covered.extend_from_slice(&bytes[BLOCK_BYTES..]);
    let oracle = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&covered);

    let mut buffer = buffer(BLOCK_BYTES + 3);
    buffer.flip_bit(BLOCK_BYTES * 8);
    assert_eq!(corrupt(&buffer).expected, oracle);
}

#[test]
fn an_append_past_the_limit_leaves_the_writer_unchanged() {
    let mut writer = BufferWriter::with_limit(600);
    writer.append(&source(599)).unwrap();
    let Err(AppendError::LimitExceeded {
        limit,
        held,
        requested,
    }) = writer.append(&[1, 2])
    else {
        panic!("two bytes fit into one");
    };
    assert_eq!((limit, held, requested), (600, 599, 2));
    assert_eq!(writer.len(), 599);

    writer.append(&source(600)[599..]).unwrap();
    assert_eq!(&*writer.finish().verify().unwrap(), source(600));
}

#[test]
fn a_limit_of_zero_takes_only_nothing() {
    let mut writer = BufferWriter::with_limit(0);
    writer.append(&[]).unwrap();
    assert!(writer.append(&[0]).is_err());
    assert!(writer.finish().verify().unwrap().is_empty());
}

#[test]
fn verified_bytes_outlive_the_value_that_lent_them() {
    let buffer = buffer(700);
    let bytes = buffer.verify().unwrap().as_slice();
    assert_eq!(bytes, source(700));
}

#[test]
fn threads_verify_one_buffer_at_the_same_time() {
    let buffer = buffer(1_500);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(&*buffer.verify().unwrap(), source(1_500)));
        }
    });
}

proptest! {
    #[test]
    fn crc32c_agrees_with_the_oracle_under_any_split(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..12),
        word in any::<u64>(),
        byte in any::<u8>(),
    ) {
        let mut crc = Crc32c::new();
        let mut model = Vec::new();
        for part in &parts {
            crc.update(part);
            crc.update_u64(word);
            crc.update_byte(byte);
            model.extend_from_slice(part);
            model.extend_from_slice(&word.to_le_bytes());
            model.push(byte);
        }
        let oracle = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&model);
        prop_assert_eq!(crc.finish(), oracle);
    }

    #[test]
    fn content_equals_the_appended_bytes_under_any_split(
        parts in proptest::collection::vec(
            prop_oneof![
                4 => proptest::collection::vec(any::<u8>(), 0..10),
                1 => proptest::collection::vec(any::<u8>(), 0..1_600),
            ],
            0..40,
        ),
    ) {
        let model = parts.concat();
        let mut writer = BufferWriter::with_limit(model.len());
        for part in &parts {
            writer.append(part).unwrap();
        }
        prop_assert_eq!(writer.len(), model.len());
        let buffer = writer.finish();
        prop_assert_eq!(buffer.len(), model.len());
        prop_assert_eq!(&*buffer.verify().unwrap(), &model[..]);
    }

    #[test]
    fn every_double_flip_is_caught(
        len in prop::sample::select(&LENGTHS[..]),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 64),
    ) {
        let mut buffer = buffer(len);
        for (first, second) in picks {
            let (first, second) = (first.index(bits(len)), second.index(bits(len)));
            buffer.flip_bit(first);
            buffer.flip_bit(second);
            prop_assert_eq!(buffer.verify().is_err(), first != second);
            buffer.flip_bit(first);
            buffer.flip_bit(second);
        }
    }
}
