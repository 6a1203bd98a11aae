//! What is there after a process was killed while it wrote entries.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;

const DIRECTORY: &str = "AIRSSYS_CODE_CACHE_TEST_DIRECTORY";
const PART: &str = "code_cache::tests::killed::part_of_a_writer_that_is_killed";

const MAX_BYTES: u64 = 8 * 1024 * 1024;
const IDS: u8 = 4;

/// Kills there are at least, how many of them are to fall into a write, and how many of those are to
/// leave a file that is cut short.
const KILLS: usize = 24;
const IN_A_WRITE: usize = 6;
const CUT_SHORT: usize = 2;
/// No kill comes later than this after the writer has begun, in microseconds.
const LATEST_US: u32 = 15_000;
const LIMIT: Duration = Duration::from_secs(60);

/// Of another length for each id, and of other bytes for each round.
fn code(wasm: u8, round: u8) -> Vec<u8> {
    vec![round; 300_000 + 100_000 * usize::from(wasm)]
}

#[test]
#[ignore = "a part of a_kill_in_the_middle_of_a_write_leaves_no_entry_torn"]
fn part_of_a_writer_that_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    println!("begun");
    let cache = open(Path::new(&directory), MAX_BYTES);
    for round in (0..=u8::MAX).cycle() {
        let wasm = round % IDS;
        cache.write(&id(wasm, 0), &code(wasm, round)).unwrap();
        println!("written {round}");
    }
}

/// The last round whose entry a writer has confirmed, of one that was killed at some moment.
fn killed(directory: &Path) -> Option<u8> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", PART, "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(writer.stdout.take().unwrap());
    let mut line = String::new();
    while line != "begun\n" {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "it has not begun");
    }
    let moment = Duration::from_micros((getrandom::u32().unwrap() % LATEST_US).into());
    let (_silent, timer) = mpsc::channel::<()>();
    timer.recv_timeout(moment).unwrap_err();
    writer.kill().unwrap();
    assert_eq!(writer.wait().unwrap().signal(), Some(9));
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    let whole = rest.split_inclusive('\n').filter(|l| l.ends_with('\n'));
    let mut rounds = whole.filter_map(|line| line.trim_end().strip_prefix("written "));
    rounds.next_back().map(|round| round.parse().unwrap())
}

/// Names and lengths of what a writer has left half way.
fn unfinished(directory: &Path) -> Vec<(OsString, u64)> {
    let files = fs::read_dir(directory).into_iter().flatten();
    files
        .map(|file| file.unwrap())
        .filter(|file| file.file_name().to_string_lossy().starts_with('.'))
        .map(|file| (file.file_name(), file.metadata().unwrap().len()))
        .collect()
}

#[test]
fn a_kill_in_the_middle_of_a_write_leaves_no_entry_torn() {
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let (mut kills, mut in_a_write, mut cut_short, mut kept) = (0, 0, 0, 0);
    let enough = |kills, in_a_write, cut_short| {
        kills >= KILLS && in_a_write >= IN_A_WRITE && cut_short >= CUT_SHORT
    };
    while !enough(kills, in_a_write, cut_short) && began.elapsed() < LIMIT {
        // A directory for four, so that a kill may meet the making of its key as well.
        let path: PathBuf = dir.path().join(format!("cache-{}", kills / 4));
        let confirmed = killed(&path);
        kills += 1;
        let left = unfinished(&path);
        assert!(left.len() <= 1, "{left:?}");
        in_a_write += left.len();
        let shortest = (HEADER_BYTES + code(0, 0).len() + TAG_BYTES) as u64;
        let is_cut = |(_, bytes): &(OsString, u64)| (1..shortest).contains(bytes);
        cut_short += usize::from(left.iter().any(is_cut));

        let cache = open(&path, MAX_BYTES);
        assert_eq!(unfinished(&path), []);
        for wasm in 0..IDS {
            // An entry that is half there would be an error.
            let Some(found) = cache.get(&id(wasm, 0)).unwrap() else {
                assert!(confirmed.is_none_or(|last| last < wasm));
                continue;
            };
            kept += 1;
            let round = found.bytes()[0];
            assert_eq!(found.bytes(), code(wasm, round));
            // The one confirmed last, or the one after it.
            let of_this = |last: u8| last.wrapping_sub(last.wrapping_sub(wasm) % IDS);
            if let Some(last) = confirmed.filter(|last| *last >= wasm) {
                let last = of_this(last);
                let next = last.wrapping_add(IDS);
                assert!([last, next].contains(&round), "{round}, confirmed {last}");
            }
        }
        cache.write(&id(9, 9), CODE).unwrap();
        assert_eq!(cache.get(&id(9, 9)).unwrap().unwrap().bytes(), CODE);
    }
    println!("{kills} kills, {in_a_write} in a write, {cut_short} cut short; {kept} entries kept");
    assert!(enough(kills, in_a_write, cut_short) && kept > 0);
}
