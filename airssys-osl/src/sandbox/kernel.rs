//! What the kernel that runs has to hold a process with.

use std::fmt;

/// A kernel, as far as a sandbox depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxKernel {
    /// Its release, as `uname` tells it.
    pub release: String,
    /// Version of Landlock's interface, at most 9; 0: it has none, or it is not enabled.
    pub landlock_abi: u32,
    /// Whether it filters system calls.
    pub seccomp: bool,
    /// Threads of this process.
    pub threads: usize,
}

impl SandboxKernel {
    /// The kernel that runs, and the threads there are now. Where they cannot be counted it is as
    /// many as can be.
    #[must_use]
    pub fn current() -> Self {
        let threads = std::fs::read_dir("/proc/self/task");
        Self {
            release: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            landlock_abi: landlock_abi(),
            seccomp: seccomp(),
            threads: threads.map_or(usize::MAX, Iterator::count),
        }
    }
}

impl fmt::Display for SandboxKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {} (", self.release)?;
        match self.landlock_abi {
            0 => write!(f, "no Landlock")?,
            abi => write!(f, "Landlock ABI {abi}")?,
        }
        write!(f, ", {}seccomp", if self.seccomp { "" } else { "no " })?;
        match self.threads {
            1 => write!(f, ", 1 thread)"),
            usize::MAX => write!(f, ", any number of threads)"),
            threads => write!(f, ", {threads} threads)"),
        }
    }
}

/// The highest version that has all below it. Nothing is applied: a ruleset that is never created
/// is refused as soon as it asks for what the kernel lacks.
#[cfg(target_os = "linux")]
fn landlock_abi() -> u32 {
    use landlock::{
        AccessFs, AccessNet, CompatLevel, Compatible, RestrictSelf, RestrictSelfAttr, Ruleset,
        RulesetAttr, Scope,
    };
    let ruleset = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let flags = || RestrictSelf::default().set_compatibility(CompatLevel::HardRequirement);
    let versions = [
        ruleset().handle_access(AccessFs::ReadFile).is_ok(),
        ruleset().handle_access(AccessFs::Refer).is_ok(),
        ruleset().handle_access(AccessFs::Truncate).is_ok(),
        ruleset().handle_access(AccessNet::ConnectTcp).is_ok(),
        ruleset().handle_access(AccessFs::IoctlDev).is_ok(),
        ruleset().scope(Scope::Signal).is_ok(),
        flags().log_subdomains(false).is_ok(),
        flags().all_threads(true).is_ok(),
        ruleset().handle_access(AccessFs::ResolveUnix).is_ok(),
    ];
    (1..)
        .zip(versions)
        .take_while(|(_, given)| *given)
        .map(|(version, _)| version)
        .last()
        .unwrap_or(0)
}

#[cfg(target_os = "linux")]
fn seccomp() -> bool {
    seccompiler::TargetArch::try_from(std::env::consts::ARCH).is_ok()
        && rustix::thread::secure_computing_mode().is_ok()
}

#[cfg(not(target_os = "linux"))]
fn landlock_abi() -> u32 {
    0
}

#[cfg(not(target_os = "linux"))]
fn seccomp() -> bool {
    false
}
