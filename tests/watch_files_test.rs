//! `airssys run --watch`: a component whose files change is upgraded while it runs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::cli_test::program;
use crate::support::{Tree, shared_machine};
use crate::upgrade_test::Counter;

const MIB: usize = 1_048_576;
const PATIENCE: Duration = Duration::from_secs(30);

/// The program, and the lines it writes.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(file: &Path) -> Self {
        let file = file.display().to_string();
        let mut child = program(&["--json", "run", &file, "--watch"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::sync_channel(1_000);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let running = Self { child, lines };
        running.until("ready");
        running
    }

    /// The next line that tells of this event.
    fn until(&self, event: &str) -> serde_json::Value {
        let over = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = over.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no `{event}` after {seen:#?}");
            };
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            if value["event"] == event {
                return value;
            }
            seen.push(line);
        }
    }

    /// Ends it as Ctrl-C does.
    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn tree(sandbox: &str) -> (Tree, std::path::PathBuf) {
    let tree = Tree::new()
        .component("alone", &Counter::by(1).wasm(), MIB, "")
        .line("alone", "upgrade", "probation_seconds = 1")
        .intensity(0, 60);
    let file = tree.write();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n{sandbox}\n")).unwrap();
    (tree, file)
}

fn change(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

#[test]
fn a_binary_that_is_replaced_is_upgraded_and_one_that_is_wrong_is_not() {
    let _machine = shared_machine();
    // Inside the sandbox too the files that take the place of those there were can be read.
    for sandbox in ["", "[sandbox]\nmode = \"best-effort\""] {
        let (tree, file) = tree(sandbox);
        let running = Running::start(&file);
        let folder = tree.path().join("alone");
        // Written aside and renamed, as a careful build does.
        std::fs::write(folder.join("next"), Counter::by(100).wasm()).unwrap();
        std::fs::rename(folder.join("next"), folder.join("component.wasm")).unwrap();
        let event = running.until("upgraded");
        assert_eq!(event["child"], "alone");
        running.until("upgrade-passed");
        // Overwritten with what is no component: the one that serves goes on.
        std::fs::write(folder.join("component.wasm"), b"nothing").unwrap();
        let failed = running.until("upgrade-failed");
        let told = failed["message"].as_str().unwrap();
        assert!(told.contains("is not a WebAssembly binary"), "{told}");
        std::fs::write(folder.join("component.wasm"), Counter::by(5).wasm()).unwrap();
        running.until("upgraded");
        running.end();
    }
}

#[test]
fn a_changed_configuration_is_an_upgrade_and_a_broken_one_is_told() {
    let _machine = shared_machine();
    let (tree, file) = tree("");
    let running = Running::start(&file);
    let config = tree.path().join("alone/Component.toml");
    change(&config, "version = \"0.1.0\"", "version = \"0.3.0\"");
    running.until("upgraded");
    let passed = running.until("upgrade-passed");
    let told = passed["message"].as_str().unwrap();
    assert!(
        told.starts_with("0.3.0 serves for good after 0.1.0"),
        "{told}"
    );
    assert!(told.contains("8 bytes of state"), "{told}");
    change(&config, "max_bytes = 1048576", "max_bytes = 1");
    let told = running.until("not-read");
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("resources.memory.max_bytes")
    );
    change(&config, "max_bytes = 1\n", "max_bytes = 2097152\n");
    running.until("upgraded");
    change(&file, "intensity = 0", "intensity = 3");
    running.until("restart-needed");
    running.end();
}
