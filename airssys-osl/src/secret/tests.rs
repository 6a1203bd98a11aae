//! What needs failing calls, one backing or the other, or a process to spoil.

#![cfg(target_os = "linux")]
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed set-up should fail the test, and memory is looked at from outside"
)]

mod children;
mod faults;
mod needle;

use super::fault::{Call, Fails, fail, heal};
use super::*;

/// Memory with room for whatever a test makes.
fn memory(policy: SecretPolicy) -> SecretMemory {
    SecretMemory::new(policy, SecretLimits::default())
}

/// Lets `test` run on each backing this kernel has.
fn on_each_backing(test: impl Fn(Backing)) {
    for backing in [Backing::SecretMemory, Backing::Anonymous] {
        heal();
        let has = without(backing);
        let found = ProtectedSecret::random(&memory(SecretPolicy::BestEffort), 1).unwrap();
        if has && found.protection_report().backing == backing {
            test(backing);
        }
        heal();
    }
}

/// Makes new pages be of this backing.
fn without(backing: Backing) -> bool {
    if backing == Backing::Anonymous {
        fail(Fails::Every(Call::SecretMemory));
    }
    true
}
