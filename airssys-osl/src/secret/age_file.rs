//! Secrets from files encrypted with age.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str;
use std::sync::Arc;

use age::armor::ArmoredReader;
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Identity, IdentityFile, scrypt};
use zeroize::Zeroize;

use super::ProtectedSecret;
use super::memory::{SecretError, SecretMemory};
use super::source::{LoadError, read_file};
use crate::file::read_regular_file;

/// Most work for a passphrase, as the logarithm of scrypt's N: 2^20 takes 1 GiB of memory for a
/// moment. age itself writes 18 on common machines.
pub const MAX_AGE_WORK_FACTOR: u8 = 20;

/// Most bytes that age puts around a secret that is encrypted for some recipients.
const MAX_OVERHEAD_BYTES: usize = 64 << 10;

/// What opens a file encrypted with age.
pub enum AgeKey {
    /// A file with identities, as age-keygen writes it, with the mode of
    /// [`SecretSource::File`](super::SecretSource::File).
    IdentityFile(PathBuf),
    /// A passphrase, in UTF-8 and without an end of line.
    Passphrase(Arc<ProtectedSecret>),
}

/// The file, or which kind it is.
impl fmt::Debug for AgeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdentityFile(path) => f.debug_tuple("IdentityFile").field(path).finish(),
            Self::Passphrase(secret) => f.debug_tuple("Passphrase").field(secret).finish(),
        }
    }
}

pub(super) fn read(
    memory: &SecretMemory,
    path: &Path,
    key: &AgeKey,
) -> Result<ProtectedSecret, LoadError> {
    let limit = memory.limits().max_bytes.saturating_add(MAX_OVERHEAD_BYTES);
    let ciphertext = read_regular_file(path, limit as u64)?;
    let failed = |source: DecryptError| LoadError::Decrypt {
        path: path.to_path_buf(),
        source,
    };
    let identities = identities(memory, key)?;
    let decryptor = Decryptor::new(ArmoredReader::new(&*ciphertext)).map_err(failed)?;
    let identities = identities.iter().map(|one| &**one as &dyn Identity);
    let mut plaintext = decryptor.decrypt(identities).map_err(failed)?;
    // A plaintext is shorter than its ciphertext.
    let capacity = ciphertext.len().min(memory.limits().max_bytes);
    ProtectedSecret::fill(memory, capacity, |value| {
        let mut len = 0;
        while let Some(rest) = value.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match plaintext.read(rest) {
                Ok(0) => return Ok(len),
                Ok(read) => len += read,
                Err(error) => return Err(failed(DecryptError::Io(error))),
            }
        }
        let mut next = [0];
        match plaintext.read(&mut next) {
            Ok(0) => Ok(len),
            Ok(_) => {
                next.zeroize();
                Err(LoadError::Memory(SecretError::TooLong {
                    len_bytes: ciphertext.len(),
                    limit_bytes: capacity,
                }))
            }
            Err(error) => Err(failed(DecryptError::Io(error))),
        }
    })
}

type Identities = Vec<Box<dyn Identity + Send + Sync>>;

/// Copies of the key lie in memory that age wipes, until the file is decrypted.
fn identities(memory: &SecretMemory, key: &AgeKey) -> Result<Identities, LoadError> {
    match key {
        AgeKey::IdentityFile(path) => {
            let wrong = || LoadError::Identity { path: path.clone() };
            let file = read_file(memory, path)?;
            let text = file.access().map_err(|_| wrong())?;
            let parsed = IdentityFile::from_buffer(&*text).map_err(|_| wrong())?;
            let identities = parsed.into_identities().map_err(|_| wrong())?;
            if identities.is_empty() {
                return Err(wrong());
            }
            Ok(identities)
        }
        AgeKey::Passphrase(passphrase) => {
            let text = passphrase.access().map_err(|_| LoadError::Passphrase)?;
            let text = str::from_utf8(&text).map_err(|_| LoadError::Passphrase)?;
            let mut identity = scrypt::Identity::new(SecretString::from(text));
            identity.set_max_work_factor(MAX_AGE_WORK_FACTOR);
            Ok(vec![Box::new(identity)])
        }
    }
}
