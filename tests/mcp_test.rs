//! `airssys mcp`, message by message, and by bytes that no client would send.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use airssys::mcp::{MAX_OPEN_REQUESTS, ServeError, Server, ServerOptions};
use airssys::{ComponentConfig, Host};
use airssys_guests::{CALCULATOR, CRASHER, LEAKY, NOTEBOOK, PROBER, SPINNER};
use airssys_osl::SandboxKernel;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use crate::cli_test::{airssys, code, err, out, program};
use crate::messaging_test::couriers;
use crate::support::{Tree, block_on, shared_machine};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub const TOKEN: &str = "a-token-of-the-tests-alone";

/// The five guests, with time enough for what is slow.
pub fn tree() -> Tree {
    [CALCULATOR, NOTEBOOK, CRASHER, LEAKY, SPINNER]
        .into_iter()
        .fold(Tree::new(), |tree, guest| tree.guest(guest.name, guest))
}

/// A server over HTTP, and where it listens.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
    /// The rest of standard error, kept open.
    _err: BufReader<std::process::ChildStderr>,
}

impl Running {
    pub fn start(file: &Path, arguments: &[&str]) -> Self {
        let file = file.display().to_string();
        let mut child = program(&["mcp", &file, "--http", "127.0.0.1:0"])
            .args(arguments)
            .env("AIRSSYS_MCP_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("listening at http://") {
            line.clear();
            assert_ne!(err.read_line(&mut line).unwrap(), 0, "it does not listen");
        }
        let address = line.trim_start_matches("listening at http://");
        Self {
            address: address.split('/').next().unwrap().parse().unwrap(),
            child,
            _err: err,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A server over standard input and output, a message a line.
struct Wire {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Wire {
    fn open(file: &Path, arguments: &[&str]) -> Self {
        let file = file.display().to_string();
        let mut child = program(&["mcp", &file])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = sync_channel(64);
        std::thread::spawn(move || {
            for line in out.lines() {
                if tell.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Self {
            child,
            stdin,
            lines,
        }
    }

    /// One that a client of 2025 has begun to talk to.
    fn begun(file: &Path) -> Self {
        let mut wire = Self::open(file, &[]);
        wire.begin();
        wire
    }

    fn begin(&mut self) {
        self.say(&initialize("2025-11-25").to_string());
        let answer = self.hear();
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
        self.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    }

    fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).unwrap();
        stdin.write_all(b"\n").unwrap();
    }

    /// The next line, which has to be a message.
    fn hear(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).unwrap();
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    }

    fn call(&mut self, id: u32, tool: &str, arguments: Value) -> Value {
        let params = json!({ "name": tool, "arguments": arguments });
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        self.say(&call.to_string());
        let answer = self.hear();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Closes standard input, and returns the exit code.
    fn close(mut self) -> i32 {
        drop(self.stdin.take());
        ends(&mut self.child)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn initialize(version: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": version,
        "capabilities": {},
        "clientInfo": { "name": "tests", "version": "0" },
    }})
}

fn ends(child: &mut Child) -> i32 {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap();
        }
        assert!(began.elapsed() < PATIENCE, "it does not end");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn what_a_guest_prints_never_reaches_the_protocols_stream() {
    let _load = shared_machine();
    let tree = Tree::new()
        .guest("prober", PROBER)
        .guest("crasher", CRASHER);
    let mut wire = Wire::begun(&tree.write());
    let message = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    for (id, function) in (1..).zip(["print", "print-error"]) {
        let text = format!("{message}\n{message}\n");
        let answer = wire.call(id, &format!("prober_{function}"), json!({ "text": text }));
        assert_eq!(answer["result"]["isError"], false, "{answer}");
    }
    // A panic prints its message too.
    let answer = wire.call(3, "crasher_panic", json!({ "message": message }));
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    let lines = std::mem::replace(&mut wire.lines, sync_channel(1).1);
    assert_eq!(wire.close(), 0);
    assert_eq!(lines.iter().count(), 0);
}

/// A call with a token for word of its progress: what is told before the answer, and that.
fn watched_call(wire: &mut Wire, tool: &str, arguments: Value) -> (Vec<Value>, Value) {
    let meta = json!({ "progressToken": "token" });
    let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    wire.say(&call.to_string());
    let mut told = Vec::new();
    loop {
        let message = wire.hear();
        if message["id"] == 1 {
            return (told, message["result"].clone());
        }
        assert_eq!(message["method"], "notifications/progress", "{message}");
        assert_eq!(message["params"]["progressToken"], "token", "{message}");
        told.push(message["params"].clone());
    }
}

#[test]
fn what_a_guest_says_while_a_call_runs_reaches_who_waits_for_it() {
    let _load = shared_machine();
    let mut wire = Wire::begun(&couriers(&[("a", "")]).write());
    let (told, result) = watched_call(&mut wire, "a_labour", json!({ "steps": 3, "pause-ms": 0 }));
    assert_eq!(result["structuredContent"]["result"], 3, "{result}");
    let messages: Vec<&str> = told
        .iter()
        .map(|word| word["message"].as_str().unwrap())
        .collect();
    let expected = (1..=3).flat_map(|n| {
        [
            format!("step {n}"),
            format!("logged {n}"),
            format!("printed {n}"),
        ]
    });
    assert_eq!(messages, expected.collect::<Vec<_>>());
    assert_eq!(
        (&told[0]["progress"], &told[0]["total"]),
        (&json!(1.0), &json!(3.0))
    );
    let figures: Vec<f64> = told
        .iter()
        .map(|word| word["progress"].as_f64().unwrap())
        .collect();
    assert!(figures.is_sorted_by(|a, b| a < b), "{figures:?}");
}

#[test]
fn what_a_call_was_denied_stands_in_its_result_with_the_grant_that_is_missing() {
    let _load = shared_machine();
    let tree = Tree::new()
        .guest("prober", PROBER)
        .guest("calculator", CALCULATOR);
    let file = tree.write();
    let mut wire = Wire::begun(&file);
    let secret = tree.path().join("secret");
    fs::write(&secret, "what the file says").unwrap();
    let address = "127.0.0.1:9";
    let answer = wire.call(1, "prober_connect", json!({ "address": address }));
    let result = &answer["result"];
    assert_eq!(result["isError"], true, "{answer}");
    let denied = &result["_meta"]["airssys/denied"];
    let content = result["content"].as_array().unwrap();
    let told: Value = serde_json::from_str(content[1]["text"].as_str().unwrap()).unwrap();
    assert_eq!(&told, denied);
    let denial = &denied["denied"][0];
    assert_eq!(
        (&denial["component"], &denial["capability"]),
        (&json!("prober"), &json!("network"))
    );
    let missing = denial["missing_toml"].as_str().unwrap();
    assert!(missing.starts_with("[capabilities.network]\n"), "{missing}");
    // The denials of one call are not told with the next.
    let answer = wire.call(2, "prober_random", json!({}));
    assert!(answer["result"].get("_meta").is_none(), "{answer}");
    // What was told is all that was missing.
    assert_eq!(wire.close(), 0);
    let manifest = tree.path().join("prober/Component.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("{text}\n{missing}\n")).unwrap();
    let mut wire = Wire::begun(&file);
    let answer = wire.call(1, "prober_connect", json!({ "address": address }));
    assert!(answer["result"].get("_meta").is_none(), "{answer}");
}

#[test]
fn a_call_ends_by_the_deadline_it_is_given() {
    let _load = shared_machine();
    let tree = Tree::new().guest("spinner", SPINNER);
    let mut wire = Wire::open(&tree.write(), &["--deadline-seconds", "1"]);
    wire.begin();
    let began = Instant::now();
    let answer = wire.call(1, "spinner_park-ms", json!({ "milliseconds": 20_000 }));
    assert!(began.elapsed() < Duration::from_secs(10));
    let told = answer["result"]["content"][0]["text"].as_str().unwrap();
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!(told["error"]["kind"], "expired", "{told}");
}

#[test]
fn what_its_author_says_of_a_function_describes_the_tool() {
    let _load = shared_machine();
    let mut wire = Wire::begun(&tree().write());
    wire.say(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let list = wire.hear();
    let tools = list["result"]["tools"].as_array().unwrap();
    let tool = |name: &str| tools.iter().find(|tool| tool["name"] == name).unwrap();
    let count = tool("notebook_count");
    assert_eq!(count["description"], "How many notes there are.");
    let hints = json!({ "title": "Count notes", "readOnlyHint": true });
    assert_eq!(count["annotations"], hints);
    let hints = json!({ "destructiveHint": true, "idempotentHint": true });
    assert_eq!(tool("notebook_clear")["annotations"], hints);
    assert!(tool("notebook_get").get("annotations").is_none());
}

#[test]
fn what_is_no_message_ends_nothing() {
    let _load = shared_machine();
    let tree = Tree::new().guest("calculator", CALCULATOR);
    let mut wire = Wire::open(&tree.write(), &[]);
    // Before the first request too.
    for line in [
        "this is no JSON",
        "\u{0}\u{1}\u{2}",
        "[]",
        "null",
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
    ] {
        wire.say(line);
    }
    wire.say(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    while wire.hear()["id"] != 1 {}
    wire.begin();
    for line in [
        "{",
        r#"{"jsonrpc":"1.0","id":2,"method":"tools/list"}"#,
        r#"[{"jsonrpc":"2.0","id":3,"method":"tools/list"}]"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":7}}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"tools/grow"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}"#,
        &format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        wire.say(line);
    }
    wire.say(r#"{"jsonrpc":"2.0","id":6,"method":"tools/list"}"#);
    // In whatever order: requests are worked on beside one another.
    let (mut refused, mut listed) = (0, false);
    while refused < 4 || !listed {
        let answer = wire.hear();
        if answer["id"] == 6 {
            assert_eq!(answer["result"]["tools"].as_array().unwrap().len(), 5);
            listed = true;
        } else {
            assert!(answer["error"]["code"].is_i64(), "{answer}");
            refused += 1;
        }
    }
    assert_eq!(wire.close(), 0);
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let _load = shared_machine();
    let tree = Tree::new().guest("calculator", CALCULATOR);
    let mut wire = Wire::begun(&tree.write());
    let resident = |wire: &Wire| {
        let status = fs::read_to_string(format!("/proc/{}/status", wire.child.id())).unwrap();
        let peak = status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap();
        peak.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    };
    let before = resident(&wire);
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..100 {
        wire.stdin.as_mut().unwrap().write_all(&piece).unwrap();
    }
    wire.say("");
    let answer = wire.call(
        1,
        "calculator_add",
        json!({ "a": 2, "b": 3, "x": 2, "y": 3 }),
    );
    assert!(answer["result"].is_object(), "{answer}");
    let grown = resident(&wire) - before;
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes");
}

#[test]
fn an_id_that_is_at_work_is_not_taken_twice() {
    let _load = shared_machine();
    let tree = Tree::new().guest("spinner", SPINNER);
    let mut wire = Wire::begun(&tree.write());
    let call = |tool: &str, arguments: Value| {
        let params = json!({ "name": tool, "arguments": arguments });
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string()
    };
    wire.say(&call("spinner_park-ms", json!({ "milliseconds": 300 })));
    wire.say(&call("spinner_ping", json!({})));
    let answer = wire.hear();
    assert_eq!(answer["result"]["content"][0]["text"], "ok", "{answer}");
    // The other was dropped: this is the first ping.
    let answer = wire.call(1, "spinner_ping", json!({}));
    assert_eq!(
        answer["result"]["structuredContent"]["result"], 1,
        "{answer}"
    );
}

#[test]
fn the_tools_are_the_functions_of_the_components_and_nothing_else_is_offered() {
    let _load = shared_machine();
    let tree = tree();
    let file = tree.write();
    let mut wire = Wire::open(&file, &[]);
    wire.say(&initialize("2025-11-25").to_string());
    let begun = wire.hear();
    let capabilities = begun["result"]["capabilities"].as_object().unwrap();
    assert_eq!(capabilities.keys().collect::<Vec<_>>(), ["tools"]);
    wire.say(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let list = wire.hear();
    let mut found: Vec<String> = Vec::new();
    for tool in list["result"]["tools"].as_array().unwrap() {
        let meta = &tool["_meta"];
        let (component, function) = (&meta["airssys/component"], &meta["airssys/function"]);
        found.push(format!(
            "{} {}",
            component.as_str().unwrap(),
            function.as_str().unwrap()
        ));
        assert_eq!(tool["inputSchema"]["type"], "object");
    }
    let mut expected = Vec::new();
    block_on(async {
        let host = Host::from_config(&file).await.unwrap();
        for component in host.components() {
            for function in component.exports().unwrap().functions() {
                expected.push(format!("{} {}", component.name(), function.name));
            }
        }
        host.shutdown().await;
    });
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for (id, method) in (2..).zip([
        "resources/read",
        "prompts/get",
        "logging/setLevel",
        "config/set",
    ]) {
        let params = json!({ "uri": "x:y", "name": "x", "level": "debug" });
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        wire.say(&request.to_string());
        assert_eq!(wire.hear()["error"]["code"], -32601, "{method}");
    }
}

#[test]
fn many_tools_come_in_pages() {
    let _load = shared_machine();
    let names: Vec<String> = (0..1200).map(|number| format!("f{number:04}")).collect();
    let exports: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let functions = names
        .iter()
        .map(|name| format!("(func (export \"{name}\"))"));
    let core: String = functions.collect();
    let text = crate::support::component(&core, false, &exports);
    let tree = Tree::new().text("many", &text, 1_048_576, "");
    let mut wire = Wire::begun(&tree.write());
    let (mut found, mut sizes, mut cursor) = (Vec::new(), Vec::new(), None::<String>);
    for id in 1.. {
        let params = cursor.map_or(json!({}), |cursor| json!({ "cursor": cursor }));
        let list = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list", "params": params });
        wire.say(&list.to_string());
        let page = wire.hear();
        let tools = page["result"]["tools"].as_array().unwrap();
        sizes.push(tools.len());
        found.extend(
            tools
                .iter()
                .map(|tool| tool["name"].as_str().unwrap().to_owned()),
        );
        cursor = page["result"]["nextCursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [500, 500, 200]);
    let expected: Vec<String> = names.iter().map(|name| format!("many_{name}")).collect();
    assert_eq!(found, expected);
}

/// A client of a server in this process.
struct Embedded {
    lines: tokio::io::Lines<tokio::io::BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
    serving: tokio::task::JoinHandle<Result<(), ServeError>>,
}

impl Embedded {
    async fn serve(server: &Server) -> Self {
        let server = server.clone();
        let (ours, theirs) = tokio::io::duplex(65_536);
        let (read, write) = tokio::io::split(theirs);
        let serving =
            tokio::spawn(async move { server.serve(read, write, std::future::pending()).await });
        let (read, write) = tokio::io::split(ours);
        let lines = tokio::io::BufReader::new(read).lines();
        let mut client = Self {
            lines,
            write,
            serving,
        };
        client.say(&initialize("2025-11-25")).await;
        client.hear().await;
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        client.say(&initialized).await;
        client
    }

    async fn say(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.write.write_all(line.as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let line = self.lines.next_line().await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn end(self) {
        drop((self.lines, self.write));
        self.serving.await.unwrap().unwrap();
    }
}

#[test]
fn a_server_with_all_it_can_do_says_so_at_once() {
    let _load = shared_machine();
    let tree = Tree::new().guest("spinner", SPINNER);
    block_on(async {
        let host = Arc::new(tree.start().await.unwrap());
        let options = ServerOptions {
            max_calls: 1,
            ..ServerOptions::default()
        };
        let server = Server::with_options(Arc::clone(&host), options);
        let mut client = Embedded::serve(&server).await;
        for id in [1, 2] {
            let params = json!({ "name": "spinner_park-ms", "arguments": { "milliseconds": 300 } });
            client
                .say(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }))
                .await;
        }
        // The one that found no room comes first.
        let busy = client.hear().await;
        let busy = busy["result"]["content"][0]["text"].as_str().unwrap();
        let busy: Value = serde_json::from_str(busy).unwrap();
        assert_eq!(
            (&busy["error"]["kind"], &busy["error"]["retry"]),
            (&json!("busy"), &json!(true))
        );
        assert_eq!(client.hear().await["result"]["content"][0]["text"], "ok");
        client.end().await;
        host.shutdown().await;
    });
}

#[test]
fn the_end_of_standard_input_and_ctrl_c_end_it_in_order() {
    let _load = shared_machine();
    let tree = tree();
    let file = tree.write();
    assert_eq!(Wire::open(&file, &[]).close(), 0);
    assert_eq!(Wire::begun(&file).close(), 0);
    // What was asked before is answered.
    let mut wire = Wire::begun(&file);
    wire.say(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"spinner_park-ms","arguments":{"milliseconds":300}}}"#,
    );
    let lines = std::mem::replace(&mut wire.lines, sync_channel(1).1);
    assert_eq!(wire.close(), 0);
    let answers: Vec<String> = lines.iter().collect();
    assert!(answers[0].contains("\"ok\""), "{answers:?}");
    // Standard input stays open.
    let mut wire = Wire::begun(&file);
    interrupt(&wire.child);
    assert_eq!(ends(&mut wire.child), 0);
    // A call that is at work holds nobody up.
    let mut wire = Wire::begun(&file);
    wire.say(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"spinner_spin"}}"#);
    wire.say(r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#);
    assert_eq!(wire.hear()["id"], 2);
    let began = Instant::now();
    interrupt(&wire.child);
    assert_eq!(ends(&mut wire.child), 0);
    assert!(began.elapsed() < Duration::from_secs(15));
    // Standard input that only a thread of its own can read.
    let (kept, socket) = UnixStream::pair().unwrap();
    let mut child = program(&["mcp", &file.display().to_string()])
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    writeln!(&kept, "{ping}").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    interrupt(&child);
    assert_eq!(ends(&mut child), 0);
    let mut server = Running::start(&file, &[]);
    interrupt(&server.child);
    assert_eq!(ends(&mut server.child), 0);
}

/// The component `alone` with these functions, as the release of this minor version.
fn release(tree: &Tree, version: u32, functions: &[&str]) -> ComponentConfig {
    let exports: Vec<(&str, &str)> = functions.iter().map(|name| (*name, "")).collect();
    let core = functions
        .iter()
        .map(|name| format!("(func (export \"{name}\"))"));
    let text = crate::support::component(&core.collect::<String>(), false, &exports);
    let folder = tree.path().join("alone");
    let file = format!("{version}.wasm");
    fs::write(folder.join(&file), wat::parse_str(text).unwrap()).unwrap();
    let toml = fs::read_to_string(folder.join("Component.toml")).unwrap();
    let toml = toml
        .replace("component.wasm", &file)
        .replace("0.1.0", &format!("0.{version}.0"));
    let at_once = "[upgrade]\nprobation_seconds = 0\n";
    let path = folder.join("Component.toml");
    ComponentConfig::parse(path, &format!("{toml}\n{at_once}")).unwrap()
}

#[test]
fn a_release_is_told_of_if_its_functions_are_others() {
    let _load = shared_machine();
    let first = crate::support::component("(func (export \"a\"))", false, &[("a", "")]);
    let tree = Tree::new().text("alone", &first, 1_048_576, "");
    block_on(async {
        let host = Arc::new(tree.start().await.unwrap());
        let alone = host.component("alone").unwrap();
        let server = Server::new(Arc::clone(&host));
        let mut clients = [
            Embedded::serve(&server).await,
            Embedded::serve(&server).await,
        ];
        alone.upgrade(release(&tree, 2, &["a"])).await.unwrap();
        // Time enough to look, and to find nothing.
        tokio::time::sleep(Duration::from_millis(300)).await;
        alone.upgrade(release(&tree, 3, &["a", "b"])).await.unwrap();
        for client in &mut clients {
            let told = client.hear().await;
            assert_eq!(told["method"], "notifications/tools/list_changed", "{told}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            // Once: what comes next is the list.
            let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
            client.say(&list).await;
            let list = client.hear().await;
            let tools = list["result"]["tools"].as_array().unwrap();
            let names = tools.iter().map(|tool| tool["name"].as_str().unwrap());
            assert_eq!(names.collect::<Vec<_>>(), ["alone_a", "alone_b"]);
        }
        for client in clients {
            client.end().await;
        }
        host.shutdown().await;
    });
}

#[test]
fn a_tree_that_gives_up_ends_the_server() {
    let _load = shared_machine();
    let tree = Tree::new().guest("crasher", CRASHER).intensity(0, 60);
    let mut wire = Wire::begun(&tree.write());
    // The topmost supervisor allows a few restarts of the one below it.
    for id in 1..20 {
        let params = json!({ "name": "crasher_trap" });
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        let stdin = wire.stdin.as_mut().unwrap();
        if writeln!(stdin, "{call}").is_err() || wire.lines.recv_timeout(PATIENCE).is_err() {
            break;
        }
    }
    assert_eq!(ends(&mut wire.child), 1);
}

#[test]
fn who_does_not_read_is_not_read_either() {
    const REQUESTS: usize = 5_000;
    let _load = shared_machine();
    let tree = Tree::new().guest("calculator", CALCULATOR);
    let mut wire = Wire::begun(&tree.write());
    let mut stdin = wire.stdin.take().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let writer = std::thread::spawn(move || {
        for id in 1..=REQUESTS {
            writeln!(
                stdin,
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#
            )
            .unwrap();
            count.store(id, Ordering::Relaxed);
        }
        stdin
    });
    let mut before = usize::MAX;
    while before != written.load(Ordering::Relaxed) {
        before = written.load(Ordering::Relaxed);
        std::thread::park_timeout(Duration::from_millis(500));
    }
    // Those at work, and what lies in pipes.
    assert!(before < MAX_OPEN_REQUESTS + 2_000, "{before} were taken");
    for _ in 0..REQUESTS {
        wire.hear();
    }
    wire.stdin = Some(writer.join().unwrap());
    assert_eq!(wire.close(), 0);
}

#[test]
fn no_error_of_the_program_reaches_the_protocols_stream() {
    let refused = airssys(&["--json", "mcp", "there-is-no-such.toml"]);
    assert_eq!((code(&refused), out(&refused).as_str()), (2, ""));
    assert!(err(&refused).contains("there-is-no-such.toml"));
}

#[test]
fn each_of_two_calls_at_once_is_told_its_own_denials() {
    let _load = shared_machine();
    let tree = Tree::new()
        .guest("prober", PROBER)
        .line("prober", "instance", "replicas = 2");
    let mut wire = Wire::begun(&tree.write());
    let call = |id: u32, address: &str| {
        let params = json!({ "name": "prober_connect", "arguments": { "address": address } });
        json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string()
    };
    let addresses = ["127.0.0.1:1", "127.0.0.1:2"];
    for (id, address) in (0..40).zip(addresses.into_iter().cycle()) {
        wire.say(&call(id + 1, address));
    }
    for _ in 0..40 {
        let answer = wire.hear();
        let address = addresses[usize::try_from(answer["id"].as_u64().unwrap() - 1).unwrap() % 2];
        let denied = &answer["result"]["_meta"]["airssys/denied"]["denied"];
        assert_eq!(denied.as_array().unwrap().len(), 1, "{answer}");
        assert!(
            denied[0]["subject"].as_str().unwrap().ends_with(address),
            "{answer}"
        );
    }
}

#[test]
fn it_serves_inside_the_sandbox() {
    if SandboxKernel::current().landlock_abi < 4 {
        println!("this kernel has no Landlock that holds ports: nothing to see here");
        return;
    }
    let _load = shared_machine();
    let tree = Tree::new().guest("calculator", CALCULATOR);
    let file = tree.write();
    let toml = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{toml}\n[sandbox]\nmode = \"required\"\n")).unwrap();
    let mut wire = Wire::begun(&file);
    let answer = wire.call(1, "calculator_sum", json!({ "values": [1, 2] }));
    assert_eq!(
        answer["result"]["structuredContent"]["result"], 3,
        "{answer}"
    );
    assert_eq!(wire.close(), 0);
    // The door is open before the sandbox is up.
    let server = Running::start(&file, &[]);
    assert!(TcpStream::connect(server.address).is_ok());
}
