//! A stateful guest: what it was told is gone when its instance is.

mod bindings {
    #![allow(
        missing_docs,
        unsafe_code,
        reason = "the generated canonical ABI glue is unsafe by nature"
    )]
    wit_bindgen::generate!({ path: "wit", world: "notebook" });
    use super::Notebook;
    export!(Notebook);
}

use bindings::exports::airssys::notebook::notes::Guest;
use std::cell::RefCell;

thread_local! {
    static NOTES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Notebook;

impl Guest for Notebook {
    fn append(text: String) -> u32 {
        NOTES.with_borrow_mut(|notes| {
            notes.push(text);
            count(notes)
        })
    }

    fn get(index: u32) -> Option<String> {
        NOTES.with_borrow(|notes| notes.get(index as usize).cloned())
    }

    fn count() -> u32 {
        NOTES.with_borrow(|notes| count(notes))
    }

    fn clear() {
        NOTES.take();
    }
}

/// A 32-bit memory cannot hold more notes than a u32 counts.
fn count(notes: &[String]) -> u32 {
    notes.len() as u32
}
