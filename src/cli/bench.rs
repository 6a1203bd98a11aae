//! `airssys bench`: what supervision, limits and checks cost on this machine, beside the same work
//! on bare wasmtime and tokio, in one run.

mod bare;
mod cache;
mod density;
mod figures;
mod tree;
mod work;

use std::error::Error;

pub(super) use density::Side;
use figures::Row;

use super::error::{CliError, Failure};
use super::output::Output;
use super::{BenchArgs, Exit, start};

/// A measurement by its name. Each is a pair: ours, and the same done bare.
pub(super) const NAMES: [&str; 9] = [
    "call", "echo", "fresh", "recovery", "growth", "epochs", "siblings", "cache", "density",
];

pub(super) async fn bench(args: &BenchArgs, output: Output) -> Result<Exit, CliError> {
    if let Some(side) = args.alone {
        let held = density::alone(side).await.map_err(failed)?;
        output.json(&held)?;
        return Ok(Exit::Ok);
    }
    let mut interrupt = start::interrupt()?;
    let measured = async {
        let mut rows = Vec::new();
        for name in NAMES {
            if args.only.is_empty() || args.only.iter().any(|wanted| wanted == name) {
                let _busy = output.busy(format!("measuring {name}"));
                // On a worker, as callers are: the thread of `main` is woken by a system call.
                let measured = tokio::spawn(row(name, args.quick)).await;
                let measured = measured.map_err(wasmtime::Error::from).flatten();
                rows.extend(measured.map_err(failed)?);
            }
        }
        Ok::<Vec<Row>, CliError>(rows)
    };
    let rows = tokio::select! {
        rows = measured => rows?,
        () = interrupt.asked() => return Ok(output.interrupted()),
    };
    if output.is_json() {
        output.json(&figures::json(&rows))?;
    } else {
        output.line(&figures::table(&rows))?;
    }
    Ok(match args.check && rows.iter().any(|row| !row.holds()) {
        true => Exit::Failed,
        false => Exit::Ok,
    })
}

async fn row(name: &'static str, quick: bool) -> wasmtime::Result<Vec<Row>> {
    let rounds = if quick { 200 } else { 2_000 };
    Ok(match name {
        "call" => vec![work::call(rounds * 10).await?],
        "echo" => vec![work::echo(rounds).await?],
        "fresh" => vec![work::fresh(rounds).await?],
        "recovery" => vec![work::recovery(rounds / 2).await?],
        "growth" => vec![work::growth(rounds).await?],
        "epochs" => vec![work::epochs(rounds / 20).await?],
        "siblings" => vec![work::siblings(rounds * 25).await?],
        "cache" => vec![cache::cache(rounds / 40).await?],
        _ => density::rows(if quick { 1_000 } else { 10_000 }).await?,
    })
}

fn failed(error: wasmtime::Error) -> CliError {
    let source: Box<dyn Error + Send + Sync> = error.into();
    Failure::Bench { source }.into()
}
