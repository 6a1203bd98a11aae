//! Many children, and what is not kept of temporary ones: cases 74, 75, 78 to 80, 91 and 92.
//!
//! Times are compared within one run, the best of three against the best of three.

use std::sync::Arc;
use std::time::Duration;

use airssys_rt::{
    ChildCounts, ChildKind, ChildSpec, Restart, Shutdown, Strategy, SupervisorRef, SupervisorSpec,
    Tree,
};

use super::kit::{EXITS, House, Kid, STRATEGIES, cell, dynamic, settle, sup};

async fn many(kind: ChildKind) -> [[usize; 4]; 3] {
    let kid = Kid::new("t");
    let template = kid.spec().restart(Restart::Temporary).kind(kind);
    let house = House::open(SupervisorSpec::dynamic("sup", template)).await;
    let mut started = house.start_dynamic(1000).await;
    let first = house.counts().await;
    started.extend(house.start_dynamic(1000).await);
    let second = house.counts().await;
    for child in &started {
        cell(child).kill();
    }
    settle().await;
    [first, second, house.counts().await]
}

#[tokio::test(start_paused = true)]
async fn case_74_count_children() {
    assert_eq!(
        many(ChildKind::Worker).await,
        [[1, 1000, 0, 1000], [1, 2000, 0, 2000], [1, 0, 0, 0]]
    );
}

#[tokio::test(start_paused = true)]
async fn case_75_count_children_supervisor() {
    assert_eq!(
        many(ChildKind::Supervisor).await,
        [[1, 1000, 1000, 0], [1, 2000, 2000, 0], [1, 0, 0, 0]]
    );
}

/// References to `argument` that the supervisor holds while children of this type run.
async fn held(strategy: Strategy, restart: Restart) -> usize {
    let argument = Arc::new(());
    let kid = Kid::new("a");
    let house;
    if strategy == Strategy::SimpleOneForOne {
        house = House::open(dynamic(&kid, restart, 1)).await;
        for _ in 0..3 {
            house
                .sup
                .start_dynamic(Arc::clone(&argument))
                .await
                .unwrap();
        }
    } else {
        house = House::open(sup(strategy, 1, &[])).await;
        for name in ["a", "b", "c"] {
            let spec: ChildSpec = Kid::new(name).spec();
            let spec = spec.restart(restart).argument(Arc::clone(&argument));
            house.sup.start_child(spec).await.unwrap();
        }
    }
    settle().await;
    assert_eq!(house.counts().await[1], 3);
    Arc::strong_count(&argument) - 1
}

#[tokio::test(start_paused = true)]
async fn case_78_do_not_save_start_parameters_for_temporary_children() {
    for strategy in STRATEGIES.into_iter().chain([Strategy::SimpleOneForOne]) {
        assert_eq!(held(strategy, Restart::Permanent).await, 3, "{strategy:?}");
        assert_eq!(held(strategy, Restart::Transient).await, 3, "{strategy:?}");
        assert_eq!(held(strategy, Restart::Temporary).await, 0, "{strategy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn case_79_do_not_save_child_specs_for_temporary_children() {
    for strategy in STRATEGIES {
        let house = House::open(sup(strategy, 1, &[])).await;
        for exit in EXITS {
            let kid = Kid::new("a");
            let spec = kid.spec().restart(Restart::Temporary);
            house.sup.start_child(spec).await.unwrap();
            kid.end(exit).await;
            assert!(house.sup.get_childspec("a").await.unwrap().is_none());
            assert_eq!(house.counts().await, [0, 0, 0, 0], "{strategy:?} {exit:?}");
        }
        let spec = Kid::new("a").spec().restart(Restart::Temporary);
        house.sup.start_child(spec).await.unwrap();
        house.sup.terminate_child("a").await.unwrap();
        assert!(house.sup.get_childspec("a").await.unwrap().is_none());
    }
}

/// What this thread has computed so far, so that a busy machine does not count; everything runs on
/// this one.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

async fn best_of_three<F: Future<Output = Duration>>(measure: impl Fn() -> F) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        best = best.min(measure().await);
    }
    best
}

fn ratio(small: Duration, large: Duration) -> f64 {
    large.as_secs_f64() / small.as_secs_f64()
}

async fn open_dynamic(count: usize) -> (SupervisorRef, Vec<ractor::ActorCell>) {
    let template = Kid::new("t").spec().restart(Restart::Temporary);
    let spec = SupervisorSpec::dynamic("sup", template);
    let (sup, _) = spec.start(Tree::new(())).await.unwrap();
    let mut cells = Vec::new();
    for n in 0..count {
        cells.push(cell(&sup.start_dynamic(n).await.unwrap()));
    }
    (sup, cells)
}

/// One request after the other.
async fn terminate_each(count: usize) -> Duration {
    let (sup, _) = open_dynamic(count).await;
    let ids = sup.which_children().await.unwrap();
    let began = cpu_time();
    for n in 0..count {
        let child = &ids[n * 7919 % count];
        sup.terminate_child(child.id.clone()).await.unwrap();
    }
    let took = cpu_time() - began;
    assert_eq!(sup.count_children().await.unwrap().active, 0);
    sup.stop(Duration::MAX).await.unwrap();
    took
}

#[tokio::test(start_paused = true)]
async fn case_80_simple_one_for_one_scale_many_temporary_children() {
    let small = best_of_three(|| terminate_each(100)).await;
    let large = best_of_three(|| terminate_each(1000)).await;
    let ratio = ratio(small, large);
    assert!(
        ratio <= 50.0,
        "10 times as many took {ratio:.1} times as long"
    );
}

async fn start_and_stop(count: usize) -> Duration {
    let kid = Kid::new("a");
    let (sup, _) = SupervisorSpec::new("sup")
        .start(Tree::new(()))
        .await
        .unwrap();
    let began = cpu_time();
    for n in 0..count {
        let spec = ChildSpec::new(format!("c{n}"), kid.clone()).shutdown(Shutdown::Brutal);
        sup.start_child(spec).await.unwrap();
    }
    let counts = sup.count_children().await.unwrap();
    assert_eq!(counts.active, count);
    sup.stop(Duration::MAX).await.unwrap();
    cpu_time() - began
}

/// 1,000 against 10,000; with OTP_SCALE set, against the 100,000 of OTP's.
#[tokio::test(start_paused = true)]
async fn case_91_scale_start_stop_many_children() {
    let full = std::env::var_os("OTP_SCALE").is_some();
    let times = if full { 100 } else { 10 };
    let small = best_of_three(|| start_and_stop(1000)).await;
    let large = start_and_stop(1000 * times).await;
    let ratio = ratio(small, large) / times as f64;
    assert!(ratio <= 3.0, "each of many took {ratio:.1} times as long");
}

async fn mass_exit(count: usize) -> Duration {
    let (sup, cells) = open_dynamic(count).await;
    let began = cpu_time();
    // In no order that a search from either end would like.
    for n in 0..count {
        cells[n * 7919 % count].kill();
    }
    // Idle is when the last exit has been dealt with.
    settle().await;
    let took = cpu_time() - began;
    let counts = sup.count_children().await.unwrap();
    let none = ChildCounts {
        specs: 1,
        ..ChildCounts::default()
    };
    assert_eq!(counts, none);
    sup.stop(Duration::MAX).await.unwrap();
    took
}

#[tokio::test(start_paused = true)]
async fn case_92_scale_mass_exit_children() {
    let small = best_of_three(|| mass_exit(2000)).await;
    let large = best_of_three(|| mass_exit(10_000)).await;
    let ratio = ratio(small, large);
    assert!(
        ratio <= 12.0,
        "5 times as many took {ratio:.1} times as long"
    );
}
