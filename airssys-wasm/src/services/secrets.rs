//! `airssys:secrets`: secrets that a component was granted (ADR-WASM-021).

use std::sync::Arc;

use airssys_osl::grants::{Capability, Denial, DenialReason, Missing, NamePattern};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower};
use zeroize::Zeroizing;

use super::gate::Gate;
use super::wiped::Wiped;
use crate::state::ComponentState;

/// The interface, as it is imported.
const INTERFACE: &str = "airssys:secrets/reveal@0.1.0";

/// Why a secret is not shown: as in `wit/deps/secrets.wit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "what is not told yet is part of the interface")]
enum Unrevealed {
    #[component(name = "denied")]
    Denied,
    #[component(name = "unknown")]
    Unknown,
    #[component(name = "unavailable")]
    Unavailable,
}

pub(super) fn add_to_linker(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    linker.instance(INTERFACE)?.func_wrap("get", get)
}

fn get(
    store: StoreContextMut<'_, ComponentState>,
    (name,): (String,),
) -> wasmtime::Result<(Result<Wiped, Unrevealed>,)> {
    let gate = Arc::clone(store.data().gate());
    Ok((gate.reveal(&name).map(Wiped),))
}

impl Gate {
    fn reveal(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, Unrevealed> {
        let granted = self.granted();
        let refused = |reason| {
            self.deny(Denial {
                capability: Capability::Secrets,
                subject: format!("reveal {name}"),
                missing: NamePattern::is_name(name).then(|| {
                    Box::new(Missing {
                        table: match reason {
                            DenialReason::NotAllowed => "[policy.secrets]",
                            _ => "[capabilities.secrets]",
                        },
                        key: "reveal",
                        value: format!("[\"{name}\"]"),
                        beside: Vec::new(),
                    })
                }),
                reason,
            });
            Unrevealed::Denied
        };
        let Some(rule) = granted.secrets.iter().find(|rule| rule.has(name)) else {
            return Err(refused(DenialReason::NotGranted));
        };
        if let Some(policy) = &granted.secrets_policy
            && let Err(rule) = policy.check(name)
        {
            return Err(refused(match rule {
                Some(rule) => DenialReason::Forbidden(rule.to_string()),
                None => DenialReason::NotAllowed,
            }));
        }
        let subject = format_args!("reveal {name}");
        if let Err(denial) = self.allow(Capability::Secrets, subject, rule.as_str()) {
            self.deny(denial);
            return Err(Unrevealed::Denied);
        }
        let secrets = self.reach().secrets.as_ref().ok_or(Unrevealed::Unknown)?;
        let secret = secrets.get(name).map_err(|_| Unrevealed::Unknown)?;
        // Made as large as it has to be, so that no copy of it is left behind by growing.
        let mut copy = Zeroizing::new(Vec::with_capacity(secret.len_bytes()));
        secret
            .with_bytes(|bytes| copy.extend_from_slice(bytes))
            .map_err(|_| Unrevealed::Unavailable)?;
        Ok(copy)
    }
}
