//! Pages between two guard pages, and every call to the kernel about them (ADR-OSL-001).

#![allow(
    unsafe_code,
    reason = "maps, protects and unmaps memory, which no safe interface does"
)]

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use super::fault::{self, Call};

/// What a secret is asked to be guarded by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// It is never written to swap.
    Locked,
    /// It is in no core dump.
    ExcludedFromDumps,
    /// A forked child has no copy of it.
    WithheldFromChildren,
    /// It cannot be read while nobody reads it.
    UnreadableAtRest,
}

/// What happens when a protection cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecretPolicy {
    /// No secret is made.
    #[default]
    Strict,
    /// The secret is made without it, and its [`ProtectionReport`] says so.
    BestEffort,
}

/// Where the bytes of a secret are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// `memfd_secret`: out of the kernel's own map, so neither `/proc/PID/mem` nor ptrace reads it.
    SecretMemory,
    /// An anonymous mapping, where the kernel has no `memfd_secret` or no room for it.
    Anonymous,
}

/// What a forked child finds at a secret's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forked {
    /// No mapping.
    Unmapped,
    /// Zeros.
    Zeros,
    /// The secret.
    Secret,
}

/// What guards a secret, as the kernel answered. Guard pages and canaries are not in it: no secret
/// is made without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtectionReport {
    /// Where its bytes are.
    pub backing: Backing,
    /// Whether they are kept out of swap.
    pub locked: bool,
    /// Whether they are kept out of core dumps.
    pub excluded_from_dumps: bool,
    /// What a forked child finds.
    pub forked: Forked,
    /// Whether they cannot be read while nobody reads them.
    pub unreadable_at_rest: bool,
}

/// What may be done with the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    None,
    Read,
    Write,
}

/// What the kernel is told about the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advice {
    DontDump,
    DontFork,
    WipeOnFork,
}

/// A protection that the kernel refused, and what it said.
pub(super) type Refusal = (Protection, Errno);

/// Why pages were not mapped.
pub(super) enum MapError {
    Refused(Refusal),
    Failed(Errno),
}

/// What became of pages that were given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Unmapped,
    /// The address space is still taken; what was in it is gone.
    Emptied,
    /// As it was.
    Mapped,
}

/// Mapped memory: a guard page, `bytes`, a guard page. Unmapped by whoever owns it.
#[derive(Debug)]
pub(super) struct Pages {
    base: NonNull<u8>,
    page: usize,
    bytes: usize,
    pub(super) report: ProtectionReport,
}

// SAFETY: the mapping belongs to the process; who may read or write it is counted by `Block`.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps `bytes` (whole pages) to read and write, locked before anything is in them.
    pub(super) fn map(bytes: usize, policy: SecretPolicy) -> Result<Self, MapError> {
        let page = rustix::param::page_size();
        debug_assert!(bytes.is_multiple_of(page), "{bytes} is not whole pages");
        let secret = Self::map_secret(page, bytes);
        let pages = match secret {
            Ok(pages) => pages,
            Err(_) => Self::map_anonymous(page, bytes).map_err(MapError::Failed)?,
        };
        pages.guarded(policy)
    }

    /// Asks for what the backing does not bring by itself.
    fn guarded(mut self, policy: SecretPolicy) -> Result<Self, MapError> {
        let mut wants = Vec::new();
        if self.report.backing == Backing::Anonymous {
            wants.push((Protection::Locked, self.lock()));
            let advised = self.advise(Advice::DontDump);
            wants.push((Protection::ExcludedFromDumps, advised));
        }
        let fork = match self.report.backing {
            // A shared mapping cannot be wiped on fork, so the child gets none.
            Backing::SecretMemory => (Forked::Unmapped, Advice::DontFork),
            Backing::Anonymous => (Forked::Zeros, Advice::WipeOnFork),
        };
        wants.push((Protection::WithheldFromChildren, self.advise(fork.1)));
        for (protection, outcome) in wants {
            match outcome {
                Ok(()) => match protection {
                    Protection::Locked => self.report.locked = true,
                    Protection::ExcludedFromDumps => self.report.excluded_from_dumps = true,
                    _ => self.report.forked = fork.0,
                },
                Err(_) if policy == SecretPolicy::BestEffort => {}
                Err(error) => {
                    // Nothing is in it yet. A mapping that stays is without access, and is empty.
                    self.unmap();
                    return Err(MapError::Refused((protection, error)));
                }
            }
        }
        Ok(self)
    }

    /// A reservation whose middle is made accessible.
    fn map_anonymous(page: usize, bytes: usize) -> Result<Self, Errno> {
        fault::before(Call::Map)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                bytes + 2 * page,
                ProtFlags::empty(),
                MapFlags::PRIVATE,
            )
        }?;
        let pages = Self::of(base, page, bytes, Backing::Anonymous)?;
        if let Err(error) = pages.protect(Access::Write) {
            pages.unmap();
            return Err(error);
        }
        Ok(pages)
    }

    /// Secret memory of two pages more, which are then replaced by guard pages: what is replaced is
    /// ours, so that no other thread's mapping can be hit, and guard pages are not locked memory.
    #[cfg(target_os = "linux")]
    fn map_secret(page: usize, bytes: usize) -> Result<Self, Errno> {
        use std::os::fd::{FromRawFd, OwnedFd};

        fault::before(Call::SecretMemory)?;
        // SAFETY: takes flags only, and makes a descriptor.
        let made = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
        let Ok(descriptor @ 0..) = i32::try_from(made) else {
            return Err(
                Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOSYS)
            );
        };
        // SAFETY: the kernel has just made it, and nobody else has it.
        let memory = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let all = bytes + 2 * page;
        rustix::fs::ftruncate(&memory, all as u64)?;
        fault::before(Call::Map)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                all,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &memory,
                0,
            )
        }?;
        let mut pages = Self::of(base, page, bytes, Backing::SecretMemory)?;
        // The kernel gives it no other way.
        pages.report.locked = true;
        pages.report.excluded_from_dumps = true;
        if let Err(error) = pages.guard(0).and_then(|()| pages.guard(page + bytes)) {
            pages.unmap();
            return Err(error);
        }
        Ok(pages)
    }

    #[cfg(not(target_os = "linux"))]
    fn map_secret(_: usize, _: usize) -> Result<Self, Errno> {
        fault::before(Call::SecretMemory)?;
        Err(Errno::NOSYS)
    }

    fn of(base: *mut c_void, page: usize, bytes: usize, backing: Backing) -> Result<Self, Errno> {
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?,
            page,
            bytes,
            report: ProtectionReport {
                backing,
                locked: false,
                excluded_from_dumps: false,
                forked: Forked::Secret,
                unreadable_at_rest: true,
            },
        })
    }

    /// Puts a page without access in the place of the page at `offset` of the whole mapping.
    #[cfg(target_os = "linux")]
    fn guard(&self, offset: usize) -> Result<(), Errno> {
        fault::before(Call::Map)?;
        // SAFETY: the page lies in our own mapping, and nothing refers to it.
        unsafe {
            rustix::mm::mmap_anonymous(
                self.base.as_ptr().add(offset).cast(),
                self.page,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::FIXED,
            )
        }
        .map(|_| ())
    }

    /// Bytes between the guard pages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first byte between the guard pages.
    pub(super) fn start(&self) -> *mut u8 {
        self.base.as_ptr().wrapping_add(self.page)
    }

    /// Allows this access and no more.
    pub(super) fn protect(&self, access: Access) -> Result<(), Errno> {
        fault::before(Call::Protect)?;
        let flags = match access {
            Access::None => MprotectFlags::empty(),
            Access::Read => MprotectFlags::READ,
            Access::Write => MprotectFlags::READ | MprotectFlags::WRITE,
        };
        // SAFETY: our own mapping. `Block` takes no access away that somebody has been given.
        unsafe { rustix::mm::mprotect(self.start().cast(), self.bytes, flags) }
    }

    fn lock(&self) -> Result<(), Errno> {
        fault::before(Call::Lock)?;
        // SAFETY: our own mapping; locking changes no byte.
        unsafe { rustix::mm::mlock(self.start().cast(), self.bytes) }
    }

    #[cfg(target_os = "linux")]
    fn advise(&self, advice: Advice) -> Result<(), Errno> {
        fault::before(Call::Advise)?;
        let advice = match advice {
            Advice::DontDump => rustix::mm::Advice::LinuxDontDump,
            Advice::DontFork => rustix::mm::Advice::LinuxDontFork,
            Advice::WipeOnFork => rustix::mm::Advice::LinuxWipeOnFork,
        };
        // SAFETY: our own mapping, and none of these changes a byte of it.
        unsafe { rustix::mm::madvise(self.start().cast(), self.bytes, advice) }
    }

    #[cfg(not(target_os = "linux"))]
    fn advise(&self, _: Advice) -> Result<(), Errno> {
        fault::before(Call::Advise)?;
        Err(Errno::NOSYS)
    }

    /// Gives the memory back. Where the kernel does not take it, an empty mapping without access
    /// takes its place, so that what was in it is gone all the same.
    ///
    /// Nothing may refer to the memory any more, and it is not used after this.
    pub(super) fn unmap(&self) -> Fate {
        if self.report.backing == Backing::Anonymous && self.report.locked {
            // Unmapping unlocks too, so a refusal changes nothing.
            self.unlock().ok();
        }
        let all = self.bytes + 2 * self.page;
        let unmap = || {
            fault::before(Call::Unmap)?;
            // SAFETY: our own mapping, of that length, to which nothing refers.
            unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), all) }
        };
        let replace = || {
            fault::before(Call::Map)?;
            // SAFETY: as above.
            unsafe {
                rustix::mm::mmap_anonymous(
                    self.base.as_ptr().cast(),
                    all,
                    ProtFlags::empty(),
                    MapFlags::PRIVATE | MapFlags::FIXED,
                )
            }
        };
        if unmap().or_else(|_: Errno| unmap()).is_ok() {
            Fate::Unmapped
        } else if replace().is_ok() {
            Fate::Emptied
        } else {
            Fate::Mapped
        }
    }

    fn unlock(&self) -> Result<(), Errno> {
        fault::before(Call::Unlock)?;
        // SAFETY: our own mapping; unlocking changes no byte.
        unsafe { rustix::mm::munlock(self.start().cast(), self.bytes) }
    }
}
