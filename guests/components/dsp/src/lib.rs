//! Stages of an audio chain, which work on blocks of samples.

mod bindings {
    #![allow(
        missing_docs,
        unsafe_code,
        reason = "the generated canonical ABI glue is unsafe by nature"
    )]
    wit_bindgen::generate!({ path: "wit", world: "dsp" });
    use super::Dsp;
    export!(Dsp);
}

use bindings::exports::airssys::dsp::filter::Coefficients;
use bindings::exports::airssys::dsp::meter::Levels;
use bindings::exports::airssys::dsp::{filter, gain, meter};
use std::cell::Cell;

const EVERYTHING: Coefficients = Coefficients {
    b0: 1.0,
    b1: 0.0,
    b2: 0.0,
    a1: 0.0,
    a2: 0.0,
};

thread_local! {
    static FACTOR: Cell<f32> = const { Cell::new(1.0) };
    static COEFFICIENTS: Cell<Coefficients> = const { Cell::new(EVERYTHING) };
    static REMEMBERED: Cell<(f32, f32)> = const { Cell::new((0.0, 0.0)) };
}

struct Dsp;

impl gain::Guest for Dsp {
    fn set_factor(factor: f32) {
        FACTOR.set(factor);
    }

    fn amplify(mut block: Vec<f32>) -> Vec<f32> {
        let factor = FACTOR.get();
        for sample in &mut block {
            *sample *= factor;
        }
        block
    }
}

impl filter::Guest for Dsp {
    fn set_coefficients(coefficients: Coefficients) {
        COEFFICIENTS.set(coefficients);
        REMEMBERED.set((0.0, 0.0));
    }

    fn pass(mut block: Vec<f32>) -> Vec<f32> {
        let Coefficients { b0, b1, b2, a1, a2 } = COEFFICIENTS.get();
        let (mut one, mut two) = REMEMBERED.get();
        for sample in &mut block {
            let x = *sample;
            let y = b0 * x + one;
            one = b1 * x - a1 * y + two;
            two = b2 * x - a2 * y;
            *sample = y;
        }
        REMEMBERED.set((one, two));
        block
    }
}

impl meter::Guest for Dsp {
    fn measure(block: Vec<f32>) -> Levels {
        let peak = block
            .iter()
            .fold(0.0, |peak: f32, sample| peak.max(sample.abs()));
        let squares: f32 = block.iter().map(|sample| sample * sample).sum();
        let rms = (squares / block.len().max(1) as f32).sqrt();
        Levels { peak, rms }
    }
}
