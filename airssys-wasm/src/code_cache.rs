//! Compiled code on disk, so that a binary is compiled once for many runs of a host.
//!
//! An entry is a header, the code and an HMAC-SHA256 over both, by a key that lies beside the
//! entries and is made at random with the directory. Whoever can read the key can forge entries;
//! the directory's and the key's mode are what keeps others out.
//!
//! ```text
//! bytes     what
//! 16        "airssys-code-1" and two zeros
//! 32        SHA-256 of the component binary
//! 32        fingerprint of engine and compiler
//! 8         length of the code, little endian
//! length    the code
//! 32        HMAC-SHA256 of all before
//! ```

use std::hash::{Hash, Hasher};
use std::path::PathBuf;

use airssys_osl::{PrivateDirectory, PrivateError};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

/// Bytes a cache may take where nothing else is said.
pub const DEFAULT_CACHE_BYTES: u64 = 1024 * 1024 * 1024;

const MAGIC: [u8; 16] = *b"airssys-code-1\0\0";
const HEADER_BYTES: usize = 16 + 32 + 32 + 8;
const TAG_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
const KEY_FILE: &str = "key";
const ENTRY_ENDING: &str = ".code";

/// `[system.cache]`: where compiled code is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// A directory of its own, made where there is none.
    pub directory: PathBuf,
    /// Most bytes of all entries together.
    pub max_bytes: u64,
}

/// Why the cache, or an entry of it, is not used. Components are compiled all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The directory or a file in it: not private, or the operating system refused.
    #[error(transparent)]
    Directory(#[from] PrivateError),
    /// The key is none. Remove the directory to have it made anew.
    #[error("{} has {bytes} bytes, and a key has {KEY_BYTES}", path.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The operating system gave no randomness for a key.
    #[error("no randomness for a key: {0}")]
    Random(getrandom::Error),
    /// An entry that is not used and gets replaced.
    #[error("{}: {fault}", path.display())]
    Entry {
        /// The entry's file.
        path: PathBuf,
        /// What is wrong with it.
        fault: EntryFault,
    },
    /// The code is larger than the whole cache may be.
    #[error("{bytes} bytes of code do not fit a cache of {max_bytes} bytes")]
    TooLarge {
        /// Bytes of the entry.
        bytes: u64,
        /// Bytes of the cache.
        max_bytes: u64,
    },
    /// The engine does not give the code out.
    #[error("the engine does not serialize the code: {0}")]
    Code(Box<dyn std::error::Error + Send + Sync>),
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryFault {
    /// Its length is not what its header says.
    #[error("cut short or too long")]
    Length,
    /// It is of another binary, engine or layout.
    #[error("an entry of something else")]
    Foreign,
    /// It was not written under this cache's key, or was changed since.
    #[error("not written by this cache, or changed since")]
    Forged,
    /// The engine does not take it.
    #[error("refused by the engine")]
    Stale,
}

/// What makes code one and the same: the binary it came from and what it was compiled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeId {
    pub(crate) wasm: [u8; 32],
    pub(crate) fingerprint: Fingerprint,
}

/// SHA-256 over wasmtime's version and all of an engine's configuration that code depends on.
pub(crate) type Fingerprint = [u8; 32];

/// Takes an engine's fingerprint.
pub(crate) fn fingerprint(engine: &wasmtime::Engine) -> Fingerprint {
    struct Bytes(Sha256);
    impl Hasher for Bytes {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut bytes = Bytes(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut bytes);
    bytes.0.finalize().into()
}

impl CodeId {
    fn file(&self) -> String {
        let name = Sha256::new()
            .chain_update(self.wasm)
            .chain_update(self.fingerprint)
            .finalize();
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        hex + ENTRY_ENDING
    }

    fn header(&self, code_bytes: usize) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let length = (code_bytes as u64).to_le_bytes();
        let fields = MAGIC
            .iter()
            .chain(&self.wasm)
            .chain(&self.fingerprint)
            .chain(&length);
        for (to, from) in header.iter_mut().zip(fields) {
            *to = *from;
        }
        header
    }
}

/// Code whose origin has been checked: only [`CodeCache::get`] makes one.
#[derive(Debug)]
pub(crate) struct AuthenticCode {
    entry: Vec<u8>,
}

impl AuthenticCode {
    fn bytes(&self) -> &[u8] {
        let end = self.entry.len().saturating_sub(TAG_BYTES);
        self.entry.get(HEADER_BYTES..end).unwrap_or_default()
    }

    /// The component, or `None` where the engine does not take the code.
    #[allow(
        unsafe_code,
        reason = "code from the cache is loaded here and nowhere else"
    )]
    pub(crate) fn component(&self, engine: &wasmtime::Engine) -> Option<Component> {
        // SAFETY: the bytes must be what `Component::serialize` gave. Whoever wrote the entry held
        // the cache's key, and this process and its like, running as this user, are the only ones
        // that do: `CodeCache::insert` puts nothing else under the key's MAC. The MAC was checked
        // over these very bytes, which are this process's own memory and not read again from the
        // file. That engine and compiler are the same is in the header under the MAC, and wasmtime
        // checks it once more.
        unsafe { Component::deserialize(engine, self.bytes()) }.ok()
    }
}

/// A directory of compiled code, bounded in bytes. More than one process may use it at a time.
#[derive(Debug)]
pub(crate) struct CodeCache {
    directory: PrivateDirectory,
    keyed: Hmac<Sha256>,
    max_bytes: u64,
}

impl CodeCache {
    /// Opens the cache, made anew where there is none. Blocks.
    pub(crate) fn open(config: &CacheConfig) -> Result<Self, CacheError> {
        let directory = PrivateDirectory::open(&config.directory)?;
        let key = match directory.read(KEY_FILE, KEY_BYTES as u64)? {
            Some(key) => key,
            None => {
                let mut fresh = [0; KEY_BYTES];
                getrandom::fill(&mut fresh).map_err(CacheError::Random)?;
                directory.create(KEY_FILE, &fresh)?;
                // Another process may have been the first.
                directory
                    .read(KEY_FILE, KEY_BYTES as u64)?
                    .unwrap_or_default()
            }
        };
        let wrong = |bytes| CacheError::Key {
            path: config.directory.join(KEY_FILE),
            bytes,
        };
        if key.len() != KEY_BYTES {
            return Err(wrong(key.len()));
        }
        let keyed = Hmac::new_from_slice(&key).map_err(|_| wrong(key.len()))?;
        Ok(Self {
            directory,
            keyed,
            max_bytes: config.max_bytes,
        })
    }

    /// The code, where there is an entry of it that this cache has written. Blocks.
    ///
    /// # Errors
    /// [`CacheError::Entry`] for an entry that is to be replaced; [`CacheError::Directory`].
    pub(crate) fn get(&self, id: &CodeId) -> Result<Option<AuthenticCode>, CacheError> {
        let file = id.file();
        let Some(entry) = self.directory.read(&file, self.max_bytes)? else {
            return Ok(None);
        };
        let refused = |fault| Err(self.fault(id, fault));
        let Some((signed, tag)) = entry.split_last_chunk::<TAG_BYTES>() else {
            return refused(EntryFault::Length);
        };
        let Some(code_bytes) = signed.len().checked_sub(HEADER_BYTES) else {
            return refused(EntryFault::Length);
        };
        // Everything but the length is the same in an entry that was cut short.
        let (expected, found) = (id.header(code_bytes), signed.get(..HEADER_BYTES));
        if found != Some(&expected[..]) {
            let same = HEADER_BYTES - size_of::<u64>();
            let cut = expected.get(..same) == signed.get(..same);
            return refused(if cut {
                EntryFault::Length
            } else {
                EntryFault::Foreign
            });
        }
        let mac = self.keyed.clone().chain_update(signed);
        if mac.verify_slice(tag).is_err() {
            return refused(EntryFault::Forged);
        }
        // For the order of eviction only.
        self.directory.touch(&file).ok();
        Ok(Some(AuthenticCode { entry }))
    }

    /// The error for an entry that is not used.
    pub(crate) fn fault(&self, id: &CodeId, fault: EntryFault) -> CacheError {
        CacheError::Entry {
            path: self.directory.path().join(id.file()),
            fault,
        }
    }

    /// Writes an entry, in place of one of that id, and removes those that were not used for the
    /// longest time as far as the bound asks for it. Blocks.
    ///
    /// # Errors
    /// [`CacheError::TooLarge`], [`CacheError::Code`] or [`CacheError::Directory`].
    pub(crate) fn insert(&self, id: &CodeId, component: &Component) -> Result<(), CacheError> {
        let code = component
            .serialize()
            .map_err(|error| CacheError::Code(error.into()))?;
        self.write(id, &code)
    }

    fn write(&self, id: &CodeId, code: &[u8]) -> Result<(), CacheError> {
        let bytes = (HEADER_BYTES + code.len() + TAG_BYTES) as u64;
        if bytes > self.max_bytes {
            return Err(CacheError::TooLarge {
                bytes,
                max_bytes: self.max_bytes,
            });
        }
        self.make_room(bytes)?;
        let header = id.header(code.len());
        let mac = self.keyed.clone().chain_update(header).chain_update(code);
        let tag = mac.finalize().into_bytes();
        self.directory.replace(&id.file(), &[&header, code, &tag])?;
        // Another process may have written at the same time; whoever is last keeps the bound.
        self.make_room(0)
    }

    fn make_room(&self, wanted: u64) -> Result<(), CacheError> {
        let mut entries = self.directory.files()?;
        entries.retain(|file| file.name.ends_with(ENTRY_ENDING));
        entries.sort_by_key(|file| file.touched);
        let mut total = entries.iter().map(|file| file.bytes).sum::<u64>();
        for oldest in entries {
            if total.saturating_add(wanted) <= self.max_bytes {
                break;
            }
            self.directory.remove(&oldest.name)?;
            total = total.saturating_sub(oldest.bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
