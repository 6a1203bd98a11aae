//! `run --status` and `top`: the socket, the streams, and the view in a terminal.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use airssys::{
    ComponentMetrics, ComponentNodeStatus, Figures, HostStatus, LastExit, Latency, MemoryMetrics,
    SNAPSHOT_SCHEMA, Snapshot, Supervision, SupervisorNode,
};
use airssys_guests::CALCULATOR;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Tree, shared_machine};

const PATIENCE: Duration = Duration::from_secs(30);

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_airssys"));
    command.args(arguments).env_remove("AIRSSYS_LOG");
    command
}

fn run(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} does not come about");
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn ends(child: &mut Child) -> i32 {
    wait_for("the end", || child.try_wait().unwrap().is_some());
    child.wait().unwrap().code().unwrap()
}

/// A `run` that answers at a socket.
struct Running {
    child: Child,
    socket: PathBuf,
    _tree: Tree,
}

impl Running {
    fn start() -> Self {
        let tree = Tree::new().guest("calculator", CALCULATOR);
        let file = tree.write().display().to_string();
        let socket = tree.path().join("status.sock");
        let path = socket.display().to_string();
        let mut child = program(&["--json", "run", &file, "--status", &path])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(events.any(|line| line.unwrap().contains("\"ready\"")));
        thread::spawn(move || events.for_each(drop));
        let _tree = tree;
        Self {
            child,
            socket,
            _tree,
        }
    }

    fn path(&self) -> String {
        self.socket.display().to_string()
    }

    fn connect(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }

    fn stop(mut self) -> PathBuf {
        interrupt(&self.child);
        assert_eq!(ends(&mut self.child), 0);
        self.socket.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn line(stream: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn the_socket_is_private_bounded_and_gone_with_its_host() {
    let _load = shared_machine();
    let running = Running::start();
    let mode = fs::metadata(&running.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut served: Vec<_> = (0..8).map(|_| running.connect()).collect();
    for client in &mut served {
        assert_eq!(line(client)["schema"], SNAPSHOT_SCHEMA);
    }
    let mut refused = running.connect();
    assert_eq!(line(&mut refused), serde_json::json!({ "error": "busy" }));
    assert_eq!(refused.read(&mut [0]).unwrap(), 0);
    let told = run(&["top", &running.path(), "--once"]);
    assert_eq!(told.status.code(), Some(1));
    // One that goes makes room.
    served.pop();
    wait_for("room", || {
        line(&mut running.connect())["schema"] == SNAPSHOT_SCHEMA
    });
    drop(served);
    assert!(!running.stop().exists());
}

#[test]
fn what_a_client_sends_changes_nothing_and_a_line_asks_for_the_next_snapshot() {
    let _load = shared_machine();
    let running = Running::start();
    let mut client = running.connect();
    let first = line(&mut client);
    let garbage = [b"{\"stop\":true} \0\xff".repeat(5_000), vec![b'\n']].concat();
    client.get_mut().write_all(&garbage).unwrap();
    let second = line(&mut client);
    assert!(second["host"]["uptime_ms"].as_u64() > first["host"]["uptime_ms"].as_u64());
    assert_eq!(second["components"][0]["state"], "running");
    running.stop();
}

#[test]
fn a_socket_left_behind_is_replaced_and_nothing_else_is() {
    let _load = shared_machine();
    let tree = Tree::new().guest("calculator", CALCULATOR);
    let file = tree.write().display().to_string();
    let path = tree.path().join("status.sock");
    let text = path.display().to_string();
    fs::write(&path, "mine").unwrap();
    let refused = run(&["run", &file, "--status", &text]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let refused = run(&["run", &file, "--status", &text]);
    assert_eq!(refused.status.code(), Some(2));
    drop(listener);
    let mut child = program(&["run", &file, "--status", &text])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("a socket", || UnixStream::connect(&path).is_ok());
    // It answers once the tree runs.
    line(&mut BufReader::new(UnixStream::connect(&path).unwrap()));
    interrupt(&child);
    assert_eq!(ends(&mut child), 0);
}

/// The keys of all objects in a value, as paths. What is keyed by names has `*`.
fn shape(value: &Value, at: &str, paths: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let counts = ["failed", "exits", "refused"];
            for (key, value) in fields {
                let open = counts.iter().any(|name| at.ends_with(name));
                let key = if open { "*" } else { key.as_str() };
                shape(value, &format!("{at}.{key}"), paths);
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| shape(item, &format!("{at}[]"), paths)),
        _ => _ = paths.insert(at.to_owned()),
    }
}

#[test]
fn the_json_stream_is_one_snapshot_a_line_of_a_known_shape() {
    let _load = shared_machine();
    let running = Running::start();
    let path = running.path();
    let mut top = program(&["--json", "top", &path, "--interval-ms", "100"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = lines.next().unwrap().unwrap();
        let snapshot: Snapshot = serde_json::from_str(&line).unwrap();
        assert_eq!(snapshot.components[0].metrics.name, "calculator");
    }
    interrupt(&top);
    assert_eq!(ends(&mut top), 0);
    running.stop();

    let mut paths = std::collections::BTreeSet::new();
    shape(&serde_json::to_value(crowd(1)).unwrap(), "", &mut paths);
    let figures = |at: &str| {
        let latency =
            |of: &str| ["p50_ns", "p90_ns", "p99_ns", "max_ns"].map(|p| format!("{of}.{p}"));
        let plain = [
            "calls",
            "answered",
            "failed.*",
            "busy_us",
            "fuel",
            "peak_bytes",
            "growths",
            "denied_growths",
        ];
        let plain = plain.map(String::from).into_iter();
        let all = plain.chain(latency("wait")).chain(latency("service"));
        all.map(|path| format!(".components[].metrics.{at}.{path}"))
            .collect::<Vec<_>>()
    };
    let mut known: std::collections::BTreeSet<String> = [
        ".schema",
        ".host.uptime_ms",
        ".host.tasks_active",
        ".host.tasks_total",
        ".host.panics",
        ".host.instances",
        ".host.max_instances",
        ".host.compiled",
        ".supervisors[].name",
        ".supervisors[].parent",
        ".supervisors[].status.strategy",
        ".supervisors[].status.intensity",
        ".supervisors[].status.period_ms",
        ".supervisors[].status.restarts",
        ".supervisors[].status.host_restarts",
        ".supervisors[].status.children",
        ".components[].supervisor",
        ".components[].state",
        ".components[].metrics.name",
        ".components[].metrics.generation",
        ".components[].metrics.restarts",
        ".components[].metrics.in_flight",
        ".components[].metrics.queued",
        ".components[].metrics.refused.*",
        ".components[].metrics.exits.*",
        ".components[].metrics.last_exit.generation",
        ".components[].metrics.last_exit.kind",
        ".components[].metrics.last_exit.message",
        ".components[].metrics.last_exit.ago_ms",
        ".components[].metrics.memory.current_bytes",
        ".components[].metrics.memory.max_bytes",
        ".components[].metrics.memory.peak_bytes",
        ".components[].metrics.memory.allocation_count",
        ".components[].metrics.memory.denied_count",
        ".components[].metrics.memory.host_bytes",
    ]
    .map(String::from)
    .into();
    for at in ["current", "previous", "total"] {
        known.extend(figures(at));
    }
    assert_eq!(paths, known);
}

#[test]
fn top_writes_plain_rows_where_there_is_no_terminal_and_ends_with_its_host() {
    let _load = shared_machine();
    let running = Running::start();
    let path = running.path();
    let once = run(&["top", &path, "--once"]);
    let text = String::from_utf8(once.stdout).unwrap();
    assert_eq!(once.status.code(), Some(0));
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(
        text.lines()
            .any(|line| line.starts_with("calculator") && line.contains("running"))
    );
    let mut top = program(&["top", &path, "--interval-ms", "100"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("calculator")));
    let rest = thread::spawn(move || lines.for_each(drop));
    running.stop();
    assert_eq!(ends(&mut top), 0);
    rest.join().unwrap();
}

#[test]
fn nobody_at_the_socket_is_bad_usage_and_help_says_what_to_start() {
    let told = run(&["top", "/nonexistent/airssys.sock"]);
    assert_eq!(told.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&told.stderr).contains("run FILE --status"));
    let help = run(&["top", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    for taught in [
        "run airssys.toml --status",
        "--sort",
        "--filter",
        "WAIT99",
        "q or Ctrl-C",
    ] {
        assert!(help.contains(taught), "{taught}: {help}");
    }
}

/// A host that is not there, with this many components; `c7` is the one that is unwell.
fn crowd(components: usize) -> Snapshot {
    let latency = Latency {
        p50_ns: 1_000,
        p90_ns: 10_000,
        p99_ns: 1_000_000,
        max_ns: u64::MAX,
    };
    let component = |n: usize| {
        let one = [(String::from("trap"), n as u64)];
        let figures = Figures {
            calls: u64::MAX - 100_000 + n as u64,
            failed: one.clone().into(),
            wait: Some(latency),
            service: Some(Latency {
                p99_ns: n as u64 * 1_000,
                ..latency
            }),
            ..Figures::default()
        };
        ComponentNodeStatus {
            supervisor: Some(String::from("tools")),
            state: String::from(if n == 7 { "quarantined" } else { "running" }),
            metrics: ComponentMetrics {
                name: format!("c{n}-{}", "long".repeat(14)),
                generation: u64::MAX,
                restarts: n as u64,
                in_flight: 1,
                queued: usize::MAX,
                refused: one.clone().into(),
                exits: one.into(),
                last_exit: Some(LastExit {
                    generation: 1,
                    kind: String::from("trap"),
                    message: String::from("guest trap: unreachable"),
                    ago_ms: 100_000_000,
                }),
                memory: Some(MemoryMetrics {
                    current_bytes: 65_536,
                    host_bytes: 0,
                    max_bytes: 1_048_576,
                    peak_bytes: 65_536,
                    allocation_count: 1,
                    denied_count: 0,
                }),
                current: figures.clone(),
                previous: Some(figures.clone()),
                total: Figures {
                    calls: n as u64,
                    ..figures
                },
            },
        }
    };
    Snapshot {
        schema: SNAPSHOT_SCHEMA,
        host: HostStatus {
            uptime_ms: 4_000_000,
            tasks_active: 2,
            tasks_total: 10,
            panics: 0,
            instances: components,
            max_instances: 1000,
            compiled: 1,
        },
        supervisors: vec![SupervisorNode {
            name: String::from("tools"),
            parent: Some(String::from("airssys")),
            status: Some(Supervision {
                strategy: String::from("one_for_one"),
                intensity: 3,
                period_ms: 60_000,
                restarts: 2,
                host_restarts: 1,
                children: components,
            }),
        }],
        components: (0..components).map(component).collect(),
    }
}

/// Answers at a socket as a host does.
fn serve(snapshot: &Snapshot) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("status.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut text = serde_json::to_vec(snapshot).unwrap();
    text.push(b'\n');
    let text = Arc::new(text);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, text) = (stream.unwrap(), Arc::clone(&text));
            thread::spawn(move || {
                let mut asked = [0; 64];
                while stream.write_all(&text).is_ok()
                    && stream.read(&mut asked).is_ok_and(|n| n > 0)
                {}
            });
        }
    });
    (dir, path)
}

/// `top` in a terminal.
struct Terminal {
    master: fs::File,
    slave: OwnedFd,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    before: String,
}

impl Terminal {
    fn open(socket: &Path, columns: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = fs::File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let before = format!("{:?}", tcgetattr(&slave).unwrap());
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = program(&["top", socket.to_str().unwrap(), "--interval-ms", "100"])
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let master = fs::File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (master.try_clone().unwrap(), Arc::clone(&seen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                to.lock().unwrap().extend(&buffer[..n]);
            }
        });
        Self {
            master,
            slave: slave.into(),
            child,
            seen,
            before,
        }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    fn press(&mut self, keys: &[u8]) {
        self.seen.lock().unwrap().clear();
        self.master.write_all(keys).unwrap();
    }

    fn shows(&self, text: &str) {
        wait_for(text, || self.seen().contains(text));
    }

    fn ends_as_it_began(mut self) {
        assert_eq!(ends(&mut self.child), 0, "{}", self.seen());
        let after = format!("{:?}", tcgetattr(&self.slave).unwrap());
        assert_eq!(after, self.before);
        // The cursor is back, and the first screen.
        self.shows("\u{1b}[?25h");
        self.shows("\u{1b}[?1049l");
    }

    /// The lines of the last whole frame, and the row each stands in.
    fn frame(&self) -> Vec<(usize, String)> {
        let seen = self.seen();
        let Some((_, frame)) = seen.rsplit_once("\u{1b}[1;1H") else {
            return Vec::new();
        };
        let mut lines = vec![(1, String::new())];
        let mut rest = frame.chars().peekable();
        while let Some(c) = rest.next() {
            if c != '\u{1b}' {
                lines.last_mut().unwrap().1.push(c);
                continue;
            }
            let mut sequence: String = rest.by_ref().take(1).collect();
            for c in rest.by_ref() {
                sequence.push(c);
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
            if let Some(place) = sequence.strip_suffix('H') {
                let row = place.trim_start_matches('[').split(';').next().unwrap();
                lines.push((row.parse().unwrap(), String::new()));
            }
        }
        lines
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_thousand_components_fit_screens_of_any_size() {
    let _load = shared_machine();
    let (_dir, socket) = serve(&crowd(1_000));
    for (columns, rows) in [(80, 24), (200, 50), (1, 1), (20, 5), (13, 300)] {
        let mut terminal = Terminal::open(&socket, columns, rows);
        let (width, height) = (usize::from(columns), usize::from(rows));
        wait_for("a whole frame", || terminal.frame().len() >= height);
        // End, and a page up.
        terminal.press(b"\x1b[F\x1b[5~");
        wait_for("a whole frame", || terminal.frame().len() >= height);
        for (row, text) in terminal.frame() {
            assert!(row <= height && text.len() <= width, "{row} {text:?}");
            assert!(text.is_ascii(), "{text:?}");
        }
        terminal.press(b"q");
        terminal.ends_as_it_began();
    }
}

#[test]
fn keys_sort_filter_and_scroll_and_the_unwell_come_first() {
    let _load = shared_machine();
    let (_dir, socket) = serve(&crowd(1_000));
    let mut terminal = Terminal::open(&socket, 160, 24);
    terminal.shows("1-19 of 1000  by health");
    let row = |terminal: &Terminal, row: usize| {
        let lines = terminal.frame().into_iter();
        lines
            .filter(|(at, _)| *at == row)
            .map(|(_, text)| text)
            .next_back()
            .unwrap_or_default()
    };
    wait_for("the unwell one", || row(&terminal, 6).starts_with("c7-"));
    terminal.shows("unhealthy 1 ");
    terminal.shows("restarting: tools: 2/3 in 60s (host 1/3)");
    for key in [b"r", b"l", b"e"] {
        terminal.press(key);
        wait_for("the most", || row(&terminal, 6).starts_with("c999-"));
        terminal.press(b"n");
        wait_for("the first", || row(&terminal, 6).starts_with("c0-"));
    }
    terminal.press(b"\x1b[6~");
    terminal.shows("20-38 of 1000");
    terminal.press(b"\x1b[F");
    terminal.shows("982-1000 of 1000");
    terminal.press(b"/c99\r");
    terminal.shows("1-11 of 11  by name  only *c99*");
    // While a filter is typed, q is a letter.
    terminal.press(b"/q");
    terminal.shows("/c99q_");
    terminal.press(b"\x03");
    terminal.ends_as_it_began();
}

#[test]
fn a_terminal_is_given_back_when_the_host_ends_or_top_is_told_to() {
    let _load = shared_machine();
    let running = Running::start();
    let terminal = Terminal::open(&running.socket, 80, 24);
    terminal.shows("calculator");
    interrupt(&terminal.child);
    terminal.ends_as_it_began();
    let terminal = Terminal::open(&running.socket, 80, 24);
    terminal.shows("calculator");
    running.stop();
    terminal.shows("the host has ended");
    terminal.ends_as_it_began();
}
