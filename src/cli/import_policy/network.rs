//! `network`: hosts and networks as `capabilities.network` names them.

use std::net::{IpAddr, Ipv4Addr};

use airssys_osl::grants::HostPattern;

use super::ledger::Ledger;
use super::manifest::{Line, Manifest};
use super::policy::{Lists, Peer, Rule};
use super::refusal::Why;

/// Writes what the rules allow and deny.
pub(super) fn translate(network: &Lists<Peer>, manifest: &mut Manifest, ledger: &mut Ledger) {
    let allowed: Vec<_> = network
        .allow
        .iter()
        .map(|rule| (rule, allow(&rule.says)))
        .collect();
    let to_here = allowed
        .iter()
        .filter_map(|(_, pattern)| pattern.as_ref().ok())
        .any(|pattern| pattern.has_address(IpAddr::V4(Ipv4Addr::LOCALHOST), 80));
    for (rule, pattern) in allowed {
        let pattern = pattern.and_then(|pattern| match leads_here(&rule.says) && !to_here {
            true => Err(Why::Loopback),
            false => Ok(pattern),
        });
        let key = "capabilities.network.outbound";
        write(rule, pattern, key, &mut manifest.outbound, true, ledger);
    }
    for rule in &network.deny {
        let key = "capabilities.network.deny";
        write(
            rule,
            deny(&rule.says),
            key,
            &mut manifest.deny,
            false,
            ledger,
        );
    }
}

fn write(
    rule: &Rule<Peer>,
    pattern: Result<HostPattern, Why>,
    key: &str,
    list: &mut Vec<Line>,
    allows: bool,
    ledger: &mut Ledger,
) {
    match pattern {
        Err(why) => ledger.refuse(rule.line, &rule.text, why, allows),
        Ok(pattern) => {
            ledger.keyed(rule.line, &rule.text, format!("{key} \"{pattern}\""));
            Line::add(list, pattern.as_str(), rule.line);
        }
    }
}

/// Whether a host is a name that stands for this machine, whoever is asked (RFC 6761).
fn leads_here(peer: &Peer) -> bool {
    let Peer::Host(host) = peer else { return false };
    let (_, rest) = host.split_once("://").unwrap_or(("", host));
    let name = rest.trim_end_matches('/');
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn allow(peer: &Peer) -> Result<HostPattern, Why> {
    match peer {
        Peer::Cidr(cidr) => network(cidr),
        Peer::Host(text) => match text.split_once("://") {
            None => host(text),
            Some((scheme, rest)) => {
                let port = match scheme {
                    "https" => 443,
                    "http" => 80,
                    _ => return Err(Why::Scheme),
                };
                let authority = rest.strip_suffix('/').unwrap_or(rest);
                // What stands behind the last `]` or in all of it: a port of the host's own.
                let behind = authority.rsplit(']').next().unwrap_or(authority);
                match behind.contains(':') {
                    true => host(authority),
                    false => host(&format!("{authority}:{port}")),
                }
            }
        },
    }
}

fn deny(peer: &Peer) -> Result<HostPattern, Why> {
    match peer {
        Peer::Cidr(cidr) => network(cidr),
        Peer::Host(text) if text.contains("://") => Err(Why::SchemeDenied),
        Peer::Host(text) => host(text),
    }
}

/// A host with its port, or with all of them where none is named.
fn host(text: &str) -> Result<HostPattern, Why> {
    if text.contains(['/', '?', '#', '@']) {
        return Err(Why::UrlPath);
    }
    let rule = match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{text}]:*"),
        Ok(IpAddr::V4(_)) => format!("{text}:*"),
        Err(_) if text.contains(':') && !text.ends_with(']') => text.to_owned(),
        Err(_) => format!("{text}:*"),
    };
    rule.parse().map_err(Why::Host)
}

fn network(cidr: &str) -> Result<HostPattern, Why> {
    let (address, _) = cidr.split_once('/').ok_or(Why::Cidr)?;
    let rule = match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{cidr}]:*"),
        Ok(IpAddr::V4(_)) => format!("{cidr}:*"),
        Err(_) => return Err(Why::Cidr),
    };
    rule.parse().map_err(Why::Host)
}
