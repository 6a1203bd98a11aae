//! Many components, many calls, many deaths: every answer right, and every one counted.

use airssys::{ComponentRef, Host, Val, WasmError};
use airssys_guests::{CALCULATOR, LEAKY};

use crate::support::{Alone, Tree, block_on, component, number, shared_machine};

const KIB_512: usize = 524_288;
const MIB: usize = 1_048_576;

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}-{i}")).collect()
}

/// Makes `calls` additions, each with an answer of its own; how many were right.
async fn add(calculator: ComponentRef, task: u32, calls: u32) -> u32 {
    let mut right = 0;
    for i in 0..calls {
        let (a, b) = (task * 100_000 + i, i * 7);
        let sum = calculator.call("add", &[Val::U32(a), Val::U32(b)]).await;
        right += u32::from(sum.unwrap() == [Val::U32(a + b)]);
    }
    right
}

async fn calculators(count: usize) -> (Tree, Host, Vec<ComponentRef>) {
    let names = names("calculator", count);
    let tree = names
        .iter()
        .fold(Tree::new(), |tree, name| tree.guest(name, CALCULATOR));
    let host = tree.start().await.unwrap();
    let all = names
        .iter()
        .map(|name| host.component(name).unwrap())
        .collect();
    (tree, host, all)
}

#[test]
fn a_hundred_components_answer_ten_thousand_calls() {
    let _machine = shared_machine();
    block_on(async {
        let (_tree, host, all) = calculators(100).await;
        let tasks: Vec<_> = (0..)
            .zip(all)
            .map(|(task, calculator)| tokio::spawn(add(calculator, task, 100)))
            .collect();
        let mut right = 0;
        for task in tasks {
            right += task.await.unwrap();
        }
        assert_eq!(right, 10_000);
        host.shutdown().await;
    });
}

#[test]
fn one_component_answers_ten_thousand_calls_of_a_hundred_callers() {
    let _machine = shared_machine();
    block_on(async {
        let (_tree, host, all) = calculators(1).await;
        let tasks: Vec<_> = (0..100)
            .map(|task| tokio::spawn(add(all[0].clone(), task, 100)))
            .collect();
        let mut right = 0;
        for task in tasks {
            right += task.await.unwrap();
        }
        assert_eq!(right, 10_000);
        host.shutdown().await;
    });
}

#[test]
fn a_thousand_times_out_of_memory_and_back() {
    let _machine = shared_machine();
    block_on(async {
        let core = r#"(memory 1) (global $pings (mut i32) (i32.const 0))
            (func (export "eat") (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable)
            (func (export "ping") (result i32)
                (global.set $pings (i32.add (global.get $pings) (i32.const 1))) (global.get $pings))"#;
        let text = component(core, false, &[("eat", ""), ("ping", "(result u32)")]);
        let alone = Alone::text(&text, KIB_512, "").await;
        let (mut told, mut back) = (0, 0);
        for _ in 0..1000 {
            match alone.call("eat", &[]).await {
                Err(WasmError::OutOfMemory {
                    limit_bytes: KIB_512,
                    current_bytes: KIB_512,
                    requested_bytes: 65_536,
                    peak_bytes: KIB_512,
                    ..
                }) => told += 1,
                other => panic!("{other:?}"),
            }
            back += u32::from(alone.number("ping", &[]).await == 1);
        }
        assert_eq!((told, back), (1000, 1000));
        alone.host.shutdown().await;
    });
}

#[test]
fn answers_stay_right_while_neighbours_run_out_of_memory() {
    let _machine = shared_machine();
    block_on(async {
        let (good, bad) = (names("calculator", 20), names("leaky", 10));
        let tree = good
            .iter()
            .fold(Tree::new(), |tree, name| tree.guest(name, CALCULATOR));
        let tree = bad
            .iter()
            .fold(tree, |tree, name| tree.component(name, LEAKY.wasm, MIB, ""));
        let host = tree.start().await.unwrap();
        let adding: Vec<_> = (0..)
            .zip(&good)
            .map(|(task, name)| tokio::spawn(add(host.component(name).unwrap(), task, 200)))
            .collect();
        let leaking: Vec<_> = bad
            .iter()
            .map(|name| {
                let leaky = host.component(name).unwrap();
                tokio::spawn(async move {
                    let mut refused = 0;
                    for _ in 0..20 {
                        let error = leaky.call("leak-until-refused", &[]).await.unwrap_err();
                        refused += u32::from(matches!(error, WasmError::OutOfMemory { .. }));
                        assert_eq!(number(&leaky.call("held", &[]).await.unwrap()), 0);
                    }
                    refused
                })
            })
            .collect();
        let (mut right, mut refused) = (0, 0);
        for task in adding {
            right += task.await.unwrap();
        }
        for task in leaking {
            refused += task.await.unwrap();
        }
        assert_eq!((right, refused), (4000, 200));
        host.shutdown().await;
    });
}
