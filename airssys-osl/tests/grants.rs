//! Rules and what they let through.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unsafe_code,
    reason = "a test that meets something unexpected should fail there; its allocator counts"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};

use airssys_osl::grants::{
    DenialReason, DirectoryGrant, HostName, HostPattern, NamePattern, NameRules, NetworkGrants,
    NetworkRules, Resolved,
};
use proptest::prelude::*;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: it hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as this function's caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as this function's caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn patterns(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn rules(allow: &[&str], deny: &[&str]) -> NetworkRules {
    NetworkRules {
        allow: Some(patterns(allow)),
        deny: patterns(deny),
    }
}

fn grants(allow: &[&str], deny: &[&str]) -> NetworkGrants {
    NetworkGrants {
        outbound: rules(allow, deny),
        ..NetworkGrants::default()
    }
}

fn name(text: &str) -> HostName<'_> {
    HostName::new(text).unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn hosts_are_written_with_a_port_and_without_a_doubt() {
    for good in [
        "example.com:443",
        "EXAMPLE.com:1",
        "a_b.c-d.example:65535",
        "*.example.com:*",
        "*:443",
        "*:*",
        "10.0.0.0/8:5432",
        "10.1.2.3:80",
        "0.0.0.0/0:*",
        "[::1]:80",
        "[fd00::/8]:*",
        "[::/0]:443",
        "xn--mnchen-3ya.de:443",
    ] {
        assert!(good.parse::<HostPattern>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "example.com",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:+443",
        "example.com: 443",
        "example.com:http",
        "https://example.com:443",
        "example.com/path:443",
        "exa mple.com:443",
        "*example.com:443",
        "a.*.com:443",
        "*.*.com:443",
        "*.:443",
        "**:443",
        ".example.com:443",
        "example..com:443",
        "-a.com:443",
        "a-.com:443",
        "münchen.de:443",
        "10.0.0.1/8:80",
        "10.0.0.0/33:80",
        "10.0.0:80",
        "010.0.0.1:80",
        "127.1:80",
        "0x7f.1:80",
        "2130706433:80",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[fd00::1/8]:80",
        "[10.0.0.1]:80",
        "[::ffff:10.0.0.1]:80",
        "[::ffff:0.0.0.0/96]:80",
        "[example.com]:80",
    ] {
        assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
    }
}

#[test]
fn a_wildcard_names_what_is_below_and_not_itself() {
    let pattern: HostPattern = "*.example.com:443".parse().unwrap();
    for (host, fits) in [
        ("api.example.com", true),
        ("a.b.example.com", true),
        ("API.EXAMPLE.COM", true),
        ("api.example.com.", true),
        ("example.com", false),
        ("badexample.com", false),
        ("api.example.com.evil.com", false),
        ("api.example.org", false),
    ] {
        assert_eq!(pattern.has_name(name(host), Some(443)), fits, "{host}");
        assert!(!pattern.has_name(name(host), Some(80)), "{host}");
    }
}

#[test]
fn an_address_counts_for_the_names_it_was_found_by_and_their_ports() {
    let grants = grants(&["a.example.com:443", "b.example.com:80"], &[]);
    let mut resolved = Resolved::default();
    let at: IpAddr = "93.184.216.34".parse().unwrap();
    let connect = |resolved: &Resolved, port| {
        let address = SocketAddr::new(at, port);
        let rule = grants.address(None, "connect", address, resolved);
        rule.map(str::to_owned)
    };
    assert!(connect(&resolved, 443).is_err(), "nobody has looked it up");
    resolved.remember(name("a.example.com"), at);
    assert_eq!(connect(&resolved, 443), Ok("a.example.com:443".into()));
    assert!(
        connect(&resolved, 80).is_err(),
        "the port is the other name's"
    );
    resolved.remember(name("b.example.com"), at);
    assert_eq!(connect(&resolved, 80), Ok("b.example.com:80".into()));
}

#[test]
fn names_that_are_looked_up_push_the_oldest_out_and_no_more_are_kept() {
    let grants = grants(&["*.example.com:*"], &[]);
    let mut resolved = Resolved::default();
    let nth = |n: u32| IpAddr::from(u32::to_be_bytes(0x0101_0101 + n));
    for n in 0..1000 {
        resolved.remember(name(&format!("n{n}.example.com")), nth(n));
    }
    let reached = |n| {
        let address = SocketAddr::new(nth(n), 443);
        grants.address(None, "connect", address, &resolved).is_ok()
    };
    assert!(reached(999) && reached(744));
    assert!(!reached(743) && !reached(0));
}

#[test]
fn any_host_is_any_public_host() {
    let grants = grants(&["*:443"], &[]);
    let none = Resolved::default();
    let reach = |to: &str| grants.address(None, "connect", address(to), &none);
    assert!(reach("1.1.1.1:443").is_ok());
    assert!(grants.name(None, name("example.com"), Some(443)).is_ok());
    for private in [
        "127.0.0.1:443",
        "10.0.0.1:443",
        "[::1]:443",
        "[::ffff:10.0.0.1]:443",
    ] {
        assert_eq!(
            reach(private).unwrap_err().reason,
            DenialReason::NotPublic,
            "{private}"
        );
    }
    let policy = rules(&["*:*"], &["1.1.1.0/24:*"]);
    let refused = grants.address(Some(&policy), "connect", address("1.1.1.1:443"), &none);
    let reason = refused.unwrap_err().reason;
    assert_eq!(reason, DenialReason::Forbidden("1.1.1.0/24:*".into()));
}

#[test]
fn a_port_denied_by_name_is_denied_at_the_addresses_found_for_it() {
    let grants = grants(&["*.example.com:*"], &["bad.example.com:22"]);
    let mut resolved = Resolved::default();
    let at: IpAddr = "93.184.216.34".parse().unwrap();
    resolved.remember(name("bad.example.com"), at);
    let connect = |port| grants.address(None, "connect", SocketAddr::new(at, port), &resolved);
    assert!(connect(443).is_ok());
    let reason = connect(22).unwrap_err().reason;
    assert_eq!(reason, DenialReason::Denied("bad.example.com:22".into()));
    let lookup = grants.name(None, name("bad.example.com"), None);
    assert!(lookup.is_ok(), "other ports are left");
}

#[test]
fn what_is_denied_by_name_stays_denied_whatever_allows_the_address() {
    let at: IpAddr = "93.184.216.34".parse().unwrap();
    let mut resolved = Resolved::default();
    resolved.remember(name("bad.example.com"), at);
    let connect = |grants: &NetworkGrants, policy: Option<&NetworkRules>, port| {
        let address = SocketAddr::new(at, port);
        let rule = grants.address(policy, "connect", address, &resolved);
        rule.map(|_| ()).map_err(|denial| denial.reason)
    };
    let deny = "bad.example.com:22";
    for allow in ["*:*", "93.184.216.0/24:*", "*.example.com:*"] {
        let grants = grants(&[allow], &[deny]);
        assert_eq!(connect(&grants, None, 443), Ok(()), "{allow}");
        assert_eq!(
            connect(&grants, None, 22),
            Err(DenialReason::Denied(deny.into())),
            "{allow}"
        );
    }
    // A policy that only denies.
    let policy = NetworkRules {
        allow: None,
        deny: patterns(&[deny]),
    };
    let all = grants(&["*:*"], &[]);
    assert_eq!(connect(&all, Some(&policy), 443), Ok(()));
    let forbidden = DenialReason::Forbidden(deny.into());
    assert_eq!(connect(&all, Some(&policy), 22), Err(forbidden));
    // Also where another name leads there.
    resolved.remember(name("good.example.com"), at);
    let both = grants(&["*.example.com:*"], &[deny]);
    let address = SocketAddr::new(at, 22);
    assert!(both.address(None, "connect", address, &resolved).is_err());
}

#[test]
fn what_is_allowed_allocates_nothing() {
    let mut allow: Vec<String> = (0..200)
        .map(|n| format!("host{n}.example.com:443"))
        .collect();
    allow.push(String::from("*.granted.example.com:443"));
    allow.push(String::from("10.0.0.0/8:5432"));
    let allow: Vec<&str> = allow.iter().map(String::as_str).collect();
    let grants = grants(&allow, &["bad.example.com:*", "10.1.0.0/16:*"]);
    let policy = rules(&["*.example.com:*", "10.0.0.0/8:*"], &[]);
    let mut resolved = Resolved::default();
    for n in 0..255u32 {
        let at = IpAddr::from(u32::to_be_bytes(0x0101_0101 + n));
        resolved.remember(name("host1.example.com"), at);
    }
    let found = "93.184.216.34".parse().unwrap();
    resolved.remember(name("api.granted.example.com"), found);
    let topics = NameRules {
        allow: vec!["orders.**".parse().unwrap()],
        deny: vec!["orders.secret.*".parse().unwrap()],
    };
    let before = ALLOCATIONS.get();
    let api = name("api.granted.example.com");
    grants.name(Some(&policy), api, Some(443)).unwrap();
    for at in ["10.0.0.1:5432", "93.184.216.34:443"] {
        let rule = grants.address(Some(&policy), "connect", address(at), &resolved);
        rule.unwrap();
    }
    topics.check("orders.created.today").unwrap();
    assert_eq!(ALLOCATIONS.get(), before);
}

#[test]
fn patterns_of_names_go_by_segments() {
    for (pattern, fits, fits_not) in [
        (
            "a.b",
            &["a.b"][..],
            &["a", "a.b.c", "A.b", "a.bb", "a.*"][..],
        ),
        ("a.*", &["a.b", "a.x-1"], &["a", "a.b.c", "b.a"]),
        ("a.**", &["a.b", "a.b.c"], &["a", "ab.c"]),
        ("*", &["a", "x_1"], &["a.b", "", "."]),
        ("**", &["a", "a.b"], &["", "a..b", "a b", "a/b"]),
    ] {
        let pattern: NamePattern = pattern.parse().unwrap();
        for name in fits {
            assert!(pattern.has(name), "{pattern} {name}");
        }
        for name in fits_not {
            assert!(!pattern.has(name), "{pattern} {name}");
        }
    }
    for bad in ["", ".", "a.", ".a", "a..b", "**.a", "a*", "a b", "a/b", "ä"] {
        assert!(bad.parse::<NamePattern>().is_err(), "{bad}");
    }
    let rules = NameRules {
        allow: vec!["a.**".parse().unwrap()],
        deny: vec!["a.b.*".parse().unwrap()],
    };
    assert!(rules.check("a.c").is_ok());
    let denied = rules.check("a.b.c").unwrap_err();
    assert_eq!(denied.unwrap().as_str(), "a.b.*");
    assert!(rules.check("b").unwrap_err().is_none());
}

#[test]
fn a_guests_path_is_absolute_and_plain() {
    for good in ["/", "/data", "/a/b.c/d e"] {
        assert!(DirectoryGrant::check_guest_path(good).is_ok(), "{good}");
    }
    for bad in [
        "", "data", "/a/../b", "/a/./b", "/a//b", "/a/", "//", "/\0", "/a\"b",
    ] {
        assert!(DirectoryGrant::check_guest_path(bad).is_err(), "{bad}");
    }
}

fn segments() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab*]|\\*\\*", 1..4).prop_map(|parts| parts.join("."))
}

proptest! {
    #[test]
    fn a_pattern_that_covers_another_has_all_its_names(
        wide in segments(),
        narrow in segments(),
        name in "[ab](\\.[ab]){0,4}",
    ) {
        let (wide, narrow) = (wide.parse::<NamePattern>(), narrow.parse::<NamePattern>());
        if let (Ok(wide), Ok(narrow)) = (wide, narrow) && wide.covers(&narrow) {
            prop_assert!(!narrow.has(&name) || wide.has(&name), "{wide} {narrow} {name}");
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,40}|[0-9a-f.:/*\\[\\]]{0,24}") {
        if let Ok(pattern) = text.parse::<HostPattern>() {
            prop_assert_eq!(pattern.as_str(), &text);
        }
        let _ = text.parse::<NamePattern>();
        let _ = HostName::new(&text);
    }

    #[test]
    fn no_address_that_is_not_public_is_reached_by_a_name(bits in any::<u128>(), v6 in any::<bool>()) {
        let at = match v6 {
            true => IpAddr::from(bits.to_be_bytes()),
            false => IpAddr::from(u32::to_be_bytes(u32::try_from(bits >> 96).unwrap())),
        };
        let grants = grants(&["*.example.com:*", "*:*"], &[]);
        let mut resolved = Resolved::default();
        resolved.remember(name("a.example.com"), at);
        let reached = grants.address(None, "connect", SocketAddr::new(at, 443), &resolved);
        prop_assert_eq!(reached.is_ok(), airssys_osl::grants::is_public(at));
    }
}
