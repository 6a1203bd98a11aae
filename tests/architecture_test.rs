//! The house rules that a machine can check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use airssys::config::{ConfigFile, keys};

const CRATES: [(&str, &[&str]); 5] = [
    ("airssys-integrity", &[]),
    ("airssys-rt", &[]),
    ("airssys-osl", &["airssys-integrity"]),
    (
        "airssys-wasm",
        &["airssys-integrity", "airssys-osl", "airssys-rt"],
    ),
    (
        ".",
        &[
            "airssys-componentize",
            "airssys-guests",
            "airssys-integrity",
            "airssys-osl",
            "airssys-rt",
            "airssys-wasm",
        ],
    ),
];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below a folder with this ending; build products are left out.
pub fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<PathBuf> {
    CRATES
        .iter()
        .flat_map(|(name, _)| files(&format!("{name}/src"), ".rs"))
        .collect()
}

#[test]
fn dependencies_run_one_way() {
    for (name, allowed) in CRATES {
        let manifest: toml::Table = read(format!("{name}/Cargo.toml")).parse().unwrap();
        let Some(dependencies) = manifest.get("dependencies").and_then(|d| d.as_table()) else {
            continue;
        };
        for dependency in dependencies.keys().filter(|d| d.starts_with("airssys")) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn every_crate_inherits_the_lints() {
    for (name, _) in CRATES.iter().chain(&[
        ("benches/contenders", &[][..]),
        ("guests", &[]),
        ("guests/componentize", &[]),
        ("guests/xtask", &[]),
    ]) {
        let manifest: toml::Table = read(format!("{name}/Cargo.toml")).parse().unwrap();
        assert_eq!(
            manifest["lints"]["workspace"].as_bool(),
            Some(true),
            "{name}"
        );
    }
}

#[test]
fn files_stay_small_and_are_named_after_their_domain() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let test =
            path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        assert!(test || code.lines().count() <= 800, "{}", path.display());
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let empty = [
            "mod", "util", "utils", "core", "common", "helpers", "types", "traits", "manager",
        ];
        assert!(!empty.contains(&stem), "{}", path.display());
    }
}

/// Every `ADR-...` in code, docs and manifests is a file of docs/adr.
#[test]
fn every_adr_that_is_named_exists() {
    let adrs: BTreeSet<String> = files("docs/adr", ".md")
        .iter()
        .map(|path| adr_ids(path.file_name().unwrap().to_str().unwrap()).remove(0))
        .collect();
    for ending in [".rs", ".md", ".toml"] {
        for path in files(".", ending) {
            for id in adr_ids(&std::fs::read_to_string(&path).unwrap()) {
                assert!(adrs.contains(&id), "{} names {id}", path.display());
            }
        }
    }
}

fn adr_ids(text: &str) -> Vec<String> {
    let id = |after: &str| {
        let (area, rest) = after.split_once('-')?;
        let number = rest.get(..3)?;
        let well_formed = !area.is_empty()
            && area.chars().all(|c| c.is_ascii_uppercase())
            && number.chars().all(|c| c.is_ascii_digit());
        well_formed.then(|| format!("ADR-{area}-{number}"))
    };
    text.split("ADR-").skip(1).filter_map(id).collect()
}

/// A guarantee without a test of that name is none.
#[test]
fn every_guarantee_names_a_test_that_exists() {
    let tests = test_names();
    let mut adr_confirmations = 0;
    for path in files("docs/adr", ".md") {
        let text = std::fs::read_to_string(&path).unwrap();
        let (_, confirmation) = text.split_once("**Confirmation**").expect("a confirmation");
        for name in backticked(confirmation).filter(|name| is_test_name(name)) {
            assert!(tests.contains(name), "{}: no test `{name}`", path.display());
            adr_confirmations += 1;
        }
    }
    assert!(adr_confirmations > 0);
    for file in ["docs/semantics.md", ".memory-bank/progress.md"] {
        let heading =
            |line: &str| line.starts_with("| guarantee |") || line.starts_with("| capability |");
        let rows: Vec<String> = read(file)
            .lines()
            .filter(|line| line.starts_with("| ") && !line.starts_with("| ---") && !heading(line))
            .map(str::to_owned)
            .collect();
        assert!(!rows.is_empty(), "{file}");
        for row in rows {
            let proof = row.trim_end_matches(" |").rsplit('|').next().unwrap();
            let names: Vec<&str> = backticked(proof).collect();
            let absent = row.contains("| absent |");
            assert!(absent || !names.is_empty(), "{file}: no proof in {row}");
            for name in names.into_iter().filter(|name| is_test_name(name)) {
                assert!(tests.contains(name), "{file}: no test `{name}`");
            }
        }
    }
}

/// docs/otp.md has the 97 cases in order, each with the test of its number and name or a reason.
#[test]
fn every_otp_case_is_a_test_or_says_why_not() {
    let (page, tests) = (read("docs/otp.md"), test_names());
    let cases: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| case |"))
        .filter(|line| !line.starts_with("| ---"))
        .collect();
    assert_eq!(cases.len(), 97);
    for (number, row) in (1..).zip(cases) {
        let columns: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [case, _, proof] = columns[..] else {
            panic!("{row}");
        };
        let (found, name) = case.split_once(' ').unwrap();
        assert_eq!(found, number.to_string(), "{row}");
        let named: Vec<&str> = backticked(proof)
            .filter(|name| is_test_name(name))
            .collect();
        match proof.strip_prefix("No test: ") {
            Some(reason) => assert!(reason.len() > 20 && named.is_empty(), "{row}"),
            None => assert_eq!(named[0], format!("case_{number:02}_{name}"), "{row}"),
        }
        for test in named {
            assert!(tests.contains(test), "docs/otp.md: no test `{test}`");
        }
    }
}

pub fn is_test_name(text: &str) -> bool {
    text.contains('_')
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

pub fn backticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

pub fn test_names() -> BTreeSet<String> {
    let folders = [".", "guests"];
    let mut names = BTreeSet::new();
    for path in folders.iter().flat_map(|folder| files(folder, ".rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        for after in text.split("fn ").skip(1) {
            if let Some((name, _)) = after.split_once(['(', '<']) {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

/// What the README shows is what the project has.
#[test]
fn the_readme_shows_the_real_example_and_files_that_load() {
    let readme = read("README.md");
    let blocks = fenced(&readme);
    let example = read("examples/embed.rs");
    assert!(
        blocks["rust"]
            .iter()
            .any(|block| block.trim() == example.trim()),
        "examples/embed.rs"
    );
    let toml = &blocks["toml"];
    let component = toml
        .iter()
        .find(|block| block.contains("[component]"))
        .unwrap();
    airssys::ComponentConfig::parse("Component.toml", component).unwrap();
    let system = toml
        .iter()
        .find(|block| block.contains("[[supervisor]]"))
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    for path in ["calculator", "notebook", "leaky"] {
        std::fs::create_dir(dir.path().join(path)).unwrap();
        let named = component.replace("\"calculator\"", &format!("\"{path}\""));
        std::fs::write(dir.path().join(path).join("Component.toml"), named).unwrap();
    }
    let file = dir.path().join("airssys.toml");
    std::fs::write(&file, system).unwrap();
    airssys::SystemConfig::load(&file).unwrap();
    for command in ["cargo run --release -- demo", "cargo test"] {
        assert!(
            readme.contains(command) && read(".ci/run").contains(command),
            "{command}"
        );
    }
}

fn fenced(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut blocks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => {
                let (language, body) = open.take().unwrap();
                blocks.entry(language).or_default().push(body);
            }
            (Some((_, body)), None) => {
                body.push_str(line);
                body.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn the_memory_bank_stays_short() {
    let lines: usize = files(".memory-bank", ".md")
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap().lines().count())
        .sum();
    assert!((1..=400).contains(&lines), "{lines} lines");
}

/// docs/reference.md is written by this test when UPDATE_REFERENCE is set.
#[test]
fn the_reference_page_is_what_the_adrs_say() {
    let mut page = String::from(
        "# Configuration reference\n\nWritten from the front matter of the ADRs by \
         `UPDATE_REFERENCE=1 cargo test the_reference_page`.\n",
    );
    for file in [ConfigFile::Component, ConfigFile::System] {
        page.push_str(&format!(
            "\n## {file}\n\n| key | rule | what it does | decided by |\n| --- | --- | --- | --- |\n"
        ));
        for key in keys().of(file) {
            page.push_str(&format!(
                "| `{}` | {} | {} | {} |\n",
                key.name,
                key.rule(),
                key.summary,
                key.adr
            ));
        }
    }
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(root().join("docs/reference.md"), &page).unwrap();
    }
    assert_eq!(read("docs/reference.md"), page);
}
