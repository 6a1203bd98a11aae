//! A region beside the vector it has to equal. Shared with the fuzz target.

use airssys_integrity::{
    AtomicMemoryOps, RegionSettings, StdProvider, VerificationLevel, WriteError,
};

/// No multiple of a block, nor of a lane.
const LEN: usize = 1_333;

/// Takes each step on both and compares them. A step is six bytes: what to do, and where.
pub(crate) fn run(level: VerificationLevel, steps: &[[u8; 6]], data: &[u8]) {
    let settings = RegionSettings {
        level,
        ..RegionSettings::default()
    };
    let provider = StdProvider::mirrored(LEN).unwrap();
    let ops = AtomicMemoryOps::new(provider, settings).unwrap();
    let mut model = vec![0; LEN];
    for &[kind, a, b, c, d, e] in steps {
        // A little beyond the end, to be refused at times.
        let first = usize::from(u16::from_le_bytes([a, b])) % (LEN + 16);
        let second = usize::from(u16::from_le_bytes([c, d])) % (LEN + 16);
        // Short and long ones.
        let len = usize::from(e) * [1, 5, 2][usize::from(kind / 4) % 3];
        match kind % 4 {
            0 => write(&ops, &mut model, first, &data[..len.min(data.len())]),
            1 => copy(&ops, &mut model, first, second, len),
            2 => change(&ops, &mut model, first, len, e),
            _ => compare(&ops, &model, first, len),
        }
    }
    if level != VerificationLevel::Off {
        ops.verify_integrity().unwrap();
    }
    compare(&ops, &model, 0, LEN);
}

type Ops = AtomicMemoryOps<StdProvider>;

/// Refused if, and only if, a range is not inside.
fn agreed(result: Result<(), WriteError>, inside: bool) -> bool {
    match result {
        Ok(()) => assert!(inside, "taken outside of the region"),
        Err(WriteError::OutOfBounds(_)) => assert!(!inside, "refused inside of the region"),
        Err(error) => panic!("{error}"),
    }
    inside
}

fn write(ops: &Ops, model: &mut [u8], offset: usize, data: &[u8]) {
    let result = ops.atomic_write_with_checksum(offset, data);
    if agreed(result, offset + data.len() <= LEN) {
        model[offset..offset + data.len()].copy_from_slice(data);
    }
}

fn copy(ops: &Ops, model: &mut [u8], src: usize, dst: usize, len: usize) {
    let result = ops.atomic_copy_within(src, dst, len);
    if agreed(result, src.max(dst) + len <= LEN) {
        model.copy_within(src..src + len, dst);
    }
}

fn change(ops: &Ops, model: &mut [u8], offset: usize, len: usize, by: u8) {
    let turn = |bytes: &mut [u8]| {
        bytes
            .iter_mut()
            .for_each(|byte| *byte = byte.rotate_left(3) ^ by)
    };
    if agreed(ops.modify(offset, len, turn), offset + len <= LEN) {
        turn(&mut model[offset..offset + len]);
    }
}

fn compare(ops: &Ops, model: &[u8], offset: usize, len: usize) {
    let mut out = vec![0; len];
    let read = ops.read(offset, &mut out);
    let lent = ops.borrow_slice(offset, len);
    assert_eq!(read.is_ok(), offset + len <= LEN);
    assert_eq!(lent.is_ok(), offset + len <= LEN);
    if let Ok(lent) = lent {
        assert_eq!(out, model[offset..offset + len]);
        assert_eq!(&*lent, &model[offset..offset + len]);
    }
}
