//! The WebAssembly components that AirsSys is tested and shown with, built from source by this
//! package's build script.
//!
//! Their interfaces are in `components/<name>/wit`. The build also leaves each component beside
//! its `Component.toml`, which is where `airssys.toml` in this directory finds them.

/// A component and the manifest it is deployed with.
#[derive(Clone, Copy)]
pub struct Guest {
    /// The component's name, the same as in its manifest.
    pub name: &'static str,
    /// The text of its `Component.toml`.
    pub component_toml: &'static str,
    /// The component in binary format, with its name section and without debug information.
    pub wasm: &'static [u8],
}

macro_rules! guest {
    ($name:literal) => {
        Guest {
            name: $name,
            component_toml: include_str!(concat!("../components/", $name, "/Component.toml")),
            wasm: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm")),
        }
    };
}

/// Stateless arithmetic. The only one that imports nothing.
pub const CALCULATOR: Guest = guest!("calculator");

/// Notes in memory, which a restart loses.
pub const NOTEBOOK: Guest = guest!("notebook");

/// Keeps what it allocates, up to its memory limit and past it.
pub const LEAKY: Guest = guest!("leaky");

/// Loops for ever, works for a given time or sleeps in the host.
pub const SPINNER: Guest = guest!("spinner");

/// Traps in four ways, panics and exits.
pub const CRASHER: Guest = guest!("crasher");

/// Reaches for files, hosts and variables. It is granted nothing, and is not in `airssys.toml`.
pub const PROBER: Guest = guest!("prober");

/// Uses the services of the host. It is granted none, and is not in `airssys.toml`.
pub const COURIER: Guest = guest!("courier");

/// Asks its host for prices. It imports what only an embedder offers, and is not in `airssys.toml`.
pub const CLERK: Guest = guest!("clerk");

/// Gain, filter and meter of an audio chain. It is not in `airssys.toml`.
pub const DSP: Guest = guest!("dsp");

/// Every guest, in the order of `airssys.toml`.
pub const ALL: [Guest; 5] = [CALCULATOR, NOTEBOOK, LEAKY, SPINNER, CRASHER];
