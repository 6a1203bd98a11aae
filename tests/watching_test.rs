//! What a host tells about itself: figures, snapshots, and the event near a limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use airssys::{Change, ComponentMetrics, Host, Received, Val, WasmError};
use airssys_guests::{CRASHER, LEAKY, SPINNER};
use tokio::time::timeout;

use crate::support::{Alone, PAGE, Tree, block_on, component, machine_to_itself, shared_machine};

const MIB: usize = 1_048_576;

/// `grow` takes so many pages and answers what `memory.grow` answers; `trap` traps.
fn growing() -> String {
    let core = r#"
        (memory (export "memory") 1)
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "trap") unreachable)"#;
    let exports = [("grow", "(param \"pages\" u32) (result s32)"), ("trap", "")];
    component(core, false, &exports)
}

async fn settled(alone: &Alone, generation: u64) -> ComponentMetrics {
    for _ in 0..2_000 {
        let metrics = alone.component.metrics();
        if metrics.generation == generation {
            return metrics;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("generation {generation} does not come up");
}

#[test]
fn calls_failures_and_refusals_are_counted_by_their_cause() {
    let _load = shared_machine();
    block_on(async {
        let alone = Alone::text(&growing(), MIB, "").await;
        for _ in 0..3 {
            alone.call("grow", &[Val::U32(0)]).await.unwrap();
        }
        alone.exit("trap", &[]).await;
        assert!(alone.call("no-such", &[]).await.is_err());
        assert!(alone.call("grow", &[]).await.is_err());
        let metrics = settled(&alone, 2).await;
        let total = &metrics.total;
        assert_eq!((total.calls, total.answered), (4, 3));
        assert_eq!(total.failed, [(String::from("trap"), 1)].into());
        assert_eq!(metrics.exits, [(String::from("trap"), 1)].into());
        let refused = ["arguments", "function"].map(|name| (String::from(name), 1));
        assert_eq!(metrics.refused, refused.into());
        assert_eq!(
            (metrics.restarts, metrics.in_flight, metrics.queued),
            (1, 0, 0)
        );
        let last = metrics.last_exit.unwrap();
        assert_eq!((last.generation, last.kind.as_str()), (1, "trap"));
        alone.host.shutdown().await;
    });
}

#[test]
fn figures_of_a_generation_outlive_it() {
    let _load = shared_machine();
    block_on(async {
        let alone = Alone::text(&growing(), MIB, "").await;
        for generation in 1..=3 {
            for _ in 0..generation {
                alone.call("grow", &[Val::U32(1)]).await.unwrap();
            }
            assert_eq!(alone.number("grow", &[Val::U32(100)]).await, -1);
            alone.exit("trap", &[]).await;
            settled(&alone, generation + 1).await;
        }
        let metrics = alone.component.metrics();
        let previous = metrics.previous.unwrap();
        assert_eq!(metrics.current.calls, 0);
        assert!(metrics.current.service.is_none());
        // Three grown, one refused, one that trapped.
        assert_eq!((previous.calls, previous.answered), (5, 4));
        assert_eq!((previous.growths, previous.denied_growths), (4, 1));
        assert_eq!(previous.peak_bytes, 4 * PAGE);
        assert_eq!(metrics.total.calls, 3 + 4 + 5);
        assert_eq!(metrics.total.failures(), 3);
        assert_eq!(metrics.total.denied_growths, 3);
        // The instance that lives has grown once: it has its page.
        assert_eq!(metrics.total.growths, 2 + 3 + 4 + 1);
        assert_eq!(metrics.total.peak_bytes, 4 * PAGE);
        let (wait, service) = (metrics.total.wait.unwrap(), metrics.total.service.unwrap());
        assert!(wait.max_ns > 0 && service.p50_ns <= service.max_ns);
        assert!(metrics.total.busy_us > 0);
        alone.host.shutdown().await;
    });
}

#[test]
fn wait_and_service_are_told_apart_and_only_work_is_busy() {
    let _alone = machine_to_itself();
    block_on(async {
        let alone = Alone::text(&growing(), MIB, "").await;
        let nap = Duration::from_millis(60);
        let component = &alone.component;
        // The first takes its time waiting for the host; the second waits for the first.
        let first = component.run(move |_, _| {
            Box::pin(async move {
                tokio::time::sleep(nap).await;
                Ok(())
            })
        });
        let second = async {
            tokio::task::yield_now().await;
            component.call("grow", &[Val::U32(0)]).await
        };
        let (first, second) = tokio::join!(first, second);
        first.unwrap();
        second.unwrap();
        let current = component.metrics().current;
        let (wait, service) = (current.wait.unwrap(), current.service.unwrap());
        let nap_ns = u64::try_from(nap.as_nanos()).unwrap();
        let bracket = nap_ns..nap_ns * 5 / 2;
        assert!(bracket.contains(&service.max_ns), "{service:?}");
        assert!(service.p50_ns < nap_ns / 2, "{service:?}");
        let waited = nap_ns / 2..nap_ns * 5 / 2;
        assert!(waited.contains(&wait.max_ns), "{wait:?}");
        assert!(wait.p50_ns < nap_ns / 2, "{wait:?}");
        assert!(current.busy_us < 30_000, "{}", current.busy_us);
        alone.host.shutdown().await;
    });
}

#[test]
fn fuel_is_counted_where_it_is_metered() {
    let _load = shared_machine();
    block_on(async {
        let metered = Alone::text(&growing(), MIB, "max_fuel = 100000").await;
        metered.call("grow", &[Val::U32(0)]).await.unwrap();
        let once = metered.component.metrics().current.fuel;
        metered.call("grow", &[Val::U32(0)]).await.unwrap();
        assert!((1..100_000).contains(&once), "{once}");
        assert_eq!(metered.component.metrics().current.fuel, 2 * once);
        metered.host.shutdown().await;
        let alone = Alone::text(&growing(), MIB, "").await;
        alone.call("grow", &[Val::U32(0)]).await.unwrap();
        assert_eq!(alone.component.metrics().current.fuel, 0);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_snapshot_does_not_wait_for_a_guest_that_spins() {
    let _alone = machine_to_itself();
    block_on(async {
        let tree = Tree::new()
            .guest("spinner", SPINNER)
            .guest("crasher", CRASHER);
        let host = Arc::new(tree.start().await.unwrap());
        let spinner = host.component("spinner").unwrap();
        let spinning = tokio::spawn(async move { spinner.call("spin", &[]).await });
        let spins = |snapshot: &airssys::Snapshot| {
            let spinner = snapshot
                .components
                .iter()
                .find(|c| c.metrics.name == "spinner");
            spinner.map_or(0, |spinner| spinner.metrics.in_flight)
        };
        let busy = async {
            loop {
                let began = Instant::now();
                let snapshot = host.snapshot().await;
                let took = began.elapsed();
                if spins(&snapshot) == 1 {
                    return (snapshot, took);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (snapshot, took) = timeout(Duration::from_secs(10), busy).await.unwrap();
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(!spinning.is_finished());
        assert_eq!(snapshot.schema, airssys::SNAPSHOT_SCHEMA);
        assert_eq!((snapshot.host.instances, snapshot.host.compiled), (2, 2));
        let names: Vec<_> = snapshot
            .supervisors
            .iter()
            .map(|s| s.name.as_str())
            .collect();
        assert_eq!(names, ["airssys", "tools"]);
        let tools = &snapshot.supervisors[1];
        assert_eq!(tools.parent.as_deref(), Some("airssys"));
        let status = tools.status.as_ref().unwrap();
        assert_eq!(
            (status.strategy.as_str(), status.children),
            ("one_for_one", 2)
        );
        for component in &snapshot.components {
            assert_eq!(component.supervisor.as_deref(), Some("tools"));
            assert_eq!(component.state, "running");
        }
        spinning.abort();
        host.shutdown().await;
    });
}

#[test]
fn a_snapshot_shows_restarts_in_the_window_of_their_supervisor() {
    let _load = shared_machine();
    block_on(async {
        let alone = Alone::text(&growing(), MIB, "").await;
        let restarts = async || {
            let snapshot = alone.host.snapshot().await;
            let tools = snapshot.supervisors.into_iter().find(|s| s.name == "tools");
            tools.unwrap().status.unwrap().restarts
        };
        assert_eq!(restarts().await, 0);
        alone.exit("trap", &[]).await;
        settled(&alone, 2).await;
        assert_eq!(restarts().await, 1);
        alone.host.shutdown().await;
    });
}

/// The next event near a limit: generation, bytes held, limit, share.
async fn near_limit(events: &mut airssys::EventStream) -> (u64, usize, usize, u8) {
    loop {
        if let Some(Received::Event(event)) = events.next().await
            && let Change::NearLimit {
                current_bytes,
                limit_bytes,
                warn_percent,
            } = event.change
        {
            assert_eq!(event.supervisor.as_str(), "tools");
            assert_eq!(event.child.as_str(), "alone");
            return (event.generation, current_bytes, limit_bytes, warn_percent);
        }
    }
}

#[test]
fn an_instance_near_its_limit_is_told_of_once_in_a_generation() {
    let _load = shared_machine();
    block_on(async {
        let alone = Alone::text(&growing(), MIB, "").await;
        let mut events = alone.host.events();
        let grow = async |pages| alone.number("grow", &[Val::U32(pages)]).await;
        let quiet = Duration::from_millis(100);
        // 90 % of 16 pages are 14.4.
        assert_eq!(grow(13).await, 1);
        assert!(timeout(quiet, near_limit(&mut events)).await.is_err());
        assert_eq!(grow(1).await, 14);
        let told = timeout(Duration::from_secs(5), near_limit(&mut events)).await;
        assert_eq!(told.unwrap(), (1, 15 * PAGE, MIB, 90));
        assert_eq!(grow(1).await, 15);
        assert!(timeout(quiet, near_limit(&mut events)).await.is_err());
        alone.exit("trap", &[]).await;
        settled(&alone, 2).await;
        assert_eq!(grow(15).await, 1);
        let told = timeout(Duration::from_secs(5), near_limit(&mut events)).await;
        assert_eq!(told.unwrap(), (2, MIB, MIB, 90));
        alone.host.shutdown().await;
    });
}

#[test]
fn the_share_to_be_told_of_is_the_components_own() {
    let _load = shared_machine();
    block_on(async {
        let tree = Tree::new().text("alone", &growing(), MIB, "");
        let file = tree.path().join("alone/Component.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("max_bytes", "warn_percent = 25\nmax_bytes");
        std::fs::write(&file, text).unwrap();
        let host = tree.start().await.unwrap();
        let mut events = host.events();
        let component = host.component("alone").unwrap();
        component.call("grow", &[Val::U32(3)]).await.unwrap();
        let told = timeout(Duration::from_secs(5), near_limit(&mut events)).await;
        assert_eq!(told.unwrap(), (1, 4 * PAGE, MIB, 25));
        host.shutdown().await;
    });
}

#[test]
fn a_killed_call_and_a_refused_one_are_told_apart() {
    let _load = shared_machine();
    block_on(async {
        let alone = Alone::guest(SPINNER, MIB, "").await;
        let late = Duration::from_millis(80);
        let spun = alone.component.call_within("spin", &[], late).await;
        assert!(
            matches!(
                spun,
                Err(WasmError::Expired { .. } | WasmError::Exited { .. })
            ),
            "{spun:?}"
        );
        let metrics = settled(&alone, 2).await;
        assert_eq!(
            metrics.total.failed,
            [(String::from("cancelled"), 1)].into()
        );
        // It was polled all the time.
        assert!(metrics.total.busy_us > 40_000, "{}", metrics.total.busy_us);
        alone.host.shutdown().await;
    });
}

/// Ten thousand with `AIRSSYS_FULL=1`.
#[test]
fn a_snapshot_grows_no_faster_than_its_components() {
    let _alone = machine_to_itself();
    block_on(async {
        let full = std::env::var_os("AIRSSYS_FULL").is_some();
        let (few, many) = if full { (1_000, 10_000) } else { (60, 600) };
        let mut cost = Vec::new();
        for components in [few, many] {
            let host = crowd(components).await;
            let mut best = Duration::MAX;
            for _ in 0..15 {
                let began = Instant::now();
                let snapshot = host.snapshot().await;
                best = best.min(began.elapsed());
                assert_eq!(snapshot.components.len(), components);
                assert_eq!(snapshot.host.instances, 0);
            }
            cost.push(best);
            host.shutdown().await;
        }
        let ratio = cost[1].as_secs_f64() / cost[0].as_secs_f64();
        println!("{few}: {:?}, {many}: {:?}, {ratio:.1} x", cost[0], cost[1]);
        assert!(
            ratio < 40.0,
            "ten times as many cost {ratio:.1} times as much"
        );
    });
}

/// Components of the mode `per-call`, called once each: they hold no place in the pool.
async fn crowd(components: usize) -> Host {
    use airssys::{ChildSpec, ComponentConfig, ComponentSpec, SupervisorSpec};
    let tree = Tree::new().text("one", &growing(), MIB, "");
    let file = tree.path().join("one/Component.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("\n[instance]\nmode = \"per-call\"\n");
    std::fs::write(&file, text).unwrap();
    let config = ComponentConfig::load(&file).unwrap();
    let empty = SupervisorSpec::new("crowd");
    let spec = (0..components).fold(empty, |spec, n| {
        let name = format!("c{n}").parse().unwrap();
        spec.child(ChildSpec::component_named(name, config.clone()))
    });
    let host = Host::builder().supervisor(spec).start().await.unwrap();
    for component in host.components() {
        component.call("grow", &[Val::U32(0)]).await.unwrap();
    }
    host
}

#[test]
fn an_out_of_memory_is_counted_with_what_was_refused() {
    let _load = shared_machine();
    block_on(async {
        let alone = Alone::guest(LEAKY, MIB, "").await;
        alone.exit("leak-until-refused", &[]).await;
        let metrics = settled(&alone, 2).await;
        assert_eq!(metrics.exits, [(String::from("oom"), 1)].into());
        let previous = metrics.previous.unwrap();
        assert!(previous.denied_growths >= 1 && previous.peak_bytes <= MIB);
        assert!(previous.peak_bytes > MIB / 2);
        alone.host.shutdown().await;
    });
}
