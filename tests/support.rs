//! What the tests share: components on disk, and hosts that run them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use airssys::{Host, HostError, Intensity};
use airssys_guests::Guest;
use tempfile::TempDir;

/// Tests that measure time run alone in the process; all others run beside one another.
static MACHINE: RwLock<()> = RwLock::new(());

/// For a test whose verdict depends on time.
pub fn machine_to_itself() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(|poison| poison.into_inner())
}

/// For a test that puts load on the machine.
pub fn shared_machine() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(|poison| poison.into_inner())
}

/// A folder with components and an airssys.toml that runs them under one supervisor, `tools`.
pub struct Tree {
    dir: TempDir,
    intensity: Intensity,
    shutdown: &'static str,
    children: Vec<String>,
}

impl Tree {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            intensity: Intensity {
                restarts: 10_000,
                period: std::time::Duration::from_secs(60),
            },
            shutdown: "5s",
            children: Vec::new(),
        }
    }

    pub fn intensity(mut self, restarts: u32, period_seconds: u64) -> Self {
        self.intensity = Intensity {
            restarts,
            period: std::time::Duration::from_secs(period_seconds),
        };
        self
    }

    /// The time each child has to stop.
    pub fn shutdown(mut self, shutdown: &'static str) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Adds a component of its own folder: `wasm` beside a Component.toml with these resources.
    pub fn component(mut self, name: &str, wasm: &[u8], max_bytes: usize, cpu: &str) -> Self {
        let folder = self.dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("component.wasm"), wasm).unwrap();
        let toml = format!(
            "[component]\nname = \"{name}\"\nversion = \"0.1.0\"\nwasm = \"component.wasm\"\n\n\
             [resources.memory]\nmax_bytes = {max_bytes}\n\n[resources.cpu]\n{cpu}\n"
        );
        std::fs::write(folder.join("Component.toml"), toml).unwrap();
        self.children.push(name.to_owned());
        self
    }

    /// Adds one of the project's guests with 1 MiB and the default time.
    pub fn guest(self, name: &str, guest: Guest) -> Self {
        self.component(name, guest.wasm, 1_048_576, "")
    }

    /// Adds a component given as text.
    pub fn text(self, name: &str, text: &str, max_bytes: usize, cpu: &str) -> Self {
        self.component(name, &wat::parse_str(text).unwrap(), max_bytes, cpu)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the airssys.toml.
    pub fn write(&self) -> PathBuf {
        let Intensity { restarts, period } = self.intensity;
        let mut toml = format!(
            "[[supervisor]]\nname = \"tools\"\nintensity = {restarts}\nperiod_seconds = {}\n",
            period.as_secs()
        );
        for child in &self.children {
            write!(
                toml,
                "\n[[supervisor.child]]\ncomponent = \"{child}/Component.toml\"\nshutdown = \"{}\"\n",
                self.shutdown
            )
            .unwrap();
        }
        let path = self.dir.path().join("airssys.toml");
        std::fs::write(&path, toml).unwrap();
        path
    }

    pub async fn start(&self) -> Result<Host, HostError> {
        Host::from_config(self.write()).await
    }
}

/// A runtime with two workers, as an embedder has them.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
