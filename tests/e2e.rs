//! End to end: real components, real files, the real program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test that meets something unexpected should fail there"
)]

mod abi_test;
mod adr_test;
mod architecture_test;
#[cfg(unix)]
mod audit_test;
mod bad_input_test;
mod capacity_test;
mod cli_test;
mod config_component_toml_test;
#[cfg(unix)]
mod coredump_test;
mod deadline_and_trap_test;
mod density_test;
mod fairness_test;
mod filesystem_test;
mod generated_test;
mod guide_test;
mod host_functions_test;
mod hostile_test;
mod http_test;
mod import_policy_test;
mod instance_life_test;
mod instance_limits_test;
mod isolation_security_test;
mod json_test;
mod loading_test;
#[cfg(unix)]
mod mcp_clients_test;
#[cfg(unix)]
mod mcp_http_test;
#[cfg(unix)]
mod mcp_test;
mod memory_isolation_test;
mod memory_leak_test;
mod memory_limits_test;
mod memory_stress_test;
mod message_size_test;
mod message_test;
mod messaging_test;
mod network_test;
mod new_test;
mod provenance_test;
mod replicas_test;
mod resources_test;
mod sandbox_test;
mod services_test;
mod soak_test;
mod stdio_test;
mod supervision_test;
mod support;
mod tools_test;
#[cfg(unix)]
mod top_test;
mod traps_test;
mod upgrade_test;
mod waiting_room_test;
mod watch_files_test;
mod watch_test;
mod watching_test;
