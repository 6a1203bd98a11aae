//! `run --status PATH`: snapshots of the host on a unix socket.
//!
//! A client gets one snapshot as a line of JSON when it connects, and another for each line it
//! sends; what the line says does not matter. Nothing a client sends changes anything.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use airssys::Host;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::ReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::error::{CliError, ExpectedError, Failure};

/// Most clients at a time. Others are told so and let go.
pub(crate) const MAX_CLIENTS: usize = 8;

/// Least time between two snapshots for one client.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);

/// How long a client may take to read one snapshot.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// How long a client may be silent before it gives its place up.
const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// What one client too many reads instead of a snapshot.
const BUSY: &[u8] = b"{\"error\":\"busy\"}\n";

/// A socket that only its owner may connect to. Its file goes with it.
pub(crate) struct StatusSocket {
    path: PathBuf,
    /// Tells the file from one that somebody else has put in its place.
    inode: u64,
    owner: u32,
    listener: UnixListener,
}

impl StatusSocket {
    /// Listens at `path`. A socket that nobody listens at any more is replaced; nothing else is.
    pub(crate) fn bind(path: &Path) -> Result<Self, CliError> {
        let failed = |source| Failure::Status {
            path: path.to_path_buf(),
            source,
        };
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                // A host that lives is not to lose its socket.
                match std::os::unix::net::UnixStream::connect(path) {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        fs::remove_file(path).map_err(failed)?;
                    }
                    Ok(_) => return Err(taken(path)),
                    Err(error) => return Err(failed(error).into()),
                }
            }
            Ok(_) => return Err(taken(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error).into()),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let found = fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self {
            path: path.to_path_buf(),
            inode: found.ino(),
            owner: found.uid(),
            listener,
        })
    }

    /// Answers clients until it is dropped.
    pub(crate) async fn serve(&self, host: &Host) {
        let mut clients = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if !self.may_connect(&stream) => drop(stream),
                    Ok((stream, _)) if clients.len() == MAX_CLIENTS => {
                        // It fits the buffer of a new socket, or the client has gone.
                        stream.try_write(BUSY).ok();
                    }
                    Ok((stream, _)) => clients.push(answer(stream, host)),
                    // Out of file descriptors, most likely: they come back.
                    Err(_) => sleep(LEAST_INTERVAL).await,
                },
                Some(_) = clients.next(), if !clients.is_empty() => {}
            }
        }
    }

    /// Before its mode was set the file may have been open to others.
    fn may_connect(&self, stream: &UnixStream) -> bool {
        let peer = stream.peer_cred();
        peer.is_ok_and(|peer| peer.uid() == self.owner || peer.uid() == 0)
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours {
            fs::remove_file(&self.path).ok();
        }
    }
}

fn taken(path: &Path) -> CliError {
    ExpectedError::StatusTaken {
        path: path.to_path_buf(),
    }
    .into()
}

/// Serves one client until it goes, falls silent or stops reading.
async fn answer(mut stream: UnixStream, host: &Host) -> io::Result<()> {
    let (mut asked, mut told) = stream.split();
    loop {
        let mut line = serde_json::to_vec(&host.snapshot().await)?;
        line.push(b'\n');
        timeout(WRITE_LIMIT, told.write_all(&line)).await??;
        let next = Instant::now() + LEAST_INTERVAL;
        timeout(IDLE_LIMIT, read_line(&mut asked)).await??;
        sleep_until(next).await;
    }
}

/// Reads up to the end of a line, and beyond where more has come in already. Keeps nothing.
async fn read_line(asked: &mut ReadHalf<'_>) -> io::Result<()> {
    let mut heap = [0; 256];
    loop {
        match asked.read(&mut heap).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n if heap.iter().take(n).any(|byte| *byte == b'\n') => return Ok(()),
            _ => {}
        }
    }
}
