//! A scenario: a supervisor tree, and what is done to it. Its text is what the oracle reads.
//!
//! ```text
//! scenario SEED
//! start NODE                      NODE = worker ID RESTART SHUTDOWN SIGNIFICANT MANNER
//! fail PATH TIMES                      | supervisor ID RESTART SHUTDOWN SIGNIFICANT STRATEGY
//! exit SUP (ID REASON)..                 INTENSITY AUTO_SHUTDOWN COUNT NODE..
//! gate SUP ID (fail|go) COUNT, then COUNT commands, one a line
//! add SUP NODE | terminate SUP ID | restart SUP ID | delete SUP ID | which SUP | count SUP
//! spawn SUP KEY | drop SUP KEY | upgrade SUP NODE | ignore PATH TIMES
//! stop
//! end
//! ```
//!
//! A trace repeats each operation (`> ..`) and adds what happened, in order (`^` a supervisor
//! begins, `+` a worker runs, `!` a start fails, `~` a start is ignored, `-` a worker ended), the
//! replies (`= ..`) and, at rest, each supervisor with its counts and children (`@ ..`).

use std::fmt;
use std::ops::Range;

/// One child, or the root, where only the [`Group`] matters.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) restart: &'static str,
    pub(crate) shutdown: Stop,
    pub(crate) significant: bool,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    Brutal,
    Millis(u64),
    Infinity,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A stubborn worker does not stop when asked.
    Worker {
        stubborn: bool,
    },
    Supervisor(Group),
}

#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) strategy: &'static str,
    pub(crate) intensity: u32,
    pub(crate) auto_shutdown: &'static str,
    pub(crate) children: Vec<Node>,
}

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Add(String, Node),
    Terminate(String, String),
    Restart(String, String),
    Delete(String, String),
    Which(String),
    Count(String),
    Spawn(String, String),
    Drop(String, String),
    Upgrade(String, Node),
}

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Start(Node),
    /// The next starts of a worker fail.
    Fail(String, u32),
    /// The next starts of a worker are ignored.
    Ignore(String, u32),
    /// Siblings end at the same time, in this order.
    Exit(String, Vec<(String, &'static str)>),
    /// A worker crashes, and the commands come while its next start, of this outcome, is under way.
    Gate(String, String, &'static str, Vec<Command>),
    Command(Command),
    Stop,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) operations: Vec<Operation>,
}

impl Scenario {
    /// Operations and children that [`Scenario::without`] can leave out.
    pub(crate) fn parts(&self) -> usize {
        let starts = self.operations.iter().map(|operation| match operation {
            Operation::Start(root) => root.descendants(),
            _ => 1,
        });
        starts.sum()
    }

    /// The scenario without these parts: the operations but the start, then the children of the
    /// start, depth first.
    pub(crate) fn without(&self, parts: Range<usize>) -> Self {
        let mut left = self.clone();
        let mut at = 0;
        let mut cut = || {
            at += 1;
            parts.contains(&(at - 1))
        };
        left.operations
            .retain(|operation| matches!(operation, Operation::Start(_)) || !cut());
        for operation in &mut left.operations {
            if let Operation::Start(root) = operation {
                root.retain(&mut || !cut());
            }
        }
        left
    }
}

impl Node {
    fn descendants(&self) -> usize {
        match &self.kind {
            Kind::Worker { .. } => 0,
            Kind::Supervisor(group) => {
                let below: usize = group.children.iter().map(Self::descendants).sum();
                group.children.len() + below
            }
        }
    }

    fn retain(&mut self, keep: &mut impl FnMut() -> bool) {
        if let Kind::Supervisor(group) = &mut self.kind {
            group.children.retain_mut(|child| {
                let kept = keep();
                child.retain(keep);
                kept
            });
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Brutal => f.write_str("brutal_kill"),
            Self::Millis(time) => write!(f, "{time}"),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            restart,
            shutdown,
            significant,
            kind,
        } = self;
        match kind {
            Kind::Worker { stubborn } => {
                let manner = if *stubborn { "stubborn" } else { "plain" };
                write!(f, "worker {id} {restart} {shutdown} {significant} {manner}")
            }
            Kind::Supervisor(group) => {
                let Group {
                    strategy,
                    intensity,
                    auto_shutdown,
                    children,
                } = group;
                write!(
                    f,
                    "supervisor {id} {restart} {shutdown} {significant} {strategy} {intensity} {auto_shutdown} {}",
                    children.len()
                )?;
                children.iter().try_for_each(|child| write!(f, " {child}"))
            }
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(sup, node) => write!(f, "add {sup} {node}"),
            Self::Terminate(sup, id) => write!(f, "terminate {sup} {id}"),
            Self::Restart(sup, id) => write!(f, "restart {sup} {id}"),
            Self::Delete(sup, id) => write!(f, "delete {sup} {id}"),
            Self::Which(sup) => write!(f, "which {sup}"),
            Self::Count(sup) => write!(f, "count {sup}"),
            Self::Spawn(sup, key) => write!(f, "spawn {sup} {key}"),
            Self::Drop(sup, key) => write!(f, "drop {sup} {key}"),
            Self::Upgrade(sup, node) => write!(f, "upgrade {sup} {node}"),
        }
    }
}

impl fmt::Display for Operation {
    /// The first line; the commands behind a gate follow it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(node) => write!(f, "start {node}"),
            Self::Fail(path, times) => write!(f, "fail {path} {times}"),
            Self::Ignore(path, times) => write!(f, "ignore {path} {times}"),
            Self::Exit(sup, exits) => {
                write!(f, "exit {sup}")?;
                exits
                    .iter()
                    .try_for_each(|(id, reason)| write!(f, " {id} {reason}"))
            }
            Self::Gate(sup, id, outcome, commands) => {
                write!(f, "gate {sup} {id} {outcome} {}", commands.len())
            }
            Self::Command(command) => write!(f, "{command}"),
            Self::Stop => f.write_str("stop"),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "scenario {}", self.seed)?;
        for operation in &self.operations {
            writeln!(f, "{operation}")?;
            if let Operation::Gate(_, _, _, commands) = operation {
                for command in commands {
                    writeln!(f, "{command}")?;
                }
            }
        }
        writeln!(f, "end")
    }
}
