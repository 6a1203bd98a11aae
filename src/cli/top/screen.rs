//! The terminal while the view has it: taken whole, and given back whatever happens.

use std::io::{self, Write};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{execute, queue};
use tokio::sync::mpsc;

/// How long the thread that reads keys goes without looking whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Keys that wait to be taken; more are dropped.
const KEYS: usize = 64;

/// A line to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) weight: Weight,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Plain,
    Bold,
    Reverse,
}

/// The terminal in raw mode, on its second screen. Given back when dropped, and by a panic.
pub(super) struct Screen {
    keys: mpsc::Receiver<Option<KeyEvent>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
        let (tell, keys) = mpsc::channel(KEYS);
        let stop = Arc::new(AtomicBool::new(false));
        let mut screen = Self {
            keys,
            stop: Arc::clone(&stop),
            reader: None,
        };
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        let reader = std::thread::Builder::new().name(String::from("airssys-keys"));
        screen.reader = Some(reader.spawn(move || read_keys(&stop, &tell))?);
        Ok(screen)
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        size().map_or((80, 24), |(columns, rows)| (columns.into(), rows.into()))
    }

    /// The next key, or `Some(None)` where the size has changed; `None` once there is no keyboard
    /// any more. Cancel-safe.
    pub(super) async fn key(&mut self) -> Option<Option<KeyEvent>> {
        self.keys.recv().await
    }

    /// Draws lines that fit.
    pub(super) fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        for (row, line) in (0..).zip(lines) {
            queue!(out, MoveTo(0, row))?;
            match line.weight {
                Weight::Plain => queue!(out, Print(&line.text))?,
                Weight::Bold => draw_with(&mut out, Attribute::Bold, &line.text)?,
                Weight::Reverse => draw_with(&mut out, Attribute::Reverse, &line.text)?,
            }
            // A line that ends in the last column leaves nothing behind it to be cleared.
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
        give_back();
    }
}

fn draw_with(out: &mut impl Write, attribute: Attribute, text: &str) -> io::Result<()> {
    queue!(
        out,
        SetAttribute(attribute),
        Print(text),
        SetAttribute(Attribute::Reset)
    )
}

fn give_back() {
    // A terminal that is gone needs nothing back.
    execute!(io::stdout(), Show, LeaveAlternateScreen).ok();
    disable_raw_mode().ok();
}

fn read_keys(stop: &AtomicBool, tell: &mpsc::Sender<Option<KeyEvent>>) {
    while !stop.load(Ordering::Relaxed) {
        let told = match event::poll(LOOK).and_then(|any| any.then(event::read).transpose()) {
            Ok(None) => continue,
            Ok(Some(Event::Key(key))) if key.kind == KeyEventKind::Press => Some(key),
            Ok(Some(Event::Resize(..))) => None,
            Ok(Some(_)) => continue,
            Err(_) => return,
        };
        if let Err(mpsc::error::TrySendError::Closed(_)) = tell.try_send(told) {
            return;
        }
    }
}
