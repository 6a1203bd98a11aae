//! Copies that notice damage, beside copies that do not: `cargo bench -p airssys-contenders --bench
//! integrity`. Criterion's report first, then one table of what each contender costs and of how
//! many injected faults it noticed in this very run.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a panic ends the benchmark"
)]

mod contender;
mod detection;
mod point;
mod region;

use airssys_contenders::Table;
use airssys_integrity::{HeapRing, MessagePool, OnReturn, SizeClass, VerificationLevel};
use contender::{CONTENDERS, Contender};
use criterion::{Criterion, Throughput};
use point::{Figures, timed};
use region::region;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const SIZES: [usize; 6] = [64, 512, 4 * KIB, 64 * KIB, MIB, 16 * MIB];

fn label(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= MIB => format!("{} MiB", bytes / MIB),
        bytes if bytes >= KIB => format!("{} KiB", bytes / KIB),
        bytes => format!("{bytes} B"),
    }
}

fn source(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 131 + at / 509) as u8).collect()
}

/// Every contender at every size: a write, and a read of what it wrote.
fn copies(criterion: &mut Criterion, figures: &mut Figures) {
    for bytes in SIZES {
        let source = source(bytes);
        let mut destination = vec![0; bytes];
        for (write, kind) in [(true, "write"), (false, "read")] {
            let mut group = criterion.benchmark_group(format!("{kind} {}", label(bytes)));
            group.throughput(Throughput::Bytes(bytes as u64));
            for entry in &CONTENDERS {
                let name = entry.name;
                let mut contender: Box<dyn Contender> = (entry.make)(bytes);
                contender.write(&source);
                group.bench_function(name, |bencher| {
                    timed(bencher, figures, kind, bytes, name, || {
                        if write {
                            contender.write(black_box(&source));
                        } else {
                            assert!(contender.read(black_box(&mut destination)));
                        }
                    });
                });
            }
            group.finish();
        }
    }
}

/// 64 bytes into the middle of a region: the cost must not grow with the region. Beside it what the
/// same granularity costs without a delta: a CRC over the block they fall into.
fn partial_writes(criterion: &mut Criterion, figures: &mut Figures) {
    let mut group = criterion.benchmark_group("64 B into a region");
    let source = source(64);
    for bytes in [64 * KIB, MIB, 16 * MIB] {
        let ops = region(bytes, VerificationLevel::Standard);
        let name = label(bytes);
        group.bench_function(&name, |bencher| {
            timed(bencher, figures, "partial write", bytes, "ours", || {
                ops.atomic_write_with_checksum(bytes / 2 + 200, black_box(&source))
                    .unwrap();
            });
        });
        let mut plain = contender::Plain::of(bytes, contender::Tags::PerBlock);
        let contender = "memcpy + crc32c of the block";
        group.bench_function(format!("{name}, {contender}"), |bencher| {
            timed(bencher, figures, "partial write", bytes, contender, || {
                plain.write_part(bytes / 2 + 200, black_box(&source));
            });
        });
    }
    group.finish();
}

/// Readers of 4 KiB beside a writer of the same bytes; what the writer's write takes.
fn readers_beside_a_writer(criterion: &mut Criterion, figures: &mut Figures) {
    let bytes = 4 * KIB;
    let source = source(bytes);
    let ops = region(bytes, VerificationLevel::Standard);
    let locked = Mutex::new((vec![0; bytes], 0));
    let mut group = criterion.benchmark_group("write beside readers 4 KiB");
    for readers in [0, 1, 4] {
        let mut beside = |name: &str, write: &dyn Fn(), read: &(dyn Fn(&mut [u8]) + Sync)| {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..readers {
                    scope.spawn(|| {
                        let mut destination = vec![0; bytes];
                        while !stop.load(Ordering::Relaxed) {
                            read(&mut destination);
                        }
                    });
                }
                group.bench_function(format!("{name}, {readers} readers"), |bencher| {
                    timed(bencher, figures, "beside", readers, name, write);
                });
                stop.store(true, Ordering::Relaxed);
            });
        };
        beside(
            "ours, region, standard",
            &|| {
                ops.atomic_write_with_checksum(0, black_box(&source))
                    .unwrap();
            },
            &|destination| {
                ops.read(0, destination).unwrap();
            },
        );
        beside(
            "mutex<Vec> + crc32c",
            &|| {
                let mut locked = locked.lock().unwrap();
                locked.0.copy_from_slice(black_box(&source));
                locked.1 = crc32c::crc32c(&locked.0);
            },
            &|destination| {
                let locked = locked.lock().unwrap();
                if crc32c::crc32c(&locked.0) == locked.1 {
                    destination.copy_from_slice(&locked.0);
                }
            },
        );
    }
    group.finish();
}

/// A message from its first byte to its end: memory for it, the bytes and their tags, shared, read
/// once, given back.
fn lives(criterion: &mut Criterion, figures: &mut Figures) {
    let mut group = criterion.benchmark_group("life of a message");
    for bytes in [64, 512, 4 * KIB] {
        let source = source(bytes);
        let class = SizeClass {
            slot_bytes: bytes,
            slots: 64,
        };
        let pool = MessagePool::new(&[class], VerificationLevel::Standard, OnReturn::Keep).unwrap();
        let name = format!("ours, {}", label(bytes));
        group.bench_function(&name, |bencher| {
            timed(bencher, figures, "life", bytes, &name, || {
                let mut writer = pool.acquire(bytes).unwrap();
                writer.append(black_box(&source)).unwrap();
                black_box(writer.freeze().read().unwrap());
            });
        });
        let name = format!("Arc<Vec> + crc32c per 512 B, {}", label(bytes));
        group.bench_function(&name, |bencher| {
            timed(bencher, figures, "life", bytes, &name, || {
                let message = contender::shared_vec(black_box(&source));
                assert!(black_box(&message).is_intact());
            });
        });
    }
    group.finish();
}

/// What a message costs besides its bytes.
fn single_steps(criterion: &mut Criterion, figures: &mut Figures) {
    let class = SizeClass {
        slot_bytes: 4 * KIB,
        slots: 64,
    };
    let pool = MessagePool::new(&[class], VerificationLevel::Standard, OnReturn::Keep).unwrap();
    let mut writer = pool.acquire(4 * KIB).unwrap();
    writer.append(&source(4 * KIB)).unwrap();
    let frozen = writer.freeze();
    let (_producer, mut consumer) = HeapRing::with_slots(2, 64).unwrap();
    let ops = region(4 * KIB, VerificationLevel::Standard);
    let mut room = [0; 64];
    let mut group = criterion.benchmark_group("single steps");
    group.bench_function("pool acquire + release", |bencher| {
        timed(
            bencher,
            figures,
            "step",
            0,
            "pool acquire + release",
            || {
                drop(black_box(pool.acquire(black_box(4 * KIB))));
            },
        );
    });
    group.bench_function("shared read, pointer", |bencher| {
        timed(bencher, figures, "step", 0, "shared read, pointer", || {
            black_box(black_box(&frozen).unverified());
        });
    });
    group.bench_function("clone + drop of a shared message", |bencher| {
        let name = "clone + drop of a shared message";
        timed(bencher, figures, "step", 0, name, || {
            drop(black_box(frozen.clone()));
        });
    });
    group.bench_function("ring try_read, empty", |bencher| {
        timed(bencher, figures, "step", 0, "ring try_read, empty", || {
            let _ = black_box(consumer.try_read(&mut room));
        });
    });
    group.bench_function("ring look with time check", |bencher| {
        let name = "ring look with time check";
        timed(bencher, figures, "step", 0, name, || {
            let _ = black_box(consumer.read_with_timeout(&mut room, Duration::ZERO));
        });
    });
    group.bench_function("region try_read 64 B", |bencher| {
        timed(bencher, figures, "step", 0, "region try_read 64 B", || {
            let _ = black_box(ops.try_read(0, &mut room).unwrap());
        });
    });
    group.finish();
}

fn print(figures: &Figures) {
    let mut headings = vec!["ns, and times memcpy".to_owned()];
    headings.extend(SIZES.map(label));
    headings.extend(["hit at rest".to_owned(), "hit in the copy".to_owned()]);
    for kind in ["write", "read"] {
        let mut table = Table::with_headings(headings.iter().map(String::as_str));
        for entry in &CONTENDERS {
            let name = entry.name;
            let mut cells = vec![format!("{kind}: {name}")];
            for bytes in SIZES {
                let ours = figures.best(kind, bytes, name);
                let memcpy = figures.best(kind, bytes, "memcpy");
                cells.push(match (ours, memcpy) {
                    (Some(ours), Some(memcpy)) => format!("{ours:.0} ({:.2})", ours / memcpy),
                    _ => "-".to_owned(),
                });
            }
            let found = detection::count(entry.make_hittable);
            cells.extend([found.at_rest.to_string(), found.in_the_copy.to_string()]);
            table.row(cells);
        }
        println!("\n{table}");
    }
    let mut table = Table::with_headings(["step (beside readers: median, else best)", "ns"]);
    for (kind, size, name, samples) in figures.others(&["write", "read"]) {
        // Beside others the best sample is the one they happened to miss.
        let ns = if kind == "beside" {
            samples.median()
        } else {
            samples.best()
        };
        let step = match kind {
            "life" => format!("life of a message: {name}"),
            "partial write" => format!("64 B write into {}: {name}", label(size)),
            "beside" => format!("4 KiB write beside {size} readers: {name}"),
            _ => name.to_owned(),
        };
        table.row([step, format!("{ns:.1}")]);
    }
    println!("{table}");
    println!("detects: faults noticed of faults injected, counted in this run");
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(450))
        .sample_size(12)
        .configure_from_args();
    let mut figures = Figures::default();
    copies(&mut criterion, &mut figures);
    partial_writes(&mut criterion, &mut figures);
    readers_beside_a_writer(&mut criterion, &mut figures);
    lives(&mut criterion, &mut figures);
    single_steps(&mut criterion, &mut figures);
    criterion.final_summary();
    print(&figures);
}
