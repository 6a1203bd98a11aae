//! How much memory this process may still take, by whatever bounds it: the machine, a cgroup above
//! it, or a limit of its own.
//!
//! Guarantees: of all bounds the one that leaves least is told; a bound that is there but cannot be
//! read is an error and never room (ADR-OSL-005).

mod cgroup;
mod gauge;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::param::page_size;

pub use self::gauge::{MemoryGauge, MemoryShort};

/// Most bytes of a file of the kernel's that are read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Why the room is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// A file of the kernel's cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of the kernel's is not of the form that is known.
    #[error("{} has no `{wanted}` of the form that is known", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
}

/// What leaves least room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryBound {
    /// The machine's memory: what the kernel estimates can be taken without swapping.
    Machine,
    /// A cgroup that this process is in or below. What its files keep in memory and have not used
    /// lately counts as room.
    Cgroup {
        /// Its directory.
        path: PathBuf,
    },
    /// `RLIMIT_AS`: addresses, used or not.
    AddressSpace,
    /// `RLIMIT_DATA`: private memory that can be written, used or not.
    Data,
}

/// How much memory may still be taken, all in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryRoom {
    /// What the tightest bound leaves.
    pub available: u64,
    /// The tightest bound itself.
    pub limit: u64,
    /// What counts towards it. Of a cgroup or the machine that is not this process alone.
    pub used: u64,
    /// Memory of this process that is resident.
    pub resident: u64,
    /// Which bound it is.
    pub bound_by: MemoryBound,
}

/// Reads the kernel's files anew each time: a dozen of small ones, none of them on a disk.
#[derive(Debug, Clone)]
pub struct MemoryProbe {
    root: PathBuf,
}

impl Default for MemoryProbe {
    fn default() -> Self {
        Self::under(Path::new("/"))
    }
}

impl MemoryProbe {
    /// A probe that takes `root` for `/`: it reads `proc` and the cgroups mounted below it.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// The room there is now.
    ///
    /// # Errors
    /// [`ProbeError`]; also where there is no `/proc`.
    pub fn read(&self) -> Result<MemoryRoom, ProbeError> {
        let process = self.process()?;
        let mut tightest = self.machine(process.resident)?;
        let limits = self.limits(&process)?;
        let groups = cgroup::bounds(&self.root, process.resident)?;
        for room in limits.into_iter().chain(groups) {
            if room.available < tightest.available {
                tightest = room;
            }
        }
        Ok(tightest)
    }

    fn machine(&self, resident: u64) -> Result<MemoryRoom, ProbeError> {
        let path = self.root.join("proc/meminfo");
        let text = required(&path)?;
        let entry = |wanted: &'static str| {
            text.lines()
                .find_map(|line| line.strip_prefix(wanted)?.strip_suffix(" kB"))
                .and_then(|kib| kib.trim().parse::<u64>().ok())
                .map(|kib| kib.saturating_mul(1024))
                .ok_or(ProbeError::Form {
                    path: path.clone(),
                    wanted,
                })
        };
        let (limit, available) = (entry("MemTotal:")?, entry("MemAvailable:")?);
        Ok(MemoryRoom {
            available,
            limit,
            used: limit.saturating_sub(available),
            resident,
            bound_by: MemoryBound::Machine,
        })
    }

    fn process(&self) -> Result<Process, ProbeError> {
        let path = self.root.join("proc/self/statm");
        let text = required(&path)?;
        let pages: Vec<u64> = text
            .split_ascii_whitespace()
            .map_while(|pages| pages.parse().ok())
            .collect();
        let bytes = |pages: u64| pages.saturating_mul(page_size() as u64);
        // Size, resident, shared, text, libraries (always 0), data.
        let &[size, resident, _, _, _, data, ..] = &*pages else {
            return Err(ProbeError::Form {
                path,
                wanted: "size, resident and data",
            });
        };
        Ok(Process {
            size: bytes(size),
            resident: bytes(resident),
            data: bytes(data),
        })
    }

    fn limits(&self, process: &Process) -> Result<Vec<MemoryRoom>, ProbeError> {
        let path = self.root.join("proc/self/limits");
        let text = required(&path)?;
        let limit = |wanted: &'static str| {
            let soft = text
                .lines()
                .find_map(|line| line.strip_prefix(wanted))
                .and_then(|line| line.split_ascii_whitespace().next());
            match soft {
                Some("unlimited") => Ok(None),
                soft => soft
                    .and_then(|soft| soft.parse::<u64>().ok())
                    .map(Some)
                    .ok_or(ProbeError::Form {
                        path: path.clone(),
                        wanted,
                    }),
            }
        };
        let addresses = limit("Max address space")?;
        let data = limit("Max data size")?;
        let bounds = [
            (addresses, process.size, MemoryBound::AddressSpace),
            (data, process.data, MemoryBound::Data),
        ];
        Ok(bounds
            .into_iter()
            .filter_map(|(limit, used, bound_by)| {
                limit.map(|limit| MemoryRoom {
                    available: limit.saturating_sub(used),
                    limit,
                    used,
                    resident: process.resident,
                    bound_by,
                })
            })
            .collect())
    }
}

/// What the kernel says of this process, in bytes.
struct Process {
    size: u64,
    resident: u64,
    data: u64,
}

/// The text of a file; `None` where there is none.
fn optional(path: &Path) -> Result<Option<String>, ProbeError> {
    match required(path) {
        Ok(text) => Ok(Some(text)),
        Err(ProbeError::Io { source, .. })
            if matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn required(path: &Path) -> Result<String, ProbeError> {
    let read = || {
        let mut text = String::new();
        File::open(path)?
            .take(MAX_FILE_BYTES)
            .read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|source| ProbeError::Io {
        path: path.to_path_buf(),
        source,
    })
}
