//! What a command ends with when it does not end well: a mistake of the user's, or a failure.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use airssys::config::ConfigFile;
use airssys::json::JsonError;
use airssys::mcp::{ServeError, TokenError};
use airssys::{
    AuditError, ConfigErrors, CountsConfig, ExitCause, FunctionError, HostError, TooMany, WasmError,
};
use airssys_componentize::{BindingsError, ComponentizeError};
use serde_json::{Value, json};

use super::import_policy::{PolicyError, Refusal};
use super::{Exit, report};

/// Why a command did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line or a file is wrong.
    #[error(transparent)]
    Expected(#[from] ExpectedError),
    /// The command was in order and failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A mistake the user can mend. Nothing was run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExpectedError {
    /// Files break rules.
    #[error(transparent)]
    Config(ConfigErrors),
    /// The tree does not hold together.
    #[error(transparent)]
    Tree(HostError),
    /// `AIRSSYS_LOG` is no filter.
    #[error("AIRSSYS_LOG=\"{wish}\" is no log filter: {source}")]
    LogFilter {
        wish: String,
        source: tracing_subscriber::filter::ParseError,
    },
    /// No component of that name in the file.
    #[error("no component `{name}` in {}; there are: {}", file.display(), known.join(", "))]
    UnknownComponent {
        name: String,
        file: PathBuf,
        known: Vec<String>,
    },
    /// No function of that name, or several.
    #[error("{component}: {source}")]
    Function {
        component: String,
        source: FunctionError,
    },
    /// Too few or too many arguments.
    #[error("`{function}` takes {expected} arguments, got {found}")]
    Arity {
        function: String,
        expected: usize,
        found: usize,
        signature: String,
    },
    /// An argument that is no WAVE value of the parameter's type.
    #[error("argument {position} (`{parameter}`): `{given}` is no {expected}: {source}")]
    Argument {
        position: usize,
        parameter: String,
        given: String,
        expected: String,
        example: String,
        source: Box<dyn Error + Send + Sync>,
    },
    /// `--input` is no JSON object.
    #[error("--input is no JSON object{}", source.as_ref().map_or(String::new(), |e| format!(": {e}")))]
    NotAnObject { source: Option<serde_json::Error> },
    /// `--input -`, and standard input cannot be read.
    #[error("cannot read standard input: {source}")]
    NoInput { source: io::Error },
    /// `--input` does not fit the function.
    #[error("--input: {source}")]
    Input {
        source: JsonError,
        signature: String,
    },
    /// No key of that name.
    #[error("no configuration key `{key}`")]
    UnknownKey { key: String, nearest: Vec<String> },
    /// A tail that several keys share.
    #[error("`{key}` is the end of several keys")]
    AmbiguousKey {
        key: String,
        candidates: Vec<(ConfigFile, String)>,
    },
    /// A binary that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// Not a file, or too large for one that holds a component.
    #[error("{} is not a regular file of at most {limit_bytes} bytes", path.display())]
    Unfit { path: PathBuf, limit_bytes: u64 },
    /// A core module where a component is asked for.
    #[error("{} is a core WebAssembly module, not a component", path.display())]
    CoreModule { path: PathBuf },
    /// Not WebAssembly.
    #[error("{} is not a WebAssembly binary", path.display())]
    NotWasm { path: PathBuf },
    /// WebAssembly, but damaged.
    #[error("{} is not a valid component: {reason:#}", path.display())]
    NotValid {
        path: PathBuf,
        reason: Box<dyn Error + Send + Sync>,
    },
    /// Not UTF-8.
    #[error("{} is not text", path.display())]
    NotText { path: PathBuf },
    /// A file whose own name does not do for a component's.
    #[error("`{wish}` cannot be a component's name: {source}")]
    NoName {
        wish: String,
        source: airssys::config::NameError,
    },
    /// Rules of a policy that nothing would hold a component to.
    #[error(transparent)]
    Policy(PolicyError),
    /// `--status` names something that is in use.
    #[error("{} is there already, and is not a socket that was left behind", path.display())]
    StatusTaken { path: PathBuf },
    /// Nobody listens at a socket.
    #[error("no host answers at {}: {source}", path.display())]
    NoHost { path: PathBuf, source: io::Error },
    /// What answers is not a host of this version.
    #[error("what {} tells is no snapshot of this version", path.display())]
    NoSnapshot {
        path: PathBuf,
        #[source]
        reason: Option<serde_json::Error>,
    },
    /// No audit log there, or none that this user may read.
    #[error(transparent)]
    NoAudit(AuditError),
    /// No token where one is named.
    #[error("no token: {0}")]
    Token(TokenError),
    /// An address that others than this machine reach.
    #[error("{address} is no loopback address: that needs --beyond-loopback and a token")]
    BeyondLoopback { address: SocketAddr },
    /// A file that would be overwritten.
    #[error("{} is there already", path.display())]
    Exists { path: PathBuf },
    /// Not a private key.
    #[error("{} is no private Ed25519 key in PKCS#8", path.display())]
    NoKey { path: PathBuf },
    /// Not a name that a component may have.
    #[error("`{name}`: {source}")]
    Name {
        name: String,
        source: airssys_wasm::config::NameError,
    },
    /// WIT that there can be no bindings of.
    #[error(transparent)]
    Bindings(BindingsError),
    /// A core module that is none, or was not linked with its bindings.
    #[error("{}: {source}", path.display())]
    Componentize {
        path: PathBuf,
        source: ComponentizeError,
    },
    /// A folder that is to be written is in use.
    #[error("{} is not empty", path.display())]
    NotEmpty { path: PathBuf },
}

/// Something in order that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The sandbox is not what the file asks for.
    #[error("{0}")]
    Sandbox(airssys_osl::SandboxError),
    /// A directory of the host's own could not be made.
    #[error("cannot make {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    /// The tree did not start.
    #[error("{0}")]
    Start(HostError),
    /// The tree gave up.
    #[error("the tree ended: {0}")]
    GaveUp(std::sync::Arc<ExitCause>),
    /// The call got no result.
    #[error(transparent)]
    Call(WasmError),
    /// The result cannot be written down.
    #[error("the result cannot be written as WAVE: {source}")]
    Wave {
        source: Box<dyn Error + Send + Sync>,
    },
    /// Standard output is gone.
    #[error("cannot write to standard output: {source}")]
    Output { source: io::Error },
    /// A result that is no JSON: a defect of this program.
    #[error("cannot write the result as JSON: {source}")]
    Json { source: serde_json::Error },
    /// A measurement did not come about.
    #[error("cannot measure: {source}")]
    Bench {
        source: Box<dyn Error + Send + Sync>,
    },
    /// The component's interface cannot be printed.
    #[error("cannot print the interface of {}: {reason:#}", path.display())]
    Print {
        path: PathBuf,
        reason: Box<dyn Error + Send + Sync>,
    },
    /// The operating system has no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Files { path: PathBuf, source: io::Error },
    /// A socket that cannot be made, or that fell silent.
    #[error("the status socket {}: {source}", path.display())]
    Status { path: PathBuf, source: io::Error },
    /// An audit log that is not what the host wrote.
    #[error("the audit log in {} is not whole: {findings} finding(s)", path.display())]
    Audit { path: PathBuf, findings: u64 },
    /// An audit log that cannot be read any more.
    #[error(transparent)]
    AuditRead(AuditError),
    /// An address that cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    /// A listener that the runtime does not take.
    #[error("cannot serve: {source}")]
    Serve { source: io::Error },
    /// Clients are not served.
    #[error(transparent)]
    Mcp(ServeError),
    /// The operating system refuses to tell about changes of files.
    #[error("cannot watch {}: {source}", path.display())]
    Watch {
        path: PathBuf,
        source: notify::Error,
    },
    /// The operating system refuses to tell about signals.
    #[error("cannot listen for Ctrl-C: {source}")]
    Signals { source: io::Error },
}

impl From<HostError> for CliError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Config(errors) => ExpectedError::Config(errors).into(),
            HostError::Engine(_) | HostError::Start(_) | HostError::Audit(_) => {
                Failure::Start(error).into()
            }
            other => ExpectedError::Tree(other).into(),
        }
    }
}

impl CliError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Expected(_) => Exit::Usage,
            Self::Failed(_) => Exit::Failed,
        }
    }

    /// What to do about it, where that is known.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::Expected(error) => error.help(),
            Self::Failed(Failure::GaveUp(_)) => Some(String::from(
                "`airssys explain supervisor.intensity` says how many restarts a supervisor allows",
            )),
            Self::Failed(Failure::Call(error)) => limit_key(error).map(|key| {
                format!("if the component needs more, raise {key}: `airssys explain {key}`")
            }),
            Self::Failed(Failure::Start(HostError::Audit(AuditError::Damaged {
                path, ..
            }))) => {
                let path = path.display();
                Some(format!(
                    "`airssys audit verify {path}` tells all; move the directory away to begin anew"
                ))
            }
            Self::Failed(Failure::Audit { path, .. }) => Some(format!(
                "`airssys audit show {}` prints what is proven",
                path.display()
            )),
            Self::Failed(_) => None,
        }
    }

    /// The error as an object.
    pub(crate) fn json(&self) -> Value {
        let mut object = json!({ "kind": self.kind(), "message": self.to_string() });
        let facts = match self {
            Self::Failed(Failure::Call(WasmError::OutOfMemory {
                limit_bytes,
                current_bytes,
                requested_bytes,
                peak_bytes,
                ..
            })) => json!({
                "limit_bytes": limit_bytes,
                "current_bytes": current_bytes,
                "requested_bytes": requested_bytes,
                "peak_bytes": peak_bytes,
            }),
            Self::Expected(ExpectedError::Config(errors)) => {
                json!({ "files": report::files_json(&errors.0) })
            }
            Self::Expected(ExpectedError::Policy(error)) => {
                json!({ "refused": error.refusals.iter().map(Refusal::json).collect::<Vec<_>>() })
            }
            _ => Value::Null,
        };
        if let (Some(object), Value::Object(facts)) = (object.as_object_mut(), facts) {
            object.extend(facts);
        }
        object
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Expected(ExpectedError::Config(_) | ExpectedError::Tree(_)) => "configuration",
            Self::Expected(ExpectedError::Policy(_)) => "policy",
            Self::Expected(_) => "usage",
            Self::Failed(Failure::Start(_)) => "start",
            Self::Failed(Failure::GaveUp(cause)) => cause.kind().as_str(),
            Self::Failed(Failure::Call(error)) => call_kind(error),
            Self::Failed(Failure::Files { .. }) => "files",
            Self::Failed(Failure::Audit { .. } | Failure::AuditRead(_)) => "audit",
            Self::Failed(_) => "internal",
        }
    }
}

impl ExpectedError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Arity { signature, .. } | Self::Input { signature, .. } => {
                Some(signature.clone())
            }
            Self::NotAnObject { .. } => Some(String::from(
                "write, for example: --input '{\"x\": 2, \"y\": 3}'; `airssys inspect WASM --schema` \
                 says what a function takes",
            )),
            Self::Argument { example, .. } => Some(format!("write, for example: {example}")),
            Self::UnknownKey { nearest, .. } if nearest.is_empty() => {
                Some(String::from("`airssys explain` lists all keys"))
            }
            Self::UnknownKey { nearest, .. } => {
                Some(format!("did you mean {}?", nearest.join(" or ")))
            }
            Self::AmbiguousKey { candidates, .. } => {
                let names: Vec<String> = candidates
                    .iter()
                    .map(|(file, name)| format!("{file}:{name}"))
                    .collect();
                Some(format!("write one of: {}", names.join(", ")))
            }
            Self::CoreModule { .. } => Some(String::from(
                "build it for the target wasm32-wasip2, or make a component of what was linked with \
                 its bindings: `airssys componentize MODULE -o COMPONENT`",
            )),
            Self::Componentize { .. } => Some(String::from(
                "link it with the object file that `airssys bindings c` writes, as a reactor: \
                 -mexec-model=reactor",
            )),
            Self::NotWasm { .. } => Some(String::from(
                "name the .wasm file; text (.wat) has to be assembled first: `wasm-tools parse`",
            )),
            Self::NoHost { .. } => Some(String::from(
                "start one that answers: `airssys run FILE --status SOCKET`",
            )),
            Self::BeyondLoopback { .. } | Self::Token(TokenError::Unfit) => Some(String::from(
                "make a token of the owner's alone: `(umask 077; openssl rand -hex 32 > token)`, and \
                 name it by --token-file",
            )),
            Self::NoAudit(AuditError::Missing { .. } | AuditError::KeyMissing { .. }) => {
                Some(String::from(
                    "name the directory that `audit.directory` names: `airssys explain audit.directory`",
                ))
            }
            Self::Exists { .. } => Some(String::from(
                "name another file; nothing is overwritten unless --force says so",
            )),
            Self::NoName { .. } => Some(String::from("name the component: --name NAME")),
            Self::NoKey { .. } => Some(String::from("`airssys keygen KEY` makes one")),
            Self::NotEmpty { .. } => Some(String::from(
                "name an empty folder or one that does not exist; nothing is overwritten",
            )),
            _ => None,
        }
    }
}

/// The key of the limit that the call ran into.
fn limit_key(error: &WasmError) -> Option<&'static str> {
    match error {
        WasmError::OutOfMemory { .. } => Some("resources.memory.max_bytes"),
        WasmError::NoWaitingRoom { .. } => Some("resources.message.max_waiting_bytes"),
        WasmError::Exited { cause, .. } => match **cause {
            ExitCause::Deadline { .. } => Some("resources.cpu.timeout_seconds"),
            ExitCause::OutOfFuel { .. } => Some("resources.cpu.max_fuel"),
            ExitCause::TooMany(TooMany { what, .. }) => Some(CountsConfig::key(what)),
            _ => None,
        },
        _ => None,
    }
}

/// The word for an error of a call: the exit's own where the instance ended.
fn call_kind(error: &WasmError) -> &'static str {
    match error {
        WasmError::OutOfMemory { .. } => "oom",
        WasmError::Exited { cause, .. } => cause.kind().as_str(),
        WasmError::MailboxFull { .. } => "mailbox-full",
        WasmError::NoWaitingRoom { .. } => "no-waiting-room",
        WasmError::Stopped { .. } => "stopped",
        WasmError::Expired { .. } => "expired",
        WasmError::NotStarted { .. } => "not-started",
        WasmError::Function { .. } => "function",
        WasmError::Arguments { .. } | WasmError::Json { .. } => "arguments",
        WasmError::Results { .. } => "results",
        WasmError::Damaged { .. } => "damaged",
        WasmError::OtherLevel { .. } => "other-level",
        WasmError::Undecodable { .. } => "undecodable",
        _ => "other",
    }
}
