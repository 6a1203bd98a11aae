//! Policies in wassette's format: what they say is what a component under them may do.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;

use airssys::grants::{DirectoryAccess, HostName, Resolved};
use airssys::{ComponentConfig, Val};
use airssys_guests::PROBER;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli_test::{airssys, code, err, out, program};
use crate::filesystem_test::result;
use crate::network_test::{server, with_names};
use crate::support::{Alone, Tree, block_on};

const HEAD: &str = "version: \"1.0\"\ndescription: \"of a test\"\npermissions:\n";

/// The program, given a policy with these permissions; the first of them is on line 4.
fn import(permissions: &str, arguments: &[&str]) -> (TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    let output = import_in(folder.path(), format!("{HEAD}{permissions}"), arguments);
    (folder, output)
}

fn import_in(folder: &Path, policy: impl AsRef<[u8]>, arguments: &[&str]) -> Output {
    fs::write(folder.join("tool.policy.yaml"), policy).unwrap();
    let all = [&["import-policy", "tool.policy.yaml"], arguments].concat();
    program(&all).current_dir(folder).output().unwrap()
}

/// The output, which has to be whole.
fn imported(permissions: &str) -> (String, ComponentConfig) {
    let (_folder, output) = import(permissions, &[]);
    assert_eq!(code(&output), 0, "{permissions}\n{}", err(&output));
    let toml = out(&output);
    let config = ComponentConfig::parse("Component.toml", &toml).unwrap();
    (toml, config)
}

/// What a policy is refused with, where it is.
fn refused(permissions: &str, arguments: &[&str]) -> String {
    let (_folder, output) = import(permissions, arguments);
    assert_eq!(code(&output), 2, "{permissions}\n{}", out(&output));
    assert_eq!(out(&output), "", "{permissions}");
    err(&output)
}

fn outbound(config: &ComponentConfig) -> Vec<String> {
    let rules = config.capabilities.network.outbound.allow.iter().flatten();
    rules.map(ToString::to_string).collect()
}

/// A prober whose Component.toml is what a policy became.
fn under(permissions: &str) -> Tree {
    let tree = Tree::new().component("alone", PROBER.wasm, 2_097_152, "");
    let folder = tree.path().join("alone");
    for name in ["data", "shared", "private"] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("x.txt"), "found").unwrap();
    }
    let arguments = [
        "--name",
        "alone",
        "--wasm",
        "component.wasm",
        "--out",
        "Component.toml",
        "--force",
    ];
    let output = import_in(&folder, format!("{HEAD}{permissions}"), &arguments);
    assert_eq!(code(&output), 0, "{}", err(&output));
    tree
}

#[test]
fn each_rule_of_a_policy_is_in_the_output_with_its_line() {
    let (toml, config) = imported(
        "  network:\n    allow:\n      - host: \"https://rss.example.com/\"\n      - host: api.example.org\n\
         \x20     - host: \"*.example.net\"\n      - cidr: 10.0.0.0/8\n      - cidr: \"fd00::/8\"\n\
         \x20   deny:\n      - host: \"*.ads.example.net\"\n      - cidr: 169.254.0.0/16\n\
         \x20 environment:\n    allow:\n      - key: API_KEY\n    deny:\n      - key: HOME\n\
         \x20 storage:\n    allow:\n      - uri: \"fs://work/agent/**\"\n        access: [read, write]\n\
         \x20     - uri: \"fs:///var/cache\"\n        access: [\"read\"]\n",
    );
    let rules = [
        "rss.example.com:443",
        "api.example.org:*",
        "*.example.net:*",
        "10.0.0.0/8:*",
        "[fd00::/8]:*",
    ];
    assert_eq!(outbound(&config), rules);
    let deny: Vec<_> = config
        .capabilities
        .network
        .outbound
        .deny
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(deny, ["*.ads.example.net:*", "169.254.0.0/16:*"]);
    let variables: Vec<_> = config
        .capabilities
        .environment
        .variables
        .iter()
        .map(|v| v.name.as_str())
        .collect();
    assert_eq!(variables, ["API_KEY"]);
    let directories: Vec<_> = config
        .capabilities
        .directories
        .iter()
        .map(|d| {
            (
                d.host.to_str().unwrap(),
                d.guest.as_str(),
                d.access == DirectoryAccess::Read,
            )
        })
        .collect();
    assert_eq!(
        directories,
        [
            ("work/agent", "/work/agent", false),
            ("/var/cache", "/var/cache", true)
        ]
    );
    for line in [
        "\"rss.example.com:443\", # line 6\n",
        "\"169.254.0.0/16:*\", # line 13\n",
        "\"API_KEY\", # line 16\n",
        "# line 18: environment.deny HOME: not inherited\n",
        "# line 21\n[[capabilities.filesystem]]\npath = \"work/agent\"\n",
        "name = \"tool\"\n",
        "wasm = \"tool.wasm\"\n",
    ] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
    let (toml, _) = imported("  {}\n");
    assert!(!toml.contains("capabilities"), "{toml}");
}

#[test]
fn a_directory_of_a_policy_is_entered_and_its_neighbour_is_not() {
    block_on(async {
        let alone = Alone::of(under(
            "  storage:\n    allow:\n      - {uri: \"fs://data/**\", access: [read, write]}\n\
             \x20     - {uri: \"fs://shared\", access: [read, write]}\n\
             \x20   deny:\n      - {uri: \"fs://shared/**\", access: [write]}\n\
             \x20     - {uri: \"fs://private/**\", access: [read, write]}\n",
        ))
        .await
        .unwrap();
        let found = Ok(Some(Val::String("found".into())));
        for path in ["/data/x.txt", "/shared/x.txt"] {
            let answer = alone.files("read", &[path]).await;
            assert_eq!(result(&answer).map(Option::<&Val>::cloned), found, "{path}");
        }
        let answer = alone.files("write", &["/data/y.txt", "new"]).await;
        assert_eq!(result(&answer), Ok(None));
        for (function, arguments) in [
            ("write", ["/shared/x.txt", "new"].as_slice()),
            ("read", &["/private/x.txt"]),
            ("read", &["/data/../private/x.txt"]),
            ("names", &["/"]),
        ] {
            let answer = alone.files(function, arguments).await;
            assert!(
                result(&answer).is_err(),
                "{function} {arguments:?}: {answer:?}"
            );
        }
    });
}

#[test]
fn a_host_of_a_policy_is_turned_to_and_a_denied_one_is_not() {
    const NAMES: &[(&str, &str)] = &[
        ("api.example.com", "127.0.0.1"),
        ("www.example.org", "127.0.0.1"),
        ("bad.example.org", "127.0.0.1"),
        ("other.example.com", "127.0.0.1"),
    ];
    block_on(async {
        let port = server(4).port();
        let tree = under(
            "  network:\n    allow:\n      - host: api.example.com\n      - host: \"*.example.org\"\n\
             \x20     - cidr: 127.0.0.0/24\n    deny:\n      - host: bad.example.org\n\
             \x20     - cidr: 127.0.0.64/26\n",
        );
        let (alone, _) = with_names(tree, NAMES).await;
        for host in ["api.example.com", "www.example.org", "127.0.0.1"] {
            let answer = alone.net("connect", &format!("{host}:{port}")).await;
            assert_eq!(answer, Ok("pong".into()), "{host}");
        }
        for host in [
            "bad.example.org",
            "other.example.com",
            "127.0.0.65",
            "127.0.1.1",
        ] {
            let answer = alone.net("connect", &format!("{host}:{port}")).await;
            let denied = answer.as_ref().is_err_and(|why| !why.contains("refused"));
            assert!(denied, "{host}: {answer:?}");
        }
    });
}

#[test]
fn a_variable_of_a_policy_is_seen_and_a_denied_one_is_not() {
    block_on(async {
        let alone = Alone::of(under(
            "  environment:\n    allow: [{key: PATH}, {key: CARGO_MANIFEST_DIR}]\n\
             \x20   deny: [{key: CARGO_MANIFEST_DIR}]\n",
        ))
        .await
        .unwrap();
        let seen = alone
            .call("airssys:prober/process@0.1.0#variables", &[])
            .await
            .unwrap();
        let seen = format!("{seen:?}");
        assert!(seen.contains("\"PATH\""), "{seen}");
        assert!(!seen.contains("CARGO_MANIFEST_DIR"), "{seen}");
        assert_eq!(seen.matches("Tuple").count(), 1, "{seen}");
    });
}

#[test]
fn a_rule_that_nothing_would_enforce_is_told_with_its_line() {
    let allow = |uri: &str, access: &str| {
        format!("  storage:\n    allow:\n      - {{uri: \"{uri}\", access: [{access}]}}\n")
    };
    let host = |host: &str| format!("  network:\n    allow:\n      - host: \"{host}\"\n");
    for (permissions, line, part) in [
        (allow("fs://var/log/*.log", "read"), 6, "picks from it"),
        (allow("fs://work/*/data/**", "read"), 6, "picks from it"),
        (
            allow("fs://w/**", "read") + "      - {uri: \"fs://w/*\", access: [write]}\n",
            7,
            "picks from it",
        ),
        (allow("fs://config/app.yaml", "read"), 6, "a file by itself"),
        (allow("fs://logs/**", "write"), 6, "may be read as well"),
        (allow("fs://a/../b/**", "read"), 6, "`..`"),
        (allow("s3://bucket/**", "read"), 6, "fs://"),
        (allow("fs://", "read"), 6, "fs://"),
        (host("localhost"), 6, "leads to this machine"),
        (
            host("https://api.localhost:8443/"),
            6,
            "leads to this machine",
        ),
        (host("https://example.com/path"), 6, "paths"),
        (host("ftp://example.com"), 6, "schemes"),
        (host("exam*ple.com"), 6, "host name"),
        (host("10.0.0.0/8"), 6, "paths"),
        (
            String::from("  network:\n    allow:\n      - cidr: 10.1.2.3/8\n"),
            6,
            "not a network",
        ),
        (
            String::from("  network:\n    deny:\n      - host: \"https://a.example.com\"\n"),
            6,
            "scheme",
        ),
        (
            String::from("  environment:\n    allow:\n      - key: \"PATH_*\"\n"),
            6,
            "variable",
        ),
        (
            String::from("  resources:\n    cpu: 50.0\n"),
            5,
            "share of a processor",
        ),
        (
            String::from("  resources:\n    limits:\n      cpu: \"500m\"\n"),
            6,
            "share of a processor",
        ),
        (
            String::from("  resources:\n    io: 1000\n"),
            5,
            "operations",
        ),
        (
            String::from("  resources:\n    limits: {memory: 100Ki}\n"),
            5,
            "102400 bytes are fewer",
        ),
        (
            String::from("  resources:\n    limits: {memory: 2Gi}\n"),
            5,
            "2147483648 bytes are more",
        ),
        (
            String::from("  resources:\n    limits: {memory: 5MiB}\n"),
            5,
            "quantity",
        ),
        (
            String::from("  ipc:\n    allow:\n      - uri: \"pipe://x\"\n"),
            6,
            "no pipes",
        ),
        (
            String::from("  runtime:\n    docker: {security: {privileged: true}}\n"),
            5,
            "privileges",
        ),
        (
            String::from("  network:\n    allow:\n      - hots: a.example.com\n"),
            6,
            "unknown key",
        ),
        (String::from("  networks: {}\n"), 4, "unknown key"),
    ] {
        let told = refused(&permissions, &[]);
        let place = format!("tool.policy.yaml:{line}:");
        assert!(
            told.contains(&place) && told.contains(part),
            "{permissions}\n{told}"
        );
        assert!(told.contains("help: "), "{told}");
    }
    let folder = tempfile::tempdir().unwrap();
    for (policy, part) in [
        ("version: \"2.0\"\npermissions: {}", "1.x"),
        ("version: \"1.0\"", "missing"),
    ] {
        let output = import_in(folder.path(), policy, &[]);
        assert_eq!(code(&output), 2);
        assert!(err(&output).contains(part), "{}", err(&output));
    }
}

#[test]
fn all_rules_that_are_refused_are_told_at_once() {
    let (_folder, output) = import(
        "  resources: {cpu: 10, io: 5}\n  ipc:\n    allow: [{uri: \"pipe://x\"}]\n",
        &["--json"],
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let refused = told["error"]["refused"].as_array().unwrap();
    let lines: Vec<_> = refused
        .iter()
        .map(|r| {
            (
                r["line"].as_u64().unwrap(),
                r["skippable"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(lines, [(4, false), (4, false), (6, true)]);
}

#[test]
fn what_is_denied_or_limited_is_never_left_out() {
    for permissions in [
        "  storage:\n    allow: [{uri: \"fs://a/**\", access: [read]}]\n    deny: [{uri: \"fs://a/b/**\", access: [read]}]\n",
        "  storage:\n    allow: [{uri: \"fs://a/**\", access: [read]}]\n    deny: [{uri: \"fs://a/*.key\", access: [read]}]\n",
        "  storage:\n    allow: [{uri: \"fs://a/b/**\", access: [read]}]\n    deny: [{uri: \"fs://*/b/**\", access: [read]}]\n",
        "  network:\n    deny: [{host: \"a*.example.com\"}]\n",
        "  environment:\n    deny: [{key: \"*\"}]\n",
        "  resources: {cpu: 10}\n",
        "  resources: {memory: 0.1}\n",
        "  surprise: {}\n",
    ] {
        let out = ["--skip-refused", "--out", "Component.toml"];
        let (folder, output) = import(permissions, &out);
        assert_eq!(code(&output), 2, "{permissions}\n{}", err(&output));
        assert!(
            !folder.path().join("Component.toml").exists(),
            "{permissions}"
        );
    }
    let permissions = "  storage:\n    allow:\n      - {uri: \"fs://a/*\", access: [read]}\n\
                       \x20     - {uri: \"fs://b/**\", access: [read]}\n";
    let (_folder, output) = import(permissions, &["--skip-refused"]);
    assert_eq!(code(&output), 1);
    assert!(
        err(&output).contains("warning: `storage.allow fs://a/* [read]`"),
        "{}",
        err(&output)
    );
    let config = ComponentConfig::parse("Component.toml", &out(&output)).unwrap();
    let paths: Vec<_> = config
        .capabilities
        .directories
        .iter()
        .map(|d| d.guest.as_str())
        .collect();
    assert_eq!(paths, ["/b"]);
    assert!(out(&output).contains("# line 6: storage.allow fs://a/* [read]: LEFT OUT"));
}

#[test]
fn a_rule_within_a_directory_that_is_granted_as_much_is_enforced_by_it() {
    let (toml, config) = imported(
        "  storage:\n    allow:\n      - {uri: \"fs://work/agent/config.yaml\", access: [read]}\n\
         \x20     - {uri: \"fs://work/agent/**\", access: [read]}\n\
         \x20     - {uri: \"fs://work/agent/out/*\", access: [read]}\n\
         \x20     - {uri: \"fs://work/agent/out/**\", access: [write]}\n",
    );
    let granted: Vec<_> = config
        .capabilities
        .directories
        .iter()
        .map(|d| (d.guest.as_str(), d.access == DirectoryAccess::Read))
        .collect();
    assert_eq!(granted, [("/work/agent", true), ("/work/agent/out", false)]);
    assert!(
        toml.contains("# lines 7, 6\n[[capabilities.filesystem]]\npath = \"work/agent\""),
        "{toml}"
    );
}

#[cfg(unix)]
#[test]
fn a_denied_directory_stays_denied_behind_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("real/secret");
    fs::create_dir_all(&real).unwrap();
    std::os::unix::fs::symlink(folder.path().join("real"), folder.path().join("alias")).unwrap();
    let policy = format!(
        "{HEAD}  storage:\n    allow: [{{uri: \"fs://alias/**\", access: [read]}}]\n    deny: [{{uri: \"fs://{}/**\", access: [read]}}]\n",
        real.display()
    );
    let output = import_in(folder.path(), policy, &["--skip-refused"]);
    assert_eq!(code(&output), 2, "{}", out(&output));
    assert!(
        err(&output).contains("a part cannot be denied"),
        "{}",
        err(&output)
    );
}

#[test]
fn memory_is_the_least_of_its_limits_and_what_raises_the_ceiling_is_told() {
    for (resources, bytes) in [
        ("limits: {memory: 2Mi}", 2_097_152),
        ("limits: {memory: \"1.5M\"}", 1_500_000),
        ("limits: {memory: 600000}", 600_000),
        ("memory: 3", 3_000_000),
        ("{memory: 1, limits: {memory: 2Mi}}", 1_000_000),
        (
            "{memory: 3, limits: {memory: 1Mi, cpu: 1}, cpu: 100}",
            1_048_576,
        ),
    ] {
        let (_, config) = imported(&format!("  resources:\n    {resources}\n"));
        assert_eq!(config.resources.memory.max_bytes(), bytes, "{resources}");
    }
    let (_folder, output) = import("  resources:\n    limits: {memory: 512Mi}\n", &[]);
    assert_eq!(code(&output), 0);
    assert!(
        out(&output).contains("\nmax_bytes = 536870912\n"),
        "{}",
        out(&output)
    );
    let lines = "[policy.memory]\nmax_bytes = 536870912\n";
    assert!(err(&output).contains(lines), "{}", err(&output));
}

#[test]
fn nothing_is_overwritten_and_a_dry_run_writes_nothing() {
    let permissions = format!("{HEAD}  network:\n    allow: [{{host: a.example.com}}]\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Component.toml");
    let dry = import_in(
        folder.path(),
        &permissions,
        &["--out", "Component.toml", "--dry-run"],
    );
    let told =
        "5: network.allow a.example.com: capabilities.network.outbound \"a.example.com:*\"\n";
    assert_eq!((code(&dry), out(&dry).as_str()), (0, told));
    assert!(!file.exists());
    fs::write(&file, "mine").unwrap();
    let kept = import_in(folder.path(), &permissions, &["--out", "Component.toml"]);
    assert_eq!(code(&kept), 2);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let forced = import_in(
        folder.path(),
        &permissions,
        &["--out", "Component.toml", "--force"],
    );
    assert_eq!(code(&forced), 0, "{}", err(&forced));
    ComponentConfig::load(&file).unwrap();
}

#[test]
fn what_the_loader_would_refuse_is_not_written() {
    let keys: Vec<String> = (0..65).map(|n| format!("{{key: K{n}}}")).collect();
    let permissions = format!("  environment:\n    allow: [{}]\n", keys.join(", "));
    let (folder, output) = import(&permissions, &["--out", "Component.toml"]);
    assert_eq!(code(&output), 2);
    let told = err(&output);
    assert!(told.contains("capabilities.environment.inherit"), "{told}");
    assert!(!folder.path().join("Component.toml").exists());
}

#[test]
fn a_component_is_named_after_its_policy_or_as_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join("Fetch_It");
    fs::create_dir(&tool).unwrap();
    let policy = format!("{HEAD}  {{}}\n");
    for (file, arguments, name) in [
        ("web.policy.yaml", [].as_slice(), "web"),
        ("policy.yaml", &[], "fetch-it"),
        ("policy.yaml", &["--name", "other"], "other"),
    ] {
        fs::write(tool.join(file), &policy).unwrap();
        let path = tool.join(file).display().to_string();
        let output = airssys(&[&["import-policy", &path], arguments].concat());
        let config = ComponentConfig::parse("Component.toml", &out(&output)).unwrap();
        assert_eq!(config.name.as_str(), name);
    }
    let output = import_in(&tool, &policy, &["--name", "Not a name"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("--name NAME"), "{}", err(&output));
}

#[test]
fn what_a_policy_says_cannot_leave_its_comment_or_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "version: \"1.0\"\ndescription: \"x\\n[capabilities.keyvalue]\\nmax_bytes = 4096\"\n\
                  permissions:\n  ipc:\n    deny: [{uri: \"pipe://\\r\\n[capabilities.keyvalue]\\nmax_bytes = 4096\"}]\n";
    let output = import_in(folder.path(), policy, &["--out", "Component.toml"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let config = ComponentConfig::load(folder.path().join("Component.toml")).unwrap();
    assert_eq!(
        config.capabilities,
        airssys::config::CapabilitiesConfig::default()
    );
    let quotes = "  storage:\n    allow: [{uri: \"fs://a\\\"b/**\", access: [read]}]\n";
    assert!(refused(quotes, &[]).contains("quotes"));
}

#[test]
fn yaml_that_grows_is_refused() {
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
    for (policy, part) in [
        (String::from(bomb), "aliases are not followed"),
        (String::from("version: *x"), ""),
        (format!("{HEAD}  network: !!map {{}}\n"), "tags"),
        (
            format!("{HEAD}  {{}}\n---\n{HEAD}  {{}}\n"),
            "a second document",
        ),
        (
            format!("{HEAD}  network: {{}}\n  network: {{}}\n"),
            "there twice",
        ),
        ("[".repeat(100_000), ""),
        ("- ".repeat(100_000), "nested more than"),
        ("- x\n".repeat(50_000), "more than 20000 values"),
        (String::from("? [a]\n: b\n"), "a key that is no text"),
        (String::new(), "nothing in it"),
        ("#".repeat(1_048_577), "at most 1048576 bytes"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = import_in(folder.path(), &policy, &[]);
        let told = err(&output);
        assert_eq!(code(&output), 2, "{part}: {told}");
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_damaged_policy_is_refused_without_a_panic() {
    let whole = format!(
        "{HEAD}  storage:\n    allow:\n    - uri: \"fs://a/**\"\n      access: [\"read\"]\n  resources:\n    limits: {{cpu: 1, memory: 1.5Mi}}\n  environment:\n    allow: [{{key: \"A\"}}]\n"
    );
    let bytes = proptest::collection::vec((0..whole.len(), any::<u8>()), 1..6);
    let mut runner = runner();
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..40 {
        let mut damaged = whole.clone().into_bytes();
        for (at, byte) in bytes.new_tree(&mut runner).unwrap().current() {
            damaged[at] = byte;
        }
        let output = import_in(folder.path(), &damaged, &[]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(0 | 2)),
            "{damaged:?}\n{told}"
        );
    }
    let none = airssys(&[
        "import-policy",
        folder.path().join("none.yaml").to_str().unwrap(),
    ]);
    assert_eq!(code(&none), 2);
}

fn runner() -> TestRunner {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(Config::default(), rng)
}

/// A policy, as data and as a reader takes it.
#[derive(Debug, Clone)]
struct Said {
    allow: Vec<(String, Vec<&'static str>)>,
    deny: Vec<(String, Vec<&'static str>)>,
    hosts: [Vec<&'static str>; 2],
    keys: [Vec<&'static str>; 2],
}

const HOSTS: [&str; 8] = [
    "example.com",
    "a.example.com",
    "*.example.com",
    "*",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "8.8.8.0/24",
    "[fd00::1]",
];

fn policies() -> impl Strategy<Value = Said> {
    let part = select(vec!["a", "b"]);
    let path = proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    let form = prop_oneof![4 => Just("/**"), 2 => Just(""), 1 => Just("/*")];
    let access = prop_oneof![4 => Just(vec!["read", "write"]), 4 => Just(vec!["read"]), 1 => Just(vec!["write"])];
    let rule = (path, form, access)
        .prop_map(|(path, form, access)| (format!("fs://{path}{form}"), access));
    let rules = |most| proptest::collection::vec(rule.clone(), 0..most);
    let hosts = || {
        [
            subsequence(HOSTS.to_vec(), 0..6),
            subsequence(HOSTS.to_vec(), 0..3),
        ]
    };
    let keys = || {
        [
            subsequence(vec!["A", "B", "C"], 0..4),
            subsequence(vec!["A", "B", "C"], 0..2),
        ]
    };
    (rules(5), rules(2), hosts(), keys()).prop_map(|(allow, deny, hosts, keys)| Said {
        allow,
        deny,
        hosts,
        keys,
    })
}

impl Said {
    fn yaml(&self) -> String {
        let rules = |rules: &[(String, Vec<&str>)]| {
            let rules = rules
                .iter()
                .map(|(uri, access)| format!("{{uri: \"{uri}\", access: {access:?}}}"));
            rules.collect::<Vec<_>>().join(", ")
        };
        let hosts = |hosts: &[&str]| {
            let key = |host: &str| if host.contains('/') { "cidr" } else { "host" };
            let hosts = hosts
                .iter()
                .map(|host| format!("{{{}: \"{host}\"}}", key(host)));
            hosts.collect::<Vec<_>>().join(", ")
        };
        let keys = |keys: &[&str]| {
            let keys = keys.iter().map(|key| format!("{{key: {key}}}"));
            keys.collect::<Vec<_>>().join(", ")
        };
        format!(
            "{HEAD}  storage: {{allow: [{}], deny: [{}]}}\n  network: {{allow: [{}], deny: [{}]}}\n  environment: {{allow: [{}], deny: [{}]}}\n",
            rules(&self.allow),
            rules(&self.deny),
            hosts(&self.hosts[0]),
            hosts(&self.hosts[1]),
            keys(&self.keys[0]),
            keys(&self.keys[1]),
        )
    }

    /// Whether the rules, read one by one, let a file be read or written.
    fn file(&self, path: &str, access: &str) -> bool {
        let names = |(uri, accesses): &(String, Vec<&str>)| {
            let uri = uri.strip_prefix("fs://").unwrap();
            let below = |dir: &str| {
                path.strip_prefix(dir)
                    .and_then(|rest| rest.strip_prefix('/'))
            };
            accesses.contains(&access)
                && match uri.strip_suffix("/*") {
                    Some(dir) => below(dir).is_some_and(|rest| !rest.contains('/')),
                    None => below(uri.strip_suffix("/**").unwrap_or(uri)).is_some(),
                }
        };
        self.allow.iter().any(names) && !self.deny.iter().any(names)
    }

    fn host(&self, host: &str) -> bool {
        let names = |rule: &&str| match *rule {
            "*" => true,
            "10.0.0.0/8" => host.starts_with("10."),
            "10.1.0.0/16" => host.starts_with("10.1."),
            "8.8.8.0/24" => host.starts_with("8.8.8."),
            rule => match rule.strip_prefix('*') {
                Some(end) => host.ends_with(end),
                None => host == rule,
            },
        };
        self.hosts[0].iter().any(names) && !self.hosts[1].iter().any(names)
    }
}

fn host_granted(config: &ComponentConfig, host: &str) -> bool {
    let network = &config.capabilities.network;
    match format!("{host}:80").parse::<SocketAddr>() {
        Ok(address) => network
            .address(None, "connect", address, &Resolved::default())
            .is_ok(),
        Err(_) => network
            .name(None, HostName::new(host).unwrap(), Some(80))
            .is_ok(),
    }
}

fn file_granted(config: &ComponentConfig, path: &str, write: bool) -> bool {
    config.capabilities.directories.iter().any(|directory| {
        let below = format!("/{path}").starts_with(&format!("{}/", directory.guest));
        below && (!write || directory.access != DirectoryAccess::Read)
    })
}

/// Policies that are made up; `AIRSSYS_TEST_POLICIES` asks for more of them.
#[test]
fn what_a_policy_grants_is_what_its_rules_say() {
    let asked = std::env::var("AIRSSYS_TEST_POLICIES").ok();
    let count: usize = asked.map_or(150, |count| count.parse().unwrap());
    let (mut runner, policies, folder) = (runner(), policies(), tempfile::tempdir().unwrap());
    let (mut whole, mut partly, mut granted) = (0, 0, 0);
    for _ in 0..count {
        let said = policies.new_tree(&mut runner).unwrap().current();
        let yaml = said.yaml();
        let output = import_in(folder.path(), &yaml, &["--skip-refused"]);
        let exact = match code(&output) {
            0 => true,
            1 => false,
            _ => continue,
        };
        whole += usize::from(exact);
        partly += usize::from(!exact);
        let toml = out(&output);
        let config = ComponentConfig::parse("Component.toml", &toml).unwrap();
        let mut judge = |what: String, given: bool, said: bool, same: bool| {
            assert!(!given || said, "{what} is granted\n{yaml}\n{toml}");
            assert!(
                given || !said || !same,
                "{what} is not granted\n{yaml}\n{toml}"
            );
            granted += usize::from(given);
        };
        for path in [
            "f",
            "a/f",
            "b/f",
            "a/a/f",
            "a/b/f",
            "b/a/f",
            "b/b/f",
            "a/a/a/f",
            "a/b/a/f",
            "b/a/b/f",
            "a/b/c/d/f",
        ] {
            for (access, write) in [("read", false), ("write", true)] {
                let given = file_granted(&config, path, write);
                judge(
                    format!("{access} {path}"),
                    given,
                    said.file(path, access),
                    exact,
                );
            }
        }
        for host in [
            "example.com",
            "a.example.com",
            "b.a.example.com",
            "example.org",
            "8.8.8.8",
            "8.8.4.4",
            "10.1.0.1",
            "10.2.0.1",
            "[fd00::1]",
            "[fd00::2]",
            "192.168.0.1",
        ] {
            // `*` leads to public addresses only.
            let public = !host.starts_with(['1', '[']);
            judge(
                String::from(host),
                host_granted(&config, host),
                said.host(host),
                exact && public,
            );
        }
        let variables = &config.capabilities.environment.variables;
        for key in ["A", "B", "C"] {
            let given = variables
                .iter()
                .any(|variable| variable.name.as_str() == key);
            let said = said.keys[0].contains(&key) && !said.keys[1].contains(&key);
            judge(String::from(key), given, said, true);
        }
    }
    assert!(
        whole > count / 10 && partly > count / 20 && granted > count,
        "{whole} {partly} {granted}"
    );
}
