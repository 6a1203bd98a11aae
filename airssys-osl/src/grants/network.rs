//! Whom a component may talk to, whatever it talks with.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::address::{canonical, is_public};
use super::denial::{Capability, Denial, DenialReason, Missing};
use super::host_pattern::{HostName, HostPattern};

/// Most rules of one list.
pub const MAX_RULES: usize = 256;

/// Sockets and requests a component may have open at a time, where nothing else is said.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 32;

/// Addresses an instance has looked up that are remembered; the oldest are forgotten.
pub const MAX_RESOLVED: usize = 256;

/// Hosts that are allowed, and hosts that are denied all the same.
///
/// One list for HTTP, TCP, UDP and name lookup. An address that is not public
/// ([`is_public`]) is allowed only by a rule that names it as an address or network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkRules {
    /// Who is allowed; `None` allows everybody, by whatever address.
    pub allow: Option<Vec<HostPattern>>,
    /// Who is denied, whatever allows them.
    pub deny: Vec<HostPattern>,
}

/// `[capabilities.network]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkGrants {
    /// Whom it may turn to.
    pub outbound: NetworkRules,
    /// Addresses and ports it may be turned to at.
    pub inbound: Vec<SocketAddr>,
    /// Sockets and requests it may have open at a time.
    pub max_connections: u32,
}

impl Default for NetworkGrants {
    fn default() -> Self {
        Self {
            outbound: NetworkRules {
                allow: Some(Vec::new()),
                deny: Vec::new(),
            },
            inbound: Vec::new(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
        }
    }
}

/// What the names that an instance looked up have stood for: an address is as good as the name it
/// was given for, and no better.
#[derive(Debug, Default)]
pub struct Resolved(VecDeque<(IpAddr, Box<str>)>);

impl Resolved {
    /// Remembers that `name` was found at `address`.
    pub fn remember(&mut self, name: HostName<'_>, address: IpAddr) {
        let address = canonical(address);
        let known = |(at, of): &(IpAddr, Box<str>)| *at == address && **of == *name.as_str();
        if self.0.iter().any(known) {
            return;
        }
        if self.0.len() >= MAX_RESOLVED {
            self.0.pop_front();
        }
        self.0.push_back((address, Box::from(name.as_str())));
    }

    fn names_of(&self, address: IpAddr) -> impl Iterator<Item = HostName<'_>> {
        let of = move |(at, name): &'_ (IpAddr, Box<str>)| (*at == address).then_some(name.len());
        self.0
            .iter()
            .filter(move |entry| of(entry).is_some())
            .filter_map(|(_, name)| HostName::new(name).ok())
    }
}

/// What a list of rules says against an access.
enum Against<'a> {
    Nothing,
    Rule(&'a HostPattern),
    NotPublic,
}

impl NetworkRules {
    /// The rule that allows to look a name up, or to turn to it at `port`; `None` where everybody is
    /// allowed.
    fn name(
        &self,
        name: HostName<'_>,
        port: Option<u16>,
    ) -> Result<Option<&HostPattern>, Against<'_>> {
        // Without a port only a rule that denies all of them denies the name.
        let denies = |rule: &&HostPattern| match port {
            Some(_) => rule.has_name(name, port),
            None => rule.has_name(name, None) && rule.as_str().ends_with(":*"),
        };
        if let Some(rule) = self.deny.iter().find(denies) {
            return Err(Against::Rule(rule));
        }
        let Some(allow) = &self.allow else {
            return Ok(None);
        };
        let allows = |rule: &&HostPattern| rule.has_name(name, port);
        allow.iter().find(allows).map(Some).ok_or(Against::Nothing)
    }

    /// The rule that allows to turn to an address.
    fn address(
        &self,
        address: SocketAddr,
        resolved: &Resolved,
    ) -> Result<Option<&HostPattern>, Against<'_>> {
        let (ip, port) = (canonical(address.ip()), address.port());
        let denies = |rule: &&HostPattern| rule.has_address(ip, port) || rule.has_any(port);
        if let Some(rule) = self.deny.iter().find(denies) {
            return Err(Against::Rule(rule));
        }
        // Whatever allows the address: what is denied by a name it was found for stays denied.
        for name in resolved.names_of(ip) {
            if let Some(rule) = self
                .deny
                .iter()
                .find(|rule| rule.has_name(name, Some(port)))
            {
                return Err(Against::Rule(rule));
            }
        }
        let Some(allow) = &self.allow else {
            return Ok(None);
        };
        if let Some(rule) = allow.iter().find(|rule| rule.has_address(ip, port)) {
            return Ok(Some(rule));
        }
        let mut against = Against::Nothing;
        for name in resolved.names_of(ip) {
            match self.name(name, Some(port)) {
                Ok(rule) if is_public(ip) => return Ok(rule),
                Ok(_) => against = Against::NotPublic,
                Err(_) => {}
            }
        }
        match allow.iter().find(|rule| rule.has_any(port)) {
            Some(rule) if is_public(ip) => Ok(Some(rule)),
            Some(_) => Err(Against::NotPublic),
            None => Err(against),
        }
    }
}

impl NetworkGrants {
    /// The rule by which a name may be turned to at `port`, or looked up where no port is given.
    ///
    /// # Errors
    /// [`Denial`] with the rule that is missing.
    pub fn name(
        &self,
        policy: Option<&NetworkRules>,
        name: HostName<'_>,
        port: Option<u16>,
    ) -> Result<&str, Denial> {
        let subject = || match port {
            Some(port) => format!("connect {}:{port}", name.as_str()),
            None => format!("resolve {}", name.as_str()),
        };
        let rule = || match port {
            Some(port) => format!("{}:{port}", name.as_str()),
            None => format!("{}:443", name.as_str()),
        };
        let granted = self.outbound.name(name, port);
        let granted = granted.map_err(|against| denial(against, false, subject(), rule()))?;
        if let Some(policy) = policy {
            let allowed = policy.name(name, port);
            allowed.map_err(|against| denial(against, true, subject(), rule()))?;
        }
        Ok(granted.map_or("", HostPattern::as_str))
    }

    /// The rule by which an address may be turned to; `verb` is what is done, for example
    /// `connect`.
    ///
    /// # Errors
    /// [`Denial`] with the rule that is missing.
    pub fn address(
        &self,
        policy: Option<&NetworkRules>,
        verb: &str,
        address: SocketAddr,
        resolved: &Resolved,
    ) -> Result<&str, Denial> {
        let address = SocketAddr::new(canonical(address.ip()), address.port());
        let refused = |against, by_policy| {
            denial(
                against,
                by_policy,
                format!("{verb} {address}"),
                address.to_string(),
            )
        };
        let granted = self.outbound.address(address, resolved);
        let granted = granted.map_err(|against| refused(against, false))?;
        if let Some(policy) = policy {
            let allowed = policy.address(address, resolved);
            allowed.map_err(|against| refused(against, true))?;
        }
        Ok(granted.map_or("", HostPattern::as_str))
    }

    /// Whether it may be turned to at an address and port.
    ///
    /// # Errors
    /// [`Denial`] with the grant that is missing.
    pub fn inbound(&self, verb: &str, address: SocketAddr) -> Result<&'static str, Denial> {
        if self.inbound.contains(&address) {
            return Ok("inbound");
        }
        Err(Denial {
            capability: Capability::Network,
            subject: format!("{verb} {address}"),
            reason: DenialReason::NotGranted,
            missing: Some(Box::new(Missing {
                table: "[capabilities.network]",
                key: "inbound",
                value: format!("[\"{address}\"]"),
                beside: Vec::new(),
            })),
        })
    }

    /// Whether it may have one more connection beside those it has.
    ///
    /// # Errors
    /// [`Denial`] with [`DenialReason::TooMany`].
    pub fn one_more(&self, verb: &str, open: usize) -> Result<(), Denial> {
        let most = self.max_connections;
        if u32::try_from(open).is_ok_and(|open| open < most) {
            return Ok(());
        }
        Err(Denial {
            capability: Capability::Network,
            subject: verb.to_owned(),
            reason: DenialReason::TooMany { most },
            missing: Some(Box::new(Missing {
                table: "[capabilities.network]",
                key: "max_connections",
                value: most.saturating_add(1).to_string(),
                beside: Vec::new(),
            })),
        })
    }
}

fn denial(against: Against<'_>, by_policy: bool, subject: String, rule: String) -> Denial {
    let reason = match (against, by_policy) {
        (Against::Nothing, false) => DenialReason::NotGranted,
        (Against::Nothing, true) => DenialReason::NotAllowed,
        (Against::Rule(rule), false) => DenialReason::Denied(rule.to_string()),
        (Against::Rule(rule), true) => DenialReason::Forbidden(rule.to_string()),
        (Against::NotPublic, _) => DenialReason::NotPublic,
    };
    let table = match by_policy {
        false => "[capabilities.network]",
        true => "[policy.network]",
    };
    let grants = !matches!(reason, DenialReason::Denied(_) | DenialReason::Forbidden(_));
    Denial {
        capability: Capability::Network,
        subject,
        reason,
        missing: grants.then(|| {
            Box::new(Missing {
                table,
                key: "outbound",
                value: format!("[\"{rule}\"]"),
                beside: Vec::new(),
            })
        }),
    }
}
