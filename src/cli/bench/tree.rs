//! The trees that are measured: files in a folder of their own, as a user would write them.

use std::fmt::Write as _;
use std::ops::Deref;

use airssys::{Host, HostBuilder, SystemConfig};
use airssys_guests::Guest;
use tempfile::TempDir;

const SYSTEM: &str = "airssys.toml";

/// A host over components of one guest, named by their number.
pub(super) struct Tree {
    host: Host,
    _folder: TempDir,
}

impl Deref for Tree {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

/// The files of a tree that is not started yet.
pub(super) struct Files(TempDir);

impl Tree {
    /// Starts so many components of each guest, under a supervisor with `keys`.
    pub(super) async fn start(guests: &[(Guest, &str)], each: usize) -> wasmtime::Result<Self> {
        Files::write(guests, each)?.start().await
    }
}

impl Files {
    /// Writes what describes so many components of each guest.
    pub(super) fn write(guests: &[(Guest, &str)], each: usize) -> wasmtime::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("airssys-bench-")
            .tempdir()?;
        let mut system = format!(
            "[system]\nmax_components = {}\n\n[[supervisor]]\nname = \"bench\"\nintensity = 100000\nperiod_seconds = 1\n",
            (guests.len() * each).max(1)
        );
        for (guest, keys) in guests {
            let name = guest.name;
            std::fs::write(folder.path().join(format!("{name}.wasm")), guest.wasm)?;
            let component = format!(
                "[component]\nname = \"{name}\"\nversion = \"0.1.0\"\nwasm = \"{name}.wasm\"\n\n\
                 [resources.memory]\nmax_bytes = 4194304\n\n{keys}"
            );
            std::fs::write(folder.path().join(format!("{name}.toml")), component)?;
            for n in 0..each {
                writeln!(
                    system,
                    "\n[[supervisor.child]]\ncomponent = \"{name}.toml\"\nname = \"{name}-{n}\""
                )?;
            }
        }
        std::fs::write(folder.path().join(SYSTEM), system)?;
        Ok(Self(folder))
    }

    /// Reads them and starts what they describe.
    pub(super) async fn start(self) -> wasmtime::Result<Tree> {
        let config = SystemConfig::load(self.0.path().join(SYSTEM))?;
        let host = HostBuilder::from(config).start().await?;
        Ok(Tree {
            host,
            _folder: self.0,
        })
    }
}
