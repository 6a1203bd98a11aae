//! `airssys run`: a tree until Ctrl-C, with what happens in it as lines.

use std::sync::Arc;
use std::time::Duration;

use airssys::{
    Change, EventStream, ExitCause, Host, HostBuilder, LifecycleEvent, LoadChange, LoadEvent,
    Received, SystemConfig,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::error::{CliError, Failure};
use super::output::{Output, printable};
use super::watch::Watch;
use super::{Exit, RunArgs, start};

/// How long the last events may take to be printed once the tree has ended.
const LAST_EVENTS: Duration = Duration::from_secs(1);

pub(super) async fn run(
    args: &RunArgs,
    config: SystemConfig,
    output: Output,
) -> Result<Exit, CliError> {
    let mut interrupt = start::interrupt()?;
    let socket = Socket::bind(args)?;
    let mut watch = match args.watch {
        true => Some(Watch::new(&args.file, &config, output)?),
        false => None,
    };
    let builder = HostBuilder::from(config);
    let (ready, is_ready) = oneshot::channel();
    let mut printer = tokio::spawn(print(builder.events(), builder.loads(), is_ready, output));
    let what = args.file.display().to_string();
    let host = match start::start(builder, &what, &mut interrupt, output).await {
        Ok(Some(host)) => host,
        Ok(None) => return Ok(output.interrupted()),
        Err(error) => {
            finish(printer).await?;
            return Err(error);
        }
    };
    // An error means that the printer has ended, which the next lines see.
    ready.send(host.components().len()).ok();
    let end = tokio::select! {
        cause = host.ended() => End::ByItself(cause),
        () = interrupt.asked() => End::Asked,
        () = socket.serve(&host) => End::Asked,
        Err(error) = follow(&mut watch, &host) => End::Unread(Err(error)),
        printed = &mut printer => End::Unread(printed.unwrap_or(Ok(()))),
    };
    drop(socket);
    if matches!(end, End::Asked) && !output.is_json() {
        output.note("stopping in reverse order; once more to end at once");
    }
    host.shutdown().await;
    drop(host);
    match end {
        End::Unread(printed) => printed?,
        End::Asked | End::ByItself(None) => finish(printer).await?,
        End::ByItself(Some(cause)) => {
            finish(printer).await?;
            return Err(Failure::GaveUp(cause).into());
        }
    }
    Ok(Exit::Ok)
}

async fn follow(watch: &mut Option<Watch>, host: &Host) -> Result<(), CliError> {
    match watch {
        Some(watch) => watch.follow(host).await,
        None => std::future::pending().await,
    }
}

/// Where viewers are answered, if anywhere.
#[cfg(unix)]
struct Socket(Option<super::status::StatusSocket>);

#[cfg(unix)]
impl Socket {
    fn bind(args: &RunArgs) -> Result<Self, CliError> {
        let path = args.status.as_deref();
        path.map(super::status::StatusSocket::bind)
            .transpose()
            .map(Self)
    }

    async fn serve(&self, host: &Host) {
        match &self.0 {
            Some(socket) => socket.serve(host).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(not(unix))]
struct Socket;

#[cfg(not(unix))]
impl Socket {
    fn bind(_: &RunArgs) -> Result<Self, CliError> {
        Ok(Self)
    }

    async fn serve(&self, _: &Host) {
        std::future::pending().await
    }
}

/// What a tree ran to.
enum End {
    /// All of it ended: the topmost supervisor gave up, or had nothing left to do.
    ByItself(Option<Arc<ExitCause>>),
    /// Somebody asked for it.
    Asked,
    /// Nobody reads the events any more.
    Unread(Result<(), CliError>),
}

/// Lets the printer come to the end of the stream.
async fn finish(printer: JoinHandle<Result<(), CliError>>) -> Result<(), CliError> {
    match tokio::time::timeout(LAST_EVENTS, printer).await {
        Ok(Ok(printed)) => printed,
        // It was cut short; what it printed stands.
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// Prints what happens, and once the tree has started, how many components run.
async fn print(
    mut events: EventStream,
    mut loads: EventStream<LoadEvent>,
    mut is_ready: oneshot::Receiver<usize>,
    output: Output,
) -> Result<(), CliError> {
    let mut told = false;
    loop {
        let received = tokio::select! {
            // Everything up to the end of the start comes before the word that it has ended.
            biased;
            Some(load) = loads.next() => {
                print_load(&load, output)?;
                continue;
            }
            received = events.next() => received,
            components = &mut is_ready, if !told => {
                told = true;
                if let Ok(components) = components {
                    print_ready(components, output)?;
                }
                continue;
            }
        };
        match received {
            None => return Ok(()),
            Some(Received::Event(event)) if output.is_json() => output.json(&event_json(&event))?,
            Some(Received::Event(event)) => output.note(&event_text(&event)),
            Some(Received::Lagged(lost)) if output.is_json() => {
                output.json(&json!({ "event": "lagged", "lost": lost }))?;
            }
            Some(Received::Lagged(lost)) => {
                output.note(&format!("({lost} events were not printed)"));
            }
        }
    }
}

fn print_load(received: &Received<LoadEvent>, output: Output) -> Result<(), CliError> {
    let Received::Event(LoadEvent { component, change }) = received else {
        return Ok(());
    };
    let (event, time, text) = match change {
        LoadChange::Began { bytes } => ("load-began", None, format!("loading {bytes} bytes")),
        LoadChange::Compiled { took } => {
            ("compiled", Some(took), format!("compiled in {took:.1?}"))
        }
        LoadChange::FromCache { took } => (
            "from-cache",
            Some(took),
            format!("from cache in {took:.1?}"),
        ),
        LoadChange::Shared { waited } => (
            "load-shared",
            Some(waited),
            String::from("shares the code of another"),
        ),
        LoadChange::CacheUnused { error } => {
            ("cache-unused", None, format!("cache not used: {error}"))
        }
        _ => return Ok(()),
    };
    if !output.is_json() {
        output.note(&printable(&format!("{component}: {text}")));
        return Ok(());
    }
    let mut line = json!({ "event": event, "component": component.to_string(), "message": text });
    if let (Some(object), Some(time)) = (line.as_object_mut(), time) {
        object.insert(String::from("took_us"), json!(time.as_micros() as u64));
    }
    output.json(&line)
}

fn print_ready(components: usize, output: Output) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(&json!({ "event": "ready", "components": components }));
    }
    output.note(&format!(
        "ready: {components} component(s) run; Ctrl-C stops them"
    ));
    Ok(())
}

fn event_text(event: &LifecycleEvent) -> String {
    let what = match &event.change {
        Change::Started { recovery: None } => String::from("started"),
        Change::Started {
            recovery: Some(time),
        } => format!("restarted after {time:?}"),
        Change::Exited { cause } => format!("ended: {cause}"),
        Change::StartFailed { cause } => format!("did not start: {cause}"),
        Change::Ignored => String::from("has nothing to run"),
        Change::BackedOff { delay } => format!("restarts in {} ms", delay.as_millis()),
        Change::Stopped => String::from("stays down"),
        Change::Quarantined { cause } => format!("{cause}"),
        Change::Readmitted => String::from("is out of quarantine"),
        Change::Upgraded { from, to } => format!("upgraded from {from} to {to}"),
        Change::RolledBack { cause } => {
            format!("rolled back, the new release ended in its probation: {cause}")
        }
        Change::NearLimit {
            current_bytes,
            limit_bytes,
            warn_percent,
        } => format!("holds {current_bytes} of {limit_bytes} bytes: {warn_percent} % or more"),
        Change::DeadLetter(letter) => format!(
            "`{}` is given up: {} instances ended over it",
            letter.message, letter.deaths
        ),
        Change::AutoShutdown => String::from("has ended, and its supervisor with it"),
        Change::Escalated { cause } => format!("gives up: {cause}"),
        other => format!("{other:?}"),
    };
    let what = printable(&what);
    format!(
        "{}/{} #{}: {what}",
        event.supervisor, event.child, event.generation
    )
}

fn event_json(event: &LifecycleEvent) -> Value {
    let (name, cause) = match &event.change {
        Change::Started { .. } => ("started", None),
        Change::Exited { cause } => ("exited", Some(cause)),
        Change::StartFailed { cause } => ("start-failed", Some(cause)),
        Change::Ignored => ("ignored", None),
        Change::BackedOff { .. } => ("backed-off", None),
        Change::Stopped => ("stopped", None),
        Change::Quarantined { cause } => ("quarantined", Some(cause)),
        Change::Readmitted => ("readmitted", None),
        Change::Upgraded { .. } => ("upgraded", None),
        Change::RolledBack { cause } => ("rolled-back", Some(cause)),
        Change::NearLimit { .. } => ("near-limit", None),
        Change::DeadLetter(_) => ("dead-letter", None),
        Change::AutoShutdown => ("auto-shutdown", None),
        Change::Escalated { cause } => ("escalated", Some(cause)),
        _ => ("other", None),
    };
    let mut line = json!({
        "event": name,
        "supervisor": event.supervisor.to_string(),
        "child": event.child.to_string(),
        "generation": event.generation,
    });
    let Some(object) = line.as_object_mut() else {
        return line;
    };
    if let Change::Started {
        recovery: Some(time),
    } = &event.change
    {
        object.insert(String::from("recovery_us"), json!(time.as_micros() as u64));
    }
    if let Change::NearLimit {
        current_bytes,
        limit_bytes,
        ..
    } = &event.change
    {
        object.insert(String::from("current_bytes"), json!(current_bytes));
        object.insert(String::from("limit_bytes"), json!(limit_bytes));
    }
    if let Some(cause) = cause {
        object.insert(String::from("cause"), json!(cause.kind().as_str()));
        object.insert(String::from("message"), json!(cause.to_string()));
    }
    line
}
