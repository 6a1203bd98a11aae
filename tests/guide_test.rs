//! What the guide shows is what the project does. Its Rust is run as tests of the documentation
//! (`cargo test --doc`); everything else it shows is held against the project here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use airssys::{ComponentConfig, ConfigError, SystemConfig};
use airssys_guests::CALCULATOR;

use crate::architecture_test::{backticked, files, is_test_name, read, root, test_names};
use crate::cli_test::{code, err, out, program};
use crate::support::shared_machine;

/// Programs in the guide's commands that are not ours.
const OTHERS: [&str; 7] = [
    "cargo", "cp", "kill", "mdbook", "mkdir", "openssl", "rustup",
];

fn chapter(name: &str) -> String {
    read(format!("docs/guide/src/{name}"))
}

/// The targets of a page's links, without those that leave the repository and places within a page.
fn links(page: &str) -> Vec<&str> {
    let targets = page.split("](").skip(1);
    targets
        .map(|rest| rest.split(')').next().unwrap())
        .map(|target| target.split('#').next().unwrap())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// The chapters in the order of the summary, with their texts.
fn chapters() -> Vec<(String, String)> {
    let summary = chapter("SUMMARY.md");
    let chapters = links(&summary).into_iter();
    chapters
        .map(|name| (name.to_owned(), chapter(name)))
        .collect()
}

/// One fenced block of a chapter.
struct Block {
    /// Where it stands.
    place: String,
    info: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for (name, text) in chapters() {
        let mut open: Option<Block> = None;
        for (number, line) in (1..).zip(text.lines()) {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(info)) => {
                    open = Some(Block {
                        place: format!("{name}:{number}"),
                        info: info.to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{name}: a block without an end");
    }
    blocks
}

#[test]
fn every_chapter_is_in_the_summary_and_every_link_leads_somewhere() {
    let mut named: Vec<String> = chapters().into_iter().map(|(name, _)| name).collect();
    let mut there: Vec<String> = files("docs/guide/src", ".md")
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "SUMMARY.md")
        .collect();
    named.sort();
    there.sort();
    assert_eq!(named, there);
    let tested = read("src/guide.rs");
    let book: toml::Table = read("docs/guide/book.toml").parse().unwrap();
    assert_eq!(book["book"]["src"].as_str(), Some("src"));
    for (name, text) in chapters() {
        assert!(tested.contains(&format!("guide/src/{name}\"")), "{name}");
        assert!(text.starts_with("# "), "{name}");
        for link in links(&text) {
            // The book is built from this folder alone.
            assert!(there.iter().any(|there| there == link), "{name}: {link}");
        }
    }
}

#[test]
fn no_block_of_the_guide_is_of_a_kind_that_nothing_checks() {
    let kinds = [
        "rust",
        "rust,no_run",
        "rs",
        "wit",
        "toml,component",
        "toml,system",
        "sh",
        "sh,run",
        "text",
    ];
    for Block { place, info, .. } in blocks() {
        assert!(kinds.contains(&info.as_str()), "{place}: {info:?}");
    }
}

/// A Component.toml around a block that leaves out what every one has.
fn whole_component(block: &str) -> String {
    let mut text = String::new();
    if !block.contains("[component]") {
        text.push_str("[component]\nname = \"tool\"\nversion = \"0.1.0\"\nwasm = \"tool.wasm\"\n");
    }
    if !block.contains("[resources.memory]") {
        text.push_str("[resources.memory]\nmax_bytes = 1048576\n");
    }
    text + block
}

/// An airssys.toml around a block without a supervisor.
fn whole_system(block: &str) -> String {
    match block.contains("[[supervisor]]") {
        true => block.to_owned(),
        false => format!(
            "{block}\n[[supervisor]]\nname = \"tools\"\n[[supervisor.child]]\n\
             component = \"tool/Component.toml\"\n"
        ),
    }
}

/// Writes a Component.toml and the binary it names, and loads it.
fn load_component(path: &Path, text: &str) -> Result<(), String> {
    let told = |error: ConfigError| format!("{error:?}");
    let config = ComponentConfig::parse(path, text).map_err(told)?;
    std::fs::write(&config.wasm, CALCULATOR.wasm).unwrap();
    std::fs::write(path, text).unwrap();
    ComponentConfig::load(path).map(drop).map_err(told)
}

/// Writes an airssys.toml and the components it names, and loads it.
fn load_system(folder: &Path, text: &str) -> Result<(), String> {
    let children = text.lines().filter_map(|line| {
        let path = line.split_once("component = \"")?.1;
        path.strip_suffix("/Component.toml\"")
    });
    for child in children {
        let path = folder.join(child);
        std::fs::create_dir_all(&path).unwrap();
        let name = format!("[component]\nname = \"{child}\"\nversion = \"0.1.0\"\n");
        let text = whole_component(&format!("{name}wasm = \"tool.wasm\"\n"));
        load_component(&path.join("Component.toml"), &text)?;
    }
    let path = folder.join("airssys.toml");
    std::fs::write(&path, text).unwrap();
    let loaded = SystemConfig::load(&path).map(drop);
    loaded.map_err(|errors| format!("{errors:?}"))
}

#[test]
fn every_file_in_the_guide_is_accepted_by_the_loader() {
    let (mut loaded, mut refused) = (0, Vec::new());
    for Block { place, info, text } in blocks() {
        let folder = tempfile::tempdir().unwrap();
        let outcome = match info.as_str() {
            "toml,component" => {
                let path = folder.path().join("Component.toml");
                load_component(&path, &whole_component(&text))
            }
            "toml,system" => load_system(folder.path(), &whole_system(&text)),
            _ => continue,
        };
        loaded += 1;
        refused.extend(outcome.err().map(|why| format!("{place}: {why}")));
    }
    assert!(loaded > 0 && refused.is_empty(), "{}", refused.join("\n\n"));
}

/// The words of a command line; what is quoted is one word, without its quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'') => quote = Some(c),
            (None, ' ') => words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty())),
            (_, c) => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// The help of the command that these words begin with.
fn help(words: &[&str], known: &mut BTreeMap<String, String>) -> Option<String> {
    let key = words.join(" ");
    if let Some(help) = known.get(&key) {
        return Some(help.clone());
    }
    let output = program(words).arg("--help").output().unwrap();
    let help = out(&output);
    // A word that is no command of its own is an argument, and the help is its command's.
    let is_command = code(&output) == 0 && help.contains(&format!("Usage: airssys {key}"));
    is_command.then(|| known.entry(key).or_insert(help).clone())
}

fn check_command(place: &str, line: &str, known: &mut BTreeMap<String, String>) {
    let line = words(line.split(" #").next().unwrap());
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let (program, arguments) = line.split_first().unwrap();
    if let Some(at) = arguments.iter().position(|word| *word == "--example") {
        let example = format!("examples/{}.rs", arguments[at + 1]);
        assert!(root().join(&example).exists(), "{place}: {example}");
    }
    if *program != "airssys" {
        assert!(OTHERS.contains(program), "{place}: {program}");
        return;
    }
    let options: Vec<&&str> = arguments.iter().filter(|w| w.starts_with("--")).collect();
    let command: Vec<&str> = arguments
        .iter()
        .copied()
        .filter(|word| *word != "--json")
        .take(2)
        .collect();
    let both = (command.len() == 2)
        .then(|| help(&command, known))
        .flatten();
    // Where there are commands below, one of them is meant.
    let one = help(&command[..1], known).filter(|help| !help.contains("Commands:"));
    let help = both.or(one);
    let help = help.unwrap_or_else(|| panic!("{place}: no command {command:?}"));
    for option in options {
        let is_listed = help.lines().any(|line| {
            let mut words = line.split([' ', ',']);
            words.any(|word| word == *option) && line.trim_start().starts_with('-')
        });
        assert!(is_listed, "{place}: no {option} in\n{help}");
    }
}

#[test]
fn every_command_in_the_guide_exists_with_its_options() {
    let _load = shared_machine();
    let mut known = BTreeMap::new();
    for Block { place, info, text } in blocks() {
        if info.starts_with("sh") {
            for line in text.lines().filter(|line| !line.is_empty()) {
                check_command(&place, line, &mut known);
            }
        }
    }
    assert!(known.len() > 5, "{:?}", known.keys());
}

/// Whether `told` is what was `expected`, in which `...` stands for anything.
fn matches(expected: &str, told: &str) -> bool {
    let pieces: Vec<&str> = expected.split("...").collect();
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
        return false;
    };
    if pieces.len() == 1 {
        return expected == told;
    }
    let mut rest = told;
    let in_order = pieces.iter().all(|piece| {
        let after = rest.split_once(piece).map(|(_, after)| after);
        rest = after.unwrap_or_default();
        after.is_some()
    });
    in_order && told.starts_with(first) && told.ends_with(last)
}

/// What is marked so is run in the folder of the project; the next block is what it writes.
#[test]
fn what_the_guide_runs_says_what_the_guide_says() {
    let _load = shared_machine();
    let blocks = blocks();
    let mut ran = 0;
    for pair in blocks.windows(2) {
        let [commands, expected] = pair else { continue };
        if commands.info != "sh,run" {
            continue;
        }
        assert_eq!(expected.info, "text", "{}", commands.place);
        let mut told = String::new();
        for line in commands.text.lines() {
            let words = words(line);
            let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
            let mut command = program(&arguments);
            command.current_dir(root()).env("AIRSSYS_LOG", "off");
            let output = command.output().unwrap();
            told += &out(&output);
            told += &err(&output);
        }
        assert!(
            matches(expected.text.trim(), told.trim()),
            "{}: {told}",
            commands.place
        );
        ran += 1;
    }
    assert!(ran > 3);
}

/// Source of guests and interfaces in the guide is a piece of a file there is.
#[test]
fn guests_and_interfaces_in_the_guide_are_the_projects_own() {
    let sources = |folder: &str, ending: &str| -> Vec<String> {
        let paths: Vec<PathBuf> = files(folder, ending);
        let read = |path| std::fs::read_to_string(path).unwrap();
        paths.into_iter().map(read).collect()
    };
    let code = sources("guests/components", ".rs");
    let interfaces = [
        sources("guests/components", ".wit"),
        sources("airssys-wasm/wit", ".wit"),
    ]
    .concat();
    let mut found = 0;
    for Block { place, info, text } in blocks() {
        let among = match info.as_str() {
            "rs" => &code,
            "wit" => &interfaces,
            _ => continue,
        };
        assert!(among.iter().any(|source| source.contains(&text)), "{place}");
        found += 1;
    }
    assert!(found > 2);
}

/// Names with so many parts are those of tests; keys and functions have fewer.
#[test]
fn every_test_that_the_guide_names_exists() {
    let tests = test_names();
    for (chapter, text) in chapters() {
        let prose: String = text.split("```").step_by(2).collect();
        let named: Vec<&str> = backticked(&prose)
            .filter(|name| is_test_name(name) && name.matches('_').count() >= 4)
            .collect();
        assert!(!named.is_empty(), "{chapter} names no test");
        for name in named {
            assert!(tests.contains(name), "{chapter}: no test `{name}`");
        }
    }
}
