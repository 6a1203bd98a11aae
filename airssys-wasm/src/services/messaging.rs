//! `airssys:messaging`: components that send to components (ADR-WASM-019).
//!
//! A message travels as any call does: through the receiver's mailbox, in a checked buffer, served by
//! whichever instance is there. Nobody is called that has not been granted by name or topic, and
//! whoever is called is told who calls by the host.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use airssys_osl::grants::{Capability, Denial, DenialReason, Missing, NamePattern, NameRules};
use airssys_rt::{TaskEnd, TaskHandle, TaskLimit};
use wasmtime::component::Type;

use super::allowance::Allowance;
use super::bindings::airssys::messaging::bus;
use super::bindings::airssys::messaging::types::{self, Delivery, Undelivered};
use super::chain::Chain;
use super::gate::Gate;
use crate::component::ComponentRef;
use crate::config::{ComponentName, MessagingConfig};
use crate::error::WasmError;
use crate::instance::Call;
use crate::message::Way;
use crate::state::ComponentState;

/// What a component exports that takes messages.
const HANDLE: &str = "airssys:messaging/receiver@0.1.0#handle";

/// Longest time a request may wait, whatever it asks for.
const MAX_REQUEST: Duration = Duration::from_secs(300);

/// Who subscribes to what. Read at each publication, written when components come and go.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(RwLock<Arc<Vec<(NamePattern, ComponentName)>>>);

impl Subscriptions {
    pub(crate) fn enter(&self, name: &ComponentName, topics: &[NamePattern]) {
        if !topics.is_empty() {
            self.change(|list| list.extend(topics.iter().map(|t| (t.clone(), name.clone()))));
        }
    }

    /// Subscribes to these topics and no others.
    pub(crate) fn renew(&self, name: &ComponentName, topics: &[NamePattern]) {
        if topics.is_empty() {
            return self.leave(name);
        }
        self.change(|list| {
            list.retain(|(_, subscriber)| subscriber != name);
            list.extend(topics.iter().map(|topic| (topic.clone(), name.clone())));
        });
    }

    pub(crate) fn leave(&self, name: &ComponentName) {
        if self.list().iter().any(|(_, subscriber)| subscriber == name) {
            self.change(|list| list.retain(|(_, subscriber)| subscriber != name));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<(NamePattern, ComponentName)>)) {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut list));
    }

    fn list(&self) -> Arc<Vec<(NamePattern, ComponentName)>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who subscribes to a topic: each component once, in the order they came.
    pub(crate) fn of(&self, topic: &str) -> Vec<ComponentName> {
        let mut found: Vec<ComponentName> = Vec::new();
        for (pattern, name) in self.list().iter() {
            if pattern.has(topic) && !found.contains(name) {
                found.push(name.clone());
            }
        }
        found
    }
}

/// What a component may send, of all its instances together.
#[derive(Debug)]
pub(crate) struct Postage {
    config: MessagingConfig,
    policy_topics: Option<NameRules>,
    policy_call: Option<NameRules>,
    allowance: Mutex<Allowance>,
}

/// Messages of this process so far.
static MESSAGES: AtomicU64 = AtomicU64::new(0);

impl Postage {
    pub(crate) fn new(
        config: &MessagingConfig,
        policy_topics: Option<NameRules>,
        policy_call: Option<NameRules>,
    ) -> Self {
        let allowance = Allowance::new(u64::from(config.max_per_second));
        Self {
            config: config.clone(),
            policy_topics,
            policy_call,
            allowance: Mutex::new(allowance),
        }
    }

    /// The number of a message that may be sent.
    fn stamp(&self, payload: &[u8]) -> Result<u64, Undelivered> {
        if payload.len() > self.config.max_message_bytes {
            return Err(Undelivered::TooLarge);
        }
        let mut allowance = self
            .allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match allowance.take(1, Instant::now()) {
            0 => Err(Undelivered::TooFast),
            _ => Ok(MESSAGES.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }
}

impl Gate {
    /// Whether the component may send to another.
    fn may_send(&self, verb: &str, to: &str) -> Result<(), Undelivered> {
        let postage = &self.granted().postage;
        let policy = postage.policy_call.as_ref();
        self.may(verb, to, &postage.config.call, policy, "call")
    }

    fn may_publish(&self, topic: &str) -> Result<(), Undelivered> {
        let postage = &self.granted().postage;
        let policy = postage.policy_topics.as_ref();
        self.may("publish", topic, &postage.config.publish, policy, "publish")
    }

    fn may(
        &self,
        verb: &str,
        name: &str,
        granted: &NameRules,
        policy: Option<&NameRules>,
        key: &'static str,
    ) -> Result<(), Undelivered> {
        let refused = |rule: Option<&NamePattern>, by_policy: bool| {
            let reason = match (rule, by_policy) {
                (None, false) => DenialReason::NotGranted,
                (None, true) => DenialReason::NotAllowed,
                (Some(rule), false) => DenialReason::Denied(rule.to_string()),
                (Some(rule), true) => DenialReason::Forbidden(rule.to_string()),
            };
            let named = rule.is_none() && NamePattern::is_name(name);
            Denial {
                capability: Capability::Messaging,
                subject: format!("{verb} {name}"),
                reason,
                missing: named.then(|| {
                    Box::new(Missing {
                        table: match by_policy {
                            false => "[capabilities.messaging]",
                            true => "[policy.messaging]",
                        },
                        key: match (by_policy, key) {
                            (true, "publish") => "topics",
                            (_, key) => key,
                        },
                        value: format!("[\"{name}\"]"),
                        beside: Vec::new(),
                    })
                }),
            }
        };
        let rule = granted.check(name).map_err(|rule| refused(rule, false));
        let rule = rule.and_then(|rule| match policy.map(|policy| policy.check(name)) {
            Some(Err(against)) => Err(refused(against, true)),
            _ => Ok(rule),
        });
        rule.and_then(|rule| {
            let subject = format_args!("{verb} {name}");
            self.allow(Capability::Messaging, subject, rule.as_str())
        })
        .map_err(|denial| {
            self.deny(denial);
            Undelivered::Denied
        })
    }
}

/// What a message says of itself.
struct Envelope<'a> {
    sender: &'a ComponentName,
    topic: Option<&'a str>,
    id: u64,
    payload: &'a [u8],
}

/// The one argument of `handle`, encoded for the component.
fn encode(to: &ComponentRef, envelope: &Envelope<'_>) -> Result<Call, Undelivered> {
    let loaded = to.loaded().map_err(|_| Undelivered::NoReceiver)?;
    let found = to.callable(&loaded, HANDLE);
    let (position, function) = found.map_err(|_| Undelivered::NoReceiver)?;
    if !is_receiver(&function.params, &function.results) {
        return Err(Undelivered::NoReceiver);
    }
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map(u32::to_le_bytes);
    let sender = envelope.sender.as_str().as_bytes();
    let topic = envelope.topic.map(str::as_bytes);
    let bytes = 4 + sender.len() + 1 + topic.map_or(0, |topic| 4 + topic.len()) + 8 + 4;
    let written = || {
        let bytes = bytes + envelope.payload.len();
        let mut writer = loaded.messages.writer(Way::In, bytes).ok()?;
        let mut append = |bytes: &[u8]| writer.append(bytes).ok();
        append(&length(sender).ok()?)?;
        append(sender)?;
        match topic {
            None => append(&[0])?,
            Some(topic) => {
                append(&[1])?;
                append(&length(topic).ok()?)?;
                append(topic)?;
            }
        }
        append(&envelope.id.to_le_bytes())?;
        append(&length(envelope.payload).ok()?)?;
        append(envelope.payload)?;
        Some(writer.finish())
    };
    let arguments = written().ok_or(Undelivered::TooLarge)?;
    Ok(Call::new(loaded, position, arguments))
}

/// Whether a function is of the type it has in `wit/deps/messaging.wit`: only then are its values
/// the bytes that are written here.
fn is_receiver(params: &[(String, Type)], results: &[Type]) -> bool {
    let bytes = |ty: &Type| matches!(ty, Type::List(list) if list.ty() == Type::U8);
    let [(_, Type::Record(message))] = params else {
        return false;
    };
    let fields: Vec<_> = message
        .fields()
        .map(|field| (field.name, field.ty))
        .collect();
    let takes = match &fields[..] {
        [
            ("sender", Type::String),
            ("topic", Type::Option(topic)),
            ("id", Type::U64),
            ("payload", payload),
        ] => topic.ty() == Type::String && bytes(payload),
        _ => false,
    };
    let [Type::Result(answer)] = results else {
        return false;
    };
    takes && answer.ok().as_ref().is_some_and(bytes) && answer.err() == Some(Type::String)
}

/// What an answer says: `result<list<u8>, string>`.
fn decode(bytes: &[u8]) -> Option<Result<Vec<u8>, String>> {
    let (&case, rest) = bytes.split_first()?;
    let run = rest.get(4..)?;
    match case {
        0 => Some(Ok(run.to_vec())),
        _ => Some(Err(String::from_utf8_lossy(run).into_owned())),
    }
}

fn undelivered(error: &WasmError) -> Undelivered {
    match error {
        WasmError::MailboxFull { .. } | WasmError::NoWaitingRoom { .. } => Undelivered::Full,
        WasmError::Stopped { .. } | WasmError::NotStarted { .. } => Undelivered::Stopped,
        WasmError::Expired { .. } => Undelivered::Deadline,
        WasmError::Arguments { .. } => Undelivered::TooLarge,
        _ => Undelivered::Failed,
    }
}

type Answer = Result<Result<Vec<u8>, String>, Undelivered>;

/// A message that was put into a mailbox.
enum Posted {
    Answered(Answer),
    /// It goes on whether anybody waits for it or not, so that no sender ends a receiver by losing
    /// patience.
    Under(TaskHandle<Answer>),
}

impl Posted {
    /// What came of it.
    async fn answer(self) -> Answer {
        match self {
            Self::Answered(answer) => answer,
            Self::Under(task) => match task.await {
                TaskEnd::Finished(answer) => answer,
                _ => Err(Undelivered::Failed),
            },
        }
    }

    /// Whether it was delivered, whatever comes of it.
    fn delivered(self) -> Result<(), Undelivered> {
        match self {
            Self::Answered(Err(why @ (Undelivered::Full | Undelivered::Stopped))) => Err(why),
            _ => Ok(()),
        }
    }
}

impl Gate {
    fn receiver(&self, name: &str) -> Result<ComponentRef, Undelivered> {
        let found = self.reach().runtime.component(name);
        found.ok_or(Undelivered::NoReceiver)
    }

    /// Puts a message into a mailbox, or tells why not.
    async fn post(
        &self,
        to: ComponentRef,
        envelope: Envelope<'_>,
        chain: Option<Arc<Chain>>,
    ) -> Result<Posted, Undelivered> {
        let letter = Call {
            chain,
            ..encode(&to, &envelope)?
        };
        let call = async move {
            let answer = to.deliver(letter).await;
            let answer = answer.map_err(|error| undelivered(&error))?;
            let bytes = answer.reading().read().map_err(|_| Undelivered::Failed)?;
            decode(bytes).ok_or(Undelivered::Failed)
        };
        let mut call = Box::pin(call);
        // Once: it is in the mailbox then, or it is known why it is not.
        let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context)));
        if let Poll::Ready(answer) = first.await {
            return Ok(Posted::Answered(answer));
        }
        let tasks = &self.reach().tasks;
        let task = tasks.spawn_within(TaskLimit::Unlimited, "message", call);
        task.map(Posted::Under).map_err(|_| Undelivered::Stopped)
    }
}

impl types::Host for ComponentState {}

impl bus::Host for ComponentState {
    async fn send(
        &mut self,
        to: String,
        payload: Vec<u8>,
    ) -> wasmtime::Result<Result<u64, Undelivered>> {
        let gate = Arc::clone(self.gate());
        let sent = async {
            gate.may_send("send", &to)?;
            let id = gate.granted().postage.stamp(&payload)?;
            let envelope = Envelope {
                sender: &gate.caller().component,
                topic: None,
                id,
                payload: &payload,
            };
            let posted = gate.post(gate.receiver(&to)?, envelope, None).await?;
            posted.delivered().map(|()| id)
        };
        Ok(sent.await)
    }

    async fn request(
        &mut self,
        to: String,
        payload: Vec<u8>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Answer> {
        let (gate, before) = (Arc::clone(self.gate()), self.chain.clone());
        let patience = self.deadline;
        let answered = async {
            gate.may_send("request", &to)?;
            let id = gate.granted().postage.stamp(&payload)?;
            let own = &gate.caller().component;
            let receiver = gate.receiver(&to)?;
            let before = before.as_ref();
            // One instance that waits for itself would wait until its deadline.
            let waits =
                receiver.name() == own || before.is_some_and(|before| before.has(receiver.name()));
            if waits && receiver.replicas().len() == 1 {
                return Err(Undelivered::Cycle);
            }
            let asked = Duration::from_millis(u64::from(timeout_ms)).min(MAX_REQUEST);
            let deadline = patience.min(Instant::now() + asked);
            let chain = Chain::link(own, deadline, before).ok_or(Undelivered::Cycle)?;
            let deadline = chain.deadline;
            if deadline <= Instant::now() {
                return Err(Undelivered::Deadline);
            }
            let envelope = Envelope {
                sender: own,
                topic: None,
                id,
                payload: &payload,
            };
            let posted = gate.post(receiver, envelope, Some(chain)).await?;
            match tokio::time::timeout_at(deadline.into(), posted.answer()).await {
                Ok(answer) => answer,
                Err(_) => Err(Undelivered::Deadline),
            }
        };
        Ok(answered.await)
    }

    async fn publish(
        &mut self,
        topic: String,
        payload: Vec<u8>,
    ) -> wasmtime::Result<Result<Delivery, Undelivered>> {
        let gate = Arc::clone(self.gate());
        let published = async {
            gate.may_publish(&topic)?;
            let id = gate.granted().postage.stamp(&payload)?;
            let mut delivery = Delivery {
                delivered: 0,
                full: 0,
                stopped: 0,
            };
            for name in gate.reach().runtime.subscribers(&topic) {
                let envelope = Envelope {
                    sender: &gate.caller().component,
                    topic: Some(&topic),
                    id,
                    payload: &payload,
                };
                let posted = async {
                    let receiver = gate.receiver(name.as_str())?;
                    gate.post(receiver, envelope, None).await?.delivered()
                };
                match posted.await {
                    Ok(()) => delivery.delivered += 1,
                    Err(Undelivered::Full) => delivery.full += 1,
                    Err(_) => delivery.stopped += 1,
                }
            }
            Ok(delivery)
        };
        Ok(published.await)
    }
}
