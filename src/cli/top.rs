//! `airssys top`: what a running host does, as a table that keeps itself up to date.

mod columns;
mod screen;
mod source;
mod view;

use std::io::{self, IsTerminal};
use std::time::Duration;

use airssys::Snapshot;

use super::error::{CliError, Failure};
use super::interrupt::Interrupt;
use super::output::Output;
use super::{Exit, TopArgs, start};
pub(crate) use view::Sort;

use screen::Screen;
use source::Source;
use view::{Table, View, Wish};

pub(super) async fn top(args: &TopArgs, output: Output) -> Result<Exit, CliError> {
    let mut interrupt = start::interrupt()?;
    let interval = Duration::from_millis(args.interval_ms);
    let mut source = Source::open(&args.socket, interval).await?;
    let view = View::new(args.sort, args.filter.clone().unwrap_or_default());
    if output.is_json() || args.once || !io::stdout().is_terminal() {
        return rows(args.once, &view, &mut source, &mut interrupt, output).await;
    }
    let mut screen = Screen::enter().map_err(|source| Failure::Output { source })?;
    let ended = watch(view, &mut source, &mut interrupt, &mut screen).await;
    drop(screen);
    if let Ended::ByHost = ended? {
        output.note("the host has ended");
    }
    Ok(Exit::Ok)
}

enum Ended {
    Asked,
    ByHost,
}

/// Writes every snapshot down: as JSON, or as the rows of a table.
async fn rows(
    once: bool,
    view: &View,
    source: &mut Source,
    interrupt: &mut Interrupt,
    output: Output,
) -> Result<Exit, CliError> {
    let mut before: Option<Snapshot> = None;
    loop {
        let snapshot = tokio::select! {
            snapshot = source.next() => snapshot?,
            () = interrupt.asked() => return Ok(Exit::Ok),
        };
        let Some(snapshot) = snapshot else {
            return Ok(Exit::Ok);
        };
        if output.is_json() {
            output.json(&snapshot)?;
        } else {
            let table = Table::new(&snapshot, before.as_ref(), view);
            output.line(&table.text())?;
        }
        if once {
            return Ok(Exit::Ok);
        }
        before = Some(snapshot);
    }
}

/// Keeps the screen up to date until somebody has seen enough or the host ends.
async fn watch(
    mut view: View,
    source: &mut Source,
    interrupt: &mut Interrupt,
    screen: &mut Screen,
) -> Result<Ended, CliError> {
    let mut before: Option<Snapshot> = None;
    let mut now: Option<Snapshot> = None;
    loop {
        tokio::select! {
            snapshot = source.next() => match snapshot? {
                Some(snapshot) => before = now.replace(snapshot),
                None => return Ok(Ended::ByHost),
            },
            key = screen.key() => match key {
                Some(key) => if view.press(key) == Wish::Leave {
                    return Ok(Ended::Asked);
                },
                None => return Ok(Ended::Asked),
            },
            () = interrupt.asked() => return Ok(Ended::Asked),
        }
        if let Some(now) = &now {
            let table = Table::new(now, before.as_ref(), &view);
            let (columns, rows) = screen.size();
            let lines = table.lines(&mut view, columns, rows);
            screen
                .draw(&lines)
                .map_err(|source| Failure::Output { source })?;
        }
    }
}
