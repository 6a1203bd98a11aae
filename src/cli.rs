//! The commands, as the help describes them.

mod bench;
mod call;
mod demo;
mod error;
mod explain;
mod inspect;
mod interrupt;
mod output;
mod report;
mod run;
mod start;
#[cfg(unix)]
mod status;
#[cfg(unix)]
mod top;
mod validate;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub(crate) use error::{CliError, ExpectedError};
pub(crate) use output::Output;

const EXIT_CODES: &str = "\
Exit codes:
  0    ok
  1    failed: a call ended with an error, a component did not start, the tree gave up
  2    bad usage or configuration
  130  interrupted (Ctrl-C or SIGTERM); `run` ends with 0 after an ordered shutdown";

const EXAMPLES: &str = "\
Start here:
  airssys demo --keep tree            five components under load; their files stay in ./tree
  airssys run tree/airssys.toml       the same tree, until Ctrl-C
  airssys call tree/airssys.toml calculator add 2 3
  airssys explain max_bytes           what a key of the configuration means, and who decided it";

const CALL_EXAMPLES: &str = "\
Examples:
  airssys call airssys.toml calculator add 2 3
  airssys call airssys.toml calculator 'docs:adder/add@0.1.0#add' 2 3
  airssys call Component.toml calculator sum '[1, 2, 3]'
  airssys call airssys.toml notebook append '\"a note\"'

WAVE values: 42  -7  1.5  true  'x'  \"text\"  [1, 2]  (1, \"a\")  {name: \"a\", age: 3}
             some(1)  none  ok(1)  err(\"why\")  case-name  case-name(1)
Strings keep their quotes, so quote them once more for the shell; write -- before -inf.
`airssys inspect` shows the types.";

const BENCH_EXAMPLES: &str = "\
Examples:
  cargo run --release -- bench
  cargo run --release -- bench call recovery --quick
  cargo run --release -- --json bench | jq '.rows[] | {name, ratio, holds}'";

#[cfg(unix)]
const TOP_EXAMPLES: &str = "\
Examples:
  airssys run airssys.toml --status /run/user/1000/airssys.sock
  airssys top /run/user/1000/airssys.sock
  airssys top /run/user/1000/airssys.sock --sort latency --filter tool-
  airssys top /run/user/1000/airssys.sock --json --once | jq .host

Keys: h health, c calls, e errors, l latency, m memory, r restarts, n name;
      / filter, Esc drops it; arrows, PgUp, PgDn, Home, End; q or Ctrl-C quits";

#[cfg(unix)]
const TOP_COLUMNS: &str = "\
Columns; those that do not fit are left out:
  STATE      what its supervisor says of it    GEN     the incarnation that serves it
  CALLS, /S  calls taken up, and a second      BUSY    share of the time the guest was polled
  FAIL       calls that ended their instance   REFU    calls turned away or not answered in time
  FLY        calls an instance works on        QUEUE   calls that wait
  WAIT99     wait of 99 in 100 calls           P50, P99  service time of this incarnation
  MEM, MEM%  memory held, and of its limit     RST     restarts
Bold: it does not run, ended within the last minute, or holds 90 % of its limit.";

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As asked.
    Ok,
    /// What was asked for did not work.
    Failed,
    /// What was asked for makes no sense, and nothing was run.
    Usage,
    /// Somebody ended it.
    Interrupted,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Runs WebAssembly components under supervision: each in an actor of its own, held to its memory
/// and its time, and replaced when it leaks, loops, traps or lies.
///
/// A Component.toml describes one component, an airssys.toml a tree of them. Wherever FILE is
/// asked for, either will do; a Component.toml is then a tree of one.
#[derive(Debug, Parser)]
#[command(name = "airssys", version, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct Cli {
    /// Write machine-readable JSON to standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Log more to standard error: -v info, -vv debug; AIRSSYS_LOG takes a filter instead
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a tree until Ctrl-C
    ///
    /// Starts every component in the order of the file, prints what happens to them, and stops
    /// them in reverse order on Ctrl-C or SIGTERM. A second Ctrl-C ends the program at once.
    /// With --json every change is one line: {"event", "supervisor", "child", "generation", ...}.
    #[command(after_long_help = EXIT_CODES)]
    Run(RunArgs),

    /// Watch a tree that runs: calls, errors, latencies, memory and restarts of every component
    ///
    /// SOCKET is what `airssys run --status SOCKET` was given. Nothing a viewer does changes
    /// anything in the tree. Where standard output is no terminal, the whole table is written once
    /// an interval; with --json each snapshot is one line.
    #[cfg(unix)]
    #[command(after_help = TOP_EXAMPLES, after_long_help = format!("{TOP_EXAMPLES}\n\n{TOP_COLUMNS}\n\n{EXIT_CODES}"))]
    Top(TopArgs),

    /// Call a function of a component
    ///
    /// Starts COMPONENT alone, without the rest of its tree, calls FUNCTION once and prints its
    /// result as WAVE; a function without a result prints nothing.
    #[command(after_help = CALL_EXAMPLES, after_long_help = format!("{CALL_EXAMPLES}\n\n{EXIT_CODES}"))]
    Call(CallArgs),

    /// Check configuration files
    ///
    /// Reads each FILE, and the Component.toml files an airssys.toml names, and reports all
    /// problems of all of them at once. Nothing is compiled or started.
    #[command(after_long_help = EXIT_CODES)]
    Validate(ValidateArgs),

    /// Explain a configuration key: its rule, its default and the ADR that decides it
    ///
    /// Without KEY, or with a section such as `resources`, the keys are listed.
    #[command(
        after_help = "Examples:\n  airssys explain resources.memory.max_bytes\n  airssys explain max_bytes\n  airssys explain airssys.toml:supervisor.name"
    )]
    Explain(ExplainArgs),

    /// Show what a component imports and exports, as WIT
    Inspect(InspectArgs),

    /// Run five components under load, three of which leak, loop and crash
    ///
    /// Writes the components and an airssys.toml to a folder, runs that tree and calls everything
    /// in it all the time. Ends with a table: calls made, answered, failed (the very call that
    /// ended the instance) and lost (any other call without an answer), latencies, restarts by
    /// cause and the time from a death to the next instance.
    ///
    /// Fails when a call was lost, when a well-behaved component noticed anything, or when no
    /// restart after an out-of-memory, a trap or a deadline was seen.
    #[command(after_long_help = EXIT_CODES)]
    Demo(DemoArgs),

    /// Measure what supervision and limits cost on this machine, beside bare wasmtime and tokio
    ///
    /// Each row is a pair, done turn by turn in one run, so that a busy machine is busy for both:
    /// what a host takes, what the same takes bare, their ratio, and what is asked of it. Takes
    /// about a minute; build with --release, or it measures the missing optimisation.
    #[command(after_help = BENCH_EXAMPLES, after_long_help = format!("{BENCH_EXAMPLES}\n\n{EXIT_CODES}"))]
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// An airssys.toml, or a single Component.toml
    file: PathBuf,
    /// Tell `airssys top SOCKET` what goes on: makes a unix socket there that only you may read
    #[cfg(unix)]
    #[arg(long, value_name = "SOCKET")]
    status: Option<PathBuf>,
}

#[cfg(unix)]
#[derive(Debug, Args)]
struct TopArgs {
    /// The socket of a running `airssys run FILE --status SOCKET`
    socket: PathBuf,
    /// Milliseconds between two looks, 100 to 60000
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval_ms: u64,
    /// What comes first
    #[arg(long, value_enum, default_value_t = top::Sort::Health)]
    sort: top::Sort,
    /// Only components whose names contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Look once, and write it down
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Args)]
struct CallArgs {
    /// An airssys.toml, or a single Component.toml
    file: PathBuf,
    /// The component's name in the tree
    component: String,
    /// `pkg:name/iface@ver#func`, or the bare name where only one function has it
    function: String,
    /// The arguments, each a WAVE value
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Args)]
struct ValidateArgs {
    /// Files of either kind
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// A key, its last part where that is unambiguous, or either after `Component.toml:` or
    /// `airssys.toml:`
    key: Option<String>,
}

#[derive(Debug, Args)]
struct InspectArgs {
    /// A component binary
    wasm: PathBuf,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// How long to keep the load up, 2 to 60
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=60))]
    seconds: u64,
    /// Write the tree's files to this empty or new folder and leave them there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// Only these measurements
    #[arg(value_name = "NAME", value_parser = bench::NAMES)]
    only: Vec<String>,
    /// A tenth of the rounds, and a thousand components instead of ten thousand
    #[arg(long)]
    quick: bool,
    /// Fail when a row is over what is asked of it
    #[arg(long)]
    check: bool,
    /// One side of `density`, in this process
    #[arg(long, hide = true)]
    alone: Option<bench::Side>,
}

impl Cli {
    /// Carries the command out.
    pub(crate) async fn run(self, output: Output) -> Result<Exit, CliError> {
        match self.command {
            Command::Run(args) => run::run(&args, output).await,
            #[cfg(unix)]
            Command::Top(args) => top::top(&args, output).await,
            Command::Call(args) => call::call(&args, output).await,
            Command::Validate(args) => validate::validate(&args.files, output),
            Command::Explain(args) => explain::explain(args.key.as_deref(), output),
            Command::Inspect(args) => inspect::inspect(&args.wasm, output),
            Command::Bench(args) => bench::bench(&args, output).await,
            Command::Demo(args) => demo::demo(&args, output, self.verbose > 0).await,
        }
    }
}
