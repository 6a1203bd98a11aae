//! What OTP's own tests of its supervisor assert, held against this one: a test for each case, or
//! a row of docs/otp.md that says why there is none.

mod admin;
mod change;
mod kit;
mod reasons;
mod scale;
mod significant;
mod start;
mod stop;
mod strategies;
mod telling;
mod tree;

/// Without its neighbours, so that it runs where they are not built.
#[test]
fn docs_otp_md_names_each_case_and_its_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../docs/otp.md")).unwrap();
    let mut code = String::new();
    for file in std::fs::read_dir(root.join("tests/rt/otp")).unwrap() {
        code += &std::fs::read_to_string(file.unwrap().path()).unwrap();
    }
    let numbered = |line: &&str| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit();
    let rows: Vec<&str> = page.lines().filter(numbered).collect();
    assert_eq!(rows.len(), 97);
    let mut tests = 0;
    for (number, row) in (1..).zip(rows) {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let (found, name) = columns[1].split_once(' ').unwrap();
        assert_eq!(found, number.to_string(), "{row}");
        let test = format!("case_{number:02}_{name}");
        let is_there = code.contains(&format!("fn {test}("));
        let named = columns[3].starts_with(&format!("`{test}`"));
        let excused = columns[3].starts_with("No test: ");
        assert!(is_there == named && named != excused, "{row}");
        tests += usize::from(named);
    }
    assert_eq!(tests, 94);
}
