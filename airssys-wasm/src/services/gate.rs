//! The gate before every host call that needs a grant: one for each instance.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use airssys_osl::grants::{Capability, Denial, DenialReason, HostName, Resolved};
use airssys_osl::{AuditDecision, AuditEntry, AuditLog, NamedSecrets};
use airssys_rt::{Events, TaskRegistry};
use wasmtime_wasi::sockets::SocketAddrUse;

use super::denials::{AccessDenied, Denials};
use super::granted::Granted;
use super::logging::GuestLog;
use super::output::OutputLine;
use crate::host_functions::Caller;
use crate::runtime::WeakRuntime;
use crate::watch::{CallEvent, CallWatch};

/// Most bytes of what an access was to, as it is told.
const MAX_SUBJECT_BYTES: usize = 512;

/// What one instance is checked by, and where it is told of.
#[derive(Debug)]
pub(crate) struct Gate {
    caller: Caller,
    granted: Arc<Granted>,
    /// Only this instance's own calls come here.
    resolved: Mutex<Resolved>,
    /// HTTP requests under way.
    requests: AtomicUsize,
    denials: Denials,
    log: GuestLog,
    /// Of the call under way. Only this instance comes here.
    watch: Mutex<Option<CallWatch>>,
    reach: Arc<Reach>,
}

/// What an instance may come to through its gate, the same for all instances of a host.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pub(crate) runtime: WeakRuntime,
    pub(crate) tasks: TaskRegistry,
    pub(crate) denials: Events<AccessDenied>,
    pub(crate) lines: Events<OutputLine>,
    pub(crate) audit: Option<Arc<AuditLog>>,
    pub(crate) secrets: Option<Arc<NamedSecrets>>,
}

impl Gate {
    pub(crate) fn new(caller: Caller, granted: Arc<Granted>, reach: Arc<Reach>) -> Arc<Self> {
        Arc::new(Self {
            caller,
            granted,
            resolved: Mutex::default(),
            requests: AtomicUsize::new(0),
            denials: Denials::default(),
            log: GuestLog::new(),
            watch: Mutex::default(),
            reach,
        })
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whom to tell what the guest says from now on; nobody where there is none.
    pub(crate) fn watch(&self, watch: Option<CallWatch>) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    /// Tells whoever watches the call under way.
    pub(super) fn tell(&self, event: impl FnOnce() -> CallEvent) {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = &*watch {
            watch.tell(event());
        }
    }

    pub(super) fn log(&self) -> &GuestLog {
        &self.log
    }

    pub(crate) fn granted(&self) -> &Arc<Granted> {
        &self.granted
    }

    /// Puts on record that an access is allowed by a rule.
    ///
    /// # Errors
    /// [`Denial`]: what cannot be put on record does not take place.
    pub(crate) fn allow(
        &self,
        capability: Capability,
        subject: fmt::Arguments<'_>,
        rule: &str,
    ) -> Result<(), Denial> {
        let Some(audit) = &self.reach.audit else {
            return Ok(());
        };
        let mut text = Subject::default();
        // What does not fit is left out.
        let _ = fmt::write(&mut text, subject);
        let entry = self.entry(capability, text.as_str(), AuditDecision::Allow, rule);
        audit.append(entry).map_err(|_| Denial {
            capability,
            subject: text.as_str().to_owned(),
            reason: DenialReason::Unrecorded,
            missing: None,
        })
    }

    fn entry<'a>(
        &'a self,
        capability: Capability,
        subject: &'a str,
        decision: AuditDecision,
        rule: &'a str,
    ) -> AuditEntry<'a> {
        AuditEntry {
            component: self.caller.component.as_str(),
            generation: self.caller.generation,
            capability: capability.name(),
            subject,
            decision,
            rule,
        }
    }

    /// Tells of an access that is refused.
    pub(crate) fn deny(&self, mut denial: Denial) -> Denial {
        let cut = denial.subject.floor_char_boundary(MAX_SUBJECT_BYTES);
        denial.subject.truncate(cut);
        if let Some(audit) = &self.reach.audit {
            let rule = denial.missing.as_ref().map(ToString::to_string);
            let rule = rule.unwrap_or_else(|| denial.reason.to_string());
            let subject = &denial.subject;
            let entry = self.entry(denial.capability, subject, AuditDecision::Deny, &rule);
            // It is refused whether it is on record or not; the log counts what it has lost.
            audit.append(entry).ok();
        }
        let denied = AccessDenied {
            component: self.caller.component.clone(),
            replica: self.caller.replica,
            generation: self.caller.generation,
            denial,
        };
        self.tell(|| CallEvent::Denied(Box::new(denied.clone())));
        self.denials.tell(&self.reach.denials, &denied);
        denied.denial
    }

    /// Whether a socket may be used so.
    pub(crate) fn socket(&self, address: SocketAddr, usage: SocketAddrUse) -> bool {
        let granted = &self.granted.network;
        let policy = self.granted.network_policy.as_ref();
        let outbound = |verb| {
            let resolved = self.resolved();
            granted.address(policy, verb, address, &resolved)
        };
        let (verb, verdict) = match usage {
            SocketAddrUse::TcpConnect => ("connect", outbound("connect")),
            SocketAddrUse::UdpSend => ("send", outbound("send")),
            // Others send these: whom the component may not turn to is not heard, and not told of.
            SocketAddrUse::UdpReceive => return outbound("receive").is_ok(),
            // Whoever may listen may be turned to.
            SocketAddrUse::TcpAccept => return true,
            // A port of the system's choice is no port to be turned to at: listening is asked about.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind if address.port() == 0 => return true,
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
                ("bind", granted.inbound("bind", address))
            }
            SocketAddrUse::TcpListen => ("listen", granted.inbound("listen", address)),
        };
        let allowed = verdict.and_then(|rule| {
            self.allow(Capability::Network, format_args!("{verb} {address}"), rule)
        });
        allowed.map_err(|denial| self.deny(denial)).is_ok()
    }

    /// Whether a name may be looked up.
    pub(crate) fn lookup(&self, name: HostName<'_>) -> Result<(), Denial> {
        let policy = self.granted.network_policy.as_ref();
        let rule = self.granted.network.name(policy, name, None);
        let subject = format_args!("resolve {}", name.as_str());
        rule.and_then(|rule| self.allow(Capability::Network, subject, rule))
            .map_err(|denial| self.deny(denial))
    }

    /// Whether a name may be turned to at a port.
    pub(super) fn connect(&self, name: HostName<'_>, port: u16) -> Result<(), Denial> {
        let policy = self.granted.network_policy.as_ref();
        let rule = self.granted.network.name(policy, name, Some(port));
        let subject = format_args!("connect {}:{port}", name.as_str());
        rule.and_then(|rule| self.allow(Capability::Network, subject, rule))
            .map_err(|denial| self.deny(denial))
    }

    /// Whether there may be one connection more beside the instance's `sockets` and requests.
    pub(super) fn one_more(&self, verb: &str, sockets: usize) -> Result<(), Denial> {
        let open = sockets.saturating_add(self.open_requests());
        let allowed = self.granted.network.one_more(verb, open);
        allowed.map_err(|denial| self.deny(denial))
    }

    pub(super) fn open_requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn request_opened(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn request_closed(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Remembers where a name was found.
    pub(crate) fn found(&self, name: HostName<'_>, addresses: &[IpAddr]) {
        let mut resolved = self.resolved();
        for address in addresses {
            resolved.remember(name, *address);
        }
    }

    fn resolved(&self) -> MutexGuard<'_, Resolved> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an access is to, cut where it is long; on the stack, since most are allowed.
struct Subject {
    bytes: [u8; MAX_SUBJECT_BYTES],
    len: usize,
}

impl Default for Subject {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_SUBJECT_BYTES],
            len: 0,
        }
    }
}

impl Subject {
    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Write for Subject {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let fits = text.floor_char_boundary(room.len());
        let (Some(room), Some(text)) = (room.get_mut(..fits), text.get(..fits)) else {
            return Err(fmt::Error);
        };
        room.copy_from_slice(text.as_bytes());
        self.len += fits;
        Ok(())
    }
}
