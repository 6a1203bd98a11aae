//! `wasi:config`: what `[capabilities.config]` sets.

use super::bindings::wasi::config::store;
use crate::state::ComponentState;

impl store::Host for ComponentState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, store::Error>> {
        let settings = &self.gate().granted().settings;
        let found = settings.iter().rev().find(|(own, _)| *own == key);
        Ok(Ok(found.map(|(_, value)| value.clone())))
    }

    async fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, store::Error>> {
        Ok(Ok(self.gate().granted().settings.clone()))
    }
}
