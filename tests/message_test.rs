//! Arguments and results on their way, at each level: what is told, what is replaced, and what
//! never arrives.

use std::time::Duration;

use airssys::{
    Change, ComponentRef, EventStream, ExitCause, ExitKind, Host, Message, Received, Val,
    VerificationLevel, WasmError,
};
use airssys_guests::{CALCULATOR, NOTEBOOK};
use airssys_wasm::{Hit, MESSAGE_SLOTS};

use crate::support::{Alone, Tree, Values, block_on, exit, shared_machine};

const MIB: usize = 1_048_576;

/// The levels at which every read checks every block.
const CHECKING: [&str; 3] = ["standard", "full", "redundant"];

/// How many messages a sampling cycle has.
const CYCLE: usize = 64;

/// The rest of a Component.toml that sets the level.
fn at(level: &str) -> String {
    format!("timeout_seconds = 5\n\n[integrity]\nlevel = \"{level}\"")
}

fn note(length: usize) -> [Val; 1] {
    [Val::String("n".repeat(length))]
}

fn bytes(length: usize) -> [Val; 1] {
    let byte = |at: usize| Val::U8((at * 41) as u8);
    [Val::List((0..length).map(byte).collect())]
}

async fn notebook_at(level: &str, max_bytes: usize) -> Alone {
    Alone::guest(NOTEBOOK, max_bytes, &at(level)).await
}

async fn calculator_at(level: &str) -> Alone {
    Alone::guest(CALCULATOR, MIB, &at(level)).await
}

fn flipped(mut message: Message, bit: usize) -> Message {
    assert!(message.flip_bit(bit), "bit {bit}");
    message
}

/// How many bits of a message there are to flip, its tags and its mirror included.
fn bits(component: &ComponentRef, function: &str, arguments: &[Val]) -> usize {
    let mut message = component.encode(function, arguments).unwrap();
    (0..).find(|bit| !message.flip_bit(*bit)).unwrap()
}

/// The cause of the next exit, and whose it was.
async fn next_exit(events: &mut EventStream) -> (String, ExitKind) {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(10), events.next());
        let Ok(Some(Received::Event(event))) = next.await else {
            panic!("no exit is told");
        };
        if let Change::Exited { cause } = event.change {
            return (event.child.to_string(), cause.kind());
        }
    }
}

fn is_damaged(answer: &Result<Vec<Val>, WasmError>) -> bool {
    matches!(answer, Err(WasmError::Damaged { .. }))
}

#[test]
fn the_level_of_the_file_is_the_level_of_its_messages() {
    let _machine = shared_machine();
    block_on(async {
        for (name, told) in [
            ("off", "Off"),
            ("sampling", "Sampling(SampleRate { shift: 6 })"),
            ("standard", "Standard"),
            ("full", "Full"),
            ("redundant", "Redundant"),
        ] {
            let alone = calculator_at(name).await;
            let message = alone.component.encode("echo", &bytes(8)).unwrap();
            assert_eq!(format!("{:?}", message.level()), told);
            assert!(message.is_pooled());
            assert_eq!(alone.call("echo", &bytes(8)).await.unwrap(), bytes(8));
            alone.host.shutdown().await;
        }
        let alone = Alone::guest(CALCULATOR, MIB, "").await;
        let message = alone.component.encode("echo", &bytes(8)).unwrap();
        assert_eq!(message.level(), VerificationLevel::Standard);
        alone.host.shutdown().await;
    });
}

async fn sibling_is_as_it_was(host: &Host) {
    let sibling = host.component("sibling").unwrap();
    assert_eq!(sibling.call("count", &[]).await.unwrap(), [Val::U32(1)]);
}

#[test]
fn damaged_arguments_end_the_instance_and_never_reach_the_guest() {
    let _machine = shared_machine();
    block_on(async {
        for level in CHECKING {
            let tree = Tree::new()
                .component("notebook", NOTEBOOK.wasm, MIB, &at(level))
                .guest("sibling", NOTEBOOK);
            let host = tree.start().await.unwrap();
            host.component("sibling")
                .unwrap()
                .call("append", &note(5))
                .await
                .unwrap();
            let notebook = host.component("notebook").unwrap();
            let mut events = host.events();
            let arguments = note(1_100);
            let bits = bits(&notebook, "append", &arguments);
            // Data of 1,104 bytes in three blocks, their tags, the tag of the length, the mirror.
            let mirror = if level == "redundant" { 1_104 } else { 0 };
            assert_eq!(bits, 8 * (1_104 + 3 * 4 + 4 + mirror), "{level}");
            for bit in (0..bits).step_by(1_361).chain([bits - 1]) {
                let message = flipped(notebook.encode("append", &arguments).unwrap(), bit);
                let cause = exit(notebook.call_encoded("append", message).await.values());
                assert!(matches!(&*cause, ExitCause::Integrity { .. }), "{cause}");
                let told = (String::from("notebook"), ExitKind::Integrity);
                assert_eq!(next_exit(&mut events).await, told, "{level}, bit {bit}");
                let notes = notebook.call("count", &[]).await.unwrap();
                assert_eq!(notes, [Val::U32(0)], "{level}, bit {bit}");
            }
            sibling_is_as_it_was(&host).await;
            host.shutdown().await;
        }
    });
}

#[test]
fn a_damaged_result_never_reaches_the_caller_and_ends_its_instance() {
    let _machine = shared_machine();
    block_on(async {
        for level in CHECKING {
            let tree = Tree::new()
                .component("calculator", CALCULATOR.wasm, MIB, &at(level))
                .guest("sibling", NOTEBOOK);
            let host = tree.start().await.unwrap();
            host.component("sibling")
                .unwrap()
                .call("append", &note(5))
                .await
                .unwrap();
            let calculator = host.component("calculator").unwrap();
            let mut events = host.events();
            let arguments = bytes(1_100);
            // The echo takes as many bits as what it echoes.
            let bits = bits(&calculator, "echo", &arguments);
            for bit in (0..bits).step_by(1_361).chain([bits - 1]) {
                calculator.flip_bit_of_next_result(bit);
                let answer = calculator.call("echo", &arguments).await;
                assert!(is_damaged(&answer), "{level}, bit {bit}: {answer:?}");
                let told = (String::from("calculator"), ExitKind::Integrity);
                assert_eq!(next_exit(&mut events).await, told, "{level}, bit {bit}");
                let answer = calculator.call("echo", &arguments).await.unwrap();
                assert_eq!(answer, arguments, "{level}, bit {bit}");
            }
            sibling_is_as_it_was(&host).await;
            host.shutdown().await;
        }
    });
}

#[test]
fn at_off_damage_is_delivered() {
    let _machine = shared_machine();
    block_on(async {
        let alone = calculator_at("off").await;
        let arguments = bytes(700);
        let encode = || alone.component.encode("echo", &arguments).unwrap();
        let mut changed = arguments.clone();
        if let Val::List(values) = &mut changed[0] {
            values[600] = Val::U8((600 * 41) as u8 ^ 1);
        }
        let hit = 8 * (4 + 600);
        let delivered = alone
            .component
            .call_encoded("echo", flipped(encode(), hit))
            .await
            .values();
        assert_eq!(delivered.unwrap(), changed);
        alone.component.flip_bit_of_next_result(hit);
        assert_eq!(alone.call("echo", &arguments).await.unwrap(), changed);
        // Not even the tag of the length is looked at, which is all there is behind the bytes.
        let tag = 8 * (4 + 700);
        let delivered = alone
            .component
            .call_encoded("echo", flipped(encode(), tag))
            .await
            .values();
        assert_eq!(delivered.unwrap(), arguments);
        alone.component.flip_bit_of_next_result(tag);
        assert_eq!(alone.call("echo", &arguments).await.unwrap(), arguments);
        // A list that says it is longer or shorter than what came is no list of this type.
        for bit in [0, 2] {
            let damaged = flipped(encode(), bit);
            let ended = alone.component.call_encoded("echo", damaged).await;
            assert!(matches!(ended, Err(WasmError::Exited { .. })), "{ended:?}");
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn at_sampling_damage_in_the_same_place_is_told_once_in_each_cycle_of_messages() {
    let _machine = shared_machine();
    block_on(async {
        let arguments = bytes(1_100);
        for block in [0, 2] {
            let bit = 8 * 512 * block + 99;
            let alone = calculator_at("sampling").await;
            for cycle in 0..3 {
                let mut told = 0;
                for _ in 0..CYCLE {
                    let message = alone.component.encode("echo", &arguments).unwrap();
                    let message = flipped(message, bit);
                    match alone.component.call_encoded("echo", message).await.values() {
                        Ok(_) => {}
                        Err(WasmError::Exited { cause, .. }) => {
                            assert_eq!(cause.kind(), ExitKind::Integrity);
                            told += 1;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                assert_eq!(told, 1, "block {block}, cycle {cycle}");
            }
            alone.host.shutdown().await;
            let alone = calculator_at("sampling").await;
            for cycle in 0..3 {
                let mut told = 0;
                for _ in 0..CYCLE {
                    alone.component.flip_bit_of_next_result(bit);
                    told += usize::from(is_damaged(&alone.call("echo", &arguments).await));
                }
                assert_eq!(told, 1, "block {block}, cycle {cycle}, results");
            }
            alone.host.shutdown().await;
        }
    });
}

#[test]
fn a_copy_that_arrives_changed_is_refused_at_once_at_full_and_redundant() {
    let _machine = shared_machine();
    block_on(async {
        let hit = Hit::Copy(8 * (4 + 600));
        for (level, at_once) in [("standard", false), ("full", true), ("redundant", true)] {
            let alone = notebook_at(level, MIB).await;
            let encoded = alone.component.encode_with_hit("append", &note(700), hit);
            match encoded {
                Err(WasmError::Damaged { .. }) => assert!(at_once, "{level}"),
                Ok(message) => {
                    assert!(!at_once, "{level}");
                    let cause = exit(
                        alone
                            .component
                            .call_encoded("append", message)
                            .await
                            .values(),
                    );
                    assert_eq!(cause.kind(), ExitKind::Integrity);
                }
                Err(error) => panic!("{error}"),
            }
            assert_eq!(alone.number("count", &[]).await, 0);
            alone.host.shutdown().await;
        }
    });
}

#[test]
fn a_register_that_is_hit_on_the_way_to_a_guest_is_told_at_redundant_alone() {
    let _machine = shared_machine();
    block_on(async {
        let hit = Hit::Register(8 * (4 + 3));
        for level in ["off", "standard", "full", "redundant"] {
            let alone = notebook_at(level, MIB).await;
            let encoded = alone.component.encode_with_hit("append", &note(9), hit);
            if level == "redundant" {
                let damaged = matches!(encoded, Err(WasmError::Damaged { .. }));
                assert!(damaged, "{encoded:?}");
                assert_eq!(alone.number("count", &[]).await, 0);
            } else {
                // Data and tag agree on the wrong bytes.
                let message = encoded.unwrap();
                alone
                    .component
                    .call_encoded("append", message)
                    .await
                    .values()
                    .unwrap();
                let kept = alone.call("get", &[Val::U32(0)]).await.unwrap();
                let wrong = Val::String(String::from("nnnonnnnn"));
                assert_eq!(kept, [Val::Option(Some(Box::new(wrong)))], "{level}");
            }
            alone.host.shutdown().await;
        }
    });
}

#[test]
fn a_message_of_half_a_mebibyte_is_checked_on_the_heap_as_in_a_slot() {
    let _machine = shared_machine();
    block_on(async {
        let half = MIB / 2;
        for level in ["off", "sampling", "standard", "full", "redundant"] {
            let alone = notebook_at(level, 4 * MIB).await;
            let message = alone.component.encode("append", &note(half)).unwrap();
            assert!(!message.is_pooled());
            assert_eq!(message.len(), half + 4);
            alone
                .component
                .call_encoded("append", message)
                .await
                .values()
                .unwrap();
            let kept = alone.call("get", &[Val::U32(0)]).await.unwrap();
            let [text] = note(half);
            assert!(kept == [Val::Option(Some(Box::new(text)))], "{level}");
            if CHECKING.contains(&level) {
                let message = alone.component.encode("append", &note(half)).unwrap();
                let message = flipped(message, 4 * half);
                let cause = exit(
                    alone
                        .component
                        .call_encoded("append", message)
                        .await
                        .values(),
                );
                assert_eq!(cause.kind(), ExitKind::Integrity, "{level}");
            }
            alone.host.shutdown().await;
        }
    });
}

#[test]
fn calls_beyond_the_slots_of_the_pool_fall_back_to_the_heap_and_are_answered() {
    let _machine = shared_machine();
    block_on(async {
        let alone = calculator_at("standard").await;
        let encode = || alone.component.encode("echo", &bytes(8)).unwrap();
        let slots: usize = MESSAGE_SLOTS.iter().map(|class| class.slots).sum();
        let kept: Vec<Message> = (0..slots).map(|_| encode()).collect();
        assert!(kept.iter().all(Message::is_pooled));
        assert!(!encode().is_pooled());
        let calls = (0..400).map(|length| {
            let component = alone.component.clone();
            tokio::spawn(async move {
                let arguments = bytes(length);
                component.call("echo", &arguments).await.unwrap() == arguments
            })
        });
        let calls: Vec<_> = calls.collect();
        for call in calls {
            assert!(call.await.unwrap());
        }
        // On the heap it is checked as well.
        let cause = exit(
            alone
                .component
                .call_encoded("echo", flipped(encode(), 40))
                .await
                .values(),
        );
        assert_eq!(cause.kind(), ExitKind::Integrity);
        drop(kept);
        let kept: Vec<Message> = (0..slots).map(|_| encode()).collect();
        assert!(kept.iter().all(Message::is_pooled));
        alone.host.shutdown().await;
    });
}

#[test]
fn a_message_can_be_sent_again_and_keeps_its_bytes() {
    let _machine = shared_machine();
    block_on(async {
        for length in [8, 100_000] {
            let alone = calculator_at("full").await;
            let message = alone.component.encode("echo", &bytes(length)).unwrap();
            for _ in 0..3 {
                let again = message.clone();
                let answer = alone
                    .component
                    .call_encoded("echo", again)
                    .await
                    .values()
                    .unwrap();
                assert!(answer == bytes(length));
            }
            alone.host.shutdown().await;
        }
    });
}

#[test]
fn a_message_encoded_at_another_level_is_refused_before_the_guest_is_entered() {
    let _machine = shared_machine();
    block_on(async {
        let (off, full) = (
            notebook_at("off", MIB).await,
            notebook_at("full", MIB).await,
        );
        let message = off.component.encode("append", &note(3)).unwrap();
        let refused = full
            .component
            .call_encoded("append", message)
            .await
            .values();
        let Err(WasmError::OtherLevel {
            expected, found, ..
        }) = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!(expected, VerificationLevel::Full);
        assert_eq!(found, VerificationLevel::Off);
        assert_eq!(full.number("count", &[]).await, 0);
        off.host.shutdown().await;
        full.host.shutdown().await;
    });
}
