//! `wasi:keyvalue` on the host's store: a space for each component, within its quota (ADR-WASM-020).

#![allow(
    unreachable_pub,
    reason = "wasmtime's bindings name the types of resources anew"
)]

use std::num::NonZeroUsize;
use std::sync::Arc;

use airssys_osl::grants::{Capability, Denial, DenialReason, Missing};
use airssys_osl::{KeyValueError, KeyValueSpace, PendingWrite, Swapped};
use wasmtime::component::Resource;
use wasmtime_wasi::WasiView;

use super::bindings::wasi::keyvalue::atomics::{self, CasError};
use super::bindings::wasi::keyvalue::batch;
use super::bindings::wasi::keyvalue::store::{self, Error, KeyResponse};
use super::gate::Gate;
use crate::state::ComponentState;

/// Keys of a page.
const PAGE_KEYS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// Quota a component is told it lacks where it has none, in bytes.
const SUGGESTED_BYTES: u64 = 1024 * 1024;

/// A guest's bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    space: KeyValueSpace,
    name: Arc<str>,
}

/// A guest's memory of what a value was.
#[derive(Debug)]
pub struct Cas {
    bucket: Bucket,
    key: String,
    value: Option<Vec<u8>>,
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Gate {
    /// Puts an access to the store on record, or refuses it.
    fn may_keep(&self, verb: &str, bucket: &str, key: &str) -> Result<&KeyValueSpace, Error> {
        let Some(space) = &self.granted().space else {
            self.deny(Denial {
                capability: Capability::KeyValue,
                subject: format!("{verb} {bucket}/{key}"),
                reason: DenialReason::NotGranted,
                missing: Some(Box::new(Missing {
                    table: "[capabilities.keyvalue]",
                    key: "max_bytes",
                    value: SUGGESTED_BYTES.to_string(),
                    beside: Vec::new(),
                })),
            });
            return Err(Error::AccessDenied);
        };
        let subject = format_args!("{verb} {bucket}/{key}");
        let allowed = self.allow(Capability::KeyValue, subject, "max_bytes");
        allowed.map_err(|denial| {
            self.deny(denial);
            Error::AccessDenied
        })?;
        Ok(space)
    }

    /// What went wrong in the store, as a guest is told it.
    fn kept(&self, error: &KeyValueError) -> Error {
        if let KeyValueError::QuotaExceeded { quota, used, asked } = *error {
            self.deny(Denial {
                capability: Capability::KeyValue,
                subject: String::from("write"),
                reason: DenialReason::Quota(airssys_osl::grants::QuotaExceeded {
                    used,
                    max: quota,
                    asked,
                }),
                missing: Some(Box::new(Missing {
                    table: "[capabilities.keyvalue]",
                    key: "max_bytes",
                    value: used.saturating_add(asked).to_string(),
                    beside: Vec::new(),
                })),
            });
        }
        match error {
            // What the disk or the database said is the host's.
            KeyValueError::Store(_) => Error::Other(String::from("the store does not answer")),
            told => Error::Other(told.to_string()),
        }
    }
}

/// Reads where it blocks nobody.
async fn read<T: Send + 'static>(
    gate: &Gate,
    read: impl FnOnce() -> Result<T, KeyValueError> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read.map_err(|error| gate.kept(&error)),
        Err(_) => Err(Error::Other(String::from("the store does not answer"))),
    }
}

async fn written<T>(gate: &Gate, write: PendingWrite<T>) -> Result<T, Error> {
    write.await.map_err(|error| gate.kept(&error))
}

impl ComponentState {
    fn bucket(
        &mut self,
        bucket: &Resource<Bucket>,
        verb: &str,
        key: &str,
    ) -> Answer<(Arc<Gate>, Bucket)> {
        let gate = Arc::clone(self.gate());
        let bucket = self.ctx().table.get(bucket)?.clone();
        let allowed = gate.may_keep(verb, &bucket.name, key).map(|_| ());
        Ok(allowed.map(|()| (gate, bucket)))
    }
}

/// Ends the function with the error a guest is told.
macro_rules! told {
    ($answer:expr) => {
        match $answer {
            Ok(value) => value,
            Err(error) => return Ok(Err(error.into())),
        }
    };
}

impl store::Host for ComponentState {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        let gate = Arc::clone(self.gate());
        let space = told!(gate.may_keep("open", &identifier, ""));
        if identifier.is_empty() || identifier.len() > KeyValueSpace::MAX_NAME_BYTES {
            return Ok(Err(Error::NoSuchStore));
        }
        let bucket = Bucket {
            space: space.clone(),
            name: Arc::from(identifier),
        };
        Ok(Ok(self.ctx().table.push(bucket)?))
    }
}

impl store::HostBucket for ComponentState {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let (gate, Bucket { space, name }) = told!(self.bucket(&bucket, "get", &key)?);
        Ok(read(&gate, move || space.get(&name, &key)).await)
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let (gate, Bucket { space, name }) = told!(self.bucket(&bucket, "set", &key)?);
        Ok(written(&gate, space.set(&name, &key, &value)).await)
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let (gate, Bucket { space, name }) = told!(self.bucket(&bucket, "delete", &key)?);
        Ok(written(&gate, space.delete(&name, &key)).await)
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let (gate, Bucket { space, name }) = told!(self.bucket(&bucket, "get", &key)?);
        Ok(read(&gate, move || space.exists(&name, &key)).await)
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<String>,
    ) -> Answer<KeyResponse> {
        let (gate, Bucket { space, name }) = told!(self.bucket(&bucket, "list", "")?);
        let page = move || space.list_keys(&name, "", cursor.as_deref(), PAGE_KEYS);
        let page = told!(read(&gate, page).await);
        Ok(Ok(KeyResponse {
            keys: page.keys,
            cursor: page.cursor,
        }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.ctx().table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for ComponentState {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> Answer<i64> {
        let (gate, Bucket { space, name }) = told!(self.bucket(&bucket, "set", &key)?);
        Ok(written(&gate, space.increment(&name, &key, delta)).await)
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        let gate = Arc::clone(self.gate());
        let Cas {
            bucket,
            key,
            value: expected,
        } = self.ctx().table.delete(cas)?;
        let allowed = gate.may_keep("set", &bucket.name, &key).map(|_| ());
        told!(allowed.map_err(CasError::StoreError));
        let swap = bucket
            .space
            .swap(&bucket.name, &key, expected.as_deref(), &value);
        match told!(written(&gate, swap).await.map_err(CasError::StoreError)) {
            Swapped::Done => Ok(Ok(())),
            Swapped::Differs(value) => {
                let again = Cas { bucket, key, value };
                let again = self.ctx().table.push(again)?;
                Ok(Err(CasError::CasFailed(again)))
            }
        }
    }
}

impl atomics::HostCas for ComponentState {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Resource<Cas>> {
        let (gate, bucket) = told!(self.bucket(&bucket, "get", &key)?);
        let (Bucket { space, name }, asked) = (bucket.clone(), key.clone());
        let value = told!(read(&gate, move || space.get(&name, &asked)).await);
        let cas = Cas { bucket, key, value };
        Ok(Ok(self.ctx().table.push(cas)?))
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Vec<u8>>> {
        Ok(Ok(self.ctx().table.get(&cas)?.value.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.ctx().table.delete(cas)?;
        Ok(())
    }
}

impl batch::Host for ComponentState {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let (gate, Bucket { space, name }) = told!(self.bucket(&bucket, "get", &few(&keys))?);
        let values = move || {
            let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
            let values = space.get_many(&name, &asked)?;
            let pairs = keys.into_iter().zip(values);
            Ok(pairs.map(|(key, value)| Some((key, value?))).collect())
        };
        Ok(read(&gate, values).await)
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Answer<()> {
        let keys: Vec<String> = entries.iter().map(|(key, _)| key.clone()).collect();
        let (gate, Bucket { space, name }) = told!(self.bucket(&bucket, "set", &few(&keys))?);
        let entries: Vec<(&str, &[u8])> = entries
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()))
            .collect();
        let write = space.set_many(&name, &entries);
        Ok(written(&gate, write).await)
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let (gate, Bucket { space, name }) = told!(self.bucket(&bucket, "delete", &few(&keys))?);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let write = space.delete_many(&name, &keys);
        Ok(written(&gate, write).await)
    }
}

/// Several keys, as a record names them.
fn few(keys: &[String]) -> String {
    match keys {
        [] => String::from("nothing"),
        [key] => key.clone(),
        [first, rest @ ..] => format!("{first} and {} others", rest.len()),
    }
}
