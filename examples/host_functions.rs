//! Functions that the embedding program offers to its guests: one that answers at once, one that
//! the guest waits for while the host goes on, and one that panics, which ends its call and the
//! instance that made it, and nothing else.
//!
//! Run it with `cargo run --example host_functions`. What it writes to standard error about a panic
//! is Rust's own report of it.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airssys::{
    Caller, ChildSpec, ComponentConfig, ComponentSpec, ExitCause, Host, HostFunctions,
    SupervisorSpec, Val, WasmError,
};

const SHOP: &str = "airssys:clerk/shop@0.1.0";

/// Pieces in the warehouse, by item.
type Stock = Arc<Mutex<HashMap<String, u32>>>;

fn take(stock: &Stock, item: &str, count: u32) -> u32 {
    let mut stock = stock.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(there) = stock.get_mut(item) else {
        return 0;
    };
    let given = count.min(*there);
    *there -= given;
    given
}

fn shop(stock: &Stock) -> HostFunctions {
    let stock = Arc::clone(stock);
    HostFunctions::new()
        .func(SHOP, "price", |_, (item,): (String,)| {
            let price = match item.as_str() {
                "tea" => Some(450_u32),
                "coffee" => Some(700),
                _ => None,
            };
            Ok((price,))
        })
        // What takes long belongs into a future: it is dropped at the call's deadline.
        .func_async(SHOP, "reserve", move |_, (item, count): (String, u32)| {
            let stock = Arc::clone(&stock);
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok((take(&stock, &item, count),))
            }
        })
        .func(SHOP, "discount", |caller, (customer,): (String,)| {
            no_discount(caller, &customer)
        })
}

#[allow(clippy::panic, reason = "what becomes of a panic is what this shows")]
fn no_discount(caller: &Caller, customer: &str) -> wasmtime::Result<(u32,)> {
    panic!(
        "no discount for {customer}, whom {} serves",
        caller.component
    )
}

fn text(text: &str) -> Val {
    Val::String(text.into())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let guests = concat!(env!("CARGO_MANIFEST_DIR"), "/guests/components");
    let config = ComponentConfig::load(format!("{guests}/clerk/Component.toml"))?;
    let mut counters = SupervisorSpec::new("counters");
    for name in ["left", "right"] {
        let name = name.parse()?;
        counters = counters.child(ChildSpec::component_named(name, config.clone()));
    }
    let filled = HashMap::from([(String::from("tea"), 5)]);
    let stock = Stock::new(Mutex::new(filled));
    let host = Host::builder()
        .host_functions(shop(&stock))
        .supervisor(counters)
        .start()
        .await?;
    let (left, right) = (host.component("left")?, host.component("right")?);

    for (who, item, count) in [
        (&left, "tea", 3),
        (&right, "tea", 3),
        (&left, "tea", 1),
        (&left, "soap", 1),
    ] {
        let answer = who.call("buy", &[text(item), Val::U32(count)]).await?;
        println!("{} sells {count} {item}: {answer:?}", who.name());
    }

    // The panic stays in its call: the caller is told which function it was, and what it said.
    let as_customer = [text("ann"), text("tea"), Val::U32(1)];
    match left.call("buy-as", &as_customer).await {
        Err(WasmError::Exited { cause, .. }) => match &*cause {
            ExitCause::HostPanic { entry, message } => {
                println!("panic in {}: {message}", entry.as_deref().unwrap_or("?"));
            }
            other => return Err(format!("unexpected: {other}").into()),
        },
        other => return Err(format!("unexpected: {other:?}").into()),
    }
    println!(
        "panics counted: {}, on record: {}",
        host.panics().counts().panicked,
        host.panics().last_panics().len()
    );
    // The instance whose call it was has been replaced and begins anew; the other has not noticed.
    println!("left has made {:?}", left.call("purchases", &[]).await?);
    println!("right has made {:?}", right.call("purchases", &[]).await?);

    host.shutdown().await;
    Ok(())
}
