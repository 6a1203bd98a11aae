//! A stateless guest: its answer depends on its arguments alone.

mod bindings {
    #![allow(
        missing_docs,
        unsafe_code,
        reason = "the generated canonical ABI glue is unsafe by nature"
    )]
    wit_bindgen::generate!({ path: "wit", world: "calculator", generate_all });
    use super::Calculator;
    export!(Calculator);
}

use bindings::exports::airssys::calculator::arithmetic::{ArithmeticError, Guest, Summary};
use bindings::exports::docs::adder::add;

struct Calculator;

impl add::Guest for Calculator {
    fn add(x: u32, y: u32) -> u32 {
        x.wrapping_add(y)
    }
}

impl Guest for Calculator {
    fn divide(dividend: i64, divisor: i64) -> Result<i64, ArithmeticError> {
        if divisor == 0 {
            return Err(ArithmeticError::DivisionByZero);
        }
        dividend
            .checked_div(divisor)
            .ok_or(ArithmeticError::Overflow)
    }

    fn sum(values: Vec<i64>) -> i64 {
        values.into_iter().fold(0, i64::wrapping_add)
    }

    fn statistics(values: Vec<f64>) -> Option<Summary> {
        if values.is_empty() {
            return None;
        }
        // A 32-bit memory cannot hold more values than a u32 counts.
        let count = values.len() as u32;
        Some(Summary {
            count,
            mean: values.iter().sum::<f64>() / f64::from(count),
            min: values.iter().copied().fold(f64::NAN, f64::min),
            max: values.iter().copied().fold(f64::NAN, f64::max),
        })
    }

    fn echo(bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
}
