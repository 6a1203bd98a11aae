//! What OTP's own tests of its supervisor assert, held against this one: a test for each case, or
//! a row of docs/otp.md that says why there is none.

mod admin;
mod change;
mod kit;
mod reasons;
mod scale;
mod significant;
mod start;
mod stop;
mod strategies;
mod telling;
mod tree;
