//! The key-value store, from outside: what is answered is kept, counted and kept apart.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed set-up should fail the test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use airssys_osl::{
    KeyValueConfig, KeyValueError, KeyValueFault, KeyValueOpenError, KeyValueSpace, KeyValueStore,
    PendingWrite, PrivateError, Swapped,
};
use proptest::prelude::*;
use rustix::process::{Resource, Rlimit, setrlimit};

const MIB: u64 = 1 << 20;
const PAGE: NonZeroUsize = NonZeroUsize::new(7).unwrap();

fn open(directory: &Path) -> Result<KeyValueStore, KeyValueOpenError> {
    KeyValueStore::open(&KeyValueConfig {
        directory: directory.join("kv"),
        max_bytes: 64 * MIB,
    })
}

fn keys(space: &KeyValueSpace, bucket: &str, prefix: &str) -> Vec<String> {
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let page = space
            .list_keys(bucket, prefix, cursor.as_deref(), PAGE)
            .unwrap();
        assert!(page.keys.len() <= PAGE.get());
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            return keys;
        }
    }
}

/// What the account of a component must say.
fn recount(space: &KeyValueSpace, component: &str, buckets: &[&str]) -> u64 {
    let mut sum = 0;
    for bucket in buckets {
        for key in keys(space, bucket, "") {
            let value = space.get(bucket, &key).unwrap().unwrap();
            sum += KeyValueSpace::entry_bytes(component, bucket, &key, value.len());
        }
    }
    sum
}

#[test]
fn what_is_set_is_there_after_the_store_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let space = store.space("a", MIB).unwrap();
    space.set("b", "k", b"1").wait().unwrap();
    space.set("b", "k", b"2").wait().unwrap();
    space
        .set_many("b", &[("x", b"3"), ("y", b"4"), ("x", b"5")])
        .wait()
        .unwrap();
    space.delete("b", "y").wait().unwrap();
    let pending = space.set("c", "unheard", b"6");
    drop(pending);
    drop(store);
    let store = open(dir.path()).unwrap();
    let space = store.space("a", MIB).unwrap();
    assert_eq!(space.get("b", "k").unwrap().unwrap(), b"2");
    assert_eq!(
        space.get_many("b", &["x", "y", "k"]).unwrap(),
        [Some(b"5".to_vec()), None, Some(b"2".to_vec())]
    );
    assert!(space.exists("b", "x").unwrap() && !space.exists("b", "y").unwrap());
    assert_eq!(space.get("c", "unheard").unwrap().unwrap(), b"6");
    assert_eq!(
        space.used_bytes().unwrap(),
        recount(&space, "a", &["b", "c"])
    );
    assert_eq!(store.used_bytes().unwrap(), space.used_bytes().unwrap());
}

#[test]
fn the_file_is_of_this_user_alone_and_of_one_store_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let file = dir.path().join("kv/store.redb");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert!(matches!(open(dir.path()), Err(KeyValueOpenError::InUse)));
    let refused = child("child_opens", dir.path()).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(said.lines().any(|line| line == "in use"), "{said}");
    drop(store);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        open(dir.path()),
        Err(KeyValueOpenError::Private(PrivateError::OpenToOthers {
            mode: 0o640,
            ..
        }))
    ));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    open(dir.path()).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn the_file_has_its_disk_before_it_is_written() {
    use rustix::fs::{FallocateFlags, fallocate};
    let dir = tempfile::tempdir().unwrap();
    let other = fs::File::create(dir.path().join("other")).unwrap();
    if let Err(error) = fallocate(&other, FallocateFlags::empty(), 0, 1) {
        eprintln!("not tested: {error} on {}", dir.path().display());
        return;
    }
    let store = open(dir.path()).unwrap();
    let space = store.space("a", 32 * MIB).unwrap();
    let mut lengths = Vec::new();
    for n in 0..8 {
        let file = fs::metadata(dir.path().join("kv/store.redb")).unwrap();
        assert!(file.blocks() * 512 >= file.len(), "{file:?}");
        lengths.push(file.len());
        space
            .set("b", &n.to_string(), &[n; 1 << 20])
            .wait()
            .unwrap();
    }
    assert!(lengths.last() > lengths.first(), "{lengths:?}");
}

#[test]
fn a_closed_store_answers_its_spaces_that_it_is_closed_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let space = store.space("a", MIB).unwrap();
    let file = dir.path().join("kv/store.redb").canonicalize().unwrap();
    let held = || {
        let links = fs::read_dir("/proc/self/fd").unwrap();
        links
            .filter(|link| fs::read_link(link.as_ref().unwrap().path()).is_ok_and(|to| to == file))
            .count()
    };
    assert!(held() > 0);
    let before = space.set("b", "k", b"1");
    drop(store);
    before.wait().unwrap();
    let closed = |error| matches!(error, KeyValueError::Store(KeyValueFault::Closed));
    assert!(closed(space.set("b", "k", b"2").wait().unwrap_err()));
    assert!(closed(space.get("b", "k").unwrap_err()));
    assert_eq!(held(), 0);
}

#[test]
fn no_text_of_one_component_reaches_an_entry_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let names = ["a", "ab", "a\0", "a\0b", "a/b", "\u{1}", "\0", "a\u{ff}"];
    let texts = ["", "\0", "a", "ab", "b\0a", "/", "../a", "\u{10ffff}"];
    let value =
        |component: &str, bucket: &str, key: &str| format!("{component:?}{bucket:?}{key:?}");
    let mut total = 0;
    for component in names {
        let space = store.space(component, MIB).unwrap();
        for bucket in names {
            let stored: Vec<_> = texts.map(|key| (key, value(component, bucket, key))).into();
            let entries: Vec<_> = stored.iter().map(|(k, v)| (*k, v.as_bytes())).collect();
            space.set_many(bucket, &entries).wait().unwrap();
        }
        total += recount(&space, component, &names);
    }
    assert_eq!(store.used_bytes().unwrap(), total);
    for component in names {
        let space = store.space(component, MIB).unwrap();
        assert_eq!(
            space.used_bytes().unwrap(),
            recount(&space, component, &names)
        );
        for bucket in names {
            let mut sorted = texts;
            sorted.sort_unstable();
            assert_eq!(keys(&space, bucket, ""), sorted);
            for key in texts {
                let stored = space.get(bucket, key).unwrap().unwrap();
                assert_eq!(stored, value(component, bucket, key).into_bytes());
            }
        }
    }
    // One that has nothing finds nothing, and what it deletes is nobody's.
    let nobody = store.space("a\0a", MIB).unwrap();
    for bucket in names {
        nobody.delete_many(bucket, &texts).wait().unwrap();
        assert!(keys(&nobody, bucket, "").is_empty());
    }
    assert_eq!(store.used_bytes().unwrap(), total);
}

#[test]
fn names_keys_values_and_batches_are_held_to_their_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for bad in [String::new(), "n".repeat(KeyValueSpace::MAX_NAME_BYTES + 1)] {
        assert!(matches!(
            store.space(&bad, MIB),
            Err(KeyValueError::NameLength { .. })
        ));
        let space = store.space("a", MIB).unwrap();
        assert!(matches!(
            space.set(&bad, "k", b"").wait(),
            Err(KeyValueError::NameLength { .. })
        ));
        assert!(matches!(
            space.get(&bad, "k"),
            Err(KeyValueError::NameLength { .. })
        ));
    }
    let space = store.space("a", 32 * MIB).unwrap();
    let name = "n".repeat(KeyValueSpace::MAX_NAME_BYTES);
    let key = "k".repeat(KeyValueSpace::MAX_KEY_BYTES);
    let value = vec![7; KeyValueSpace::MAX_VALUE_BYTES];
    space.set(&name, &key, &value).wait().unwrap();
    assert_eq!(space.get(&name, &key).unwrap().unwrap(), value);
    for long in [
        "k".repeat(KeyValueSpace::MAX_KEY_BYTES + 1),
        "k".repeat(1 << 20),
    ] {
        let too_long =
            |error| matches!(error, KeyValueError::KeyTooLong { bytes, .. } if bytes == long.len());
        assert!(too_long(space.set("b", &long, b"").wait().unwrap_err()));
        assert!(too_long(space.delete("b", &long).wait().unwrap_err()));
        assert!(too_long(space.increment("b", &long, 1).wait().unwrap_err()));
        assert!(too_long(
            space.swap("b", &long, None, b"").wait().unwrap_err()
        ));
        assert!(too_long(space.get("b", &long).unwrap_err()));
        assert!(too_long(space.exists("b", &long).unwrap_err()));
        assert!(too_long(
            space.list_keys("b", &long, None, PAGE).unwrap_err()
        ));
        assert!(too_long(
            space.list_keys("b", "", Some(&long), PAGE).unwrap_err()
        ));
    }
    let large = vec![7; KeyValueSpace::MAX_VALUE_BYTES + 1];
    let too_large = |error| matches!(error, KeyValueError::ValueTooLarge { .. });
    assert!(too_large(space.set("b", "k", &large).wait().unwrap_err()));
    assert!(too_large(
        space.swap("b", "k", None, &large).wait().unwrap_err()
    ));
    let many = vec!["k"; KeyValueSpace::MAX_BATCH_KEYS + 1];
    let pairs: Vec<(&str, &[u8])> = many.iter().map(|key| (*key, &b""[..])).collect();
    let too_many = |error| matches!(error, KeyValueError::TooManyKeys { .. });
    assert!(too_many(space.get_many("b", &many).unwrap_err()));
    assert!(too_many(space.delete_many("b", &many).wait().unwrap_err()));
    assert!(too_many(space.set_many("b", &pairs).wait().unwrap_err()));
    space.set_many("b", &pairs[1..]).wait().unwrap();
    let names: Vec<_> = (0..=KeyValueSpace::MAX_BATCH_BYTES / KeyValueSpace::MAX_VALUE_BYTES)
        .map(|n| n.to_string())
        .collect();
    let heavy: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, &value[..])).collect();
    let too_heavy = |error| matches!(error, KeyValueError::BatchTooLarge { .. });
    assert!(too_heavy(space.set_many("h", &heavy).wait().unwrap_err()));
    for (key, value) in &heavy {
        space.set("h", key, value).wait().unwrap();
    }
    let names: Vec<_> = names.iter().map(|name| &**name).collect();
    assert!(too_heavy(space.get_many("h", &names).unwrap_err()));
    assert_eq!(
        space.get_many("h", &names[1..]).unwrap().len(),
        names.len() - 1
    );
}

#[test]
fn a_page_of_keys_is_bounded_whatever_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let space = store.space("a", MIB).unwrap();
    let names: Vec<_> = (0..1500).map(|n| format!("{n:04}")).collect();
    for part in names.chunks(KeyValueSpace::MAX_BATCH_KEYS) {
        let part: Vec<_> = part.iter().map(|name| (&**name, &b""[..])).collect();
        space.set_many("b", &part).wait().unwrap();
    }
    let page = space.list_keys("b", "", None, NonZeroUsize::MAX).unwrap();
    assert_eq!(page.keys, names[..1000]);
    let rest = space
        .list_keys("b", "", page.cursor.as_deref(), NonZeroUsize::MAX)
        .unwrap();
    assert_eq!((&rest.keys[..], rest.cursor), (&names[1000..], None));
}

#[test]
fn a_quota_is_exact_to_the_byte_and_shrinking_is_always_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let one = KeyValueSpace::entry_bytes("a", "b", "k", 10);
    assert_eq!(one, KeyValueSpace::ENTRY_BYTES + 13);
    let space = store.space("a", 2 * one).unwrap();
    space.set("b", "k", &[0; 10]).wait().unwrap();
    space.set("b", "l", &[0; 10]).wait().unwrap();
    assert_eq!(space.used_bytes().unwrap(), 2 * one);
    let refused = space.set("b", "l", &[0; 11]).wait().unwrap_err();
    assert!(
        matches!(
            refused,
            KeyValueError::QuotaExceeded { quota, used, asked: 1 }
                if quota == 2 * one && used == 2 * one
        ),
        "{refused}"
    );
    // All or none.
    let refused = space
        .set_many("b", &[("k", b"small"), ("m", &[0; 10])])
        .wait();
    assert!(matches!(refused, Err(KeyValueError::QuotaExceeded { .. })));
    assert_eq!(space.get("b", "k").unwrap().unwrap(), [0; 10]);
    assert!(!space.exists("b", "m").unwrap());
    // Under a quota that is less than what is there, what does not grow is written.
    let narrow = store.space("a", one).unwrap();
    narrow.set("b", "k", &[1; 10]).wait().unwrap();
    narrow.set("b", "k", &[1; 9]).wait().unwrap();
    assert!(narrow.set("b", "k", &[1; 10]).wait().is_err());
    narrow.delete_many("b", &["k", "l", "l"]).wait().unwrap();
    assert_eq!(store.used_bytes().unwrap(), 0);
    narrow.set("b", "k", &[1; 10]).wait().unwrap();
}

#[test]
fn all_components_together_keep_within_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let one = KeyValueSpace::entry_bytes("a", "b", "k", 100);
    let store = KeyValueStore::open(&KeyValueConfig {
        directory: dir.path().join("kv"),
        max_bytes: 3 * one,
    })
    .unwrap();
    let spaces = ["a", "b", "c", "d"].map(|name| store.space(name, MIB).unwrap());
    for space in &spaces[..3] {
        space.set("b", "k", &[0; 100]).wait().unwrap();
    }
    let refused = spaces[3].set("b", "k", b"").wait().unwrap_err();
    assert!(
        matches!(refused, KeyValueError::StoreFull { used, .. } if used == 3 * one),
        "{refused}"
    );
    spaces[0].delete("b", "k").wait().unwrap();
    spaces[3].set("b", "k", &[0; 100]).wait().unwrap();
}

#[test]
fn counters_and_swaps_of_many_threads_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let space = store.space("a", MIB).unwrap();
    let sums: Vec<i64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut sums = Vec::new();
                    for _ in 0..25 {
                        sums.push(space.increment("b", "count", 3).wait().unwrap());
                        let mut expected: Option<Vec<u8>> = None;
                        while let Swapped::Differs(found) = {
                            let mut new = expected.clone().unwrap_or_default();
                            new.push(b'x');
                            space
                                .swap("b", "grown", expected.as_deref(), &new)
                                .wait()
                                .unwrap()
                        } {
                            expected = found;
                        }
                    }
                    sums
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut sums = sums;
    sums.sort_unstable();
    assert_eq!(sums, (1..=200).map(|n| n * 3).collect::<Vec<_>>());
    assert_eq!(space.get("b", "grown").unwrap().unwrap().len(), 200);
}

#[test]
fn what_is_no_number_or_would_be_none_is_not_counted_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let space = store.space("a", MIB).unwrap();
    assert_eq!(
        space.increment("b", "n", i64::MAX).wait().unwrap(),
        i64::MAX
    );
    assert!(matches!(
        space.increment("b", "n", 1).wait(),
        Err(KeyValueError::OutOfRange {
            value: i64::MAX,
            delta: 1
        })
    ));
    assert_eq!(space.increment("b", "n", -1).wait().unwrap(), i64::MAX - 1);
    let text = (i64::MAX - 1).to_string().into_bytes();
    assert_eq!(space.get("b", "n").unwrap().unwrap(), text);
    space.set("b", "n", b"\xff").wait().unwrap();
    assert!(matches!(
        space.increment("b", "n", 1).wait(),
        Err(KeyValueError::NotANumber)
    ));
}

#[test]
fn a_space_that_does_not_wait_is_told_that_it_is_busy_and_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let (space, other) = (
        store.space("a", MIB).unwrap(),
        store.space("b", MIB).unwrap(),
    );
    let value = vec![0; 4096];
    // Faster than a disk can be, until the bound tells.
    let mut pending: Vec<PendingWrite<()>> = Vec::new();
    let mut refused = 0;
    for n in 0..16 * KeyValueSpace::MAX_WAITING_OF_A_SPACE {
        pending.push(space.set("b", &(n % 50).to_string(), &value));
    }
    let answered = other.set("b", "k", b"1").wait();
    for answer in pending {
        match answer.wait() {
            Ok(()) => {}
            Err(KeyValueError::Busy) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    answered.unwrap();
    assert!(refused > 0, "nothing was refused");
    space.set("b", "k", b"2").wait().unwrap();
}

fn child(name: &str, directory: &Path) -> Child {
    // A signal that is ignored stays so in what a shell is replaced by: writing past the limit is
    // an error then, and not the end.
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--quiet", "--nocapture", "--ignored", "--exact", name])
        .env("AIRSSYS_STORE", directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Where a child works; none where the test was not started by another one.
fn assigned() -> Option<std::path::PathBuf> {
    std::env::var_os("AIRSSYS_STORE").map(Into::into)
}

/// A line of a child, past what its own test harness prints.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_opens() {
    let Some(directory) = assigned() else { return };
    match open(&directory) {
        Err(KeyValueOpenError::InUse) => say("in use"),
        other => say(&format!("{other:?}")),
    }
}

/// Threads of a writing child, two for each component.
const THREADS: u32 = 4;
/// Writes of each thread that are told to the parent; each is of four operations.
const ROUNDS: u32 = 250;

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_writes() {
    let Some(directory) = assigned() else { return };
    let store = open(&directory).unwrap();
    let run = std::env::var("AIRSSYS_RUN").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let component = ["a", "b"][thread as usize % 2];
            let space = store.space(component, 32 * MIB).unwrap();
            let run = &run;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let key = |round: u32| format!("{run}-{thread}-{round}");
                    let writes = [
                        space.set("of-a-round", &key(round), &payload(component, round)),
                        space.set("last", &thread.to_string(), key(round).as_bytes()),
                    ];
                    let removed = (round % 5 == 0 && round > 0)
                        .then(|| space.delete("of-a-round", &key(round - 5)));
                    let counted = space.increment("count", "", 1);
                    for write in writes.into_iter().chain(removed) {
                        write.wait().unwrap();
                    }
                    counted.wait().unwrap();
                    say(&format!("ack {thread} {round}"));
                }
            });
        }
    });
}

fn payload(component: &str, round: u32) -> Vec<u8> {
    format!("{component}{round}")
        .repeat(1 + round as usize % 97)
        .into_bytes()
}

#[test]
fn every_answered_write_survives_a_kill_and_the_account_is_of_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut counted = [0_i64; 2];
    for (run, kill_after) in [1, 150, 400, 900].into_iter().enumerate() {
        let mut killed = child_with_run("child_writes", dir.path(), run);
        let mut acked: BTreeMap<u32, u32> = BTreeMap::new();
        let lines = BufReader::new(killed.stdout.take().unwrap()).lines();
        let mut heard = 0;
        for line in lines {
            let line = line.unwrap();
            let Some((_, ack)) = line.split_once("ack ") else {
                continue;
            };
            let (thread, round) = ack.split_once(' ').unwrap();
            acked.insert(thread.parse().unwrap(), round.parse().unwrap());
            heard += 1;
            if heard == kill_after {
                // What is in the pipe by now was answered before the end, and is read on.
                killed.kill().unwrap();
            }
        }
        assert!(
            !killed.wait().unwrap().success(),
            "the child was not killed"
        );
        assert!(heard >= kill_after, "{heard}");
        let store = open(dir.path()).unwrap();
        for (at, component) in ["a", "b"].into_iter().enumerate() {
            let space = store.space(component, MIB).unwrap();
            let of_it = |thread: &u32| *thread as usize % 2 == at;
            for (thread, last) in acked.iter().filter(|(thread, _)| of_it(thread)) {
                for round in 0..=*last {
                    let key = format!("{run}-{thread}-{round}");
                    let found = space.get("of-a-round", &key).unwrap();
                    if round % 5 != 0 {
                        assert_eq!(found.unwrap(), payload(component, round), "{key}");
                    } else if round + 5 <= *last {
                        assert_eq!(found, None, "{key}");
                    }
                }
                let found = space.get("last", &thread.to_string()).unwrap().unwrap();
                let found = String::from_utf8(found).unwrap();
                let found = found.strip_prefix(&format!("{run}-{thread}-")).unwrap();
                assert!(found.parse::<u32>().unwrap() >= *last);
                counted[at] += i64::from(*last) + 1;
            }
            // Those whose answer was not heard may have been counted as well.
            let count = space.increment("count", "", 0).wait().unwrap();
            assert!(count >= counted[at], "{count} of {}", counted[at]);
            counted[at] = count;
            let buckets = ["of-a-round", "last", "count"];
            assert_eq!(
                space.used_bytes().unwrap(),
                recount(&space, component, &buckets)
            );
            let foreign = if component == "a" { "b" } else { "a" };
            for key in keys(&space, "of-a-round", "") {
                let value = space.get("of-a-round", &key).unwrap().unwrap();
                assert!(!value.starts_with(foreign.as_bytes()), "{key}");
            }
        }
        let sum: u64 = ["a", "b"]
            .map(|name| store.space(name, MIB).unwrap().used_bytes().unwrap())
            .iter()
            .sum();
        assert_eq!(store.used_bytes().unwrap(), sum);
    }
}

fn child_with_run(name: &str, directory: &Path, run: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--quiet", "--nocapture", "--ignored", "--exact", name])
        .env("AIRSSYS_STORE", directory)
        .env("AIRSSYS_RUN", run.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_fills_the_disk() {
    let Some(directory) = assigned() else { return };
    let limit = Rlimit {
        current: Some(8 * MIB),
        maximum: Some(8 * MIB),
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    let store = open(&directory).unwrap();
    let space = store.space("a", 64 * MIB).unwrap();
    let value = vec![7; 256 << 10];
    let mut kept = 0;
    let refused = loop {
        match space.set("b", &kept.to_string(), &value).wait() {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, KeyValueError::Store(KeyValueFault::NoRoom { .. })),
        "{refused:?}"
    );
    // The store goes on: what is there is read, and room is made by deleting.
    for key in 0..kept {
        assert_eq!(space.get("b", &key.to_string()).unwrap().unwrap(), value);
    }
    space.set("b", "small", b"1").wait().unwrap();
    space.delete("b", "0").wait().unwrap();
    space.delete("b", "1").wait().unwrap();
    space.set("b", "2", &value).wait().unwrap();
    say(&format!("kept {kept}"));
}

#[test]
fn a_full_disk_is_a_typed_error_and_what_was_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let filled = child("child_fills_the_disk", dir.path())
        .wait_with_output()
        .unwrap();
    let said = String::from_utf8_lossy(&filled.stdout);
    assert!(filled.status.success(), "{said}");
    let kept = said
        .lines()
        .find_map(|line| Some(line.split_once("kept ")?.1));
    let kept: u32 = kept.unwrap().parse().unwrap();
    assert!(kept > 4, "{kept}");
    let store = open(dir.path()).unwrap();
    let space = store.space("a", 64 * MIB).unwrap();
    for key in 2..kept {
        let found = space.get("b", &key.to_string()).unwrap().unwrap();
        assert_eq!(found, vec![7; 256 << 10]);
    }
    assert_eq!(space.used_bytes().unwrap(), recount(&space, "a", &["b"]));
}

#[test]
fn a_damaged_file_is_a_typed_error_and_never_other_content() {
    let dir = tempfile::tempdir().unwrap();
    let entries: BTreeMap<_, _> = (0..300_u32)
        .map(|n| (format!("{n:03}"), payload("a", n)))
        .collect();
    {
        let store = open(dir.path()).unwrap();
        let space = store.space("a", 32 * MIB).unwrap();
        for (key, value) in &entries {
            drop(space.set("b", key, value));
            if key.ends_with('9') {
                space.delete("b", "none").wait().unwrap();
            }
        }
    }
    let file = dir.path().join("kv/store.redb");
    let whole = fs::read(&file).unwrap();
    let mut refused = 0;
    let mut holds = |bytes: &[u8], what: &str| {
        fs::write(&file, bytes).unwrap();
        match open(dir.path()) {
            Err(KeyValueOpenError::Store(_)) => refused += 1,
            Err(other) => panic!("{what}: {other}"),
            Ok(store) => {
                let space = store.space("a", 32 * MIB).unwrap();
                let found = keys(&space, "b", "");
                assert!(found.iter().eq(entries.keys()), "{what}: {}", found.len());
                for (key, value) in &entries {
                    assert_eq!(space.get("b", key).unwrap().as_ref(), Some(value), "{what}");
                }
            }
        }
    };
    holds(&whole, "as it was");
    for at in (0..512).chain((512..whole.len()).step_by(whole.len() / 300)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        holds(&bytes, &format!("a bit of byte {at}"));
    }
    for length in [1, 100, 4096, whole.len() / 2, whole.len() - 4096] {
        holds(&whole[..length], &format!("the first {length} bytes"));
    }
    holds(b"no database at all", "text");
    assert!(refused > 20, "{refused}");
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u8, String, Vec<u8>),
    SetMany(u8, u8, Vec<(String, Vec<u8>)>),
    Delete(u8, u8, Vec<String>),
    Increment(u8, u8, String, i64),
    Swap(u8, u8, String, Option<Vec<u8>>, Vec<u8>),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let key =
        || prop::sample::select(vec!["", "\0", "a", "a\0", "ab", "b", "n"]).prop_map(String::from);
    let value = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            Just(b"7".to_vec())
        ]
    };
    let place = || (0..2_u8, 0..2_u8);
    prop_oneof![
        4 => (place(), key(), value()).prop_map(|((s, b), k, v)| Step::Set(s, b, k, v)),
        2 => (place(), prop::collection::vec((key(), value()), 0..5))
            .prop_map(|((s, b), all)| Step::SetMany(s, b, all)),
        2 => (place(), prop::collection::vec(key(), 0..4))
            .prop_map(|((s, b), k)| Step::Delete(s, b, k)),
        2 => (place(), key(), -9..9_i64).prop_map(|((s, b), k, d)| Step::Increment(s, b, k, d)),
        2 => (place(), key(), prop::option::of(value()), value())
            .prop_map(|((s, b), k, e, n)| Step::Swap(s, b, k, e, n)),
        1 => Just(Step::Reopen),
    ]
}

const QUOTA: u64 = 600;
const SPACES: [&str; 2] = ["a", "a\0a"];
const BUCKETS: [&str; 2] = ["b", "a"];

/// A map that keeps the same rules in the plainest way.
#[derive(Default)]
struct Model(BTreeMap<(u8, u8, String), Vec<u8>>);

impl Model {
    fn used(&self, space: u8) -> u64 {
        let of_it = self.0.iter().filter(|((s, ..), _)| *s == space);
        of_it
            .map(|((s, b, k), v)| {
                KeyValueSpace::entry_bytes(SPACES[*s as usize], BUCKETS[*b as usize], k, v.len())
            })
            .sum()
    }

    /// Sets all or none; whether it did.
    fn set(&mut self, space: u8, bucket: u8, entries: &[(String, Vec<u8>)]) -> bool {
        let (before, used) = (self.0.clone(), self.used(space));
        for (key, value) in entries {
            self.0.insert((space, bucket, key.clone()), value.clone());
        }
        let fits = self.used(space) <= QUOTA.max(used);
        if !fits {
            self.0 = before;
        }
        fits
    }
}

fn agrees(answer: Result<(), KeyValueError>, fits: bool) {
    match answer {
        Ok(()) => assert!(fits, "the model refuses"),
        Err(KeyValueError::QuotaExceeded { .. }) => assert!(!fits, "the model accepts"),
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn a_store_behaves_as_a_map(steps in prop::collection::vec(step(), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        let mut model = Model::default();
        for step in steps {
            let space = |s: u8| store.space(SPACES[s as usize], QUOTA).unwrap();
            let bucket = |b: u8| BUCKETS[b as usize];
            match step {
                Step::Set(s, b, k, v) => {
                    let fits = model.set(s, b, &[(k.clone(), v.clone())]);
                    agrees(space(s).set(bucket(b), &k, &v).wait(), fits);
                }
                Step::SetMany(s, b, all) => {
                    let fits = model.set(s, b, &all);
                    let all: Vec<_> = all.iter().map(|(k, v)| (&**k, &**v)).collect();
                    agrees(space(s).set_many(bucket(b), &all).wait(), fits);
                }
                Step::Delete(s, b, all) => {
                    let names: Vec<_> = all.iter().map(|key| &**key).collect();
                    space(s).delete_many(bucket(b), &names).wait().unwrap();
                    for key in all {
                        model.0.remove(&(s, b, key));
                    }
                }
                Step::Increment(s, b, k, d) => {
                    let answer = space(s).increment(bucket(b), &k, d).wait();
                    let stored = model.0.get(&(s, b, k.clone()));
                    let text = stored.map_or("0".into(), |v| String::from_utf8_lossy(v));
                    match text.parse::<i64>() {
                        Err(_) => prop_assert!(matches!(answer, Err(KeyValueError::NotANumber))),
                        Ok(value) => {
                            let sum = value + d;
                            let fits = model.set(s, b, &[(k, sum.to_string().into_bytes())]);
                            if let Ok(answer) = &answer {
                                prop_assert_eq!(*answer, sum);
                            }
                            agrees(answer.map(drop), fits);
                        }
                    }
                }
                Step::Swap(s, b, k, e, n) => {
                    let stored = model.0.get(&(s, b, k.clone())).cloned();
                    let answer = space(s).swap(bucket(b), &k, e.as_deref(), &n).wait();
                    if stored == e {
                        let fits = model.set(s, b, &[(k, n)]);
                        agrees(answer.map(|answer| assert_eq!(answer, Swapped::Done)), fits);
                    } else {
                        prop_assert_eq!(answer.unwrap(), Swapped::Differs(stored));
                    }
                }
                Step::Reopen => {
                    drop(store);
                    store = open(dir.path()).unwrap();
                }
            }
        }
        for (s, name) in (0..).zip(SPACES) {
            let space = store.space(name, QUOTA).unwrap();
            prop_assert_eq!(space.used_bytes().unwrap(), model.used(s));
            for (b, bucket) in (0..).zip(BUCKETS) {
                for prefix in ["", "a", "a\0", "n", "x"] {
                    let of_it = model.0.keys().filter(|key| key.0 == s && key.1 == b);
                    let expected = of_it.map(|key| &key.2).filter(|key| key.starts_with(prefix));
                    let found = keys(&space, bucket, prefix);
                    prop_assert!(found.iter().eq(expected), "{:?}", found);
                }
            }
        }
        for ((s, b, k), v) in &model.0 {
            let space = store.space(SPACES[*s as usize], QUOTA).unwrap();
            prop_assert_eq!(&space.get(BUCKETS[*b as usize], k).unwrap().unwrap(), v);
        }
    }
}
