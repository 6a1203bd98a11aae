//! A component's next release in the place of the one that serves: no call is lost, and what fails
//! in its probation gives way to what was there before.

mod state;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use airssys_rt::ExitCause;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::component::{ComponentRef, DEFAULT_QUEUE_WAIT};
use crate::component_cell::ComponentCell;
use crate::config::{ComponentConfig, ComponentName};
use crate::payload::ValueError;
use crate::release::Release;

pub(crate) use state::{Hooks, answered};
pub(crate) use trial::{Order, Probation, Trial};

/// An upgrade that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upgraded {
    /// The version before.
    pub from: semver::Version,
    /// The version that serves now.
    pub to: semver::Version,
    /// Bytes of state that went over; `None` where there were none to carry. Of all replicas.
    pub state_bytes: Option<usize>,
    /// How long calls waited for it: from the end of the call before to the new instance being
    /// ready. Of the replica that took longest.
    pub pause: Duration,
}

/// Which of its two functions a component was in while its state was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// `save`, of the release before.
    Save,
    /// `restore`, of the new one.
    Restore,
}

impl std::fmt::Display for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Save => "save",
            Self::Restore => "restore",
        })
    }
}

/// Why a component was not upgraded. The release before serves on, unless it has ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The configuration describes another component.
    #[error("{component}: the configuration is of `{found}`")]
    OtherName {
        /// The component.
        component: ComponentName,
        /// The name in the configuration.
        found: ComponentName,
    },
    /// The number of replicas changes only with a restart of the component.
    #[error("{component}: has {expected} replicas, the configuration asks for {found}")]
    OtherReplicas {
        /// The component.
        component: ComponentName,
        /// How many there are.
        expected: u32,
        /// How many the configuration asks for.
        found: u32,
    },
    /// Another upgrade of the component is under way.
    #[error("{component}: another upgrade is under way")]
    UnderWay {
        /// The component.
        component: ComponentName,
    },
    /// The component has not been started, or its host has ended.
    #[error("{component}: not started")]
    NotStarted {
        /// The component.
        component: ComponentName,
    },
    /// The new release could not be read, compiled, linked or granted what it asks for.
    #[error("{component}: the new release cannot be loaded: {cause}")]
    Load {
        /// The component.
        component: ComponentName,
        /// Why not.
        cause: Arc<ExitCause>,
    },
    /// The new release could not be instantiated.
    #[error("{component}: the new release cannot be started: {cause}")]
    Start {
        /// The component.
        component: ComponentName,
        /// Why not.
        cause: Arc<ExitCause>,
    },
    /// The release before saves its state, and the new one has no `restore`.
    #[error(
        "{component}: the state would be lost: the new release does not export \
         airssys:upgrade/state@0.1.0"
    )]
    StateLost {
        /// The component.
        component: ComponentName,
    },
    /// `save` or `restore` are of other types than in `wit/deps/upgrade.wit`.
    #[error("{component}: `{function}` is not of the type it has in airssys:upgrade/state@0.1.0")]
    StateType {
        /// The component.
        component: ComponentName,
        /// Which of the two.
        function: Handover,
    },
    /// The guest returned an error.
    #[error("{component}: {function} refused: {reason}")]
    Refused {
        /// The component.
        component: ComponentName,
        /// Which of the two.
        function: Handover,
        /// What it said, at most 1,024 bytes of it.
        reason: String,
    },
    /// The state does not fit a message.
    #[error("{component}: state in {function}: {source}")]
    State {
        /// The component.
        component: ComponentName,
        /// Which of the two.
        function: Handover,
        /// What it does not fit.
        source: ValueError,
    },
    /// The guest ended. After `save` the release before goes on with a fresh instance.
    #[error("{component}: ended in {function}: {cause}")]
    Ended {
        /// The component.
        component: ComponentName,
        /// Which of the two.
        function: Handover,
        /// How.
        cause: Arc<ExitCause>,
    },
    /// The new release served, and ended in its probation. The one before is back, with what it
    /// held when it was replaced.
    #[error("{component}: rolled back, the new release ended in its probation: {cause}")]
    RolledBack {
        /// The component.
        component: ComponentName,
        /// How it ended.
        cause: Arc<ExitCause>,
    },
    /// The component was stopped meanwhile.
    #[error("{component}: stopped: {cause}")]
    Stopped {
        /// The component.
        component: ComponentName,
        /// Why.
        cause: Arc<ExitCause>,
    },
    /// No instance took the order in this time.
    #[error("{component}: not taken up within {waited:?}")]
    Expired {
        /// The component.
        component: ComponentName,
        /// How long was waited.
        waited: Duration,
    },
}

impl ComponentRef {
    /// The version that is called.
    #[must_use]
    pub fn version(&self) -> semver::Version {
        self.cell().release().config.version.clone()
    }

    /// Puts a new release in the place of the one that serves, and waits until it has outlived its
    /// probation (`upgrade.probation_seconds` of the new configuration).
    ///
    /// It is loaded and linked beside the old one first. The call in flight ends as it would; those
    /// that wait are served by the new release, each if its function has the same type there, else
    /// it gets [`FunctionError::Changed`](crate::FunctionError::Changed). What `save` of
    /// `airssys:upgrade/state@0.1.0` returns goes to `restore`. Instances that end in probation by
    /// their own fault bring the old release back, in the state it was in when it was replaced;
    /// that costs no restart. With replicas the first one goes first, and the others after its
    /// probation. A cancelled upgrade that has begun goes on by itself; of several
    /// replicas, those whose turn has not come stay as they were.
    ///
    /// # Errors
    /// [`UpgradeError`].
    pub async fn upgrade(&self, config: ComponentConfig) -> Result<Upgraded, UpgradeError> {
        let component = || self.name().clone();
        let before = self.cell().release();
        if config.name != before.config.name {
            let (component, found) = (component(), config.name);
            return Err(UpgradeError::OtherName { component, found });
        }
        let replicas = before.config.instance.replicas;
        if config.instance.replicas != replicas {
            return Err(UpgradeError::OtherReplicas {
                component: component(),
                expected: replicas.get(),
                found: config.instance.replicas.get(),
            });
        }
        let _turn = self
            .cell()
            .trial()
            .begin()
            .ok_or_else(|| UpgradeError::UnderWay {
                component: component(),
            })?;
        let not_started = || UpgradeError::NotStarted {
            component: component(),
        };
        let reach = Arc::clone(&self.loaded().map_err(|_| not_started())?.reach);
        let runtime = reach.runtime.upgrade().ok_or_else(not_started)?;
        let next = Release::new(config);
        runtime
            .load(self.cell(), Arc::clone(&next), &reach.tasks)
            .await
            .map_err(|cause| UpgradeError::Load {
                component: component(),
                cause: Arc::new(cause),
            })?;
        drop(runtime);
        let probation = next.config.upgrade.probation;
        let first = place(self.cell(), &next, probation).await?;
        let rest = self.others();
        let placed = rest.iter().map(|cell| place(cell, &next, probation));
        let mut all = Some(first);
        let mut failed = None;
        for placed in join_all(placed).await {
            match placed {
                Ok(placed) => all = all.map(|all| all.and(&placed)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match (all, failed) {
            (Some(all), None) => Ok(all),
            (_, failed) => {
                // All replicas are of one release.
                let own = std::iter::once(self.cell()).chain(rest.iter());
                let back = own.filter(|cell| !Arc::ptr_eq(&cell.release(), &before));
                join_all(back.map(|cell| place(cell, &before, Duration::ZERO))).await;
                Err(failed.unwrap_or_else(not_started))
            }
        }
    }
}

impl Upgraded {
    fn and(mut self, other: &Self) -> Self {
        self.pause = self.pause.max(other.pause);
        self.state_bytes = match (self.state_bytes, other.state_bytes) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        self
    }
}

/// Has one instance after the other replaced: the actor does it between two calls.
async fn place(
    cell: &Arc<ComponentCell>,
    release: &Arc<Release>,
    probation: Duration,
) -> Result<Upgraded, UpgradeError> {
    let (reply, answer) = oneshot::channel();
    cell.trial().order(Order {
        release: Arc::clone(release),
        probation,
        reply,
    });
    cell.wake();
    let (old, new) = (cell.release().limits, &release.limits);
    // The call in flight, `save`, the start, `restore`.
    let calls = old.timeout() * 2 + new.start_timeout() + new.timeout();
    let waited = DEFAULT_QUEUE_WAIT + calls + probation;
    match timeout(waited, answer).await {
        Ok(Ok(answer)) => answer,
        // Nobody keeps an order without answering it but a host that ends.
        Ok(Err(_)) => Err(UpgradeError::NotStarted {
            component: cell.name.clone(),
        }),
        Err(_) => {
            cell.trial().withdraw();
            Err(UpgradeError::Expired {
                component: cell.name.clone(),
                waited,
            })
        }
    }
}

#[cfg(test)]
mod tests;
