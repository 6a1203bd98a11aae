//! The tools there are: the functions of all components that have been loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use rmcp::model::{JsonObject, MetaObject, Tool};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::annotations::annotated;
use super::naming;
use crate::json::FunctionSchema;
use crate::{ComponentName, ComponentRef, Exports, FunctionError, Host, WasmError};

/// Most tools of one answer to `tools/list`; the next ones are a cursor away.
const PAGE_TOOLS: usize = 500;

/// Bytes of tools in an answer to `tools/list` after which no further tool begins.
const PAGE_BYTES: usize = 1024 * 1024;

/// What `_meta` of a tool calls its component, its function, and the type of its error.
const META_COMPONENT: &str = "airssys/component";
const META_FUNCTION: &str = "airssys/function";
const META_ERROR: &str = "airssys/error-schema";

/// A tool and what it calls.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) component: ComponentRef,
    /// The full name of the function.
    pub(super) function: Arc<str>,
    pub(super) tool: Tool,
    /// The tool's size as JSON.
    bytes: usize,
}

/// All tools at one time.
#[derive(Debug)]
pub(super) struct Tools {
    offers: BTreeMap<String, Arc<Offer>>,
    /// What they were made from.
    seen: Vec<Seen>,
    /// How often the list has changed.
    version: u64,
}

/// A component and its exports.
type Seen = (ComponentName, Arc<Exports>);

/// The tools of a host, made anew when its components change.
#[derive(Debug)]
pub(super) struct Catalogue {
    host: Arc<Host>,
    tools: watch::Sender<Arc<Tools>>,
}

impl Catalogue {
    pub(super) fn new(host: Arc<Host>) -> Self {
        let tools = Arc::new(Tools::of(&host.components(), 0));
        Self {
            host,
            tools: watch::Sender::new(tools),
        }
    }

    /// The tools there are now.
    pub(super) fn look(&self) -> Arc<Tools> {
        let components = self.host.components();
        let held = Arc::clone(&self.tools.borrow());
        if held.is_of(&seen(&components)) {
            return held;
        }
        let mut fresh = Tools::of(&components, held.version + 1);
        let changed = fresh.offers_other_tools_than(&held);
        if !changed {
            fresh.version = held.version;
        }
        let fresh = Arc::new(fresh);
        self.tools.send_if_modified(|slot| {
            // Somebody else who looked has seen the same or later.
            let is_next = Arc::ptr_eq(slot, &held);
            if is_next {
                *slot = Arc::clone(&fresh);
            }
            is_next && changed
        });
        fresh
    }

    /// The tool of that name.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Offer>> {
        let held = self.tools.borrow().offers.get(name).cloned();
        held.or_else(|| self.look().offers.get(name).cloned())
    }

    /// Wakes when the list is another than before.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<Tools>> {
        self.tools.subscribe()
    }
}

fn seen(components: &[ComponentRef]) -> Vec<Seen> {
    let seen = components.iter().filter_map(|component| {
        let exports = component.exports().ok()?;
        Some((component.name().clone(), exports))
    });
    seen.collect()
}

impl Tools {
    fn of(components: &[ComponentRef], version: u64) -> Self {
        let offers = components.iter().flat_map(offers);
        Self {
            offers: offers
                .map(|offer| (offer.tool.name.to_string(), Arc::new(offer)))
                .collect(),
            seen: seen(components),
            version,
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether these are the components, with the very code, that the tools were made from.
    fn is_of(&self, seen: &[Seen]) -> bool {
        let alike =
            |(one, other): (&Seen, &Seen)| one.0 == other.0 && Arc::ptr_eq(&one.1, &other.1);
        self.seen.len() == seen.len() && self.seen.iter().zip(seen).all(alike)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.offers.keys().cloned().collect()
    }

    /// The tools after that name, as many as go into one answer, and the name to go on from.
    pub(super) fn page(&self, after: Option<&str>) -> (Vec<Tool>, Option<String>) {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut rest = self.offers.range::<str, _>((from, Unbounded)).peekable();
        let (mut page, mut bytes) = (Vec::new(), 0);
        while let Some((name, offer)) = rest.next() {
            page.push(offer.tool.clone());
            bytes += offer.bytes;
            let full = page.len() == PAGE_TOOLS || bytes >= PAGE_BYTES;
            if full && rest.peek().is_some() {
                return (page, Some(name.clone()));
            }
        }
        (page, None)
    }

    fn offers_other_tools_than(&self, other: &Self) -> bool {
        let tools = |tools: &Self| {
            tools
                .offers
                .values()
                .map(|offer| offer.tool.clone())
                .collect()
        };
        let (one, two): (Vec<Tool>, Vec<Tool>) = (tools(self), tools(other));
        one != two
    }
}

/// The functions of a component whose values travel, each as a tool.
fn offers(component: &ComponentRef) -> Vec<Offer> {
    let Ok(exports) = component.exports() else {
        return Vec::new();
    };
    let functions = exports.functions();
    let full: Vec<&str> = functions.iter().map(|function| &*function.name).collect();
    // All of them are named, so that the others' names do not hang on which of them travel.
    let names = naming::names(component.name().as_str(), &full);
    let named = functions.iter().zip(names);
    let offers = named.filter_map(|(function, name)| offer(component, &function.name, name));
    offers.collect()
}

fn offer(component: &ComponentRef, function: &Arc<str>, name: String) -> Option<Offer> {
    let schema = match component.schema(function) {
        Ok(schema) => schema,
        Err(WasmError::Function {
            source: FunctionError::SchemaTooLarge { .. },
            ..
        }) => open_schema(),
        // Its values do not travel.
        Err(_) => return None,
    };
    let (text, annotations) = annotated(schema.description.as_deref().unwrap_or_default());
    let description = match text.is_empty() {
        true => format!("`{function}` of the component `{}`", component.name()),
        false => text,
    };
    let mut tool = Tool::new(name, description, object(schema.input)?);
    tool.annotations = annotations;
    tool.output_schema = schema.output.and_then(wrapped);
    let mut meta = MetaObject::new();
    meta.0
        .insert(META_COMPONENT.into(), component.name().as_str().into());
    meta.0.insert(META_FUNCTION.into(), (**function).into());
    if let Some(error) = schema.error {
        meta.0.insert(META_ERROR.into(), error);
    }
    tool.meta = Some(meta);
    Some(Offer {
        component: component.clone(),
        function: Arc::clone(function),
        bytes: serde_json::to_vec(&tool).map_or(0, |json| json.len()),
        tool,
    })
}

/// For a function whose types are more than a schema can say: the call says what does not fit.
fn open_schema() -> FunctionSchema {
    FunctionSchema {
        description: None,
        input: json!({ "type": "object" }),
        output: None,
        error: None,
    }
}

/// The result's type where structured content has it: under `result`, since the protocol's older
/// revisions want an object.
fn wrapped(result: Value) -> Option<Arc<JsonObject>> {
    object(json!({
        "type": "object",
        "properties": { "result": result },
        "required": ["result"],
    }))
    .map(Arc::new)
}

fn object(value: Value) -> Option<JsonObject> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}
