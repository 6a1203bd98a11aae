//! A guest that works with functions its host offers.

mod bindings {
    #![allow(
        missing_docs,
        unsafe_code,
        reason = "the generated canonical ABI glue is unsafe by nature"
    )]
    wit_bindgen::generate!({ path: "wit", world: "clerk" });
    use super::Clerk;
    export!(Clerk);
}

use bindings::airssys::clerk::shop;
use bindings::exports::airssys::clerk::counter::Guest;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static PURCHASES: AtomicU32 = AtomicU32::new(0);

struct Clerk;

impl Guest for Clerk {
    fn buy(item: String, count: u32) -> Result<u32, String> {
        let price = shop::price(&item).ok_or_else(|| format!("we do not sell {item}"))?;
        let given = shop::reserve(&item, count);
        if given == 0 {
            return Err(format!("we are out of {item}"));
        }
        PURCHASES.fetch_add(1, Relaxed);
        Ok(price.saturating_mul(given))
    }

    fn buy_as(customer: String, item: String, count: u32) -> Result<u32, String> {
        let percent = shop::discount(&customer).min(100);
        let total = Self::buy(item, count)?;
        // At most what it was before.
        Ok((u64::from(total) * u64::from(100 - percent) / 100) as u32)
    }

    fn purchases() -> u32 {
        PURCHASES.load(Relaxed)
    }
}
