//! Any steps, at any level, on a region and on the vector it has to equal.
#![no_main]

use airssys_integrity::{SampleRate, VerificationLevel};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/region/model.rs"]
mod model;

fuzz_target!(|input: &[u8]| {
    let Some((level, rest)) = input.split_first() else {
        return;
    };
    let level = match level % 5 {
        0 => VerificationLevel::Off,
        1 => VerificationLevel::Sampling(SampleRate::ONE_IN_64),
        2 => VerificationLevel::Standard,
        3 => VerificationLevel::Full,
        _ => VerificationLevel::Redundant,
    };
    let (steps, _) = rest.as_chunks();
    model::run(level, steps, rest);
});
