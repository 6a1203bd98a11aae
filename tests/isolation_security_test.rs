//! What a component must not reach: another's memory, and everything outside it.

use std::process::Command;

use airssys::{ExitCause, Host, Val};
use airssys_guests::CRASHER;

use crate::support::{Alone, PAGE, Tree, block_on, component, number, shared_machine};

const MIB: usize = 1_048_576;

/// Plants a pattern of 32 bytes made from its argument all over its memory, and looks for one.
/// The pattern is in no binary and in no message, only in what was planted.
const VAULT: &str = r#"
    (memory 1)
    (func $word (param $seed i64) (param $n i64) (result i64)
        (i64.xor (i64.mul (local.get $seed) (i64.const 0x9e3779b97f4a7c15))
            (i64.mul (i64.add (local.get $n) (i64.const 1)) (i64.const 0xc2b2ae3d27d4eb4f))))
    (func $end (result i32) (i32.mul (memory.size) (i32.const 65536)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "plant") (param $seed i64) (result i32) (local $at i32)
        (loop $next
            (i64.store (local.get $at) (call $word (local.get $seed) (i64.const 0)))
            (i64.store offset=8 (local.get $at) (call $word (local.get $seed) (i64.const 1)))
            (i64.store offset=16 (local.get $at) (call $word (local.get $seed) (i64.const 2)))
            (i64.store offset=24 (local.get $at) (call $word (local.get $seed) (i64.const 3)))
            (local.set $at (i32.add (local.get $at) (i32.const 32)))
            (br_if $next (i32.lt_u (local.get $at) (call $end))))
        (local.get $at))
    (func (export "find") (param $seed i64) (result i32)
        (local $at i32) (local $found i32) (local $a i64) (local $b i64) (local $c i64) (local $d i64)
        (local.set $a (call $word (local.get $seed) (i64.const 0)))
        (local.set $b (call $word (local.get $seed) (i64.const 1)))
        (local.set $c (call $word (local.get $seed) (i64.const 2)))
        (local.set $d (call $word (local.get $seed) (i64.const 3)))
        (loop $next
            (if (i64.eq (i64.load (local.get $at)) (local.get $a)) (then
                (if (i64.eq (i64.load offset=8 (local.get $at)) (local.get $b)) (then
                    (if (i64.eq (i64.load offset=16 (local.get $at)) (local.get $c)) (then
                        (if (i64.eq (i64.load offset=24 (local.get $at)) (local.get $d)) (then
                            (local.set $found (i32.add (local.get $found) (i32.const 1)))))))))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.le_u (local.get $at) (i32.sub (call $end) (i32.const 32)))))
        (local.get $found))
    (func (export "dirty") (result i32) (local $at i32) (local $found i32)
        (loop $next
            (local.set $found (i32.add (local.get $found)
                (i64.ne (i64.load (local.get $at)) (i64.const 0))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $next (i32.lt_u (local.get $at) (call $end))))
        (local.get $found))
    (func (export "trap") unreachable)
"#;

fn vault() -> String {
    let exports = [
        ("grow", "(param \"pages\" u32) (result s32)"),
        ("plant", "(param \"seed\" u64) (result u32)"),
        ("find", "(param \"seed\" u64) (result u32)"),
        ("dirty", "(result u32)"),
        ("trap", ""),
    ];
    component(VAULT, false, &exports)
}

#[test]
fn one_component_never_sees_what_another_wrote() {
    let _machine = shared_machine();
    block_on(async {
        // One binary for all of them: then the pool prefers to hand a place to its next user with
        // the memory still mapped.
        let tree = ["writer", "seeker", "idler"].iter();
        let tree = tree.fold(Tree::new(), |tree, name| {
            tree.text(name, &vault(), 4 * MIB, "")
        });
        let host = tree.start().await.unwrap();
        let writer = host.component("writer").unwrap();
        let seeker = host.component("seeker").unwrap();
        let ask = async |who: &airssys::ComponentRef, function: &str, arguments: &[Val]| {
            number(&who.call(function, arguments).await.unwrap())
        };
        for round in 0..12_u64 {
            let seed = [Val::U64(0x5ec2_e700 + round)];
            // A whole memory full of it, and half a memory on other rounds.
            let pages = if round % 2 == 0 { 63 } else { 31 };
            assert_eq!(ask(&writer, "grow", &[Val::U32(pages)]).await, 1);
            let planted = ask(&writer, "plant", &seed).await;
            assert_eq!(
                planted,
                (i64::from(pages) + 1) * i64::try_from(PAGE).unwrap()
            );
            // The control: whoever wrote it finds all of it.
            assert_eq!(ask(&writer, "find", &seed).await, planted / 32);
            // The other finds none while the writer lives,
            assert_eq!(ask(&seeker, "find", &seed).await, 0);
            // nor when it is dead and its place in the pool has a new user: its own successor, and
            // the seeker's, over all the memory either can have.
            writer.call("trap", &[]).await.unwrap_err();
            seeker.call("trap", &[]).await.unwrap_err();
            for heir in [&writer, &seeker] {
                assert_eq!(ask(heir, "dirty", &[]).await, 0, "round {round}");
                assert_eq!(ask(heir, "grow", &[Val::U32(63)]).await, 1);
                assert_eq!(ask(heir, "dirty", &[]).await, 0, "round {round}");
                assert_eq!(ask(heir, "find", &seed).await, 0, "round {round}");
            }
            // Both start the next round small.
            writer.call("trap", &[]).await.unwrap_err();
        }
        host.shutdown().await;
    });
}

#[test]
fn a_component_added_to_the_tree_never_sees_what_a_removed_one_wrote() {
    let _machine = shared_machine();
    block_on(async {
        let dir = Tree::new().text("vault", &vault(), 4 * MIB, "");
        dir.write();
        let spec = || {
            let config =
                airssys::ComponentConfig::load(dir.path().join("vault/Component.toml")).unwrap();
            <airssys::ChildSpec as airssys::ComponentSpec>::component(config)
        };
        // A pool of one component has nine places for memories: twelve users in turn must share.
        let host = Host::builder()
            .max_components(1)
            .supervisor(airssys::SupervisorSpec::new("tools"))
            .start()
            .await
            .unwrap();
        let tools = host.supervisor("tools").unwrap();
        for round in 0..12_u64 {
            tools.start_child(spec()).await.unwrap();
            let vault = host.component("vault").unwrap();
            let ask = async |function: &str, arguments: &[Val]| {
                number(&vault.call(function, arguments).await.unwrap())
            };
            assert_eq!(ask("grow", &[Val::U32(63)]).await, 1);
            assert_eq!(ask("dirty", &[]).await, 0, "round {round}");
            ask("plant", &[Val::U64(round)]).await;
            assert_eq!(ask("find", &[Val::U64(round)]).await, 4 * 1024 * 1024 / 32);
            tools.terminate_child("vault").await.unwrap();
            tools.delete_child("vault").await.unwrap();
        }
        host.shutdown().await;
    });
}

/// Asks WASI for everything it has, as any guest of an ordinary tool chain can.
pub const PROBE: &str = r#"(component
    (import "wasi:cli/environment@0.2.0" (instance $environment
        (export "get-environment" (func (result (list (tuple string string)))))
        (export "get-arguments" (func (result (list string))))
        (export "initial-cwd" (func (result (option string))))))
    (import "wasi:filesystem/types@0.2.0" (instance $files (export "descriptor" (type (sub resource)))))
    (alias export $files "descriptor" (type $descriptor))
    (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
        (alias outer 1 $descriptor (type $d')) (export "descriptor" (type $d (eq $d')))
        (export "get-directories" (func (result (list (tuple (own $d) string)))))))
    (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
    (alias export $io-error "error" (type $error))
    (import "wasi:io/streams@0.2.0" (instance $streams
        (alias outer 1 $error (type $e')) (export "error" (type $e (eq $e')))
        (export "input-stream" (type $in (sub resource)))
        (export "output-stream" (type $out (sub resource)))
        (type $failed' (variant (case "last-operation-failed" (own $e)) (case "closed")))
        (export "stream-error" (type $failed (eq $failed')))
        (export "[method]input-stream.blocking-read"
            (func (param "self" (borrow $in)) (param "len" u64) (result (result (list u8) (error $failed)))))
        (export "[method]output-stream.blocking-write-and-flush"
            (func (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $failed)))))))
    (alias export $streams "input-stream" (type $in))
    (alias export $streams "output-stream" (type $out))
    (import "wasi:cli/stdin@0.2.0" (instance $stdin
        (alias outer 1 $in (type $i')) (export "input-stream" (type $i (eq $i')))
        (export "get-stdin" (func (result (own $i))))))
    (import "wasi:cli/stdout@0.2.0" (instance $stdout
        (alias outer 1 $out (type $o')) (export "output-stream" (type $o (eq $o')))
        (export "get-stdout" (func (result (own $o))))))
    (import "wasi:sockets/network@0.2.0" (instance $network
        (export "network" (type (sub resource)))
        (type $code' (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
            "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
            "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
            "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
            "permanent-resolver-failure"))
        (export "error-code" (type (eq $code')))
        (type $family' (enum "ipv4" "ipv6"))
        (export "ip-address-family" (type (eq $family')))))
    (alias export $network "network" (type $net))
    (alias export $network "error-code" (type $code))
    (alias export $network "ip-address-family" (type $family))
    (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
    (alias export $tcp "tcp-socket" (type $tcp-socket))
    (import "wasi:sockets/udp@0.2.0" (instance $udp (export "udp-socket" (type (sub resource)))))
    (alias export $udp "udp-socket" (type $udp-socket))
    (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $tcp-create
        (alias outer 1 $code (type $c')) (export "error-code" (type $c (eq $c')))
        (alias outer 1 $family (type $f')) (export "ip-address-family" (type $f (eq $f')))
        (alias outer 1 $tcp-socket (type $s')) (export "tcp-socket" (type $s (eq $s')))
        (export "create-tcp-socket" (func (param "address-family" $f) (result (result (own $s) (error $c)))))))
    (import "wasi:sockets/udp-create-socket@0.2.0" (instance $udp-create
        (alias outer 1 $code (type $c')) (export "error-code" (type $c (eq $c')))
        (alias outer 1 $family (type $f')) (export "ip-address-family" (type $f (eq $f')))
        (alias outer 1 $udp-socket (type $s')) (export "udp-socket" (type $s (eq $s')))
        (export "create-udp-socket" (func (param "address-family" $f) (result (result (own $s) (error $c)))))))
    (import "wasi:sockets/instance-network@0.2.0" (instance $own-network
        (alias outer 1 $net (type $n')) (export "network" (type $n (eq $n')))
        (export "instance-network" (func (result (own $n))))))
    (import "wasi:sockets/ip-name-lookup@0.2.0" (instance $lookup
        (alias outer 1 $code (type $c')) (export "error-code" (type $c (eq $c')))
        (alias outer 1 $net (type $n')) (export "network" (type $n (eq $n')))
        (export "resolve-address-stream" (type $r (sub resource)))
        (export "resolve-addresses" (func (param "network" (borrow $n)) (param "name" string)
            (result (result (own $r) (error $c)))))))
    (core module $memory
        (memory (export "memory") 2)
        (data (i32.const 512) "localhost")
        (global $next (mut i32) (i32.const 4096))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (global.set $next (i32.add (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)) (local.get 3)))
            (i32.sub (global.get $next) (local.get 3))))
    (core instance $m (instantiate $memory))
    (core func $get-environment (canon lower (func $environment "get-environment") (memory $m "memory") (realloc (func $m "realloc"))))
    (core func $get-arguments (canon lower (func $environment "get-arguments") (memory $m "memory") (realloc (func $m "realloc"))))
    (core func $initial-cwd (canon lower (func $environment "initial-cwd") (memory $m "memory") (realloc (func $m "realloc"))))
    (core func $get-directories (canon lower (func $preopens "get-directories") (memory $m "memory") (realloc (func $m "realloc"))))
    (core func $get-stdin (canon lower (func $stdin "get-stdin")))
    (core func $get-stdout (canon lower (func $stdout "get-stdout")))
    (core func $read (canon lower (func $streams "[method]input-stream.blocking-read") (memory $m "memory") (realloc (func $m "realloc"))))
    (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $m "memory")))
    (core func $create-tcp (canon lower (func $tcp-create "create-tcp-socket") (memory $m "memory")))
    (core func $create-udp (canon lower (func $udp-create "create-udp-socket") (memory $m "memory")))
    (core func $instance-network (canon lower (func $own-network "instance-network")))
    (core func $resolve (canon lower (func $lookup "resolve-addresses") (memory $m "memory")))
    (core module $probe
        (import "m" "memory" (memory 2))
        (import "h" "get-environment" (func $get-environment (param i32)))
        (import "h" "get-arguments" (func $get-arguments (param i32)))
        (import "h" "initial-cwd" (func $initial-cwd (param i32)))
        (import "h" "get-directories" (func $get-directories (param i32)))
        (import "h" "get-stdin" (func $get-stdin (result i32)))
        (import "h" "get-stdout" (func $get-stdout (result i32)))
        (import "h" "read" (func $read (param i32 i64 i32)))
        (import "h" "write" (func $write (param i32 i32 i32 i32)))
        (import "h" "create-tcp" (func $create-tcp (param i32 i32)))
        (import "h" "create-udp" (func $create-udp (param i32 i32)))
        (import "h" "instance-network" (func $instance-network (result i32)))
        (import "h" "resolve" (func $resolve (param i32 i32 i32 i32)))
        (func (export "environment") (result i32) (call $get-environment (i32.const 64)) (i32.load (i32.const 68)))
        (func (export "arguments") (result i32) (call $get-arguments (i32.const 64)) (i32.load (i32.const 68)))
        (func (export "cwd") (result i32) (call $initial-cwd (i32.const 64)) (i32.load8_u (i32.const 64)))
        (func (export "directories") (result i32) (call $get-directories (i32.const 64)) (i32.load (i32.const 68)))
        (func $told (result i32)
            (i32.add (i32.mul (i32.load8_u (i32.const 64)) (i32.const 256)) (i32.load8_u (i32.const 68))))
        (func (export "stdin") (result i32)
            (call $read (call $get-stdin) (i64.const 100) (i32.const 64)) (call $told))
        (func (export "stdout") (param i32 i32) (result i32)
            (call $write (call $get-stdout) (local.get 0) (local.get 1) (i32.const 64)) (i32.load8_u (i32.const 64)))
        (func (export "tcp") (param i32) (result i32) (call $create-tcp (local.get 0) (i32.const 64)) (call $told))
        (func (export "udp") (param i32) (result i32) (call $create-udp (local.get 0) (i32.const 64)) (call $told))
        (func (export "lookup") (result i32)
            (call $resolve (call $instance-network) (i32.const 512) (i32.const 9) (i32.const 64)) (call $told)))
    (core instance $i (instantiate $probe (with "m" (instance $m)) (with "h" (instance
        (export "get-environment" (func $get-environment)) (export "get-arguments" (func $get-arguments))
        (export "initial-cwd" (func $initial-cwd)) (export "get-directories" (func $get-directories))
        (export "get-stdin" (func $get-stdin)) (export "get-stdout" (func $get-stdout))
        (export "read" (func $read)) (export "write" (func $write))
        (export "create-tcp" (func $create-tcp)) (export "create-udp" (func $create-udp))
        (export "instance-network" (func $instance-network)) (export "resolve" (func $resolve))))))
    (func (export "environment") (result u32) (canon lift (core func $i "environment")))
    (func (export "arguments") (result u32) (canon lift (core func $i "arguments")))
    (func (export "cwd") (result u32) (canon lift (core func $i "cwd")))
    (func (export "directories") (result u32) (canon lift (core func $i "directories")))
    (func (export "stdin") (result u32) (canon lift (core func $i "stdin")))
    (func (export "stdout") (param "text" string) (result u32)
        (canon lift (core func $i "stdout") (memory $m "memory") (realloc (func $m "realloc"))))
    (func (export "tcp") (param "family" u32) (result u32) (canon lift (core func $i "tcp")))
    (func (export "udp") (param "family" u32) (result u32) (canon lift (core func $i "udp")))
    (func (export "lookup") (result u32) (canon lift (core func $i "lookup"))))"#;

/// An error, in the probe's answers: the case number of the error in the low byte.
const ERR: i64 = 256;
const ACCESS_DENIED: i64 = 1;
const CLOSED: i64 = 1;

#[test]
fn denied_by_default() {
    let _machine = shared_machine();
    // What there would be to see: this process has an environment, arguments and a directory.
    assert!(std::env::vars().count() > 0 && std::env::args().count() > 0);
    block_on(async {
        let alone = Alone::text(PROBE, MIB, "timeout_seconds = 5").await;
        for nothing in ["environment", "arguments", "cwd", "directories"] {
            assert_eq!(alone.number(nothing, &[]).await, 0, "{nothing}");
        }
        assert_eq!(alone.number("stdin", &[]).await, ERR + CLOSED);
        // A socket comes to be, so that what is refused has an address to be told by.
        for family in [Val::U32(0), Val::U32(1)] {
            let family = [family];
            assert!(alone.number("tcp", &family).await < ERR);
            assert!(alone.number("udp", &family).await < ERR);
        }
        assert_eq!(alone.number("lookup", &[]).await, ERR + ACCESS_DENIED);
        alone.host.shutdown().await;
    });
}

/// What the guests print, put together so that it stands in no other output.
fn marker() -> String {
    ["printed", "by", "a", "guest"].join("~")
}

#[test]
fn a_guest_that_prints_is_answered() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new()
            .text("probe", PROBE, MIB, "")
            .guest("crasher", CRASHER);
        let host = tree.start().await.unwrap();
        let text = [Val::String(marker())];
        let written = host
            .component("probe")
            .unwrap()
            .call("stdout", &text)
            .await
            .unwrap();
        assert_eq!(written, [Val::U32(0)]);
        let crasher = host.component("crasher").unwrap();
        let cause = crate::support::exit(crasher.call("panic", &text).await);
        assert!(matches!(&*cause, ExitCause::Trap(_)), "{:?}", cause.kind());
        host.shutdown().await;
    });
}

#[test]
fn what_a_guest_prints_never_reaches_the_hosts_own_output() {
    let _machine = shared_machine();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "isolation_security_test::a_guest_that_prints_is_answered",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}"
    );
    assert!(!told.contains(&marker()), "{told}");
}
