//! Where secrets come from (ADR-OSL-002).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::ProtectedSecret;
use super::memory::{SecretError, SecretMemory};
use super::named::SecretName;
use crate::private_directory::{PrivateError, check};

/// Why no secret was taken from a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is a secret of that name.
    #[error("there is a secret named `{name}` already")]
    NameTaken {
        /// The name.
        name: SecretName,
    },
    /// It cannot be kept; an empty source is [`SecretError::Empty`].
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// The file is not there.
    #[error("{} does not exist", path.display())]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is not ours alone, or cannot be read.
    #[error(transparent)]
    File(#[from] PrivateError),
    /// The file became shorter or longer while it was read.
    #[error("{} changed while it was read", path.display())]
    FileChanged {
        /// The file.
        path: PathBuf,
    },
    /// No such environment variable.
    #[error("the environment variable {variable} is not set")]
    MissingVariable {
        /// Its name.
        variable: String,
    },
    /// The keyring has no such key.
    #[error("no key `{description}` in the {keyring:?} keyring")]
    MissingKey {
        /// The keyring.
        keyring: SecretKeyring,
        /// What the key is called.
        description: String,
    },
    /// The kernel does not give the key out.
    #[cfg(target_os = "linux")]
    #[error("key `{description}` of the {keyring:?} keyring: {source}")]
    Key {
        /// The keyring.
        keyring: SecretKeyring,
        /// What the key is called.
        description: String,
        /// What it said.
        source: linux_keyutils::KeyError,
    },
    /// This system has no keyring that can be asked.
    #[error("this system has no keyring to take secrets from")]
    NoKeyring,
    /// The encrypted file is not there, or is too large.
    #[cfg(feature = "age")]
    #[error(transparent)]
    Ciphertext(#[from] crate::file::ReadError),
    /// The encrypted file is damaged, or the key is not its key.
    #[cfg(feature = "age")]
    #[error("cannot decrypt {}: {source}", path.display())]
    Decrypt {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        source: age::DecryptError,
    },
    /// The file has no identity of age.
    #[cfg(feature = "age")]
    #[error("no age identity in {}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase is closed, or is not UTF-8.
    #[cfg(feature = "age")]
    #[error("the passphrase cannot be read")]
    Passphrase,
}

/// A keyring of the Linux kernel, as in keyrings(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretKeyring {
    /// Of this process.
    Process,
    /// Of this login session.
    Session,
    /// Of this user.
    User,
}

/// Where a secret is taken from, byte by byte as it is there: an end of line is part of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum SecretSource {
    /// A regular file of the user this process acts under, which nobody else may use: mode 0600 or
    /// less. A symbolic link is refused.
    File(PathBuf),
    /// An environment variable. It stays in the process's environment, where it is inherited (see
    /// [`NamedSecrets::withhold_variables`](super::NamedSecrets::withhold_variables)) and readable in
    /// `/proc/PID/environ`: a source for where nothing better is to be had.
    Environment(String),
    /// A key of type `user` in a keyring of the Linux kernel.
    Keyring {
        /// Which one.
        keyring: SecretKeyring,
        /// What the key is called.
        description: String,
    },
    /// A file encrypted with age, armored or not. Anybody may be able to read it.
    #[cfg(feature = "age")]
    Age {
        /// The encrypted file.
        path: PathBuf,
        /// What opens it.
        key: super::AgeKey,
    },
}

impl SecretSource {
    pub(super) fn read(&self, memory: &SecretMemory) -> Result<ProtectedSecret, LoadError> {
        match self {
            Self::File(path) => read_file(memory, path),
            Self::Environment(variable) => read_variable(memory, variable),
            Self::Keyring {
                keyring,
                description,
            } => read_key(memory, *keyring, description),
            #[cfg(feature = "age")]
            Self::Age { path, key } => super::age_file::read(memory, path, key),
        }
    }
}

/// Reads a file that is ours alone straight to where its secret stays.
pub(super) fn read_file(memory: &SecretMemory, path: &Path) -> Result<ProtectedSecret, LoadError> {
    let failed = |source: io::Error| PrivateError::Io {
        path: path.to_path_buf(),
        source,
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => LoadError::MissingFile {
            path: path.to_path_buf(),
        },
        Errno::LOOP => LoadError::File(PrivateError::WrongKind {
            path: path.to_path_buf(),
            wanted: "regular file",
        }),
        error => LoadError::File(failed(error.into())),
    })?;
    let found = fstat(&opened).map_err(|error| failed(error.into()))?;
    check(path, &found, FileType::RegularFile)?;
    let len = usize::try_from(found.st_size).unwrap_or(usize::MAX);
    read_whole(memory, path, File::from(opened), len)
}

/// A secret of the whole file, which had `len` bytes when it was opened.
fn read_whole(
    memory: &SecretMemory,
    path: &Path,
    mut file: File,
    len: usize,
) -> Result<ProtectedSecret, LoadError> {
    let failed = |source: io::Error| {
        LoadError::File(PrivateError::Io {
            path: path.to_path_buf(),
            source,
        })
    };
    let changed = || LoadError::FileChanged {
        path: path.to_path_buf(),
    };
    ProtectedSecret::fill(memory, len, |value| {
        file.read_exact(value).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => failed(error),
        })?;
        let end = file.metadata().map_err(failed)?.len();
        if end == len as u64 {
            Ok(len)
        } else {
            Err(changed())
        }
    })
}

fn read_variable(memory: &SecretMemory, variable: &str) -> Result<ProtectedSecret, LoadError> {
    match std::env::var_os(variable).map(OsString::into_vec) {
        Some(value) => Ok(ProtectedSecret::from_vec(memory, value)?),
        None => Err(LoadError::MissingVariable {
            variable: variable.to_owned(),
        }),
    }
}

#[cfg(target_os = "linux")]
fn read_key(
    memory: &SecretMemory,
    keyring: SecretKeyring,
    description: &str,
) -> Result<ProtectedSecret, LoadError> {
    use linux_keyutils::{KeyError, KeyRing, KeyRingIdentifier};

    let failed = |error: KeyError| match error {
        KeyError::KeyDoesNotExist | KeyError::KeyringDoesNotExist => LoadError::MissingKey {
            keyring,
            description: description.to_owned(),
        },
        KeyError::OperationNotSupported => LoadError::NoKeyring,
        source => LoadError::Key {
            keyring,
            description: description.to_owned(),
            source,
        },
    };
    let identifier = match keyring {
        SecretKeyring::Process => KeyRingIdentifier::Process,
        SecretKeyring::Session => KeyRingIdentifier::Session,
        SecretKeyring::User => KeyRingIdentifier::User,
    };
    let ring = KeyRing::from_special_id(identifier, false).map_err(failed)?;
    let key = ring.search(description).map_err(failed)?;
    // Without a buffer, the kernel tells the length.
    let len = key.read(&mut []).map_err(failed)?;
    ProtectedSecret::fill(memory, len, |mut value| {
        match key.read(&mut value).map_err(failed)? {
            read if read == len => Ok(len),
            _ => Err(failed(KeyError::InvalidArguments)),
        }
    })
}

#[cfg(not(target_os = "linux"))]
fn read_key(_: &SecretMemory, _: SecretKeyring, _: &str) -> Result<ProtectedSecret, LoadError> {
    Err(LoadError::NoKeyring)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed set-up should fail the test")]

    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, [7; 10]).unwrap();
        let memory = SecretMemory::new(super::super::SecretPolicy::BestEffort, Default::default());
        let read = |len| read_whole(&memory, &path, File::open(&path).unwrap(), len);
        for other in [9, 11] {
            assert!(matches!(read(other), Err(LoadError::FileChanged { .. })));
        }
        assert!(
            read(10)
                .unwrap()
                .with_bytes(|value| value == [7; 10])
                .unwrap()
        );
        assert_eq!(memory.secrets(), 0);
    }
}
