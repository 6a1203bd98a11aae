//! Requests by HTTP: the same list as for sockets, asked before a packet leaves. Nothing leaves the
//! loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use airssys::grants::DenialReason;
use airssys::{ExitCause, ExitKind, Host, HostBuilder, Resolver, SystemConfig, Val};
use airssys_guests::PROBER;
use airssys_osl::AuditDecision;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};

use crate::filesystem_test::{denied, prober, result};
use crate::network_test::{granted, with_names};
use crate::services_test::recorded;
use crate::support::{Alone, Tree, block_on, exit};

const HTTP: &str = "airssys:prober/http@0.1.0";

/// Longest wait for something that happens at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of the test's own.
pub struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Deals with each connection as `answer` does, on a thread of its own.
    fn at(address: &str, answer: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::Relaxed);
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || answer(stream.unwrap()));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Answers every request with the same bytes, and closes.
    pub fn saying(text: &'static [u8]) -> Self {
        Self::at("127.0.0.1:0", move |mut stream| {
            head(&mut stream);
            stream.write_all(text).ok();
        })
    }

    /// Answers with what it was asked.
    pub fn echo() -> Self {
        Self::at("127.0.0.1:0", |mut stream| {
            let asked = head(&mut stream);
            respond(&mut stream, "200 OK", &asked);
        })
    }

    /// Answers with nothing, and tells when the other side has closed.
    pub fn silent() -> (Self, Receiver<()>) {
        let (closed, told) = channel();
        let server = Self::at("127.0.0.1:0", move |mut stream| {
            head(&mut stream);
            // The end of the stream, or a reset.
            if !matches!(stream.read(&mut [0; 16]), Ok(n) if n > 0) {
                closed.send(()).ok();
            }
        });
        (server, told)
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Host and port.
    pub fn url_host(&self) -> String {
        self.address.to_string()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// The request line and headers of a request.
fn head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn respond(stream: &mut impl Write, status: &str, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).ok();
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong";

fn text(text: &str) -> Val {
    Val::String(text.into())
}

impl Alone {
    async fn ask(&self, function: &str, arguments: &[Val]) -> Result<(u16, String), String> {
        let called = self.call(&format!("{HTTP}#{function}"), arguments).await;
        let called = called.unwrap();
        match result(&called)? {
            Some(Val::Tuple(told)) => match told.as_slice() {
                [Val::U16(status), Val::String(body)] => Ok((*status, body.clone())),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    async fn get(&self, url: &str) -> Result<(u16, String), String> {
        self.ask("get", &[text(url)]).await
    }

    async fn hold(&self, url: &str, count: u32, sockets: u32) -> (u32, Option<String>) {
        let arguments = [text(url), Val::U32(count), Val::U32(sockets)];
        let called = self.call(&format!("{HTTP}#hold"), &arguments).await;
        match called.unwrap().as_slice() {
            [Val::Tuple(told)] => match told.as_slice() {
                [Val::U32(held), Val::Option(None)] => (*held, None),
                [Val::U32(held), Val::Option(Some(why))] => match &**why {
                    Val::String(why) => (*held, Some(why.clone())),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

/// What a guest is told: the code's name is in it.
fn code<T: std::fmt::Debug>(answer: Result<T, String>) -> String {
    answer.unwrap_err()
}

fn pong() -> Result<(u16, String), String> {
    Ok((200, "pong".into()))
}

#[test]
fn http_without_a_grant_nobody_is_asked_and_the_denial_names_the_grant() {
    block_on(async {
        let server = Server::saying(OK);
        let names = &[("example.com", "127.0.0.1")];
        let (alone, looked_up) = with_names(prober(""), names).await;
        let mut denials = alone.host.denials();
        let address = server.address.to_string();
        let port = server.address.port();
        for (url, to) in [
            ("http://example.com/", "example.com:80"),
            ("https://example.com/", "example.com:443"),
            ("http://EXAMPLE.com.:8080/x?y", "EXAMPLE.com:8080"),
            (&server.url(), &address),
            (&format!("http://[::ffff:127.0.0.1]:{port}/"), &address),
            ("http://[::1]/", "[::1]:80"),
            ("http://169.254.169.254/latest", "169.254.169.254:80"),
            ("https://10.0.0.1", "10.0.0.1:443"),
            ("https://9.9.9.9", "9.9.9.9:443"),
        ] {
            let answer = alone.get(url).await;
            assert_eq!(code(answer), "ErrorCode::HttpRequestDenied", "{url}");
            let denial = denied(&mut denials).await.denial;
            assert_eq!(denial.reason, DenialReason::NotGranted, "{url}");
            assert_eq!(denial.subject, format!("connect {to}"));
            let missing = format!("[capabilities.network]\noutbound = [\"{to}\"]");
            assert_eq!(denial.missing.unwrap().to_string(), missing);
        }
        assert_eq!(
            looked_up.load(Ordering::Relaxed),
            0,
            "no name left the host"
        );
        assert_eq!(server.connections(), 0);
    });
}

#[test]
fn http_a_granted_address_is_asked_at_its_port_only() {
    block_on(async {
        let (server, other) = (Server::saying(OK), Server::saying(OK));
        let tree = granted(&format!("\"{}\"", server.address));
        let alone = Alone::of(tree).await.unwrap();
        assert_eq!(alone.get(&server.url()).await, pong());
        let mapped = format!("http://[::ffff:127.0.0.1]:{}/", server.address.port());
        assert_eq!(alone.get(&mapped).await, pong());
        assert_eq!(server.connections(), 2);
        let elsewhere = format!("http://127.0.0.2:{}/", server.address.port());
        for url in [other.url(), elsewhere] {
            assert_eq!(code(alone.get(&url).await), "ErrorCode::HttpRequestDenied");
        }
        assert_eq!(other.connections(), 0);
    });
}

#[test]
fn http_a_granted_name_is_looked_up_once_and_asked_where_it_was_found() {
    block_on(async {
        let server = Server::echo();
        let port = server.address.port();
        let rules = format!("\"*.internal:{port}\", \"127.0.0.1:{port}\"");
        // No other resolver knows it.
        let names = &[("db.internal", "127.0.0.1"), ("internal", "127.0.0.1")];
        let (alone, looked_up) = with_names(granted(&rules), names).await;
        let (status, asked) = alone
            .get(&format!("http://db.internal:{port}/a?b=c"))
            .await
            .unwrap();
        assert_eq!(status, 200);
        assert!(asked.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{asked}");
        let host = format!("host: db.internal:{port}\r\n");
        assert!(asked.contains(&host), "{asked}");
        assert_eq!(looked_up.load(Ordering::Relaxed), 1);
        // `*.internal` is what is below it.
        let itself = alone.get(&format!("http://internal:{port}/")).await;
        assert_eq!(code(itself), "ErrorCode::HttpRequestDenied");
        let other_port = alone.get("http://db.internal/").await;
        assert_eq!(code(other_port), "ErrorCode::HttpRequestDenied");
        assert_eq!(looked_up.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn http_a_granted_name_does_not_lead_to_private_addresses() {
    const NAMES: &[(&str, &str)] = &[
        ("rebound.example.com", "127.0.0.1"),
        ("rebound.example.com", "10.0.0.1"),
        ("rebound.example.com", "169.254.169.254"),
        ("rebound.example.com", "::1"),
        ("mapped.example.com", "::ffff:127.0.0.1"),
    ];
    block_on(async {
        let server = Server::saying(OK);
        let port = server.address.port();
        let rules = "\"*.example.com:*\", \"*:*\"";
        let (alone, _) = with_names(granted(rules), NAMES).await;
        let mut denials = alone.host.denials();
        for (name, addresses) in [("rebound", 4), ("mapped", 1)] {
            let url = format!("http://{name}.example.com:{port}/");
            assert_eq!(code(alone.get(&url).await), "ErrorCode::HttpRequestDenied");
            for _ in 0..addresses {
                let denial = denied(&mut denials).await.denial;
                assert_eq!(denial.reason, DenialReason::NotPublic, "{denial:?}");
            }
        }
        let literal = alone.get(&server.url()).await;
        assert_eq!(code(literal), "ErrorCode::HttpRequestDenied");
        let reason = denied(&mut denials).await.denial.reason;
        assert_eq!(reason, DenialReason::NotPublic);
        assert_eq!(server.connections(), 0);
    });
}

#[test]
fn http_of_a_names_addresses_only_those_that_are_allowed_get_a_packet() {
    block_on(async {
        let allowed = Server::saying(OK);
        let port = allowed.address.port();
        let refused = Server::at(&format!("127.0.0.2:{port}"), |_| {});
        let names = &[("two.internal", "127.0.0.2"), ("two.internal", "127.0.0.1")];
        let rules = format!("\"two.internal:{port}\", \"127.0.0.1:{port}\"");
        let (alone, _) = with_names(granted(&rules), names).await;
        let mut denials = alone.host.denials();
        let answer = alone.get(&format!("http://two.internal:{port}/")).await;
        assert_eq!(answer, pong());
        let denial = denied(&mut denials).await.denial;
        assert_eq!(denial.subject, format!("connect 127.0.0.2:{port}"));
        assert_eq!((allowed.connections(), refused.connections()), (1, 0));
    });
}

#[test]
fn http_the_next_address_is_tried_where_one_does_not_answer() {
    block_on(async {
        let server = Server::saying(OK);
        let port = server.address.port();
        let names = &[("two.internal", "127.0.0.3"), ("two.internal", "127.0.0.1")];
        let rules = format!("\"two.internal:{port}\", \"127.0.0.0/8:{port}\"");
        let (alone, _) = with_names(granted(&rules), names).await;
        let answer = alone.get(&format!("http://two.internal:{port}/")).await;
        assert_eq!(answer, pong());
    });
}

#[test]
fn http_a_rule_that_denies_wins_and_the_policy_bounds() {
    block_on(async {
        let servers = [(); 3].map(|()| Server::saying(OK));
        let [allowed, forbidden, denied_by_own] = &servers;
        let tree = prober(&format!(
            "[capabilities.network]\noutbound = [\"127.0.0.0/8:*\", \"*:*\"]\n\
             deny = [\"{}\", \"bad.example.com:*\"]",
            denied_by_own.address
        ));
        let path = tree.write();
        let toml = std::fs::read_to_string(&path).unwrap();
        let policy = format!(
            "[policy.network]\noutbound = [\"{}\", \"{}\"]\ndeny = [\"{}\"]",
            allowed.address, forbidden.address, forbidden.address
        );
        std::fs::write(&path, format!("{toml}\n{policy}\n")).unwrap();
        let host = Host::from_config(&path).await.unwrap();
        let alone = Alone::in_host(host, tree);
        let mut denials = alone.host.denials();
        assert_eq!(alone.get(&allowed.url()).await, pong());
        let own = denied_by_own.address.to_string();
        let forbidden_rule = forbidden.address.to_string();
        for (url, reason) in [
            (forbidden.url(), DenialReason::Forbidden(forbidden_rule)),
            (denied_by_own.url(), DenialReason::Denied(own)),
            (
                "https://BAD.example.com./".into(),
                DenialReason::Denied("bad.example.com:*".into()),
            ),
            (
                "https://other.example.com/".into(),
                DenialReason::NotAllowed,
            ),
            ("http://127.0.0.1:1/".into(), DenialReason::NotAllowed),
        ] {
            let answer = alone.get(&url).await;
            assert_eq!(code(answer), "ErrorCode::HttpRequestDenied", "{url}");
            assert_eq!(denied(&mut denials).await.denial.reason, reason, "{url}");
        }
        assert_eq!(forbidden.connections() + denied_by_own.connections(), 0);
    });
}

#[test]
fn http_what_is_allowed_and_denied_is_on_record() {
    block_on(async {
        let server = Server::saying(OK);
        let port = server.address.port();
        let rules = format!("\"db.internal:{port}\", \"127.0.0.1:{port}\"");
        let tree = granted(&rules);
        let path = tree.write();
        let toml = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("[audit]\ndirectory = \"audit\"\n{toml}")).unwrap();
        let resolver = Resolver::new(|_| Box::pin(async { Err(ErrorKind::NotFound.into()) }));
        let builder = HostBuilder::from(SystemConfig::load(&path).unwrap()).resolver(resolver);
        let alone = Alone::in_host(builder.start().await.unwrap(), tree);
        let url = format!("http://127.0.0.1:{port}/");
        assert_eq!(alone.get(&url).await, pong());
        alone.get("https://example.com/").await.unwrap_err();
        alone
            .get(&format!("http://db.internal:{port}/"))
            .await
            .unwrap_err();
        alone.host.shutdown().await;
        let record = recorded(alone.tree());
        let line = |subject: &str, decision, rule: String| {
            (
                "alone".to_owned(),
                format!("network {subject}"),
                decision,
                rule,
            )
        };
        let missing = "[capabilities.network]\noutbound = [\"example.com:443\"]";
        let address = format!("127.0.0.1:{port}");
        let name = format!("db.internal:{port}");
        assert_eq!(
            record,
            [
                line(
                    &format!("connect {address}"),
                    AuditDecision::Allow,
                    address.clone()
                ),
                line(
                    "connect example.com:443",
                    AuditDecision::Deny,
                    missing.into()
                ),
                line(
                    &format!("connect {name}"),
                    AuditDecision::Allow,
                    name.clone()
                ),
            ]
        );
    });
}

#[test]
fn http_a_redirect_is_handed_to_the_guest_and_not_followed() {
    block_on(async {
        let target = Server::saying(OK);
        let to = target.address;
        let server = Server::at("127.0.0.1:0", move |mut stream| {
            head(&mut stream);
            let head = format!("HTTP/1.1 302 Found\r\nlocation: http://{to}/\r\n");
            let rest = "content-length: 0\r\n\r\n";
            stream.write_all((head + rest).as_bytes()).unwrap();
        });
        let alone = Alone::of(granted("\"127.0.0.1:*\"")).await.unwrap();
        assert_eq!(alone.get(&server.url()).await, Ok((302, String::new())));
        assert_eq!(target.connections(), 0);
    });
}

#[test]
fn http_user_information_tunnels_and_other_schemes_are_refused() {
    block_on(async {
        let server = Server::saying(OK);
        let address = server.address;
        let alone = Alone::of(granted("\"127.0.0.1:*\"")).await.unwrap();
        for (url, refused) in [
            (format!("http://user@{address}/"), "HttpRequestUriInvalid"),
            (
                format!("http://user:word@{address}/"),
                "HttpRequestUriInvalid",
            ),
            (
                format!("http://{address}@{address}/"),
                "HttpRequestUriInvalid",
            ),
            ("http://127.1/".into(), "HttpRequestUriInvalid"),
            ("http://127.0.0.1:0/".into(), "HttpRequestUriInvalid"),
            (format!("ftp://{address}/"), "HttpProtocolError"),
        ] {
            let answer = code(alone.get(&url).await);
            assert!(answer.contains(refused), "{url}: {answer}");
        }
        let connect = alone
            .ask("ask", &[text("CONNECT"), text(&server.url())])
            .await;
        assert_eq!(code(connect), "ErrorCode::HttpRequestMethodInvalid");
        assert_eq!(server.connections(), 0);
        let other = alone
            .ask("ask", &[text("PURGE"), text(&server.url())])
            .await;
        assert_eq!(other, pong());
    });
}

#[test]
fn http_heads_beyond_their_bounds_end_in_typed_errors() {
    const MANY: usize = 200;
    block_on(async {
        let server = Server::saying(OK);
        let long = Server::at("127.0.0.1:0", |mut stream| {
            head(&mut stream);
            let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(100_000));
            stream.write_all(head.as_bytes()).ok();
        });
        let many = Server::at("127.0.0.1:0", |mut stream| {
            head(&mut stream);
            let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(MANY));
            stream.write_all(head.as_bytes()).ok();
        });
        let alone = Alone::of(granted("\"127.0.0.1:*\"")).await.unwrap();
        let with = async |bytes| {
            let arguments = [text(&server.url()), Val::U32(bytes)];
            alone.ask("get-with-header", &arguments).await
        };
        assert_eq!(with(10_000).await, pong());
        let answer = code(with(20_000).await);
        assert!(answer.contains("HttpRequestHeaderSectionSize"), "{answer}");
        let path = format!("{}{}", server.url(), "x".repeat(20_000));
        let answer = code(alone.get(&path).await);
        assert_eq!(answer, "ErrorCode::HttpRequestUriTooLong");
        assert_eq!(server.connections(), 1);
        for server in [long, many] {
            let answer = code(alone.get(&server.url()).await);
            assert!(answer.contains("HttpResponseHeaderSectionSize"), "{answer}");
        }
    });
}

/// A prober whose calls take a second at most.
fn hasty() -> Tree {
    Tree::new()
        .component("alone", PROBER.wasm, 2_097_152, "timeout_seconds = 1")
        .line(
            "alone",
            "capabilities.network",
            "outbound = [\"127.0.0.1:*\"]",
        )
}

#[test]
fn http_a_server_that_says_nothing_is_waited_for_until_the_calls_deadline_and_left() {
    block_on(async {
        let (server, closed) = Server::silent();
        let alone = Alone::of(hasty()).await.unwrap();
        let begun = Instant::now();
        let hour = Val::U64(3_600_000);
        for function in ["get", "get-within"] {
            let mut arguments = vec![text(&server.url())];
            if function == "get-within" {
                arguments.push(hour.clone());
            }
            let called = alone.call(&format!("{HTTP}#{function}"), &arguments).await;
            let cause = exit(called);
            assert_eq!(cause.kind(), ExitKind::Deadline, "{cause}");
            closed.recv_timeout(PATIENCE).unwrap();
        }
        assert!(begun.elapsed() < PATIENCE);
        let answers = Server::saying(OK);
        assert_eq!(alone.get(&answers.url()).await, pong(), "the next instance");
    });
}

#[test]
fn http_a_guest_that_waits_less_is_told_and_the_connection_is_closed() {
    block_on(async {
        let (silent, closed) = Server::silent();
        let slow = Server::at("127.0.0.1:0", |mut stream| {
            head(&mut stream);
            let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npo";
            stream.write_all(begun).unwrap();
            // Until the other side gives up.
            stream.read_exact(&mut [0]).ok();
        });
        let alone = Alone::of(granted("\"127.0.0.1:*\"")).await.unwrap();
        for url in [silent.url(), slow.url()] {
            let within = [text(&url), Val::U64(100)];
            let answer = code(alone.ask("get-within", &within).await);
            assert!(
                answer.contains("ConnectionReadTimeout") || answer.contains("read timeout"),
                "{answer}"
            );
        }
        closed.recv_timeout(PATIENCE).unwrap();
    });
}

#[test]
fn http_a_stopped_host_closes_its_connections() {
    block_on(async {
        let (server, closed) = Server::silent();
        let alone = Arc::new(
            Alone::of(granted("\"127.0.0.1:*\"").shutdown("brutal"))
                .await
                .unwrap(),
        );
        let (asking, url) = (Arc::clone(&alone), server.url());
        let asked = tokio::spawn(async move {
            let get = format!("{HTTP}#get");
            asking.call(&get, &[text(&url)]).await
        });
        while server.connections() == 0 {
            tokio::task::yield_now().await;
        }
        alone.host.shutdown().await;
        assert!(asked.await.unwrap().is_err());
        closed.recv_timeout(PATIENCE).unwrap();
    });
}

#[test]
fn http_requests_and_sockets_together_are_no_more_than_may_be() {
    block_on(async {
        let server = Server::saying(OK);
        let grants = "[capabilities.network]\noutbound = [\"127.0.0.1:*\"]\nmax_connections = 3";
        let alone = Alone::of(prober(grants)).await.unwrap();
        let mut denials = alone.host.denials();
        let limit = Some("ErrorCode::ConnectionLimitReached".to_owned());
        assert_eq!(alone.hold(&server.url(), 100, 0).await, (3, limit.clone()));
        let reason = denied(&mut denials).await.denial.reason;
        assert_eq!(reason, DenialReason::TooMany { most: 3 });
        assert_eq!(server.connections(), 3);
        assert_eq!(alone.hold(&server.url(), 100, 2).await, (1, limit));
        // They are over with the responses.
        assert_eq!(alone.hold(&server.url(), 3, 0).await, (3, None));
    });
}

#[test]
fn http_one_request_after_another_needs_one_connection() {
    block_on(async {
        let server = Server::saying(OK);
        let grants = "[capabilities.network]\noutbound = [\"127.0.0.1:*\"]\nmax_connections = 1";
        let alone = Alone::of(prober(grants)).await.unwrap();
        for _ in 0..20 {
            assert_eq!(alone.get(&server.url()).await, pong());
        }
    });
}

/// More than the prober may hold.
const LONG: usize = 8 * 1024 * 1024;

#[test]
fn http_bodies_longer_than_a_components_memory_go_through_it() {
    block_on(async {
        let sender = Server::at("127.0.0.1:0", |mut stream| {
            head(&mut stream);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            let piece = [b'x'; 65_536];
            for _ in 0..LONG / piece.len() {
                stream.write_all(&piece).unwrap();
            }
        });
        let taker = Server::at("127.0.0.1:0", |mut stream| {
            let head = head(&mut stream);
            assert!(head.contains("transfer-encoding: chunked"), "{head}");
            let mut taken = 0;
            let mut end = Vec::new();
            let mut piece = [0; 65_536];
            while !end.ends_with(b"\r\n0\r\n\r\n") {
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0, "cut after {taken}");
                taken += piece[..read].iter().filter(|byte| **byte == b'x').count();
                end.extend_from_slice(&piece[..read]);
                end.drain(..end.len().saturating_sub(16));
            }
            respond(&mut stream, "200 OK", &taken.to_string());
        });
        let alone = Alone::of(granted("\"127.0.0.1:*\"")).await.unwrap();
        let length = alone
            .call(&format!("{HTTP}#length"), &[text(&sender.url())])
            .await;
        let length = length.unwrap();
        let all = u64::try_from(LONG).unwrap();
        assert_eq!(result(&length), Ok(Some(&Val::U64(all))));
        let posted = alone
            .ask("post", &[text(&taker.url()), Val::U64(all)])
            .await;
        assert_eq!(posted, Ok((200, LONG.to_string())));
    });
}

#[test]
fn http_what_the_host_keeps_for_a_guest_counts_against_its_limit() {
    block_on(async {
        let alone = Alone::of(prober("")).await.unwrap();
        let keep = format!("{HTTP}#keep-fields");
        let few = alone.call(&keep, &[Val::U32(10), Val::U32(8000)]).await;
        assert_eq!(few.unwrap(), [Val::U32(10)]);
        let cause = alone.exit(&keep, &[Val::U32(900), Val::U32(8000)]).await;
        let ExitCause::OutOfMemory(figures) = &*cause else {
            panic!("{cause}")
        };
        assert!(figures.current_bytes <= 2_097_152, "{figures:?}");
        let mut held = figures.current_bytes;
        held += figures.requested_bytes;
        assert!(held > 2_097_152, "{figures:?}");
    });
}

#[test]
fn http_a_request_beyond_the_memory_limit_is_refused_and_the_guest_goes_on() {
    block_on(async {
        let server = Server::saying(OK);
        let grants = "[capabilities.network]\noutbound = [\"127.0.0.1:*\"]\nmax_connections = 100";
        let alone = Alone::of(prober(grants)).await.unwrap();
        let (held, why) = alone.hold(&server.url(), 100, 0).await;
        assert!((1..32).contains(&held), "64 KiB each, 2 MiB: {held}");
        assert!(why.clone().unwrap().contains("memory limit"), "{why:?}");
        assert_eq!(alone.get(&server.url()).await, pong());
    });
}

#[test]
fn http_what_requests_were_made_of_is_gone_with_them() {
    block_on(async {
        let server = Server::saying(OK);
        let tree = granted("\"127.0.0.1:*\"").line("alone", "resources.counts", "max_handles = 32");
        let alone = Alone::of(tree).await.unwrap();
        let within = [text(&server.url()), Val::U64(20_000)];
        for _ in 0..40 {
            assert_eq!(alone.ask("get-within", &within).await, pong());
        }
    });
}

#[test]
fn http_what_goes_wrong_has_its_own_code() {
    block_on(async {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let nowhere = nobody.local_addr().unwrap();
        drop(nobody);
        let hung_up = Server::saying(b"");
        let cut = Server::saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npong");
        let babble = Server::saying(b"what?\r\n\r\n");
        let (alone, _) = with_names(granted("\"127.0.0.1:*\", \"*.example.com:*\""), &[]).await;
        for (url, told) in [
            (format!("http://{nowhere}/"), "ConnectionRefused"),
            ("http://none.example.com/".into(), "DnsError"),
            (hung_up.url(), "HttpResponseIncomplete"),
            (cut.url(), "incomplete"),
            (babble.url(), "HttpProtocolError"),
        ] {
            let answer = code(alone.get(&url).await);
            assert!(answer.contains(told), "{url}: {answer}");
        }
    });
}

#[test]
fn http_a_resolver_that_panics_ends_its_call_and_nothing_else() {
    block_on(async {
        let tree = granted("\"*.example.com:*\"");
        let config = SystemConfig::load(tree.write()).unwrap();
        let resolver = Resolver::new(|_| Box::pin(async { panic!("no such luck") }));
        let builder = HostBuilder::from(config).resolver(resolver);
        let alone = Alone::in_host(builder.start().await.unwrap(), tree);
        let get = format!("{HTTP}#get");
        let cause = alone.exit(&get, &[text("http://a.example.com/")]).await;
        assert_eq!(cause.kind(), ExitKind::HostPanic, "{cause}");
        let next = alone.get("http://example.org/").await;
        assert_eq!(code(next), "ErrorCode::HttpRequestDenied");
    });
}

/// A server whose certificate nobody vouches for.
fn self_signed() -> Server {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))
        .unwrap();
    let config = Arc::new(config);
    Server::at("127.0.0.1:0", move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        assert_eq!(head(&mut stream), "", "a request came");
    })
}

#[test]
fn https_to_a_server_nobody_vouches_for_ends_before_the_request() {
    block_on(async {
        let alone = Alone::of(granted("\"127.0.0.1:*\"")).await.unwrap();
        let server = self_signed();
        let secure = format!("https://{}/", server.address);
        let answer = code(alone.get(&secure).await);
        assert_eq!(answer, "ErrorCode::TlsCertificateError");
        assert_eq!(server.connections(), 1);
        let plain = Server::at("127.0.0.1:0", |mut stream| {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
            stream.read_to_end(&mut Vec::new()).ok();
        });
        let insecure = format!("https://{}/", plain.address);
        let answer = code(alone.get(&insecure).await);
        assert_eq!(answer, "ErrorCode::TlsProtocolError");
    });
}
