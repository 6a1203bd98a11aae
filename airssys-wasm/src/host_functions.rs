//! Functions of the embedder's own, for guests to import: each inside a panic boundary.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use airssys_rt::{CaughtPanic, EntryPoint, PanicBoundary};
use wasmtime::component::{ComponentNamedList, Lift, Linker, LinkerInstance, Lower, Val};

use crate::config::ComponentName;
use crate::state::ComponentState;

/// Who calls a host function.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caller {
    /// The component, by its name in the tree.
    pub component: ComponentName,
    /// Which of its replicas, counted from 0; 0 where there is one instance.
    pub replica: u32,
    /// Which incarnation of that, counted from 1.
    pub generation: u64,
}

/// Why the host functions could not be offered.
#[derive(Debug, thiserror::Error)]
#[error("host function `{function}`: {reason}")]
pub struct HostFunctionError {
    /// The function, as `interface#name`.
    pub function: Arc<str>,
    /// What the linker said: most often that the name is taken, by another function or by WASI.
    pub reason: Box<dyn std::error::Error + Send + Sync>,
}

/// Functions that the components of a host may import, beside WASI's.
///
/// A function is found by its interface, as in `acme:kv/store@0.1.0` (empty: an import of the world
/// itself), and its name. What it shares with the embedder, its closure captures; who calls, it is
/// told in a [`Caller`]. The Store is not within its reach. Its parameters and its result are tuples
/// of the types that `wasmtime::component::bindgen!` or wasmtime's own derives give; a component that
/// imports the function as another type is not linked, with
/// [`LoadError::Link`](crate::LoadError::Link).
///
/// - A panic ends in [`ExitCause::HostPanic`](airssys_rt::ExitCause::HostPanic) with the function's
///   name and is kept in [`Runtime::panics`](crate::Runtime::panics); an error ends in
///   [`ExitCause::HostError`](airssys_rt::ExitCause::HostError). Both end the instance, which is
///   replaced. A failure that the guest is to live with belongs into its result type.
/// - A future is dropped when the call's deadline has passed or the caller has gone. Nothing stops a
///   closure that blocks its thread: what takes long belongs into
///   [`func_async`](HostFunctions::func_async), and there onto a thread of its own.
/// - What a guest hands over is at most as large as its memory limit.
///
/// ```
/// use airssys_wasm::HostFunctions;
///
/// let functions = HostFunctions::new()
///     .func("acme:tools/arithmetic", "double", |_, (n,): (u32,)| {
///         Ok((n.wrapping_mul(2),))
///     })
///     .func_async("acme:tools/who", "name", |caller, (): ()| async move {
///         Ok((caller.component.to_string(),))
///     });
/// assert_eq!(functions.names().count(), 2);
/// ```
#[derive(Clone, Default)]
pub struct HostFunctions(Vec<HostFunction>);

#[derive(Clone)]
struct HostFunction {
    interface: Arc<str>,
    name: Arc<str>,
    /// `interface#name`, or the name alone.
    full: Arc<str>,
    define: Arc<Define>,
}

type Define = dyn Fn(&mut LinkerInstance<'_, ComponentState>, &str, EntryPoint) -> wasmtime::Result<()>
    + Send
    + Sync;

impl fmt::Debug for HostFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl HostFunctions {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a function that answers at once.
    #[must_use]
    pub fn func<P, R, F>(self, interface: &str, name: &str, function: F) -> Self
    where
        P: ComponentNamedList + Lift + 'static,
        R: ComponentNamedList + Lower + 'static,
        F: Fn(&Caller, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    {
        let function = Arc::new(function);
        self.add(interface, name, move |instance, name, entry| {
            let function = Arc::clone(&function);
            instance.func_wrap(name, move |store, parameters: P| {
                let caller = store.data().caller();
                flat(entry.call(|| function(caller, parameters)))
            })
        })
    }

    /// Adds a function that the guest waits for while the host goes on.
    #[must_use]
    pub fn func_async<P, R, F, A>(self, interface: &str, name: &str, function: F) -> Self
    where
        P: ComponentNamedList + Lift + Send + 'static,
        R: ComponentNamedList + Lower + Send + 'static,
        F: Fn(Caller, P) -> A + Send + Sync + 'static,
        A: Future<Output = wasmtime::Result<R>> + Send + 'static,
    {
        let function = Arc::new(function);
        self.add(interface, name, move |instance, name, entry| {
            let function = Arc::clone(&function);
            instance.func_wrap_async(name, move |store, parameters: P| {
                let (function, caller) = (Arc::clone(&function), store.data().caller().clone());
                // Called inside: it may panic before it gives a future.
                let answer = entry.run(async move { function(caller, parameters).await });
                Box::new(async move { flat(answer.await) })
            })
        })
    }

    /// Adds a function whose type is the one its importer gives it, for hosts that hand calls on. It
    /// returns as many values as that type has results; others end the instance.
    #[must_use]
    pub fn func_dynamic<F, A>(self, interface: &str, name: &str, function: F) -> Self
    where
        F: Fn(Caller, Vec<Val>) -> A + Send + Sync + 'static,
        A: Future<Output = wasmtime::Result<Vec<Val>>> + Send + 'static,
    {
        let function = Arc::new(function);
        self.add(interface, name, move |instance, name, entry| {
            let function = Arc::clone(&function);
            instance.func_new_async(name, move |store, _, parameters, results| {
                let (function, caller) = (Arc::clone(&function), store.data().caller().clone());
                let parameters = parameters.to_vec();
                let answer = entry.run(async move { function(caller, parameters).await });
                Box::new(async move {
                    let values = flat(answer.await)?;
                    if values.len() != results.len() {
                        let (found, expected) = (values.len(), results.len());
                        return Err(ResultCount { expected, found }.into());
                    }
                    for (result, value) in results.iter_mut().zip(values) {
                        *result = value;
                    }
                    Ok(())
                })
            })
        })
    }

    /// Their names, as `interface#name`, in the order they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|function| &*function.full)
    }

    fn add(
        mut self,
        interface: &str,
        name: &str,
        define: impl Fn(
            &mut LinkerInstance<'_, ComponentState>,
            &str,
            EntryPoint,
        ) -> wasmtime::Result<()>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let full = match interface {
            "" => name.to_owned(),
            interface => format!("{interface}#{name}"),
        };
        self.0.push(HostFunction {
            interface: Arc::from(interface),
            name: Arc::from(name),
            full: Arc::from(full),
            define: Arc::new(define),
        });
        self
    }

    /// Offers them to whatever `linker` links from now on.
    pub(crate) fn link(
        &self,
        linker: &mut Linker<ComponentState>,
        panics: &PanicBoundary,
    ) -> Result<(), HostFunctionError> {
        for function in &self.0 {
            let entry = panics.entry(&function.full);
            let mut instance = match &*function.interface {
                "" => Ok(linker.root()),
                interface => linker.instance(interface),
            };
            let defined = match &mut instance {
                Ok(instance) => (function.define)(instance, &function.name, entry),
                Err(_) => instance.map(|_| ()),
            };
            defined.map_err(|error| HostFunctionError {
                function: Arc::clone(&function.full),
                reason: error.into(),
            })?;
        }
        Ok(())
    }
}

/// A host function answered with too few or too many values.
#[derive(Debug, thiserror::Error)]
#[error("the host function returned {found} values where its type has {expected}")]
struct ResultCount {
    expected: usize,
    found: usize,
}

/// The panic becomes an error like any other, so that wasmtime takes the guest down, and not the
/// unwinder; `ending.rs` finds it in there.
fn flat<R>(answer: Result<wasmtime::Result<R>, CaughtPanic>) -> wasmtime::Result<R> {
    answer.unwrap_or_else(|caught| Err(caught.into()))
}
