//! A supervisor: a pure plan ([`plan`]) and the ractor shell that carries it out ([`shell`]).

mod message;
mod plan;
mod shell;
mod spec;
mod stop;
mod window;

pub use message::{ChildCounts, ChildStatus, SupervisorMessage};
pub use plan::{ChildState, Refusal, Strategy};
pub use shell::{Report, START_LIMIT};
pub use spec::{SupervisorError, SupervisorRef, SupervisorSpec};
pub use stop::KILL_GRACE;
pub use window::Intensity;
