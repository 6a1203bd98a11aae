//! How calls end when the guest does not answer: time, fuel, stack, traps and exits.

use std::time::{Duration, Instant};

use airssys::{DeadlinePhase, ExitCause, ExitKind, Frame, Val};
use airssys_guests::{CRASHER, SPINNER};

use crate::support::{
    Alone, block_on, component, exit, machine_to_itself, shared_machine, start_failure,
};

const MIB: usize = 1_048_576;
const ONE_SECOND: &str = "timeout_seconds = 1";

/// How much later than its deadline a call may end on a machine that does nothing else.
const LATE: Duration = Duration::from_millis(400);

fn deadline(cause: &ExitCause) -> (Duration, DeadlinePhase) {
    match cause {
        ExitCause::Deadline { limit, phase } => (*limit, *phase),
        other => panic!("no deadline: {other}"),
    }
}

#[test]
fn each_call_has_the_whole_time_for_itself() {
    let _machine = machine_to_itself();
    block_on(async {
        let alone = Alone::guest(SPINNER, MIB, ONE_SECOND).await;
        // Parked in the host, and computing: each call well within the second, all of them beyond.
        alone.call("spin-for", &[Val::U64(500_000)]).await.unwrap();
        let began = Instant::now();
        alone
            .call("spin-for", &[Val::U64(2_000_000)])
            .await
            .unwrap();
        // A tenth of the limit each, so that a busy machine does not bring one near it.
        let rounds = 2_000_000.0 * 0.1 / began.elapsed().as_secs_f64();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of rounds"
        )]
        let rounds = rounds as u64;
        let began = Instant::now();
        for _ in 0..4 {
            alone.call("park-ms", &[Val::U64(400)]).await.unwrap();
        }
        for _ in 0..12 {
            alone.call("spin-for", &[Val::U64(rounds)]).await.unwrap();
        }
        assert!(
            began.elapsed() > Duration::from_millis(1600),
            "{:?}",
            began.elapsed()
        );
        // All in one instance.
        assert_eq!(alone.number("ping", &[]).await, 1);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_guest_parked_in_the_host_is_cut_at_its_deadline() {
    let _machine = machine_to_itself();
    block_on(async {
        let alone = Alone::guest(SPINNER, MIB, ONE_SECOND).await;
        assert_eq!(alone.number("ping", &[]).await, 1);
        let began = Instant::now();
        let cause = alone.exit("park-ms", &[Val::U64(600_000)]).await;
        let took = began.elapsed();
        assert_eq!(
            deadline(&cause),
            (Duration::from_secs(1), DeadlinePhase::Waiting)
        );
        assert!(
            took >= Duration::from_secs(1) && took < Duration::from_secs(1) + LATE,
            "{took:?}"
        );
        assert_eq!(alone.number("ping", &[]).await, 1);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_guest_that_computes_is_cut_at_its_deadline() {
    let _machine = machine_to_itself();
    block_on(async {
        let alone = Alone::guest(SPINNER, MIB, ONE_SECOND).await;
        for _ in 0..2 {
            let began = Instant::now();
            let cause = alone.exit("spin", &[]).await;
            let took = began.elapsed();
            assert_eq!(
                deadline(&cause),
                (Duration::from_secs(1), DeadlinePhase::Computing)
            );
            assert!(
                took >= Duration::from_secs(1) && took < Duration::from_secs(1) + LATE,
                "{took:?}"
            );
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn a_start_function_without_end_is_cut_at_the_start_deadline() {
    let _machine = shared_machine();
    block_on(async {
        let text = component("(func $start (loop (br 0))) (start $start)", false, &[]);
        let began = Instant::now();
        let limit = Duration::from_secs(2);
        let cpu = "start_timeout_seconds = 2";
        let cause = start_failure(Alone::try_text(&text, MIB, cpu).await);
        assert_eq!(deadline(&cause), (limit, DeadlinePhase::Start));
        assert!(began.elapsed() >= limit);
        assert!(began.elapsed() < limit * 4, "{:?}", began.elapsed());
    });
}

/// Counts down from its argument.
const COUNT_DOWN: &str = r#"
    (func (export "count-down") (param i32) (result i32)
        (loop $again (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get 0))
"#;

fn count_down() -> String {
    component(
        COUNT_DOWN,
        false,
        &[("count-down", "(param \"from\" u32) (result u32)")],
    )
}

#[test]
fn fuel_is_an_exact_bound_and_the_same_for_every_call() {
    let _machine = shared_machine();
    block_on(async {
        let text = count_down();
        let from = [Val::U32(1000)];
        let (mut fails, mut passes) = (1000, 100_000);
        while passes - fails > 1 {
            let fuel = u64::midpoint(fails, passes);
            let alone = Alone::text(&text, MIB, &format!("max_fuel = {fuel}")).await;
            match alone.call("count-down", &from).await {
                Ok(_) => passes = fuel,
                Err(_) => fails = fuel,
            }
            alone.host.shutdown().await;
        }
        // At the boundary every call passes, in one instance; one unit below, none does.
        let alone = Alone::text(&text, MIB, &format!("max_fuel = {passes}")).await;
        for _ in 0..5 {
            assert_eq!(alone.number("count-down", &from).await, 0);
        }
        let cause = alone.exit("count-down", &[Val::U32(1001)]).await;
        assert!(
            matches!(&*cause, ExitCause::OutOfFuel { limit } if *limit == passes),
            "{cause}"
        );
        assert_eq!(alone.number("count-down", &from).await, 0);
        alone.host.shutdown().await;
        let alone = Alone::text(&text, MIB, &format!("max_fuel = {fails}")).await;
        for _ in 0..5 {
            let cause = alone.exit("count-down", &from).await;
            assert!(
                matches!(&*cause, ExitCause::OutOfFuel { limit } if *limit == fails),
                "{cause}"
            );
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn time_bounds_a_call_that_has_fuel_left() {
    let _machine = machine_to_itself();
    block_on(async {
        let cpu = "timeout_seconds = 1\nmax_fuel = 1000000000000";
        let alone = Alone::guest(SPINNER, MIB, cpu).await;
        let cause = alone.exit("spin", &[]).await;
        assert_eq!(
            deadline(&cause),
            (Duration::from_secs(1), DeadlinePhase::Computing)
        );
        alone.host.shutdown().await;
    });
}

#[test]
fn a_start_function_has_no_more_fuel_than_a_call() {
    let _machine = shared_machine();
    block_on(async {
        let text = component("(func $start (loop (br 0))) (start $start)", false, &[]);
        let cause = start_failure(Alone::try_text(&text, MIB, "max_fuel = 50000").await);
        assert!(
            matches!(&*cause, ExitCause::OutOfFuel { limit: 50_000 }),
            "{cause}"
        );
    });
}

fn names(frames: &[Frame]) -> String {
    let names = frames.iter().filter_map(|frame| frame.function.as_deref());
    names.collect::<Vec<_>>().join(" < ")
}

#[test]
fn a_trap_tells_its_code_and_the_functions_it_happened_in() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(CRASHER, MIB, "").await;
        let cases: [(&str, &[Val], &str, &str); 4] = [
            ("trap", &[], "unreachable", "reach_unreachable"),
            (
                "divide-by-zero",
                &[Val::U32(7)],
                "integer division by zero",
                "divide_by_zero",
            ),
            (
                "out-of-bounds",
                &[],
                "memory access out of bounds",
                "read_out_of_bounds",
            ),
            (
                "panic",
                &[Val::String(String::from("on purpose"))],
                "unreachable",
                "panic_with",
            ),
        ];
        for (function, arguments, code, frame) in cases {
            assert_eq!(alone.number("ping", &[]).await, 1, "before {function}");
            let cause = alone.exit(function, arguments).await;
            let ExitCause::Trap(trap) = &*cause else {
                panic!("{function}: {cause}");
            };
            assert_eq!(trap.code, code, "{function}");
            assert!(
                names(&trap.backtrace).contains(frame),
                "{function}: {}",
                names(&trap.backtrace)
            );
            assert!(trap.backtrace.len() <= 20);
            assert!(trap.backtrace.iter().all(|frame| frame.offset.is_some()));
        }
        assert_eq!(alone.number("ping", &[]).await, 1);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_stack_overflow_names_the_function_that_recursed() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(CRASHER, MIB, "").await;
        for _ in 0..3 {
            let cause = alone.exit("overflow", &[]).await;
            let ExitCause::StackOverflow { backtrace } = &*cause else {
                panic!("{cause}");
            };
            assert!(backtrace.len() <= 20, "{}", backtrace.len());
            let recursed = |frame: &Frame| {
                frame
                    .function
                    .as_ref()
                    .is_some_and(|name| name.contains("descend"))
            };
            assert!(
                backtrace.iter().filter(|frame| recursed(frame)).count() > 10,
                "{}",
                names(backtrace)
            );
            assert_eq!(alone.number("ping", &[]).await, 1);
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn an_exit_tells_its_status() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(CRASHER, MIB, "").await;
        // WASI 0.2 carries only whether the status is zero.
        for (code, told) in [(0, 0), (1, 1), (7, 1), (255, 1)] {
            let cause = alone.exit("exit", &[Val::U8(code)]).await;
            assert!(
                matches!(&*cause, ExitCause::GuestExit { status } if *status == told),
                "{cause}"
            );
            assert_eq!(alone.number("ping", &[]).await, 1);
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn each_way_to_end_leaves_a_fresh_instance_that_answers() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(CRASHER, MIB, "").await;
        let ends = [
            ("trap", vec![], ExitKind::Trap),
            ("exit", vec![Val::U8(0)], ExitKind::GuestExit),
            ("overflow", vec![], ExitKind::StackOverflow),
            ("out-of-bounds", vec![], ExitKind::Trap),
        ];
        for round in 0..10 {
            for (function, arguments, kind) in &ends {
                assert_eq!(alone.number("ping", &[]).await, 1);
                assert_eq!(alone.number("ping", &[]).await, 2);
                let cause = alone.exit(function, arguments).await;
                assert_eq!(cause.kind(), *kind, "round {round}: {cause}");
            }
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn a_guest_that_parks_and_spins_in_turn_is_cut_at_its_deadline() {
    let _machine = machine_to_itself();
    block_on(async {
        // The wait before it leaves the guest that computes no more time than is left.
        let text = r#"(component
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $pollable (sub resource)))
                (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
            (alias export $poll "pollable" (type $pollable))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                (alias outer 1 $pollable (type $p))
                (export "pollable" (type $pollable (eq $p)))
                (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
            (core func $block (canon lower (func $poll "[method]pollable.block")))
            (core func $subscribe (canon lower (func $clock "subscribe-duration")))
            (core module $m
                (import "h" "block" (func $block (param i32)))
                (import "h" "subscribe" (func $subscribe (param i64) (result i32)))
                (func (export "park-and-spin") (param i64)
                    (call $block (call $subscribe (local.get 0)))
                    (loop (br 0))))
            (core instance $i (instantiate $m (with "h" (instance
                (export "block" (func $block)) (export "subscribe" (func $subscribe))))))
            (func (export "park-and-spin") (param "ns" u64) (canon lift (core func $i "park-and-spin"))))"#;
        let alone = Alone::text(text, MIB, ONE_SECOND).await;
        let began = Instant::now();
        let cause = alone.exit("park-and-spin", &[Val::U64(800_000_000)]).await;
        let took = began.elapsed();
        assert_eq!(
            deadline(&cause),
            (Duration::from_secs(1), DeadlinePhase::Computing)
        );
        assert!(
            took >= Duration::from_secs(1) && took < Duration::from_secs(1) + LATE,
            "{took:?}"
        );
        alone.host.shutdown().await;
    });
}

#[test]
fn time_bounds_a_guest_wherever_it_loops() {
    let _machine = shared_machine();
    block_on(async {
        let text = r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (loop (br 0)) unreachable)
                (func (export "take") (param i32 i32))
                (func (export "after") (param i32) (loop (br 0)))
                (func (export "fall") (param i32) unreachable)
                (func (export "get") (result i32) (i32.const 7)))
            (core instance $i (instantiate $m))
            (func (export "in-realloc") (param "bytes" (list u8))
                (canon lift (core func $i "take") (memory $i "memory") (realloc (func $i "realloc"))))
            (func (export "after-the-answer") (result u32)
                (canon lift (core func $i "get") (post-return (func $i "after"))))
            (func (export "trap-after-the-answer") (result u32)
                (canon lift (core func $i "get") (post-return (func $i "fall"))))
            (func (export "get") (result u32) (canon lift (core func $i "get"))))"#;
        let alone = Alone::text(text, MIB, ONE_SECOND).await;
        let bytes = [Val::List(vec![Val::U8(1); 10])];
        for (function, arguments) in [("in-realloc", &bytes[..]), ("after-the-answer", &[])] {
            let cause = alone.exit(function, arguments).await;
            assert_eq!(deadline(&cause).1, DeadlinePhase::Computing, "{function}");
            assert_eq!(alone.number("get", &[]).await, 7);
        }
        let cause = alone.exit("trap-after-the-answer", &[]).await;
        assert_eq!(cause.kind(), ExitKind::Trap, "{cause}");
        assert_eq!(alone.number("get", &[]).await, 7);
        alone.host.shutdown().await;
    });
}

fn host_panic(cause: &ExitCause) -> &str {
    match cause {
        ExitCause::HostPanic { message, .. } => message,
        other => panic!("no host panic: {other}"),
    }
}

#[test]
fn a_host_closure_that_panics_fails_or_hangs_ends_its_own_call_only() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(SPINNER, MIB, ONE_SECOND).await;
        let component = &alone.component;
        // Before it has a future, and in it.
        let early = component.run::<(), _>(|_, _| panic!("early"));
        let early = exit(early.await.map(|()| Vec::new()));
        assert_eq!(host_panic(&early), "early");
        assert_eq!(alone.number("ping", &[]).await, 1);
        let late = component.run::<(), _>(|_, _| {
            Box::pin(async {
                tokio::task::yield_now().await;
                panic!("late")
            })
        });
        let late = exit(late.await.map(|()| Vec::new()));
        assert_eq!(host_panic(&late), "late");
        assert_eq!(alone.number("ping", &[]).await, 1);
        let failing = component
            .run::<(), _>(|_, _| Box::pin(async { Err(wasmtime::Error::msg("out of paper")) }));
        let failing = exit(failing.await.map(|()| Vec::new()));
        assert!(
            matches!(&*failing, ExitCause::HostError { source } if source.to_string() == "out of paper")
        );
        let hanging = component.run::<(), _>(|_, _| Box::pin(std::future::pending()));
        let hanging = exit(hanging.await.map(|()| Vec::new()));
        assert_eq!(
            deadline(&hanging),
            (Duration::from_secs(1), DeadlinePhase::Waiting)
        );
        // One that ends well leaves the instance as it is.
        assert_eq!(alone.number("ping", &[]).await, 1);
        let size = component.run(|store, _| {
            Box::pin(async move { Ok(wasmtime::AsContext::as_context(&store).get_fuel().is_err()) })
        });
        assert!(size.await.unwrap());
        assert_eq!(alone.number("ping", &[]).await, 2);
        alone.host.shutdown().await;
    });
}

#[test]
fn the_start_of_an_instance_is_not_the_time_of_the_call_it_is_for() {
    let _machine = machine_to_itself();
    // By its own clock: its start lasts for longer than a call may, and its call for some ticks.
    let text = r#"(component
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (export "now" (func (result u64)))))
        (core func $now (canon lower (func $clock "now")))
        (core module $m
            (import "h" "now" (func $now (result i64)))
            (func $spin (param i64)
                (local.set 0 (i64.add (call $now) (local.get 0)))
                (loop (br_if 0 (i64.lt_u (call $now) (local.get 0)))))
            (func $begin (call $spin (i64.const 1200000000)))
            (func (export "work") (call $spin (i64.const 20000000)))
            (start $begin))
        (core instance $i (instantiate $m (with "h" (instance (export "now" (func $now))))))
        (func (export "work") (canon lift (core func $i "work"))))"#;
    let lines = "timeout_seconds = 1\nstart_timeout_seconds = 60\n[instance]\nmode = \"per-call\"";
    block_on(async {
        let alone = Alone::text(text, MIB, lines).await;
        let began = Instant::now();
        alone.call("work", &[]).await.unwrap();
        let took = began.elapsed();
        assert!(took > Duration::from_secs(1), "the start took {took:?}");
        alone.host.shutdown().await;
    });
}
