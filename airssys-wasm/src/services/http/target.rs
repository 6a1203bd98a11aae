//! Whom a request is to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use airssys_osl::grants::{HostName, canonical};
use hyper::Uri;
use hyper::http::uri::Scheme;

/// Whom a request is to, as its authority says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A name, checked, without a dot at its end.
    Name(Box<str>, u16),
    /// An address; IPv4 in IPv6 is IPv4.
    Address(SocketAddr),
}

impl Target {
    /// The target of an absolute URI; `None` for one with user information, with a host that is
    /// neither name nor address, or with a port that is none.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let authority = uri.authority()?;
        let host = authority.host();
        // What stands before the host is user information.
        let rest = authority.as_str().strip_prefix(host)?;
        let port = match rest.strip_prefix(':') {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
            None if rest.is_empty() && uri.scheme() == Some(&Scheme::HTTPS) => 443,
            None if rest.is_empty() => 80,
            _ => return None,
        };
        if port == 0 {
            return None;
        }
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let address = match bracketed {
            Some(inside) => Some(IpAddr::V6(inside.parse::<Ipv6Addr>().ok()?)),
            None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        };
        Some(match address {
            Some(address) => Self::Address(SocketAddr::new(canonical(address), port)),
            None => Self::Name(HostName::new(host).ok()?.as_str().into(), port),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> Option<Target> {
        Target::of(&uri.parse().ok()?)
    }

    fn name(name: &str, port: u16) -> Option<Target> {
        Some(Target::Name(name.into(), port))
    }

    fn address(address: &str) -> Option<Target> {
        Some(Target::Address(address.parse().ok()?))
    }

    #[test]
    fn the_port_is_the_schemes_unless_it_is_given() {
        assert_eq!(of("http://example.com/x"), name("example.com", 80));
        assert_eq!(of("https://example.com"), name("example.com", 443));
        assert_eq!(of("https://example.com:80/"), name("example.com", 80));
        assert_eq!(of("https://example.com.:8443/"), name("example.com", 8443));
        assert_eq!(of("http://127.0.0.1/"), address("127.0.0.1:80"));
        assert_eq!(of("http://[::1]:8080/"), address("[::1]:8080"));
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        assert_eq!(of("http://[::ffff:10.0.0.1]/"), address("10.0.0.1:80"));
    }

    #[test]
    fn user_information_and_addresses_in_disguise_are_no_target() {
        for uri in [
            "http://user@example.com/",
            "http://user:word@example.com/",
            "http://example.com@example.com/",
            "http://example.com:80@10.0.0.1/",
            "http://@example.com/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://a..b/",
            "http://[::1%25eth0]/",
            "http://[v1.x]/",
            "http://example.com:0/",
            "http://example.com:65536/",
            "http://example.com:+80/",
            "http://example.com:/",
            "/only/a/path",
        ] {
            assert_eq!(of(uri), None, "{uri}");
        }
    }
}
