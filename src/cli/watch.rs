//! `airssys run --watch`: components whose files change are upgraded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use airssys::{ComponentConfig, ComponentName, ComponentNode, ComponentRef, Host, SystemConfig};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::error::{CliError, Failure};
use super::output::{Output, printable};

/// How long files are let be once one has changed: editors and compilers write several times.
const SETTLES: Duration = Duration::from_millis(200);

/// What tells one content of a file from another, without reading it: length, time and number.
type Stamp = Option<(u64, i64, i64, u64)>;

/// A component as it was when its files were last looked at.
#[derive(PartialEq)]
struct Seen {
    config: ComponentConfig,
    files: Vec<(PathBuf, Stamp)>,
}

/// Looks after the files of a tree.
pub(super) struct Watch {
    file: PathBuf,
    tree: Stamp,
    components: BTreeMap<ComponentName, Seen>,
    changed: Arc<Notify>,
    output: Output,
    /// Ends with this.
    _watcher: RecommendedWatcher,
}

/// The folders whose entries are the files of a tree. Files that are replaced are other files, and
/// their folders are the same.
pub(super) fn folders(file: &Path, config: &SystemConfig) -> BTreeSet<PathBuf> {
    let files = config.components().into_iter().flat_map(files_of);
    let folder = |file: PathBuf| match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    files.chain([file.to_path_buf()]).map(folder).collect()
}

fn files_of(node: &ComponentNode) -> Vec<PathBuf> {
    let config = &node.config;
    let all = [
        node.file.as_ref(),
        Some(&config.wasm),
        config.signature.as_ref(),
    ];
    all.into_iter().flatten().cloned().collect()
}

impl Watch {
    pub(super) fn new(
        file: &Path,
        config: &SystemConfig,
        output: Output,
    ) -> Result<Self, CliError> {
        let changed = Arc::new(Notify::new());
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Failure::Watch { path, source }
        };
        let tell = Arc::clone(&changed);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Reading is no change. An error may have lost one.
                if event.is_ok_and(|event| event.kind.is_access()) {
                    return;
                }
                tell.notify_one();
            })
            .map_err(failed(file))?;
        for folder in folders(file, config) {
            watcher
                .watch(&folder, RecursiveMode::NonRecursive)
                .map_err(failed(&folder))?;
        }
        Ok(Self {
            file: file.to_path_buf(),
            tree: stamp(file),
            components: seen(config),
            changed,
            output,
            _watcher: watcher,
        })
    }

    /// Upgrades whatever changes, for as long as it is polled.
    pub(super) async fn follow(&mut self, host: &Host) -> Result<(), CliError> {
        let output = self.output;
        let mut upgrades = JoinSet::new();
        let mut orders: HashMap<ComponentName, watch::Sender<ComponentConfig>> = HashMap::new();
        loop {
            tokio::select! {
                () = self.changed.notified() => {}
                // It ends only where nobody reads what it tells.
                Some(ended) = upgrades.join_next() => {
                    ended.unwrap_or(Ok(()))?;
                    continue;
                }
            }
            tokio::time::sleep(SETTLES).await;
            for (name, config) in self.changes()? {
                let Ok(component) = host.component(name.as_str()) else {
                    continue;
                };
                match orders.get(&name) {
                    Some(order) => _ = order.send_replace(config),
                    None => {
                        let (order, orders_of_it) = watch::channel(config);
                        orders.insert(name, order);
                        upgrades.spawn(keep_up(component, orders_of_it, output));
                    }
                }
            }
        }
    }

    /// The components whose files are others than they were.
    fn changes(&mut self) -> Result<Vec<(ComponentName, ComponentConfig)>, CliError> {
        let tree = stamp(&self.file);
        let (tree_changed, mut any) = (tree != self.tree, tree != self.tree);
        self.tree = tree;
        for seen in self.components.values() {
            any |= seen.files.iter().any(|(path, was)| stamp(path) != *was);
        }
        if !any {
            return Ok(Vec::new());
        }
        let config = match SystemConfig::load(&self.file) {
            Ok(config) => config,
            Err(errors) => {
                // Told once; the files as they are now are nothing new.
                for (path, was) in self.components.values_mut().flat_map(|s| &mut s.files) {
                    *was = stamp(path);
                }
                let errors = errors.to_string();
                return tell(self.output, "not-read", None, &errors).map(|()| Vec::new());
            }
        };
        let now = seen(&config);
        let is_one = |seen: &Seen| seen.files.iter().any(|(path, _)| *path == self.file);
        if tree_changed && !now.values().any(is_one) {
            let text = "changes of this file take effect with a restart";
            tell(self.output, "restart-needed", None, text)?;
        }
        let changed = now.iter().filter(|(name, seen)| {
            let before = self.components.get(*name);
            before.is_some_and(|before| before != *seen)
        });
        let changed = changed.map(|(name, seen)| (name.clone(), seen.config.clone()));
        let changed = changed.collect();
        self.components = now;
        Ok(changed)
    }
}

fn seen(config: &SystemConfig) -> BTreeMap<ComponentName, Seen> {
    let nodes = config.components().into_iter();
    let seen = nodes.map(|node| {
        let files = files_of(node).into_iter().map(|path| {
            let stamp = stamp(&path);
            (path, stamp)
        });
        let seen = Seen {
            config: node.config.clone(),
            files: files.collect(),
        };
        (node.name.clone(), seen)
    });
    seen.collect()
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.len(), found.mtime(), found.mtime_nsec(), found.ino()))
}

/// Upgrades one component to whatever is the latest by the time it can.
async fn keep_up(
    component: ComponentRef,
    mut orders: watch::Receiver<ComponentConfig>,
    output: Output,
) -> Result<(), CliError> {
    loop {
        let config = orders.borrow_and_update().clone();
        let name = component.name().clone();
        match component.upgrade(config).await {
            Ok(upgraded) => {
                let state = match upgraded.state_bytes {
                    Some(bytes) => format!("{bytes} bytes of state went over"),
                    None => String::from("it began anew"),
                };
                let text = format!(
                    "{} serves for good after {}; calls waited {:.1?}, {state}",
                    upgraded.to, upgraded.from, upgraded.pause
                );
                tell(output, "upgrade-passed", Some(&name), &text)?;
            }
            Err(error) => tell(output, "upgrade-failed", Some(&name), &error.to_string())?,
        }
        // The watch has gone, and the program with it.
        if orders.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn tell(
    output: Output,
    event: &str,
    component: Option<&ComponentName>,
    text: &str,
) -> Result<(), CliError> {
    if output.is_json() {
        let component = component.map(ToString::to_string);
        return output.json(&json!({ "event": event, "component": component, "message": text }));
    }
    let name = component.map_or_else(String::new, |name| format!("{name}: "));
    output.note(&printable(&format!("{name}{text}")));
    Ok(())
}
