//! Secrets as their users see them.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed set-up should fail the test"
)]

#[path = "secret/life.rs"]
mod life;
#[path = "secret/sources.rs"]
mod sources;

use airssys_osl::{SecretLimits, SecretMemory, SecretPolicy};

fn memory() -> SecretMemory {
    SecretMemory::new(SecretPolicy::BestEffort, SecretLimits::default())
}
