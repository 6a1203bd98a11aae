//! Whether a binary is the one that is meant: its digest, and who signed it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use airssys_osl::{FileIdentity, ReadError, read_identified_file};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

/// Most bytes of a signature's file: 64, or their base64 with an end of line.
const SIGNATURE_FILE_BYTES: u64 = 128;

const SIGNATURE_BYTES: usize = 64;

/// SHA-256 of a component binary, as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WasmDigest(pub(crate) [u8; 32]);

/// An Ed25519 public key, as `ed25519:` and the base64 of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// A text that is no digest or no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProvenanceError {
    /// A digest is `sha256:` and 64 hexadecimal digits.
    #[error("not `sha256:` and 64 hexadecimal digits")]
    Digest,
    /// A key is `ed25519:` and the base64 of 32 bytes.
    #[error("not `ed25519:` and the base64 of 32 bytes")]
    Key,
}

impl fmt::Display for WasmDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for WasmDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for WasmDigest {
    type Err = ProvenanceError;

    fn from_str(text: &str) -> Result<Self, ProvenanceError> {
        let digits = text
            .strip_prefix("sha256:")
            .ok_or(ProvenanceError::Digest)?;
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(ProvenanceError::Digest);
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let pair = digit(*high).zip(digit(*low));
            let (high, low) = pair.ok_or(ProvenanceError::Digest)?;
            *byte = u8::try_from(high * 16 + low).map_err(|_| ProvenanceError::Digest)?;
        }
        Ok(Self(bytes))
    }
}

impl PublicKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = ProvenanceError;

    fn from_str(text: &str) -> Result<Self, ProvenanceError> {
        let coded = text.strip_prefix("ed25519:").ok_or(ProvenanceError::Key)?;
        let bytes = STANDARD.decode(coded).map_err(|_| ProvenanceError::Key)?;
        let bytes = bytes.try_into().map_err(|_| ProvenanceError::Key)?;
        Ok(Self(bytes))
    }
}

/// Why a binary is not taken for the one that is meant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotGenuine {
    /// It is not the one that `component.digest` pins.
    #[error(
        "is not the binary that component.digest pins: {found}, expected {expected} (ADR-WASM-026)"
    )]
    Digest {
        /// The one pinned.
        expected: WasmDigest,
        /// The one of the file.
        found: WasmDigest,
    },
    /// `policy.signatures.keys` names keys, and the component no signature.
    #[error(
        "is not signed, and policy.signatures.keys says that components are: name its signature in \
         component.signature (ADR-WASM-026)"
    )]
    Unsigned,
    /// The component names a signature, and nobody a key to check it by.
    #[error(
        "names a signature that nothing can check: name the signer's key in \
         policy.signatures.keys of airssys.toml, or leave component.signature out (ADR-WASM-026)"
    )]
    NoKeys,
    /// The signature could not be read.
    #[error("its signature: {0}")]
    Unreadable(#[from] ReadError),
    /// The file holds no signature.
    #[error("{} is no Ed25519 signature: 64 bytes, or their base64", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// None of the keys has made this signature of this binary.
    #[error("{} is a signature of another binary, or by nobody in policy.signatures.keys", path.display())]
    Wrong {
        /// The signature's file.
        path: PathBuf,
    },
}

/// What a binary was found to be signed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    /// Nobody asks for a signature.
    Unasked,
    /// By the signature in a file; `None` where nothing would tell that it was exchanged.
    By(Option<FileIdentity>),
}

/// What a binary must be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Provenance {
    pub(crate) digest: Option<WasmDigest>,
    pub(crate) signature: Option<PathBuf>,
    /// Whoever may have signed it; nobody has to where there is none.
    pub(crate) keys: std::sync::Arc<[PublicKey]>,
}

impl Provenance {
    /// Whether these bytes, of that digest, are what they must be, and what the file of the signature
    /// is known by, where there is one. Blocks.
    pub(crate) fn check(&self, bytes: &[u8], found: WasmDigest) -> Result<Signed, NotGenuine> {
        match self.digest {
            Some(expected) if expected != found => {
                return Err(NotGenuine::Digest { expected, found });
            }
            _ => {}
        }
        match (&self.signature, self.keys.is_empty()) {
            (None, true) => Ok(Signed::Unasked),
            (None, false) => Err(NotGenuine::Unsigned),
            (Some(_), true) => Err(NotGenuine::NoKeys),
            (Some(path), false) => self.verify(path, bytes),
        }
    }

    fn verify(&self, path: &Path, bytes: &[u8]) -> Result<Signed, NotGenuine> {
        let malformed = || NotGenuine::Malformed {
            path: path.to_path_buf(),
        };
        let (held, identity) = read_identified_file(path, SIGNATURE_FILE_BYTES)?;
        let signature = match held.len() {
            SIGNATURE_BYTES => held,
            _ => STANDARD
                .decode(held.trim_ascii())
                .map_err(|_| malformed())?,
        };
        if signature.len() != SIGNATURE_BYTES {
            return Err(malformed());
        }
        let signed = |key: &PublicKey| {
            let key = UnparsedPublicKey::new(&ED25519, key.0);
            key.verify(bytes, &signature).is_ok()
        };
        match self.keys.iter().any(signed) {
            true => Ok(Signed::By(identity)),
            false => Err(NotGenuine::Wrong {
                path: path.to_path_buf(),
            }),
        }
    }
}
