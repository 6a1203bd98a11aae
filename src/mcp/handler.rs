//! What one client asks, and who answers it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ErrorData, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, SubscriptionFilter, Tool,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler};

use super::Shared;

/// What the client is told of the server as a whole.
const INSTRUCTIONS: &str = "Each tool is a function of a WebAssembly component that runs under \
    limits. An error with `replaced` ended the component's instance, and a fresh one answers the \
    next call; `retry` says whether the same call may go well. What a component was denied stands \
    after its answer, with the grant that only the host's owner can add.";

/// One client, or one request of a client without a session.
#[derive(Debug)]
pub(super) struct Client {
    shared: Arc<Shared>,
    /// Whether it has been added to those that are told of changes.
    begun: AtomicBool,
}

impl Client {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            begun: AtomicBool::new(false),
        }
    }
}

impl ServerHandler for Client {
    fn get_info(&self) -> ServerConfig {
        let tools = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed();
        ServerConfig::new(tools.build())
            .with_server_info(Implementation::new("airssys", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let cursor = request.and_then(|request| request.cursor);
        let (page, next) = self.shared.catalogue.look().page(cursor.as_deref());
        let mut list = ListToolsResult::with_all_items(page);
        list.next_cursor = next;
        Ok(list)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let offer = self.shared.catalogue.find(name)?;
        Some(offer.tool.clone())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.shared.call(request, context).await.map(Into::into)
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        if !self.begun.swap(true, Ordering::Relaxed) {
            self.shared.add_peer(context.peer);
        }
    }

    fn accepted_subscription_filter(&self, _: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(SubscriptionFilter::builder().tools_list_changed().build())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.shared.catalogue.changes();
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    // An error means that nobody reads any more.
                    Ok(()) if context.sink().notify_tool_list_changed().await.is_ok() => {}
                    _ => return Ok(()),
                },
                () = context.cancelled() => return Ok(()),
            }
        }
    }
}
