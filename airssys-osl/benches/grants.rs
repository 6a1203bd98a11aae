//! What a check costs: `cargo bench -p airssys-osl --bench grants`. Beside each, in the same run, a
//! look into a set of the same names: the floor of any check by name.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark ends where something unexpected is met"
)]

use std::collections::HashSet;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use airssys_osl::grants::{HostName, NetworkGrants, NetworkRules, Resolved};

/// Samples, of 100 checks each.
const SAMPLES: usize = 5_000;

fn measure(label: &str, mut check: impl FnMut()) {
    let mut nanos: Vec<u128> = (0..SAMPLES)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..100 {
                check();
            }
            began.elapsed().as_nanos() / 100
        })
        .collect();
    nanos.sort_unstable();
    println!(
        "{label:52} p50 {:6} ns  p95 {:6} ns",
        nanos[SAMPLES / 2],
        nanos[SAMPLES * 95 / 100]
    );
}

fn main() {
    for count in [1, 16, 256] {
        let names: Vec<String> = (0..count).map(|n| format!("host{n}.example.com")).collect();
        let allow = names
            .iter()
            .map(|name| format!("{name}:443").parse().unwrap());
        let grants = NetworkGrants {
            outbound: NetworkRules {
                allow: Some(allow.collect()),
                deny: vec!["bad.example.com:*".parse().unwrap()],
            },
            ..NetworkGrants::default()
        };
        let policy = NetworkRules {
            allow: Some(vec!["*.example.com:*".parse().unwrap()]),
            deny: vec!["169.254.0.0/16:*".parse().unwrap()],
        };
        let last = names[count - 1].as_str();
        let set: HashSet<&str> = names.iter().map(String::as_str).collect();
        measure(&format!("a name in a set of {count}"), || {
            assert!(black_box(&set).contains(black_box(last)));
        });
        measure(
            &format!("a name by the last of {count} rules, and a policy"),
            || {
                let name = HostName::new(black_box(last)).unwrap();
                grants.name(Some(&policy), name, Some(443)).unwrap();
            },
        );
        let mut resolved = Resolved::default();
        for n in 0..256u32 {
            let name = HostName::new(last).unwrap();
            resolved.remember(name, IpAddr::from(u32::to_be_bytes(0x0101_0101 + n)));
        }
        let at = SocketAddr::new(IpAddr::from(u32::to_be_bytes(0x0101_0200)), 443);
        measure(
            &format!("an address found by it, last of 256, {count} rules"),
            || {
                let rule = grants.address(Some(&policy), "connect", black_box(at), &resolved);
                rule.unwrap();
            },
        );
    }
}
