//! Where the view's snapshots come from: a host's socket, asked once an interval.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use airssys::{SNAPSHOT_SCHEMA, Snapshot};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::cli::error::{CliError, ExpectedError, Failure};

/// Most bytes of one snapshot: ten thousand components take a quarter of it.
const MAX_SNAPSHOT_BYTES: u64 = 128 * 1024 * 1024;

/// How long a host may take to answer. One that is still starting answers once it runs.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Asks in a task of its own, so that waiting for the next snapshot can be broken off at any time.
pub(super) struct Source {
    snapshots: mpsc::Receiver<Result<Snapshot, CliError>>,
    asking: JoinHandle<()>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Enough of a snapshot to see whether the rest can be read.
#[derive(Deserialize)]
struct Shape {
    schema: u32,
}

impl Source {
    pub(super) async fn open(path: &Path, interval: Duration) -> Result<Self, CliError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| ExpectedError::NoHost {
                path: path.to_path_buf(),
                source,
            })?;
        let (tell, snapshots) = mpsc::channel(1);
        let path = path.to_path_buf();
        let asking = tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            loop {
                let next = Instant::now() + interval;
                let (snapshot, last) = match read(&mut stream, &path).await {
                    Ok(Some(snapshot)) => (Ok(snapshot), false),
                    Ok(None) => return,
                    Err(error) => (Err(error), true),
                };
                if tell.send(snapshot).await.is_err() || last {
                    return;
                }
                sleep_until(next).await;
                if stream.write_all(b"\n").await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { snapshots, asking })
    }

    /// The next snapshot; `None` once the host has gone. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Snapshot>, CliError> {
        self.snapshots.recv().await.transpose()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

async fn read(
    stream: &mut BufReader<UnixStream>,
    path: &Path,
) -> Result<Option<Snapshot>, CliError> {
    let lost = |source| {
        CliError::from(Failure::Status {
            path: PathBuf::from(path),
            source,
        })
    };
    let mut line = Vec::new();
    let mut bounded = stream.take(MAX_SNAPSHOT_BYTES);
    let reading = bounded.read_until(b'\n', &mut line);
    match timeout(ANSWER_LIMIT, reading).await {
        Ok(Ok(_)) => {}
        // It was killed with the line under way.
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Ok(Err(error)) => return Err(lost(error)),
        Err(_) => return Err(lost(io::ErrorKind::TimedOut.into())),
    }
    if line.is_empty() {
        return Ok(None);
    }
    if let Ok(Refusal { error }) = serde_json::from_slice(&line) {
        return Err(lost(io::Error::other(error)));
    }
    let other = |reason| {
        CliError::from(ExpectedError::NoSnapshot {
            path: PathBuf::from(path),
            reason,
        })
    };
    let Shape { schema } = serde_json::from_slice(&line).map_err(|error| other(Some(error)))?;
    if schema != SNAPSHOT_SCHEMA {
        return Err(other(None));
    }
    let snapshot = serde_json::from_slice(&line).map_err(|error| other(Some(error)))?;
    Ok(Some(snapshot))
}
