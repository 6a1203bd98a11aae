//! What an append costs its caller, beside a `write(2)` per record: turn by turn in one run.
//!
//! `cargo bench -p airssys-osl --bench audit`. Both write the same texts to the same disk; neither
//! caller waits for a sync.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed set-up should end the benchmark"
)]

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use airssys_osl::{AuditConfig, AuditDecision, AuditEntry, AuditLog, verify_audit};

const ROUNDS: usize = 100;
const BURST: usize = 1000;
/// Threads that append at once.
const THREADS: usize = 4;

fn entry(subject: &str) -> AuditEntry<'_> {
    AuditEntry {
        component: "calculator",
        generation: 3,
        capability: "filesystem",
        subject,
        decision: AuditDecision::Deny,
        rule: "[[capabilities.filesystem]]\npath = \"data\"\naccess = \"read\"",
    }
}

fn timed(times: &mut Vec<u64>, mut action: impl FnMut()) {
    for _ in 0..BURST {
        let begun = Instant::now();
        action();
        times.push(u64::try_from(begun.elapsed().as_nanos()).unwrap());
    }
}

fn percentile(times: &mut [u64], hundredths: usize) -> u64 {
    times.sort_unstable();
    times[(times.len() - 1) * hundredths / 100]
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let log = AuditLog::open(&AuditConfig::new(&path)).unwrap();
    let mut file = File::create(dir.path().join("plain")).unwrap();
    let subject = "read data/reports/2026/november/summary.txt";
    let line = format!(
        "calculator 3 filesystem {subject} deny {}\n",
        entry("").rule
    );
    let (mut appends, mut writes) = (Vec::new(), Vec::new());
    let patience = Duration::from_secs(30);
    for _ in 0..ROUNDS {
        timed(&mut appends, || log.append(entry(subject)).unwrap());
        log.flush(patience).unwrap();
        timed(&mut writes, || file.write_all(line.as_bytes()).unwrap());
    }
    let mut shared: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut times = Vec::new();
                    for _ in 0..ROUNDS / THREADS {
                        timed(&mut times, || {
                            // Full now and then: a refusal costs as much.
                            log.append(entry(subject)).ok();
                        });
                        log.flush(patience).unwrap();
                    }
                    times
                })
            })
            .collect();
        let joined = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        joined.collect()
    });
    log.close(patience).unwrap();
    assert!(verify_audit(&path).unwrap().is_whole());

    println!("{:<28} {:>8} {:>8}", "nanoseconds", "p50", "p95");
    for (name, times) in [
        ("append", &mut appends),
        ("append, 4 threads", &mut shared),
        ("write(2) per record", &mut writes),
    ] {
        let (p50, p95) = (percentile(times, 50), percentile(times, 95));
        println!("{name:<28} {p50:>8} {p95:>8}");
    }
    let ratio = |hundredths: usize| {
        let append = percentile(&mut appends.clone(), hundredths);
        append as f64 / percentile(&mut writes.clone(), hundredths) as f64
    };
    println!("append / write: p50 {:.2}, p95 {:.2}", ratio(50), ratio(95));
}
