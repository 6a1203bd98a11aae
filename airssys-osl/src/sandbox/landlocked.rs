//! Files and ports, held by Landlock.

use std::fs;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, RestrictSelfAttr, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, Scope,
};

use super::{SandboxConfig, SandboxError, SandboxKernel, SandboxLayer, SandboxReport};

/// Refuses all but what the configuration lists, on this thread and those it starts, or on all.
/// What the plan takes for held is asked for and not wished for: a kernel that does not give it is
/// an error.
pub(super) fn apply(config: &SandboxConfig, report: &SandboxReport) -> Result<(), SandboxError> {
    let refused = |source| SandboxError::Files { source };
    let abi = abi(&report.kernel);
    let mut rules = ruleset(abi, &report.held).map_err(refused)?;
    let executes = if config.execute {
        BitFlags::from(AccessFs::Execute)
    } else {
        BitFlags::EMPTY
    };
    let reads = AccessFs::ReadFile | AccessFs::ReadDir | executes;
    // Making devices takes more than a path to write to.
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock;
    let writes = reads | (AccessFs::from_write(abi) & !devices);
    for path in &config.read {
        rules = allow(rules, path, reads, abi)?;
    }
    for path in &config.write {
        rules = allow(rules, path, writes, abi)?;
    }
    if report.held.contains(&SandboxLayer::Tcp) {
        let ports = |ports: &[u16], access: AccessNet| -> Vec<_> {
            let rule = |port: &u16| Ok::<_, RulesetError>(NetPort::new(*port, access));
            ports.iter().map(rule).collect()
        };
        rules = rules
            .add_rules(ports(&config.connect, AccessNet::ConnectTcp))
            .and_then(|rules| rules.add_rules(ports(&config.bind, AccessNet::BindTcp)))
            .map_err(refused)?;
    }
    // Where the calling thread is the only one there is nothing to ask for.
    let all_threads = report.held.contains(&SandboxLayer::Threads) && report.kernel.threads > 1;
    rules
        .all_threads(all_threads)
        .and_then(RulesetCreated::restrict_self)
        .map_err(refused)?;
    Ok(())
}

fn abi(kernel: &SandboxKernel) -> ABI {
    ABI::from(i32::try_from(kernel.landlock_abi).unwrap_or(i32::MAX))
}

fn ruleset(abi: ABI, held: &[SandboxLayer]) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?;
    if held.contains(&SandboxLayer::Tcp) {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
    }
    if held.contains(&SandboxLayer::Scopes) {
        ruleset = ruleset.scope(Scope::from_all(abi))?;
    }
    ruleset.create()
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
    abi: ABI,
) -> Result<RulesetCreated, SandboxError> {
    let failed = |source| SandboxError::Path {
        path: path.to_path_buf(),
        source,
    };
    // A path that is not there is most often one misspelt, in any mode.
    let access = if fs::metadata(path).map_err(failed)?.is_dir() {
        access
    } else {
        access & AccessFs::from_file(abi)
    };
    let opened = PathFd::new(path).map_err(|error| failed(std::io::Error::other(error)))?;
    rules
        .add_rule(PathBeneath::new(opened, access))
        .map_err(|source| SandboxError::Files { source })
}
