//! A supervisor: a pure plan ([`plan`]) and the ractor shell that carries it out ([`shell`]).

mod errand;
mod incarnation;
mod message;
mod partitions;
mod plan;
mod reference;
mod shell;
mod spawn;
mod spec;
mod window;

pub use incarnation::KILL_GRACE;
pub use message::{
    ArgumentOf, ChildCounts, ChildStatus, Report, StartedChild, SupervisorMessage, SupervisorStatus,
};
pub use partitions::Partitions;
pub use plan::{AutoShutdown, ChildState, Refusal, Strategy};
pub use reference::{SupervisorError, SupervisorRef};
pub use spec::{SpecError, SupervisorSpec};
pub use window::Intensity;
