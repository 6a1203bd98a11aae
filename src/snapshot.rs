//! A host at one moment, as plain data.

use std::collections::HashMap;
use std::time::Duration;

use airssys_rt::{ChildKind, ChildState, Strategy, SupervisorStatus};
use airssys_wasm::{ComponentMetrics, ComponentRef, Runtime};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::SupervisorRef;

/// How long a snapshot waits for a supervisor that is busy stopping or starting its children.
pub const SNAPSHOT_PATIENCE: Duration = Duration::from_millis(100);

/// Version of the shape of [`Snapshot`]. It changes when a field goes or means something else, not
/// when one is added.
pub const SNAPSHOT_SCHEMA: u32 = 1;

/// Components read between two yields to the runtime.
const STRIDE: usize = 64;

/// A host at one moment. Its parts are read one after the other while the host works on, so two of
/// them may be a call, or a restart, apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SNAPSHOT_SCHEMA`].
    pub schema: u32,
    /// The host as a whole.
    pub host: HostStatus,
    /// Every supervisor of the configuration, and of replicas, by name.
    pub supervisors: Vec<SupervisorNode>,
    /// Every component that has been started, by name; of one with replicas each of them, as
    /// `name-0` and so on.
    pub components: Vec<ComponentNodeStatus>,
}

/// A host as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Time since its start, in milliseconds.
    pub uptime_ms: u64,
    /// Tasks that run for the tree.
    pub tasks_active: u64,
    /// Tasks ever spawned for it.
    pub tasks_total: u64,
    /// Panics that were caught: of tasks, and of host functions, which ended an instance each, as
    /// far as their components are still there.
    pub panics: u64,
    /// Instances that live.
    pub instances: usize,
    /// Instances the pool holds at most.
    pub max_instances: u32,
    /// Compiled components in use.
    pub compiled: usize,
}

/// A supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorNode {
    /// Its name.
    pub name: String,
    /// The supervisor above it; `None` for the root, and where that one did not answer.
    pub parent: Option<String>,
    /// What it is held to and has done; `None` where it has ended, or did not answer within
    /// [`SNAPSHOT_PATIENCE`].
    pub status: Option<Supervision>,
}

/// What a supervisor is held to and has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervision {
    /// `one_for_one`, `one_for_all`, `rest_for_one` or `simple_one_for_one`.
    pub strategy: String,
    /// Restarts allowed within `period_ms`.
    pub intensity: u32,
    /// Width of the sliding window, in milliseconds.
    pub period_ms: u64,
    /// Restarts inside the window.
    pub restarts: usize,
    /// Restarts inside the window after faults of the host, which count apart.
    pub host_restarts: usize,
    /// Children known, running or not.
    pub children: usize,
}

/// A component in its tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentNodeStatus {
    /// The supervisor it is a child of; `None` where that one did not answer, or is not of the
    /// configuration.
    pub supervisor: Option<String>,
    /// `stopped`, `starting`, `running`, `restarting`, `stopping` or `quarantined`; `unknown`
    /// where its supervisor did not say.
    pub state: String,
    /// What it has done and taken.
    pub metrics: ComponentMetrics,
}

/// What the supervisors said.
#[derive(Default)]
struct Told {
    nodes: Vec<SupervisorNode>,
    /// Each worker's supervisor and state.
    workers: HashMap<String, (String, &'static str)>,
}

/// Asks all supervisors at the same time, so that several that are busy cost one wait.
async fn ask(supervisors: &HashMap<String, SupervisorRef>) -> Told {
    let asked = supervisors.iter().map(|(name, supervisor)| async move {
        let answer = timeout(SNAPSHOT_PATIENCE, supervisor.describe()).await;
        (name.clone(), answer.ok().and_then(Result::ok))
    });
    let mut told = Told::default();
    let mut parents = HashMap::new();
    for (name, status) in futures_util::future::join_all(asked).await {
        for child in status.iter().flat_map(|status| &status.children) {
            let id = child.id.to_string();
            match child.kind {
                ChildKind::Supervisor => _ = parents.insert(id, name.clone()),
                ChildKind::Worker => {
                    let state = (name.clone(), state_name(child.state));
                    told.workers.insert(id, state);
                }
            }
        }
        told.nodes.push(SupervisorNode {
            name,
            parent: None,
            status: status.as_ref().map(supervision),
        });
    }
    for node in &mut told.nodes {
        node.parent = parents.remove(&node.name);
    }
    told.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    told
}

fn supervision(status: &SupervisorStatus) -> Supervision {
    let strategy = match status.strategy {
        Strategy::OneForOne => "one_for_one",
        Strategy::OneForAll => "one_for_all",
        Strategy::RestForOne => "rest_for_one",
        Strategy::SimpleOneForOne => "simple_one_for_one",
    };
    Supervision {
        strategy: strategy.to_owned(),
        intensity: status.intensity.restarts,
        period_ms: millis(status.intensity.period),
        restarts: status.restarts,
        host_restarts: status.host_restarts,
        children: status.children.len(),
    }
}

fn state_name(state: ChildState) -> &'static str {
    match state {
        ChildState::Stopped => "stopped",
        ChildState::Starting => "starting",
        ChildState::Running => "running",
        ChildState::Restarting => "restarting",
        ChildState::Stopping => "stopping",
        ChildState::Quarantined => "quarantined",
    }
}

/// Reads everything. Yields to the runtime as it goes.
pub(crate) async fn take(
    runtime: &Runtime,
    supervisors: &HashMap<String, SupervisorRef>,
    tasks: &airssys_rt::TaskRegistry,
    uptime: Duration,
) -> Snapshot {
    let components = runtime.components();
    let sets = components.iter().filter_map(|component| {
        let name = component.name().to_string();
        Some((name, component.supervisor()?))
    });
    let supervisors = supervisors
        .iter()
        .map(|(name, supervisor)| (name.clone(), supervisor.clone()))
        .chain(sets)
        .collect();
    let mut told = ask(&supervisors).await;
    let replicas = components.iter().flat_map(ComponentRef::replicas);
    let known: Vec<ComponentRef> = replicas.collect();
    let mut components = Vec::with_capacity(known.len());
    for stride in known.chunks(STRIDE) {
        components.extend(stride.iter().map(|component| status(component, &mut told)));
        tokio::task::yield_now().await;
    }
    let counts = tasks.counts();
    let host_panic = airssys_rt::ExitKind::HostPanic.as_str();
    let exits = components.iter().map(|c| &c.metrics.exits);
    let host_panics: u64 = exits.filter_map(|exits| exits.get(host_panic)).sum();
    let living = components.iter().filter(|c| c.metrics.memory.is_some());
    Snapshot {
        schema: SNAPSHOT_SCHEMA,
        host: HostStatus {
            uptime_ms: millis(uptime),
            tasks_active: counts.active,
            tasks_total: counts.total,
            panics: counts.panicked + host_panics,
            instances: living.count(),
            max_instances: runtime.max_components(),
            compiled: runtime.compiled(),
        },
        supervisors: told.nodes,
        components,
    }
}

fn status(component: &ComponentRef, told: &mut Told) -> ComponentNodeStatus {
    let (supervisor, state) = match told.workers.remove(component.name().as_str()) {
        Some((supervisor, state)) => (Some(supervisor), state),
        None => (None, "unknown"),
    };
    ComponentNodeStatus {
        supervisor,
        state: state.to_owned(),
        metrics: component.metrics(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
