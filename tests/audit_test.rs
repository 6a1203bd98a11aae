//! The audit log as a host keeps it and as the command line reads it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use airssys::{AuditError, AuditHealth, Host, HostError};
use airssys_guests::CALCULATOR;
use airssys_osl::{
    AuditConfig, AuditDecision, AuditEntry, AuditEvent, AuditItem, AuditLog, AuditReader,
    verify_audit,
};
use serde_json::Value;

use crate::cli_test::{airssys, code, err, out, program};
use crate::support::{Tree, block_on, shared_machine};

const PATIENCE: Duration = Duration::from_secs(20);

fn entry<'a>(component: &'a str, subject: &'a str) -> AuditEntry<'a> {
    AuditEntry {
        component,
        generation: 2,
        capability: "filesystem",
        subject,
        decision: match component {
            "notebook" => AuditDecision::Deny,
            _ => AuditDecision::Allow,
        },
        rule: "[[capabilities.filesystem]]\npath = \"data\"",
    }
}

/// A closed log with these calls as records 2 and on.
fn written(calls: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let log = AuditLog::open(&AuditConfig::new(&path)).unwrap();
    for (component, subject) in calls {
        log.append(entry(component, subject)).unwrap();
    }
    log.close(PATIENCE).unwrap();
    (dir, path)
}

const CALLS: [(&str, &str); 3] = [
    ("calculator", "read data/a"),
    ("notebook", "write data/b"),
    ("notebook", "read data/c"),
];

fn segment(log: &Path) -> PathBuf {
    log.join("0000000001.audit")
}

#[test]
fn audit_verify_calls_a_whole_log_whole_and_names_what_is_wrong_with_another() {
    let (_dir, path) = written(&CALLS);
    let log = path.display().to_string();
    let whole = airssys(&["audit", "verify", &log]);
    let tag = verify_audit(&path).unwrap().summary.tag;
    assert_eq!(code(&whole), 0, "{}", err(&whole));
    for part in [
        "5 proven record(s) in 1 segment(s), begins at record 1",
        &format!("last record 5, tag {tag}"),
    ] {
        assert!(out(&whole).contains(part), "{}", out(&whole));
    }

    let mut bytes = fs::read(segment(&path)).unwrap();
    let half = bytes.len() / 2;
    bytes[half] ^= 1;
    fs::write(segment(&path), &bytes).unwrap();
    let damaged = airssys(&["audit", "verify", &log]);
    assert_eq!(code(&damaged), 1);
    let wrong = "segment 1: record 3 damaged";
    assert!(out(&damaged).contains(wrong), "{}", out(&damaged));
    assert!(err(&damaged).contains("1 finding(s)"), "{}", err(&damaged));

    let told = airssys(&["--json", "audit", "verify", &log]);
    assert_eq!(code(&told), 1);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(
        (&told["whole"], &told["records"]),
        (&Value::Bool(false), &Value::from(4))
    );
    let [finding] = &told["findings"].as_array().unwrap()[..] else {
        panic!("{told}");
    };
    assert_eq!(finding["kind"], "damaged");
    assert_eq!(
        (finding["segment"].as_u64(), finding["record"].as_u64()),
        (Some(1), Some(3))
    );

    let shown = airssys(&["audit", "show", &log]);
    assert_eq!((code(&shown), out(&shown).lines().count()), (1, 4));
    assert!(err(&shown).contains(wrong), "{}", err(&shown));
}

#[test]
fn audit_of_no_log_is_bad_usage_and_says_where_to_look() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none").display().to_string();
    for command in ["verify", "show", "follow"] {
        let refused = airssys(&["audit", command, &none]);
        assert_eq!(code(&refused), 2, "{command}");
        assert!(err(&refused).contains("airssys explain audit.directory"));
    }
    assert!(!dir.path().join("none").exists());
}

#[test]
fn audit_show_prints_the_calls_that_are_asked_for() {
    let (_dir, path) = written(&CALLS);
    let log = path.display().to_string();
    let numbers = |arguments: &[&str]| {
        let shown = airssys(&[&["--json", "audit", "show", &log], arguments].concat());
        assert_eq!(code(&shown), 0, "{}", err(&shown));
        let lines = out(&shown);
        let records = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let numbers = records.map(|record: Value| record["sequence"].as_u64().unwrap());
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(numbers(&[]), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(&["--since", "4"]), [4, 5]);
    assert_eq!(numbers(&["--component", "calculator"]), [2]);
    assert_eq!(numbers(&["--denied"]), [3, 4]);
    assert_eq!(numbers(&["--denied", "--since", "4"]), [4]);

    let shown = airssys(&["--json", "audit", "show", &log, "--since", "3"]);
    let first: Value = serde_json::from_str(out(&shown).lines().next().unwrap()).unwrap();
    assert_eq!(first["event"], "call");
    assert_eq!(first["component"], "notebook");
    assert_eq!(first["generation"], 2);
    assert_eq!(first["subject"], "write data/b");
    assert_eq!(first["decision"], "deny");
    assert_eq!(
        first["rule"],
        "[[capabilities.filesystem]]\npath = \"data\""
    );
    let lines = out(&airssys(&["audit", "show", &log, "--denied"]));
    let line = lines.lines().next().unwrap();
    let end =
        "deny notebook.2 filesystem write data/b  [[[capabilities.filesystem]]\\npath = \"data\"]";
    assert!(line.starts_with("3 2") && line.ends_with(end), "{line}");
}

#[test]
fn audit_text_of_a_guest_cannot_drive_the_terminal_or_look_like_a_record() {
    let hostile = "read \x1b[31mred\n9 2026-01-01T00:00:00Z allow tool.1 \u{202e}gnp\u{9b}2J\u{7f}";
    let (_dir, path) = written(&[("notebook", hostile)]);
    let log = path.display().to_string();
    let shown = out(&airssys(&["audit", "show", &log]));
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert!(shown.contains("\\u{1b}[31mred\\n9 2026"), "{shown}");
    let drives = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!shown.contains(drives), "{shown:?}");
    let json = out(&airssys(&["--json", "audit", "show", &log]));
    assert_eq!(json.lines().count(), 3);
    assert!(
        !json.contains(|c: char| c != '\n' && c.is_control()),
        "{json:?}"
    );
}

#[test]
fn audit_follow_prints_what_comes_and_ends_on_ctrl_c() {
    let _load = shared_machine();
    let (_dir, path) = written(&CALLS);
    let log = AuditLog::open(&AuditConfig::new(&path)).unwrap();
    let mut child = program(&["--json", "audit", "follow", &path.display().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (tell, told) = std::sync::mpsc::sync_channel(3);
    // All of it is read: one that nobody reads waits for its reader, not for Ctrl-C.
    let follows = std::thread::spawn(move || {
        for line in lines {
            let record: Value = serde_json::from_str(&line.unwrap()).unwrap();
            tell.try_send(record).ok();
        }
    });
    // It may not be there yet: whatever comes first, the entries after it follow one by one.
    let mut seen = Vec::new();
    for n in 0.. {
        let subject = format!("read {n}");
        log.append(entry("notebook", &subject)).unwrap();
        log.flush(PATIENCE).unwrap();
        seen.extend(told.try_iter());
        if seen.len() >= 3 {
            break;
        }
        assert!(!follows.is_finished(), "it has ended: {seen:?}");
    }
    seen.truncate(3);
    for pair in seen.windows(2) {
        let number = |record: &Value| record["sequence"].as_u64().unwrap();
        assert_eq!(number(&pair[0]) + 1, number(&pair[1]));
        assert!(pair[1]["subject"].as_str().unwrap().starts_with("read "));
    }
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    follows.join().unwrap();
}

fn tree() -> (Tree, PathBuf) {
    let tree = Tree::new().guest("calculator", CALCULATOR);
    let file = tree.write();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("[audit]\ndirectory = \"audit\"\n{text}")).unwrap();
    (tree, file)
}

fn last_event(log: &Path) -> AuditEvent {
    match AuditReader::open(log).unwrap().last().unwrap().unwrap() {
        AuditItem::Record(record) => record.event,
        AuditItem::Finding(finding) => panic!("{finding}"),
    }
}

#[test]
fn a_host_keeps_the_log_its_file_names_and_closes_it() {
    let _load = shared_machine();
    let (tree, file) = tree();
    let log = tree.path().join("audit");
    block_on(async {
        let host = Host::from_config(&file).await.unwrap();
        let state = host.audit().unwrap();
        assert!(matches!(state.health, AuditHealth::Writing), "{state:?}");
        assert_eq!((state.sequence, state.segment), (1, 1));
        let second = Host::from_config(&file).await;
        assert!(matches!(
            second,
            Err(HostError::Audit(AuditError::Locked { .. }))
        ));
        host.shutdown().await;
        assert!(matches!(host.audit().unwrap().health, AuditHealth::Closed));
        assert_eq!(last_event(&log), AuditEvent::Closed);
        drop(host);

        // One that is only dropped leaves it in order too.
        drop(Host::from_config(&file).await.unwrap());
        assert_eq!(last_event(&log), AuditEvent::Closed);
        assert_eq!(verify_audit(&log).unwrap().summary.last, 4);
        let alone = Tree::new().guest("calculator", CALCULATOR);
        let host = Host::from_config(alone.write()).await.unwrap();
        assert!(host.audit().is_none());
        host.shutdown().await;
    });
}

#[test]
fn a_host_with_a_damaged_log_does_not_start() {
    let _load = shared_machine();
    let (tree, file) = tree();
    let log = tree.path().join("audit");
    drop(AuditLog::open(&AuditConfig::new(&log)).unwrap());
    let mut bytes = fs::read(segment(&log)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(segment(&log), &bytes).unwrap();
    let refused = block_on(Host::from_config(&file)).unwrap_err();
    let HostError::Audit(AuditError::Damaged { findings, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!((findings.len(), findings[0].sequence), (1, 2));
    let file = file.display().to_string();
    let run = program(&["run", &file]).output().unwrap();
    assert_eq!(code(&run), 1);
    for part in ["record 2 was altered", "airssys audit verify"] {
        assert!(err(&run).contains(part), "{}", err(&run));
    }
    assert_eq!(fs::read(segment(&log)).unwrap(), bytes);
}
