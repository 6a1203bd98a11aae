//! One call: arguments in JSON, the component's answer, and what the client is told.

use std::pin::pin;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock, ErrorData};
use rmcp::service::RequestContext;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::catalogue::Offer;
use super::denied::Denied;
use super::failure;
use super::progress::Progress;
use super::{Shared, TELL_LIMIT};
use crate::json::Outcome;
use crate::{CallEvents, CallOptions, CallWatch, WasmError};

impl Shared {
    /// Calls a tool. What goes wrong in the tool is a result that says so; only a tool that is not
    /// there is an error of the protocol.
    pub(super) async fn call(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let Some(offer) = self.catalogue.find(&request.name) else {
            let name: String = request.name.chars().take(200).collect();
            return Err(ErrorData::invalid_params(
                format!("unknown tool: {name}"),
                None,
            ));
        };
        let Ok(_permit) = self.calls.try_acquire() else {
            return Ok(failed(&failure::busy(self.options.max_calls)));
        };
        let token = context.meta.get_progress_token();
        let mut progress = token.map(|token| Progress::new(context.peer.clone(), token));
        let mut denied = Denied::default();
        let (watch, mut events) = CallWatch::new();
        let mut options = CallOptions::default().watch(watch);
        if let Some(deadline) = self.options.deadline {
            options = options.deadline(deadline);
        }
        let arguments = request.arguments.unwrap_or_default();
        let interval = self.options.progress_interval;
        let result = {
            let mut called = pin!(run(&offer, &arguments, options));
            let mut watching = pin!(watched(
                &mut events,
                &mut denied,
                progress.as_mut(),
                interval
            ));
            let mut over = false;
            let result = loop {
                tokio::select! {
                    called = &mut called => break told(called),
                    () = &mut watching, if !over => over = true,
                    // Dropping the call ends the guest.
                    () = context.ct.cancelled() => return Ok(failed(&failure::cancelled())),
                }
            };
            if !over {
                // Word under way is not overtaken; the answer waits for no client that does not read.
                timeout(TELL_LIMIT, watching).await.ok();
            }
            result
        };
        while let Some(event) = events.try_next() {
            denied.see(&event);
        }
        Ok(denied.tell(result))
    }
}

async fn run(
    offer: &Offer,
    arguments: &serde_json::Map<String, Value>,
    options: CallOptions,
) -> Result<Outcome, WasmError> {
    let called = offer
        .component
        .call_json_with(&offer.function, arguments, options);
    called.await
}

/// Takes in what the component says while the call runs, and passes it on to a client that wants to
/// know; returns once the call is over and all has been taken in.
async fn watched(
    events: &mut CallEvents,
    denied: &mut Denied,
    mut progress: Option<&mut Progress>,
    interval: Duration,
) {
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return };
                denied.see(&event);
                if let Some(progress) = &mut progress {
                    progress.pass_on(event).await;
                }
            }
            _ = ticks.tick() => if let Some(progress) = &mut progress {
                progress.still_running().await;
            },
        }
    }
}

fn told(called: Result<Outcome, WasmError>) -> CallToolResult {
    match called {
        Ok(Outcome::Value(Some(value))) => CallToolResult::structured(json!({ "result": value })),
        Ok(Outcome::Value(None)) => CallToolResult::success(vec![ContentBlock::text("ok")]),
        Ok(Outcome::Error(error)) => failed(&error),
        Err(error) => failed(&failure::failure(&error)),
    }
}

/// An error as text alone: structured content would have to be of the type of a result.
fn failed(error: &Value) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(error.to_string())])
}
