//! The supervisor and its slots around plain ractor actors, under paused time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that meets something unexpected should fail there"
)]

mod beyond;
mod otp;
mod staying;
mod supervision;
mod worker;
