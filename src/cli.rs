//! The commands, as the help describes them.

mod audit;
mod bench;
mod call;
mod componentize;
mod demo;
mod error;
mod explain;
mod import_policy;
mod inspect;
mod interrupt;
mod mcp;
mod new;
mod output;
mod report;
mod run;
mod sandbox;
#[cfg(unix)]
mod sign;
mod start;
#[cfg(unix)]
mod status;
#[cfg(unix)]
mod top;
mod validate;
mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use airssys::SystemConfig;
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
  airssys explain timeout_seconds     what a key of the configuration means, and who decided it";

const CALL_EXAMPLES: &str = "\
Examples:
  airssys call airssys.toml calculator add 2 3
  airssys call airssys.toml calculator 'docs:adder/add@0.1.0#add' 2 3
  airssys call Component.toml calculator sum '[1, 2, 3]'
  airssys call airssys.toml notebook append '\"a note\"'
  airssys call airssys.toml calculator divide --input '{\"dividend\": 7, \"divisor\": 2}'
  echo '{\"values\": [1, 2, 3]}' | airssys call airssys.toml calculator sum --input - | jq .

WAVE values: 42  -7  1.5  true  'x'  \"text\"  [1, 2]  (1, \"a\")  {name: \"a\", age: 3}
             some(1)  none  ok(1)  err(\"why\")  case-name  case-name(1)
Strings keep their quotes, so quote them once more for the shell; write -- before -inf.
`airssys inspect` shows the types, and with --schema what --input takes.";

const NEW_EXAMPLES: &str = "\
Examples:
  airssys new my-tool --lang rust
  airssys new my-tool --lang python --path tools/mine";

const MCP_EXAMPLES: &str = "\
Examples:
  airssys mcp airssys.toml
  airssys mcp airssys.toml --http 127.0.0.1:8931 --token-file token

A tool is COMPONENT_FUNCTION, where FUNCTION is as much of the full name as tells it from the
component's other functions: calculator_divide. The comment above a function in its WIT is the tool's
description; last lines of it that begin with @ are hints to the client: @title TEXT, @readonly,
@destructive, @additive, @idempotent, @openworld, @closedworld.";

const BENCH_EXAMPLES: &str = "\
Examples:
  cargo run --release -- bench
  cargo run --release -- bench call recovery --quick
  cargo run --release -- --json bench | jq '.rows[] | {name, ratio, holds}'";

const IMPORT_EXAMPLES: &str = "\
Examples:
  airssys import-policy fetch.policy.yaml --out Component.toml
  airssys import-policy policy.yaml --name fetch --wasm build/fetch.wasm > Component.toml
  airssys import-policy policy.yaml --name fetch --dry-run    what holds each rule";

#[cfg(unix)]
const SIGN_EXAMPLES: &str = "\
Examples:
  airssys keygen signer.pem
  airssys sign --key signer.pem calculator.wasm
  openssl pkeyutl -sign -rawin -inkey signer.pem -in calculator.wasm -out calculator.wasm.sig";

const AUDIT_EXAMPLES: &str = "\
Examples:
  airssys audit verify audit
  airssys audit show audit --denied
  airssys audit show audit --component notebook --since 1200
  airssys --json audit follow audit | jq 'select(.decision == \"deny\") | {component, rule}'";

const AUDIT_FINDINGS: &str = "\
What `verify` may find wrong, as --json names it:
  missing          records that are gone; the one after them is not proven either
  segment-missing  a file that is gone, with its records
  damaged          bytes whose checksum is wrong: a disk, or somebody careless
  altered          a record that is whole and not what the host wrote: somebody
  cut-short        a file that ends in the middle of a record
  repeated         a record that is there twice       out-of-place  one after a later one
  inserted         bytes that are no record           exchanged     a file under another's name
  header, head-missing, head-damaged, head-differs    what holds the files together
  unknown          a record of a later version
Not wrong: a log that begins later than record 1, after older files made room; unfinished bytes
behind the head, of a host that is at work or was killed. What nobody can see: an older copy of the
whole directory. Note the last number and tag that `verify` prints somewhere else to tell.";

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
    /// result as WAVE; a function without a result prints nothing. With --input arguments and result
    /// are JSON; an error that the function returns is then {"error": ...}, with exit code 1.
    #[command(after_help = CALL_EXAMPLES, after_long_help = format!("{CALL_EXAMPLES}\n\n{EXIT_CODES}"))]
    Call(CallArgs),

    /// Offer the functions of a tree's components as tools of the Model Context Protocol
    ///
    /// Serves the client at standard input and output until it closes standard input, or with
    /// --http whoever may come, until Ctrl-C. Standard output carries the protocol alone, even with
    /// --json; all else goes to standard error. No message of a client changes a grant, a policy or
    /// the tree.
    #[command(after_help = MCP_EXAMPLES, after_long_help = format!("{MCP_EXAMPLES}\n\n{EXIT_CODES}"))]
    Mcp(McpArgs),

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
        after_help = "Examples:\n  airssys explain resources.memory.max_bytes\n  airssys explain timeout_seconds\n  airssys explain airssys.toml:supervisor.name"
    )]
    Explain(ExplainArgs),

    /// Show what a component imports and exports, as WIT
    ///
    /// With --schema: a JSON object with the JSON Schema of what each exported function takes
    /// (`input`), returns (`output`) and fails with (`error`), as `airssys call --input` has them,
    /// and the `description` from its WIT where the component carries that.
    #[command(
        after_help = "Examples:\n  airssys inspect calculator.wasm\n  airssys inspect calculator.wasm --schema | jq 'keys'"
    )]
    Inspect(InspectArgs),

    /// Turn a wassette policy into a Component.toml that enforces each of its rules
    ///
    /// A rule that nothing here would enforce is an error with its line, and nothing is written.
    /// Relative directories start from the folder of the Component.toml. Every file that is read and
    /// not enforced in whole ends with another exit code than 0.
    #[command(after_help = IMPORT_EXAMPLES, after_long_help = format!("{IMPORT_EXAMPLES}\n\n{EXIT_CODES}"))]
    ImportPolicy(ImportPolicyArgs),

    /// Make a key to sign components with
    ///
    /// Writes a private Ed25519 key (PKCS#8, PEM) to KEY, which only you may read, and prints the
    /// lines of airssys.toml that make a host run what the key has signed, and nothing else.
    #[cfg(unix)]
    #[command(after_help = SIGN_EXAMPLES, after_long_help = format!("{SIGN_EXAMPLES}\n\n{EXIT_CODES}"))]
    Keygen(KeygenArgs),

    /// Sign a component binary
    ///
    /// Writes an Ed25519 signature of the file's bytes beside it, and prints the lines of
    /// Component.toml that pin the binary and name the signature. KEY is one that `keygen` made, or
    /// `openssl genpkey -algorithm ed25519`.
    #[cfg(unix)]
    #[command(after_help = SIGN_EXAMPLES, after_long_help = format!("{SIGN_EXAMPLES}\n\n{EXIT_CODES}"))]
    Sign(SignArgs),

    /// Make the project of a tool: its interface, its code, its limits, and how to build it
    ///
    /// The tool greets whoever calls it, with a typed error. Its README has the commands that build
    /// and call it with the language's ordinary tool chain. Nothing that is there is overwritten.
    #[command(after_help = NEW_EXAMPLES, after_long_help = format!("{NEW_EXAMPLES}\n\n{EXIT_CODES}"))]
    New(NewArgs),

    /// Write the bindings of a WIT world for a guest in C, C++ or Zig
    ///
    /// Writes WORLD.h, WORLD.c and WORLD_component_type.o, which go to the compiler with the guest's
    /// own source, and prints their paths. Files of these names are replaced.
    Bindings(BindingsArgs),

    /// Make a component of a core module that was linked with its bindings
    ///
    /// What the C library calls of WASI ends in the component: there are no arguments, variables,
    /// files, clocks and randomness, and an exit traps. The component imports what its world says
    /// and no more.
    Componentize(ComponentizeArgs),

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

    /// Check, read or follow the log of host calls that needed a grant
    ///
    /// DIR is what `audit.directory` in airssys.toml names. The key of the log lies in it, so all of
    /// these run as the user that the host ran as. A host may be writing meanwhile.
    #[command(subcommand, after_help = AUDIT_EXAMPLES)]
    Audit(AuditCommand),

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
    /// Upgrade a component when its Component.toml, its binary or its signature changes
    ///
    /// The new release takes over between two calls, with its state where it exports
    /// `airssys:upgrade/state`; one that fails within `upgrade.probation_seconds` gives way to the
    /// one before. Changes of airssys.toml itself need a restart, and are said to.
    #[arg(long)]
    watch: bool,
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
    /// The arguments by name, as a JSON object; - reads it from standard input
    #[arg(long, value_name = "JSON", conflicts_with = "arguments")]
    input: Option<String>,
}

#[derive(Debug, Args)]
struct McpArgs {
    /// An airssys.toml, or a single Component.toml
    file: PathBuf,
    /// Serve streamable HTTP at this address, for example 127.0.0.1:8931, at the path /mcp
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Ask for the bearer token in this file, which only its owner may read; without it for the one
    /// in AIRSSYS_MCP_TOKEN, where that is set
    #[arg(long, value_name = "FILE", requires = "http")]
    token_file: Option<PathBuf>,
    /// Let ADDR be another than a loopback address; needs a token
    #[arg(long, requires = "http")]
    beyond_loopback: bool,
    /// Answer to this name, with or without a port, as well as to loopback's and ADDR's
    #[arg(long = "allow-host", value_name = "HOST", requires = "http")]
    allow_hosts: Vec<String>,
    /// Let pages of this origin call, for example https://app.example.com
    #[arg(long = "allow-origin", value_name = "ORIGIN", requires = "http", value_parser = mcp::origin)]
    allow_origins: Vec<String>,
    /// Most seconds of a call in all, its wait included, 1 to 3600; by default 60 and the limit of
    /// its component, which holds besides
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    deadline_seconds: Option<u64>,
    /// Milliseconds between two words that a call is still at work, 10 to 60000
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    progress_ms: u64,
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
    /// The JSON Schema of each exported function, instead of WIT
    #[arg(long)]
    schema: bool,
}

#[derive(Debug, Args)]
struct ImportPolicyArgs {
    /// A policy of at most 1 MiB, in YAML
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// The component's name; by default the file's, or its folder's where that is `policy.yaml`
    #[arg(long)]
    name: Option<String>,
    /// The binary, as seen from the Component.toml; by default NAME.wasm beside it
    #[arg(long, value_name = "PATH")]
    wasm: Option<String>,
    /// Where to write; by default standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Write nothing; tell what enforces each rule
    #[arg(long)]
    dry_run: bool,
    /// Leave out what is allowed and cannot be enforced, with a warning each, and exit with 1
    ///
    /// What is denied or limited is never left out: less would be denied then.
    #[arg(long)]
    skip_refused: bool,
}

#[cfg(unix)]
#[derive(Debug, Args)]
struct KeygenArgs {
    /// The file to write, which must not exist
    key: PathBuf,
}

#[cfg(unix)]
#[derive(Debug, Args)]
struct SignArgs {
    /// A private key
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// A component binary
    wasm: PathBuf,
    /// Where to write the signature; by default beside the binary, with `.sig` at the end
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a signature that is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct NewArgs {
    /// The tool's name: [a-z][a-z0-9-]*, at most 64 characters
    name: String,
    /// What it is written in
    #[arg(long, value_enum)]
    lang: new::Language,
    /// The folder to make, or an empty one; else a folder of the tool's name
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct BindingsArgs {
    /// What the guest is written in, or can use
    #[arg(value_enum)]
    language: componentize::BindingsLanguage,
    /// A WIT file, or a folder of them with what they need in deps/
    wit: PathBuf,
    /// The folder to write to, made where there is none
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// The world, where there are several
    #[arg(long)]
    world: Option<String>,
}

#[derive(Debug, Args)]
struct ComponentizeArgs {
    /// A core module
    core: PathBuf,
    /// The component to write, or to replace
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
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

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Check every record, and tell what is wrong and where
    ///
    /// Exits with 0 where the log is whole and with 1 where it is not. Prints the first and the last
    /// record and the last one's tag.
    #[command(after_long_help = format!("{AUDIT_FINDINGS}\n\n{EXIT_CODES}"))]
    Verify(AuditArgs),

    /// Print the records, each a line
    ///
    /// Only what is proven is printed; what is wrong goes to standard error, and the exit code is 1
    /// then.
    #[command(after_long_help = EXIT_CODES)]
    Show(AuditShowArgs),

    /// Print the records that come from now on, until Ctrl-C
    #[command(after_long_help = EXIT_CODES)]
    Follow(AuditArgs),
}

#[derive(Debug, Args)]
struct AuditArgs {
    /// The directory of a log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Debug, Args)]
struct AuditShowArgs {
    /// The directory of a log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Only calls of this component
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// Only calls that were denied
    #[arg(long)]
    denied: bool,
    /// Only records of this number and later ones
    #[arg(long, value_name = "N", default_value_t = 0)]
    since: u64,
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

/// What a command that runs a tree begins with.
pub(crate) struct Prepared {
    tree: SystemConfig,
    door: Option<mcp::Door>,
}

impl Cli {
    /// What is logged where nobody asks for more. A demo's components come near their limits all the
    /// time, as they are to.
    pub(crate) fn least_logged(&self) -> &'static str {
        match self.command {
            Command::Demo(_) => "error",
            _ => "warn",
        }
    }

    /// Where this command's results go. Standard output of `mcp` is the protocol's.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.json && !matches!(self.command, Command::Mcp(_)))
    }

    /// Does what has to be done before the runtime starts its threads: reads the tree of a command
    /// that runs one, opens the door for its clients, and puts up its sandbox.
    pub(crate) fn prepare(&self, output: Output) -> Result<Option<Prepared>, CliError> {
        let mut door = None;
        let (file, beside, watch) = match &self.command {
            Command::Mcp(args) => {
                door = mcp::Door::open(args)?;
                (&args.file, None, false)
            }
            #[cfg(unix)]
            Command::Run(args) => (&args.file, args.status.as_deref(), args.watch),
            #[cfg(not(unix))]
            Command::Run(args) => (&args.file, None, args.watch),
            Command::Call(args) => (&args.file, None, false),
            _ => return Ok(None),
        };
        let tree = sandbox::enter(file, beside, watch, output)?;
        Ok(Some(Prepared { tree, door }))
    }

    /// Carries the command out, on the tree that was read for it.
    pub(crate) async fn run(
        self,
        prepared: Option<Prepared>,
        output: Output,
    ) -> Result<Exit, CliError> {
        let (tree, door) = match prepared {
            Some(Prepared { tree, door }) => (Some(tree), door),
            None => (None, None),
        };
        let read = |file: &Path| match tree {
            Some(tree) => Ok(tree),
            None => SystemConfig::load(file).map_err(ExpectedError::Config),
        };
        match self.command {
            Command::Run(args) => run::run(&args, read(&args.file)?, output).await,
            #[cfg(unix)]
            Command::Top(args) => top::top(&args, output).await,
            Command::Call(args) => call::call(&args, read(&args.file)?, output).await,
            Command::Mcp(args) => mcp::mcp(&args, read(&args.file)?, door, output).await,
            Command::Validate(args) => validate::validate(&args.files, output),
            Command::Explain(args) => explain::explain(args.key.as_deref(), output),
            Command::Inspect(args) if args.schema => inspect::schema(&args.wasm, output),
            Command::Inspect(args) => inspect::inspect(&args.wasm, output),
            Command::ImportPolicy(args) => import_policy::import_policy(&args, output),
            #[cfg(unix)]
            Command::Keygen(args) => sign::keygen(&args, output),
            #[cfg(unix)]
            Command::Sign(args) => sign::sign(&args, output),
            Command::New(args) => new::new(&args, output),
            Command::Bindings(args) => componentize::bindings(&args, output),
            Command::Componentize(args) => componentize::componentize(&args, output),
            Command::Audit(command) => audit::audit(&command, output).await,
            Command::Bench(args) => bench::bench(&args, output).await,
            Command::Demo(args) => demo::demo(&args, output, self.verbose > 0).await,
        }
    }
}
