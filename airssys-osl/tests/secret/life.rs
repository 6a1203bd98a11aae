use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use airssys_osl::{
    AccessError, CloseError, MAX_SECRET_BYTES, MAX_SECRET_READERS, ProtectedSecret, SecretError,
    SecretLimits, SecretMemory, SecretPolicy, SecretState,
};

use super::memory;

#[test]
fn a_value_is_what_it_was_made_of_at_every_length() {
    let memory = memory();
    let lengths = [1, 31, 32, 33, 1024, 1025, 4087, 4088, 4089, 70_000];
    let secrets: Vec<_> = lengths
        .iter()
        .map(|len| {
            let mut source: Vec<u8> = (0..*len).map(|n| (n * 7 + len) as u8).collect();
            let secret = ProtectedSecret::from_bytes(&memory, &mut source).unwrap();
            assert!(source.iter().all(|byte| *byte == 0), "the source is wiped");
            secret
        })
        .collect();
    for (len, secret) in lengths.iter().zip(&secrets) {
        let value = secret.access().unwrap();
        assert_eq!(value.len(), *len);
        let expected = (0..*len).map(|n| (n * 7 + len) as u8);
        assert!(value.iter().copied().eq(expected), "{len}");
    }
    for secret in secrets {
        secret.close().unwrap();
    }
}

#[test]
fn a_secret_beyond_a_bound_is_refused_by_its_name() {
    let limits = SecretLimits {
        max_bytes: 16,
        max_secrets: 2,
    };
    let memory = SecretMemory::new(SecretPolicy::BestEffort, limits);
    assert!(matches!(
        ProtectedSecret::random(&memory, 0),
        Err(SecretError::Empty)
    ));
    let mut long = [7; 17];
    assert!(matches!(
        ProtectedSecret::from_bytes(&memory, &mut long),
        Err(SecretError::TooLong {
            len_bytes: 17,
            limit_bytes: 16
        })
    ));
    assert_eq!(long, [0; 17]);
    let first = ProtectedSecret::random(&memory, 16).unwrap();
    let second = ProtectedSecret::random(&memory, 16).unwrap();
    assert!(first.access().unwrap()[..] != second.access().unwrap()[..]);
    assert!(matches!(
        ProtectedSecret::random(&memory, 1),
        Err(SecretError::TooMany { limit: 2 })
    ));
    first.close().unwrap();
    ProtectedSecret::random(&memory, 1).unwrap();
    let boundless = SecretLimits {
        max_bytes: usize::MAX,
        max_secrets: 1,
    };
    let memory = SecretMemory::new(SecretPolicy::BestEffort, boundless);
    assert!(matches!(
        ProtectedSecret::random(&memory, MAX_SECRET_BYTES + 1),
        Err(SecretError::TooLong { .. })
    ));
}

#[test]
fn closing_what_the_caller_reads_is_an_error_and_no_deadlock() {
    let secret = ProtectedSecret::random(&memory(), 32).unwrap();
    let within = secret.with_bytes(|_| secret.close()).unwrap();
    assert!(matches!(within, Err(CloseError::HeldByCaller)));
    let first = secret.access().unwrap();
    let second = secret.access().unwrap();
    drop(first);
    let timed = secret.close_timeout(Duration::from_secs(3600));
    assert!(matches!(timed, Err(CloseError::HeldByCaller)));
    assert_eq!(secret.state(), SecretState::Open { readers: 1 });
    drop(second);
    secret.close().unwrap();
    assert_eq!(secret.state(), SecretState::Freed);
    assert!(matches!(secret.access(), Err(AccessError::Closed)));
}

#[test]
fn a_panic_while_a_secret_is_read_leaves_it_closable() {
    let secret = ProtectedSecret::random(&memory(), 32).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        secret.with_bytes(|_| panic!("on purpose")).unwrap()
    }));
    assert!(panicked.is_err());
    assert_eq!(secret.state(), SecretState::Open { readers: 0 });
    assert!(secret.protection_report().unreadable_at_rest);
    secret.close().unwrap();
}

#[test]
fn a_close_that_waits_too_long_leaves_the_wiping_to_the_last_reader() {
    let memory = memory();
    let secret = ProtectedSecret::random(&memory, 32).unwrap();
    let (reads, told) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let value = secret.access().unwrap();
            let before = value.to_vec();
            reads.wait();
            told.wait();
            assert_eq!(value[..], before, "wiped under its reader");
        });
        reads.wait();
        let closed = secret.close_timeout(Duration::from_millis(1));
        assert!(matches!(closed, Err(CloseError::Readers { readers: 1 })));
        assert_eq!(secret.state(), SecretState::Closing { readers: 1 });
        assert!(matches!(secret.access(), Err(AccessError::Closed)));
        assert_eq!(memory.secrets(), 1);
        told.wait();
        secret.close().unwrap();
    });
    assert_eq!(secret.state(), SecretState::Freed);
    assert_eq!(memory.secrets(), 0);
}

#[test]
fn a_forgotten_guard_keeps_no_secret_from_being_wiped() {
    let memory = memory();
    let secret = ProtectedSecret::random(&memory, 32).unwrap();
    let _beside = ProtectedSecret::random(&memory, 32).unwrap();
    std::mem::forget(secret.access().unwrap());
    assert!(matches!(secret.close(), Err(CloseError::HeldByCaller)));
    drop(secret);
    assert_eq!(memory.secrets(), 1);
    // Its place is used again, and is another secret's.
    ProtectedSecret::random(&memory, 32)
        .unwrap()
        .close()
        .unwrap();
}

#[test]
fn readers_are_bounded() {
    let secret = ProtectedSecret::random(&memory(), 32).unwrap();
    for _ in 0..MAX_SECRET_READERS {
        std::mem::forget(secret.access().unwrap());
    }
    assert!(matches!(
        secret.access(),
        Err(AccessError::TooManyReaders {
            limit: MAX_SECRET_READERS
        })
    ));
}

#[test]
fn a_reader_streams_the_value_until_it_is_closed() {
    let mut source: Vec<u8> = (0..=255).cycle().take(3000).collect();
    let expected = source.clone();
    let secret = ProtectedSecret::from_bytes(&memory(), &mut source).unwrap();
    let mut reader = secret.reader();
    let mut pieces = vec![0; 1000];
    reader.read_exact(&mut pieces).unwrap();
    assert_eq!(pieces, expected[..1000]);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, expected[1000..]);
    secret.close().unwrap();
    let error = secret.reader().read(&mut pieces).unwrap_err();
    let cause = error.get_ref().unwrap().downcast_ref::<AccessError>();
    assert!(matches!(cause, Some(AccessError::Closed)));
}

#[test]
fn a_stream_gives_the_value_in_pieces_and_ends_with_an_error() {
    let memory = memory();
    let mut source = b"one piece after another".to_vec();
    let secret = ProtectedSecret::from_bytes(&memory, &mut source).unwrap();
    let piece_bytes = std::num::NonZeroUsize::new(7).unwrap();
    let pieces: Vec<_> = secret
        .stream(piece_bytes)
        .map(|piece| piece.unwrap())
        .collect();
    let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
    assert_eq!(whole, b"one piece after another");
    let lengths: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
    assert_eq!(lengths, [7, 7, 7, 2]);
    let mut stream = secret.stream(piece_bytes);
    stream.next().unwrap().unwrap();
    secret.close().unwrap();
    assert!(matches!(stream.next(), Some(Err(AccessError::Closed))));
    assert!(stream.next().is_none());
}

#[test]
fn debug_output_has_no_byte_of_the_value() {
    let secret = ProtectedSecret::from_vec(&memory(), vec![b'Q'; 40]).unwrap();
    let guard = secret.access().unwrap();
    let printed = format!("{secret:?} {guard:?} {:?}", secret.reader());
    assert!(
        !printed.contains("QQ") && !printed.contains("81"),
        "{printed}"
    );
}

#[test]
fn neighbours_are_read_written_and_closed_at_once() {
    let memory = memory();
    let kept = ProtectedSecret::from_vec(&memory, vec![0x5a; 32]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..full(500, 100_000) {
                    let value = kept.access().unwrap();
                    assert_eq!(value[..], [0x5a; 32]);
                }
            });
        }
        scope.spawn(|| {
            for n in 0..full(500, 100_000) {
                let other = ProtectedSecret::from_vec(&memory, vec![n as u8; 32]).unwrap();
                assert!(other.with_bytes(|value| value == [n as u8; 32]).unwrap());
                other.close().unwrap();
            }
        });
    });
    assert!(kept.protection_report().unreadable_at_rest);
}

/// How often, and how often with `AIRSSYS_FULL=1`.
fn full(bounded: u64, full: u64) -> u64 {
    if std::env::var_os("AIRSSYS_FULL").is_some() {
        full
    } else {
        bounded
    }
}

/// With `AIRSSYS_FULL=1`, a million reads for each number of readers.
#[test]
fn readers_see_the_whole_value_or_that_it_is_closed() {
    for readers in [1, 2, 4, 16, 64] {
        let memory = memory();
        let reads = AtomicU64::new(0);
        let wanted = full(2_000, 1_000_000);
        while reads.load(Ordering::Relaxed) < wanted {
            let secret = Arc::new(ProtectedSecret::from_vec(&memory, vec![0x5a; 48]).unwrap());
            let threads: Vec<_> = (0..readers)
                .map(|_| {
                    let secret = Arc::clone(&secret);
                    std::thread::spawn(move || {
                        let mut reads = 0;
                        while let Ok(value) = secret.access() {
                            assert_eq!(value[..], [0x5a; 48]);
                            reads += 1;
                        }
                        reads
                    })
                })
                .collect();
            // Closes in the middle: after as many reads as this thread manages meanwhile.
            for _ in 0..100 {
                assert_eq!(secret.access().unwrap()[..], [0x5a; 48]);
            }
            secret.close().unwrap();
            assert_eq!(secret.state(), SecretState::Freed);
            for thread in threads {
                reads.fetch_add(100 + thread.join().unwrap(), Ordering::Relaxed);
            }
        }
        assert_eq!(memory.secrets(), 0);
    }
}
