//! The program as its users meet it: arguments in; standard output, standard error and an exit
//! code out.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use airssys_guests::{CALCULATOR, CRASHER, LEAKY, NOTEBOOK, SPINNER};
use serde_json::Value;

use crate::instance_limits_test::TAKER;
use crate::support::{Tree, shared_machine};

pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_airssys"));
    command.args(arguments).env_remove("AIRSSYS_LOG");
    command
}

pub fn airssys(arguments: &[&str]) -> Output {
    let _load = shared_machine();
    program(arguments).output().unwrap()
}

pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The file of the repository.
fn repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(path).display().to_string()
}

fn text(path: PathBuf) -> String {
    path.display().to_string()
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_call_prints_its_result_as_wave_and_nothing_else() {
    let tree = repository("guests/airssys.toml");
    let sum = airssys(&["call", &tree, "calculator", "add", "2", "3"]);
    assert_eq!(
        (code(&sum), out(&sum).as_str()),
        (0, "5\n"),
        "{}",
        err(&sum)
    );

    let alone = repository("guests/components/calculator/Component.toml");
    let quotient = airssys(&["call", &alone, "calculator", "divide", "-7", "2"]);
    assert_eq!((code(&quotient), out(&quotient).as_str()), (0, "ok(-3)\n"));

    let nothing = airssys(&["call", &tree, "notebook", "clear"]);
    assert_eq!((code(&nothing), out(&nothing).as_str()), (0, ""));
}

#[test]
fn full_and_bare_names_lead_to_the_same_function() {
    let tree = repository("guests/airssys.toml");
    for name in ["add", "docs:adder/add@0.1.0#add"] {
        let sum = airssys(&["--json", "call", &tree, "calculator", name, "2", "3"]);
        let sum = json(&sum);
        assert_eq!(sum["function"], "docs:adder/add@0.1.0#add");
        assert_eq!(sum["component"], "calculator");
        assert_eq!(sum["results"], serde_json::json!(["5"]));
        assert!(sum["elapsed_us"].is_u64());
    }
}

#[test]
fn an_unknown_function_or_component_is_bad_usage_and_the_known_ones_are_named() {
    let tree = repository("guests/airssys.toml");
    let function = airssys(&["call", &tree, "calculator", "subtract", "2", "3"]);
    assert_eq!(code(&function), 2);
    assert!(
        err(&function).contains("docs:adder/add@0.1.0#add"),
        "{}",
        err(&function)
    );

    let component = airssys(&["call", &tree, "abacus", "add", "2", "3"]);
    assert_eq!(code(&component), 2);
    assert!(
        err(&component).contains("calculator, notebook"),
        "{}",
        err(&component)
    );
}

#[test]
fn a_wrong_argument_is_named_with_its_type_and_an_example() {
    let tree = repository("guests/airssys.toml");
    let number = airssys(&["call", &tree, "calculator", "add", "2", "three"]);
    assert_eq!(code(&number), 2);
    let message = err(&number);
    for part in ["argument 2 (`y`)", "`three` is no u32", "for example: 42"] {
        assert!(message.contains(part), "{message}");
    }

    let unquoted = airssys(&["call", &tree, "notebook", "append", "hello"]);
    assert_eq!(code(&unquoted), 2);
    assert!(
        err(&unquoted).contains(r#"'"hello"'"#),
        "{}",
        err(&unquoted)
    );

    let few = airssys(&["call", &tree, "calculator", "add", "2"]);
    assert_eq!(code(&few), 2);
    assert!(
        err(&few).contains("func(x: u32, y: u32) -> u32"),
        "{}",
        err(&few)
    );
}

#[test]
fn a_call_that_ends_its_instance_fails_with_the_cause_and_its_figures() {
    let tree = repository("guests/airssys.toml");
    let leak = airssys(&["--json", "call", &tree, "leaky", "leak-until-refused"]);
    assert_eq!(code(&leak), 1);
    let error = &json(&leak)["error"];
    assert_eq!(error["kind"], "oom");
    assert_eq!(error["limit_bytes"], 1_048_576);
    let held = error["current_bytes"].as_u64().unwrap();
    let requested = error["requested_bytes"].as_u64().unwrap();
    assert!(held <= 1_048_576 && held + requested > 1_048_576, "{error}");

    let trap = airssys(&["call", &tree, "crasher", "trap"]);
    assert_eq!((code(&trap), out(&trap).as_str()), (1, ""));
    assert!(err(&trap).contains("unreachable"), "{}", err(&trap));
}

#[test]
fn names_of_guests_and_files_cannot_drive_the_terminal() {
    let red = r#"(component
        (core module $m (func $"\1b[31mred" (export "f") unreachable))
        (core instance $i (instantiate $m))
        (func (export "f") (canon lift (core func $i "f"))))"#;
    let tree = Tree::new().text("red", red, 1_048_576, "");
    let trap = airssys(&["call", &text(tree.write()), "red", "f"]);
    assert_eq!(code(&trap), 1);
    assert!(err(&trap).contains("[31mred"), "{}", err(&trap));
    assert!(!err(&trap).contains('\x1b'));

    let folder = tree.path().join("red");
    let file = folder.join("\x1b[31mred.toml");
    fs::copy(folder.join("Component.toml"), &file).unwrap();
    let report = airssys(&["validate", &text(file)]);
    assert_eq!(code(&report), 0, "{}", err(&report));
    assert!(!out(&report).contains('\x1b'));
}

/// A tree with two bad files: line and column of everything wrong in them.
fn bad_tree() -> (Tree, Vec<(&'static str, u64, u64)>) {
    let tree = Tree::new().guest("calculator", CALCULATOR);
    let system = "[[supervisor]]\nname = \"tools\"\nintensity = -1\n\n[[supervisor.child]]\n\
                  component = \"calculator/Component.toml\"\nshutdown = \"soon\"\n";
    fs::write(tree.path().join("airssys.toml"), system).unwrap();
    let component = "[component]\nname = \"calculator\"\nversion = \"1\"\nwasm = \"none.wasm\"\n\n\
                     [resources.memory]\nmax_byte = 1048576\n";
    fs::write(tree.path().join("calculator/Component.toml"), component).unwrap();
    let expected = vec![
        ("supervisor.intensity", 3, 13),
        ("supervisor.child.shutdown", 7, 12),
        ("component.version", 3, 11),
        ("component.wasm", 4, 8),
        ("resources.memory.max_bytes", 6, 1),
        ("resources.memory.max_byte", 7, 1),
    ];
    (tree, expected)
}

#[test]
fn validate_reports_every_problem_of_every_file_with_its_place() {
    let (tree, mut expected) = bad_tree();
    let file = text(tree.path().join("airssys.toml"));
    let report = airssys(&["validate", "--json", &file]);
    assert_eq!(code(&report), 2);
    let report = json(&report);
    let files = report["files"].as_array().unwrap();
    assert_eq!(files.len(), 2, "{report}");
    let problems = files
        .iter()
        .flat_map(|file| file["problems"].as_array().unwrap());
    let mut found: Vec<(&str, u64, u64)> = problems
        .map(|problem| {
            (
                problem["key"].as_str().unwrap(),
                problem["line"].as_u64().unwrap(),
                problem["column"].as_u64().unwrap(),
            )
        })
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_problem_is_shown_with_its_line_its_rule_its_decision_and_lines_to_paste() {
    let (tree, _) = bad_tree();
    let file = text(tree.path().join("airssys.toml"));
    let report = airssys(&["validate", &file]);
    assert_eq!((code(&report), out(&report).as_str()), (2, ""));
    let message = err(&report);
    for part in [
        "airssys.toml:3:13",
        "3 | intensity = -1\n  |             ^^",
        "rule: integer, restarts, 0..=100000",
        "ADR-RT-001",
        "[[supervisor]]\n          intensity = 3",
        "6 problem(s) in 2 file(s)",
    ] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
    assert!(!message.contains('\x1b'), "colours where nobody sees them");
}

#[test]
fn validate_calls_the_files_of_a_good_tree_ok() {
    let report = airssys(&["validate", &repository("guests/airssys.toml")]);
    assert_eq!(code(&report), 0, "{}", err(&report));
    assert_eq!(out(&report).lines().count(), 6);
    assert!(out(&report).lines().all(|line| line.starts_with("ok")));
}

#[test]
fn explain_tells_rule_and_decision_of_every_key() {
    for key in airssys::config::keys().iter() {
        let explained = airssys(&["explain", &format!("{}:{}", key.file, key.name)]);
        assert_eq!(code(&explained), 0, "{}", err(&explained));
        let explained = out(&explained);
        for part in [key.rule().as_str(), key.adr, key.summary.as_str()] {
            assert!(explained.contains(part), "no {part:?} in {explained}");
        }
    }
}

#[test]
fn explain_takes_an_unambiguous_tail_and_names_the_choices_otherwise() {
    let tail = airssys(&["explain", "--json", "cpu.max_fuel"]);
    assert_eq!(json(&tail)["key"], "resources.cpu.max_fuel");
    assert_eq!(json(&tail)["adr"], "ADR-WASM-002");

    let ambiguous = airssys(&["explain", "name"]);
    assert_eq!(code(&ambiguous), 2);
    assert!(err(&ambiguous).contains("airssys.toml:supervisor.child.name"));

    let misspelt = airssys(&["explain", "resources.memory.max_byts"]);
    assert_eq!(code(&misspelt), 2);
    assert!(err(&misspelt).contains("`resources.memory.max_bytes`"));
}

#[test]
fn inspect_prints_a_component_as_wit() {
    let wasm = repository("guests/components/calculator/calculator.wasm");
    let wit = airssys(&["inspect", &wasm]);
    assert_eq!(code(&wit), 0, "{}", err(&wit));
    assert!(out(&wit).contains("export docs:adder/add@0.1.0;"));
    assert!(out(&wit).contains("add: func(x: u32, y: u32) -> u32;"));

    let names = json(&airssys(&["inspect", "--json", &wasm]));
    assert_eq!(names["imports"], serde_json::json!([]));
    assert_eq!(names["exports"][0], "docs:adder/add@0.1.0");
}

#[test]
fn inspect_tells_a_core_module_from_a_component() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("module.wasm");
    fs::write(&module, wat::parse_str("(module)").unwrap()).unwrap();
    let refused = airssys(&["inspect", &text(module)]);
    assert_eq!(code(&refused), 2);
    let message = err(&refused);
    assert!(message.contains("core WebAssembly module"), "{message}");
    assert!(message.contains("wasm32-wasip2"), "{message}");
}

#[test]
fn the_demo_shows_oom_trap_and_deadline_restarts_and_no_sibling_loses_a_call() {
    let demo = airssys(&["demo", "--json", "--seconds", "3"]);
    assert_eq!(code(&demo), 0, "{}\n{}", out(&demo), err(&demo));
    let demo = json(&demo);
    assert_eq!(demo["siblings_lost"], 0);
    assert_eq!(demo["lost"], 0);
    let components = demo["components"].as_array().unwrap();
    let row = |name: &str| components.iter().find(|row| row["name"] == name).unwrap();
    for (name, cause) in [
        (LEAKY.name, "oom"),
        (CRASHER.name, "trap"),
        (CRASHER.name, "stack"),
        (CRASHER.name, "exit"),
        (SPINNER.name, "deadline"),
    ] {
        assert!(row(name)["restarts"][cause].as_u64().unwrap() > 0, "{demo}");
        assert!(row(name)["recovery_p50_us"].as_u64().unwrap() > 0);
    }
    for name in [CALCULATOR.name, NOTEBOOK.name] {
        let row = row(name);
        assert_eq!(row["generation"], 1);
        assert_eq!(row["answered"], row["calls"]);
        assert!(row["p50_us"].as_u64() <= row["p99_us"].as_u64());
    }
    for row in components {
        let ended: u64 = ["answered", "failed", "lost"]
            .iter()
            .map(|figure| row[figure].as_u64().unwrap())
            .sum();
        assert_eq!(row["calls"].as_u64().unwrap(), ended);
    }
}

#[test]
fn what_the_demo_keeps_runs_again_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let kept = text(folder.path().join("tree"));
    let demo = airssys(&["demo", "--seconds", "2", "--keep", &kept]);
    assert_eq!(code(&demo), 0, "{}\n{}", out(&demo), err(&demo));

    let file = format!("{kept}/airssys.toml");
    let sum = airssys(&["call", &file, "calculator", "add", "2", "3"]);
    assert_eq!(out(&sum), "5\n");

    let again = airssys(&["demo", "--keep", &kept]);
    assert_eq!(code(&again), 2);
    assert!(err(&again).contains("is not empty"));
}

#[test]
fn an_interrupted_run_stops_its_children_in_reverse_and_ends_with_0() {
    let _load = shared_machine();
    let tree = Tree::new()
        .guest("first", CALCULATOR)
        .guest("second", NOTEBOOK)
        .guest("third", CRASHER);
    let mut run = program(&["run", "--json", &text(tree.write())])
        .env("AIRSSYS_LOG", "debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Read aside, so that a full pipe never holds the program up.
    let mut logs = run.stderr.take().unwrap();
    let logs = std::thread::spawn(move || {
        let mut text = String::new();
        logs.read_to_string(&mut text).unwrap();
        text
    });
    // Every line has to be JSON: a log line among them would end the test.
    let lines = BufReader::new(run.stdout.take().unwrap()).lines();
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let before: Vec<Value> = events
        .by_ref()
        .take_while(|event| event["event"] != "ready")
        .collect();
    interrupt(&run);
    let after: Vec<Value> = events.collect();

    let order = |events: &[Value], kind: &str| -> Vec<String> {
        events
            .iter()
            .filter(|event| event["event"] == kind && event["supervisor"] == "tools")
            .map(|event| event["child"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(order(&before, "started"), ["first", "second", "third"]);
    assert_eq!(order(&after, "exited"), ["third", "second", "first"]);
    assert!(after.iter().all(|event| event["cause"] == "shutdown"));
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert!(logs.join().unwrap().contains("child started"));
}

#[test]
fn an_interrupted_call_ends_with_130() {
    let _load = shared_machine();
    let tree = Tree::new().guest("spinner", SPINNER);
    let mut call = program(&["call", &text(tree.write()), "spinner", "spin"])
        .env("AIRSSYS_LOG", "debug")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut logs = BufReader::new(call.stderr.take().unwrap()).lines();
    assert!(logs.any(|line| line.unwrap().contains("child started")));
    interrupt(&call);
    logs.for_each(drop);
    assert_eq!(call.wait().unwrap().code(), Some(130));
}

#[test]
fn a_component_that_does_not_start_fails_the_run_and_the_file_is_named() {
    let tree = Tree::new().guest("first", CALCULATOR);
    fs::remove_file(tree.path().join("first/component.wasm")).unwrap();
    let run = airssys(&["run", "--json", &text(tree.write())]);
    assert_eq!(code(&run), 1);
    let last: Value = serde_json::from_str(out(&run).lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["kind"], "start");
    let message = last["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("component.wasm does not exist"),
        "{message}"
    );
}

#[test]
fn a_call_that_wanted_too_many_is_told_the_key_that_bounds_it() {
    let tree = Tree::new().text("taker", TAKER, 1_048_576, "");
    let file = text(tree.path().join("taker/Component.toml"));
    for (function, key) in [
        ("pollables", "resources.counts.max_handles"),
        ("elements-or-trap", "resources.counts.max_table_elements"),
    ] {
        let failed = airssys(&["call", &file, "taker", function, "30000"]);
        assert_eq!(code(&failed), 1);
        assert!(err(&failed).contains(key), "{}", err(&failed));
        let failed = airssys(&["--json", "call", &file, "taker", function, "30000"]);
        assert_eq!(json(&failed)["error"]["kind"], "too-many");
    }
}

#[test]
fn bad_usage_ends_with_2() {
    assert_eq!(code(&airssys(&["demo", "--seconds", "1"])), 2);
    assert_eq!(code(&airssys(&["fly"])), 2);
    assert_eq!(code(&airssys(&["run", "no-such-file.toml"])), 2);
}

#[test]
fn bench_measures_pairs_and_says_which_bounds_hold() {
    let measured = airssys(&[
        "--json", "bench", "call", "fresh", "recovery", "cache", "--quick",
    ]);
    assert_eq!(code(&measured), 0, "{}", err(&measured));
    let rows = json(&measured)["rows"].as_array().unwrap().clone();
    let names: Vec<_> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["call", "fresh", "recovery", "cache"]);
    for row in &rows {
        let figure = |key: &str| row[key].as_f64().unwrap();
        assert!(figure("airssys") > 0.0 && figure("bare") > 0.0, "{row}");
        let ratio = figure("airssys") / figure("bare");
        assert!((figure("ratio") - ratio).abs() < 1e-9, "{row}");
        assert!(
            row["holds"].is_boolean() && row["bound"].is_string(),
            "{row}"
        );
    }
    // Also in a debug build; how much shorter depends on what else the machine does.
    assert!(rows[3]["ratio"].as_f64().unwrap() < 1.0, "{}", rows[3]);
    let unknown = airssys(&["bench", "nonsense"]);
    assert_eq!(code(&unknown), 2);
    assert!(err(&unknown).contains("recovery"), "{}", err(&unknown));
}

#[test]
fn what_a_guest_prints_cannot_drive_the_terminal() {
    let tree = crate::filesystem_test::prober("");
    let output = program(&["call"])
        .arg(tree.write())
        .args([
            "alone",
            "print",
            "\"\\u{1b}[31m red\\n2026 ERROR forged\\r\\u{7}\\n\"",
        ])
        .env("AIRSSYS_LOG", "airssys::guest=info")
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("forged"), "{told}");
    assert!(!told.contains(['\u{1b}', '\u{7}', '\r']), "{told:?}");
    assert!(
        !told.lines().any(|line| line.starts_with("2026 ERROR")),
        "{told}"
    );
    assert!(
        output.stdout.is_empty(),
        "standard output is the program's own"
    );
}

#[test]
fn what_a_guest_logs_is_in_the_hosts_log_with_its_level_and_name() {
    let tree = crate::messaging_test::couriers(&[("a", "")]);
    let log = |filter: &str| {
        let output = program(&["call"])
            .arg(tree.write())
            .args(["a", "log", "\"a line\\u{1b}[31m of its own\""])
            .env("AIRSSYS_LOG", filter)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    let told = log("airssys::guest=warn");
    let line = told.lines().find(|line| line.contains("a line"));
    let line = line.unwrap_or_else(|| panic!("{told}"));
    for part in [
        "WARN",
        "airssys::guest",
        "component=a",
        "courier",
        "of its own",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!told.contains('\u{1b}'), "{told:?}");
    assert!(!log("airssys::guest=error").contains("a line"));
}
