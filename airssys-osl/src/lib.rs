//! What touches the operating system.
//!
//! Today: reading files whose content is not trusted, directories that nobody else can read or
//! write, and the kernel limit that a pool of instances must fit. Grants, secrets and the audit log
//! will live here too.

mod file;
mod key_value;
mod map_count;
mod private_directory;
mod probe;
mod sandbox;

pub use file::{ReadError, read_regular_file};
pub use key_value::{
    ENTRY_BYTES, KeyPage, KeyValueConfig, KeyValueError, KeyValueOpenError, KeyValueSpace,
    KeyValueStore, MAX_BATCH_BYTES, MAX_BATCH_KEYS, MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_PAGE_KEYS,
    MAX_VALUE_BYTES, MAX_WAITING, MAX_WAITING_BYTES, MAX_WAITING_OF_A_SPACE, Pending, StoreFault,
    Swapped, entry_bytes,
};
pub use map_count::{MapCountError, max_map_count};
pub use private_directory::{PrivateDirectory, PrivateError, PrivateFile};
pub use probe::{MemoryBound, MemoryGauge, MemoryProbe, MemoryRoom, MemoryShort, ProbeError};
pub use sandbox::{
    Kernel, Layer, Sandbox, SandboxConfig, SandboxError, SandboxMode, SandboxReport,
};
