//! What the tests share: components on disk, and hosts that run them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use airssys::{ComponentRef, ExitCause, Host, HostError, Intensity, Results, Val, WasmError};
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

    /// Adds a line to a section of a component's Component.toml.
    pub fn line(self, name: &str, section: &str, line: &str) -> Self {
        let path = self.dir.path().join(name).join("Component.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let header = format!("[{section}]\n");
        let text = match text.contains(&header) {
            true => text.replacen(&header, &format!("{header}{line}\n"), 1),
            false => format!("{text}\n{header}{line}\n"),
        };
        std::fs::write(path, text).unwrap();
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

/// Longest time one test may take.
const TEST_LIMIT: Duration = Duration::from_secs(120);

/// Set in a process that was started for one test alone.
const OWN_PROCESS: &str = "AIRSSYS_TEST_OWN_PROCESS";

/// For a test whose verdict is on the whole process: true in a process that runs nothing else.
/// Where it is false, the test has been run in such a process and passed.
pub fn in_a_process_of_its_own(test: &str) -> bool {
    if std::env::var_os(OWN_PROCESS).is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(OWN_PROCESS, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let passed = output.status.success() && told.contains("1 passed");
    assert!(passed, "{told}");
    false
}

/// Resident memory of this process, in bytes.
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A runtime with two workers, as an embedder has them; a test that hangs fails.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            tokio::time::timeout(TEST_LIMIT, future)
                .await
                .expect("the test hangs")
        })
}

/// One page of linear memory, in bytes.
pub const PAGE: usize = 65_536;

/// One component alone in a host.
pub struct Alone {
    pub host: Host,
    pub component: ComponentRef,
    tree: Tree,
}

impl Alone {
    pub async fn try_text(text: &str, max_bytes: usize, cpu: &str) -> Result<Self, HostError> {
        Self::try_wasm(&wat::parse_str(text).unwrap(), max_bytes, cpu).await
    }

    pub async fn try_wasm(wasm: &[u8], max_bytes: usize, cpu: &str) -> Result<Self, HostError> {
        Self::of(Tree::new().component("alone", wasm, max_bytes, cpu)).await
    }

    /// The one component, `alone`, of a tree.
    pub async fn of(tree: Tree) -> Result<Self, HostError> {
        let host = tree.start().await?;
        Ok(Self {
            component: host.component("alone")?,
            host,
            tree,
        })
    }

    /// The one component, `alone`, of a host that was started from a tree by other means.
    pub fn in_host(host: Host, tree: Tree) -> Self {
        Self {
            component: host.component("alone").unwrap(),
            host,
            tree,
        }
    }

    /// Where it is on disk.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    pub async fn text(text: &str, max_bytes: usize, cpu: &str) -> Self {
        Self::try_text(text, max_bytes, cpu).await.unwrap()
    }

    pub async fn guest(guest: Guest, max_bytes: usize, cpu: &str) -> Self {
        Self::try_wasm(guest.wasm, max_bytes, cpu).await.unwrap()
    }

    pub async fn call(&self, function: &str, arguments: &[Val]) -> Result<Vec<Val>, WasmError> {
        self.component.call(function, arguments).await
    }

    /// The answer of a function that answers one number.
    pub async fn number(&self, function: &str, arguments: &[Val]) -> i64 {
        number(&self.call(function, arguments).await.unwrap())
    }

    /// Why the instance ended in this call.
    pub async fn exit(&self, function: &str, arguments: &[Val]) -> Arc<ExitCause> {
        exit(self.call(function, arguments).await)
    }
}

/// The values of what a call with a message returned.
pub trait Values {
    fn values(self) -> Result<Vec<Val>, WasmError>;
}

impl Values for Result<Results, WasmError> {
    fn values(self) -> Result<Vec<Val>, WasmError> {
        self?.values()
    }
}

/// The one number of an answer.
pub fn number(answer: &[Val]) -> i64 {
    match answer {
        [Val::U8(n)] => i64::from(*n),
        [Val::U32(n)] => i64::from(*n),
        [Val::S32(n)] => i64::from(*n),
        [Val::S64(n)] => *n,
        [Val::U64(n)] => i64::try_from(*n).unwrap(),
        other => panic!("no number: {other:?}"),
    }
}

/// The cause a call ended with.
pub fn exit(answer: Result<Vec<Val>, WasmError>) -> Arc<ExitCause> {
    match answer {
        Err(WasmError::Exited { cause, .. }) => cause,
        Err(WasmError::OutOfMemory {
            limit_bytes,
            current_bytes,
            requested_bytes,
            peak_bytes,
            ..
        }) => Arc::new(ExitCause::OutOfMemory(airssys::OutOfMemory {
            limit_bytes,
            current_bytes,
            requested_bytes,
            peak_bytes,
        })),
        other => panic!("no exit: {other:?}"),
    }
}

/// The cause of the one child that did not start.
pub fn start_failure(outcome: Result<Alone, HostError>) -> Arc<ExitCause> {
    let mut cause = match outcome.map(|_| ()) {
        Err(HostError::Start(cause)) => cause,
        other => panic!("no failed start: {other:?}"),
    };
    while let ExitCause::ChildStart { cause: inner, .. } = &*cause {
        cause = Arc::clone(inner);
    }
    cause
}

/// A component around one core module, with each of `exports` (name, type) lifted from the core
/// function of that name. The module exports `memory` and `realloc` if `memory` says so.
pub fn component(core: &str, memory: bool, exports: &[(&str, &str)]) -> String {
    let options = if memory {
        "(memory $i \"memory\") (realloc (func $i \"realloc\"))"
    } else {
        ""
    };
    let mut text =
        format!("(component (core module $m {core})\n(core instance $i (instantiate $m))\n");
    for (name, ty) in exports {
        writeln!(
            text,
            "(func (export \"{name}\") {ty} (canon lift (core func $i \"{name}\") {options}))"
        )
        .unwrap();
    }
    text + ")"
}

/// A memory of one page, and a `realloc` that takes from a bump pointer and grows the memory by
/// what is missing; a refused growth traps.
pub const BUMP: &str = r#"
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32) (local $end i32)
        (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
        (local.set $end (i32.add (local.get $at) (local.get 3)))
        (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
            (then
                (if (i32.eq (i32.const -1) (memory.grow (i32.shr_u
                        (i32.add (i32.const 65535) (i32.sub (local.get $end)
                            (i32.mul (memory.size) (i32.const 65536)))) (i32.const 16))))
                    (then unreachable))))
        (global.set $next (local.get $end))
        (memory.copy (local.get $at) (local.get 0) (select (local.get 1) (local.get 3)
            (i32.lt_u (local.get 1) (local.get 3))))
        (local.get $at))
"#;
