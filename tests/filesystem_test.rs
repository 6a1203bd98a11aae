//! Directories: what is granted, what is not, and what a guest does to get out of them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use airssys::grants::{Capability, DenialReason};
use airssys::{AccessDenied, EventStream, HostError, Received, Val};
use airssys_guests::PROBER;

use crate::support::{Alone, Tree, block_on, start_failure};

const FILES: &str = "airssys:prober/files@0.1.0";

/// A prober with these lines at the end of its Component.toml.
pub fn prober(grants: &str) -> Tree {
    let tree = Tree::new().component("alone", PROBER.wasm, 2_097_152, "");
    let path = tree.path().join("alone/Component.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{text}\n{grants}\n")).unwrap();
    fs::create_dir(tree.path().join("alone/data")).unwrap();
    tree
}

/// `data` beside the Component.toml as `/data`, to read.
const READ: &str = "[[capabilities.filesystem]]\npath = \"data\"\nguest = \"/data\"";

fn read_write(max_bytes: u64) -> String {
    format!("{READ}\naccess = \"read-write\"\nmax_bytes = {max_bytes}")
}

/// What a function that answers `result<_, string>` answered.
pub fn result(answer: &[Val]) -> Result<Option<&Val>, &str> {
    match answer {
        [Val::Result(Ok(value))] => Ok(value.as_deref()),
        [Val::Result(Err(Some(error)))] => match &**error {
            Val::String(text) => Err(text),
            other => panic!("no text: {other:?}"),
        },
        other => panic!("no result: {other:?}"),
    }
}

impl Alone {
    pub async fn files(&self, function: &str, arguments: &[&str]) -> Vec<Val> {
        let arguments: Vec<Val> = arguments.iter().map(|a| Val::String((*a).into())).collect();
        let called = self.call(&format!("{FILES}#{function}"), &arguments).await;
        called.unwrap()
    }

    /// How many bytes got into a file, and why not more.
    async fn fill(&self, function: &str, path: &str, bytes: u64) -> (u64, Option<String>) {
        let arguments = [Val::String(path.into()), Val::U64(bytes)];
        let called = self.call(&format!("{FILES}#{function}"), &arguments).await;
        match called.unwrap().as_slice() {
            [Val::Tuple(told)] => match told.as_slice() {
                [Val::U64(written), Val::Option(None)] => (*written, None),
                [Val::U64(written), Val::Option(Some(why))] => match &**why {
                    Val::String(why) => (*written, Some(why.clone())),
                    other => panic!("no text: {other:?}"),
                },
                other => panic!("no tuple: {other:?}"),
            },
            other => panic!("no tuple: {other:?}"),
        }
    }
}

/// The next denial.
pub async fn denied(denials: &mut EventStream<AccessDenied>) -> AccessDenied {
    match denials.next().await {
        Some(Received::Event(denied)) => denied,
        other => panic!("no denial: {other:?}"),
    }
}

#[test]
fn without_a_grant_there_is_no_directory() {
    block_on(async {
        let alone = Alone::of(prober("")).await.unwrap();
        for path in [
            "/etc/hostname",
            "data/x",
            "/",
            ".",
            "../alone/Component.toml",
        ] {
            let answer = alone.files("read", &[path]).await;
            assert!(result(&answer).is_err(), "{path}: {answer:?}");
            let answer = alone.files("names", &[path]).await;
            assert!(result(&answer).is_err(), "{path}: {answer:?}");
        }
    });
}

#[test]
fn a_directory_granted_to_read_is_read_and_not_written() {
    block_on(async {
        let tree = prober(READ);
        let data = tree.path().join("alone/data");
        fs::write(data.join("x.txt"), "found").unwrap();
        let alone = Alone::of(tree).await.unwrap();
        let mut denials = alone.host.denials();
        let answer = alone.files("read", &["/data/x.txt"]).await;
        assert_eq!(result(&answer), Ok(Some(&Val::String("found".into()))));
        let answer = alone.files("names", &["/data"]).await;
        let names = Val::List(vec![Val::String("x.txt".into())]);
        assert_eq!(result(&answer), Ok(Some(&names)));

        for (function, arguments) in [
            ("write", ["/data/x.txt", "other"].as_slice()),
            ("write", &["/data/new.txt", "other"]),
            ("remove", &["/data/x.txt"]),
            ("make-directory", &["/data/d"]),
            ("rename", &["/data/x.txt", "/data/y.txt"]),
            ("link", &["/data/x.txt", "/data/y.txt"]),
        ] {
            let answer = alone.files(function, arguments).await;
            assert!(result(&answer).is_err(), "{function}: {answer:?}");
            let denial = denied(&mut denials).await.denial;
            assert_eq!(denial.capability, Capability::Filesystem);
            assert_eq!(denial.reason, DenialReason::NotGranted, "{function}");
            assert!(denial.subject.contains("/data/"), "{}", denial.subject);
            let missing = denial.missing.unwrap().to_string();
            let start = "[[capabilities.filesystem]]\naccess = \"read-write\"\npath = \"/";
            assert!(missing.starts_with(start), "{missing}");
            assert!(missing.ends_with("data\"\nguest = \"/data\""), "{missing}");
        }
        assert_eq!(fs::read_to_string(data.join("x.txt")).unwrap(), "found");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
    });
}

#[test]
fn what_is_written_is_there_and_stays_over_restarts() {
    block_on(async {
        let tree = prober(&read_write(1_000_000));
        let data = tree.path().join("alone/data");
        let alone = Alone::of(tree).await.unwrap();
        for (function, arguments) in [
            ("write", ["/data/x.txt", "text"].as_slice()),
            ("make-directory", &["/data/d"]),
            ("rename", &["/data/x.txt", "/data/d/y.txt"]),
            ("link", &["/data/d/y.txt", "/data/z.txt"]),
            ("remove", &["/data/d/y.txt"]),
        ] {
            let answer = alone.files(function, arguments).await;
            assert_eq!(result(&answer), Ok(None), "{function}");
        }
        assert_eq!(fs::read_to_string(data.join("z.txt")).unwrap(), "text");
        alone.component.call("no-such", &[]).await.unwrap_err();
        let supervisor = alone.host.supervisor("tools").unwrap();
        supervisor.terminate_child("alone").await.unwrap();
        supervisor.restart_child("alone").await.unwrap();
        let answer = alone.files("read", &["/data/z.txt"]).await;
        assert_eq!(result(&answer), Ok(Some(&Val::String("text".into()))));
    });
}

#[test]
fn no_path_leads_out_of_a_directory() {
    block_on(async {
        let tree = prober(&read_write(1_000_000));
        let data = tree.path().join("alone/data");
        fs::create_dir(data.join("inner")).unwrap();
        let secret = tree.path().join("secret.txt");
        fs::write(&secret, "secret").unwrap();
        symlink(&secret, data.join("absolute")).unwrap();
        symlink("../../secret.txt", data.join("relative")).unwrap();
        symlink("../..", data.join("up")).unwrap();
        symlink("/", data.join("root")).unwrap();
        symlink("inner/../../../secret.txt", data.join("winding")).unwrap();
        symlink("/proc/self/fd", data.join("fds")).unwrap();
        let alone = Alone::of(tree).await.unwrap();
        let mut denials = alone.host.denials();
        let outside = secret.to_str().unwrap();
        for path in [
            "/data/../secret.txt",
            "/data/../../secret.txt",
            "/data/inner/../../../secret.txt",
            "/data/absolute",
            "/data/relative",
            "/data/up/secret.txt",
            "/data/root/etc/hostname",
            "/data/winding",
            "/data/fds/0",
            "/data//../../secret.txt",
            "/data/./../../secret.txt",
            outside,
        ] {
            for (function, arguments) in [
                ("read", [path].as_slice()),
                ("write", &[path, "overwritten"]),
                ("remove", &["/data/up/secret.txt"]),
                ("link", &[path, "/data/linked"]),
                ("rename", &["/data/up/secret.txt", "/data/taken"]),
                ("rename", &["/data/inner", "/data/up/inner"]),
            ] {
                let answer = alone.files(function, arguments).await;
                assert!(
                    result(&answer).is_err() || is_a_link_itself(function, path),
                    "{function} {path}: {answer:?}"
                );
                fs::remove_file(data.join("linked")).ok();
            }
        }
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
        let mut told = 0;
        while told < 10 {
            let denial = denied(&mut denials).await.denial;
            assert_eq!(denial.capability, Capability::Filesystem);
            told += 1;
        }
    });
}

/// A link may be given another name: what is linked is the link, and it leads nowhere.
fn is_a_link_itself(function: &str, path: &str) -> bool {
    let links = ["/data/absolute", "/data/relative", "/data/winding"];
    function == "link" && links.contains(&path)
}

#[test]
fn a_directory_exchanged_for_a_link_while_it_is_read_leads_nowhere() {
    block_on(async {
        let tree = prober(READ);
        let data = tree.path().join("alone/data");
        let outside = tree.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("x.txt"), "outside").unwrap();
        let (folder, aside, link) = (data.join("d"), data.join("aside"), data.join("link"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("x.txt"), "inside").unwrap();
        symlink(&outside, &link).unwrap();
        let alone = Alone::of(tree).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let swapping = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut swaps = 0u32;
                while !stop.load(Ordering::Relaxed) {
                    fs::rename(&folder, &aside).unwrap();
                    fs::rename(&link, &folder).unwrap();
                    fs::rename(&folder, &link).unwrap();
                    fs::rename(&aside, &folder).unwrap();
                    swaps += 1;
                }
                swaps
            }
        });
        let (mut inside, mut refused) = (0, 0);
        for _ in 0..2_000 {
            let answer = alone.files("read", &["/data/d/x.txt"]).await;
            match result(&answer) {
                Ok(Some(Val::String(text))) => {
                    assert_eq!(text, "inside");
                    inside += 1;
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => refused += 1,
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(swapping.join().unwrap() > 0);
        assert!(inside > 0, "{inside} inside, {refused} refused");
    });
}

#[test]
fn a_directory_stays_the_one_that_was_opened() {
    block_on(async {
        let tree = prober(READ);
        let data = tree.path().join("alone/data");
        fs::write(data.join("x.txt"), "old").unwrap();
        let alone = Alone::of(tree).await.unwrap();
        let elsewhere = data.with_file_name("elsewhere");
        fs::rename(&data, &elsewhere).unwrap();
        symlink("/etc", &data).unwrap();
        let answer = alone.files("read", &["/data/x.txt"]).await;
        assert_eq!(result(&answer), Ok(Some(&Val::String("old".into()))));
        let answer = alone.files("read", &["/data/hostname"]).await;
        assert!(result(&answer).is_err());
    });
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|e| e.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn a_directory_holds_no_more_than_its_quota() {
    const QUOTA: u64 = 100_000;
    block_on(async {
        let tree = prober(&read_write(QUOTA));
        let data = tree.path().join("alone/data");
        fs::write(data.join("before"), vec![b'b'; 20_000]).unwrap();
        let alone = Alone::of(tree).await.unwrap();
        let mut denials = alone.host.denials();
        let made = alone.files("write", &["/data/y", ""]).await;
        assert_eq!(result(&made), Ok(None));

        let (written, why) = alone.fill("fill", "/data/x", 200_000).await;
        assert!(written > 70_000 && written < QUOTA, "{written} {why:?}");
        assert!(why.is_some());
        assert!(bytes_below(&data) <= QUOTA, "{}", bytes_below(&data));
        let denial = denied(&mut denials).await.denial;
        assert!(
            matches!(denial.reason, DenialReason::Quota(_)),
            "{denial:?}"
        );
        assert_eq!(denial.missing.unwrap().key, "max_bytes");

        // By setting a length, by other files, by names alone.
        let arguments = [Val::String("/data/y".into()), Val::U64(50_000)];
        let answer = alone.call(&format!("{FILES}#set-length"), &arguments).await;
        assert!(result(&answer.unwrap()).is_err());
        let mut made = 0;
        while made < 1000 {
            let path = format!("/data/empty-{made}");
            if result(&alone.files("write", &[&path, ""]).await).is_err() {
                break;
            }
            made += 1;
        }
        assert!(made < 100, "{made} empty files");
        assert!(bytes_below(&data) <= QUOTA);

        // What is removed can be written again.
        fs::remove_file(data.join("before")).unwrap();
        assert_eq!(result(&alone.files("remove", &["/data/x"]).await), Ok(None));
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        let (written, _) = alone.fill("fill", "/data/z", 60_000).await;
        assert_eq!(written, 60_000);
    });
}

#[test]
fn a_file_without_a_name_counts_while_it_is_open() {
    const QUOTA: u64 = 100_000;
    block_on(async {
        let alone = Alone::of(prober(&read_write(QUOTA))).await.unwrap();
        // Long enough that it is counted anew while it is written.
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        let (written, why) = alone.fill("fill-nameless", "/data/x", 10_000_000).await;
        assert!(written <= QUOTA, "{written} bytes in a file of no name");
        assert!(why.is_some());
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        let (written, why) = alone.fill("fill-nameless", "/data/x", 50_000).await;
        assert_eq!((written, why), (50_000, None), "it is closed and gone");
    });
}

#[test]
fn a_file_that_is_written_again_and_again_is_charged_once() {
    block_on(async {
        let alone = Alone::of(prober(&read_write(100_000))).await.unwrap();
        let text = "x".repeat(10_000);
        let began = std::time::Instant::now();
        let mut refused = 0;
        for _ in 0..100 {
            if result(&alone.files("write", &["/data/x", &text]).await).is_err() {
                refused += 1;
                tokio::time::sleep(std::time::Duration::from_millis(110)).await;
            }
        }
        assert!(
            refused <= 1 + began.elapsed().as_millis() / 100,
            "{refused}"
        );
        let answer = alone.files("write", &["/data/x", &text]).await;
        assert_eq!(result(&answer), Ok(None));
    });
}

#[test]
fn two_components_with_one_directory_share_its_bytes() {
    block_on(async {
        let tree = prober(&read_write(100_000)).component("other", PROBER.wasm, 2_097_152, "");
        let path = tree.path().join("other/Component.toml");
        let text = fs::read_to_string(&path).unwrap();
        let grant = read_write(100_000).replace("\"data\"", "\"../alone/data\"");
        fs::write(path, format!("{text}\n{grant}\n")).unwrap();
        let data = tree.path().join("alone/data");
        let alone = Alone::of(tree).await.unwrap();
        let (written, _) = alone.fill("fill", "/data/x", 60_000).await;
        assert_eq!(written, 60_000);
        let other = alone.host.component("other").unwrap();
        let arguments = [Val::String("/data/y".into()), Val::U64(60_000)];
        other
            .call(&format!("{FILES}#fill"), &arguments)
            .await
            .unwrap();
        assert!(bytes_below(&data) <= 100_000, "{}", bytes_below(&data));
    });
}

/// A tree whose airssys.toml ends in this policy.
async fn under_policy(tree: Tree, policy: &str) -> Result<Alone, HostError> {
    let path = tree.write();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n{policy}\n")).unwrap();
    let host = airssys::Host::from_config(&path).await?;
    Ok(Alone::in_host(host, tree))
}

#[test]
fn a_directory_beyond_the_policy_is_not_loaded() {
    block_on(async {
        for (policy, key) in [
            (
                "[policy.filesystem]\nread = [\"other\"]\nwrite = [\"other\"]",
                "policy.filesystem.write",
            ),
            (
                "[policy.filesystem]\nmax_bytes = 50000",
                "policy.filesystem.max_bytes",
            ),
            ("[policy]\nunnamed = \"deny\"", "policy.filesystem.write"),
            // A list of what may be read says that nothing may be written.
            (
                "[policy.filesystem]\nread = [\"alone\"]",
                "policy.filesystem.write",
            ),
        ] {
            let tree = prober(&read_write(100_000));
            fs::create_dir(tree.path().join("other")).unwrap();
            let told = start_failure(under_policy(tree, policy).await).to_string();
            assert!(told.contains(key), "{told}");
        }
        // A link into it is judged by where it leads.
        let tree = prober(READ);
        let data = tree.path().join("alone/data");
        fs::remove_dir(&data).unwrap();
        symlink("/etc", &data).unwrap();
        let refused = under_policy(tree, "[policy.filesystem]\nread = [\"alone\"]").await;
        let told = start_failure(refused).to_string();
        assert!(told.contains("policy.filesystem.read"), "{told}");

        let tree = prober(READ);
        fs::write(tree.path().join("alone/data/x"), "found").unwrap();
        let policy = "[policy]\nunnamed = \"deny\"\n[policy.filesystem]\nread = [\"alone\"]";
        let alone = under_policy(tree, policy).await.unwrap();
        assert!(result(&alone.files("read", &["/data/x"]).await).is_ok());
    });
}

#[test]
fn a_directory_that_is_not_there_is_a_load_error_that_names_it() {
    block_on(async {
        let tree = prober(READ);
        fs::remove_dir(tree.path().join("alone/data")).unwrap();
        let told = start_failure(Alone::of(tree).await).to_string();
        assert!(told.contains("alone/data"), "{told}");
    });
}
