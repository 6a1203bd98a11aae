//! What guests write to their standard streams: kept by the line and told, never the host's own.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::allowance::Allowance;
use super::gate::Gate;
use crate::config::ComponentName;
use crate::watch::CallEvent;

/// Longest line, in bytes; longer ones are cut into several.
pub const MAX_LINE_BYTES: usize = 4096;

/// Bytes that an instance may write to each of its streams in a second, and at once. What is more is
/// left out, and told by its number.
pub const OUTPUT_BYTES_PER_SECOND: u64 = 64 * 1024;

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStreamName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for OutputStreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// A line that a guest has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// The component.
    pub component: ComponentName,
    /// Which of its replicas, counted from 0.
    pub replica: u32,
    /// Which incarnation of that, counted from 1.
    pub generation: u64,
    /// Where it was written to.
    pub stream: OutputStreamName,
    /// The line, without its end; what is no UTF-8 is replaced. It may hold control characters.
    pub text: String,
    /// Bytes that were left out before it.
    pub left_out: u64,
}

/// One stream of one instance. Few guests write to it, so what that takes is made when one does.
#[derive(Debug)]
pub(super) struct Output {
    gate: Arc<Gate>,
    name: OutputStreamName,
    writer: OnceLock<Writer>,
}

/// All that a guest opens of one stream.
#[derive(Debug, Clone)]
struct Writer(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    gate: Arc<Gate>,
    stream: OutputStreamName,
    line: Vec<u8>,
    allowance: Allowance,
    left_out: u64,
}

impl Output {
    pub(super) fn new(gate: &Arc<Gate>, name: OutputStreamName) -> Self {
        Self {
            gate: Arc::clone(gate),
            name,
            writer: OnceLock::new(),
        }
    }

    fn writer(&self) -> Writer {
        let make = || {
            Writer(Arc::new(Mutex::new(Lines {
                gate: Arc::clone(&self.gate),
                stream: self.name,
                line: Vec::new(),
                allowance: Allowance::new(OUTPUT_BYTES_PER_SECOND),
                left_out: 0,
            })))
        };
        self.writer.get_or_init(make).clone()
    }
}

impl Writer {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn write(&mut self, bytes: &[u8]) {
        let taken = self.allowance.take(bytes.len() as u64, Instant::now());
        let taken = usize::try_from(taken).unwrap_or(usize::MAX);
        let (taken, rest) = bytes.split_at(taken.min(bytes.len()));
        for &byte in taken {
            if byte == b'\n' {
                self.end_line();
            } else {
                self.line.push(byte);
                if self.line.len() >= MAX_LINE_BYTES {
                    self.end_line();
                }
            }
        }
        self.left_out += rest.len() as u64;
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_suffix('\r').unwrap_or(&text).to_owned();
        let left_out = std::mem::take(&mut self.left_out);
        let caller = self.gate.caller();
        self.gate.tell(|| CallEvent::Line {
            stream: self.stream,
            text: text.clone(),
        });
        tracing::info!(
            target: "airssys::guest",
            component = %caller.component,
            replica = caller.replica,
            generation = caller.generation,
            stream = %self.stream,
            left_out,
            // Quoted: a guest's control characters are not the terminal's.
            line = ?text,
        );
        self.gate.reach().lines.send(OutputLine {
            component: caller.component.clone(),
            replica: caller.replica,
            generation: caller.generation,
            stream: self.stream,
            text,
            left_out,
        });
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.line.is_empty() || self.left_out > 0 {
            self.end_line();
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.writer())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.writer())
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.lines().write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_LINE_BYTES)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lines().write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
