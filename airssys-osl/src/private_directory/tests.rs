#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed set-up should fail the test"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::AtomicBool;

use super::*;

fn fresh() -> (tempfile::TempDir, PrivateDirectory) {
    let dir = tempfile::tempdir().unwrap();
    let private = PrivateDirectory::open(&dir.path().join("a/private")).unwrap();
    (dir, private)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn what_is_made_is_open_to_nobody_else() {
    let (dir, private) = fresh();
    private.replace("file", &[b"1", b"23"]).unwrap();
    assert!(private.create("key", b"k").unwrap());
    assert_eq!(mode(&dir.path().join("a")), 0o700);
    assert_eq!(mode(private.path()), 0o700);
    assert_eq!(mode(&private.path().join("file")), 0o600);
    assert_eq!(mode(&private.path().join("key")), 0o600);
    assert_eq!(private.read("file", 3).unwrap().unwrap(), b"123");
    assert!(matches!(
        private.read("file", 2),
        Err(PrivateError::TooLarge { limit_bytes: 2, .. })
    ));
}

#[test]
fn a_directory_or_file_that_others_may_use_is_refused_with_its_mode() {
    let (_dir, private) = fresh();
    private.replace("file", &[b"1"]).unwrap();
    for bits in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
        let path = private.path().join("file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600 | bits)).unwrap();
        let refused = private.read("file", 9).unwrap_err();
        assert!(
            matches!(refused, PrivateError::OpenToOthers { mode, .. } if mode == 0o600 | bits),
            "{refused}"
        );
        let path = private.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700 | bits)).unwrap();
        let refused = PrivateDirectory::open(path).unwrap_err();
        assert!(
            matches!(refused, PrivateError::OpenToOthers { mode, .. } if mode == 0o700 | bits),
            "{refused}"
        );
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_directory_or_file_of_another_user_is_refused() {
    let (_dir, private) = fresh();
    private.replace("file", &[b"1"]).unwrap();
    let other = geteuid().as_raw() + 1;
    let file = private.path().join("file");
    // Only root can give files away; for others there is the root's own directory to look at.
    if std::os::unix::fs::chown(&file, Some(other), None).is_ok() {
        let refused = private.read("file", 9).unwrap_err();
        assert!(matches!(refused, PrivateError::ForeignOwner { owner, .. } if owner == other));
        std::os::unix::fs::chown(private.path(), Some(other), None).unwrap();
        let refused = PrivateDirectory::open(private.path()).unwrap_err();
        assert!(matches!(refused, PrivateError::ForeignOwner { owner, .. } if owner == other));
    } else {
        let refused = PrivateDirectory::open(Path::new("/")).unwrap_err();
        assert!(matches!(
            refused,
            PrivateError::ForeignOwner { owner: 0, .. }
        ));
    }
}

#[test]
fn a_symbolic_link_is_never_followed_at_the_end() {
    let (dir, private) = fresh();
    let link = dir.path().join("link");
    symlink(private.path(), &link).unwrap();
    for path in [
        link.clone(),
        dir.path().join("link/"),
        dir.path().join("link/."),
    ] {
        let refused = PrivateDirectory::open(&path).unwrap_err();
        assert!(
            matches!(refused, PrivateError::WrongKind { .. }),
            "{refused}"
        );
    }
    symlink("nowhere", dir.path().join("loose")).unwrap();
    assert!(PrivateDirectory::open(&dir.path().join("loose")).is_err());
    fs::write(dir.path().join("secret"), "s").unwrap();
    symlink(dir.path().join("secret"), private.path().join("file")).unwrap();
    let refused = private.read("file", 9).unwrap_err();
    assert!(
        matches!(refused, PrivateError::WrongKind { .. }),
        "{refused}"
    );
    // A write takes the link's place and leaves what it led to alone.
    private.replace("file", &[b"new"]).unwrap();
    assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"s");
    assert_eq!(private.read("file", 9).unwrap().unwrap(), b"new");
}

#[test]
fn a_path_that_leads_elsewhere_later_changes_nothing() {
    let (dir, private) = fresh();
    private.replace("file", &[b"ours"]).unwrap();
    let moved = dir.path().join("moved");
    fs::rename(private.path(), &moved).unwrap();
    fs::create_dir(private.path()).unwrap();
    fs::write(private.path().join("file"), "theirs").unwrap();
    assert_eq!(private.read("file", 9).unwrap().unwrap(), b"ours");
    private.replace("other", &[b"1"]).unwrap();
    assert!(moved.join("other").exists());
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let (_dir, private) = fresh();
    let made = std::process::Command::new("mkfifo")
        .arg("-m600")
        .arg(private.path().join("pipe"))
        .status()
        .unwrap();
    assert!(made.success());
    assert!(matches!(
        private.read("pipe", 9),
        Err(PrivateError::WrongKind { .. })
    ));
    assert_eq!(private.files().unwrap(), []);
}

#[test]
fn a_name_that_leads_out_is_refused() {
    let (_dir, private) = fresh();
    for name in [
        "",
        ".",
        "..",
        "../a",
        "a/b",
        "/etc/hostname",
        ".tmp-1-1",
        "a\0",
    ] {
        assert!(
            matches!(private.read(name, 9), Err(PrivateError::Name { .. })),
            "{name}"
        );
        assert!(matches!(
            private.replace(name, &[]),
            Err(PrivateError::Name { .. })
        ));
        assert!(matches!(
            private.create(name, b""),
            Err(PrivateError::Name { .. })
        ));
        assert!(matches!(
            private.remove(name),
            Err(PrivateError::Name { .. })
        ));
        assert!(matches!(
            private.touch(name),
            Err(PrivateError::Name { .. })
        ));
    }
}

#[test]
fn the_first_to_create_a_file_wins_and_the_others_see_it() {
    let (_dir, private) = fresh();
    let private = &private;
    let won: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u8)
            .map(|n| scope.spawn(move || private.create("key", &[n; 32]).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|t| usize::from(t.join().unwrap()))
            .sum()
    });
    assert_eq!(won, 1);
    let key = private.read("key", 32).unwrap().unwrap();
    assert_eq!(key.len(), 32);
    assert!(key.iter().all(|byte| *byte == key[0]));
    assert_eq!(private.files().unwrap().len(), 1);
}

#[test]
fn what_a_killed_writer_leaves_is_removed_and_a_living_writers_is_not() {
    let (_dir, private) = fresh();
    let left = private.path().join(".tmp-1-1");
    fs::write(&left, "half").unwrap();
    let living = private.write(&[b"half"]).unwrap();
    let again = PrivateDirectory::open(private.path()).unwrap();
    assert!(!left.exists());
    assert!(private.path().join(&living.name).exists());
    assert_eq!(again.files().unwrap(), []);
    drop(living);
    assert_eq!(fs::read_dir(private.path()).unwrap().count(), 0);
}

#[test]
fn no_writer_is_disturbed_by_others_that_open_the_directory() {
    let (_root, directory) = fresh();
    let path = directory.path().to_path_buf();
    let writes = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while writes.load(Ordering::Relaxed) {
                    PrivateDirectory::open(&path).unwrap();
                }
            });
        }
        let written: Vec<_> = (0..300)
            .map(|n| directory.replace(&format!("file-{}", n % 8), &[b"whole"]))
            .collect();
        writes.store(false, Ordering::Relaxed);
        for outcome in written {
            outcome.unwrap();
        }
    });
}

#[test]
fn files_are_told_by_when_they_were_last_touched() {
    let (_dir, private) = fresh();
    for name in ["a", "b"] {
        private.replace(name, &[b"1"]).unwrap();
        // The clock of a file system has ticks of some milliseconds.
        let old = fs::File::open(private.path().join(name)).unwrap();
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        old.set_modified(then).unwrap();
    }
    private.touch("a").unwrap();
    let mut files = private.files().unwrap();
    files.sort_by_key(|file| file.touched);
    let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(files[0].touched, (1000, 0));
    assert!(private.remove("b").unwrap() && !private.remove("b").unwrap());
}
