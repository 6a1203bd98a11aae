#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed set-up should fail the test"
)]

mod killed;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

const CODE: &[u8] = &[7; 1500];

fn id(wasm: u8, fingerprint: u8) -> CodeId {
    CodeId {
        wasm: [wasm; 32],
        fingerprint: [fingerprint; 32],
    }
}

fn open(directory: &Path, max_bytes: u64) -> CodeCache {
    let directory = directory.to_path_buf();
    CodeCache::open(&CacheConfig {
        directory,
        max_bytes,
    })
    .unwrap()
}

fn fault(cache: &CodeCache, id: &CodeId) -> EntryFault {
    match cache.get(id) {
        Err(CacheError::Entry { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_flip_and_no_cut_of_an_entry_is_ever_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path().join("cache").as_path(), 1 << 20);
    let id = id(1, 2);
    cache.write(&id, CODE).unwrap();
    assert_eq!(cache.get(&id).unwrap().unwrap().bytes(), CODE);
    let path = cache.directory.path().join(id.file());
    let entry = fs::read(&path).unwrap();
    let whole_parts = (0..HEADER_BYTES).chain(entry.len() - TAG_BYTES..entry.len());
    for position in whole_parts.chain((0..entry.len()).step_by(37)) {
        for bit in 0..8 {
            let mut flipped = entry.clone();
            flipped[position] ^= 1 << bit;
            fs::write(&path, &flipped).unwrap();
            assert!(cache.get(&id).is_err(), "bit {bit} of byte {position}");
        }
    }
    for length in (0..entry.len()).step_by(64).chain([entry.len() - 1]) {
        fs::write(&path, &entry[..length]).unwrap();
        assert!(cache.get(&id).is_err(), "{length} bytes");
    }
    fs::write(&path, [&entry[..], &[0]].concat()).unwrap();
    assert_eq!(fault(&cache, &id), EntryFault::Length);
    fs::write(&path, &entry).unwrap();
    assert_eq!(cache.get(&id).unwrap().unwrap().bytes(), CODE);
}

#[test]
fn an_entry_of_something_else_is_not_taken_for_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path().join("cache").as_path(), 1 << 20);
    let ours = id(1, 2);
    for other in [id(2, 2), id(1, 3)] {
        cache.write(&other, CODE).unwrap();
        assert!(cache.get(&ours).unwrap().is_none());
        let path = cache.directory.path();
        fs::rename(path.join(other.file()), path.join(ours.file())).unwrap();
        assert_eq!(fault(&cache, &ours), EntryFault::Foreign);
        assert!(cache.directory.remove(&ours.file()).unwrap());
    }
}

#[test]
fn an_entry_under_another_key_is_refused_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    open(&path, 1 << 20).write(&id(1, 2), CODE).unwrap();
    fs::remove_file(path.join(KEY_FILE)).unwrap();
    let cache = open(&path, 1 << 20);
    assert_eq!(fault(&cache, &id(1, 2)), EntryFault::Forged);
    cache.write(&id(1, 2), b"new").unwrap();
    assert_eq!(cache.get(&id(1, 2)).unwrap().unwrap().bytes(), b"new");
}

#[test]
fn a_key_that_others_can_read_or_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    drop(open(&path, 1 << 20));
    let config = CacheConfig {
        directory: path.clone(),
        max_bytes: 1 << 20,
    };
    let key = path.join(KEY_FILE);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        CodeCache::open(&config),
        Err(CacheError::Directory(PrivateError::OpenToOthers { .. }))
    ));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    for bytes in [0, 31] {
        fs::write(&key, vec![1; bytes]).unwrap();
        let refused = CodeCache::open(&config).unwrap_err();
        assert!(matches!(refused, CacheError::Key { bytes: found, .. } if found == bytes));
    }
}

#[test]
fn what_was_not_used_for_the_longest_time_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let entry = (HEADER_BYTES + CODE.len() + TAG_BYTES) as u64;
    let cache = open(dir.path().join("cache").as_path(), 3 * entry);
    let long_ago = |id: &CodeId, seconds| {
        let file = fs::File::open(cache.directory.path().join(id.file())).unwrap();
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        file.set_modified(then).unwrap();
    };
    for (n, age) in [(1, 1000), (2, 2000), (3, 3000)] {
        cache.write(&id(n, 0), CODE).unwrap();
        long_ago(&id(n, 0), age);
    }
    // Used, so it is the youngest now.
    assert!(cache.get(&id(1, 0)).unwrap().is_some());
    cache.write(&id(4, 0), CODE).unwrap();
    let there = [1, 2, 3, 4].map(|n| cache.get(&id(n, 0)).unwrap().is_some());
    assert_eq!(there, [true, false, true, true]);
    let total: u64 = cache
        .directory
        .files()
        .unwrap()
        .iter()
        .map(|f| f.bytes)
        .sum();
    assert_eq!(total, 3 * entry + KEY_BYTES as u64);
}

#[test]
fn code_larger_than_the_cache_is_refused_and_evicts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let entry = (HEADER_BYTES + CODE.len() + TAG_BYTES) as u64;
    let cache = open(dir.path().join("cache").as_path(), entry);
    cache.write(&id(1, 0), CODE).unwrap();
    let refused = cache.write(&id(2, 0), &[0; 1501]).unwrap_err();
    assert!(
        matches!(refused, CacheError::TooLarge { bytes, max_bytes }
            if bytes == entry + 1 && max_bytes == entry),
        "{refused}"
    );
    assert!(cache.get(&id(1, 0)).unwrap().is_some());
}

#[test]
fn caches_at_work_at_once_share_a_key_and_stay_within_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let entry = (HEADER_BYTES + CODE.len() + TAG_BYTES) as u64;
    std::thread::scope(|scope| {
        for n in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let cache = open(path, 5 * entry);
                for round in 0..10 {
                    cache.write(&id(n, round), CODE).unwrap();
                    // Evicted by another, or whole.
                    if let Some(code) = cache.get(&id(n, round)).unwrap() {
                        assert_eq!(code.bytes(), CODE);
                    }
                }
            });
        }
    });
    let cache = open(&path, 5 * entry);
    let files = cache.directory.files().unwrap();
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    assert!(total <= 5 * entry + KEY_BYTES as u64, "{total}");
    assert!(files.len() > 1);
}

#[test]
fn a_fingerprint_tells_engines_apart_by_what_code_depends_on() {
    let of = |fuel: bool, stack: usize| {
        let mut config = wasmtime::Config::new();
        config.consume_fuel(fuel).max_wasm_stack(stack);
        fingerprint(&wasmtime::Engine::new(&config).unwrap())
    };
    assert_eq!(of(false, 65536), of(false, 65536));
    assert_ne!(of(false, 65536), of(true, 65536));
}
