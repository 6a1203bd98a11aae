//! A tool that greets.

wit_bindgen::generate!({ path: "wit", world: "tool" });

use exports::local::tool::greeting::{GreetError, Guest};

/// Longest name, in bytes.
const NAME_BYTES: usize = 100;

struct Tool;

impl Guest for Tool {
    fn greet(name: String) -> Result<String, GreetError> {
        match name.len() {
            0 => Err(GreetError::NoName),
            1..=NAME_BYTES => Ok(format!("Hello, {name}!")),
            // A 32-bit memory holds no longer text.
            bytes => Err(GreetError::TooLong(bytes as u32)),
        }
    }
}

export!(Tool);
