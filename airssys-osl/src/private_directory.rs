//! A directory that nobody else can read or write: files come and go in it as wholes.
//!
//! Guarantees: every file is reached through the directory that was checked, whatever its path
//! leads to later; a file is there whole or not at all, also after a kill in the middle of a write.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, flock, fstat, fsync, linkat, openat, renameat, statat, unlinkat,
    utimensat,
};
use rustix::process::geteuid;

/// How the name of a file begins that is still being written.
const UNFINISHED: &str = ".tmp-";

/// How often a file is begun anew that others have removed before it was locked.
const BEGINNINGS: u32 = 1_000;

/// Why a private directory, or a file in one, is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateError {
    /// It is a symbolic link, or something else than was asked for.
    #[error("{} is not a {wanted}", path.display())]
    WrongKind {
        /// Where.
        path: PathBuf,
        /// `directory` or `regular file`.
        wanted: &'static str,
    },
    /// It belongs to another user.
    #[error("{} belongs to user {owner}, not to {user}", path.display())]
    ForeignOwner {
        /// Where.
        path: PathBuf,
        /// Its owner's id.
        owner: u32,
        /// The id this process acts under.
        user: u32,
    },
    /// Others may read or write it.
    #[error("{} is open to others: its mode is {mode:o}", path.display())]
    OpenToOthers {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is larger than what the caller accepts.
    #[error("{} is larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// Where.
        path: PathBuf,
        /// Most bytes the caller accepts.
        limit_bytes: u64,
    },
    /// A name that leads out of the directory, or begins with a dot.
    #[error("`{name}` is no name of a file in a private directory")]
    Name {
        /// The name asked for.
        name: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A directory of mode 0700 that belongs to the user this process acts under, held open.
#[derive(Debug)]
pub struct PrivateDirectory {
    directory: OwnedFd,
    path: PathBuf,
}

/// A file of a private directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was written or last touched: seconds and nanoseconds, for comparing only.
    pub touched: (i64, i64),
}

impl PrivateDirectory {
    /// Opens the directory, made with mode 0700 where there is none, and its missing parents too.
    /// What unfinished writes have left behind is removed. Parents may be symbolic links, the
    /// directory itself may not.
    ///
    /// # Errors
    /// [`PrivateError`].
    pub fn open(path: &Path) -> Result<Self, PrivateError> {
        // Without a slash at its end, which would follow a link.
        let path: PathBuf = path.components().collect();
        let failed = |source: io::Error| PrivateError::Io {
            path: path.clone(),
            source,
        };
        match DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            // A link to nowhere, or a file: the opening tells.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(CWD, &path, flags, Mode::empty()).map_err(|error| match error {
            rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP => PrivateError::WrongKind {
                path: path.clone(),
                wanted: "directory",
            },
            other => failed(other.into()),
        })?;
        let found = fstat(&directory).map_err(|error| failed(error.into()))?;
        check(&path, &found, FileType::Directory)?;
        let opened = Self { directory, path };
        opened.remove_unfinished()?;
        Ok(opened)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole of a file of at most `limit_bytes` bytes; `None` where there is none.
    ///
    /// # Errors
    /// [`PrivateError`]; the file's owner and mode are held to the same as the directory's.
    pub fn read(&self, name: &str, limit_bytes: u64) -> Result<Option<Vec<u8>>, PrivateError> {
        let Some(opened) = self.open_file(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        opened
            .take(limit_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| self.failed(name, error))?;
        if bytes.len() as u64 > limit_bytes {
            let path = self.path.join(name);
            return Err(PrivateError::TooLarge { path, limit_bytes });
        }
        Ok(Some(bytes))
    }

    /// A file, open for reading; `None` where there is none.
    ///
    /// # Errors
    /// As [`PrivateDirectory::read`].
    pub fn open_file(&self, name: &str) -> Result<Option<File>, PrivateError> {
        self.opened(name, OFlags::RDONLY)
    }

    /// A file, open for reading and writing, made where there is none.
    ///
    /// # Errors
    /// As [`PrivateDirectory::read`].
    pub fn open_or_create(&self, name: &str) -> Result<File, PrivateError> {
        let file = self.opened(name, OFlags::RDWR | OFlags::CREATE)?;
        file.ok_or_else(|| self.failed(name, io::ErrorKind::NotFound.into()))
    }

    fn opened(&self, name: &str, access: OFlags) -> Result<Option<File>, PrivateError> {
        let path = self.named(name)?;
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(opened) => opened,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP) => {
                return Err(PrivateError::WrongKind {
                    path,
                    wanted: "regular file",
                });
            }
            Err(error) => return Err(self.failed(name, error.into())),
        };
        let found = fstat(&opened).map_err(|error| self.failed(name, error.into()))?;
        check(&path, &found, FileType::RegularFile)?;
        Ok(Some(File::from(opened)))
    }

    /// Writes a file, in place of one of that name. Readers see the old one or the new one. The
    /// file is on the disk before it has its name.
    ///
    /// # Errors
    /// [`PrivateError`]; nothing is left of the attempt.
    pub fn replace(&self, name: &str, parts: &[&[u8]]) -> Result<(), PrivateError> {
        self.named(name)?;
        let unfinished = self.write(parts)?;
        renameat(&self.directory, &unfinished.name, &self.directory, name)
            .map_err(|error| self.failed(name, error.into()))?;
        self.sync(name)
    }

    /// Writes a file unless there is one of that name; whether it did.
    ///
    /// # Errors
    /// [`PrivateError`]; nothing is left of the attempt.
    pub fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, PrivateError> {
        self.named(name)?;
        let unfinished = self.write(&[bytes])?;
        let linked = linkat(
            &self.directory,
            &unfinished.name,
            &self.directory,
            name,
            AtFlags::empty(),
        );
        match linked {
            Ok(()) => self.sync(name).map(|()| true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(self.failed(name, error.into())),
        }
    }

    /// A file to read and write in place, made with mode 0600 where there is none.
    ///
    /// # Errors
    /// [`PrivateError`]; the file's owner and mode are held to the same as the directory's.
    pub(crate) fn open_in_place(&self, name: &str) -> Result<File, PrivateError> {
        let path = self.named(name)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(opened) => opened,
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::ISDIR) => {
                return Err(PrivateError::WrongKind {
                    path,
                    wanted: "regular file",
                });
            }
            Err(error) => return Err(self.failed(name, error.into())),
        };
        let found = fstat(&opened).map_err(|error| self.failed(name, error.into()))?;
        check(&path, &found, FileType::RegularFile)?;
        self.sync(name)?;
        Ok(File::from(opened))
    }

    /// Notes that a file was used now.
    ///
    /// # Errors
    /// [`PrivateError`].
    pub fn touch(&self, name: &str) -> Result<(), PrivateError> {
        self.named(name)?;
        let at = |nanoseconds| Timespec {
            tv_sec: 0,
            tv_nsec: nanoseconds,
        };
        let times = Timestamps {
            last_access: at(UTIME_OMIT),
            last_modification: at(UTIME_NOW),
        };
        utimensat(&self.directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.failed(name, error.into()))
    }

    /// Removes a file; whether there was one.
    ///
    /// # Errors
    /// [`PrivateError`].
    pub fn remove(&self, name: &str) -> Result<bool, PrivateError> {
        self.named(name)?;
        self.unlink(name)
    }

    /// The regular files in it, in no order; those still being written are left out.
    ///
    /// # Errors
    /// [`PrivateError`].
    pub fn files(&self) -> Result<Vec<PrivateFile>, PrivateError> {
        let mut files = Vec::new();
        for name in self.names()? {
            if name.starts_with('.') {
                continue;
            }
            match statat(&self.directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => {
                    #[allow(
                        clippy::unnecessary_cast,
                        clippy::cast_possible_wrap,
                        reason = "the types of these fields differ between systems"
                    )]
                    files.push(PrivateFile {
                        name,
                        bytes: u64::try_from(found.st_size).unwrap_or(0),
                        touched: (found.st_mtime as i64, found.st_mtime_nsec as i64),
                    });
                }
                // Gone meanwhile, or nothing of ours.
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(self.failed(&name, error.into())),
            }
        }
        Ok(files)
    }

    /// Removes what writers have left that were ended in the middle: a writer holds a lock on its
    /// file for as long as it lives.
    fn remove_unfinished(&self) -> Result<(), PrivateError> {
        for name in self.names()? {
            if !name.starts_with(UNFINISHED) {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(file) = openat(&self.directory, &name, flags, Mode::empty()) else {
                continue;
            };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                self.unlink(&name)?;
            }
        }
        Ok(())
    }

    fn write(&self, parts: &[&[u8]]) -> Result<Unfinished<'_>, PrivateError> {
        let unfinished = self.begin()?;
        let failed = |error: io::Error| self.failed(&unfinished.name, error);
        for part in parts {
            (&unfinished.file).write_all(part).map_err(failed)?;
        }
        fsync(&unfinished.file).map_err(|error| failed(error.into()))?;
        Ok(unfinished)
    }

    /// A new file under a lock. Whoever opens the directory between its making and its locking
    /// takes it for left behind and removes it; then the next one is made.
    fn begin(&self) -> Result<Unfinished<'_>, PrivateError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        for _ in 0..BEGINNINGS {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{UNFINISHED}{}-{count}", std::process::id());
            let failed = |error: rustix::io::Errno| self.failed(&name, error.into());
            let file =
                openat(&self.directory, &name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
            let is_there = match locked {
                Ok(()) => fstat(&file).map_err(failed)?.st_nlink > 0,
                Err(rustix::io::Errno::WOULDBLOCK) => false,
                Err(error) => return Err(failed(error)),
            };
            if is_there {
                return Ok(Unfinished {
                    within: self,
                    name,
                    file: File::from(file),
                });
            }
        }
        Err(self.failed("", io::ErrorKind::ResourceBusy.into()))
    }

    fn sync(&self, name: &str) -> Result<(), PrivateError> {
        fsync(&self.directory).map_err(|error| self.failed(name, error.into()))
    }

    fn names(&self) -> Result<Vec<String>, PrivateError> {
        let failed = |error: rustix::io::Errno| self.failed("", error.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory).map_err(failed)? {
            // A name that is no text is none of ours.
            if let Ok(name) = entry.map_err(failed)?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn unlink(&self, name: &str) -> Result<bool, PrivateError> {
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(self.failed(name, error.into())),
        }
    }

    /// The path of a file, for errors, once its name is one.
    fn named(&self, name: &str) -> Result<PathBuf, PrivateError> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(PrivateError::Name {
                name: name.to_owned(),
            });
        }
        Ok(self.path.join(name))
    }

    fn failed(&self, name: &str, source: io::Error) -> PrivateError {
        PrivateError::Io {
            path: self.path.join(name),
            source,
        }
    }
}

/// A file that has no name of its own yet; gone with this, unless it was renamed.
struct Unfinished<'a> {
    within: &'a PrivateDirectory,
    name: String,
    file: File,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next opening.
        self.within.unlink(&self.name).ok();
    }
}

pub(crate) fn check(path: &Path, found: &Stat, wanted: FileType) -> Result<(), PrivateError> {
    if FileType::from_raw_mode(found.st_mode) != wanted {
        return Err(PrivateError::WrongKind {
            path: path.to_path_buf(),
            wanted: match wanted {
                FileType::Directory => "directory",
                _ => "regular file",
            },
        });
    }
    let user = geteuid().as_raw();
    if found.st_uid != user {
        return Err(PrivateError::ForeignOwner {
            path: path.to_path_buf(),
            owner: found.st_uid,
            user,
        });
    }
    let mode = Mode::from_raw_mode(found.st_mode);
    if mode.intersects(Mode::RWXG | Mode::RWXO) {
        #[allow(
            clippy::useless_conversion,
            reason = "the width of a mode differs between systems"
        )]
        return Err(PrivateError::OpenToOthers {
            path: path.to_path_buf(),
            mode: u32::from(mode.as_raw_mode()),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
