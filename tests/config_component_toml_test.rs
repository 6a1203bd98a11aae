//! Component.toml: what is read, what is refused, and what the refusal says.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use airssys::config::{CONFIG_FILE_LIMIT, MAX_PROBLEMS, Problem, Rule};
use airssys::{
    ComponentConfig, ConfigError, Host, MAX_MEMORY_BYTES, MIN_MEMORY_BYTES, ResourceLimits,
    SystemConfig, Val,
};
use airssys_guests::CALCULATOR;
use airssys_wasm::ComponentResourceLimiter;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{block_on, shared_machine};

const COMPONENT: &str =
    "[component]\nname = \"calculator\"\nversion = \"0.1.0\"\nwasm = \"calculator.wasm\"\n";

/// A file with a component section and this.
fn with(rest: &str) -> String {
    format!("{COMPONENT}\n{rest}")
}

fn with_memory(rest: &str) -> String {
    with(&format!(
        "[resources.memory]\nmax_bytes = 2097152\n\n{rest}"
    ))
}

fn parse(text: &str) -> Result<ComponentConfig, ConfigError> {
    ComponentConfig::parse("Component.toml", text)
}

fn problems(text: &str) -> Vec<Problem> {
    match parse(text) {
        Err(ConfigError::Invalid { problems, .. }) => problems,
        other => panic!("not refused for its content: {other:?}"),
    }
}

fn problem(text: &str) -> Problem {
    let mut problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

/// The lines an error message offers to paste.
fn offered(message: &str) -> String {
    let lines = message.lines().filter_map(|line| line.strip_prefix("    "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_valid_component_toml_is_read_and_runs() {
    let _machine = shared_machine();
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Component.toml");
        let cpu = "[resources.cpu]\ntimeout_seconds = 7\nmax_fuel = 5000000\n";
        std::fs::write(&path, with_memory(cpu)).unwrap();
        std::fs::write(dir.path().join("calculator.wasm"), CALCULATOR.wasm).unwrap();
        let config = ComponentConfig::load(&path).unwrap();
        assert_eq!(config.name.as_str(), "calculator");
        assert_eq!(config.version.to_string(), "0.1.0");
        assert_eq!(config.wasm, dir.path().join("calculator.wasm"));
        assert_eq!(config.resources.memory.max_bytes(), 2_097_152);
        assert_eq!(config.resources.cpu.timeout, Duration::from_secs(7));
        assert_eq!(config.resources.cpu.max_fuel, Some(5_000_000));
        let host = Host::from_config(&path).await.unwrap();
        let calculator = host.component("calculator").unwrap();
        let sum = calculator
            .call("add", &[Val::U32(2), Val::U32(3)])
            .await
            .unwrap();
        assert_eq!(sum, [Val::U32(5)]);
        assert_eq!(calculator.limits().max_fuel(), Some(5_000_000));
        host.shutdown().await;
    });
}

#[test]
fn a_missing_memory_section_is_refused() {
    let problem = problem(COMPONENT);
    assert_eq!(problem.key.as_deref(), Some("resources.memory.max_bytes"));
    assert_eq!(problem.broken, Rule::Missing);
    let decision = problem.decision.unwrap();
    assert_eq!(decision.adr, "ADR-WASM-002");
    assert!(decision.rule.contains("MANDATORY"), "{}", decision.rule);
    // The same for a memory section without the key, and with only the sibling section.
    for text in [
        with("[resources.memory]\n"),
        with("[resources.cpu]\ntimeout_seconds = 5\n"),
    ] {
        assert_eq!(problems(&text)[0].broken, Rule::Missing, "{text}");
    }
}

fn with_bytes(bytes: impl std::fmt::Display) -> String {
    with(&format!("[resources.memory]\nmax_bytes = {bytes}\n"))
}

#[test]
fn memory_below_the_minimum_is_refused() {
    for bytes in [MIN_MEMORY_BYTES as i128 - 1, 1, 0, -1, i128::from(i64::MIN)] {
        let found = problem(&with_bytes(bytes));
        let min = i64::try_from(MIN_MEMORY_BYTES).unwrap();
        assert_eq!(found.broken, Rule::TooLow { value: bytes, min });
        assert_eq!(found.decision.unwrap().adr, "ADR-WASM-002");
    }
}

#[test]
fn memory_above_the_maximum_is_refused() {
    for bytes in [
        MAX_MEMORY_BYTES as i128 + 1,
        3 << 30,
        i128::from(i64::MAX),
        i128::from(u64::MAX),
    ] {
        let found = problem(&with_bytes(bytes));
        let max = i64::try_from(MAX_MEMORY_BYTES).unwrap();
        assert_eq!(found.broken, Rule::TooHigh { value: bytes, max });
        assert_eq!(found.decision.unwrap().adr, "ADR-WASM-002");
    }
}

#[test]
fn memory_at_the_minimum_is_accepted() {
    let config = parse(&with_bytes(MIN_MEMORY_BYTES)).unwrap();
    assert_eq!(config.resources.memory.max_bytes(), 524_288);
}

#[test]
fn memory_at_the_maximum_is_accepted() {
    let config = parse(&with_bytes(MAX_MEMORY_BYTES)).unwrap();
    assert_eq!(config.resources.memory.max_bytes(), 4_194_304);
}

#[test]
fn the_cpu_timeout_is_taken_from_one_second_to_three_hundred() {
    for (seconds, taken) in [(0, false), (1, true), (300, true), (301, false)] {
        let text = with_memory(&format!("[resources.cpu]\ntimeout_seconds = {seconds}\n"));
        match parse(&text) {
            Ok(config) => assert_eq!(config.resources.cpu.timeout, Duration::from_secs(seconds)),
            Err(_) => assert!(!taken, "{seconds}"),
        }
        assert_eq!(parse(&text).is_ok(), taken, "{seconds}");
    }
}

#[test]
fn without_a_cpu_timeout_it_is_thirty_seconds() {
    for text in [with_memory(""), with_memory("[resources.cpu]\n")] {
        let cpu = parse(&text).unwrap().resources.cpu;
        assert_eq!(cpu.timeout, Duration::from_secs(30));
        assert_eq!(cpu.max_fuel, None);
    }
}

#[test]
fn the_limit_in_the_file_is_the_limit_of_the_limiter() {
    let config = parse(&with_bytes(786_432)).unwrap();
    let limits = ResourceLimits::from(config.resources);
    let metrics = ComponentResourceLimiter::new(&limits).metrics();
    assert_eq!(metrics.max_bytes, 786_432);
    assert_eq!((metrics.current_bytes, metrics.peak_bytes), (0, 0));
    assert_eq!(metrics.remaining_bytes(), 786_432);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_key_it_resembles() {
    let found = problem(&with_memory("[resources.cpu]\n  timeout_second = 5\n"));
    assert_eq!(found.key.as_deref(), Some("resources.cpu.timeout_second"));
    assert_eq!((found.line, found.column), (10, 3));
    let nearest = Some(String::from("resources.cpu.timeout_seconds"));
    assert_eq!(found.broken, Rule::UnknownKey { nearest });
    let text = found.to_string();
    assert!(
        text.contains("ADR-SYS-001") && text.contains("1..=300"),
        "{text}"
    );
    assert!(
        found.to_string().starts_with("Component.toml:10:3: "),
        "{found}"
    );
    let found = problem(&with_memory("[colour]\nred = 1\n"));
    assert_eq!(found.key.as_deref(), Some("colour"));
    assert_eq!(found.broken, Rule::UnknownKey { nearest: None });
}

#[test]
fn a_column_counts_characters_and_not_bytes() {
    let found = problems("resources = { \"üü\" = 1, red = 1, memory = { max_bytes = 1048576 } }\n");
    let place = |key: &str| {
        found
            .iter()
            .find(|p| p.key.as_deref() == Some(key))
            .map(|p| (p.line, p.column))
    };
    assert_eq!(place("resources.üü"), Some((1, 15)));
    assert_eq!(place("resources.red"), Some((1, 25)));
}

#[test]
fn a_value_of_another_type_is_refused_with_both_types() {
    let cases = [
        ("\"1048576\"", "a string"),
        ("1048576.0", "a float"),
        ("1e6", "a float"),
        ("inf", "a float"),
        ("true", "a boolean"),
        ("1979-05-27", "a date"),
        ("1979-05-27T07:32:00Z", "a date"),
        ("[1048576]", "a list"),
        ("{ bytes = 1048576 }", "a table"),
    ];
    for (value, found) in cases {
        let expected = String::from("an integer");
        let rule = Rule::WrongType { expected, found };
        assert_eq!(problem(&with_bytes(value)).broken, rule, "{value}");
    }
    let text = with_memory("").replace("\"calculator\"", "7");
    let expected = String::from("a string");
    let found = "an integer";
    assert_eq!(problem(&text).broken, Rule::WrongType { expected, found });
    for text in [
        "resources = 7\n",
        "resources.memory = []\n",
        "resources.cpu = \"fast\"\n",
    ] {
        let text = format!("{text}{COMPONENT}");
        let wrong = |p: &Problem| matches!(&p.broken, Rule::WrongType { expected, .. } if expected == "a table");
        assert!(problems(&text).iter().any(wrong), "{text}");
    }
    // An array of tables where one table belongs.
    assert!(parse(&with("[[resources.memory]]\nmax_bytes = 1048576\n")).is_err());
}

#[test]
fn an_integer_may_be_written_in_any_base() {
    for text in [
        "0x200000",
        "0o10000000",
        "0b1000000000000000000000",
        "2_097_152",
        "+2097152",
    ] {
        let config = parse(&with_bytes(text));
        assert_eq!(
            config.unwrap().resources.memory.max_bytes(),
            2_097_152,
            "{text}"
        );
    }
}

#[test]
fn integers_beyond_64_and_128_bits_are_out_of_bounds_and_nothing_worse() {
    let max = i64::try_from(MAX_MEMORY_BYTES).unwrap();
    let min = i64::try_from(MIN_MEMORY_BYTES).unwrap();
    for digits in [19, 20, 38, 39, 40, 400] {
        let nines = "9".repeat(digits);
        let high = problem(&with_bytes(&nines)).broken;
        assert!(
            matches!(high, Rule::TooHigh { max: m, .. } if m == max),
            "{high:?}"
        );
        let low = problem(&with_bytes(format!("-{nines}"))).broken;
        assert!(
            matches!(low, Rule::TooLow { min: m, .. } if m == min),
            "{low:?}"
        );
    }
    let wide = format!("0x{}", "f".repeat(64));
    assert!(matches!(
        problem(&with_bytes(wide)).broken,
        Rule::TooHigh { .. }
    ));
}

#[test]
fn all_problems_of_a_file_are_told_at_once_in_file_order() {
    let text = "[resources.memory]\nmax_bytes = 1\n\n[resources.cpu]\ntimeout_seconds = 301\nmax_fuel = \"all\"\n\n\
        [component]\nnome = \"x\"\nname = \"Calculator\"\nversion = \"one\"\n";
    let found = problems(text);
    let told: Vec<_> = found
        .iter()
        .map(|p| (p.line, p.key.as_deref().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            (2, "resources.memory.max_bytes"),
            (5, "resources.cpu.timeout_seconds"),
            (6, "resources.cpu.max_fuel"),
            (8, "component.wasm"),
            (9, "component.nome"),
            (10, "component.name"),
            (11, "component.version"),
        ]
    );
}

#[test]
fn an_error_tells_place_key_rule_and_adr_and_its_lines_can_be_pasted() {
    let _machine = shared_machine();
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Component.toml");
        std::fs::write(dir.path().join("calculator.wasm"), CALCULATOR.wasm).unwrap();
        std::fs::write(&path, COMPONENT).unwrap();
        let message = Host::from_config(&path).await.unwrap_err().to_string();
        let place = format!("{}:1:1: ", path.display());
        for part in [
            &place,
            "`resources.memory.max_bytes`",
            "missing",
            "MANDATORY",
            "ADR-WASM-002",
            "524288..=4194304",
            "bytes",
        ] {
            assert!(message.contains(part), "{part} is not in:\n{message}");
        }
        std::fs::write(&path, format!("{COMPONENT}\n{}\n", offered(&message))).unwrap();
        let host = Host::from_config(&path).await.unwrap();
        let limits = host.component("calculator").unwrap().limits();
        assert_eq!(limits.max_memory_bytes(), 2_097_152);
        host.shutdown().await;
    });
}

#[test]
fn the_lines_offered_for_each_wrong_value_can_be_pasted_in_its_place() {
    let good = with_memory(
        "[resources.cpu]\ntimeout_seconds = 5\nmax_fuel = 5000\n\n[integrity]\nlevel = \"off\"\n",
    );
    for (right, wrong) in [
        ("name = \"calculator\"", "name = \"Calculator\""),
        ("version = \"0.1.0\"", "version = \"0.1\""),
        ("wasm = \"calculator.wasm\"", "wasm = \"\""),
        ("max_bytes = 2097152", "max_bytes = 17"),
        ("timeout_seconds = 5", "timeout_seconds = 0"),
        ("max_fuel = 5000", "max_fuel = 999"),
        ("level = \"off\"", "level = \"most\""),
    ] {
        let bad = good.replace(right, wrong);
        let message = parse(&bad).unwrap_err().to_string();
        let offered = offered(&message);
        let (header, line) = offered.split_once('\n').unwrap();
        assert!(bad.contains(header), "{header}");
        parse(&bad.replace(wrong, line)).unwrap();
    }
}

#[test]
fn no_component_is_parked_whose_instances_end_with_their_calls() {
    let text = with_memory("[instance]\nmode = \"per-call\"\npark_after_seconds = 5\n");
    let problem = problem(&text);
    assert_eq!(problem.key.as_deref(), Some("instance.park_after_seconds"));
    let line = text.lines().nth(problem.line - 1).unwrap();
    assert_eq!(line, "park_after_seconds = 5");
    let told = problem.to_string();
    assert!(
        told.contains("not together with mode = \"per-call\""),
        "{told}"
    );
    parse(&text.replace("per-call", "persistent")).unwrap();
    parse(&text.replace("park_after_seconds = 5", "")).unwrap();
}

#[test]
fn a_key_given_twice_is_refused_where_it_stands_the_second_time() {
    let found = problem(&with(
        "[resources.memory]\nmax_bytes = 1048576\nmax_bytes = 4194304\n",
    ));
    assert!(matches!(found.broken, Rule::Syntax { .. }), "{found}");
    assert_eq!(found.line, 8);
    let found = problem(&with_memory("[resources.memory]\nmax_bytes = 4194304\n"));
    assert!(matches!(found.broken, Rule::Syntax { .. }), "{found}");
    assert_eq!(found.line, 9);
}

#[test]
fn an_empty_file_is_told_every_mandatory_key() {
    for text in ["", "\n\n", "# nothing\n", "\u{feff}"] {
        let keys: Vec<_> = problems(text).into_iter().map(|p| p.key.unwrap()).collect();
        let mandatory = [
            "component.name",
            "component.version",
            "component.wasm",
            "resources.memory.max_bytes",
        ];
        assert_eq!(keys, mandatory, "{text:?}");
    }
}

#[test]
fn no_more_problems_are_told_than_the_bound() {
    let _machine = shared_machine();
    let mut text = with_memory("");
    for i in 0..10_000 {
        writeln!(text, "key-{i} = 1").unwrap();
    }
    assert_eq!(problems(&text).len(), MAX_PROBLEMS);
}

/// Reads the file as both kinds; it must end, soon, without a panic.
fn both_refuse(path: &Path, why: &str) -> String {
    let began = Instant::now();
    let error = ComponentConfig::load(path).unwrap_err().to_string();
    SystemConfig::load(path).unwrap_err();
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{why} took {:?}",
        began.elapsed()
    );
    error
}

#[test]
fn hostile_text_is_refused_and_nothing_worse() {
    let _machine = shared_machine();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Component.toml");
    let mib = 1 << 20;
    let dotted = "a.".repeat(mib / 2 - 4);
    let cases = [
        ("dots without end", dotted.clone()),
        ("a deep dotted key", format!("{dotted}a=1")),
        ("a deep header", format!("[{}a]", "a.".repeat(mib / 2 - 4))),
        (
            "a deep list of tables",
            format!("[[{}a]]", "a.".repeat(mib / 2 - 4)),
        ),
        ("open lists", format!("a = {}", "[".repeat(10_000))),
        (
            "nested lists",
            format!("a = {}{}", "[".repeat(10_000), "]".repeat(10_000)),
        ),
        (
            "nested tables",
            format!("a = {}1{}", "{a=".repeat(10_000), "}".repeat(10_000)),
        ),
        (
            "a key of a megabyte",
            format!("{} = 1", "k".repeat(mib - 8)),
        ),
        (
            "a string of a megabyte",
            format!("[component]\nname = \"{}\"", "k".repeat(mib - 64)),
        ),
        ("an open string", format!("a = \"{}", "k".repeat(1000))),
        (
            "NUL bytes",
            String::from("[component]\nname = \"a\0b\"\n\0"),
        ),
        ("only NUL bytes", "\0".repeat(1000)),
        ("carriage returns", "\r".repeat(1000)),
        (
            "a NUL in a path",
            with_memory("").replace("calculator.wasm", "a\\u0000b"),
        ),
        (
            "many tables",
            (0..40_000).map(|i| format!("[t{i}]\n")).collect(),
        ),
        (
            "many dotted keys",
            (0..30_000).map(|i| format!("x.y.z.k{i}=1\n")).collect(),
        ),
    ];
    for (why, text) in cases {
        std::fs::write(&path, &text).unwrap();
        both_refuse(&path, why);
    }
}

#[test]
fn a_file_that_is_not_text_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Component.toml");
    for bytes in [
        &b"name = \"\xff\xfe\""[..],
        &[0xc3],
        &[0xed, 0xa0, 0x80],
        &[0xff; 4096],
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert!(both_refuse(&path, "bytes").contains("not UTF-8"));
    }
}

#[test]
fn a_file_over_the_size_limit_is_refused_and_one_at_it_is_read() {
    let _machine = shared_machine();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Component.toml");
    let mut text = with_memory("");
    let limit = usize::try_from(CONFIG_FILE_LIMIT).unwrap();
    text.push_str(&"#".repeat(limit - text.len()));
    std::fs::write(&path, &text).unwrap();
    ComponentConfig::load(&path).unwrap();
    text.push('#');
    std::fs::write(&path, &text).unwrap();
    assert!(both_refuse(&path, "size").contains("larger than 1048576 bytes"));
}

fn fifo(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    path
}

#[test]
fn what_is_no_regular_file_is_refused_and_never_waited_for() {
    let _machine = shared_machine();
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(&dir);
    for path in [dir.path(), Path::new("/dev/zero"), &fifo] {
        assert!(both_refuse(path, "kind").contains("is not a regular file"));
    }
    assert!(both_refuse(&dir.path().join("none"), "absence").contains("does not exist"));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    both_refuse(&link, "a link to itself");
}

#[test]
fn names_keep_to_their_rule() {
    let long = "a".repeat(64);
    for (name, taken) in [
        ("a", true),
        ("a-9", true),
        (&*long, true),
        (&*format!("{long}a"), false),
        ("", false),
        ("9a", false),
        ("-a", false),
        ("a_b", false),
        ("a.b", false),
        ("a/b", false),
        ("../a", false),
        ("ä", false),
        ("a b", false),
        ("a\\n", false),
    ] {
        let text = with_memory("").replace("\"calculator\"", &format!("\"{name}\""));
        assert_eq!(parse(&text).is_ok(), taken, "{name}");
    }
}

fn toml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(String::from("[component]\n")),
        Just(String::from("[resources.memory]\n")),
        Just(String::from("[resources.cpu]\n")),
        Just(String::from("[[supervisor]]\n")),
        Just(String::from("[[supervisor.child]]\n")),
        "(name|version|wasm|max_bytes|timeout_seconds|max_fuel|component|intensity)",
        Just(String::from(" = ")),
        "(\"[a-z0-9.]{0,8}\"|-?[0-9]{1,45}|0x[0-9a-f]{1,40}|[0-9]\\.[0-9]e9|true|\\[|\\]|\\{|\\}|1979-05-27)",
        Just(String::from("\n")),
        ".{0,4}",
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_answered_and_never_panics(text in any::<String>()) {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn text_that_looks_like_configuration_is_answered_and_never_panics(text in toml_like()) {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn every_byte_count_is_taken_exactly_within_the_bounds(bytes in 0usize..6_000_000) {
        let within = (MIN_MEMORY_BYTES..=MAX_MEMORY_BYTES).contains(&bytes);
        prop_assert_eq!(parse(&with_bytes(bytes)).is_ok(), within);
    }
}
