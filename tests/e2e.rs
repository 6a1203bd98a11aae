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

mod cli_test;
mod supervision_test;
mod support;
