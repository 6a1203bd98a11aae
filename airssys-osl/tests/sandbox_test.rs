//! The sandbox, each time in a process of its own, since none can be taken off again.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed set-up should fail the test"
)]

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use airssys_osl::{
    KeyValueConfig, KeyValueOpenError, KeyValueStore, MemoryProbe, PrivateError, Sandbox,
    SandboxConfig, SandboxError, SandboxKernel, SandboxLayer, SandboxMode, SandboxReport,
};
use rustix::process::{getppid, test_kill_process};

/// Names the directory of a child.
const DIRECTORY: &str = "AIRSSYS_SANDBOX";
/// What a child says when it has come to its end.
const DONE: &str = "the child has come to its end";

/// Runs one of the tests below that are for children, in a process and a directory of its own.
fn child(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["read", "write", "outside"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join("file"), folder).unwrap();
    }
    std::os::unix::fs::symlink("../outside/file", dir.path().join("read/link")).unwrap();
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--quiet", "--nocapture", "--ignored", "--exact", name])
        .env(DIRECTORY, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains(DONE), "{said}");
}

/// The directory of a child; none where the test was not started by another one.
fn assigned() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(Into::into)
}

/// What is lacking on this machine is told, and its test left out.
fn has_landlock(abi: u32) -> bool {
    let kernel = SandboxKernel::current();
    if kernel.landlock_abi < abi {
        eprintln!("not tested: {kernel} is below Landlock ABI {abi}");
    }
    kernel.landlock_abi >= abi
}

fn config(directory: &Path) -> SandboxConfig {
    SandboxConfig {
        mode: SandboxMode::BestEffort,
        read: vec![directory.join("read")],
        write: vec![directory.join("write")],
        ..SandboxConfig::default()
    }
}

fn apply(config: SandboxConfig) -> SandboxReport {
    Sandbox::new(config).apply().unwrap()
}

fn is_refused<T>(outcome: io::Result<T>) -> bool {
    outcome.is_err_and(|error| error.raw_os_error() == Some(libc::EACCES))
}

/// What a system call without any argument of use answers; 0 where it succeeds.
fn answer(number: i64, first: i64) -> i32 {
    // SAFETY: what is called here refuses these arguments or does nothing with them: no pointer is
    // valid, no descriptor open, no flag known.
    #[allow(unsafe_code, reason = "no crate calls a system call by its number")]
    let returned = unsafe { libc::syscall(number, first, 0, 0, 0, 0, 0) };
    if returned < 0 {
        io::Error::last_os_error().raw_os_error().unwrap()
    } else {
        0
    }
}

#[test]
fn files_outside_are_refused_and_those_inside_are_as_they_are_listed() {
    if has_landlock(2) {
        child("child_uses_files");
    }
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_uses_files() {
    let Some(dir) = assigned() else { return };
    let (read, write, outside) = (dir.join("read"), dir.join("write"), dir.join("outside"));
    let before = File::open(outside.join("file")).unwrap();
    let report = apply(config(&dir));
    assert!(report.held.contains(&SandboxLayer::Files), "{report:?}");

    assert_eq!(fs::read_to_string(read.join("file")).unwrap(), "read");
    assert_eq!(fs::read_dir(&read).unwrap().count(), 2);
    assert!(is_refused(fs::read(outside.join("file"))));
    assert!(is_refused(fs::read(read.join("../outside/file"))));
    assert!(is_refused(fs::read(read.join("link"))));
    assert!(is_refused(fs::read_dir(&outside)));
    assert!(is_refused(fs::read_dir("/")));
    assert!(is_refused(fs::read("/etc/passwd")));

    for folder in [&read, &outside] {
        assert!(is_refused(fs::write(folder.join("file"), "x")));
        assert!(is_refused(fs::write(folder.join("new"), "x")));
        assert!(is_refused(fs::create_dir(folder.join("new"))));
        assert!(is_refused(fs::remove_file(folder.join("file"))));
        let moved = fs::rename(write.join("file"), folder.join("moved")).unwrap_err();
        assert!(
            matches!(moved.raw_os_error(), Some(libc::EACCES | libc::EXDEV)),
            "{moved}"
        );
    }
    fs::create_dir(write.join("new")).unwrap();
    fs::write(write.join("new/file"), "1").unwrap();
    fs::write(write.join("new/file"), "2").unwrap();
    fs::rename(write.join("new/file"), write.join("file")).unwrap();
    assert_eq!(fs::read_to_string(write.join("file")).unwrap(), "2");
    fs::remove_dir(write.join("new")).unwrap();

    // What was open stays so, and it was said.
    assert_eq!(io::read_to_string(before).unwrap(), "outside");
    println!("{DONE}");
}

#[test]
fn a_port_that_is_not_listed_is_refused_before_anything_reaches_it() {
    if has_landlock(4) {
        child("child_uses_tcp");
    }
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_uses_tcp() {
    let Some(dir) = assigned() else { return };
    let listening = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (listed, unlisted, spare) = (listening(), listening(), listening());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let free = port(&spare);
    drop(spare);
    apply(SandboxConfig {
        connect: vec![port(&listed)],
        bind: vec![0],
        ..config(&dir)
    });
    let connect = |port| TcpStream::connect(("127.0.0.1", port));
    connect(port(&listed)).unwrap();
    listed.accept().unwrap();
    assert!(is_refused(connect(port(&unlisted))));
    unlisted.set_nonblocking(true).unwrap();
    let reached = unlisted.accept().unwrap_err();
    assert_eq!(reached.kind(), ErrorKind::WouldBlock);
    assert!(is_refused(TcpListener::bind(("127.0.0.1", free))));
    TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{DONE}");
}

#[test]
fn without_ports_nothing_connects_and_nothing_listens() {
    if has_landlock(4) {
        child("child_has_no_ports");
    }
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_has_no_ports() {
    let Some(dir) = assigned() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    apply(config(&dir));
    assert!(is_refused(TcpStream::connect(
        listener.local_addr().unwrap()
    )));
    assert!(is_refused(TcpListener::bind("127.0.0.1:0")));
    println!("{DONE}");
}

#[test]
fn processes_outside_get_no_signal_and_their_abstract_sockets_no_connection() {
    if has_landlock(6) {
        child("child_reaches_for_others");
    }
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_reaches_for_others() {
    let Some(dir) = assigned() else { return };
    let name = format!("airssys-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let parent = getppid().unwrap();
    UnixStream::connect_addr(&address).unwrap();
    test_kill_process(parent).unwrap();
    let report = apply(config(&dir));
    assert!(report.held.contains(&SandboxLayer::Scopes), "{report:?}");
    let refused = UnixStream::connect_addr(&address).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    assert_eq!(test_kill_process(parent), Err(rustix::io::Errno::PERM));
    println!("{DONE}");
}

#[test]
fn calls_that_a_host_never_needs_are_not_permitted_on_any_thread() {
    child("child_calls_the_system");
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_calls_the_system() {
    let Some(dir) = assigned() else { return };
    let (go, gone) = mpsc::channel::<()>();
    let earlier = thread::spawn(move || {
        gone.recv().unwrap_err();
        refused_calls()
    });
    assert!(!refused_calls().is_empty(), "nobody refused them before");
    let report = apply(config(&dir));
    assert!(report.held.contains(&SandboxLayer::Syscalls), "{report:?}");
    drop(go);
    assert_eq!(earlier.join().unwrap(), [], "a thread from before");
    assert_eq!(
        thread::spawn(refused_calls).join().unwrap(),
        [],
        "a thread from after"
    );
    assert_eq!(refused_calls(), [], "the calling thread");
    // New threads are what the C library asks clone3 for first.
    assert_eq!(answer(libc::SYS_clone3, 0), libc::ENOSYS);
    println!("{DONE}");
}

/// Calls that answer something else than that they are not permitted.
fn refused_calls() -> Vec<(i64, i32)> {
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_PTRACE,
    ];
    // A thread that shares no signal handlers is no valid request.
    let clones = namespaces.map(|flag| (libc::SYS_clone, i64::from(flag | libc::CLONE_THREAD)));
    let calls = [
        (libc::SYS_ptrace, 1 << 20),
        (libc::SYS_process_vm_readv, -1),
        (libc::SYS_process_vm_writev, -1),
        (libc::SYS_pidfd_getfd, -1),
        (libc::SYS_kcmp, -1),
        (libc::SYS_mount, 0),
        (libc::SYS_umount2, 0),
        (libc::SYS_move_mount, -1),
        (libc::SYS_open_tree, -1),
        (libc::SYS_fsopen, 0),
        (libc::SYS_pivot_root, 0),
        (libc::SYS_chroot, 0),
        (libc::SYS_setns, -1),
        (libc::SYS_unshare, 1),
        (libc::SYS_open_by_handle_at, -1),
        (libc::SYS_init_module, 0),
        (libc::SYS_finit_module, -1),
        (libc::SYS_delete_module, 0),
        (libc::SYS_bpf, -1),
        (libc::SYS_perf_event_open, 0),
        (libc::SYS_userfaultfd, -1),
        (libc::SYS_io_uring_setup, 0),
        (libc::SYS_add_key, 0),
        (libc::SYS_request_key, 0),
        (libc::SYS_keyctl, -1),
        (libc::SYS_reboot, 0),
        (libc::SYS_swapon, 0),
        (libc::SYS_swapoff, 0),
        (libc::SYS_quotactl, -1),
        (libc::SYS_execve, 0),
        (libc::SYS_execveat, -1),
    ];
    #[cfg(target_arch = "x86_64")]
    let other_interface = Some((0x4000_0000 | libc::SYS_getpid, 0));
    #[cfg(not(target_arch = "x86_64"))]
    let other_interface = None;
    calls
        .into_iter()
        .chain(clones)
        .chain(other_interface)
        .map(|(number, first)| (number, answer(number, first)))
        .filter(|(_, errno)| *errno != libc::EPERM)
        .collect()
}

#[test]
fn a_program_starts_only_where_that_is_configured() {
    child("child_starts_none");
    if has_landlock(1) {
        child("child_starts_one");
        child("child_has_no_seccomp");
    }
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_has_no_seccomp() {
    let Some(dir) = assigned() else { return };
    let kernel = SandboxKernel {
        seccomp: false,
        ..SandboxKernel::current()
    };
    let everything = SandboxConfig {
        read: vec!["/".into()],
        ..config(&dir)
    };
    let report = Sandbox::on(everything, kernel).apply().unwrap();
    assert!(report.lacking.contains(&SandboxLayer::Syscalls));
    assert_ne!(answer(libc::SYS_unshare, 1), libc::EPERM);
    assert!(is_refused(Command::new("/bin/true").status()));
    println!("{DONE}");
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_starts_none() {
    let Some(dir) = assigned() else { return };
    Command::new("/bin/true").status().unwrap();
    apply(SandboxConfig {
        read: vec!["/".into()],
        ..config(&dir)
    });
    let refused = Command::new("/bin/true").status().unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    println!("{DONE}");
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_starts_one() {
    let Some(dir) = assigned() else { return };
    fs::copy("/bin/cat", dir.join("outside/cat")).unwrap();
    let libraries = ["/bin", "/lib", "/lib64", "/usr", "/etc", "/dev/null"].map(PathBuf::from);
    let there = libraries.into_iter().filter(|path| path.exists());
    apply(SandboxConfig {
        read: there.chain([dir.join("read")]).collect(),
        execute: true,
        ..config(&dir)
    });
    let cat = |program: &Path, file: PathBuf| Command::new(program).arg(file).output();
    let read = cat(Path::new("/bin/cat"), dir.join("read/file")).unwrap();
    assert_eq!(read.stdout, b"read");
    // What it starts is in the sandbox too.
    let outside = cat(Path::new("/bin/cat"), dir.join("outside/file")).unwrap();
    assert!(!outside.status.success() && outside.stdout.is_empty());
    assert!(is_refused(cat(
        &dir.join("outside/cat"),
        dir.join("read/file")
    )));
    println!("{DONE}");
}

#[test]
fn threads_that_are_started_later_are_held_and_earlier_ones_are_named() {
    if has_landlock(1) {
        child("child_has_threads");
    }
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_has_threads() {
    let Some(dir) = assigned() else { return };
    let outside = dir.join("outside/file");
    let reads = {
        let outside = outside.clone();
        move || fs::read(&outside)
    };
    let (go, gone) = mpsc::channel::<()>();
    let earlier = thread::spawn({
        let reads = reads.clone();
        move || {
            gone.recv().unwrap_err();
            reads()
        }
    });
    let asked = SandboxKernel::current();
    assert!(asked.threads > 2, "{asked}");
    // Where they cannot be held, that is an error for those who require it.
    let required = Sandbox::new(SandboxConfig {
        mode: SandboxMode::Required,
        ..config(&dir)
    });
    if asked.landlock_abi < 8 {
        let refused = required.apply().unwrap_err();
        assert!(
            matches!(
                &refused,
                SandboxError::Lacking { layer: SandboxLayer::Threads, kernel } if *kernel == asked
            ),
            "{refused}"
        );
        reads().unwrap();
    }
    let report = apply(config(&dir));
    drop(go);
    let earlier = earlier.join().unwrap();
    if report.held.contains(&SandboxLayer::Threads) {
        assert!(is_refused(earlier));
    } else {
        assert!(report.lacking.contains(&SandboxLayer::Threads));
        earlier.unwrap();
    }
    assert!(is_refused(thread::spawn(reads).join().unwrap()));
    println!("{DONE}");
}

#[test]
fn what_is_required_holds_where_the_kernel_has_it() {
    if has_landlock(4) {
        child("child_requires");
    }
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_requires() {
    let Some(dir) = assigned() else { return };
    // The harness has a thread of its own, which waits.
    let kernel = SandboxKernel {
        threads: 1,
        ..SandboxKernel::current()
    };
    let required = SandboxConfig {
        mode: SandboxMode::Required,
        ..config(&dir)
    };
    let report = Sandbox::on(required, kernel.clone()).apply().unwrap();
    assert_eq!(report.kernel, kernel);
    assert!(report.lacking.iter().all(|layer| !layer.is_required()));
    assert!(is_refused(fs::read(dir.join("outside/file"))));
    assert_eq!(answer(libc::SYS_unshare, 1), libc::EPERM);
    println!("{DONE}");
}

#[test]
fn a_kernel_that_says_more_than_it_gives_is_an_error() {
    child("child_is_told_too_much");
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_is_told_too_much() {
    let Some(dir) = assigned() else { return };
    let kernel = SandboxKernel::current();
    if kernel.landlock_abi < 9 {
        let boast = SandboxKernel {
            landlock_abi: 9,
            ..kernel
        };
        let refused = Sandbox::on(config(&dir), boast).apply().unwrap_err();
        assert!(matches!(refused, SandboxError::Files { .. }), "{refused}");
        fs::read(dir.join("outside/file")).unwrap();
    }
    println!("{DONE}");
}

#[test]
fn without_landlock_the_report_says_so_and_system_calls_are_held() {
    child("child_has_no_landlock");
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_has_no_landlock() {
    let Some(dir) = assigned() else { return };
    let kernel = SandboxKernel {
        landlock_abi: 0,
        ..SandboxKernel::current()
    };
    let required = SandboxConfig {
        mode: SandboxMode::Required,
        ..config(&dir)
    };
    let refused = Sandbox::on(required, kernel.clone()).apply().unwrap_err();
    assert!(
        matches!(
            refused,
            SandboxError::Lacking {
                layer: SandboxLayer::Files,
                ..
            }
        ),
        "{refused}"
    );
    // A refusal leaves the process as it was.
    assert_ne!(answer(libc::SYS_unshare, 1), libc::EPERM);
    let report = Sandbox::on(config(&dir), kernel).apply().unwrap();
    assert_eq!(report.held, [SandboxLayer::Syscalls]);
    assert_eq!(report.lacking.len(), SandboxLayer::ALL.len() - 1);
    fs::read(dir.join("outside/file")).unwrap();
    assert_eq!(answer(libc::SYS_unshare, 1), libc::EPERM);
    println!("{DONE}");
}

#[test]
fn nothing_is_applied_where_it_is_off_or_a_path_is_missing() {
    child("child_applies_nothing");
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_applies_nothing() {
    let Some(dir) = assigned() else { return };
    let off = SandboxConfig {
        mode: SandboxMode::Off,
        ..config(&dir)
    };
    assert_eq!(apply(off).held, []);
    if SandboxKernel::current().landlock_abi > 0 {
        let mut misspelt = config(&dir);
        misspelt.write.push(dir.join("none"));
        let refused = Sandbox::new(misspelt).apply().unwrap_err();
        assert!(
            matches!(&refused, SandboxError::Path { path, .. } if path.ends_with("none")),
            "{refused}"
        );
    }
    fs::read(dir.join("outside/file")).unwrap();
    assert_ne!(answer(libc::SYS_unshare, 1), libc::EPERM);
    println!("{DONE}");
}

#[test]
fn the_store_and_the_probe_work_inside() {
    child("child_keeps_and_probes");
}

#[test]
#[ignore = "what another test starts as a process of its own"]
fn child_keeps_and_probes() {
    let Some(dir) = assigned() else { return };
    let open = |directory: PathBuf| {
        KeyValueStore::open(&KeyValueConfig {
            directory,
            max_bytes: 1 << 20,
        })
    };
    let listed = dir.join("listed");
    drop(open(listed.clone()).unwrap());
    let mut config = config(&dir);
    config.read = vec!["/proc".into(), "/sys/fs/cgroup".into()];
    config.write.push(listed.clone());
    apply(config);
    // One whose directory is listed itself, one made below, and one elsewhere.
    for directory in [listed, dir.join("write/made")] {
        let store = open(directory).unwrap();
        let space = store.space("a", 1 << 20).unwrap();
        space.set("b", "k", b"1").wait().unwrap();
        assert_eq!(space.get("b", "k").unwrap().unwrap(), b"1");
    }
    if SandboxKernel::current().landlock_abi > 0 {
        assert!(matches!(
            open(dir.join("outside/made")),
            Err(KeyValueOpenError::Private(PrivateError::Io { .. }))
        ));
    }
    assert!(MemoryProbe::default().read().unwrap().available > 0);
    println!("{DONE}");
}
