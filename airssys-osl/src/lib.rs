//! What touches the operating system.
//!
//! Today: reading files whose content is not trusted, directories that nobody else can read or
//! write, the audit log, and the kernel limit that a pool of instances must fit. Grants and secrets
//! will live here too.

mod audit;
mod file;
mod map_count;
mod private_directory;

pub use audit::{
    AUDIT_POLL, AuditConfig, AuditDecision, AuditEntry, AuditError, AuditEvent, AuditFailure,
    AuditFault, AuditFinding, AuditFollower, AuditFull, AuditHealth, AuditItem, AuditLog,
    AuditReader, AuditRecord, AuditState, AuditSummary, AuditTag, AuditText, AuditVerdict,
    AuditedCall, OnFull, Unsettled, verify_audit,
};
pub use file::{ReadError, read_regular_file};
pub use map_count::{MapCountError, max_map_count};
pub use private_directory::{PrivateDirectory, PrivateError, PrivateFile};
