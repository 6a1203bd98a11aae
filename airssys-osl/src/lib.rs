//! What touches the operating system.
//!
//! [`grants`]: what components may reach, and what a host allows. [`ProtectedSecret`] and
//! [`NamedSecrets`]: secrets in protected memory. [`AuditLog`]: a log whose records prove one another.
//! [`KeyValueStore`]: what components keep. [`Sandbox`]: what the kernel takes from the process itself.
//! [`MemoryProbe`]: how much memory is left. Beside these, reads of files whose content is not
//! trusted, and directories that nobody else can read or write.

mod audit;
mod file;
pub mod grants;
mod key_value;
mod map_count;
mod private_directory;
mod probe;
mod sandbox;
mod secret;

pub use audit::{
    AUDIT_POLL, AuditConfig, AuditDecision, AuditEntry, AuditError, AuditEvent, AuditFailure,
    AuditFault, AuditFinding, AuditFollower, AuditFull, AuditHealth, AuditItem, AuditLog,
    AuditReader, AuditRecord, AuditState, AuditSummary, AuditTag, AuditText, AuditVerdict,
    AuditedCall, OnFull, Unsettled, verify_audit,
};
pub use file::{FileIdentity, ReadError, read_identified_file, read_regular_file};
pub use key_value::{
    KeyPage, KeyValueConfig, KeyValueError, KeyValueFault, KeyValueOpenError, KeyValueSpace,
    KeyValueStore, PendingWrite, Swapped,
};
pub use map_count::{MapCountError, max_map_count};
pub use private_directory::{PrivateDirectory, PrivateError, PrivateFile};
pub use probe::{MemoryBound, MemoryGauge, MemoryProbe, MemoryRoom, MemoryShort, ProbeError};
pub use sandbox::{
    Sandbox, SandboxConfig, SandboxError, SandboxKernel, SandboxLayer, SandboxMode, SandboxReport,
};
pub use secret::{
    AccessError, AccessGuard, Backing, CloseError, DEFAULT_MAX_SECRET_BYTES, DEFAULT_MAX_SECRETS,
    Forked, LoadError, MAX_SECRET_BYTES, MAX_SECRET_NAME_BYTES, MAX_SECRET_READERS, NamedSecrets,
    ProtectedSecret, Protection, ProtectionReport, SecretError, SecretKeyring, SecretLimits,
    SecretMemory, SecretName, SecretNameError, SecretPolicy, SecretReader, SecretSource,
    SecretState, SecretStream, UnknownSecret,
};
#[cfg(feature = "age")]
pub use secret::{AgeKey, MAX_AGE_WORK_FACTOR};
