//! The two functions by which a component hands its state over, where it exports them.

use std::sync::Arc;

use wasmtime::component::Type;

use super::{Handover, UpgradeError};
use crate::config::ComponentName;
use crate::exports::Exports;
use crate::instance::{Call, Invocation, Outcome};
use crate::message::{Message, Way};
use crate::payload::{EncodeError, ValueError, encode_run};
use crate::runtime::Loaded;

const SAVE: &str = "airssys:upgrade/state@0.1.0#save";
const RESTORE: &str = "airssys:upgrade/state@0.1.0#restore";

/// Longest reason of a guest's that is passed on, in bytes.
const REASON_BYTES: usize = 1024;

/// Where `save` and `restore` stand in a release's exports.
#[derive(Clone, Copy)]
pub(crate) struct Hooks {
    save: usize,
    restore: usize,
}

impl Hooks {
    /// `None` where the interface is not exported.
    pub(crate) fn of(
        exports: &Exports,
        component: &ComponentName,
    ) -> Result<Option<Self>, UpgradeError> {
        let wrong = |function| UpgradeError::StateType {
            component: component.clone(),
            function,
        };
        match (exports.find(SAVE), exports.find(RESTORE)) {
            (Err(_), Err(_)) => Ok(None),
            (Err(_), _) => Err(wrong(Handover::Save)),
            (_, Err(_)) => Err(wrong(Handover::Restore)),
            (Ok((save, saves)), Ok((restore, restores))) => {
                let nothing = |ty: Option<Type>| ty.is_none();
                if !saves.params.is_empty()
                    || !is_result(&saves.results, |ok| is_bytes(ok.as_ref()))
                {
                    return Err(wrong(Handover::Save));
                }
                let takes = matches!(&restores.params[..], [(_, ty)] if is_bytes(Some(ty)));
                if !takes || !is_result(&restores.results, nothing) {
                    return Err(wrong(Handover::Restore));
                }
                Ok(Some(Self { save, restore }))
            }
        }
    }

    /// The call of `save`.
    pub(crate) fn save(self, loaded: &Arc<Loaded>) -> Result<Invocation, ValueError> {
        let nothing = loaded.messages.writer(Way::In, 0)?.finish();
        Ok(call(loaded, self.save, nothing))
    }

    /// The call of `restore`.
    pub(crate) fn restore(
        self,
        loaded: &Arc<Loaded>,
        state: &[u8],
    ) -> Result<Invocation, ValueError> {
        match encode_run(&loaded.messages, state) {
            Ok(message) => Ok(call(loaded, self.restore, message)),
            Err(EncodeError::Value(error)) => Err(error),
            Err(EncodeError::Damaged(_)) => Err(ValueError::NoMemory),
        }
    }
}

fn call(loaded: &Arc<Loaded>, function: usize, arguments: Message) -> Invocation {
    Invocation::Call(Call::new(Arc::clone(loaded), function, arguments))
}

/// What the guest answered: the bytes behind `ok`, which `restore` has none of.
pub(crate) fn answered(
    outcome: Outcome,
    component: &ComponentName,
    function: Handover,
) -> Result<Vec<u8>, UpgradeError> {
    let component = || component.clone();
    let unfit = |source| UpgradeError::State {
        component: component(),
        function,
        source,
    };
    let returned = match outcome {
        Outcome::Results(returned) => returned,
        Outcome::Unfit(source) | Outcome::Refused(source) => return Err(unfit(source)),
        _ => return Err(unfit(ValueError::NoMemory)),
    };
    let read = returned.loaded.messages.read(&returned.message);
    let bytes = read.map_err(|_| unfit(ValueError::NoMemory))?;
    match bytes.split_first() {
        Some((0, ok)) => Ok(ok.get(4..).unwrap_or_default().to_vec()),
        Some((_, reason)) => {
            let reason = reason.get(4..).unwrap_or_default();
            let cut = reason.get(..REASON_BYTES).unwrap_or(reason);
            Err(UpgradeError::Refused {
                component: component(),
                function,
                reason: String::from_utf8_lossy(cut).into_owned(),
            })
        }
        None => Err(unfit(ValueError::NoMemory)),
    }
}

fn is_bytes(ty: Option<&Type>) -> bool {
    matches!(ty, Some(Type::List(list)) if list.ty() == Type::U8)
}

/// Whether the results are one `result<_, string>` whose ok part is as it should be.
fn is_result(results: &[Type], ok: impl FnOnce(Option<Type>) -> bool) -> bool {
    match results {
        [Type::Result(result)] => result.err() == Some(Type::String) && ok(result.ok()),
        _ => false,
    }
}
