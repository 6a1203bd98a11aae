use std::collections::BTreeSet;

use super::super::fault::calls;
use super::needle::{mappings, peek};
use super::*;

/// Three secrets on a shared page and one with pages of its own; all the ways they end. What of it
/// `once` fails is made up for.
fn live(policy: SecretPolicy, once: bool) {
    let memory = memory(policy);
    {
        let secrets: Vec<_> = [16, 16, 16, 5000]
            .into_iter()
            .map(|len| ProtectedSecret::from_vec(&memory, vec![0x5a; len]))
            .collect();
        for secret in secrets.iter().flatten() {
            if let Ok(value) = secret.access() {
                assert!(value.iter().all(|byte| *byte == 0x5a));
            }
        }
        for secret in [&secrets[0], &secrets[3]].into_iter().flatten() {
            let closed = secret.close_timeout(Duration::ZERO);
            let state = secret.state();
            if once {
                assert!(closed.is_ok(), "{closed:?}");
                assert_eq!(state, SecretState::Freed);
            } else {
                let ended = matches!(state, SecretState::Closed | SecretState::Freed);
                assert!(ended, "{state:?}");
            }
            assert!(matches!(secret.access(), Err(AccessError::Closed)));
        }
    }
    assert_eq!(memory.secrets(), 0);
}

fn address(secret: &ProtectedSecret) -> usize {
    let slot = &secret.slot;
    let value = slot.block.value(slot.place, slot.len);
    slot.block.address() + value.start
}

/// The process's mappings without access, and those of secret memory.
fn guarded() -> BTreeSet<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let secret = maps.lines().map(|line| line.contains("secretmem"));
    mappings()
        .into_iter()
        .zip(secret)
        .filter(|((_, _, flags), secret)| *secret || flags == "---p")
        .map(|((start, end, _), _)| (start, end))
        .collect()
}

#[test]
fn whichever_call_fails_nothing_stays_mapped_and_every_secret_ends() {
    super::children::succeeds("whichever_call_fails");
}

/// Alone in its process, so that the mappings are its own.
pub(super) fn whichever_call_fails() {
    on_each_backing(|backing| {
        for policy in [SecretPolicy::Strict, SecretPolicy::BestEffort] {
            heal();
            without(backing);
            let before = guarded();
            live(policy, true);
            let all = calls();
            assert!(all >= 15, "{all} calls");
            assert_eq!(guarded(), before);
            for nth in 0..all {
                heal();
                without(backing);
                fail(Fails::Nth(nth));
                live(policy, true);
                assert_eq!(guarded(), before, "{backing:?} {policy:?} call {nth}");
            }
            for call in [
                Call::Map,
                Call::Lock,
                Call::Advise,
                Call::Unlock,
                Call::Protect,
            ] {
                heal();
                without(backing);
                fail(Fails::Every(call));
                live(policy, false);
                assert_eq!(guarded(), before, "{backing:?} {policy:?} {call:?}");
            }
        }
    });
}

#[test]
fn pages_the_kernel_keeps_are_wiped_first() {
    super::children::succeeds("kept_pages");
}

pub(super) fn kept_pages() {
    without(Backing::Anonymous);
    for len in [16, 5000] {
        let secret =
            ProtectedSecret::from_vec(&memory(SecretPolicy::Strict), vec![0x5a; len]).unwrap();
        let address = address(&secret);
        assert_eq!(peek(address, len).unwrap(), vec![0x5a; len]);
        fail(Fails::Every(Call::Unmap));
        fail(Fails::Every(Call::Map));
        secret.close().unwrap();
        assert_eq!(secret.state(), SecretState::Closed);
        assert_eq!(peek(address, len).unwrap(), vec![0; len]);
        assert!(matches!(secret.access(), Err(AccessError::Closed)));
        heal();
        without(Backing::Anonymous);
        drop(secret);
        assert!(peek(address, len).is_err(), "still mapped");
    }
}

#[test]
fn pages_that_cannot_be_written_nor_unmapped_are_replaced() {
    super::children::succeeds("replaced_pages");
}

pub(super) fn replaced_pages() {
    for len in [16, 5000] {
        without(Backing::Anonymous);
        let secret =
            ProtectedSecret::from_vec(&memory(SecretPolicy::Strict), vec![0x5a; len]).unwrap();
        let address = address(&secret);
        fail(Fails::Every(Call::Unmap));
        fail(Fails::Every(Call::Protect));
        secret.close().unwrap();
        assert_eq!(secret.state(), SecretState::Closed);
        assert_eq!(peek(address, len).unwrap(), vec![0; len]);
        heal();
        drop(secret);
        assert!(peek(address, len).is_err(), "still mapped");
    }
}

#[test]
fn a_forgotten_guard_keeps_no_page_readable_once_its_secret_is_dropped() {
    on_each_backing(|_| {
        let memory = memory(SecretPolicy::Strict);
        let secret = ProtectedSecret::random(&memory, 32).unwrap();
        let beside = ProtectedSecret::random(&memory, 32).unwrap();
        let flags = || {
            let at = address(&beside);
            let mut mappings = mappings().into_iter();
            mappings
                .find(|(from, to, _)| (*from..*to).contains(&at))
                .unwrap()
                .2
        };
        std::mem::forget(secret.access().unwrap());
        assert!(flags().starts_with("r--"));
        drop(secret);
        assert!(flags().starts_with("---"));
    });
}

#[test]
fn a_secret_that_cannot_be_wiped_is_wiped_with_the_next_on_its_page() {
    without(Backing::Anonymous);
    let memory = memory(SecretPolicy::Strict);
    let first = ProtectedSecret::from_vec(&memory, vec![0x5a; 16]).unwrap();
    let beside = ProtectedSecret::from_vec(&memory, vec![0x77; 16]).unwrap();
    fail(Fails::Every(Call::Protect));
    assert!(matches!(first.close(), Err(CloseError::Unwiped(_))));
    assert_eq!(first.state(), SecretState::Closed);
    assert!(matches!(first.access(), Err(AccessError::Closed)));
    assert_eq!(peek(address(&first), 16).unwrap(), vec![0x5a; 16]);
    heal();
    let next = ProtectedSecret::from_vec(&memory, vec![0x11; 16]).unwrap();
    assert_eq!(peek(address(&first), 16).unwrap(), vec![0; 16]);
    assert!(beside.with_bytes(|value| value == [0x77; 16]).unwrap());
    assert!(next.with_bytes(|value| value == [0x11; 16]).unwrap());
    assert_ne!(address(&first), address(&next));
}

#[test]
fn a_secret_that_stays_readable_says_so_until_it_is_not() {
    on_each_backing(|_| {
        let memory = memory(SecretPolicy::BestEffort);
        let secret = ProtectedSecret::random(&memory, 32).unwrap();
        assert!(secret.protection_report().unreadable_at_rest);
        let value = secret.access().unwrap();
        fail(Fails::Every(Call::Protect));
        drop(value);
        assert!(!secret.protection_report().unreadable_at_rest);
        heal();
        secret.with_bytes(|_| ()).unwrap();
        assert!(secret.protection_report().unreadable_at_rest);
    });
}

#[test]
fn a_secret_that_cannot_be_made_readable_is_refused_and_open_all_the_same() {
    on_each_backing(|_| {
        let secret = ProtectedSecret::random(&memory(SecretPolicy::Strict), 32).unwrap();
        fail(Fails::Every(Call::Protect));
        assert!(matches!(secret.access(), Err(AccessError::Kernel(_))));
        assert_eq!(secret.state(), SecretState::Open { readers: 0 });
        heal();
        assert_eq!(secret.access().unwrap().len(), 32);
    });
}

#[test]
fn strict_refuses_what_best_effort_goes_without() {
    // On anonymous pages: reservation, access, lock, dumps, forks, access at rest.
    let cases = [
        (3, Protection::Locked),
        (4, Protection::ExcludedFromDumps),
        (5, Protection::WithheldFromChildren),
        (6, Protection::UnreadableAtRest),
    ];
    for (nth, protection) in cases {
        heal();
        without(Backing::Anonymous);
        fail(Fails::Nth(nth));
        let strict = memory(SecretPolicy::Strict);
        let refused = ProtectedSecret::random(&strict, 32).unwrap_err();
        assert!(
            matches!(refused, SecretError::Refused { protection: p, .. } if p == protection),
            "{refused}"
        );
        assert_eq!(strict.secrets(), 0);
        heal();
        without(Backing::Anonymous);
        fail(Fails::Nth(nth));
        let secret = ProtectedSecret::random(&memory(SecretPolicy::BestEffort), 32).unwrap();
        let report = secret.protection_report();
        assert_eq!(report.locked, protection != Protection::Locked);
        assert_eq!(
            report.excluded_from_dumps,
            protection != Protection::ExcludedFromDumps
        );
        let forked = match protection {
            Protection::WithheldFromChildren => Forked::Secret,
            _ => Forked::Zeros,
        };
        assert_eq!(report.forked, forked);
        assert_eq!(
            report.unreadable_at_rest,
            protection != Protection::UnreadableAtRest
        );
    }
    heal();
}

#[test]
fn an_overrun_is_found_at_close_and_its_victim_wiped() {
    on_each_backing(|_| {
        for len in [32, 7, 3000] {
            let memory = memory(SecretPolicy::Strict);
            for offset in [-1, -8] {
                let secret = ProtectedSecret::random(&memory, len).unwrap();
                overrun(&secret, offset);
                assert!(matches!(secret.close(), Err(CloseError::CanaryDamaged)));
                assert!(matches!(secret.close(), Err(CloseError::CanaryDamaged)));
                assert_eq!(secret.state(), SecretState::Freed);
            }
            if len < 1000 {
                let secret = ProtectedSecret::random(&memory, len).unwrap();
                overrun(&secret, isize::try_from(len).unwrap());
                assert!(matches!(secret.close(), Err(CloseError::CanaryDamaged)));
            }
            let sound = ProtectedSecret::random(&memory, len).unwrap();
            sound.close().unwrap();
        }
    });
}

/// Changes the byte at this offset from the value, as a fault elsewhere would while a neighbour is
/// written.
fn overrun(secret: &ProtectedSecret, offset: isize) {
    let block = &secret.slot.block;
    block
        .pages()
        .protect(super::super::pages::Access::Write)
        .unwrap();
    let at = address(secret).wrapping_add_signed(offset);
    let at = std::ptr::with_exposed_provenance_mut::<u8>(at);
    // SAFETY: a byte of the secret's own place, which nobody else uses now.
    unsafe { at.write_volatile(!at.read_volatile()) };
    block
        .pages()
        .protect(super::super::pages::Access::None)
        .unwrap();
}
