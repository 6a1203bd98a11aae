//! Functions of the embedder's own: who may call them, and what becomes of those that go wrong.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use airssys::{
    Caller, DeadlinePhase, EngineError, ExitCause, Host, HostBuilder, HostError, HostFunctions,
    SystemConfig, Val,
};
use airssys_guests::CALCULATOR;

use crate::support::{Tree, block_on, exit, number, shared_machine};

const MIB: usize = 1_048_576;
const KIT: &str = "acme:tools/kit@0.1.0";

/// A guest that imports functions from u32 to u32 and exports each under its own name, and `count`,
/// which counts its calls. `tell` takes a text, here the `n` first bytes of `hello`.
fn importer(imports: &[&str]) -> String {
    let mut text = format!("(component (import \"{KIT}\" (instance $kit\n");
    let mut lowered = String::new();
    let (mut core, mut given, mut lifted) = (String::new(), String::new(), String::new());
    for name in imports {
        let ty = "(func (param \"n\" u32) (result u32))";
        let (ty, parameters, arguments, options) = match *name {
            "tell" => (
                "(func (param \"text\" string) (result u32))",
                "i32 i32",
                "(i32.const 0) (local.get 0)",
                "(memory $texts \"memory\")",
            ),
            _ => (ty, "i32", "(local.get 0)", ""),
        };
        writeln!(text, "(export \"{name}\" {ty})").unwrap();
        writeln!(
            lowered,
            "(core func ${name} (canon lower (func $kit \"{name}\") {options}))"
        )
        .unwrap();
        writeln!(
            core,
            "(import \"kit\" \"{name}\" (func ${name} (param {parameters}) (result i32)))
             (func (export \"{name}\") (param i32) (result i32) (call ${name} {arguments}))"
        )
        .unwrap();
        writeln!(given, "(export \"{name}\" (func ${name}))").unwrap();
        writeln!(
            lifted,
            "(func (export \"{name}\") (param \"n\" u32) (result u32)
                (canon lift (core func $i \"{name}\")))"
        )
        .unwrap();
    }
    // Imports stand before everything else of a module.
    let (imported, defined): (Vec<&str>, Vec<&str>) = core
        .lines()
        .partition(|line| line.trim_start().starts_with("(import"));
    let core = imported.join("\n") + &defined.join("\n");
    format!(
        "{text}))
        (core module $memory (memory (export \"memory\") 1) (data (i32.const 0) \"hello\"))
        (core instance $texts (instantiate $memory))
        {lowered}
        (core module $m {core}
            (global $calls (mut i32) (i32.const 0))
            (func (export \"count\") (result i32)
                (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                (global.get $calls)))
        (core instance $i (instantiate $m (with \"kit\" (instance {given}))))
        {lifted}
        (func (export \"count\") (result u32) (canon lift (core func $i \"count\"))))"
    )
}

fn tree(names: &[&str], imports: &[&str], cpu: &str) -> Tree {
    names.iter().fold(Tree::new(), |tree, name| {
        tree.text(name, &importer(imports), MIB, cpu)
    })
}

async fn start(tree: &Tree, functions: HostFunctions) -> Result<Host, HostError> {
    let config = SystemConfig::load(tree.write()).unwrap();
    let builder = HostBuilder::from(config).host_functions(functions);
    builder.start().await
}

const FIVE: [Val; 1] = [Val::U32(5)];

#[test]
fn guests_call_functions_of_the_embedders_own_which_know_their_caller() {
    let _machine = shared_machine();
    block_on(async {
        let imports = ["double", "later", "handed-on", "tell"];
        let tree = tree(&["first", "second"], &imports, "");
        let callers: Arc<Mutex<Vec<Caller>>> = Arc::default();
        let (now, later) = (Arc::clone(&callers), Arc::clone(&callers));
        let functions = HostFunctions::new()
            .func(KIT, "double", move |caller, (n,): (u32,)| {
                now.lock().unwrap().push(caller.clone());
                Ok((n * 2,))
            })
            .func_async(KIT, "later", move |caller, (n,): (u32,)| {
                let later = Arc::clone(&later);
                async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    later.lock().unwrap().push(caller);
                    Ok((n + 1,))
                }
            })
            .func_dynamic(KIT, "handed-on", |_, values| async move {
                match values[..] {
                    [Val::U32(n)] => Ok(vec![Val::U32(n * n)]),
                    _ => unreachable!("{values:?}"),
                }
            })
            .func(KIT, "tell", |_, (text,): (String,)| {
                assert_eq!(text, "hello");
                Ok((u32::try_from(text.len())?,))
            });
        let host = start(&tree, functions).await.unwrap();
        for (component, generation) in [("first", 1), ("second", 1)] {
            let guest = host.component(component).unwrap();
            for (function, answer) in [("double", 10), ("later", 6), ("handed-on", 25), ("tell", 5)]
            {
                let got = guest.call(function, &FIVE).await.unwrap();
                assert_eq!(number(&got), answer, "{function}");
            }
            let told: Vec<(String, u64)> = std::mem::take(&mut *callers.lock().unwrap())
                .iter()
                .map(|caller| (caller.component.to_string(), caller.generation))
                .collect();
            let expected = (component.to_owned(), generation);
            assert_eq!(told, [expected.clone(), expected]);
        }
        host.shutdown().await;
    });
}

#[test]
fn a_panic_of_a_host_function_is_told_by_its_name_and_stays_in_its_call() {
    let _machine = shared_machine();
    block_on(async {
        let imports = ["now", "before", "later", "handed-on"];
        let tree = tree(&["broken", "sibling"], &imports, "");
        async fn panics_at_its_second_poll() -> wasmtime::Result<(u32,)> {
            tokio::task::yield_now().await;
            panic!("later is broken")
        }
        let functions = HostFunctions::new()
            .func(KIT, "now", |_, (_,): (u32,)| -> wasmtime::Result<(u32,)> {
                panic!("now is broken")
            })
            .func_async(KIT, "before", |_, (n,): (u32,)| {
                assert!(n == 0, "before is broken");
                async { Ok((0_u32,)) }
            })
            .func_async(KIT, "later", |_, (_,): (u32,)| panics_at_its_second_poll())
            .func_dynamic(KIT, "handed-on", |_, _| async {
                panic!("handed-on is broken")
            });
        let host = start(&tree, functions).await.unwrap();
        let (broken, sibling) = (
            host.component("broken").unwrap(),
            host.component("sibling").unwrap(),
        );
        for (round, function) in (1..).zip(imports) {
            assert_eq!(number(&broken.call("count", &[]).await.unwrap()), 1);
            let cause = exit(broken.call(function, &FIVE).await);
            let ExitCause::HostPanic { entry, message } = &*cause else {
                panic!("{function}: {cause}");
            };
            let (name, text) = (format!("{KIT}#{function}"), format!("{function} is broken"));
            assert_eq!((entry.as_deref(), message), (Some(&*name), &text));
            assert!(cause.to_string().contains(&name), "{cause}");
            let caught = host.panics().last_panics();
            assert_eq!(caught.len(), round);
            let last = caught.last().unwrap();
            assert_eq!((&*last.entry, &last.message), (&*name, &text));
            let count = sibling.call("count", &[]).await.unwrap();
            assert_eq!(number(&count), round as i64, "the same instance as before");
        }
        assert_eq!(host.panics().counts().panicked, 4);
        assert_eq!(host.snapshot().await.host.panics, 4);
        host.shutdown().await;
    });
}

#[derive(Debug, thiserror::Error)]
#[error("shelf {0} is locked")]
struct Locked(u32);

#[test]
fn a_host_function_that_fails_ends_its_instance_with_its_own_typed_error() {
    let _machine = shared_machine();
    block_on(async {
        let imports = ["now", "later", "miscounts", "mistypes"];
        let tree = tree(&["guest"], &imports, "");
        let functions = HostFunctions::new()
            .func(KIT, "now", |_, (n,): (u32,)| -> wasmtime::Result<(u32,)> {
                Err(Locked(n).into())
            })
            .func_async(KIT, "later", |_, (n,): (u32,)| async move {
                let found: Result<(u32,), Locked> = Err(Locked(n));
                Ok(found?)
            })
            .func_dynamic(KIT, "miscounts", |_, values| async move {
                Ok([values.clone(), values].concat())
            })
            .func_dynamic(KIT, "mistypes", |_, _| async { Ok(vec![Val::Bool(true)]) });
        let host = start(&tree, functions).await.unwrap();
        let guest = host.component("guest").unwrap();
        for function in ["now", "later"] {
            assert_eq!(number(&guest.call("count", &[]).await.unwrap()), 1);
            let cause = exit(guest.call(function, &FIVE).await);
            let ExitCause::HostError { source } = &*cause else {
                panic!("{function}: {cause}");
            };
            assert!(source.to_string().contains("shelf 5 is locked"), "{source}");
            let mut errors: Option<&(dyn Error + 'static)> = Some(&**source);
            let mut found = false;
            while let Some(error) = errors {
                found |= error.is::<Locked>();
                errors = error.source();
            }
            assert!(found, "{function}: {source:?}");
        }
        for (function, told) in [("miscounts", "2 values"), ("mistypes", "bool")] {
            let cause = exit(guest.call(function, &FIVE).await);
            assert!(
                matches!(&*cause, ExitCause::HostError { .. }) && cause.to_string().contains(told),
                "{cause}"
            );
        }
        assert_eq!(host.panics().counts().panicked, 0);
        host.shutdown().await;
    });
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// How a call ends after a second whose host function never does; the function is dropped by then,
/// and a fresh instance serves the next call.
async fn cut<F>(endless: impl Fn() -> F + Send + Sync + 'static) -> DeadlinePhase
where
    F: Future<Output = ()> + Send + 'static,
{
    let tree = tree(&["guest"], &["wait"], "timeout_seconds = 1");
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let functions = HostFunctions::new().func_async(KIT, "wait", move |_, (n,): (u32,)| {
        let (held, endless) = (Dropped(Arc::clone(&told)), endless());
        async move {
            endless.await;
            drop(held);
            Ok((n,))
        }
    });
    let host = start(&tree, functions).await.unwrap();
    let guest = host.component("guest").unwrap();
    let call = guest.call("wait", &FIVE);
    let ended = tokio::time::timeout(Duration::from_secs(20), call).await;
    let cause = exit(ended.expect("it is cut"));
    assert!(over.load(Ordering::SeqCst));
    assert_eq!(number(&guest.call("count", &[]).await.unwrap()), 1);
    host.shutdown().await;
    match &*cause {
        ExitCause::Deadline { phase, .. } => *phase,
        other => panic!("no deadline: {other}"),
    }
}

#[test]
fn a_host_function_that_waits_is_dropped_at_the_calls_deadline() {
    let _machine = shared_machine();
    let phase = block_on(cut(std::future::pending::<()>));
    assert_eq!(phase, DeadlinePhase::Waiting);
}

/// It leaves nothing of its task's budget, in which the runtime's timers are looked at.
#[test]
fn a_host_function_that_is_never_done_and_never_waits_is_dropped_at_the_calls_deadline() {
    let _machine = shared_machine();
    block_on(cut(|| async {
        for _ in 0..u64::MAX {
            tokio::task::consume_budget().await;
        }
    }));
}

#[test]
fn a_name_that_is_taken_and_a_function_of_another_type_are_refused_at_the_start() {
    let _machine = shared_machine();
    block_on(async {
        let plain = Tree::new().guest("calculator", CALCULATOR);
        let same = |_: &Caller, (n,): (u32,)| Ok((n,));
        let twice = HostFunctions::new()
            .func(KIT, "double", same)
            .func(KIT, "double", same);
        let wasi = "wasi:random/random@0.2.12";
        let wasis = HostFunctions::new().func(wasi, "get-random-u64", same);
        let an_instance = HostFunctions::new().func("", "wasi:io/poll@0.2.12", same);
        for (functions, name) in [
            (twice, format!("{KIT}#double")),
            (wasis, format!("{wasi}#get-random-u64")),
            (an_instance, String::from("wasi:io/poll@0.2.12")),
        ] {
            let refused = start(&plain, functions).await.unwrap_err();
            let HostError::Engine(EngineError::HostFunction(refused)) = refused else {
                panic!("{refused}");
            };
            assert_eq!(*refused.function, *name);
        }
        let other = HostFunctions::new().func(KIT, "double", |_, (n,): (u64,)| Ok((n,)));
        let importer = tree(&["guest"], &["double"], "");
        for functions in [other, HostFunctions::new()] {
            let refused = start(&importer, functions).await.unwrap_err().to_string();
            assert!(refused.contains("cannot be linked"), "{refused}");
        }
    });
}
