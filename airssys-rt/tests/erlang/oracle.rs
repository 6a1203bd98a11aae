//! The scenarios as played by real Erlang.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::scenario::Scenario;

const ABSENT: &str = "no `escript` on this machine: install Erlang/OTP 25 or later, \
    on Debian and Ubuntu with `apt-get install -y --no-install-recommends erlang-base`";

/// One trace for each scenario, in their order, from one Erlang node without a network.
pub(crate) fn play(scenarios: &[Scenario]) -> Vec<String> {
    static RUN: AtomicU32 = AtomicU32::new(0);
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let file = |name: &str| {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("erlang-{}-{run}.{name}", std::process::id()))
    };
    let (told, traced) = (file("scenarios"), file("traces"));
    let text: String = scenarios.iter().map(Scenario::to_string).collect();
    std::fs::write(&told, text).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/erlang/oracle.escript");
    let output = match Command::new("escript")
        .arg(script)
        .args([&told, &traced])
        .output()
    {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => panic!("{ABSENT}"),
        output => output.unwrap(),
    };
    assert!(
        output.status.success(),
        "the oracle itself failed on {}:\n{}{}",
        told.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let traces = std::fs::read_to_string(&traced).unwrap();
    let traces: Vec<String> = traces
        .split_inclusive("\nend\n")
        .map(str::to_owned)
        .collect();
    assert_eq!(traces.len(), scenarios.len(), "{}", told.display());
    std::fs::remove_file(told).unwrap();
    std::fs::remove_file(traced).unwrap();
    traces
}
