//! Shared memory on a target without an allocator: every operation of the core, linked.
#![no_std]
#![no_main]

use airssys_integrity::prelude::{AtomicMemoryExt, AtomicMemoryOps, NoStdProvider};
use airssys_integrity::{GuestOffset, ReadError, RegionSettings, SafeMemoryHandler, WriteError};
use core::panic::PanicInfo;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[derive(Debug)]
enum Failed {
    Write,
    Read,
    Setup,
}

impl From<WriteError> for Failed {
    fn from(_: WriteError) -> Self {
        Self::Write
    }
}

impl From<ReadError> for Failed {
    fn from(_: ReadError) -> Self {
        Self::Read
    }
}

fn exercise() -> Result<(), Failed> {
    let mut handler = SafeMemoryHandler::new(NoStdProvider::<1024>::new());
    handler.write(3, b"one owner")?;
    handler.copy_within(3, 600, 9)?;
    let ops = handler.into_atomic_ops().map_err(|_| Failed::Setup)?;
    let offset = usize::try_from(GuestOffset::new(8)).map_err(|_| Failed::Setup)?;
    ops.atomic_write_with_checksum(offset, b"many threads")?;
    ops.atomic_copy_within(0, 512, 100)?;
    ops.modify(0, 4, |bytes| bytes.fill(1))?;
    let mut out = [0; 16];
    ops.read(0, &mut out)?;
    let mut ticks = 0;
    let _ = ops.read_until(0, &mut out, || {
        ticks += 1;
        ticks > 10
    })?;
    ops.borrow_slice(0, 8)?.finish()?;
    ops.verify_integrity()?;
    for fault in ops.fault_map()? {
        fault?;
    }
    ops.repair(0)?;
    let mirrored = NoStdProvider::<512, 512>::mirrored();
    let settings = RegionSettings {
        level: airssys_integrity::VerificationLevel::Redundant,
        ..RegionSettings::default()
    };
    let ops = AtomicMemoryOps::new(mirrored, settings).map_err(|_| Failed::Setup)?;
    Ok(ops.atomic_write_with_checksum(0, b"redundant")?)
}

/// Where the linker starts.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    let failed = exercise().is_err();
    core::hint::black_box(failed);
    loop {
        core::hint::spin_loop();
    }
}
