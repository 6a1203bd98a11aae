//! The audit log: what it proves, what it survives, what it refuses.
//!
//! - `cargo test -p airssys-osl --test audit`: 500 random changes to a log among the rest.
//! - `AIRSSYS_AUDIT_CASES=100000 cargo test -p airssys-osl --test audit no_changes`: as many.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that meets something unexpected should fail there"
)]

#[path = "audit/crash.rs"]
mod crash;
#[path = "audit/fixture.rs"]
mod fixture;
#[path = "audit/following.rs"]
mod following;
#[path = "audit/format.rs"]
mod format;
#[path = "audit/pressure.rs"]
mod pressure;
#[path = "audit/tamper.rs"]
mod tamper;
