//! What the host keeps and shows for components: keys and values, secrets, and the record of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use airssys::grants::{Capability, DenialReason};
use airssys::{ComponentSpec, Host, HostError, Val};
use airssys_osl::{AuditDecision, AuditEvent, AuditItem, AuditReader, verify_audit};

use crate::filesystem_test::{denied, prober, result};
use crate::messaging_test::{couriers, desk, host, text};
use crate::support::{Alone, Tree, block_on, start_failure};

const KEEP: &str = "[capabilities.keyvalue]\nmax_bytes = 100000";
const STORE: &str = "[keyvalue]\ndirectory = \"kv\"";

/// What a function that answers a text, a list or an error answered.
async fn told(host: &Host, name: &str, function: &str, arguments: &[Val]) -> Result<Val, String> {
    match result(&desk(host, name, function, arguments).await) {
        Ok(value) => Ok(value.cloned().unwrap_or(Val::Bool(true))),
        Err(why) => Err(why.to_owned()),
    }
}

async fn put(host: &Host, name: &str, key: &str, value: &str) -> Result<Val, String> {
    let arguments = [text("b"), text(key), text(value)];
    told(host, name, "put", &arguments).await
}

async fn get(host: &Host, name: &str, key: &str) -> Option<String> {
    let value = told(host, name, "get", &[text("b"), text(key)]).await;
    match value.unwrap() {
        Val::Option(None) => None,
        Val::Option(Some(value)) => match *value {
            Val::String(value) => Some(value),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_kept_outlives_the_host() {
    block_on(async {
        let tree = couriers(&[("a", KEEP)]);
        let running = host(&tree, STORE).await.unwrap();
        assert_eq!(put(&running, "a", "k", "value").await, Ok(Val::Bool(true)));
        assert_eq!(get(&running, "a", "k").await, Some("value".into()));
        assert_eq!(get(&running, "a", "other").await, None);
        let count = [text("b"), text("n"), Val::S64(5)];
        assert_eq!(told(&running, "a", "add", &count).await, Ok(Val::S64(5)));
        let many = Val::List(vec![
            Val::Tuple(vec![text("m1"), text("1")]),
            Val::Tuple(vec![text("m2"), text("2")]),
        ]);
        assert!(
            told(&running, "a", "put-many", &[text("b"), many])
                .await
                .is_ok()
        );
        running.shutdown().await;
        drop(running);

        let running = Host::from_config(tree.path().join("airssys.toml"))
            .await
            .unwrap();
        assert_eq!(get(&running, "a", "k").await, Some("value".into()));
        assert_eq!(told(&running, "a", "add", &count).await, Ok(Val::S64(10)));
        let keys = told(&running, "a", "keys", &[text("b")]).await.unwrap();
        assert_eq!(keys, Val::List(["k", "m1", "m2", "n"].map(text).to_vec()));
        let asked = Val::List(vec![text("m2"), text("none")]);
        let found = told(&running, "a", "get-many", &[text("b"), asked]).await;
        let found_it = Val::Option(Some(Box::new(text("2"))));
        assert_eq!(found, Ok(Val::List(vec![found_it, Val::Option(None)])));
        assert!(
            told(&running, "a", "remove", &[text("b"), text("k")])
                .await
                .is_ok()
        );
        assert_eq!(get(&running, "a", "k").await, None);
        running.shutdown().await;
    });
}

#[test]
fn an_exchange_fails_where_somebody_was_faster() {
    block_on(async {
        let tree = couriers(&[("a", KEEP)]);
        let running = host(&tree, STORE).await.unwrap();
        put(&running, "a", "k", "one").await.unwrap();
        let exchange = async |between: Option<&str>| {
            let between = Val::Option(between.map(|between| Box::new(text(between))));
            let arguments = [text("b"), text("k"), between, text("two")];
            told(&running, "a", "exchange", &arguments).await.unwrap()
        };
        let instead = exchange(Some("three")).await;
        assert_eq!(instead, Val::Option(Some(Box::new(text("three")))));
        assert_eq!(get(&running, "a", "k").await, Some("three".into()));
        assert_eq!(exchange(None).await, Val::Option(None));
        assert_eq!(get(&running, "a", "k").await, Some("two".into()));
    });
}

#[test]
fn no_component_sees_anothers_keys() {
    block_on(async {
        let tree = couriers(&[("a", KEEP), ("ab", KEEP), ("b", KEEP)]);
        let running = host(&tree, STORE).await.unwrap();
        put(&running, "a", "k", "of a").await.unwrap();
        // Every way to spell another's place: prefix, separators, bytes of lengths.
        for key in [
            "k",
            "a/b/k",
            "a\0b\0k",
            "../a/b/k",
            "\u{1}a\u{1}bk",
            "b:k",
            "",
        ] {
            for bucket in ["b", "a", "a/b", "\0a", "../a", "a\0b"] {
                let answer = told(&running, "b", "get", &[text(bucket), text(key)]).await;
                assert!(
                    matches!(answer, Ok(Val::Option(None)) | Err(_)),
                    "{bucket:?} {key:?}"
                );
                let answer = told(&running, "ab", "keys", &[text(bucket)]).await;
                assert!(
                    matches!(&answer, Ok(Val::List(keys)) if keys.is_empty()),
                    "{answer:?}"
                );
            }
        }
        put(&running, "b", "k", "of b").await.unwrap();
        assert_eq!(get(&running, "a", "k").await, Some("of a".into()));
        assert_eq!(get(&running, "ab", "k").await, None);
    });
}

#[test]
fn without_a_grant_nothing_is_kept_and_the_denial_names_the_grant() {
    block_on(async {
        let tree = couriers(&[("a", "")]);
        let running = host(&tree, STORE).await.unwrap();
        let mut denials = running.denials();
        assert_eq!(
            put(&running, "a", "k", "v").await,
            Err("access denied".into())
        );
        let denial = denied(&mut denials).await.denial;
        assert_eq!(denial.capability, Capability::KeyValue);
        let missing = denial.missing.unwrap().to_string();
        assert_eq!(missing, "[capabilities.keyvalue]\nmax_bytes = 1048576");
        running.shutdown().await;

        let failed = async |system: &str| {
            let tree = couriers(&[("alone", KEEP)]);
            let refused = host(&tree, system).await;
            start_failure(refused.map(|host| Alone::in_host(host, tree))).to_string()
        };
        assert!(failed("").await.contains("keyvalue.directory"));
        let beyond = failed(&format!("{STORE}\n[policy.keyvalue]\nmax_bytes = 99999")).await;
        assert!(
            beyond.contains("policy.keyvalue.max_bytes = 99999"),
            "{beyond}"
        );
        let closed = failed(&format!("{STORE}\n[policy]\nunnamed = \"deny\"")).await;
        assert!(closed.contains("policy.keyvalue.max_bytes"), "{closed}");
    });
}

#[test]
fn a_space_holds_no_more_than_its_quota() {
    block_on(async {
        let tree = couriers(&[("a", KEEP), ("b", KEEP)]);
        let running = host(&tree, STORE).await.unwrap();
        let mut denials = running.denials();
        let value = "x".repeat(10_000);
        let mut kept = 0;
        let why = loop {
            match put(&running, "a", &format!("k{kept}"), &value).await {
                Ok(_) => kept += 1,
                Err(why) => break why,
            }
            assert!(kept < 11);
        };
        assert_eq!(kept, 9);
        assert!(why.contains("quota"), "{why}");
        let denial = denied(&mut denials).await.denial;
        assert!(
            matches!(denial.reason, DenialReason::Quota(_)),
            "{denial:?}"
        );
        // Its neighbour's is its own.
        assert!(put(&running, "b", "k", &value).await.is_ok());
    });
}

/// Writes a secret's file, and the lines that name it.
fn secret(tree: &Tree, name: &str, value: &str) -> String {
    let path = tree.path().join(name);
    fs::write(&path, value).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    format!("[[secret]]\nname = \"{name}\"\nfile = \"{name}\"\n")
}

fn reveal(names: &str) -> String {
    format!("[capabilities.secrets]\nreveal = [{names}]")
}

const AUDIT: &str = "[audit]\ndirectory = \"audit\"";

/// What is on record: who, what, decision and rule.
pub fn recorded(tree: &Tree) -> Vec<(String, String, AuditDecision, String)> {
    let path = tree.path().join("audit");
    assert!(verify_audit(&path).unwrap().is_whole());
    let items = AuditReader::open(&path).unwrap();
    let call = |item| match item {
        AuditItem::Record(record) => match record.event {
            AuditEvent::Call(call) => Some((
                call.component.text,
                format!("{} {}", call.capability.text, call.subject.text),
                call.decision,
                call.rule.text,
            )),
            _ => None,
        },
        AuditItem::Finding(finding) => panic!("{finding:?}"),
    };
    items.filter_map(|item| call(item.unwrap())).collect()
}

#[test]
fn a_secret_is_shown_to_whom_it_was_granted_and_on_record() {
    block_on(async {
        let tree = couriers(&[("a", &reveal("\"api-token\"")), ("b", "")]);
        let system = format!(
            "{AUDIT}\n{}{}",
            secret(&tree, "api-token", "s3same"),
            secret(&tree, "other", "hidden")
        );
        let running = host(&tree, &system).await.unwrap();
        let mut denials = running.denials();
        let ask = async |name, secret| told(&running, name, "secret", &[text(secret)]).await;
        assert_eq!(ask("a", "api-token").await, Ok(text("s3same")));
        for (name, secret) in [("a", "other"), ("b", "api-token"), ("a", "none"), ("a", "")] {
            let answer = ask(name, secret).await;
            assert_eq!(answer, Err("denied".into()), "{name} {secret}");
            let denial = denied(&mut denials).await.denial;
            assert_eq!(denial.capability, Capability::Secrets);
            if !secret.is_empty() {
                let missing = format!("[capabilities.secrets]\nreveal = [\"{secret}\"]");
                assert_eq!(denial.missing.unwrap().to_string(), missing);
            }
        }
        running.shutdown().await;
        let told = recorded(&tree);
        let (who, what, decision, rule) = &told[0];
        assert_eq!(
            (who.as_str(), what.as_str()),
            ("a", "secrets reveal api-token")
        );
        assert_eq!(
            (*decision, rule.as_str()),
            (AuditDecision::Allow, "api-token")
        );
        assert_eq!(told.len(), 5);
        assert!(
            told[1..]
                .iter()
                .all(|(_, _, decision, _)| *decision == AuditDecision::Deny)
        );
        assert_eq!(
            told[2].3,
            "[capabilities.secrets]\nreveal = [\"api-token\"]"
        );
        let log = fs::read_dir(tree.path().join("audit")).unwrap();
        for file in log {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            let held = |value: &[u8]| bytes.windows(value.len()).any(|bytes| bytes == value);
            assert!(!held(b"s3same"), "the log holds no secret");
        }
    });
}

#[test]
fn a_secret_beyond_the_policy_is_denied() {
    block_on(async {
        let tree = couriers(&[("a", &reveal("\"**\""))]);
        let secrets = secret(&tree, "x", "1") + &secret(&tree, "y", "2");
        let system = format!("{secrets}[policy.secrets]\nreveal = [\"x\"]");
        let running = host(&tree, &system).await.unwrap();
        let ask = async |secret| told(&running, "a", "secret", &[text(secret)]).await;
        assert_eq!(ask("x").await, Ok(text("1")));
        assert_eq!(ask("y").await, Err("denied".into()));
        assert_eq!(ask("none").await, Err("denied".into()));
    });
}

#[test]
fn a_secret_that_others_could_read_is_no_secret() {
    block_on(async {
        let tree = couriers(&[("a", "")]);
        let named = secret(&tree, "x", "1");
        let path = tree.path().join("x");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        match host(&tree, &named).await {
            Err(HostError::Secret { name, source }) => {
                assert_eq!(name.as_str(), "x");
                assert!(source.to_string().contains("644"), "{source}");
            }
            other => panic!("{other:?}"),
        }
        for (wrong, why) in [
            ("[[secret]]\nname = \"x\"", "one of"),
            (
                "[[secret]]\nname = \"x\"\nfile = \"x\"\nenvironment = \"X\"",
                "one of",
            ),
            (
                "[[secret]]\nname = \"x\"\nfile = \"x\"\nidentity = \"y\"",
                "belongs to",
            ),
            ("[[secret]]\nname = \"x\"\nage = \"x\"", "beside"),
        ] {
            let refused = host(&tree, wrong).await.unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        let twice = format!("{named}{named}");
        assert!(
            host(&tree, &twice)
                .await
                .unwrap_err()
                .to_string()
                .contains("another secret")
        );
    });
}

#[test]
fn a_call_that_cannot_be_put_on_record_does_not_take_place() {
    block_on(async {
        let grants = "[capabilities.messaging]\ncall = [\"b\"]\nmax_per_second = 1000000";
        let tree = couriers(&[("a", grants), ("b", "")]);
        // A queue that a burst overruns.
        let running = host(&tree, &format!("{AUDIT}\nqueue_records = 16"))
            .await
            .unwrap();
        let mut denials = running.denials();
        let mut taken = 0;
        for _ in 0..100 {
            let flood = [text("b"), Val::U32(500)];
            let flooded = desk(&running, "a", "flood", &flood).await;
            let [Val::Tuple(told)] = &flooded[..] else {
                panic!("{flooded:?}")
            };
            let (Val::U32(sent), Val::Option(why)) = (&told[0], &told[1]) else {
                panic!("{told:?}")
            };
            taken += usize::try_from(*sent).unwrap();
            match why.as_deref() {
                Some(Val::String(why)) if why == "denied" => break,
                // `b` needs a moment for what it has.
                _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
        let reason = denied(&mut denials).await.denial.reason;
        assert_eq!(reason, DenialReason::Unrecorded);
        running.shutdown().await;
        let allowed = recorded(&tree);
        let allowed = allowed.iter().filter(|(_, what, decision, _)| {
            what == "messaging send b" && *decision == AuditDecision::Allow
        });
        // A full mailbox refuses after it was allowed.
        assert!(allowed.count() >= taken, "whatever took place is on record");
    });
}

#[test]
fn every_kind_of_access_is_on_record_with_its_rule() {
    block_on(async {
        let tree = couriers(&[
            (
                "a",
                &format!("{KEEP}\n[capabilities.messaging]\ncall = [\"b\"]"),
            ),
            ("b", ""),
        ]);
        let running = host(&tree, &format!("{STORE}\n{AUDIT}")).await.unwrap();
        put(&running, "a", "k", "v").await.unwrap();
        let ask = [text("b"), text("echo:x"), Val::U32(1000)];
        told(&running, "a", "request", &ask).await.unwrap();
        running.shutdown().await;
        let lines: Vec<String> = recorded(&tree)
            .into_iter()
            .map(|(who, what, decision, rule)| format!("{who} {what} {decision:?} {rule}"))
            .collect();
        assert_eq!(
            lines,
            [
                "a keyvalue open b/ Allow max_bytes",
                "a keyvalue set b/k Allow max_bytes",
                "a messaging request b Allow b",
            ]
        );

        let tree = prober(
            "[[capabilities.filesystem]]\npath = \"data\"\nguest = \"/data\"\n\
             [capabilities.network]\noutbound = [\"127.0.0.1:9\"]",
        );
        fs::write(tree.path().join("alone/data/x"), "found").unwrap();
        let running = host(&tree, AUDIT).await.unwrap();
        let alone = Alone::in_host(running, tree);
        alone.files("read", &["/data/x"]).await;
        alone.files("write", &["/data/x", "y"]).await;
        alone.host.shutdown().await;
        let lines: Vec<String> = recorded(alone.tree())
            .into_iter()
            .map(|(_, what, decision, rule)| format!("{what} {decision:?} {rule}"))
            .collect();
        assert!(
            lines.contains(&"filesystem read /data/x Allow /data".to_owned()),
            "{lines:?}"
        );
        let denied =
            "filesystem write /data/x Deny [[capabilities.filesystem]]\naccess = \"read-write\"";
        let is_denied = |line: &String| line.starts_with(denied);
        assert!(lines.iter().any(is_denied), "{lines:?}");
    });
}

/// Byte `n` of the secret that is searched for, as it stands nowhere else.
fn disguised(n: usize) -> u8 {
    u8::try_from((n * 37 + 11) % 251).unwrap()
}

/// What turns it into the secret's own.
const DISGUISE: u8 = 0x5a;

/// Length of that secret, in bytes.
const SECRET_BYTES: usize = 96;

/// How often the secret's middle stands in the pages this process has written to. An allocator
/// writes over the ends of what it gets back.
fn occurrences() -> usize {
    use std::os::unix::fs::FileExt;
    const PAGE: u64 = 4096;
    let memory = fs::File::open("/proc/self/mem").unwrap();
    let present = fs::File::open("/proc/self/pagemap").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let wanted: Vec<u8> = (32..80).map(disguised).collect();
    let mut found = 0;
    // A page, and as much of the next as what begins in this one may need.
    let mut page = vec![0; 4096 + wanted.len()];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = (address(start), address(end));
        let mut entries = vec![0; usize::try_from((end - start) / PAGE * 8).unwrap()];
        let read = present.read_at(&mut entries, start / PAGE * 8).unwrap_or(0);
        let entries = entries[..read].chunks_exact(8);
        let here = |entry: &[u8]| entry[7] & 0x80 != 0;
        let at = (start..end).step_by(4096);
        for (at, _) in at.zip(entries).filter(|(_, entry)| here(entry)) {
            // What must not be read holds nothing of ours.
            let read = memory.read_at(&mut page, at).unwrap_or(0);
            let first = wanted[0] ^ DISGUISE;
            for offset in 0..read.saturating_sub(wanted.len() - 1).min(4096) {
                if page[offset] == first {
                    let pairs = page[offset..].iter().zip(&wanted);
                    found += usize::from(pairs.into_iter().all(|(b, w)| b ^ DISGUISE == *w));
                }
            }
        }
        page.fill(0);
    }
    found
}

#[test]
fn a_secret_is_wiped() {
    const TEST: &str = "services_test::a_secret_is_wiped";
    if !crate::support::in_a_process_of_its_own(TEST) {
        return;
    }
    block_on(async {
        let tree = couriers(&[("a", &reveal("\"api-token\""))]);
        let named = {
            // Written by another process: this one never has it but through the host.
            let named = secret(&tree, "api-token", "");
            let octal: String = (0..SECRET_BYTES)
                .map(|n| format!("\\{:03o}", disguised(n) ^ DISGUISE))
                .collect();
            let path = tree.path().join("api-token");
            let written = Command::new("sh")
                .args(["-c", "printf \"$1\" > \"$2\"", "sh", &octal])
                .arg(&path)
                .status();
            assert!(written.unwrap().success());
            named
        };
        let running = host(&tree, &named).await.unwrap();
        let length = told(&running, "a", "secret-length", &[text("api-token")]).await;
        assert_eq!(length, Ok(Val::U32(u32::try_from(SECRET_BYTES).unwrap())));
        // The guest has it, which shows that the search finds what is there.
        assert!(occurrences() >= 1);
        let tools = running.supervisor("tools").unwrap();
        tools.terminate_child("a").await.unwrap();
        assert_eq!(
            occurrences(),
            0,
            "neither the pool nor a buffer of the host"
        );
        running.shutdown().await;
    });
}

/// Set in the process that is to be killed, to its airssys.toml.
const VICTIM: &str = "AIRSSYS_TEST_VICTIM_STORE";

#[test]
fn what_was_answered_is_kept_when_the_host_is_killed() {
    if let Some(path) = std::env::var_os(VICTIM) {
        return block_on(async {
            let running = Host::from_config(&path).await.unwrap();
            for n in 0..1_000 {
                put(&running, "a", "count", &n.to_string()).await.unwrap();
                println!("answered {n}");
            }
        });
    }
    let tree = couriers(&[("a", KEEP)]);
    let path = tree.write();
    let toml = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{toml}\n{STORE}\n{AUDIT}\n")).unwrap();
    for round in 1..=3 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "services_test::what_was_answered_is_kept_when_the_host_is_killed",
            ])
            .args(["--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut last = None;
        let lines = std::io::BufRead::lines(std::io::BufReader::new(victim.stdout.take().unwrap()));
        for line in lines {
            let line = line.unwrap();
            if let Some((_, n)) = line.split_once("answered ") {
                let n: u32 = n.parse().unwrap();
                last = Some(n);
                if n >= round * 40 {
                    break;
                }
            }
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        let last = last.expect("an answer");
        block_on(async {
            let running = Host::from_config(&path).await.unwrap();
            let kept: u32 = get(&running, "a", "count").await.unwrap().parse().unwrap();
            // What was under way may have come through as well.
            assert!((last..=last + 200).contains(&kept), "{kept} after {last}");
            running.shutdown().await;
        });
        recorded(&tree);
    }
}

#[test]
fn a_guest_that_hoards_handles_of_the_host_is_ended_by_their_number() {
    block_on(async {
        let tree =
            couriers(&[("alone", KEEP)]).line("alone", "resources.counts", "max_handles = 50");
        let running = host(&tree, STORE).await.unwrap();
        let alone = Alone::in_host(running, tree);
        let hoard = "airssys:courier/desk@0.1.0#hoard";
        let few = alone.call(hoard, &[text("b"), Val::U32(20)]).await.unwrap();
        assert_eq!(result(&few), Ok(Some(&Val::U32(20))));
        let cause = alone.exit(hoard, &[text("b"), Val::U32(1000)]).await;
        let told = cause.to_string();
        assert!(told.contains("handles") && told.contains("50"), "{told}");
        // The next instance begins with none.
        let few = alone.call(hoard, &[text("b"), Val::U32(20)]).await.unwrap();
        assert_eq!(result(&few), Ok(Some(&Val::U32(20))));
    });
}

#[test]
fn nobody_who_starts_a_component_while_the_tree_runs_gets_round_the_policy() {
    block_on(async {
        let tree = couriers(&[("a", ""), ("b", KEEP)]);
        let policy =
            format!("{STORE}\n[policy]\nunnamed = \"deny\"\n[policy.keyvalue]\nmax_bytes = 5000");
        let path = tree.write();
        let toml = fs::read_to_string(&path).unwrap();
        let (first, _) = toml
            .split_once("\n[[supervisor.child]]\ncomponent = \"b/")
            .unwrap();
        fs::write(&path, format!("{first}\n{policy}\n")).unwrap();
        let running = Host::from_config(&path).await.unwrap();
        let tools = running.supervisor("tools").unwrap();
        let config = airssys::ComponentConfig::load(tree.path().join("b/Component.toml")).unwrap();
        let refused = tools
            .start_child(airssys::ChildSpec::component(config.clone()))
            .await;
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("policy.keyvalue.max_bytes = 5000"), "{told}");
        // Within it the same component may keep things.
        let mut within = config;
        within.capabilities.key_value_bytes = Some(5000);
        within.name = "c".parse().unwrap();
        tools
            .start_child(airssys::ChildSpec::component(within))
            .await
            .unwrap();
        assert!(put(&running, "c", "k", "v").await.is_ok());
    });
}

/// Adds what a denial says is missing to the end of a component's Component.toml.
fn paste(tree: &Tree, name: &str, missing: &str) {
    let path = tree.path().join(name).join("Component.toml");
    let toml = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{toml}\n{missing}\n")).unwrap();
}

#[test]
fn what_a_denial_says_is_missing_can_be_pasted_and_then_allows() {
    block_on(async {
        let one = [text("b"), text("k"), text("v")];
        let ask = [text("b"), text("echo:x"), Val::U32(1000)];
        let topic = [text("orders.created"), text("x")];
        let asked: [(&str, &[Val]); 4] = [
            ("put", &one),
            ("request", &ask),
            ("publish", &topic),
            ("secret", &[text("api-token")]),
        ];
        for (function, arguments) in asked {
            let tree = couriers(&[("a", ""), ("b", "")]);
            let system = format!("{STORE}\n{}", secret(&tree, "api-token", "s3same"));
            let running = host(&tree, &system).await.unwrap();
            let mut denials = running.denials();
            assert!(
                told(&running, "a", function, arguments).await.is_err(),
                "{function}"
            );
            let missing = denied(&mut denials).await.denial.missing.unwrap();
            running.shutdown().await;
            drop(running);
            paste(&tree, "a", &missing.to_string());
            let running = host(&tree, &system).await.unwrap();
            let now = told(&running, "a", function, arguments).await;
            assert!(now.is_ok(), "{function}: {now:?}\n{missing}");
            running.shutdown().await;
        }
    });
}

#[test]
fn a_path_that_is_missing_can_be_pasted_and_then_leads_there() {
    block_on(async {
        let tree = prober("[[capabilities.filesystem]]\npath = \"data\"\nguest = \"/data\"");
        let outside = tree.path().canonicalize().unwrap().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("x"), "found").unwrap();
        let running = host(&tree, "").await.unwrap();
        let mut denials = running.denials();
        let component = running.component("alone").unwrap();
        let read = async |component: &airssys::ComponentRef, path: &str| {
            let function = "airssys:prober/files@0.1.0#read";
            component.call(function, &[text(path)]).await.unwrap()
        };
        let answer = read(&component, "/data/../../outside/x").await;
        assert!(result(&answer).is_err());
        let missing = denied(&mut denials).await.denial.missing.unwrap();
        running.shutdown().await;
        paste(&tree, "alone", &missing.to_string());
        let running = host(&tree, "").await.unwrap();
        let component = running.component("alone").unwrap();
        let path = outside.join("x");
        let answer = read(&component, path.to_str().unwrap()).await;
        assert_eq!(result(&answer), Ok(Some(&text("found"))), "{missing}");
    });
}

#[test]
fn a_guest_that_hammers_the_host_keeps_nobody_waiting() {
    let count = match std::env::var_os("AIRSSYS_FULL") {
        Some(_) => 1_000_000,
        None => 100_000,
    };
    let _machine = crate::support::machine_to_itself();
    block_on(async {
        let tree = couriers(&[("a", "")]);
        let tree = tree.guest("calculator", airssys_guests::CALCULATOR);
        let path = tree.path().join("a/Component.toml");
        let toml = fs::read_to_string(&path).unwrap();
        let toml = toml.replace("[resources.cpu]", "[resources.cpu]\ntimeout_seconds = 100");
        fs::write(&path, toml).unwrap();
        let running = std::sync::Arc::new(host(&tree, "").await.unwrap());
        let before = crate::support::resident();
        let hammering = tokio::spawn({
            let running = std::sync::Arc::clone(&running);
            async move { desk(&running, "a", "hammer", &[Val::U32(count)]).await }
        });
        let calculator = running.component("calculator").unwrap();
        let mut slowest = std::time::Duration::ZERO;
        let mut calls = 0;
        while !hammering.is_finished() {
            let began = std::time::Instant::now();
            let sum = [Val::U32(2), Val::U32(3)];
            calculator
                .call("docs:adder/add@0.1.0#add", &sum)
                .await
                .unwrap();
            slowest = slowest.max(began.elapsed());
            calls += 1;
            tokio::task::yield_now().await;
        }
        hammering.await.unwrap();
        assert!(calls > 10, "{calls}");
        assert!(
            slowest < std::time::Duration::from_millis(500),
            "{slowest:?}"
        );
        let grown = crate::support::resident().saturating_sub(before);
        assert!(grown < 64 * 1024 * 1024, "{grown} bytes");
    });
}
