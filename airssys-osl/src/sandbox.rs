//! A sandbox of the operating system's around the host: what the process may still reach when all
//! else has failed.
//!
//! Files and TCP ports are held by Landlock, system calls by seccomp (ADR-OSL-006). It cannot be
//! taken off again, and what the process starts is in it too. Guarantee: whatever the kernel does
//! not give is named, in the report or, where it is required, in an error.
//!
//! Apply it before the runtime starts its threads: Landlock before ABI 8 holds the calling thread
//! and those it starts from then on, and no other. Files that are open already stay so.

mod kernel;
#[cfg(target_os = "linux")]
mod landlocked;
#[cfg(target_os = "linux")]
mod syscalls;

use std::fmt;
use std::io;
use std::path::PathBuf;

pub use self::kernel::SandboxKernel;

/// Whether there is a sandbox, and what is done where the kernel lacks a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SandboxMode {
    /// None.
    #[default]
    Off,
    /// What the kernel gives; the report names the rest.
    BestEffort,
    /// Files, truncation, TCP, all threads and system calls, or an error.
    Required,
}

/// What the process may still do. Everything that is not listed is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxConfig {
    /// Whether there is a sandbox.
    pub mode: SandboxMode,
    /// Files, and directories with all below them, to read.
    pub read: Vec<PathBuf>,
    /// Files, and directories with all below them, to read, write, make and remove.
    pub write: Vec<PathBuf>,
    /// TCP ports to connect to, at any address.
    pub connect: Vec<u16>,
    /// TCP ports to listen at; 0: one that the kernel chooses.
    pub bind: Vec<u16>,
    /// Whether programs may be started, those below `read` and `write`.
    pub execute: bool,
}

/// A part of the sandbox that a kernel has or lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SandboxLayer {
    /// Opening, making, removing and renaming files (Landlock ABI 1).
    Files,
    /// Cutting files that may not be written (ABI 3).
    Truncation,
    /// Connecting and listening over TCP (ABI 4).
    Tcp,
    /// Commands to devices (ABI 5).
    Devices,
    /// Signals and abstract sockets of processes outside (ABI 6).
    Scopes,
    /// Landlock's part for threads that run already (ABI 8).
    Threads,
    /// Connecting to sockets that are files (ABI 9).
    UnixSockets,
    /// System calls that a host never needs (seccomp).
    Syscalls,
}

impl SandboxLayer {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Files,
        Self::Truncation,
        Self::Tcp,
        Self::Devices,
        Self::Scopes,
        Self::Threads,
        Self::UnixSockets,
        Self::Syscalls,
    ];

    /// Whether [`SandboxMode::Required`] is refused without it. The others are of kernels that are
    /// too new to ask for.
    #[must_use]
    pub fn is_required(self) -> bool {
        !matches!(self, Self::Devices | Self::Scopes | Self::UnixSockets)
    }

    fn is_given_by(self, kernel: &SandboxKernel) -> bool {
        let abi = match self {
            Self::Files => 1,
            Self::Truncation => 3,
            Self::Tcp => 4,
            Self::Devices => 5,
            Self::Scopes => 6,
            // Nothing is lacking where there is none but the calling one.
            Self::Threads if kernel.threads == 1 && kernel.landlock_abi > 0 => 1,
            Self::Threads => 8,
            Self::UnixSockets => 9,
            Self::Syscalls => return kernel.seccomp,
        };
        kernel.landlock_abi >= abi
    }
}

impl fmt::Display for SandboxLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Truncation => "truncation of files",
            Self::Tcp => "TCP ports",
            Self::Devices => "commands to devices",
            Self::Scopes => "signals and abstract sockets",
            Self::Threads => "threads that run already",
            Self::UnixSockets => "sockets that are files",
            Self::Syscalls => "system calls",
        })
    }
}

/// What holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxReport {
    /// What the kernel was found to give.
    pub kernel: SandboxKernel,
    /// The parts that hold.
    pub held: Vec<SandboxLayer>,
    /// The parts that do not, since the kernel lacks them.
    pub lacking: Vec<SandboxLayer>,
}

/// Why there is no sandbox. After [`Self::Files`] and [`Self::Syscalls`] the process may be in a
/// part of it: it should end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A part is required that the kernel lacks. Nothing was applied.
    #[error("the sandbox lacks {layer} on {kernel}")]
    Lacking {
        /// The first part it lacks.
        layer: SandboxLayer,
        /// What the kernel was found to give.
        kernel: SandboxKernel,
    },
    /// A path to allow cannot be opened. Nothing was applied.
    #[error("cannot allow {}: {source}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The kernel refused Landlock's rules.
    #[cfg(target_os = "linux")]
    #[error("cannot hold files and ports: {source}")]
    Files {
        /// What the kernel said.
        source: landlock::RulesetError,
    },
    /// The kernel refused seccomp's filter.
    #[cfg(target_os = "linux")]
    #[error("cannot hold system calls: {source}")]
    Syscalls {
        /// What the kernel said.
        source: seccompiler::Error,
    },
}

/// A sandbox that was not applied yet.
#[derive(Debug, Clone)]
pub struct Sandbox {
    config: SandboxConfig,
    kernel: SandboxKernel,
}

impl Sandbox {
    /// A sandbox for the kernel that runs.
    #[must_use]
    pub fn new(config: SandboxConfig) -> Self {
        Self::on(config, SandboxKernel::current())
    }

    /// A sandbox for a kernel that was found to give no more than this.
    #[must_use]
    pub fn on(config: SandboxConfig, kernel: SandboxKernel) -> Self {
        Self { config, kernel }
    }

    /// Puts this process in it, for good.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn apply(self) -> Result<SandboxReport, SandboxError> {
        let report = self.plan()?;
        #[cfg(target_os = "linux")]
        {
            if report.held.contains(&SandboxLayer::Files) {
                landlocked::apply(&self.config, &report)?;
            }
            if report.held.contains(&SandboxLayer::Syscalls) {
                syscalls::apply(self.config.execute)
                    .map_err(|source| SandboxError::Syscalls { source })?;
            }
        }
        Ok(report)
    }

    /// What will hold.
    fn plan(&self) -> Result<SandboxReport, SandboxError> {
        let kernel = self.kernel.clone();
        let (held, lacking) = match self.config.mode {
            SandboxMode::Off => (Vec::new(), Vec::new()),
            SandboxMode::BestEffort | SandboxMode::Required => SandboxLayer::ALL
                .into_iter()
                .partition(|layer| layer.is_given_by(&kernel)),
        };
        let missed = lacking.iter().copied().find(|layer| layer.is_required());
        match missed {
            Some(layer) if self.config.mode == SandboxMode::Required => {
                Err(SandboxError::Lacking { layer, kernel })
            }
            _ => Ok(SandboxReport {
                kernel,
                held,
                lacking,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed set-up should fail the test")]

    use super::*;

    fn plan(mode: SandboxMode, kernel: &SandboxKernel) -> Result<SandboxReport, SandboxError> {
        let config = SandboxConfig {
            mode,
            ..SandboxConfig::default()
        };
        Sandbox::on(config, kernel.clone()).plan()
    }

    fn kernel(landlock_abi: u32, seccomp: bool, threads: usize) -> SandboxKernel {
        SandboxKernel {
            release: "6.1".to_owned(),
            landlock_abi,
            seccomp,
            threads,
        }
    }

    #[test]
    fn a_kernel_that_lacks_a_required_part_is_refused_by_the_part_and_its_release() {
        for (kernel, lacks) in [
            (kernel(0, true, 1), SandboxLayer::Files),
            (kernel(2, true, 1), SandboxLayer::Truncation),
            (kernel(3, true, 1), SandboxLayer::Tcp),
            (kernel(7, true, 2), SandboxLayer::Threads),
            (kernel(9, false, 1), SandboxLayer::Syscalls),
        ] {
            let refused = plan(SandboxMode::Required, &kernel).unwrap_err();
            assert!(
                matches!(&refused, SandboxError::Lacking { layer, .. } if *layer == lacks),
                "{refused}"
            );
            let told = refused.to_string();
            assert!(
                told.contains(&lacks.to_string()) && told.contains("6.1"),
                "{told}"
            );
            // With less to ask for, the same part is named as lacking.
            let report = plan(SandboxMode::BestEffort, &kernel).unwrap();
            assert!(report.lacking.contains(&lacks) && !report.held.contains(&lacks));
            let off = plan(SandboxMode::Off, &kernel).unwrap();
            assert!(off.held.is_empty() && off.lacking.is_empty());
        }
    }

    #[test]
    fn what_is_too_new_to_ask_for_is_named_and_not_required() {
        let report = plan(SandboxMode::Required, &kernel(4, true, 1)).unwrap();
        assert_eq!(
            report.lacking,
            [
                SandboxLayer::Devices,
                SandboxLayer::Scopes,
                SandboxLayer::UnixSockets
            ]
        );
        let report = plan(SandboxMode::Required, &kernel(9, true, 50)).unwrap();
        assert_eq!(report.held, SandboxLayer::ALL);
    }
}
