//! `airssys mcp`, driven by the official clients in Python and TypeScript.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use airssys::mcp::{HttpOptions, Server};
use airssys::{ChildSpec, ComponentConfig, ComponentSpec};
use airssys_guests::{CRASHER, NOTEBOOK};
use serde_json::{Value, json};

use crate::mcp_test::{Running, TOKEN, tree};
use crate::support::{Tree, block_on, machine_to_itself, shared_machine};

/// Set where the clients have to be there, so that no test is left out unseen.
const CLIENTS: &str = "AIRSSYS_CLIENTS";

/// The folder that `tests/mcp/install` fills; `None` where it has not, and need not have.
fn clients() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_airssys"));
    let folder = program.ancestors().nth(2).unwrap().join("mcp-clients");
    if folder.join("python").is_dir() && folder.join("node_modules").is_dir() {
        return Some(folder);
    }
    let missing = "no clients: `bash tests/mcp/install` installs them";
    assert!(std::env::var_os(CLIENTS).is_none(), "{missing}");
    println!("left out: {missing}");
    None
}

fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp");
    path.join(name).display().to_string()
}

fn python(folder: &Path, name: &str, arguments: &[String]) -> Command {
    let mut command = Command::new(folder.join("python/bin/python"));
    // Leaves nothing behind in the repository.
    command.args(["-B", &script(name)]).args(arguments);
    command
}

fn typescript(folder: &Path, name: &str, arguments: &[String]) -> Command {
    let mut command = Command::new("node");
    command.arg(script(name)).arg(folder).args(arguments);
    command
}

/// The last line of what a script says, as JSON.
fn facts(mut command: Command) -> Value {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (told(&output.stdout), told(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let last = out.lines().last().unwrap_or_else(|| panic!("{err}"));
    serde_json::from_str(last).unwrap()
}

/// The JSON in the only text of a result that is an error.
fn error(result: &Value) -> Value {
    assert_eq!(result["error"], true, "{result}");
    assert_eq!(result["texts"].as_array().unwrap().len(), 1, "{result}");
    serde_json::from_str(result["texts"][0].as_str().unwrap()).unwrap()
}

/// What holds of a tour whatever client made it.
fn check(facts: &Value, protocol: &str) {
    assert_eq!(facts["protocol"], protocol);
    assert_eq!(facts["server"], "airssys");
    let answer =
        json!({ "error": false, "structured": { "result": 3 }, "texts": ["{\"result\":3}"] });
    assert_eq!(facts["answer"], answer);
    assert_eq!(error(&facts["guest_error"]), "division-by-zero");
    let trap = &error(&facts["trap"])["error"];
    assert_eq!(
        (
            &trap["kind"],
            &trap["component"],
            &trap["replaced"],
            &trap["retry"]
        ),
        (
            &json!("trap"),
            &json!("crasher"),
            &json!(true),
            &json!(true)
        )
    );
    // By a fresh instance: it counts from one.
    assert_eq!(facts["after_trap"]["structured"], json!({ "result": 1 }));
    let progress = facts["progress"].as_array().unwrap();
    assert!(progress.len() >= 2, "{progress:?}");
    let figures: Vec<f64> = progress
        .iter()
        .map(|word| word[0].as_f64().unwrap())
        .collect();
    assert!(figures.is_sorted_by(|a, b| a < b), "{figures:?}");
    assert_eq!(facts["parked"]["error"], false);
    assert_eq!(facts["given_up"], true);
    // The guest that nobody waits for is ended: it would go on for thirty seconds.
    assert_eq!(
        facts["after_giving_up"]["structured"],
        json!({ "result": 1 })
    );
    assert!(facts["seconds_until_then"].as_f64().unwrap() < 10.0);
}

const GENERATIONS: [(&str, &str); 2] = [("legacy", "2025-11-25"), ("auto", "2026-07-28")];

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Runs a tour over both transports in both generations.
fn tours(tour: impl Fn(&[String]) -> Command, check: impl Fn(&Value, &str)) {
    let _load = shared_machine();
    let tree = tree();
    let file = tree.write();
    let server = Running::start(&file, &["--progress-ms", "100"]);
    for (mode, protocol) in GENERATIONS {
        let over_http = texts(&[mode, "http", &server.url(), TOKEN]);
        check(&facts(tour(&over_http)), protocol);
        let airssys = env!("CARGO_BIN_EXE_airssys");
        let file = file.display().to_string();
        let arguments = [mode, "stdio", airssys, "mcp", &file, "--progress-ms", "100"];
        check(&facts(tour(&texts(&arguments))), protocol);
    }
}

#[test]
fn the_python_client_is_served_in_both_generations_over_both_transports() {
    let Some(folder) = clients() else { return };
    tours(
        |arguments| python(&folder, "tour.py", arguments),
        |facts, protocol| {
            check(facts, protocol);
            let out_of_memory = &error(&facts["out_of_memory"])["error"];
            assert_eq!(out_of_memory["kind"], "out-of-memory");
            assert_eq!(out_of_memory["limit_bytes"], 1_048_576);
            assert!(out_of_memory["requested_bytes"].as_u64().unwrap() > 0);
            assert_eq!(out_of_memory["replaced"], true);
            let wrong_type = &error(&facts["wrong_type"])["error"];
            assert_eq!(wrong_type["kind"], "arguments");
            assert!(wrong_type["path"].as_str().unwrap().contains("values"));
            assert_eq!(facts["nothing"]["texts"], json!(["ok"]));
            assert_eq!(facts["unknown"], -32602);
        },
    );
}

#[test]
fn the_typescript_client_is_served_in_both_generations_over_both_transports() {
    let Some(folder) = clients() else { return };
    tours(
        |arguments| typescript(&folder, "tour.mjs", arguments),
        check,
    );
}

#[test]
fn a_thousand_calls_at_once_are_answered_while_tools_crash_under_them() {
    let Some(folder) = clients() else { return };
    let _load = machine_to_itself();
    let tree = tree();
    let file = tree.write();
    let server = Running::start(&file, &[]);
    let over_http = texts(&["auto", "http", &server.url(), TOKEN]);
    let file = file.display().to_string();
    let airssys = env!("CARGO_BIN_EXE_airssys");
    let over_stdio = texts(&["legacy", "stdio", airssys, "mcp", &file]);
    for arguments in [over_stdio, over_http] {
        let facts = facts(python(&folder, "storm.py", &arguments));
        assert_eq!(
            (&facts["right"], &facts["wrong"]),
            (&json!(800), &json!(0)),
            "{facts}"
        );
        assert_eq!(facts["lost"], 0, "{facts}");
        let kinds = facts["kinds"].as_object().unwrap();
        let told: u64 = kinds.values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(told, 200, "{facts}");
        assert!(kinds["out-of-memory"].as_u64().unwrap() > 0, "{facts}");
    }
}

#[test]
fn a_change_of_the_tree_is_told_to_clients_of_both_generations() {
    let Some(folder) = clients() else { return };
    let _load = shared_machine();
    let tree = Tree::new().guest("crasher", CRASHER);
    let spare = Tree::new().guest("notebook", NOTEBOOK);
    let manifest = spare.path().join("notebook/Component.toml");
    block_on(async {
        let host = Arc::new(tree.start().await.unwrap());
        let server = Server::new(Arc::clone(&host));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let until = async { drop(stopped.await) };
        let serving =
            tokio::spawn(async move { server.http(listener, HttpOptions::default(), until).await });
        for (mode, _) in GENERATIONS {
            let arguments = texts(&[mode, "http", &url, "none"]);
            let mut client = python(&folder, "changes.py", &arguments);
            let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
            let out = BufReader::new(client.stdout.take().unwrap());
            let (tell, mut told) = tokio::sync::mpsc::channel(8);
            std::thread::spawn(move || {
                for line in out.lines() {
                    tell.blocking_send(line.unwrap()).unwrap();
                }
            });
            assert_eq!(told.recv().await.as_deref(), Some("\"ready\""));
            // A restart changes no tool, and is not told: the change below is the first one.
            let crasher = host.component("crasher").unwrap();
            crasher.call("trap", &[]).await.unwrap_err();
            let spec = ChildSpec::component(ComponentConfig::load(&manifest).unwrap());
            let tools = host.supervisor("tools").unwrap();
            tools.start_child(spec).await.unwrap();
            let change: Value = serde_json::from_str(&told.recv().await.unwrap()).unwrap();
            let added = ["append", "clear", "count", "get"].map(|name| format!("notebook_{name}"));
            assert_eq!(change, json!([added, []]));
            assert!(client.wait().unwrap().success());
            tools.terminate_child("notebook").await.unwrap();
            tools.delete_child("notebook").await.unwrap();
        }
        stop.send(()).unwrap();
        serving.await.unwrap().unwrap();
        host.shutdown().await;
    });
}
