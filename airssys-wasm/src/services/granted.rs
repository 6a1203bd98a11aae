//! What a component was granted, opened and ready to be handed to its instances.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use airssys_osl::grants::{
    DirectoryAccess, DirectoryError, Excess, NamePattern, NameRules, NetworkGrants, NetworkRules,
    OpenDirectory, Policy, Quota, QuotaError,
};
use airssys_osl::{KeyValueError, KeyValueSpace, KeyValueStore, ReadError, read_regular_file};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::lookup::Resolver;
use super::messaging::Postage;
use crate::config::{CapabilitiesConfig, ComponentName, OutputTo};

/// Most bytes of a component's standard input.
const MAX_INPUT_BYTES: u64 = 1024 * 1024;

/// Why a component cannot have what it was granted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// Grants go beyond the host's policy.
    #[error("{}", list(.0))]
    Excess(Vec<Excess>),
    /// A directory is not to be had.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What is in a directory cannot be counted.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The directory cannot be handed to guests.
    #[error("cannot open {guest} for guests: {reason}")]
    Preopen {
        /// What the component knows it as.
        guest: String,
        /// What wasmtime said.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is granted to keep things, and the host has no place for them.
    #[error("`capabilities.keyvalue` needs a `keyvalue.directory` in airssys.toml")]
    NoStore,
    /// The store has no place for it.
    #[error(transparent)]
    Store(#[from] KeyValueError),
    /// Standard input is not to be had.
    #[error(transparent)]
    Input(#[from] ReadError),
}

fn list(excesses: &[Excess]) -> String {
    let all: Vec<String> = excesses.iter().map(ToString::to_string).collect();
    all.join("; ")
}

/// What a host has to grant, and within what bounds.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    pub(crate) policy: Policy,
    pub(crate) quotas: Quotas,
    pub(crate) resolver: Resolver,
    /// Until the host has stopped.
    pub(crate) key_value: Mutex<Option<Arc<KeyValueStore>>>,
}

impl Offers {
    /// Closes the store, once what waits has been written. Blocks.
    pub(crate) fn close(&self) {
        let held = self.key_value.lock();
        let store = held.unwrap_or_else(PoisonError::into_inner).take();
        drop(store);
    }
}

/// A directory of a component.
#[derive(Debug)]
pub(crate) struct Directory {
    /// What the component knows it as.
    pub(crate) guest: String,
    /// Where it was when it was opened.
    pub(crate) host: std::path::PathBuf,
    /// What is in it and what may be, where it is written to.
    pub(crate) quota: Option<(Arc<Quota>, u64)>,
}

/// What a component was granted.
pub(crate) struct Granted {
    pub(crate) network: NetworkGrants,
    pub(crate) network_policy: Option<NetworkRules>,
    pub(crate) directories: Vec<Directory>,
    pub(crate) resolver: Resolver,
    /// The open directories, where there are any; each instance has a copy of their handles.
    pub(crate) filesystem: Option<WasiFilesystemCtx>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) arguments: Vec<String>,
    pub(crate) input: Option<Vec<u8>>,
    pub(crate) output: OutputTo,
    pub(crate) seed: Option<u64>,
    pub(crate) postage: Postage,
    pub(crate) secrets: Vec<NamePattern>,
    pub(crate) secrets_policy: Option<NameRules>,
    /// What it keeps in the host's store.
    pub(crate) space: Option<KeyValueSpace>,
    pub(crate) settings: Vec<(String, String)>,
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted")
            .field("network", &self.network)
            .field("directories", &self.directories)
            .finish_non_exhaustive()
    }
}

/// The quotas of directories in use, by what directory it is: components that are granted the same
/// one see each other's bytes.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<HashMap<(u64, u64), Weak<Quota>>>);

impl Quotas {
    fn of(&self, directory: OpenDirectory) -> Result<Arc<Quota>, GrantError> {
        let found = directory.handle().metadata().map_err(QuotaError::Read)?;
        let id = (found.dev(), found.ino());
        let mut quotas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        quotas.retain(|_, quota| quota.strong_count() > 0);
        if let Some(quota) = quotas.get(&id).and_then(Weak::upgrade) {
            return Ok(quota);
        }
        let quota = Arc::new(Quota::of(directory)?);
        quotas.insert(id, Arc::downgrade(&quota));
        Ok(quota)
    }
}

impl Granted {
    /// Opens what `config` grants, within `policy`. Blocks.
    pub(crate) fn open(
        config: &CapabilitiesConfig,
        name: &ComponentName,
        host: &Offers,
    ) -> Result<Self, GrantError> {
        let Offers { policy, quotas, .. } = host;
        let mut excesses =
            policy.excesses(&config.network, &config.environment, config.key_value_bytes);
        excesses.extend(policy.subscriptions(&config.messaging.subscribe));
        if !excesses.is_empty() {
            return Err(GrantError::Excess(excesses));
        }
        let (directories, filesystem) = match config.directories.is_empty() {
            true => (Vec::new(), None),
            false => open_directories(config, policy, quotas)?,
        };
        let store = host.key_value.lock();
        let store = store.unwrap_or_else(PoisonError::into_inner).clone();
        let space = match (config.key_value_bytes, &store) {
            (None, _) => None,
            (Some(_), None) => return Err(GrantError::NoStore),
            (Some(quota), Some(store)) => Some(store.space(name.as_str(), quota)?),
        };
        let input = config.stdio.input.as_ref();
        Ok(Self {
            network: config.network.clone(),
            network_policy: policy.network_rules(),
            directories,
            resolver: host.resolver.clone(),
            filesystem,
            environment: environment(config),
            arguments: config.environment.arguments.clone(),
            input: input.map(|path| read_input(path, policy)).transpose()?,
            output: config.stdio.output,
            seed: config.seed,
            postage: Postage::new(&config.messaging, policy.topics(), policy.calls()),
            settings: config.settings.clone(),
            secrets: config.secrets.clone(),
            secrets_policy: policy.reveals(),
            space,
        })
    }
}

type Directories = (Vec<Directory>, Option<WasiFilesystemCtx>);

fn open_directories(
    config: &CapabilitiesConfig,
    policy: &Policy,
    quotas: &Quotas,
) -> Result<Directories, GrantError> {
    let mut wasi = WasiCtxBuilder::new();
    let mut directories = Vec::with_capacity(config.directories.len());
    for grant in &config.directories {
        let open = grant.open(policy)?;
        let (perms, max_bytes) = match grant.access {
            DirectoryAccess::Read => (FsPerms::ReadOnly, None),
            DirectoryAccess::ReadWrite { max_bytes } => (FsPerms::ReadWrite, Some(max_bytes)),
        };
        // By the handle: whatever is at the path now, this is what was checked.
        wasi.preopened_dir(open.path(), &grant.guest, perms)
            .map_err(|reason| GrantError::Preopen {
                guest: grant.guest.clone(),
                reason: reason.into(),
            })?;
        directories.push(Directory {
            guest: grant.guest.clone(),
            host: open.real_path().to_path_buf(),
            quota: match max_bytes {
                Some(max_bytes) => Some((quotas.of(open)?, max_bytes)),
                None => None,
            },
        });
    }
    Ok((directories, Some(wasi.build().filesystem().clone())))
}

/// A component's standard input, where the policy lets its file be read.
fn read_input(path: &Path, policy: &Policy) -> Result<Vec<u8>, GrantError> {
    // One that is not there is told by the path it was named by.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let allowed = policy.readable("capabilities.stdio.input", &real);
    allowed.map_err(|excess| GrantError::Excess(vec![excess]))?;
    Ok(read_regular_file(&real, MAX_INPUT_BYTES)?)
}

fn environment(config: &CapabilitiesConfig) -> Vec<(String, String)> {
    let value = |variable: &airssys_osl::grants::Variable| {
        let name = variable.name.as_str();
        let value = match &variable.value {
            Some(value) => Some(value.clone()),
            None => std::env::var(name).ok(),
        };
        Some((name.to_owned(), value?))
    };
    let variables = config.environment.variables.iter();
    variables.filter_map(value).collect()
}
