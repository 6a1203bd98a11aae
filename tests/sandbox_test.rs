//! The sandbox around the program, and room for memory.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use airssys::{CapacityError, ExitCause, HostError};
use airssys_osl::SandboxKernel;

use crate::filesystem_test::prober;
use crate::messaging_test::host;
use crate::support::{Alone, Tree, block_on, start_failure};

/// What `airssys call` of a prober's function says, inside a sandbox of these lines.
fn call(tree: &Tree, sandbox: &str, function: &str, argument: &str) -> (Option<i32>, String) {
    let path = tree.write();
    let toml = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{toml}\n[sandbox]\n{sandbox}\n")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_airssys"))
        .arg("call")
        .arg(&path)
        .args(["alone", function, &format!("{argument:?}")])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), told.into_owned())
}

fn has_landlock() -> bool {
    let there = SandboxKernel::current().landlock_abi >= 4;
    if !there {
        println!("this kernel has no Landlock that holds ports: nothing to see here");
    }
    there
}

#[test]
fn a_port_outside_the_sandbox_is_refused_whatever_is_granted() {
    if !has_landlock() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        stream.write_all(b"pong").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener.accept().is_err()
    });
    let tree = prober(&format!(
        "[capabilities.network]\noutbound = [\"{address}\"]"
    ));
    let connect = "airssys:prober/net@0.1.0#connect";
    let outside = "mode = \"required\"\nconnect = [\"1\"]";
    let (code, told) = call(&tree, outside, connect, &address.to_string());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("err("), "{told}");
    let inside = format!("mode = \"required\"\nconnect = [\"{}\"]", address.port());
    let (code, told) = call(&tree, &inside, connect, &address.to_string());
    assert_eq!((code, told.lines().next()), (Some(0), Some("ok(\"pong\")")));
    assert!(server.join().unwrap(), "the first never came");
}

#[test]
fn what_a_tree_needs_is_inside_its_sandbox() {
    if !has_landlock() {
        return;
    }
    let tree = prober(
        "[[capabilities.filesystem]]\npath = \"data\"\nguest = \"/data\"\naccess = \"read-write\"",
    );
    std::fs::write(tree.path().join("alone/data/x"), "found").unwrap();
    let sandbox = "mode = \"required\"\n[audit]\ndirectory = \"audit\"\n\
                   [keyvalue]\ndirectory = \"kv\"\n[system.cache]\ndirectory = \"cache\"";
    let read = "airssys:prober/files@0.1.0#read";
    let (code, told) = call(&tree, sandbox, read, "/data/x");
    assert_eq!(
        (code, told.lines().next()),
        (Some(0), Some("ok(\"found\")"))
    );
    for directory in ["audit", "kv", "cache"] {
        assert!(
            tree.path().join(directory).read_dir().unwrap().count() > 0,
            "{directory}"
        );
    }
}

#[test]
fn an_instance_that_the_hosts_memory_cannot_bear_is_refused_as_capacity() {
    block_on(async {
        let tree = prober("");
        let reserve = "[system.memory]\nreserve_bytes = 1099511627776";
        let refused = host(&tree, reserve).await;
        let cause = start_failure(refused.map(|host| Alone::in_host(host, tree)));
        let ExitCause::Capacity { source } = &*cause else {
            panic!("{cause}")
        };
        let source = source.downcast_ref::<CapacityError>();
        assert!(
            matches!(source, Some(CapacityError::HostMemory(_))),
            "{source:?}"
        );
        let tree = prober("");
        let admitted: Result<_, HostError> =
            host(&tree, "[system.memory]\nreserve_bytes = 0").await;
        admitted.unwrap().shutdown().await;
    });
}
