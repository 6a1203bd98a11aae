//! `airssys mcp --http`: who is let in, and how much of them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::sync::Arc;

use airssys::mcp::{HttpOptions, MAX_SESSIONS, ServeError, Server, Token};
use airssys_guests::CALCULATOR;
use serde_json::json;

use crate::cli_test::{airssys, code, err};
use crate::mcp_test::{PATIENCE, Running, TOKEN, initialize};
use crate::support::{Tree, block_on, shared_machine};

impl Running {
    /// What the server answers to these bytes, up to the end of the head or of the connection.
    fn head(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut told = Vec::new();
        let mut byte = [0];
        while !told.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            told.push(byte[0]);
        }
        String::from_utf8(told).unwrap()
    }
}

/// A POST with these headers beside those that each needs.
fn post(headers: &[&str], body: &str) -> String {
    let mut lines = vec![
        "POST /mcp HTTP/1.1",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
    ];
    lines.extend(headers);
    let length = body.len();
    format!(
        "{}\r\ncontent-length: {length}\r\n\r\n{body}",
        lines.join("\r\n")
    )
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn who_shows_no_token_or_another_is_told_to_show_one() {
    let _load = shared_machine();
    let tree = Tree::new().guest("calculator", CALCULATOR);
    let server = Running::start(&tree.write(), &[]);
    let body = initialize("2025-11-25").to_string();
    let host = format!("host: {}", server.address);
    let none = server.head(&post(&[&host], &body));
    assert_eq!(status(&none), 401, "{none}");
    assert!(
        none.contains("www-authenticate: Bearer realm=\"airssys\"\r\n"),
        "{none}"
    );
    for wrong in [
        "Bearer x",
        "Bearer a-token-of-the-tests-alonf",
        "Bearer ",
        "Basic YTpi",
    ] {
        let refused = server.head(&post(&[&host, &format!("authorization: {wrong}")], &body));
        assert_eq!(status(&refused), 401, "{wrong}: {refused}");
        assert!(refused.contains("www-authenticate: Bearer"), "{refused}");
    }
    // Nobody reads the body of who shows none.
    let endless = format!("POST /mcp HTTP/1.1\r\n{host}\r\ncontent-length: 1000000000\r\n\r\n");
    assert_eq!(status(&server.head(&endless)), 401);
    let right = format!("authorization: bearer {TOKEN}");
    assert_eq!(status(&server.head(&post(&[&host, &right], &body))), 200);
}

#[test]
fn foreign_hosts_and_origins_are_refused_and_every_reply_keeps_pages_apart() {
    let _load = shared_machine();
    let tree = Tree::new().guest("calculator", CALCULATOR);
    let allow = [
        "--allow-origin",
        "https://app.example.com",
        "--allow-host",
        "tools.example.com",
    ];
    let server = Running::start(&tree.write(), &allow);
    let body = initialize("2025-11-25").to_string();
    let token = format!("authorization: Bearer {TOKEN}");
    let own = format!("host: {}", server.address);
    let ask = |headers: &[&str]| {
        let head = server.head(&post(&[&[token.as_str()], headers].concat(), &body));
        for header in [
            "opener-policy: same-origin",
            "embedder-policy: require-corp",
            "resource-policy: same-site",
        ] {
            assert!(
                head.contains(&format!("cross-origin-{header}\r\n")),
                "{head}"
            );
        }
        (status(&head), head)
    };
    assert_eq!(ask(&[&own]).0, 200);
    assert_eq!(ask(&["host: tools.example.com"]).0, 200);
    assert_eq!(ask(&["host: evil.example.com"]).0, 403);
    assert_eq!(ask(&[&own, "origin: https://evil.example.com"]).0, 403);
    assert_eq!(ask(&[&own, "origin: null"]).0, 403);
    assert_eq!(ask(&[&own, "origin: https://app.example.com:8443"]).0, 403);
    let (code, head) = ask(&[&own, "origin: https://app.example.com"]);
    assert_eq!(code, 200);
    assert!(
        head.contains("access-control-allow-origin: https://app.example.com\r\n"),
        "{head}"
    );
    // Without a list there is no origin that may.
    let closed = Running::start(&tree.write(), &[]);
    let foreign = "origin: http://localhost:3000";
    let (token, own_too) = (token.as_str(), format!("host: {}", closed.address));
    assert_eq!(
        status(&closed.head(&post(&[token, &own_too, foreign], &body))),
        403
    );
    assert_eq!(status(&closed.head(&post(&[token, &own_too], &body))), 200);
    let preflight = |origin: &str| {
        server.head(&format!(
            "OPTIONS /mcp HTTP/1.1\r\n{own}\r\norigin: {origin}\r\n\r\n"
        ))
    };
    assert_eq!(status(&preflight("https://app.example.com")), 204);
    let refused = preflight("https://evil.example.com");
    assert_eq!(status(&refused), 403);
    assert!(!refused.contains("access-control-allow"), "{refused}");
    let elsewhere = server.head(&format!("GET / HTTP/1.1\r\n{own}\r\n\r\n"));
    assert_eq!(status(&elsewhere), 404);
    assert!(
        elsewhere.contains("cross-origin-opener-policy"),
        "{elsewhere}"
    );
}

#[test]
fn sessions_and_bodies_are_bounded() {
    let _load = shared_machine();
    let tree = Tree::new().guest("calculator", CALCULATOR);
    let server = Running::start(&tree.write(), &[]);
    let token = format!("authorization: Bearer {TOKEN}");
    let own = format!("host: {}", server.address);
    // Too much already, and more to come: nobody waits for the rest.
    let large = post(&[&own, &token], &"x".repeat(5 * 1024 * 1024));
    let large = large.replacen("content-length: 5242880", "content-length: 1000000000", 1);
    assert_eq!(status(&server.head(&large)), 413);
    let open = post(&[&own, &token], &initialize("2025-11-25").to_string());
    for _ in 0..MAX_SESSIONS {
        assert_eq!(status(&server.head(&open)), 200);
    }
    assert_eq!(status(&server.head(&open)), 500);
    // Who needs no session is served.
    let stateless = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    let headers = [
        &own,
        &token,
        "mcp-protocol-version: 2026-07-28",
        "mcp-method: tools/list",
    ];
    let answer = server.head(&post(&headers, &stateless.to_string()));
    assert_eq!(status(&answer), 200, "{answer}");
}

#[test]
fn another_address_than_loopbacks_needs_a_flag_and_a_token() {
    let tree = Tree::new().guest("calculator", CALCULATOR);
    let file = tree.write().display().to_string();
    let refused = |arguments: &[&str]| -> Output {
        let output = airssys(&[&["mcp", &file, "--http", "0.0.0.0:0"], arguments].concat());
        assert_eq!(code(&output), 2, "{}", err(&output));
        output
    };
    refused(&[]);
    refused(&["--beyond-loopback"]);
    let token = tree.path().join("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let path = token.display().to_string();
    // Others may read it.
    let open = refused(&["--beyond-loopback", "--token-file", &path]);
    assert!(err(&open).contains("644"), "{}", err(&open));
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    refused(&["--token-file", &path]);
    let link = tree.path().join("link");
    std::os::unix::fs::symlink(&token, &link).unwrap();
    refused(&[
        "--beyond-loopback",
        "--token-file",
        &link.display().to_string(),
    ]);
    for origin in [
        "app.example.com",
        "https://app.example.com/",
        "https://*",
        "ftp://x",
    ] {
        refused(&[
            "--beyond-loopback",
            "--token-file",
            &path,
            "--allow-origin",
            origin,
        ]);
    }
    fs::write(&token, "short").unwrap();
    refused(&["--beyond-loopback", "--token-file", &path]);
    block_on(async {
        let host = Arc::new(tree.start().await.unwrap());
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let server = Server::new(Arc::clone(&host));
        let pending = std::future::pending();
        let refused = server.http(listener, HttpOptions::default(), pending).await;
        assert!(matches!(refused, Err(ServeError::NoToken { .. })));
        host.shutdown().await;
    });
    assert!(Token::new("sixteen-letters.".into()).is_ok());
    assert!(Token::new("with a white space in".into()).is_err());
}
