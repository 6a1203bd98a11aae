//! Children that come and go while the tree runs: started by a method and by plain ractor message,
//! terminated, restarted, deleted and counted.
//!
//! Run it with `cargo run --example spawn`.

use std::error::Error;

use airssys::{
    Change, ChildSpec, ComponentConfig, ComponentSpec, Host, Intensity, Received, Refusal, Restart,
    SupervisorError, SupervisorMessage, SupervisorRef, SupervisorSpec, Val, WasmError, ractor,
};

/// A child for one of the project's components, under a name of its own.
fn child(name: &str) -> Result<ChildSpec, Box<dyn Error>> {
    let guests = concat!(env!("CARGO_MANIFEST_DIR"), "/guests/components");
    let config = ComponentConfig::load(format!("{guests}/notebook/Component.toml"))?;
    Ok(ChildSpec::component_named(name.parse()?, config))
}

async fn print_counts(tools: &SupervisorRef, when: &str) -> Result<(), Box<dyn Error>> {
    let counts = tools.count_children().await?;
    println!(
        "{when}: {} specs, {} active, {} workers",
        counts.specs, counts.active, counts.workers
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A tree from code: one supervisor without children.
    let spec = SupervisorSpec::new("tools").intensity(Intensity::default());
    let host = Host::builder().supervisor(spec).start().await?;
    let tools = host.supervisor("tools")?;
    let mut events = host.events();
    print_counts(&tools, "empty").await?;

    // By a method of the reference, which stays valid over restarts of the supervisor.
    let started = tools.start_child(child("first")?).await?;
    println!(
        "started {} in generation {}",
        started.id, started.generation
    );

    // The same by plain ractor message, to the actor that supervises at the moment.
    let spec = child("second")?.restart(Restart::Transient);
    let started = ractor::call!(tools.actor(), SupervisorMessage::StartChild, spec)??;
    println!(
        "started {} in generation {}",
        started.id, started.generation
    );
    print_counts(&tools, "two started").await?;

    // A name that is taken is refused by a typed error, and its holder is left alone.
    match tools.start_child(child("first")?).await {
        Err(SupervisorError::Refused(refusal @ Refusal::AlreadyStarted { .. })) => {
            println!("refused: {refusal}");
        }
        other => return Err(format!("unexpected: {other:?}").into()),
    }

    // A terminated child keeps its place; its reference says so, and works again after a restart.
    let second = host.component("second")?;
    second.call("append", &[Val::String("a".into())]).await?;
    tools.terminate_child("second").await?;
    print_counts(&tools, "one terminated").await?;
    match second.call("count", &[]).await {
        Err(error @ WasmError::Stopped { .. }) => println!("called: {error}"),
        other => return Err(format!("unexpected: {other:?}").into()),
    }
    let started = ractor::call!(
        tools.actor(),
        SupervisorMessage::RestartChild,
        "second".into()
    )??;
    println!(
        "restarted {} in generation {}",
        started.id, started.generation
    );
    println!(
        "notes after the restart: {:?}",
        second.call("count", &[]).await?
    );

    // A running child is not deleted; a terminated one is, and its name is free again.
    match tools.delete_child("second").await {
        Err(SupervisorError::Refused(refusal)) => println!("refused: {refusal}"),
        other => return Err(format!("unexpected: {other:?}").into()),
    }
    tools.terminate_child("second").await?;
    tools.delete_child("second").await?;
    print_counts(&tools, "one deleted").await?;
    println!("unknown: {}", host.component("second").is_err());

    for status in tools.which_children().await? {
        println!(
            "{}: generation {}, {:?}",
            status.id, status.generation, status.state
        );
    }
    host.shutdown().await;
    drop(host);
    // All of it was told as events, what the shutdown did included.
    let (mut starts, mut exits) = (0, 0);
    while let Some(Received::Event(event)) = events.next().await {
        if event.supervisor != *tools.name() {
            continue;
        }
        match event.change {
            Change::Started { .. } => starts += 1,
            Change::Exited { .. } => exits += 1,
            _ => {}
        }
    }
    println!("events: {starts} starts, {exits} exits");
    Ok(())
}
