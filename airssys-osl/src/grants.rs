//! What a component may reach: nothing that it was not granted, and nothing that the host's policy
//! does not allow (ADR-OSL-007).
//!
//! Grants come from the `[capabilities]` of a Component.toml, a [`Policy`] from the `[policy]` of an
//! airssys.toml. Both are values that are read once; nothing here can be changed by whoever is
//! checked. A check that is answered with yes allocates nothing.

mod address;
mod denial;
mod directory;
mod environment;
mod host_pattern;
mod name_pattern;
mod network;
mod policy;
mod quota;

pub use address::{canonical, is_public};
pub use denial::{Capability, Denial, DenialReason, Missing};
pub use directory::{
    DirectoryAccess, DirectoryError, DirectoryGrant, GuestPathError, MAX_DIRECTORIES, OpenDirectory,
};
pub use environment::{EnvironmentGrants, EnvironmentName, EnvironmentNameError, Variable};
pub use host_pattern::{HostName, HostNameError, HostPattern, HostPatternError, MAX_HOST_BYTES};
pub use name_pattern::{MAX_PATTERN_BYTES, NamePattern, NamePatternError, NameRules};
pub use network::{
    DEFAULT_MAX_CONNECTIONS, MAX_RESOLVED, MAX_RULES, NetworkGrants, NetworkRules, Resolved,
};
pub use policy::{Excess, Policy};
pub use quota::{ENTRY_BYTES, Quota, QuotaError, QuotaExceeded};
