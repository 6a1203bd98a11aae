//! How much memory and time a component takes that does nothing, among thousands. Each side is
//! measured in a process of its own, so that neither finds memory the other has left.

use std::process::Stdio;
use std::time::Instant;

use airssys_guests::CALCULATOR;
use serde::{Deserialize, Serialize};
use wasmtime::error::Context as _;

use super::bare::Bare;
use super::figures::{Bound, Row, Unit};
use super::tree::{Files, Tree};

/// What one side takes for all its components.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Held {
    components: usize,
    resident_bytes: u64,
    started_ns: u64,
}

/// Which side, and how many.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Side {
    ours: bool,
    components: usize,
}

impl std::str::FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (side, components) = text.split_once('-').ok_or("no number")?;
        Ok(Self {
            ours: side == "airssys",
            components: components.parse().map_err(|_| "no number")?,
        })
    }
}

/// Measures both sides.
pub(super) async fn rows(components: usize) -> wasmtime::Result<Vec<Row>> {
    let ours = in_a_process_of_its_own("airssys", components).await?;
    let bare = in_a_process_of_its_own("bare", components).await?;
    #[allow(
        clippy::cast_precision_loss,
        reason = "bytes and nanoseconds of a process"
    )]
    let each = |held: &Held, figure: u64| figure as f64 / held.components as f64;
    Ok(vec![
        Row {
            name: "density",
            what: "resident memory of a component among thousands, started and not called",
            unit: Unit::Bytes,
            ours: each(&ours, ours.resident_bytes),
            beside: "a Store with an instance",
            bare: each(&bare, bare.resident_bytes),
            bound: Bound::More(20.0 * 1024.0),
        },
        Row {
            name: "start",
            what: "time to start one of them, from files to all of them live",
            unit: Unit::Nanoseconds,
            ours: each(&ours, ours.started_ns),
            beside: "a Store with an instance",
            bare: each(&bare, bare.started_ns),
            bound: Bound::Ratio(2.0),
        },
    ])
}

async fn in_a_process_of_its_own(side: &str, components: usize) -> wasmtime::Result<Held> {
    let program = std::env::current_exe()?;
    let output = tokio::process::Command::new(program)
        .args([
            "--json",
            "bench",
            "--alone",
            &format!("{side}-{components}"),
        ])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    wasmtime::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout).trim()
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// One side, in this process.
pub(super) async fn alone(side: Side) -> wasmtime::Result<Held> {
    let Side { ours, components } = side;
    // The time of either side begins with its files or bytes, so compiling them and making the pool
    // are in both. The engine's memory is not what a component takes.
    let held = if ours {
        let warm = Tree::start(&[(CALCULATOR, "")], 1).await?;
        warm.shutdown().await;
        drop(warm);
        let files = Files::write(&[(CALCULATOR, "")], components)?;
        let (before, began) = (resident()?, Instant::now());
        let tree = files.start().await?;
        let held = held(components, before, began)?;
        tree.shutdown().await;
        held
    } else {
        let began = Instant::now();
        let pool = Bare::new(CALCULATOR.wasm, u32::try_from(components)?)?;
        drop(pool.instance(&[]).await?);
        let before = resident()?;
        let mut all = Vec::with_capacity(components);
        for _ in 0..components {
            all.push(pool.instance(&[]).await?);
        }
        held(components, before, began)?
    };
    Ok(held)
}

fn held(components: usize, before: u64, began: Instant) -> wasmtime::Result<Held> {
    let started_ns = u64::try_from(began.elapsed().as_nanos())?;
    Ok(Held {
        components,
        resident_bytes: resident()?.saturating_sub(before),
        started_ns,
    })
}

/// Resident memory of this process, in bytes.
fn resident() -> wasmtime::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("resident memory is read from /proc, which is not there")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: u64 = kib.context("no VmRSS")?.trim().parse()?;
    Ok(kib * 1024)
}
