//! An agent host in forty lines: it starts a tree of components, calls them in both ways, lets one
//! run out of memory, and adds another while the tree runs.
//!
//! Run it with `cargo run --example embed`.

use airssys::{ChildSpec, ComponentConfig, ComponentSpec, Host, SupervisorMessage, Val, WasmError};

mod calculator {
    wasmtime::component::bindgen!({
        path: "guests/components/calculator/wit",
        exports: { default: async },
    });
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let guests = concat!(env!("CARGO_MANIFEST_DIR"), "/guests");
    let host = Host::from_config(format!("{guests}/airssys.toml")).await?;

    // By name, with values whose types are checked before the guest is entered.
    let calculator = host.component("calculator")?;
    let two_and_three = [Val::U32(2), Val::U32(3)];
    let sum = calculator
        .call("docs:adder/add@0.1.0#add", &two_and_three)
        .await?;
    println!("2 + 3 = {sum:?}");

    // Typed, through generated bindings, under the same limits.
    let product = calculator
        .run(|mut store, instance| {
            Box::pin(async move {
                let guest = calculator::Calculator::new(&mut store, instance)?;
                let arithmetic = guest.airssys_calculator_arithmetic();
                arithmetic.call_divide(&mut store, 84, 2).await
            })
        })
        .await?;
    println!("84 / 2 = {product:?}");

    // A tool that leaks is stopped, named and replaced; the next call finds a fresh instance.
    let leaky = host.component("leaky")?;
    match leaky.call("leak-until-refused", &[]).await {
        Err(WasmError::OutOfMemory {
            limit_bytes,
            requested_bytes,
            ..
        }) => println!("leaky wanted {requested_bytes} bytes more than its {limit_bytes}"),
        other => println!("unexpected: {other:?}"),
    }
    println!("held afterwards: {:?}", leaky.call("held", &[]).await?);

    // Components come and go by messages to their supervisor.
    let tools = host.supervisor("tools")?;
    let second = ComponentConfig::load(format!("{guests}/components/notebook/Component.toml"))?;
    let second = ChildSpec::component_named("second-notebook".parse()?, second);
    ractor::call!(tools.actor(), SupervisorMessage::StartChild, second)??;
    let notes = host.component("second-notebook")?;
    let count = notes
        .call("append", &[Val::String("remember".into())])
        .await?;
    println!("notes: {count:?}");

    host.shutdown().await;
    Ok(())
}
