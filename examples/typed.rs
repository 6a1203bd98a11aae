//! Typed calls through generated bindings, under the same limits and deadline as any other: several
//! in one turn, state that lasts from one turn to the next, errors of the guest's own, and a guest
//! that does not survive.
//!
//! Run it with `cargo run --example typed`.

use std::error::Error;

use airssys::{ComponentRef, Host, WasmError};

mod notebook {
    wasmtime::component::bindgen!({
        path: "guests/components/notebook/wit",
        exports: { default: async },
    });
}

mod calculator {
    wasmtime::component::bindgen!({
        path: "guests/components/calculator/wit",
        exports: { default: async },
    });
}

mod leaky {
    wasmtime::component::bindgen!({
        path: "guests/components/leaky/wit",
        exports: { default: async },
    });
}

/// Adds notes and reads the last one back. The instance belongs to this turn alone: no other call
/// comes in between.
async fn take_down(component: &ComponentRef, texts: Vec<String>) -> Result<String, WasmError> {
    component
        .run(|mut store, instance| {
            Box::pin(async move {
                let guest = notebook::Notebook::new(&mut store, instance)?;
                let notes = guest.airssys_notebook_notes();
                let mut count = 0;
                for text in &texts {
                    count = notes.call_append(&mut store, text).await?;
                }
                let last = notes.call_get(&mut store, count.saturating_sub(1)).await?;
                Ok(format!("{count} notes, the last: {last:?}"))
            })
        })
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let guests = concat!(env!("CARGO_MANIFEST_DIR"), "/guests");
    let host = Host::from_config(format!("{guests}/airssys.toml")).await?;

    // The guest keeps its notes from one turn to the next.
    let notes = host.component("notebook")?;
    let words = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    println!("{}", take_down(&notes, words(&["one", "two"])).await?);
    println!("{}", take_down(&notes, words(&["three"])).await?);

    // An error of the guest's own is part of the result. It ends nothing.
    let quotient = host
        .component("calculator")?
        .run(|mut store, instance| {
            Box::pin(async move {
                let guest = calculator::Calculator::new(&mut store, instance)?;
                let arithmetic = guest.airssys_calculator_arithmetic();
                arithmetic.call_divide(&mut store, 1, 0).await
            })
        })
        .await?;
    println!("1 / 0 = {quotient:?}");

    // A guest that meets its limit in a typed call ends like in any other, with the figures.
    let leak = host.component("leaky")?;
    let leaked = leak
        .run(|mut store, instance| {
            Box::pin(async move {
                let guest = leaky::Leaky::new(&mut store, instance)?;
                let leak = guest.airssys_leaky_leak();
                leak.call_leak(&mut store, 4096).await?;
                leak.call_leak_until_refused(&mut store).await
            })
        })
        .await;
    match leaked {
        Err(WasmError::OutOfMemory {
            limit_bytes,
            current_bytes,
            requested_bytes,
            ..
        }) => println!(
            "leaky held {current_bytes} of {limit_bytes} bytes and wanted {requested_bytes} more"
        ),
        other => return Err(format!("unexpected: {other:?}").into()),
    }
    println!("held by its successor: {:?}", leak.call("held", &[]).await?);
    println!("{}", take_down(&notes, words(&["four"])).await?);

    host.shutdown().await;
    Ok(())
}
