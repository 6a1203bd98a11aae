//! The command line program: reads the command, runs it, and says how it ended by its exit code.

mod cli;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, CliError, Exit, ExpectedError, Output};

/// Environment variable with what to log, in the syntax of `tracing_subscriber::EnvFilter`.
const LOG_VARIABLE: &str = "AIRSSYS_LOG";

/// How long work off the runtime may go on once the command has ended.
const LAST_WORK: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = cli.output();
    let exit = match real_main(cli, output) {
        Ok(exit) => exit,
        Err(error) => match error.downcast::<CliError>() {
            Ok(error) => output.error(&error),
            Err(error) => output.other_error(&format!("{error:#}")),
        },
    };
    exit.into()
}

fn real_main(cli: Cli, output: Output) -> anyhow::Result<Exit> {
    log_to_stderr(cli.verbose, cli.least_logged())?;
    let prepared = cli.prepare(output)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let exit = runtime.block_on(cli.run(prepared, output));
    // A thread that reads standard input comes back when somebody writes to it, and not before.
    runtime.shutdown_timeout(LAST_WORK);
    Ok(exit?)
}

/// Standard output belongs to results, so that they can be piped.
fn log_to_stderr(verbose: u8, least: &'static str) -> anyhow::Result<()> {
    let filter = match std::env::var(LOG_VARIABLE) {
        Ok(wish) => EnvFilter::try_new(&wish)
            .map_err(|source| CliError::from(ExpectedError::LogFilter { wish, source }))?,
        Err(_) => EnvFilter::new(match verbose {
            0 => least,
            1 => "warn,airssys=info,airssys_rt=info,airssys_wasm=info",
            _ => "warn,airssys=debug,airssys_rt=debug,airssys_wasm=debug",
        }),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(())
}
