//! Each example is run as its reader runs it, and says what it shows.
//!
//! `cargo test` builds the examples before it runs this; `cargo test --test examples` does not, and
//! fails where one is missing or older than its source. A test binary of its own: it links nothing
//! large, and the tests of `e2e` go without the examples.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets something unexpected should fail there"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Longest time an example may take.
const LIMIT: Duration = Duration::from_secs(100);

/// The examples that have a test here.
const SHOWN: [&str; 6] = [
    "agent",
    "audio",
    "embed",
    "host_functions",
    "spawn",
    "typed",
];

/// One at a time: they measure, or have deadlines.
static MACHINE: Mutex<()> = Mutex::new(());

fn source(name: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    examples.join(name).with_extension("rs")
}

/// `examples/NAME` beside the folder `deps` with this test.
fn built(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let folder = this.parent().unwrap().with_file_name("examples");
    let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let changed = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    let is_new = changed(&program) >= changed(&source(name));
    assert!(
        is_new,
        "{} is missing or older than its source: run `cargo test`",
        program.display()
    );
    program
}

/// What a run that ended well wrote to standard output.
fn run(name: &str, arguments: &[&str]) -> String {
    let _alone = MACHINE.lock().unwrap_or_else(|poison| poison.into_inner());
    let mut run = Command::new(built(name))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    // None of them writes more than a pipe holds.
    let ended = loop {
        if let Some(status) = run.try_wait().unwrap() {
            break Some(status);
        }
        if began.elapsed() > LIMIT {
            run.kill().unwrap();
            break None;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    };
    let output = run.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let ended = ended.unwrap_or_else(|| panic!("{name} takes too long\n{out}\n{told}"));
    assert!(ended.success(), "{name}: {ended}\n{out}\n{told}");
    out
}

fn assert_lines(out: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            out.lines().any(|told| told == *line),
            "no {line:?} in\n{out}"
        );
    }
}

#[test]
fn every_example_is_run_by_a_test_and_says_by_which_command() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let names: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, SHOWN.map(String::from).into());
    for name in SHOWN {
        let text = std::fs::read_to_string(source(name)).unwrap();
        let docs: String = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect();
        assert!(docs.contains(&format!("--example {name}")), "{docs}");
    }
}

#[test]
fn embed_calls_both_ways_and_outlives_a_leak() {
    let out = run("embed", &[]);
    assert_lines(
        &out,
        &[
            "2 + 3 = [U32(5)]",
            "84 / 2 = Ok(42)",
            "held afterwards: [U64(0)]",
            "notes: [U32(1)]",
        ],
    );
    assert!(out.contains("bytes more than its 1048576"), "{out}");
}

#[test]
fn agent_tells_its_model_how_each_tool_ended_and_siblings_answer() {
    let out = run("agent", &[]);
    for (number, ending) in [
        (1, "arguments: \"calculator: argument y: missing"),
        (3, "error: \"division-by-zero\""),
        (5, "oom: \"leaky: out of memory: limit 1048576"),
        (7, "deadline: \"spinner: deadline of 1s exceeded"),
        (9, "trap: \"crasher: guest trap: integer division by zero"),
        (11, "denied: \"[capabilities.network]"),
        (12, "function: \"calculator: no function `plus`"),
        (13, "answer: 42"),
    ] {
        let start = format!("{number:2} ok ");
        let line = out.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no step {number} in\n{out}"));
        assert!(line.contains(&format!("-> {ending}")), "{line}");
    }
    assert_lines(&out, &["13 of 13 steps taken"]);
    assert!(out.contains(" 0 missed; no note lost"), "{out}");
    assert!(!out.contains("UNEXPECTED"), "{out}");
}

#[test]
fn spawn_counts_its_children_as_they_come_and_go() {
    let out = run("spawn", &[]);
    assert_lines(
        &out,
        &[
            "empty: 0 specs, 0 active, 0 workers",
            "two started: 2 specs, 2 active, 2 workers",
            "refused: child `first` is already started",
            "one terminated: 2 specs, 1 active, 2 workers",
            "called: second: stopped: stopped by its supervisor",
            "restarted second in generation 2",
            "notes after the restart: [U32(0)]",
            "refused: child `second` is running",
            "one deleted: 1 specs, 1 active, 1 workers",
            "unknown: true",
            "events: 3 starts, 3 exits",
        ],
    );
}

#[test]
fn typed_keeps_state_from_one_turn_to_the_next() {
    let out = run("typed", &[]);
    assert_lines(
        &out,
        &[
            "2 notes, the last: Some(\"two\")",
            "3 notes, the last: Some(\"three\")",
            "held by its successor: [U64(0)]",
            "4 notes, the last: Some(\"four\")",
        ],
    );
    assert!(out.contains("division-by-zero"), "{out}");
    assert!(out.contains("of 1048576 bytes and wanted"), "{out}");
}

#[test]
fn host_functions_answer_and_a_panic_is_told_by_its_function() {
    let out = run("host_functions", &[]);
    assert_lines(
        &out,
        &[
            "left sells 3 tea: [Result(Ok(Some(U32(1350))))]",
            "right sells 3 tea: [Result(Ok(Some(U32(900))))]",
            "left sells 1 tea: [Result(Err(Some(String(\"we are out of tea\"))))]",
            "panic in airssys:clerk/shop@0.1.0#discount: no discount for ann, whom left serves",
            "panics counted: 1, on record: 1",
            "left has made [U32(0)]",
            "right has made [U32(1)]",
        ],
    );
}

/// The number before `word` in a line.
fn figure(line: &str, word: &str) -> u32 {
    let words: Vec<&str> = line.split([' ', ',', ';']).collect();
    let pair = words.windows(2).find(|pair| pair.last() == Some(&word));
    let number = pair.and_then(|pair| pair.first());
    let number = number.unwrap_or_else(|| panic!("no {word} in {line}"));
    number.parse().unwrap()
}

/// How many blocks are late is the machine's affair; that each is accounted for, and what is in it,
/// is not.
#[test]
fn audio_leaves_the_chain_as_computed_while_siblings_die() {
    let out = run("audio", &["--seconds", "1"]);
    let summaries: Vec<&str> = out
        .lines()
        .filter(|line| line.contains(" blocks, "))
        .collect();
    assert_eq!(summaries.len(), 2, "{out}");
    for line in summaries {
        let (blocks, lost) = (figure(line, "blocks"), figure(line, "lost"));
        assert_eq!(blocks + lost, 375, "{out}");
        assert!(figure(line, "late") <= blocks && blocks > 0, "{out}");
        assert_eq!(figure(line, "wrong"), 0, "{out}");
    }
    for name in ["spinner", "leaky"] {
        let line = out.lines().find(|line| line.starts_with(name)).unwrap();
        let deaths = line.rsplit(' ').nth(1).unwrap();
        assert!(deaths.parse::<u32>().unwrap() > 0, "{line}");
    }
    assert_lines(&out, &["stages replaced: 0"]);
}
