//! The tools of `guests/tools`, each in its own language and under its own Component.toml. They are
//! built by `cargo xtask guests`; a test of one that is not built says so and passes, unless
//! `AIRSSYS_ALL_GUESTS` is set.

use std::fs;
use std::path::{Path, PathBuf};

use airssys::{
    ChildSpec, ComponentConfig, ComponentSpec, ExitKind, Host, HostError, MemoryCeiling, Val,
    WasmError,
};
use airssys_guests::CALCULATOR;
use tempfile::TempDir;

use crate::cli_test::{airssys, code, err, out};
use crate::http_test::Server;
use crate::support::{Tree, block_on, shared_machine};

/// Calls of one instance, enough that a leak of a tool's own shows under its limit.
const MANY: usize = 400;

/// The folder of a repository's target folder, wherever that is.
pub fn target_guests() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_airssys"));
    program.ancestors().nth(2).unwrap().join("guests")
}

/// Says what to run, and fails only where all the guests must be there.
pub fn missing(what: &str, run: &str) {
    let told = format!("{what} is not there: run `{run}`");
    let required = std::env::var_os("AIRSSYS_ALL_GUESTS").is_some();
    assert!(!required, "{told}");
    eprintln!("skipped: {told}");
}

fn folder(tool: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/tools");
    tools.join(tool)
}

fn component(tool: &str) -> Option<PathBuf> {
    let path = folder(tool).join(tool).with_extension("wasm");
    if path.is_file() {
        return Some(path);
    }
    missing(&path.display().to_string(), "cargo xtask guests");
    None
}

/// One tool in a host, in a folder of the test's own beside `files`, which its `..` leads to.
struct Tool {
    name: &'static str,
    host: Host,
    _dir: TempDir,
}

/// What a test changes of a tool's Component.toml, and what its airssys.toml says first.
#[derive(Default)]
struct Setting<'a> {
    replaced: &'a [(&'a str, &'a str)],
    policy: &'a str,
}

impl Tool {
    /// Starts a tool that is built.
    async fn start(
        name: &'static str,
        dir: TempDir,
        setting: Setting<'_>,
    ) -> Option<Result<Self, HostError>> {
        let wasm = component(name)?;
        let own = dir.path().join(name);
        fs::create_dir(&own).unwrap();
        std::os::unix::fs::symlink(&wasm, own.join(name).with_extension("wasm")).unwrap();
        let mut toml = fs::read_to_string(folder(name).join("Component.toml")).unwrap();
        for (old, new) in setting.replaced {
            assert!(toml.contains(old), "{toml}");
            toml = toml.replace(old, new);
        }
        fs::write(own.join("Component.toml"), toml).unwrap();
        let cache = target_guests().join("test-cache");
        let system = format!(
            "{}\n[system.cache]\ndirectory = {cache:?}\n[[supervisor]]\nname = \"tools\"\n\
             intensity = 100\n[[supervisor.child]]\ncomponent = \"{name}/Component.toml\"\n",
            setting.policy
        );
        let path = dir.path().join("airssys.toml");
        fs::write(&path, system).unwrap();
        let host = Host::from_config(&path).await;
        Some(host.map(|host| Self {
            name,
            host,
            _dir: dir,
        }))
    }

    /// Starts a tool as its own files have it.
    async fn plain(name: &'static str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let started = Self::start(name, dir, Setting::default()).await?;
        Some(started.unwrap())
    }

    /// Calls a function with arguments in WAVE; its answer in WAVE.
    async fn ask(&self, function: &str, arguments: &[&str]) -> Result<String, WasmError> {
        let component = self.host.component(self.name).unwrap();
        let exports = component.exports().unwrap();
        let (_, found) = exports.find(function).unwrap();
        let values = arguments.iter().zip(&found.params);
        let values: Vec<Val> = values
            .map(|(text, (_, ty))| Val::from_wave(ty, text).unwrap())
            .collect();
        let answer = component.call(&found.name, &values).await?;
        let [answer] = answer.as_slice() else {
            panic!("{answer:?}")
        };
        Ok(answer.to_wave().unwrap())
    }

    async fn answer(&self, function: &str, arguments: &[&str]) -> String {
        self.ask(function, arguments).await.unwrap()
    }

    fn held(&self) -> usize {
        let component = self.host.component(self.name).unwrap();
        component.memory().unwrap().current_bytes
    }
}

/// A text as WAVE writes it.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// A folder with texts in `files`.
fn texts() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::create_dir_all(files.join("below")).unwrap();
    fs::write(files.join("one.txt"), "first\nÄpfel und Birnen\n").unwrap();
    fs::write(files.join("below/two.txt"), "Birnen\nno fruit\nbirnen\n").unwrap();
    fs::write(files.join("not-text"), [0xff, 0xfe, b'B']).unwrap();
    fs::write(dir.path().join("outside.txt"), "Birnen\n").unwrap();
    dir
}

const GRANTED: &[(&str, &str)] = &[("path = \"..\"", "path = \"../files\"")];

async fn searcher() -> Option<Tool> {
    let setting = Setting {
        replaced: GRANTED,
        ..Setting::default()
    };
    let started = Tool::start("search", texts(), setting).await?;
    Some(started.unwrap())
}

fn query(pattern: &str, directory: &str, ignore_case: bool, most: u32) -> String {
    format!(
        "{{pattern: {pattern:?}, directory: {directory:?}, ignore-case: {ignore_case}, \
         max-matches: {most}}}"
    )
}

#[test]
fn search_finds_lines_with_their_places() {
    block_on(async {
        let Some(tool) = searcher().await else { return };
        let birnen = |ignore, most| query("birnen|Birnen", "/files", ignore, most);
        let two = "{path: \"below/two.txt\", line: 1, column: 1, text: \"Birnen\"}";
        let three = "{path: \"below/two.txt\", line: 3, column: 1, text: \"birnen\"}";
        // The umlaut is two bytes and one character.
        let one = "{path: \"one.txt\", line: 2, column: 11, text: \"Äpfel und Birnen\"}";
        let all = format!("ok({{matches: [{two}, {three}, {one}], more: false, skipped: 1}})");
        assert_eq!(tool.answer("find", &[&birnen(false, 3)]).await, all);
        let cut = format!("ok({{matches: [{two}], more: true, skipped: 0}})");
        assert_eq!(tool.answer("find", &[&birnen(false, 1)]).await, cut);
        let none = tool
            .answer("find", &[&query("BIRNEN", "/files", false, 9)])
            .await;
        assert!(none.starts_with("ok({matches: [], more: false"));
        let same = tool
            .answer("find", &[&query("BIRNEN", "/files", true, 9)])
            .await;
        assert_eq!(same, all);
    });
}

#[test]
fn search_tells_what_is_wrong_with_a_query() {
    block_on(async {
        let Some(tool) = searcher().await else { return };
        for (pattern, directory, most, told) in [
            ("(x", "/files", 1, "err(bad-pattern(\"regex parse error"),
            // A program of 10,000 times 100 states does not fit.
            ("(x{100}){10000}", "/files", 1, "err(bad-pattern("),
            (&"(".repeat(900), "/files", 1, "err(bad-pattern("),
            (&"x".repeat(1001), "/files", 1, "err(bad-pattern(\"longer"),
            ("x", "/files", 0, "err(bad-limit(0))"),
            ("x", "/files", 1001, "err(bad-limit(1001))"),
            ("x", "/files/none", 1, "err(no-such-directory("),
        ] {
            let asked = query(pattern, directory, false, most);
            let answer = tool.answer("find", &[&asked]).await;
            assert!(answer.starts_with(told), "{pattern:.20}: {answer}");
        }
        // The same instance answers on.
        let after = tool
            .answer("find", &[&query("first", "/files", false, 9)])
            .await;
        assert!(after.contains("one.txt"));
    });
}

#[test]
fn search_is_denied_outside_its_directory() {
    block_on(async {
        let dir = texts();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("files/out")).unwrap();
        let setting = Setting {
            replaced: GRANTED,
            ..Setting::default()
        };
        let Some(tool) = Tool::start("search", dir, setting).await else {
            return;
        };
        let tool = tool.unwrap();
        for directory in ["/files/..", "/files/out", "/", "/etc", "relative"] {
            let asked = query("Birnen|root", directory, false, 9);
            let answer = tool.answer("find", &[&asked]).await;
            let denied = ["err(not-granted(", "err(no-such-directory("];
            let denied = denied.iter().any(|told| answer.starts_with(told));
            assert!(denied, "{directory}: {answer}");
        }
        let inside = tool
            .answer("find", &[&query("Birnen", "/files", false, 9)])
            .await;
        assert!(!inside.contains("outside"));
    });
}

fn request(method: &str, url: &str, most: u32, time: u32) -> String {
    format!(
        "{{method: {method}, url: {url:?}, max-body-bytes: {most}, timeout-milliseconds: {time}}}"
    )
}

async fn fetcher(policy: &str) -> Option<Tool> {
    let setting = Setting {
        replaced: &[("\"example.com:443\"", "\"127.0.0.1:*\"")],
        policy,
    };
    let dir = tempfile::tempdir().unwrap();
    let started = Tool::start("fetch", dir, setting).await?;
    Some(started.unwrap())
}

#[test]
fn fetch_answers_from_a_granted_host() {
    block_on(async {
        let policy = "[policy]\nunnamed = \"deny\"\n[policy.network]\noutbound = [\"127.0.0.1:*\"]";
        let Some(tool) = fetcher(policy).await else {
            return;
        };
        let server =
            Server::saying(b"HTTP/1.1 404 Not Found\r\nX-Two: a\r\ncontent-length: 4\r\n\r\npong");
        let ask = |method, most| request(method, &server.url(), most, 5000);
        let told = "ok({status: 404, headers: [{name: \"x-two\", value: \"a\"}, \
                    {name: \"content-length\", value: \"4\"}], body: \"pong\", cut: false})";
        assert_eq!(tool.answer("fetch", &[&ask("get", 4)]).await, told);
        let cut = told.replace("\"pong\", cut: false", "\"pon\", cut: true");
        assert_eq!(tool.answer("fetch", &[&ask("get", 3)]).await, cut);
        let echo = Server::echo();
        let url = format!("{}a/b?c=d#e", echo.url());
        let asked = request("get", &url, 1000, 5000);
        let echoed = tool.answer("fetch", &[&asked]).await;
        assert!(echoed.contains("GET /a/b?c=d HTTP/1.1"), "{echoed}");
        let head = tool
            .answer("fetch", &[&request("head", &echo.url(), 1000, 5000)])
            .await;
        assert!(head.contains("body: \"\", cut: false"));
    });
}

#[test]
fn fetch_is_denied_what_the_grant_or_the_policy_leaves_out() {
    block_on(async {
        let server = Server::saying(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong");
        let asked = request("get", &server.url(), 9, 5000);
        let denied = format!("err(not-granted(\"{}\"))", server.url_host());
        // Its own file grants another host.
        let Some(tool) = Tool::plain("fetch").await else {
            return;
        };
        assert_eq!(tool.answer("fetch", &[&asked]).await, denied);
        // Granted, and beyond the policy.
        let other = "[policy.network]\noutbound = [\"example.com:443\"]";
        let tool = fetcher(other).await.unwrap();
        assert_eq!(tool.answer("fetch", &[&asked]).await, denied);
        assert_eq!(server.connections(), 0);
    });
}

#[test]
fn fetch_tells_what_went_wrong() {
    block_on(async {
        let Some(tool) = fetcher("").await else {
            return;
        };
        let (silent, _open) = Server::silent();
        let hung_up = Server::saying(b"");
        for (asked, told) in [
            (request("get", &silent.url(), 9, 100), "err(timed-out)"),
            (request("get", &hung_up.url(), 9, 5000), "err(failed("),
            (request("get", "ftp://x/", 9, 5000), "err(bad-url("),
            (request("get", "http:///x", 9, 5000), "err(bad-url("),
            (request("get", "no address", 9, 5000), "err(bad-url("),
            (
                request("get", "http://a@127.0.0.1/", 9, 5000),
                "err(bad-url(",
            ),
            (request("get", &silent.url(), 262_145, 1), "err(bad-limit("),
            (request("get", &silent.url(), 9, 0), "err(bad-limit("),
        ] {
            let answer = tool.answer("fetch", &[&asked]).await;
            assert!(answer.starts_with(told), "{asked}: {answer}");
        }
    });
}

const COMMA: &str = "{separator: ',', header: true}";

#[test]
fn csv_in_c_tells_what_is_in_each_column() {
    block_on(async {
        let Some(tool) = Tool::plain("csv").await else {
            return;
        };
        let text = "name,\"a \"\"b\"\"\",n\r\nÄ,\"x,\ny\",1.5\r\n,z,-2e1\r\n";
        let described = tool.answer("describe", &[&quoted(text), COMMA]).await;
        let numbers = "numbers: some({min: -20, max: 1.5, mean: -9.25})";
        assert_eq!(
            described,
            format!(
                "ok([{{name: \"name\", filled: 1, empty: 1, longest: 2}}, \
                 {{name: \"a \\\"b\\\"\", filled: 2, empty: 0, longest: 4}}, \
                 {{name: \"n\", filled: 2, empty: 0, longest: 4, {numbers}}}])"
            )
        );
        let bare = "{separator: '|', header: false}";
        let described = tool.answer("describe", &["\"0x1|nan|7\"", bare]).await;
        let text = |name| format!("{{name: {name:?}, filled: 1, empty: 0, longest: 3}}");
        let seven = "{name: \"3\", filled: 1, empty: 0, longest: 1, \
                     numbers: some({min: 7, max: 7, mean: 7})}";
        assert_eq!(
            described,
            format!("ok([{}, {}, {seven}])", text("1"), text("2"))
        );
    });
}

#[test]
fn csv_in_c_tells_what_is_wrong_with_a_text() {
    block_on(async {
        let Some(tool) = Tool::plain("csv").await else {
            return;
        };
        let quote = "{separator: '\\\"', header: true}";
        for (text, dialect, told) in [
            ("", COMMA, "err(no-rows)"),
            ("a", quote, "err(bad-separator)"),
            ("a", "{separator: 'ä', header: true}", "err(bad-separator)"),
            (
                "a,b\n1,2\n\"\n\",2,3\n",
                COMMA,
                "err(ragged({line: 3, expected: 2, found: 3}))",
            ),
            // Lines within a field count too.
            (
                "a\n\"x\ny\"\n1,2\n",
                COMMA,
                "err(ragged({line: 4, expected: 1, found: 2}))",
            ),
            ("a\n1\n\"x\ny", COMMA, "err(open-quote(3))"),
            (&",".repeat(256), COMMA, "err(too-many-columns(257))"),
        ] {
            let answer = tool.answer("describe", &[&quoted(text), dialect]).await;
            assert_eq!(answer, told, "{text:.20}");
        }
        let widest = tool
            .answer("describe", &[&quoted(&",".repeat(255)), COMMA])
            .await;
        assert!(widest.starts_with("ok("));
    });
}

#[test]
fn a_tool_in_c_keeps_no_memory_of_its_calls() {
    block_on(async {
        let Some(tool) = Tool::plain("csv").await else {
            return;
        };
        let row = format!("{},{}\n", "x".repeat(2000), "y".repeat(2000));
        // Header, rows and names are allocations of its own, and so is the text of an error.
        let good = quoted(&row.repeat(3));
        let bad = quoted(&format!("{row}{}", "z".repeat(2000)));
        let mut held = 0;
        for round in 0..MANY {
            assert!(tool.answer("describe", &[&good, COMMA]).await.len() > 4000);
            let ragged = tool.answer("describe", &[&bad, COMMA]).await;
            assert!(ragged.starts_with("err(ragged"), "{ragged}");
            match round {
                10 => held = tool.held(),
                _ => assert!(round < 10 || tool.held() <= held, "round {round}"),
            }
        }
        assert!(held <= 256 * 1024, "{held}");
    });
}

#[test]
fn diff_in_zig_tells_the_fewest_changes() {
    block_on(async {
        let Some(tool) = Tool::plain("diff").await else {
            return;
        };
        let same = tool.answer("diff", &["\"a\\nb\"", "\"a\\nb\\n\""]).await;
        assert_eq!(same, "ok([])");
        let changed = tool
            .answer("diff", &["\"a\\nb\\nc\\nd\\n\"", "\"a\\nx\\nc\\n\\nd\\n\""])
            .await;
        assert_eq!(
            changed,
            "ok([{kind: removed, line: 2, text: \"b\"}, {kind: added, line: 2, text: \"x\"}, \
             {kind: added, line: 4, text: \"\"}])"
        );
        let (long, other) = ("x\n".repeat(1001), "y\n".repeat(1000));
        let far = tool
            .answer("diff", &[&quoted(&long), &quoted(&other)])
            .await;
        assert_eq!(far, "err(too-different(1001000))");
        // As many pairs again, of which all but one are the same on both sides.
        let near = tool
            .answer("diff", &[&quoted(&long), &quoted(&format!("{long}y\n"))])
            .await;
        assert_eq!(near, "ok([{kind: added, line: 1002, text: \"y\"}])");
    });
}

#[test]
fn a_tool_in_zig_keeps_no_memory_of_its_calls() {
    block_on(async {
        let Some(tool) = Tool::plain("diff").await else {
            return;
        };
        let before: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let after: String = (50..150).map(|n| format!("line {n}\n")).collect();
        let (before, after) = (quoted(&before), quoted(&after));
        let long = quoted(&"x\n".repeat(1001));
        let other = quoted(&"y\n".repeat(1000));
        let mut held = 0;
        for round in 0..MANY / 4 {
            let answer = tool.answer("diff", &[&before, &after]).await;
            assert_eq!(answer.matches("kind:").count(), 100, "{answer}");
            let far = tool.answer("diff", &[&long, &other]).await;
            assert!(far.starts_with("err(too-different"), "{far}");
            match round {
                10 => held = tool.held(),
                _ => assert!(round < 10 || tool.held() <= held, "round {round}"),
            }
        }
        assert!(held <= 1024 * 1024, "{held}");
    });
}

#[test]
fn json_query_in_javascript_finds_values_by_their_paths() {
    block_on(async {
        let Some(tool) = Tool::plain("json-query").await else {
            return;
        };
        let json =
            quoted("{\"a\": [{\"t\": \"ä\"}, {\"t\": null}], \"b c\": {\"constructor\": 1}}");
        for (path, told) in [
            (
                "$.a[*].t",
                "[{path: \"$.a[0].t\", json: \"\\\"ä\\\"\"}, {path: \"$.a[1].t\", json: \"null\"}]",
            ),
            (
                "$.a[-1]",
                "[{path: \"$.a[1]\", json: \"{\\\"t\\\":null}\"}]",
            ),
            (
                "$['b c'].constructor",
                "[{path: \"$[\\'b c\\'].constructor\", json: \"1\"}]",
            ),
            ("$.a.t", "[]"),
            ("$.a[2]", "[]"),
            // What objects inherit is in no text.
            ("$.constructor", "[]"),
            ("$.a.length", "[]"),
        ] {
            let answer = tool.answer("select", &[&json, &quoted(path)]).await;
            assert_eq!(answer, format!("ok({told})"), "{path}");
        }
    });
}

#[test]
fn json_query_in_javascript_tells_what_is_wrong() {
    block_on(async {
        let Some(tool) = Tool::plain("json-query").await else {
            return;
        };
        let nested = |deep| format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        let deep = nested(100_000);
        let wide = format!("[{}0]", "0,".repeat(10_001));
        for (json, path, told) in [
            ("{\"a\": ", "$", "err(invalid-json("),
            ("", "$", "err(invalid-json("),
            ("{}", "a", "err(invalid-path({position: 0, "),
            ("{}", "$.ä", "err(invalid-path({position: 1, "),
            ("{}", "$.a[x]", "err(invalid-path({position: 3, "),
            (&wide, "$[*]", "err(too-many(10001))"),
            (&deep, "$", "err(invalid-json(\"nested"),
            (&nested(201), "$", "err(invalid-json(\"nested"),
            (&nested(200), "$[0]", "ok("),
            ("\"[[[[\"", "$", "ok("),
        ] {
            let answer = tool.answer("select", &[&quoted(json), &quoted(path)]).await;
            assert!(answer.starts_with(told), "{json:.20} {path}: {answer:.200}");
        }
        let whole = tool.answer("select", &["\"[1]\"", "\"$\""]).await;
        assert_eq!(whole, "ok([{path: \"$\", json: \"[1]\"}])");
    });
}

const RAISED: &str = "[policy.memory]\nmax_bytes = 16777216";

async fn statistician(policy: &str) -> Option<Result<Tool, HostError>> {
    let setting = Setting {
        policy,
        ..Setting::default()
    };
    Tool::start("statistics", tempfile::tempdir().unwrap(), setting).await
}

#[test]
fn a_tool_in_python_needs_a_ceiling_that_its_host_has_raised() {
    let _load = shared_machine();
    block_on(async {
        for policy in ["", "[policy.memory]\nmax_bytes = 16777215"] {
            let Some(refused) = statistician(policy).await else {
                return;
            };
            let told = refused.map(|_| ()).unwrap_err().to_string();
            for part in [
                "`resources.memory.max_bytes`: 16777216 is too high",
                "policy.memory.max_bytes of airssys.toml",
            ] {
                assert!(told.contains(part), "{told}");
            }
        }
        let tool = statistician(RAISED).await.unwrap().unwrap();
        let summary = tool
            .answer("summarize", &["[2, 4, 4, 4, 5, 5, 7, 9]"])
            .await;
        assert_eq!(
            summary,
            "ok({count: 8, mean: 5, median: 4.5, deviation: 2.138089935299395, \
             quartiles: (4, 4.5, 5.5)})"
        );
        let points = "[{x: 1, y: 3}, {x: 2, y: 5}, {x: 3, y: 7}]";
        let line = tool.answer("fit", &[points]).await;
        assert_eq!(line, "ok({slope: 2, intercept: 1, correlation: 1})");
        // More than CPython starts with, and no more than it was given.
        let held = tool.held();
        assert!((12_000_000..=16_777_216).contains(&held), "{held}");
    });
}

#[test]
fn statistics_in_python_tells_what_is_wrong_with_a_sample() {
    let _load = shared_machine();
    block_on(async {
        let Some(tool) = statistician(RAISED).await else {
            return;
        };
        let tool = tool.unwrap();
        for (function, values, told) in [
            ("summarize", "[]", "err(too-few(1))"),
            ("summarize", "[1, 2, nan]", "err(not-finite(2))"),
            ("summarize", "[-inf]", "err(not-finite(0))"),
            ("summarize", "[1e308, 1e308, -1e308]", "err(overflow)"),
            // The quartiles' way there, and the slope, are beyond a float without an exception.
            ("summarize", "[-1.7e308, 0, 1.7e308]", "err(overflow)"),
            (
                "fit",
                "[{x: 0, y: 0}, {x: 1e-160, y: 1e160}]",
                "err(overflow)",
            ),
            ("fit", "[{x: 1, y: 1}]", "err(too-few(2))"),
            ("fit", "[{x: 1, y: 1}, {x: 1, y: 2}]", "err(constant)"),
        ] {
            let answer = tool.answer(function, &[values]).await;
            assert_eq!(answer, told, "{function} {values}");
        }
        let one = tool.answer("summarize", &["[3]"]).await;
        assert!(one.starts_with("ok({count: 1, mean: 3, median: 3, deviation: 0"));
    });
}

#[test]
fn nobody_starts_a_component_above_the_ceiling_while_the_tree_runs() {
    block_on(async {
        let tree = Tree::new().guest("first", CALCULATOR);
        let path = tree.write();
        let big = tree.path().join("Big.toml");
        let toml = "[component]\nname = \"big\"\nversion = \"0.1.0\"\n\
                    wasm = \"first/component.wasm\"\n[resources.memory]\nmax_bytes = 8388608\n";
        fs::write(&big, toml).unwrap();
        let ceiling = MemoryCeiling::new(8_388_608).unwrap();
        let config = ComponentConfig::load_under(&big, ceiling).unwrap();
        let spec = || ChildSpec::component(config.clone());
        let running = Host::from_config(&path).await.unwrap();
        let tools = running.supervisor("tools").unwrap();
        let told = tools.start_child(spec()).await.unwrap_err().to_string();
        assert!(told.contains("policy.memory.max_bytes = 4194304"), "{told}");
        running.shutdown().await;
        // The same under a host that has raised its ceiling.
        let toml = fs::read_to_string(&path).unwrap();
        fs::write(
            &path,
            format!("{toml}\n[policy.memory]\nmax_bytes = 8388608\n"),
        )
        .unwrap();
        let running = Host::from_config(&path).await.unwrap();
        let tools = running.supervisor("tools").unwrap();
        tools.start_child(spec()).await.unwrap();
        let big = running.component("big").unwrap();
        assert_eq!(big.memory().unwrap().max_bytes, 8_388_608);
    });
}

#[test]
fn validate_holds_the_components_of_a_tree_to_its_ceiling() {
    let tree = Tree::new().component("big", CALCULATOR.wasm, 8_388_608, "");
    let path = tree.write();
    let file = path.display().to_string();
    let refused = airssys(&["validate", &file]);
    assert_eq!(code(&refused), 2);
    assert!(
        err(&refused).contains("policy.memory.max_bytes"),
        "{}",
        err(&refused)
    );
    let toml = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        format!("{toml}\n[policy.memory]\nmax_bytes = 8388608\n"),
    )
    .unwrap();
    let taken = airssys(&["validate", &file]);
    assert_eq!(code(&taken), 0, "{}", err(&taken));
    // By itself the same file has no host that raised anything.
    let alone = tree.path().join("big/Component.toml");
    assert_eq!(
        code(&airssys(&["validate", &alone.display().to_string()])),
        2
    );
}

#[test]
fn tools_that_only_compute_import_nothing() {
    for tool in ["csv", "diff", "json-query", "statistics"] {
        let Some(wasm) = component(tool) else { return };
        let shown = airssys(&["--json", "inspect", &wasm.display().to_string()]);
        let shown: serde_json::Value = serde_json::from_str(&out(&shown)).unwrap();
        assert_eq!(shown["imports"], serde_json::json!([]), "{tool}");
    }
}

#[test]
fn the_tools_load_as_one_tree_of_their_own() {
    let tree = folder("airssys.toml").display().to_string();
    let toml = fs::read_to_string(&tree).unwrap();
    for tool in ["search", "fetch", "csv", "json-query", "statistics", "diff"] {
        if component(tool).is_none() {
            return;
        }
        assert!(
            toml.contains(&format!("\"{tool}/Component.toml\"")),
            "{tool}"
        );
    }
    let valid = airssys(&["validate", &tree]);
    assert_eq!(code(&valid), 0, "{}", err(&valid));
    let query = query("^name = \"csv\"$", "/files", false, 1);
    let found = airssys(&["call", &tree, "search", "find", &query]);
    assert!(
        out(&found).contains("csv/Component.toml"),
        "{}",
        out(&found)
    );
    let refused = request("get", "http://127.0.0.1:9/", 9, 1000);
    let denied = airssys(&["call", &tree, "fetch", "fetch", &refused]);
    assert!(
        out(&denied).starts_with("err(not-granted("),
        "{}",
        out(&denied)
    );
}

#[test]
fn a_tool_that_runs_out_of_memory_is_told_as_such_and_replaced() {
    block_on(async {
        let Some(tool) = Tool::plain("json-query").await else {
            return;
        };
        // A million small objects do not fit beside the interpreter.
        let json = quoted(&format!("[{}{{}}]", "{},".repeat(300_000)));
        let ended = tool.ask("select", &[&json, "\"$[0]\""]).await.unwrap_err();
        let kind = match &ended {
            WasmError::OutOfMemory { .. } => ExitKind::OutOfMemory,
            WasmError::Exited { cause, .. } => cause.kind(),
            other => panic!("{other}"),
        };
        assert_eq!(kind, ExitKind::OutOfMemory, "{ended}");
        let next = tool.answer("select", &["\"[1]\"", "\"$[0]\""]).await;
        assert_eq!(next, "ok([{path: \"$[0]\", json: \"1\"}])");
    });
}
