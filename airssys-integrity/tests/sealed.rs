//! The bytes of a sealed message, and what may happen to them.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use airssys_integrity::{
    BufferWriter, CheckedBuffer, MessagePool, OnReturn, SealError, SizeClass, UnsealError,
    VerificationLevel, VerifyError,
};
use proptest::prelude::*;

const LIMIT: usize = 4_096;

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let buffer = CheckedBuffer::from_source(bytes, bytes.len()).unwrap();
    let mut sealed = Vec::new();
    buffer.seal_to(&mut sealed).unwrap();
    assert_eq!(sealed.len(), buffer.sealed_len());
    sealed
}

fn unseal(bytes: &[u8]) -> Result<CheckedBuffer, UnsealError> {
    BufferWriter::with_limit(LIMIT).unseal(bytes)
}

/// By the oracle's CRC32C, from the layout's words.
#[test]
fn the_layout_is_header_blocks_and_tags() {
    let oracle = |bytes: &[u8]| crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(bytes);
    let content: Vec<u8> = (0..600).map(|at| at as u8).collect();
    let mut wanted = b"AISM\x01\x00\x00\x00\x58\x02\x00\x00\x00\x00\x00\x00".to_vec();
    wanted.extend(oracle(&wanted).to_le_bytes());
    for (index, block) in content.chunks(512).enumerate() {
        let covered = [&(index as u64).to_le_bytes(), block].concat();
        wanted.extend_from_slice(block);
        wanted.extend(oracle(&covered).to_le_bytes());
    }
    assert_eq!(sealed(&content), wanted);
}

/// Computed bit by bit from the polynomial, outside of this project's language.
#[test]
fn a_small_message_has_known_bytes() {
    let known = [
        0x41, 0x49, 0x53, 0x4D, 0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0xBB, 0xF7, 0x02, 0x16, 0x68, 0x69, 0x7B, 0x5E, 0x21, 0xE7,
    ];
    assert_eq!(sealed(b"hi"), known);
}

#[test]
fn every_single_flip_and_every_cut_of_a_sealed_message_is_an_error() {
    for len in [0, 1, 513] {
        let content = vec![0xA5; len];
        let mut bytes = sealed(&content);
        for bit in 0..bytes.len() * 8 {
            *bytes.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            assert!(unseal(&bytes).is_err(), "bit {bit} of {len} bytes");
            let read = BufferWriter::with_limit(LIMIT).unseal_from(&bytes[..]);
            assert!(read.is_err(), "bit {bit} of {len} bytes");
            *bytes.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
        }
        for cut in 0..bytes.len() {
            let short = bytes.get(..cut).unwrap();
            let truncated = unseal(short).unwrap_err();
            assert!(matches!(truncated, UnsealError::Truncated { len } if len == cut));
            let read = BufferWriter::with_limit(LIMIT).unseal_from(short);
            assert!(matches!(read, Err(UnsealError::Truncated { .. })));
        }
        assert_eq!(&*unseal(&bytes).unwrap().verify().unwrap(), content);
        bytes.extend([0, 0]);
        let trailing = unseal(&bytes).unwrap_err();
        assert!(matches!(trailing, UnsealError::TrailingBytes { extra: 2 }));
    }
}

#[test]
fn swapped_blocks_of_a_sealed_message_are_caught() {
    let mut bytes = sealed(&(0..1_024).map(|at| (at / 4) as u8).collect::<Vec<_>>());
    let (first, second) = bytes.get_mut(20..).unwrap().split_at_mut(516);
    first.swap_with_slice(second);
    assert!(matches!(unseal(&bytes), Err(UnsealError::Corrupt(corrupt)) if corrupt.block == 0));
}

#[test]
fn a_header_is_judged_before_its_length_is_believed() {
    let oracle = |bytes: &[u8]| crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(bytes);
    let header = |version: u32, len: u64| {
        let mut header = b"AISM".to_vec();
        header.extend(version.to_le_bytes());
        header.extend(len.to_le_bytes());
        header.extend(oracle(&header).to_le_bytes());
        header
    };
    let refused = |bytes: &[u8]| BufferWriter::with_limit(10).unseal_from(bytes).unwrap_err();
    let unknown = refused(&header(2, 1));
    assert!(matches!(unknown, UnsealError::UnknownVersion { found: 2 }));
    for len in [11, u64::MAX] {
        let large = refused(&header(1, len));
        assert!(matches!(large, UnsealError::TooLarge { limit: 10, len: found } if found == len));
    }
    let mut broken = header(1, 3);
    *broken.get_mut(8).unwrap() ^= 1;
    assert!(matches!(
        refused(&broken),
        UnsealError::CorruptHeader { .. }
    ));
    assert!(matches!(refused(&[0; 20]), UnsealError::NotSealed));
}

#[test]
fn a_stream_carries_one_message_after_the_other() {
    let stream = [sealed(b"first"), sealed(b""), sealed(&[3; 700])].concat();
    let mut rest = &stream[..];
    for content in [&b"first"[..], b"", &[3; 700]] {
        let writer = BufferWriter::with_limit(LIMIT).level(VerificationLevel::Full);
        let buffer = writer.unseal_from(&mut rest).unwrap();
        assert_eq!(buffer.level(), VerificationLevel::Full);
        assert_eq!(&*buffer.verify().unwrap(), content);
    }
    assert!(rest.is_empty());
}

#[test]
fn a_corrupt_message_is_not_sealed_and_one_without_tags_neither() {
    let mut buffer = CheckedBuffer::from_source(&[1; 600], 600).unwrap();
    buffer.flip_bit(599 * 8);
    let refused = buffer.seal_to(std::io::sink());
    assert!(matches!(
        refused,
        Err(SealError::Verify(VerifyError::Corrupt(_)))
    ));
    let mut writer = BufferWriter::with_limit(9).level(VerificationLevel::Off);
    writer.append(b"untagged").unwrap();
    let refused = writer.finish().seal(&mut [0; 99]);
    assert!(matches!(
        refused,
        Err(SealError::Verify(VerifyError::Unverified))
    ));
    let buffer = CheckedBuffer::from_source(&[1; 600], 600).unwrap();
    let refused = buffer.seal(&mut [0; 627]);
    assert!(matches!(
        refused,
        Err(SealError::TooShort {
            needed: 628,
            len: 627
        })
    ));
}

#[test]
fn a_pooled_message_is_sealed_to_the_same_bytes() {
    let class = SizeClass {
        slot_bytes: 2_048,
        slots: 1,
    };
    let pool = MessagePool::new(&[class], VerificationLevel::Redundant, OnReturn::Keep).unwrap();
    for lap in 0..3 {
        let mut writer = pool.acquire(2_000).unwrap();
        writer.append(&[lap; 2_000]).unwrap();
        let frozen = writer.freeze();
        let mut bytes = vec![0; frozen.sealed_len()];
        assert_eq!(frozen.seal(&mut bytes).unwrap(), bytes.len());
        assert_eq!(bytes, sealed(&[lap; 2_000]));
    }
}

proptest! {
    #[test]
    fn what_is_sealed_is_unsealed_the_same(
        content in proptest::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let bytes = sealed(&content);
        let buffer = unseal(&bytes).unwrap();
        prop_assert_eq!(&*buffer.verify().unwrap(), &content[..]);
        let read = BufferWriter::with_limit(content.len()).unseal_from(&bytes[..]).unwrap();
        prop_assert_eq!(&*read.verify().unwrap(), &content[..]);
    }

    #[test]
    fn unsealing_never_panics(
        start in prop::sample::select(vec![&b""[..], b"AISM", b"AISM\x01\0\0\0"]),
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let bytes = [start, &bytes].concat();
        prop_assert!(unseal(&bytes).is_err());
    }
}
