//! What a component says while a call of its runs comes to whoever made that call.

use std::time::Duration;

use airssys::{CallEvent, CallOptions, CallWatch, LogLevel, OutputStreamName, Val, WasmError};

use crate::messaging_test::{DESK, couriers};
use crate::support::{Alone, block_on, shared_machine};

#[test]
fn progress_log_and_output_come_while_the_call_runs_and_end_with_it() {
    let _machine = shared_machine();
    block_on(async {
        let host = couriers(&[("a", "")]).start().await.unwrap();
        let a = host.component("a").unwrap();
        let (watch, mut events) = CallWatch::new();
        let options = CallOptions::default().watch(watch);
        let arguments = [Val::U32(3), Val::U32(20)];
        let labour = function("labour");
        let call = a.call_with(&labour, &arguments, options);
        let reading = async {
            let mut told = Vec::new();
            while let Some(event) = events.next().await {
                told.push(match event {
                    CallEvent::Progress {
                        done,
                        total,
                        message,
                    } => format!("{done} of {total:?}: {message}"),
                    CallEvent::Log {
                        level: LogLevel::Debug,
                        context,
                        message,
                    } => format!("{context}: {message}"),
                    CallEvent::Line {
                        stream: OutputStreamName::Stdout,
                        text,
                    } => text,
                    other => panic!("{other:?}"),
                });
            }
            told
        };
        let first = std::time::Instant::now();
        let (answer, told) = tokio::join!(call, reading);
        assert!(first.elapsed() >= Duration::from_millis(60));
        assert_eq!(answer.unwrap(), [Val::U32(3)]);
        let expected: Vec<String> = (1..=3)
            .flat_map(|n| {
                [
                    format!("{n} of Some(3): step {n}"),
                    format!("labour: logged {n}"),
                    format!("printed {n}"),
                ]
            })
            .collect();
        assert_eq!(told, expected);
    });
}

#[test]
fn events_come_before_the_answer_does() {
    let _machine = shared_machine();
    block_on(async {
        let host = couriers(&[("a", "")]).start().await.unwrap();
        let a = host.component("a").unwrap();
        let (watch, mut events) = CallWatch::new();
        let options = CallOptions::default().watch(watch);
        let (labour, arguments) = (function("labour"), [Val::U32(1_000), Val::U32(10)]);
        let call = a.call_with(&labour, &arguments, options);
        tokio::select! {
            biased;
            event = events.next() => assert!(matches!(event, Some(CallEvent::Progress { done: 1, .. }))),
            answer = call => panic!("{answer:?}"),
        }
        // The call is dropped there; its guest ends, and what it had to say with it.
        while events.next().await.is_some() {}
    });
}

#[test]
fn what_nobody_reads_in_time_is_counted_and_holds_nothing_up() {
    let _machine = shared_machine();
    block_on(async {
        let host = couriers(&[("a", "")]).start().await.unwrap();
        let a = host.component("a").unwrap();
        let (watch, mut events) = CallWatch::new();
        let options = CallOptions::default().watch(watch);
        let arguments = [Val::U32(1_000), Val::U32(0)];
        let answer = a.call_with(&function("labour"), &arguments, options).await;
        assert_eq!(answer.unwrap(), [Val::U32(1_000)]);
        let (mut read, mut lost) = (0, 0);
        while let Some(event) = events.next().await {
            match event {
                CallEvent::Lost(n) => lost += n,
                _ => read += 1,
            }
        }
        assert_eq!(read, 256);
        assert!(lost >= 1_000 - 256, "{lost}");
    });
}

#[test]
fn one_call_is_not_told_what_another_says_or_is_refused() {
    let _machine = shared_machine();
    block_on(async {
        let host = couriers(&[("a", "")]).start().await.unwrap();
        let a = host.component("a").unwrap();
        let (watch, mut events) = CallWatch::new();
        let options = CallOptions::default().watch(watch);
        let to = [Val::String("nobody".into()), Val::String("text".into())];
        a.call_with(&function("send"), &to, options).await.unwrap();
        // The next call of the same instance is not watched.
        let steps = [Val::U32(1), Val::U32(0)];
        a.call(&function("labour"), &steps).await.unwrap();
        match events.next().await {
            Some(CallEvent::Denied(denied)) => {
                assert_eq!(denied.component.as_str(), "a");
                let missing = denied.denial.missing.as_ref().unwrap().to_string();
                assert!(missing.contains("nobody"), "{missing}");
            }
            other => panic!("{other:?}"),
        }
        assert!(events.next().await.is_none());
    });
}

#[test]
fn a_deadline_and_a_full_mailbox_are_the_callers_to_choose() {
    let _machine = shared_machine();
    block_on(async {
        let host = couriers(&[("a", "")]).start().await.unwrap();
        let a = host.component("a").unwrap();
        let soon = CallOptions::default().deadline(Duration::from_millis(50));
        let arguments = [Val::U32(1_000), Val::U32(10)];
        let late = a.call_with(&function("labour"), &arguments, soon).await;
        assert!(matches!(late, Err(WasmError::Expired { .. })), "{late:?}");
    });
}

fn function(name: &str) -> String {
    format!("{DESK}#{name}")
}

/// Reports progress with a message of 5,000 bytes.
const TALKATIVE: &str = r#"(component
    (import "airssys:progress/progress@0.1.0" (instance $p (export "report"
        (func (param "done" u64) (param "total" (option u64)) (param "message" string)))))
    (core module $memory (memory (export "memory") 1))
    (core instance $texts (instantiate $memory))
    (core func $report (canon lower (func $p "report") (memory $texts "memory")))
    (core module $m
        (import "p" "report" (func $report (param i64 i32 i64 i32 i32)))
        (func (export "long") (call $report
            (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 5000))))
    (core instance $i (instantiate $m (with "p" (instance (export "report" (func $report))))))
    (func (export "long") (canon lift (core func $i "long"))))"#;

#[test]
fn a_long_message_of_progress_is_cut() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(TALKATIVE, 1_048_576, "").await;
        let (watch, mut events) = CallWatch::new();
        let options = CallOptions::default().watch(watch);
        let called = alone.component.call_with("long", &[], options).await;
        called.unwrap();
        match events.next().await {
            Some(CallEvent::Progress { message, .. }) => assert_eq!(message.len(), 1_024),
            other => panic!("{other:?}"),
        }
    });
}
