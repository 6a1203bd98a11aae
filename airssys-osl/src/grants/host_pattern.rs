//! Hosts as rules name them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::address::canonical;

/// Longest name of a host, in bytes (RFC 1035).
pub const MAX_HOST_BYTES: usize = 253;

/// Longest label of one (RFC 1035).
const MAX_LABEL_BYTES: usize = 63;

/// Why a text is no [`HostPattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostPatternError {
    /// No port.
    #[error("a port is missing: write `host:443`, or `host:*` for any")]
    NoPort,
    /// Not 1 to 65535 and not `*`.
    #[error("the port is neither 1..=65535 nor `*`")]
    Port,
    /// IPv6 without brackets, or brackets without IPv6.
    #[error("an IPv6 address stands in brackets: `[fd00::1]:443`, `[fd00::/8]:443`")]
    Brackets,
    /// Host bits are set in a network, or its prefix is too long.
    #[error("not a network: write `10.0.0.0/8`, with no bit set beyond the prefix")]
    Network,
    /// IPv4 in IPv6.
    #[error("write an IPv4 address as one")]
    Mapped,
    /// Not a host name.
    #[error(transparent)]
    Name(#[from] HostNameError),
}

/// A text that is no name of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a host name is made of labels of letters, digits, `-` and `_`, at most 253 bytes together, and \
     its last label is no number; names in other scripts are written in their `xn--` form"
)]
pub struct HostNameError;

/// A name of a host, checked; compared without regard to case. Never an address.
#[derive(Debug, Clone, Copy)]
pub struct HostName<'a>(&'a str);

impl<'a> HostName<'a> {
    /// Checks a name; one dot at its end is left out.
    ///
    /// # Errors
    /// [`HostNameError`].
    pub fn new(text: &'a str) -> Result<Self, HostNameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label.bytes().all(allowed)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let last = name.rsplit('.').next().unwrap_or(name);
        // Resolvers read `127.1`, `0x7f000001` and `2130706433` as addresses.
        let number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last
                .get(..2)
                .is_some_and(|start| start.eq_ignore_ascii_case("0x"));
        if name.len() <= MAX_HOST_BYTES && name.split('.').all(label) && !number {
            Ok(Self(name))
        } else {
            Err(HostNameError)
        }
    }

    /// The name as it was written, without a dot at its end.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

/// A rule that names hosts: `api.example.com:443`, `*.example.com:443` (whatever is below it, not
/// itself), `10.0.0.0/8:5432`, `[fd00::/8]:*`, `*:443` (every name and every public address).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    text: Box<str>,
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    Name(Box<str>),
    /// With the dot it starts with.
    Below(Box<str>),
    Network(IpNet),
}

impl HostPattern {
    /// The rule as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names this host by its name; with no port asked for, by any of its ports.
    #[must_use]
    pub fn has_name(&self, name: HostName<'_>, port: Option<u16>) -> bool {
        self.has_port(port)
            && match &self.host {
                Host::Any => true,
                Host::Name(own) => own.eq_ignore_ascii_case(name.0),
                Host::Below(suffix) => name
                    .0
                    .len()
                    .checked_sub(suffix.len())
                    .filter(|prefix| *prefix > 0)
                    .and_then(|prefix| name.0.get(prefix..))
                    .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
                Host::Network(_) => false,
            }
    }

    /// Whether it names this address as an address.
    #[must_use]
    pub fn has_address(&self, address: IpAddr, port: u16) -> bool {
        let Host::Network(network) = &self.host else {
            return false;
        };
        self.has_port(Some(port)) && network.contains(&canonical(address))
    }

    /// Whether it names every host, at this port.
    #[must_use]
    pub fn has_any(&self, port: u16) -> bool {
        self.host == Host::Any && self.has_port(Some(port))
    }

    fn has_port(&self, port: Option<u16>) -> bool {
        match (self.port, port) {
            (Some(own), Some(port)) => own == port,
            _ => true,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, after) = rest.split_once(']').ok_or(HostPatternError::Brackets)?;
                let port = after.strip_prefix(':').ok_or(HostPatternError::NoPort)?;
                (Host::Network(network(inside, true)?), port)
            }
            None => {
                let (host, port) = text.rsplit_once(':').ok_or(HostPatternError::NoPort)?;
                if host.contains(':') {
                    return Err(HostPatternError::Brackets);
                }
                (outside(host)?, port)
            }
        };
        let port = match port {
            "*" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let port: u16 = digits.parse().map_err(|_| HostPatternError::Port)?;
                Some(port)
                    .filter(|port| *port > 0)
                    .ok_or(HostPatternError::Port)?
                    .into()
            }
            _ => return Err(HostPatternError::Port),
        };
        Ok(Self {
            text: Box::from(text),
            host,
            port,
        })
    }
}

fn outside(host: &str) -> Result<Host, HostPatternError> {
    if host == "*" {
        return Ok(Host::Any);
    }
    if host.contains('/') || host.parse::<IpAddr>().is_ok() {
        return Ok(Host::Network(network(host, false)?));
    }
    if let Some(parent) = host.strip_prefix("*.") {
        let parent = HostName::new(parent)?;
        return Ok(Host::Below(format!(".{}", parent.0).into()));
    }
    Ok(Host::Name(HostName::new(host)?.0.into()))
}

fn network(text: &str, v6: bool) -> Result<IpNet, HostPatternError> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().map_err(|_| HostPatternError::Network)?,
    };
    if network.trunc() != network {
        return Err(HostPatternError::Network);
    }
    match network {
        IpNet::V4(_) if v6 => Err(HostPatternError::Brackets),
        IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some() => {
            Err(HostPatternError::Mapped)
        }
        network => Ok(network),
    }
}
