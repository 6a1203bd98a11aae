//! The figures while the demo runs: a table that redraws on a terminal, plain lines elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::summary::{Row, header};
use super::tally::Tally;
use crate::cli::output::Output;

/// Time between two drawings of the table.
const REDRAW: Duration = Duration::from_millis(250);

/// Time between two plain lines.
const LINE: Duration = Duration::from_secs(1);

/// Draws until it is dropped.
pub(super) async fn show(tallies: &[Arc<Tally>], output: Output, table: bool, whole: Duration) {
    if table {
        draw_table(tallies, whole).await;
    } else {
        print_lines(tallies, output, whole).await;
    }
}

async fn draw_table(tallies: &[Arc<Tally>], whole: Duration) {
    let table = Table::new(tallies.len());
    let began = Instant::now();
    let mut tick = tokio::time::interval(REDRAW);
    loop {
        tick.tick().await;
        table.draw(tallies, began.elapsed(), whole);
    }
}

async fn print_lines(tallies: &[Arc<Tally>], output: Output, whole: Duration) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(LINE);
    tick.tick().await;
    loop {
        tick.tick().await;
        let rows: Vec<Row> = tallies.iter().map(|tally| Row::of(tally, false)).collect();
        let sum = |figure: fn(&Row) -> u64| rows.iter().map(figure).sum::<u64>();
        output.note(&format!(
            "demo: {} of {} s: {} calls, {} answered, {} failed, {} lost, {} restarts",
            began.elapsed().as_secs(),
            whole.as_secs(),
            sum(|row| row.calls),
            sum(|row| row.answered),
            sum(|row| row.failed),
            sum(|row| row.lost),
            sum(|row| row.restarts.values().sum()),
        ));
    }
}

/// Lines on a terminal that are cleared when this is dropped.
struct Table {
    screen: MultiProgress,
    title: ProgressBar,
    rows: Vec<ProgressBar>,
}

impl Table {
    fn new(rows: usize) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let line = || {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            screen.add(bar)
        };
        let title = line();
        line().set_message(header());
        let rows = (0..rows).map(|_| line()).collect();
        Self {
            title,
            rows,
            screen,
        }
    }

    fn draw(&self, tallies: &[Arc<Tally>], elapsed: Duration, whole: Duration) {
        self.title.set_message(format!(
            "{:.1} of {} s; Ctrl-C ends it early",
            elapsed.as_secs_f64(),
            whole.as_secs()
        ));
        for (line, tally) in self.rows.iter().zip(tallies) {
            line.set_message(Row::of(tally, false).text());
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // A terminal that is gone needs no clearing.
        self.screen.clear().ok();
        // Each line would draw the others once more when it goes.
        self.screen.set_draw_target(ProgressDrawTarget::hidden());
    }
}
