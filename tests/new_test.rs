//! `airssys new`, `airssys bindings` and `airssys componentize`: a project of each language, built by
//! the commands of its own README.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::cli_test::{airssys, code, err, out, program};
use crate::support::shared_machine;
use crate::tools_test::{missing, target_guests};

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The ```sh blocks of a README, as they stand.
fn commands(readme: &str) -> String {
    let blocks = readme.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

/// The folders of the tool chains that `cargo xtask guests` installs.
fn tool_chains() -> [PathBuf; 2] {
    let chains = target_guests().join("toolchains");
    [
        chains.join("js/node_modules/.bin"),
        chains.join("python/bin"),
    ]
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// A shell in the project, with this very `airssys`, the tool chains and nothing of this build.
fn shell(folder: &Path, script: &str) -> Output {
    let own = Path::new(env!("CARGO_BIN_EXE_airssys")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let folders = [own.to_path_buf()].into_iter().chain(tool_chains());
    let path = std::env::join_paths(folders.chain(std::env::split_paths(&path))).unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-e", "-c", script])
        .current_dir(folder)
        .env("PATH", path)
        // What a project is compiled from in between is shared with the tools, and with later runs.
        .env("CARGO_BUILD_BUILD_DIR", target_guests())
        .env("CARGO_NET_OFFLINE", "true")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    for variable in ["AIRSSYS_LOG", "CARGO_TARGET_DIR", "RUSTFLAGS"] {
        shell.env_remove(variable);
    }
    shell.output().unwrap()
}

/// Makes a project, runs its README and calls it once more for its errors.
fn works_by_its_own_readme(language: &str) {
    let _load = shared_machine();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("project");
    let made = program(&["new", "my-tool", "--lang", language, "--path"])
        .arg(&folder)
        .output()
        .unwrap();
    assert_eq!(code(&made), 0, "{}", err(&made));
    let script = commands(&fs::read_to_string(folder.join("README.md")).unwrap());
    assert!(script.contains("my-tool.wasm") && script.contains("airssys call"));
    let ran = shell(&folder, &script);
    assert!(
        ran.status.success(),
        "{script}\n{}\n{}",
        out(&ran),
        err(&ran)
    );
    let last = out(&ran).lines().last().unwrap().to_owned();
    assert_eq!(last, "ok(\"Hello, you!\")", "{}", out(&ran));
    for (name, told) in [
        (String::from("\"\""), "err(no-name)\n"),
        (format!("\"{}\"", "ä".repeat(51)), "err(too-long(102))\n"),
    ] {
        let call = format!("airssys call airssys.toml my-tool greet '{name}'");
        assert_eq!(out(&shell(&folder, &call)), told);
    }
    // What was built is not for the repository it may lie in.
    let ignored = fs::read_to_string(folder.join(".gitignore")).unwrap();
    assert!(ignored.contains("/*.wasm"), "{ignored}");
}

#[test]
fn a_new_tool_in_rust_works_by_its_own_readme() {
    if !target_guests().join("wasm32-wasip2").is_dir() {
        return missing("the Rust target wasm32-wasip2", "cargo xtask guests");
    }
    works_by_its_own_readme("rust");
}

#[test]
fn a_new_tool_in_c_works_by_its_own_readme() {
    let libc = Path::new("/usr/include/wasm32-wasi").is_dir();
    if !in_path("clang-19") || !in_path("wasm-ld-19") || !libc {
        return missing("clang 19 with wasi-libc", "cargo xtask guests csv");
    }
    works_by_its_own_readme("c");
}

#[test]
fn a_new_tool_in_javascript_works_by_its_own_readme() {
    let [js, _] = tool_chains();
    if !js.join("componentize-qjs").exists() {
        return missing("componentize-qjs", "cargo xtask guests json-query");
    }
    works_by_its_own_readme("js");
}

#[test]
fn a_new_tool_in_python_works_by_its_own_readme() {
    let [_, python] = tool_chains();
    if !python.join("componentize-py").exists() {
        return missing("componentize-py", "cargo xtask guests statistics");
    }
    works_by_its_own_readme("python");
}

#[test]
fn new_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let taken = dir.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("mine"), "mine").unwrap();
    for path in [&taken, &taken.join("mine")] {
        let refused = airssys(&["new", "a", "--lang", "c", "--path", &text(path)]);
        assert_eq!(code(&refused), 2);
        assert!(err(&refused).contains("is not empty"), "{}", err(&refused));
    }
    assert_eq!(names(&taken), ["mine"]);
    assert_eq!(names(dir.path()), ["taken"]);
    // An empty folder is as good as none.
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let made = program(&["new", "a", "--lang", "c", "--path", "."])
        .current_dir(&empty)
        .output()
        .unwrap();
    assert_eq!(code(&made), 0, "{}", err(&made));
    let files = [
        ".gitignore",
        "Component.toml",
        "README.md",
        "airssys.toml",
        "greeting.c",
        "wit",
    ];
    assert_eq!(names(&empty), files);
}

#[test]
fn new_refuses_what_is_no_components_name() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["Tool", "1st", "a_b", "../a", "a b", "", &"a".repeat(65)] {
        let refused = program(&["new", name, "--lang", "js"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert_eq!(code(&refused), 2, "{name}");
        assert!(
            err(&refused).contains("[a-z][a-z0-9-]*"),
            "{}",
            err(&refused)
        );
    }
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_new_project_that_cannot_be_written_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for path in ["made/below", "empty"] {
        // No file may grow beyond 512 bytes, which the README does.
        let script = format!("trap '' XFSZ; ulimit -f 1; airssys new a --lang rust --path {path}");
        let failed = shell(dir.path(), &script);
        assert_eq!(code(&failed), 1, "{}", err(&failed));
        assert!(err(&failed).contains("cannot write"), "{}", err(&failed));
    }
    assert_eq!(names(dir.path()), ["empty"]);
    assert!(names(&empty).is_empty());
}

#[test]
fn bindings_and_components_are_refused_with_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        text(&path)
    };
    let (made, to) = (dir.path().join("made"), text(&dir.path().join("made")));
    let wit = file(
        "bad.wit",
        b"package a:b;\nworld w { export f: func(x: u33); }\n",
    );
    let refused = airssys(&["bindings", "c", &wit, "-o", &to]);
    assert_eq!(code(&refused), 2);
    assert!(err(&refused).contains("u33"), "{}", err(&refused));
    let two = file("two.wit", b"package a:b;\nworld v {}\nworld w {}\n");
    assert_eq!(code(&airssys(&["bindings", "c", &two, "-o", &to])), 2);
    assert!(!made.exists());
    let chosen = airssys(&["bindings", "c", &two, "-o", &to, "--world", "w"]);
    assert_eq!(code(&chosen), 0, "{}", err(&chosen));
    assert_eq!(names(&made), ["w.c", "w.h", "w_component_type.o"]);
    let out_file = text(&dir.path().join("out.wasm"));
    let empty = file(
        "empty.wasm",
        &wat::parse_str("(module (func (export \"f\")))").unwrap(),
    );
    for core in [&empty, &wit, &text(dir.path())] {
        let refused = airssys(&["componentize", core, "-o", &out_file]);
        assert_eq!(code(&refused), 2, "{core}: {}", err(&refused));
    }
    let told = err(&airssys(&["componentize", &empty, "-o", &out_file]));
    assert!(told.contains("airssys bindings c"), "{told}");
    assert!(!dir.path().join("out.wasm").exists());
}
