//! A guest that sends and receives messages, keeps texts and asks for secrets.

mod bindings {
    #![allow(
        missing_docs,
        unsafe_code,
        reason = "the generated canonical ABI glue is unsafe by nature"
    )]
    wit_bindgen::generate!({
        path: [
            "../../../airssys-wasm/wit/deps/messaging.wit",
            "../../../airssys-wasm/wit/deps/progress.wit",
            "../../../airssys-wasm/wit/deps/secrets.wit",
            "../../../airssys-wasm/wit/deps/config.wit",
            "../../../airssys-wasm/wit/deps/keyvalue.wit",
            "../../../airssys-wasm/wit/deps/logging.wit",
            "wit",
        ],
        world: "airssys:courier/courier",
        generate_all,
    });
    use super::Courier;
    export!(Courier);
}

use std::cell::RefCell;
use std::time::Duration;

use bindings::airssys::messaging::bus;
use bindings::airssys::messaging::types::{Message, Undelivered};
use bindings::airssys::progress::progress;
use bindings::airssys::secrets::reveal;
use bindings::exports::airssys::courier::desk;
use bindings::exports::airssys::messaging::receiver;
use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::{atomics, batch, store};
use bindings::wasi::logging::logging;

thread_local! {
    static RECEIVED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Courier;

fn why(undelivered: Undelivered) -> String {
    undelivered.name().to_owned()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ask(to: &str, payload: &str, timeout_ms: u32) -> Result<String, String> {
    let answer = bus::request(to, payload.as_bytes(), timeout_ms).map_err(why)?;
    answer.map(text).map_err(|error| format!("told: {error}"))
}

impl receiver::Guest for Courier {
    /// What a payload asks for: `echo:TEXT`, `fail`, `trap`, `spin`, `wait:MILLISECONDS`,
    /// `ask:NAME:PAYLOAD`; anything else is kept and answered with nothing.
    fn handle(message: Message) -> Result<Vec<u8>, String> {
        let payload = text(message.payload);
        let (verb, rest) = payload.split_once(':').unwrap_or((&payload, ""));
        match verb {
            "echo" => Ok(rest.as_bytes().to_vec()),
            "fail" => Err(String::from("as asked")),
            "trap" => std::process::abort(),
            "spin" => loop {
                std::hint::spin_loop();
            },
            "wait" => {
                #[allow(clippy::disallowed_methods, reason = "a guest waits in the host")]
                std::thread::sleep(Duration::from_millis(rest.parse().unwrap_or(0)));
                Ok(Vec::new())
            }
            "ask" => {
                let (to, payload) = rest.split_once(':').unwrap_or((rest, ""));
                ask(to, payload, 60_000).map(String::into_bytes)
            }
            _ => {
                let topic = message.topic.unwrap_or_default();
                let line = format!("{}|{topic}|{payload}", message.sender);
                RECEIVED.with_borrow_mut(|received| received.push(line));
                Ok(Vec::new())
            }
        }
    }
}

fn bucket(name: &str) -> Result<store::Bucket, String> {
    store::open(name).map_err(failed)
}

fn failed(error: store::Error) -> String {
    match error {
        store::Error::NoSuchStore => String::from("no such store"),
        store::Error::AccessDenied => String::from("access denied"),
        store::Error::Other(why) => why,
    }
}

impl desk::Guest for Courier {
    fn send(to: String, text: String) -> Result<u64, String> {
        bus::send(&to, text.as_bytes()).map_err(why)
    }

    fn request(to: String, text: String, timeout_ms: u32) -> Result<String, String> {
        ask(&to, &text, timeout_ms)
    }

    fn publish(topic: String, text: String) -> Result<(u32, u32, u32), String> {
        let delivery = bus::publish(&topic, text.as_bytes()).map_err(why)?;
        Ok((delivery.delivered, delivery.full, delivery.stopped))
    }

    fn flood(to: String, count: u32) -> (u32, Option<String>) {
        for sent in 0..count {
            if let Err(undelivered) = bus::send(&to, &[]) {
                return (sent, Some(why(undelivered)));
            }
        }
        (count, None)
    }

    fn send_bytes(to: String, bytes: u32) -> Result<u64, String> {
        let payload = vec![b'x'; usize::try_from(bytes).unwrap_or_default()];
        bus::send(&to, &payload).map_err(why)
    }

    fn received() -> Vec<String> {
        RECEIVED.with_borrow(Clone::clone)
    }

    fn secret(name: String) -> Result<String, String> {
        let shown = reveal::get(&name).map(text);
        shown.map_err(|why| why.name().to_owned())
    }

    fn secret_length(name: String) -> Result<u32, String> {
        let shown = reveal::get(&name).map(|secret| secret.len() as u32);
        shown.map_err(|why| why.name().to_owned())
    }

    fn setting(key: String) -> Option<String> {
        config::get(&key).ok().flatten()
    }

    fn settings() -> Vec<(String, String)> {
        config::get_all().unwrap_or_default()
    }

    fn hammer(count: u32) {
        for _ in 0..count {
            // What comes of it is nothing, each time.
            let _ = (config::get("colour"), bus::send("nobody", &[]));
        }
    }

    fn labour(steps: u32, pause_ms: u32) -> u32 {
        for step in 1..=steps {
            progress::report(
                u64::from(step),
                Some(u64::from(steps)),
                &format!("step {step}"),
            );
            logging::log(logging::Level::Debug, "labour", &format!("logged {step}"));
            println!("printed {step}");
            if pause_ms > 0 {
                std::thread::sleep(Duration::from_millis(u64::from(pause_ms)));
            }
        }
        steps
    }

    fn log(text: String) {
        logging::log(logging::Level::Warn, "courier", &text);
    }

    fn put(name: String, key: String, text: String) -> Result<(), String> {
        bucket(&name)?.set(&key, text.as_bytes()).map_err(failed)
    }

    fn get(name: String, key: String) -> Result<Option<String>, String> {
        let found = bucket(&name)?.get(&key).map_err(failed)?;
        Ok(found.map(text))
    }

    fn remove(name: String, key: String) -> Result<(), String> {
        bucket(&name)?.delete(&key).map_err(failed)
    }

    fn keys(name: String) -> Result<Vec<String>, String> {
        let bucket = bucket(&name)?;
        let (mut keys, mut cursor) = (Vec::new(), None);
        loop {
            let page = bucket.list_keys(cursor.as_deref()).map_err(failed)?;
            keys.extend(page.keys);
            match page.cursor {
                None => return Ok(keys),
                next => cursor = next,
            }
        }
    }

    fn hoard(name: String, count: u32) -> Result<u32, String> {
        let open: Result<Vec<_>, _> = (0..count).map(|_| bucket(&name)).collect();
        let held = open?.len() as u32;
        Ok(held)
    }

    fn add(name: String, key: String, delta: i64) -> Result<i64, String> {
        atomics::increment(&bucket(&name)?, &key, delta).map_err(failed)
    }

    fn exchange(
        name: String,
        key: String,
        between: Option<String>,
        to: String,
    ) -> Result<Option<String>, String> {
        let bucket = bucket(&name)?;
        let seen = atomics::Cas::new(&bucket, &key).map_err(failed)?;
        if let Some(between) = between {
            bucket.set(&key, between.as_bytes()).map_err(failed)?;
        }
        match atomics::swap(seen, to.as_bytes()) {
            Ok(()) => Ok(None),
            Err(atomics::CasError::StoreError(error)) => Err(failed(error)),
            Err(atomics::CasError::CasFailed(now)) => {
                let now = now.current().map_err(failed)?;
                Ok(Some(now.map(text).unwrap_or_default()))
            }
        }
    }

    fn put_many(name: String, entries: Vec<(String, String)>) -> Result<(), String> {
        let entries: Vec<(String, Vec<u8>)> = entries
            .into_iter()
            .map(|(key, text)| (key, text.into_bytes()))
            .collect();
        batch::set_many(&bucket(&name)?, &entries).map_err(failed)
    }

    fn get_many(name: String, keys: Vec<String>) -> Result<Vec<Option<String>>, String> {
        let found = batch::get_many(&bucket(&name)?, &keys).map_err(failed)?;
        let value = |entry: Option<(String, Vec<u8>)>| entry.map(|(_, value)| text(value));
        Ok(found.into_iter().map(value).collect())
    }
}
