//! What a component was denied during a call, with the grants that are missing.

use rmcp::model::{CallToolResult, ContentBlock, MetaObject};
use serde_json::{Value, json};

use crate::CallEvent;

/// Where `_meta` of a result has what was denied.
const META_DENIED: &str = "airssys/denied";

/// Most denials that a result tells of; one that is the same as another counts once.
const MAX_DENIALS: usize = 16;

/// What was denied in one call.
#[derive(Debug, Default)]
pub(super) struct Denied {
    told: Vec<Value>,
    more: u64,
    /// What the component said too fast to be read; denials may be among it.
    unseen: u64,
}

impl Denied {
    /// Takes in what is a denial.
    pub(super) fn see(&mut self, event: &CallEvent) {
        let denied = match event {
            CallEvent::Denied(denied) => denied,
            CallEvent::Lost(events) => {
                self.unseen += events;
                return;
            }
            _ => return,
        };
        let denial = &denied.denial;
        let told = json!({
            "component": denied.component.as_str(),
            "capability": denial.capability.name(),
            "subject": denial.subject,
            "reason": denial.reason.to_string(),
            "missing_toml": denial.missing.as_ref().map(ToString::to_string),
        });
        if self.told.contains(&told) {
            return;
        }
        match self.told.len() < MAX_DENIALS {
            true => self.told.push(told),
            false => self.more += 1,
        }
    }

    /// Adds it to what the call returned: to the content for the model, to `_meta` for the program.
    pub(super) fn tell(self, mut result: CallToolResult) -> CallToolResult {
        if self.told.is_empty() && self.unseen == 0 {
            return result;
        }
        let told = json!({ "denied": self.told, "more": self.more, "unseen": self.unseen });
        if !self.told.is_empty() {
            result.content.push(ContentBlock::text(told.to_string()));
        }
        let meta = result.meta.get_or_insert_with(MetaObject::new);
        meta.0.insert(META_DENIED.into(), told);
        result
    }
}
