//! What the code cache saves a start.

use std::path::Path;
use std::time::{Duration, Instant};

use airssys::{HostBuilder, SystemConfig};
use airssys_guests::CALCULATOR;

use super::figures::{Bound, Row, Unit, median};

/// A host and its component from code on disk, beside the same compiled.
pub(super) async fn cache(rounds: usize) -> wasmtime::Result<Row> {
    let folder = tempfile::Builder::new()
        .prefix("airssys-bench-")
        .tempdir()?;
    let within = |name: &str| folder.path().join(name);
    std::fs::write(within("calculator.wasm"), CALCULATOR.wasm)?;
    std::fs::write(
        within("calculator.toml"),
        "[component]\nname = \"calculator\"\nversion = \"0.1.0\"\nwasm = \"calculator.wasm\"\n\n\
         [resources.memory]\nmax_bytes = 4194304\n",
    )?;
    let (cached, compiled) = (within("cached.toml"), within("compiled.toml"));
    for (path, cache) in [
        (&cached, "[system.cache]\ndirectory = \"cache\"\n"),
        (&compiled, ""),
    ] {
        let system = format!(
            "[system]\nmax_components = 1\n\n{cache}[[supervisor]]\nname = \"bench\"\n\n\
             [[supervisor.child]]\ncomponent = \"calculator.toml\"\n"
        );
        std::fs::write(path, system)?;
    }
    // Fills the cache.
    start(&cached).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(start(&cached).await?);
        bare.push(start(&compiled).await?);
    }
    Ok(Row {
        name: "cache",
        what: "a host and its component, from code on disk",
        unit: Unit::Nanoseconds,
        ours: median(&mut ours),
        beside: "the same, compiled",
        bare: median(&mut bare),
        bound: Bound::Ratio(0.5),
    })
}

/// How long a host takes until its components serve.
async fn start(path: &Path) -> wasmtime::Result<Duration> {
    let config = SystemConfig::load(path)?;
    let began = Instant::now();
    let host = HostBuilder::from(config).start().await?;
    let took = began.elapsed();
    host.shutdown().await;
    Ok(took)
}
