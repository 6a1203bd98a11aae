//! `[sandbox]` of an airssys.toml (ADR-OSL-006).

use std::path::{Path, PathBuf};

use airssys_osl::{SandboxConfig, SandboxMode};
use airssys_wasm::config::{Document, Problem, Texts};
use serde::Deserialize;
use toml::Spanned;

use super::{ChildConfig, SupervisorConfig, SystemConfig};

type List = Option<Vec<Spanned<String>>>;

#[derive(Deserialize, Default)]
pub(super) struct RawSandbox {
    #[serde(default)]
    mode: RawMode,
    read: List,
    write: List,
    connect: List,
    bind: List,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum RawMode {
    #[default]
    Off,
    BestEffort,
    Required,
}

impl RawSandbox {
    pub(super) fn checked(self, document: &Document) -> Result<SandboxConfig, Vec<Problem>> {
        let mut texts = Texts::of(document);
        let path = |path: &str| match path.is_empty() || path.contains('\0') {
            true => Err(String::from("not a path")),
            false => Ok(document.resolve(path)),
        };
        let port = |port: &str| {
            let port = port.parse::<u16>();
            port.map_err(|_| String::from("a port: 0 to 65535"))
        };
        let config = SandboxConfig {
            mode: match self.mode {
                RawMode::Off => SandboxMode::Off,
                RawMode::BestEffort => SandboxMode::BestEffort,
                RawMode::Required => SandboxMode::Required,
            },
            read: texts.each("sandbox.read", self.read, path),
            write: texts.each("sandbox.write", self.write, path),
            connect: texts.each("sandbox.connect", self.connect, port),
            bind: texts.each("sandbox.bind", self.bind, port),
            execute: false,
        };
        match texts.problems.is_empty() {
            true => Ok(config),
            false => Err(texts.problems),
        }
    }
}

impl SystemConfig {
    /// The host's own directories, which it makes where they are not there.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        let own = [
            &self.cache_directory,
            &self.coredump_directory,
            &self.audit_directory,
            &self.key_value_directory,
        ];
        own.into_iter().filter_map(|own| own.as_deref())
    }

    /// The sandbox the file asks for, with what this tree needs besides: what the host reads of the
    /// kernel, its components and their directories, and its own directories.
    #[must_use]
    pub fn sandbox(&self) -> SandboxConfig {
        let mut sandbox = self.sandbox.clone();
        sandbox
            .read
            .extend(["/proc".into(), "/sys/fs/cgroup".into()]);
        sandbox
            .write
            .extend(self.directories().map(Path::to_path_buf));
        for supervisor in &self.supervisors {
            components(supervisor, &mut sandbox);
        }
        // What is not there cannot be opened, and whoever needs it says so.
        let there = |path: &PathBuf| path.exists();
        sandbox.read.retain(there);
        sandbox.write.retain(there);
        sandbox
    }
}

fn components(supervisor: &SupervisorConfig, sandbox: &mut SandboxConfig) {
    for child in &supervisor.children {
        match child {
            ChildConfig::Supervisor(nested) => components(nested, sandbox),
            ChildConfig::Component(node) => {
                sandbox.read.push(node.config.wasm.clone());
                sandbox.read.extend(node.config.signature.clone());
                let granted = &node.config.capabilities;
                sandbox.read.extend(granted.stdio.input.clone());
                for directory in &granted.directories {
                    use airssys_wasm::grants::DirectoryAccess;
                    match directory.access {
                        DirectoryAccess::Read => sandbox.read.push(directory.host.clone()),
                        DirectoryAccess::ReadWrite { .. } => {
                            sandbox.write.push(directory.host.clone());
                        }
                    }
                }
            }
        }
    }
}
