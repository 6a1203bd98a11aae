//! A supervisor: a pure plan ([`plan`]) and the ractor shell that carries it out ([`shell`]).

mod incarnation;
mod message;
mod plan;
mod reference;
mod shell;
mod spawn;
mod spec;
mod window;

pub use incarnation::{KILL_GRACE, START_LIMIT};
pub use message::{ChildCounts, ChildStatus, Report, SupervisorMessage};
pub use plan::{ChildState, Refusal, Strategy};
pub use reference::{SupervisorError, SupervisorRef};
pub use spec::SupervisorSpec;
pub use window::Intensity;
