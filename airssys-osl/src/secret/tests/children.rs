//! What spoils a process, or needs one to itself: this test binary again, with one task.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;

use super::needle::{Needle, mappings, peek};
use super::*;

const TASK: &str = "AIRSSYS_SECRET_TASK";
const NEEDLE: &str = "AIRSSYS_SECRET_NEEDLE";
const IDENTITY: &str = "AIRSSYS_SECRET_IDENTITY";
const FILE: &str = "AIRSSYS_SECRET_FILE";

fn start(task: &str, with: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "secret::tests::children::task", "--ignored"])
        .args(["--test-threads=1", "--nocapture"])
        .env(TASK, task)
        .envs(with.iter().copied())
        .output()
        .unwrap()
}

pub(super) fn succeeds(task: &str) -> String {
    succeeds_with(task, &[])
}

fn succeeds_with(task: &str, with: &[(&str, &str)]) -> String {
    let output = start(task, with);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{task}: {told}{errors}");
    assert!(told.contains("1 passed"), "{task}: {told}{errors}");
    told
}

#[test]
#[ignore = "started by other tests, in a process of its own"]
fn task() {
    let backing = |name: &str| match name {
        "secret" => Backing::SecretMemory,
        _ => Backing::Anonymous,
    };
    let task = std::env::var(TASK).unwrap();
    match task.split(' ').collect::<Vec<_>>()[..] {
        ["whichever_call_fails"] => super::faults::whichever_call_fails(),
        ["replaced_pages"] => super::faults::replaced_pages(),
        ["kept_pages"] => super::faults::kept_pages(),
        ["touch", on, len, ref when @ ..] => touch(backing(on), len.parse().unwrap(), when),
        ["fork", on] => fork(backing(on)),
        ["flags", on] => flags(backing(on)),
        ["residue", on] => residue(backing(on)),
        ["loaded", what] => loaded(what),
        ["low_limit", on] => low_limit(backing(on)),
        _ => panic!("no task {task}"),
    }
}

/// Which backings this kernel has, as tasks name them.
fn backings() -> Vec<&'static str> {
    let found = std::cell::RefCell::new(Vec::new());
    on_each_backing(|backing| {
        found.borrow_mut().push(match backing {
            Backing::SecretMemory => "secret",
            Backing::Anonymous => "anonymous",
        });
    });
    found.into_inner()
}

/// Reads one byte beside, or in, a secret.
fn touch(backing: Backing, len: usize, when: &[&str]) {
    without(backing);
    let memory = memory(SecretPolicy::Strict);
    let secret = ProtectedSecret::random(&memory, len).unwrap();
    assert_eq!(secret.protection_report().backing, backing);
    let value = secret.access().unwrap();
    let start = value.as_ptr();
    let block = &secret.slot.block;
    let first = block.address();
    let at = match when {
        ["read"] => start.addr(),
        ["before"] => first - 1,
        // A long value ends where the guard page begins.
        ["behind"] if len > 1024 => start.addr() + len,
        ["behind"] => first + block.pages().bytes(),
        ["at_rest"] => {
            drop(value);
            start.addr()
        }
        ["closed"] => {
            drop(value);
            secret.close().unwrap();
            start.addr()
        }
        other => panic!("{other:?}"),
    };
    let at = std::ptr::with_exposed_provenance::<u8>(at);
    // SAFETY: none; the point is that the process ends here.
    std::hint::black_box(unsafe { at.read_volatile() });
}

#[test]
fn a_touch_of_a_guard_page_or_of_a_secret_nobody_reads_ends_the_process() {
    const SIGSEGV: i32 = 11;
    for on in backings() {
        for len in [32, 5000] {
            succeeds(&format!("touch {on} {len} read"));
            for when in ["before", "behind", "at_rest", "closed"] {
                let output = start(&format!("touch {on} {len} {when}"), &[]);
                let signal = output.status.signal();
                assert_eq!(signal, Some(SIGSEGV), "{on} {len} {when}");
            }
        }
    }
}

/// Forks while the secret can be read, and lets the child read it.
fn fork(backing: Backing) {
    without(backing);
    let memory = memory(SecretPolicy::Strict);
    let secret = ProtectedSecret::from_vec(&memory, vec![0x5a; 64]).unwrap();
    let report = secret.protection_report();
    let value = secret.access().unwrap();
    // SAFETY: the child reads mapped memory and exits, nothing else.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let at = value.as_ptr();
        // SAFETY: as the test expects: zeros, or the end of this process.
        let zeros = (0..64).all(|n| unsafe { at.add(n).read_volatile() } == 0);
        // SAFETY: ends the process.
        unsafe { libc::_exit(if zeros { 0 } else { 1 }) }
    }
    let mut status = 0;
    // SAFETY: waits for the child above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    match report.forked {
        Forked::Zeros => assert_eq!(libc::WEXITSTATUS(status), 0, "{status:x}"),
        Forked::Unmapped => {
            assert!(libc::WIFSIGNALED(status), "{status:x}");
            assert_eq!(libc::WTERMSIG(status), libc::SIGSEGV);
        }
        Forked::Secret => panic!("{report:?}"),
    }
    assert_eq!(*value, [0x5a; 64]);
}

#[test]
fn a_forked_child_reads_zeros_or_ends() {
    for on in backings() {
        succeeds(&format!("fork {on}"));
    }
}

/// What the kernel itself says of the pages.
fn flags(backing: Backing) {
    without(backing);
    let secret = ProtectedSecret::random(&memory(SecretPolicy::Strict), 32).unwrap();
    let start = format!("{:x}-", secret.slot.block.address());
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (_, mapping) = smaps.split_once(&format!("\n{start}")).unwrap();
    let (_, flags) = mapping.split_once("VmFlags:").unwrap();
    let flags: Vec<&str> = flags.lines().next().unwrap().split(' ').collect();
    let fork = match backing {
        Backing::SecretMemory => "dc",
        Backing::Anonymous => "wf",
    };
    for wanted in ["lo", "dd", fork] {
        assert!(flags.contains(&wanted), "{wanted} in {flags:?}");
    }
    assert!(!flags.contains(&"rd"), "{flags:?}");
    let report = secret.protection_report();
    assert!(report.locked && report.excluded_from_dumps && report.unreadable_at_rest);
    let ours: Vec<_> = mappings()
        .into_iter()
        .filter(|(from, to, _)| {
            let base = secret.slot.block.address();
            *to == base || *from == base + secret.slot.block.pages().bytes()
        })
        .map(|(_, _, flags)| flags)
        .collect();
    assert_eq!(ours, ["---p", "---p"]);
    let read = secret
        .with_bytes(|value| peek(value.as_ptr().addr(), 32))
        .unwrap();
    assert_eq!(
        read.is_err(),
        backing == Backing::SecretMemory,
        "/proc/self/mem"
    );
}

#[test]
fn the_kernel_says_locked_out_of_dumps_and_withheld_from_children() {
    for on in backings() {
        succeeds(&format!("flags {on}"));
    }
}

/// From a plain buffer into a secret and out of the world.
fn residue(backing: Backing) {
    without(backing);
    let needle = Needle::random();
    // The search finds what is there to be found.
    let mut source = vec![0; 32];
    needle.write(&mut source);
    assert_eq!(needle.find(), [source.as_ptr().addr()]);
    let strict = memory(SecretPolicy::Strict);
    let secret = ProtectedSecret::from_bytes(&strict, &mut source).unwrap();
    let kept = secret.with_bytes(|value| value.as_ptr().addr()).unwrap();
    let seen = match backing {
        Backing::SecretMemory => vec![],
        Backing::Anonymous => vec![kept],
    };
    assert_eq!(needle.find(), seen);
    assert!(secret.with_bytes(|value| needle.is(value)).unwrap());
    // Another secret keeps the page mapped.
    let _beside = ProtectedSecret::random(&strict, 32).unwrap();
    secret.close().unwrap();
    assert_eq!(needle.find(), []);

    // In the middle: the allocator writes into the beginning of what it gets back.
    let mut source = Vec::with_capacity(200);
    source.resize(150, 0);
    needle.write(&mut source[64..96]);
    drop(ProtectedSecret::from_vec(&strict, source).unwrap());
    assert_eq!(needle.find(), []);

    let small = SecretLimits {
        max_bytes: 8,
        max_secrets: 1,
    };
    let mut source = [0; 32];
    needle.write(&mut source);
    let small = SecretMemory::new(SecretPolicy::Strict, small);
    ProtectedSecret::from_bytes(&small, &mut source).unwrap_err();
    assert_eq!(needle.find(), []);

    let panicking = std::panic::AssertUnwindSafe(|| {
        ProtectedSecret::new_with(&strict, 32, |value| {
            needle.write(value);
            panic!("on purpose");
        })
    });
    assert!(std::panic::catch_unwind(panicking).is_err());
    assert_eq!(needle.find(), []);
    assert_eq!(strict.secrets(), 1);
}

#[test]
fn no_copy_of_a_secret_is_left_in_memory() {
    for on in backings() {
        succeeds(&format!("residue {on}"));
    }
}

/// From where another process has put it.
fn loaded(what: &str) {
    without(Backing::Anonymous);
    let needle = Needle::from_hex(&std::env::var(NEEDLE).unwrap());
    let path = std::path::PathBuf::from(std::env::var_os(FILE).unwrap());
    let source = match what {
        "file" => SecretSource::File(path),
        "age" => SecretSource::Age {
            key: AgeKey::IdentityFile(path.with_extension("identity")),
            path,
        },
        other => panic!("{other}"),
    };
    let store = NamedSecrets::new(memory(SecretPolicy::Strict));
    let secret = store.load("loaded".parse().unwrap(), &source).unwrap();
    assert!(secret.with_bytes(|value| needle.is(value)).unwrap());
    let kept = secret.with_bytes(|value| value.as_ptr().addr()).unwrap();
    assert_eq!(needle.find(), [kept], "copies");
    if what == "age" {
        let identity = Needle::from_hex(&std::env::var(IDENTITY).unwrap());
        assert_eq!(identity.find(), [], "copies of the identity");
    }
    drop(source);
    drop(secret);
    drop(store);
    assert_eq!(needle.find(), []);
}

#[test]
fn a_secret_from_a_file_is_in_memory_once() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let needle = Needle::random();
    let mut value = [0; 32];
    needle.write(&mut value);
    let private = |path: &std::path::Path, bytes: &[u8]| {
        std::fs::write(path, bytes).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let plain = dir.path().join("plain");
    private(&plain, &value);
    let identity = age::x25519::Identity::generate();
    let encrypted = dir.path().join("encrypted");
    private(
        &encrypted,
        &age::encrypt(&identity.to_public(), &value).unwrap(),
    );
    let text = identity.to_string();
    let text = age::secrecy::ExposeSecret::expose_secret(&text);
    private(&encrypted.with_extension("identity"), text.as_bytes());
    for (what, path) in [("file", plain), ("age", encrypted)] {
        let path = path.to_str().unwrap();
        let with = [
            (NEEDLE, needle.hex()),
            (IDENTITY, Needle::of(&text.as_bytes()[30..62]).hex()),
            (FILE, path.to_owned()),
        ];
        let with: Vec<_> = with.iter().map(|(k, v)| (*k, v.as_str())).collect();
        succeeds_with(&format!("loaded {what}"), &with);
    }
}

/// Bytes that a process may lock, by default, on systems that are tight with it.
const LOW_LIMIT: u64 = 64 << 10;

fn low_limit(backing: Backing) {
    without(backing);
    let none = rustix::thread::CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).unwrap();
    let limit = Rlimit {
        current: Some(LOW_LIMIT),
        maximum: Some(LOW_LIMIT),
    };
    rustix::process::setrlimit(Resource::Memlock, limit).unwrap();
    let strict = memory(SecretPolicy::Strict);
    let mut secrets = Vec::new();
    let refused = loop {
        match ProtectedSecret::random(&strict, 32) {
            Ok(secret) => secrets.push(secret),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            refused,
            SecretError::Refused {
                protection: Protection::Locked,
                ..
            }
        ),
        "{refused}"
    );
    assert!(
        secrets
            .iter()
            .all(|secret| secret.protection_report().locked)
    );
    let page = rustix::param::page_size();
    let to_a_page = (page / 48).min(128);
    let pages = usize::try_from(LOW_LIMIT).unwrap() / page;
    assert_eq!(secrets.len(), to_a_page * pages);
    let more = ProtectedSecret::random(&memory(SecretPolicy::BestEffort), 32).unwrap();
    assert!(!more.protection_report().locked);
    // What is closed makes room.
    secrets.truncate(to_a_page * (pages - 1));
    ProtectedSecret::random(&strict, 5).unwrap();
}

#[test]
fn a_lock_limit_of_64_kib_holds_1360_secrets_of_32_bytes() {
    for on in backings() {
        succeeds(&format!("low_limit {on}"));
    }
}
