//! What touches the operating system.
//!
//! Today: reading files whose content is not trusted, directories that nobody else can read or
//! write, and the kernel limit that a pool of instances must fit. Grants, secrets and the audit log
//! will live here too.

mod file;
pub mod grants;
mod map_count;
mod private_directory;
mod secret;

pub use file::{ReadError, read_regular_file};
pub use map_count::{MapCountError, max_map_count};
pub use private_directory::{PrivateDirectory, PrivateError, PrivateFile};
pub use secret::{
    AccessError, AccessGuard, Backing, CloseError, DEFAULT_MAX_SECRET_BYTES, DEFAULT_MAX_SECRETS,
    Forked, LoadError, MAX_SECRET_BYTES, MAX_SECRET_NAME_BYTES, MAX_SECRET_READERS, NamedSecrets,
    ProtectedSecret, Protection, ProtectionReport, SecretError, SecretKeyring, SecretLimits,
    SecretMemory, SecretName, SecretNameError, SecretPolicy, SecretReader, SecretSource,
    SecretState, UnknownSecret,
};
#[cfg(feature = "age")]
pub use secret::{AgeKey, MAX_AGE_WORK_FACTOR};
