//! One call: arguments in JSON, the component's answer, and what the client is told.

use rmcp::RoleServer;
use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock, ErrorData};
use rmcp::service::RequestContext;
use serde_json::{Value, json};

use super::Shared;
use super::catalogue::Offer;
use super::denied::Denied;
use super::failure;
use super::progress::Progress;
use crate::WasmError;
use crate::json::Outcome;

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
        let denied = Denied::default();
        let arguments = request.arguments.unwrap_or_default();
        let called = self.run(&offer, &arguments);
        let ticking = async {
            match &mut progress {
                Some(progress) => progress.tick(self.options.progress_interval).await,
                None => std::future::pending().await,
            }
        };
        // Dropping the call ends the guest.
        let result = tokio::select! {
            called = called => told(called),
            () = ticking => failed(&failure::cancelled()),
            () = context.ct.cancelled() => failed(&failure::cancelled()),
        };
        Ok(denied.tell(result))
    }

    async fn run(
        &self,
        offer: &Offer,
        arguments: &serde_json::Map<String, Value>,
    ) -> Result<Outcome, WasmError> {
        let message = offer.component.encode_json(&offer.function, arguments)?;
        let results = offer.component.call_encoded(&offer.function, message);
        results.await?.json()
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
