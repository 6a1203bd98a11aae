//! `airssys demo`: the project's guests in a tree under load, and what came of it.

mod files;
mod live;
mod load;
mod summary;
mod tally;

use std::sync::Arc;
use std::time::{Duration, Instant};

use airssys::{Host, HostBuilder, SystemConfig};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::files::Files;
use self::summary::Summary;
use self::tally::Tally;
use super::error::{CliError, ExpectedError};
use super::interrupt::Interrupt;
use super::output::Output;
use super::{DemoArgs, Exit, start};

/// How long calls that are under way at the end may take. More than the spinner's time limit, and
/// more than a caller's patience.
const LAST_CALLS: Duration = Duration::from_secs(12);

/// How long the last events may take to be counted once the tree has ended.
const LAST_EVENTS: Duration = Duration::from_secs(1);

pub(super) async fn demo(args: &DemoArgs, output: Output, logs: bool) -> Result<Exit, CliError> {
    let files = Files::write(args.keep.as_deref())?;
    let config = SystemConfig::load(files.airssys_toml()).map_err(ExpectedError::Config)?;
    let mut interrupt = start::interrupt()?;
    let builder = HostBuilder::from(config);
    let tallies: Vec<Arc<Tally>> = airssys_guests::ALL
        .iter()
        .map(|guest| {
            let behaves = matches!(guest.name, "calculator" | "notebook");
            Arc::new(Tally::new(guest.name, behaves))
        })
        .collect();
    let watcher = tokio::spawn(tally::watch(builder.events(), tallies.clone()));
    let Some(host) = start::start(builder, "the demo", &mut interrupt, output).await? else {
        return Ok(output.interrupted());
    };

    let began = Instant::now();
    let whole = Duration::from_secs(args.seconds);
    let callers = Callers::start(&host, &tallies)?;
    // A log line in the middle of it would tear the table apart.
    let table = output.is_watched() && !logs;
    let interrupted = keep_up(&host, &tallies, whole, &mut interrupt, (output, table)).await;
    let elapsed = began.elapsed();
    callers.finish().await;
    host.shutdown().await;
    drop(host);
    let events_missed = tokio::time::timeout(LAST_EVENTS, watcher).await;
    let events_missed = events_missed.ok().and_then(Result::ok).unwrap_or(0);

    let summary = Summary::new(&tallies, elapsed, events_missed, interrupted);
    if output.is_json() {
        output.json(&summary)?;
    } else {
        output.line(&summary.text())?;
    }
    if args.keep.is_some() {
        let tree = files.airssys_toml();
        output.note(&format!(
            "its files are kept: airssys run {}",
            tree.display()
        ));
    }
    Ok(match (interrupted, summary.broken.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Ok,
        (false, false) => Exit::Failed,
    })
}

/// Shows the figures until the time is over, the tree is gone, or somebody has seen enough, which
/// is told.
async fn keep_up(
    host: &Host,
    tallies: &[Arc<Tally>],
    whole: Duration,
    interrupt: &mut Interrupt,
    (output, table): (Output, bool),
) -> bool {
    tokio::select! {
        () = tokio::time::sleep(whole) => false,
        () = live::show(tallies, output, table, whole) => false,
        _ = host.ended() => false,
        () = interrupt.asked() => true,
    }
}

/// Everybody who calls.
struct Callers {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Callers {
    fn start(host: &Host, tallies: &[Arc<Tally>]) -> Result<Self, CliError> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for tally in tallies {
            let component = host.component(tally.name)?;
            for caller in 0..load::CALLERS {
                let tally = Arc::clone(tally);
                let calls = load::call_on(component.clone(), tally, caller, stopped.clone());
                tasks.spawn(calls);
            }
        }
        Ok(Self { tasks, stop })
    }

    /// Makes no further call and waits for those under way; what has not ended by then stays open
    /// and is counted as lost.
    async fn finish(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_CALLS, all).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}
