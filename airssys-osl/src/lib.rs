//! What touches the operating system.
//!
//! Today: reading files whose content is not trusted, directories that nobody else can read or
//! write, and the kernel limit that a pool of instances must fit. Grants, secrets and the audit log
//! will live here too.

mod file;
pub mod grants;
mod key_value;
mod map_count;
mod private_directory;
mod probe;
mod sandbox;

pub use file::{ReadError, read_regular_file};
pub use key_value::{
    KeyPage, KeyValueConfig, KeyValueError, KeyValueFault, KeyValueOpenError, KeyValueSpace,
    KeyValueStore, PendingWrite, Swapped,
};
pub use map_count::{MapCountError, max_map_count};
pub use private_directory::{PrivateDirectory, PrivateError, PrivateFile};
pub use probe::{MemoryBound, MemoryGauge, MemoryProbe, MemoryRoom, MemoryShort, ProbeError};
pub use sandbox::{
    Sandbox, SandboxConfig, SandboxError, SandboxKernel, SandboxLayer, SandboxMode, SandboxReport,
};
