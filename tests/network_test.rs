//! Names, addresses and sockets: one list for all of them. Nothing leaves the loopback: whatever is
//! not granted is refused before there is a packet, and whatever is granted here is 127.0.0.1.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use airssys::grants::DenialReason;
use airssys::{Host, Resolver, SystemConfig, Val};

use crate::filesystem_test::{denied, prober, result};
use crate::support::{Alone, Tree, block_on, start_failure};

const NET: &str = "airssys:prober/net@0.1.0";

/// A server that answers `pong` to the first bytes of each of `count` connections.
pub fn server(count: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(count) {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4];
            if stream.read_exact(&mut asked).is_ok() {
                stream.write_all(b"pong").ok();
            }
        }
    });
    address
}

/// A host whose names are these.
pub async fn with_names(
    tree: Tree,
    names: &'static [(&'static str, &'static str)],
) -> (Alone, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let resolver = Resolver::new(move |name| {
        count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let found = names.iter().filter(|(known, _)| *known == name);
            let found: Vec<IpAddr> = found.map(|(_, address)| address.parse().unwrap()).collect();
            match found.is_empty() {
                true => Err(std::io::ErrorKind::NotFound.into()),
                false => Ok(found),
            }
        })
    });
    let config = SystemConfig::load(tree.write()).unwrap();
    let builder = airssys::HostBuilder::from(config).resolver(resolver);
    let host: Host = builder.start().await.unwrap();
    (Alone::in_host(host, tree), asked)
}

pub fn granted(outbound: &str) -> Tree {
    prober(&format!("[capabilities.network]\noutbound = [{outbound}]"))
}

impl Alone {
    pub async fn net(&self, function: &str, argument: &str) -> Result<String, String> {
        let arguments = [Val::String(argument.into())];
        let answer = self
            .call(&format!("{NET}#{function}"), &arguments)
            .await
            .unwrap();
        match result(&answer) {
            Ok(Some(Val::String(text))) => Ok(text.clone()),
            Ok(other) => Ok(format!("{other:?}")),
            Err(text) => Err(text.to_owned()),
        }
    }
}

#[test]
fn without_a_grant_nobody_is_turned_to_and_the_denial_names_the_grant() {
    block_on(async {
        let (alone, asked) = with_names(prober(""), &[("example.com", "127.0.0.1")]).await;
        let mut denials = alone.host.denials();
        let address = server(1);
        for (function, to, rule) in [
            ("connect", address.to_string(), format!("[\"{address}\"]")),
            ("exchange", address.to_string(), format!("[\"{address}\"]")),
            (
                "resolve",
                "example.com".into(),
                "[\"example.com:443\"]".into(),
            ),
            (
                "connect",
                "example.com:80".into(),
                "[\"example.com:443\"]".into(),
            ),
            ("connect", "10.0.0.1:80".into(), "[\"10.0.0.1:80\"]".into()),
            (
                "connect",
                "169.254.169.254:80".into(),
                "[\"169.254.169.254:80\"]".into(),
            ),
            ("connect", "[::1]:80".into(), "[\"[::1]:80\"]".into()),
            (
                "connect",
                "[::ffff:127.0.0.1]:80".into(),
                "[\"127.0.0.1:80\"]".into(),
            ),
            ("connect", "8.8.8.8:53".into(), "[\"8.8.8.8:53\"]".into()),
        ] {
            let answer = alone.net(function, &to).await;
            assert!(answer.is_err(), "{function} {to}: {answer:?}");
            if to.contains("::ffff") {
                // A socket of version 6 takes no address of version 4, whoever it is.
                continue;
            }
            let denial = denied(&mut denials).await.denial;
            assert_eq!(denial.reason, DenialReason::NotGranted, "{function} {to}");
            let missing = denial.missing.unwrap();
            assert_eq!((missing.key, missing.value), ("outbound", rule));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0, "no name left the host");
    });
}

#[test]
fn a_granted_address_is_turned_to_at_its_port_only() {
    block_on(async {
        let (address, other) = (server(2), server(2));
        let alone = Alone::of(granted(&format!("\"{address}\""))).await.unwrap();
        assert_eq!(
            alone.net("connect", &address.to_string()).await,
            Ok("pong".into())
        );
        assert!(alone.net("connect", &other.to_string()).await.is_err());
        let elsewhere = format!("127.0.0.2:{}", address.port());
        assert!(alone.net("connect", &elsewhere).await.is_err());
    });
}

#[test]
fn datagrams_go_by_the_same_list() {
    block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let mut asked = [0; 16];
            let (_, from) = socket.recv_from(&mut asked).unwrap();
            socket.send_to(b"pong", from).unwrap();
        });
        let alone = Alone::of(granted(&format!("\"{address}\""))).await.unwrap();
        assert_eq!(
            alone.net("exchange", &address.to_string()).await,
            Ok("pong".into())
        );
        let elsewhere = other.local_addr().unwrap().to_string();
        assert!(alone.net("exchange", &elsewhere).await.is_err());
        assert!(other.recv_from(&mut [0; 16]).is_err(), "no datagram came");
    });
}

#[test]
fn a_granted_name_does_not_lead_to_private_addresses() {
    // What a rebinding server answers: the address of whoever asks, in every disguise.
    const NAMES: &[(&str, &str)] = &[
        ("rebound.example.com", "127.0.0.1"),
        ("rebound.example.com", "10.0.0.1"),
        ("rebound.example.com", "169.254.169.254"),
        ("rebound.example.com", "::1"),
        ("mapped.example.com", "::ffff:127.0.0.1"),
    ];
    block_on(async {
        let port = server(1).port();
        let (alone, asked) = with_names(granted("\"*.example.com:*\""), NAMES).await;
        let mut denials = alone.host.denials();
        for name in ["rebound.example.com", "mapped.example.com"] {
            let answer = alone.net("connect", &format!("{name}:{port}")).await;
            assert!(answer.is_err(), "{name}: {answer:?}");
            let denial = denied(&mut denials).await.denial;
            assert_eq!(denial.reason, DenialReason::NotPublic, "{denial:?}");
            let rule = format!("[\"127.0.0.1:{port}\"]");
            assert_eq!(denial.missing.unwrap().value, rule);
            while let Ok(denial) =
                tokio::time::timeout(std::time::Duration::from_millis(100), denied(&mut denials))
                    .await
            {
                assert_eq!(denial.denial.reason, DenialReason::NotPublic);
            }
        }
        assert!(asked.load(Ordering::Relaxed) >= 2);
    });
}

#[test]
fn a_private_address_that_is_named_is_reached_by_its_granted_name() {
    block_on(async {
        let address = server(2);
        let port = address.port();
        let rules = format!("\"db.internal:{port}\", \"127.0.0.0/8:{port}\"");
        let names = &[
            ("db.internal", "127.0.0.1"),
            ("other.internal", "127.0.0.1"),
        ];
        let (alone, _) = with_names(granted(&rules), names).await;
        let answer = alone.net("connect", &format!("db.internal:{port}")).await;
        assert_eq!(answer, Ok("pong".into()));
        let answer = alone
            .net("connect", &format!("other.internal:{port}"))
            .await;
        assert!(
            answer.is_err(),
            "a name is looked up only where it is granted"
        );
    });
}

#[test]
fn a_rule_that_denies_wins() {
    block_on(async {
        let address = server(2);
        let grants = format!(
            "[capabilities.network]\noutbound = [\"127.0.0.0/8:*\", \"*:*\"]\ndeny = [\"{address}\", \"bad.example.com:*\"]"
        );
        let names = &[("bad.example.com", "127.0.0.1")];
        let (alone, asked) = with_names(prober(&grants), names).await;
        let mut denials = alone.host.denials();
        assert!(alone.net("connect", &address.to_string()).await.is_err());
        let reason = denied(&mut denials).await.denial.reason;
        assert_eq!(reason, DenialReason::Denied(address.to_string()));
        assert!(alone.net("resolve", "BAD.example.com.").await.is_err());
        let reason = denied(&mut denials).await.denial.reason;
        assert_eq!(reason, DenialReason::Denied("bad.example.com:*".into()));
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn the_policy_bounds_what_is_granted() {
    block_on(async {
        let (address, other) = (server(2), server(2));
        let tree = granted("\"127.0.0.0/8:*\"");
        let path = tree.write();
        let text = std::fs::read_to_string(&path).unwrap();
        let policy = format!(
            "[policy.network]\noutbound = [\"{address}\", \"{other}\"]\ndeny = [\"{other}\"]"
        );
        std::fs::write(&path, format!("{text}\n{policy}\n")).unwrap();
        let host = Host::from_config(&path).await.unwrap();
        let alone = Alone::in_host(host, tree);
        let mut denials = alone.host.denials();
        assert_eq!(
            alone.net("connect", &address.to_string()).await,
            Ok("pong".into())
        );
        assert!(alone.net("connect", &other.to_string()).await.is_err());
        let reason = denied(&mut denials).await.denial.reason;
        assert_eq!(reason, DenialReason::Forbidden(other.to_string()));
        assert!(alone.net("connect", "127.0.0.1:1").await.is_err());
        let denial = denied(&mut denials).await.denial;
        assert_eq!(denial.reason, DenialReason::NotAllowed);
        assert_eq!(denial.missing.unwrap().table, "[policy.network]");
    });
}

#[test]
fn listening_needs_its_address_and_port() {
    block_on(async {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let grants = format!("[capabilities.network]\ninbound = [\"{free}\"]");
        let alone = Alone::of(prober(&grants)).await.unwrap();
        let mut denials = alone.host.denials();
        assert_eq!(
            alone.net("listen", &free.to_string()).await,
            Ok(free.to_string())
        );
        for address in ["127.0.0.1:0", "0.0.0.0:0", "127.0.0.1:1", "127.0.0.2:8080"] {
            let answer = alone.net("listen", address).await;
            assert!(answer.is_err(), "{address}: {answer:?}");
            let missing = denied(&mut denials).await.denial.missing.unwrap();
            assert_eq!(missing.key, "inbound");
        }
        let everybody = format!("0.0.0.0:{}", free.port());
        assert!(alone.net("listen", &everybody).await.is_err());
    });
}

#[test]
fn a_port_to_listen_at_beyond_the_policy_is_not_loaded() {
    block_on(async {
        for policy in ["inbound = []", "outbound = [\"*:443\"]"] {
            let tree = prober("[capabilities.network]\ninbound = [\"127.0.0.1:8080\"]");
            let path = tree.write();
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, format!("{text}\n[policy.network]\n{policy}\n")).unwrap();
            let host = Host::from_config(&path).await;
            let told = start_failure(host.map(|host| Alone::in_host(host, tree))).to_string();
            assert!(told.contains("policy.network.inbound"), "{told}");
        }
    });
}

#[test]
fn no_more_sockets_are_open_than_may_be() {
    block_on(async {
        let alone = Alone::of(prober("[capabilities.network]\nmax_connections = 5"))
            .await
            .unwrap();
        let mut denials = alone.host.denials();
        let function = format!("{NET}#open-sockets");
        let open = async |count| alone.call(&function, &[Val::U32(count)]).await;
        let answer = open(100).await.unwrap();
        let [Val::Tuple(told)] = answer.as_slice() else {
            panic!("{answer:?}")
        };
        assert_eq!(told[0], Val::U32(5));
        let reason = denied(&mut denials).await.denial.reason;
        assert_eq!(reason, DenialReason::TooMany { most: 5 });
        // They are closed with the call's own values.
        assert_eq!(
            open(5).await.unwrap(),
            [Val::Tuple(vec![Val::U32(5), Val::Option(None)])]
        );
    });
}

#[test]
fn names_that_are_addresses_in_disguise_are_not_looked_up() {
    block_on(async {
        let (alone, asked) = with_names(granted("\"*:*\""), &[]).await;
        for name in [
            "127.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "a..b",
            "-a.b",
            "münchen.de",
        ] {
            let answer = alone.net("resolve", name).await;
            assert!(answer.is_err(), "{name}: {answer:?}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_host_that_is_missing_can_be_pasted_and_is_then_turned_to() {
    block_on(async {
        let address = server(1);
        let tree = prober("");
        let path = tree.path().join("alone/Component.toml");
        let alone = Alone::of(tree).await.unwrap();
        let mut denials = alone.host.denials();
        let connect = address.to_string();
        assert!(alone.net("connect", &connect).await.is_err());
        let missing = denied(&mut denials).await.denial.missing.unwrap();
        alone.host.shutdown().await;
        let toml = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{toml}\n{missing}\n")).unwrap();
        let again = Host::from_config(alone.tree().write()).await.unwrap();
        let component = again.component("alone").unwrap();
        let arguments = [Val::String(connect)];
        let answer = component.call(&format!("{NET}#connect"), &arguments).await;
        assert_eq!(
            result(&answer.unwrap()),
            Ok(Some(&Val::String("pong".into())))
        );
    });
}

#[test]
fn whoever_turns_to_a_granted_port_is_answered_up_to_the_bound_on_sockets() {
    block_on(async {
        // Not of those the kernel gives out: whoever connects to one of its own that nobody listens
        // at may be connected to itself.
        let own = u16::try_from(std::process::id() % 10_000).unwrap();
        let free = (15_000 + own..30_000)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .find(|address| TcpListener::bind(address).is_ok())
            .unwrap();
        // The one that listens, and two that it has accepted.
        let grants = format!("[capabilities.network]\ninbound = [\"{free}\"]\nmax_connections = 3");
        let alone = Alone::of(prober(&grants)).await.unwrap();
        let mut denials = alone.host.denials();
        let clients = std::thread::spawn(move || {
            let ask = move |_| {
                let mut stream = loop {
                    // It does not listen yet.
                    match std::net::TcpStream::connect(free) {
                        Ok(stream) => break stream,
                        Err(_) => std::thread::yield_now(),
                    }
                };
                stream.write_all(b"ping").unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).ok();
                answer
            };
            let each: Vec<_> = (0..2).map(|n| std::thread::spawn(move || ask(n))).collect();
            let answers = each.into_iter().map(|client| client.join().unwrap());
            answers.filter(|answer| answer == b"pong").count()
        });
        let arguments = [Val::String(free.to_string()), Val::U32(3)];
        let served = alone
            .call(&format!("{NET}#serve"), &arguments)
            .await
            .unwrap();
        assert_eq!(result(&served), Ok(Some(&Val::U32(2))));
        assert_eq!(clients.join().unwrap(), 2);
        let reason = denied(&mut denials).await.denial.reason;
        assert_eq!(reason, DenialReason::TooMany { most: 3 });
    });
}
