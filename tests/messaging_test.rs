//! Components that send to components.

use std::sync::Arc;
use std::time::{Duration, Instant};

use airssys::grants::{Capability, DenialReason};
use airssys::{ExitKind, Host, HostError, Val};
use airssys_guests::COURIER;

use crate::filesystem_test::{denied, result};
use crate::support::{Tree, block_on, start_failure};

pub const DESK: &str = "airssys:courier/desk@0.1.0";

/// Couriers under these names, each with these lines in its Component.toml.
pub fn couriers(grants: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::new();
    for (name, grants) in grants {
        tree = tree.component(name, COURIER.wasm, 2_097_152, "");
        let path = tree.path().join(name).join("Component.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}\n{grants}\n")).unwrap();
    }
    tree
}

/// A host with these lines at the end of its airssys.toml.
pub async fn host(tree: &Tree, system: &str) -> Result<Host, HostError> {
    let path = tree.write();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n{system}\n")).unwrap();
    Host::from_config(&path).await
}

fn call(names: &str) -> String {
    format!("[capabilities.messaging]\ncall = [{names}]")
}

/// Calls a courier.
pub async fn desk(host: &Host, name: &str, function: &str, arguments: &[Val]) -> Vec<Val> {
    let component = host.component(name).unwrap();
    let called = component
        .call(&format!("{DESK}#{function}"), arguments)
        .await;
    called.unwrap()
}

pub fn text(text: &str) -> Val {
    Val::String(text.into())
}

/// What a function answers that answers a text or an error.
async fn told(
    host: &Host,
    name: &str,
    function: &str,
    arguments: &[Val],
) -> Result<String, String> {
    match result(&desk(host, name, function, arguments).await) {
        Ok(Some(Val::String(text))) => Ok(text.clone()),
        Ok(Some(Val::U64(_))) => Ok(String::new()),
        Ok(other) => panic!("{other:?}"),
        Err(why) => Err(why.to_owned()),
    }
}

async fn send(host: &Host, from: &str, to: &str, payload: &str) -> Result<String, String> {
    told(host, from, "send", &[text(to), text(payload)]).await
}

async fn request(host: &Host, from: &str, to: &str, payload: &str) -> Result<String, String> {
    request_within(host, from, to, payload, 5_000).await
}

async fn request_within(
    host: &Host,
    from: &str,
    to: &str,
    payload: &str,
    ms: u32,
) -> Result<String, String> {
    let arguments = [text(to), text(payload), Val::U32(ms)];
    told(host, from, "request", &arguments).await
}

/// What a courier has received, once it has received so much.
async fn received(host: &Host, name: &str, count: usize) -> Vec<String> {
    loop {
        let answer = desk(host, name, "received", &[]).await;
        let [Val::List(lines)] = &answer[..] else {
            panic!("{answer:?}")
        };
        if lines.len() >= count {
            let line = |line: &Val| match line {
                Val::String(line) => line.clone(),
                other => panic!("{other:?}"),
            };
            return lines.iter().map(line).collect();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn err<T>(why: &str) -> Result<T, String> {
    Err(why.to_owned())
}

#[test]
fn a_request_is_answered_and_the_receiver_is_told_who_asks() {
    block_on(async {
        let tree = couriers(&[("a", &call("\"b\"")), ("b", "")]);
        let host = host(&tree, "").await.unwrap();
        assert_eq!(
            request(&host, "a", "b", "echo:hello").await,
            Ok("hello".into())
        );
        assert_eq!(
            request(&host, "a", "b", "fail").await,
            Err("told: as asked".into())
        );
        assert_eq!(send(&host, "a", "b", "one").await, Ok(String::new()));
        assert_eq!(request(&host, "a", "b", "two").await, Ok(String::new()));
        assert_eq!(received(&host, "b", 2).await, ["a||one", "a||two"]);
        let large = "x".repeat(200_000);
        let answer = request(&host, "a", "b", &format!("echo:{large}")).await;
        assert_eq!(answer.map(|a| a == large), Ok(true));
    });
}

#[test]
fn a_message_to_whom_nobody_granted_is_denied_and_named() {
    block_on(async {
        let deny = "[capabilities.messaging]\ncall = [\"**\"]\ndeny = [\"b\"]";
        let tree = couriers(&[("a", &call("\"c\"")), ("b", ""), ("c", deny)]);
        let host = host(&tree, "").await.unwrap();
        let mut denials = host.denials();
        assert_eq!(send(&host, "a", "b", "x").await, err("denied"));
        let told = denied(&mut denials).await;
        assert_eq!(told.component.as_str(), "a");
        assert_eq!(told.denial.capability, Capability::Messaging);
        let missing = told.denial.missing.unwrap().to_string();
        assert_eq!(missing, "[capabilities.messaging]\ncall = [\"b\"]");
        assert_eq!(request(&host, "b", "a", "echo:x").await, err("denied"));
        denied(&mut denials).await;
        assert_eq!(send(&host, "c", "b", "x").await, err("denied"));
        let reason = denied(&mut denials).await.denial.reason;
        assert_eq!(reason, DenialReason::Denied("b".into()));
        let topic = [text("orders"), text("x")];
        let published = desk(&host, "a", "publish", &topic).await;
        assert_eq!(result(&published), Err("denied"));
        let missing = denied(&mut denials).await.denial.missing.unwrap();
        assert_eq!((missing.key, &*missing.value), ("publish", "[\"orders\"]"));
        assert!(received(&host, "b", 0).await.is_empty());
        // Names of no form a grant could have.
        for name in ["", "a b", "../b", "b\n"] {
            assert_eq!(send(&host, "a", name, "x").await, err("denied"), "{name:?}");
        }
    });
}

#[test]
fn the_policy_bounds_messages_too() {
    block_on(async {
        let grants = "[capabilities.messaging]\ncall = [\"**\"]\npublish = [\"**\"]";
        let tree = couriers(&[("a", grants), ("b", "")]);
        let policy =
            "[policy.messaging]\ncall = [\"c\"]\ntopics = [\"x.*\"]\ndeny = [\"x.secret\"]";
        let running = host(&tree, policy).await.unwrap();
        let mut denials = running.denials();
        assert_eq!(send(&running, "a", "b", "x").await, err("denied"));
        let denial = denied(&mut denials).await.denial;
        assert_eq!(denial.reason, DenialReason::NotAllowed);
        assert_eq!(
            denial.missing.unwrap().to_string(),
            "[policy.messaging]\ncall = [\"b\"]"
        );
        for (topic, allowed) in [("x.y", true), ("x.secret", false), ("y", false)] {
            let answer = desk(&running, "a", "publish", &[text(topic), text("")]).await;
            assert_eq!(result(&answer).is_ok(), allowed, "{topic}");
        }
        running.shutdown().await;

        let beyond = "[capabilities.messaging]\nsubscribe = [\"x.**\"]";
        let tree = couriers(&[("alone", beyond)]);
        let refused = host(&tree, policy).await;
        let told = start_failure(refused.map(|h| crate::support::Alone::in_host(h, tree)));
        assert!(
            told.to_string().contains("policy.messaging.topics"),
            "{told}"
        );
    });
}

#[test]
fn what_is_published_goes_to_those_who_subscribe() {
    block_on(async {
        let to = |topics: &str| format!("[capabilities.messaging]\nsubscribe = [{topics}]");
        let tree = couriers(&[
            ("a", "[capabilities.messaging]\npublish = [\"orders.**\"]"),
            ("all", &to("\"orders.**\", \"orders.*\"")),
            ("some", &to("\"orders.created\"")),
            ("none", &to("\"payments.**\"")),
        ]);
        let host = host(&tree, "").await.unwrap();
        let publish = async |topic: &str| {
            let answer = desk(&host, "a", "publish", &[text(topic), text(topic)]).await;
            let Ok(Some(Val::Tuple(counts))) = result(&answer) else {
                panic!("{answer:?}")
            };
            counts.clone()
        };
        let delivered = |n| vec![Val::U32(n), Val::U32(0), Val::U32(0)];
        assert_eq!(publish("orders.created").await, delivered(2));
        assert_eq!(publish("orders.created.today").await, delivered(1));
        let all = ["orders.created", "orders.created.today"];
        let all = all.map(|topic| format!("a|{topic}|{topic}"));
        assert_eq!(received(&host, "all", 2).await, all);
        assert_eq!(received(&host, "some", 1).await, all[..1]);
        assert!(received(&host, "none", 0).await.is_empty());
        // Whoever leaves the tree is sent nothing more.
        let tools = host.supervisor("tools").unwrap();
        tools.terminate_child("some").await.unwrap();
        let stopped = vec![Val::U32(1), Val::U32(0), Val::U32(1)];
        assert_eq!(publish("orders.created").await, stopped);
        tools.delete_child("some").await.unwrap();
        assert_eq!(publish("orders.created").await, delivered(1));
    });
}

#[test]
fn a_receiver_that_is_not_there_or_takes_no_messages_is_told() {
    block_on(async {
        let tree = couriers(&[("a", &call("\"**\"")), ("b", "")]);
        let tree = tree.guest("notebook", airssys_guests::NOTEBOOK);
        let host = host(&tree, "").await.unwrap();
        assert_eq!(send(&host, "a", "nobody", "x").await, err("no-receiver"));
        assert_eq!(send(&host, "a", "notebook", "x").await, err("no-receiver"));
        host.supervisor("tools")
            .unwrap()
            .terminate_child("b")
            .await
            .unwrap();
        assert_eq!(send(&host, "a", "b", "x").await, err("stopped"));
        assert_eq!(request(&host, "a", "b", "echo:x").await, err("stopped"));
    });
}

#[test]
fn a_receiver_that_dies_of_a_message_is_told_and_replaced() {
    block_on(async {
        let tree = couriers(&[("a", &call("\"b\"")), ("b", "")]);
        let host = host(&tree, "").await.unwrap();
        assert_eq!(request(&host, "a", "b", "trap").await, err("failed"));
        assert_eq!(
            request(&host, "a", "b", "echo:again").await,
            Ok("again".into())
        );
        let restarts = |name| host.component(name).unwrap().metrics().restarts;
        assert_eq!((restarts("a"), restarts("b")), (0, 1));
    });
}

#[test]
fn a_full_mailbox_is_told_to_the_sender() {
    block_on(async {
        let tree = couriers(&[("a", &call("\"b\"")), ("b", "")]);
        let host = Arc::new(host(&tree, "").await.unwrap());
        let busy = tokio::spawn({
            let host = Arc::clone(&host);
            async move { desk(&host, "b", "received", &[]).await }
        });
        busy.await.unwrap();
        assert_eq!(send(&host, "a", "b", "wait:3000").await, Ok(String::new()));
        let mut sent = 1;
        let why = loop {
            let flooded = desk(&host, "a", "flood", &[text("b"), Val::U32(900)]).await;
            match &flooded[..] {
                [Val::Tuple(told)] => match &told[..] {
                    [Val::U32(n), Val::Option(None)] => sent += n,
                    [Val::U32(n), Val::Option(Some(why))] => {
                        sent += n;
                        match &**why {
                            // The allowance comes back within a second.
                            Val::String(why) if why == "too-fast" => {
                                tokio::time::sleep(Duration::from_millis(200)).await;
                            }
                            why => break why.clone(),
                        }
                    }
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(why, text("full"));
        let capacity = u32::try_from(airssys_wasm::MAILBOX_CAPACITY).unwrap();
        assert!((capacity..=capacity + 2).contains(&sent), "{sent}");
        // None of those that were taken is lost.
        let sent = usize::try_from(sent).unwrap();
        assert_eq!(received(&host, "b", sent - 1).await.len(), sent - 1);
    });
}

#[test]
fn a_message_that_finds_no_room_to_wait_is_told_to_its_sender_as_full() {
    block_on(async {
        let room = "[resources.message]\nmax_waiting_bytes = 65536";
        let tree = couriers(&[("a", &call("\"b\"")), ("b", room)]);
        let host = host(&tree, "").await.unwrap();
        assert_eq!(send(&host, "a", "b", "wait:3000").await, Ok(String::new()));
        let large = "x".repeat(60_000);
        assert_eq!(send(&host, "a", "b", &large).await, Ok(String::new()));
        assert_eq!(send(&host, "a", "b", &large).await, err("full"));
        assert_eq!(send(&host, "a", "b", "small").await, Ok(String::new()));
        // All but the one that says to wait.
        assert_eq!(received(&host, "b", 2).await.len(), 2);
        assert_eq!(send(&host, "a", "b", &large).await, Ok(String::new()));
    });
}

#[test]
fn a_sender_sends_no_more_than_it_may() {
    block_on(async {
        let grants = "[capabilities.messaging]\ncall = [\"b\"]\nmax_per_second = 50\nmax_message_bytes = 1000";
        let tree = couriers(&[("a", grants), ("b", "")]);
        let host = host(&tree, "").await.unwrap();
        let bytes = async |n| {
            let answer = desk(&host, "a", "send-bytes", &[text("b"), Val::U32(n)]).await;
            result(&answer).map(|_| ()).map_err(str::to_owned)
        };
        assert_eq!(bytes(1001).await, err("too-large"));
        assert_eq!(bytes(1000).await, Ok(()));
        let began = Instant::now();
        let flooded = desk(&host, "a", "flood", &[text("b"), Val::U32(1000)]).await;
        let [Val::Tuple(told)] = &flooded[..] else {
            panic!("{flooded:?}")
        };
        let Val::U32(taken) = told[0] else {
            panic!("{told:?}")
        };
        let most = 50 + 50 * u32::try_from(began.elapsed().as_millis()).unwrap() / 1000;
        assert!((40..=most).contains(&taken), "{taken} of at most {most}");
        assert_eq!(told[1], Val::Option(Some(Box::new(text("too-fast")))));
    });
}

#[test]
fn a_cycle_is_refused_at_once() {
    block_on(async {
        let everybody = call("\"**\"");
        let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
        let grants: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), &*everybody)).collect();
        let tree = couriers(&grants);
        let host = host(&tree, "").await.unwrap();
        let began = Instant::now();
        assert_eq!(request(&host, "n0", "n0", "echo:x").await, err("cycle"));
        let told = request(&host, "n0", "n1", "ask:n0:echo:x").await;
        assert_eq!(told, Err("told: cycle".into()));
        let told = request(&host, "n0", "n1", "ask:n2:ask:n1:echo:x").await;
        assert_eq!(told, Err("told: told: cycle".into()));
        // Eight wait for one another, and no ninth.
        let chain = |last: u32| -> String {
            let asks: String = (2..=last).map(|n| format!("ask:n{n}:")).collect();
            format!("{asks}echo:end")
        };
        assert_eq!(
            request(&host, "n0", "n1", &chain(8)).await,
            Ok("end".into())
        );
        let told = request(&host, "n0", "n1", &chain(9)).await;
        assert!(told.unwrap_err().ends_with("cycle"));
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "nobody waited for a deadline"
        );
    });
}

#[test]
fn a_request_waits_no_longer_than_it_may_and_does_not_end_the_receiver() {
    block_on(async {
        let tree = couriers(&[("a", &call("\"b\"")), ("b", "")]);
        let host = host(&tree, "").await.unwrap();
        assert_eq!(request(&host, "a", "b", "kept").await, Ok(String::new()));
        let began = Instant::now();
        let told = request_within(&host, "a", "b", "wait:1000", 100).await;
        assert_eq!(told, err("deadline"));
        assert!(
            began.elapsed() < Duration::from_millis(800),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(
            received(&host, "b", 1).await,
            ["a||kept"],
            "what it keeps is still there"
        );
        assert_eq!(host.component("b").unwrap().metrics().restarts, 0);
    });
}

#[test]
fn a_request_waits_no_longer_than_whoever_called_the_sender() {
    block_on(async {
        let everybody = call("\"**\"");
        let tree = couriers(&[("a", &everybody), ("b", &everybody), ("c", &everybody)]);
        let host = host(&tree, "").await.unwrap();
        let began = Instant::now();
        let told = request_within(&host, "a", "b", "ask:c:wait:2000", 200).await;
        // `b` gives up with `a`, and may tell so first.
        let late = [err("deadline"), err("told: deadline")];
        assert!(late.contains(&told), "{told:?}");
        // It does so although it asked for a minute, and takes its next call.
        assert_eq!(request(&host, "a", "b", "echo:x").await, Ok("x".into()));
        assert!(
            began.elapsed() < Duration::from_millis(1500),
            "{:?}",
            began.elapsed()
        );
    });
}

#[test]
fn a_receiver_that_never_answers_is_ended_by_its_own_limit() {
    block_on(async {
        let tree = couriers(&[("a", &call("\"b\"")), ("b", "")]);
        let path = tree.path().join("b/Component.toml");
        let toml = std::fs::read_to_string(&path).unwrap();
        let toml = toml.replace("[resources.cpu]", "[resources.cpu]\ntimeout_seconds = 1");
        std::fs::write(path, toml).unwrap();
        let host = host(&tree, "").await.unwrap();
        assert_eq!(request(&host, "a", "b", "spin").await, err("failed"));
        let last = host.component("b").unwrap().metrics().last_exit.unwrap();
        assert_eq!(last.kind, ExitKind::Deadline.as_str());
        assert_eq!(request(&host, "a", "b", "echo:x").await, Ok("x".into()));
    });
}

#[test]
fn settings_are_found_by_key() {
    block_on(async {
        let tree = couriers(&[(
            "a",
            "[capabilities.config]\nset = [\"colour=blue\", \"empty=\"]",
        )]);
        let host = host(&tree, "").await.unwrap();
        let setting = async |key| desk(&host, "a", "setting", &[text(key)]).await;
        let some = |value| [Val::Option(Some(Box::new(text(value))))];
        assert_eq!(setting("colour").await, some("blue"));
        assert_eq!(setting("empty").await, some(""));
        assert_eq!(setting("other").await, [Val::Option(None)]);
        let [Val::List(all)] = &desk(&host, "a", "settings", &[]).await[..] else {
            panic!("no list")
        };
        assert_eq!(all.len(), 2);
    });
}
