//! The demo's tree as files: what `run` and `call` could use as well.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use airssys_guests::ALL;
use tempfile::TempDir;

use crate::cli::error::{CliError, ExpectedError, Failure};
use crate::cli::new::is_in_use;

/// Two that behave under the default intensity, where one restart too many would show, and three
/// that are expected to die all the time.
const AIRSSYS_TOML: &str = r#"# The tree of `airssys demo`: two components that behave, and three that do not.
# `airssys explain` says what each key means.

[[supervisor]]
name = "tools"            # the default intensity: 1 restart within 5 seconds

[[supervisor.child]]
component = "calculator/Component.toml"

[[supervisor.child]]
component = "notebook/Component.toml"

[[supervisor]]
name = "hostile"
intensity = 100000        # these die all the time
period_seconds = 60

[[supervisor.child]]
component = "leaky/Component.toml"

[[supervisor.child]]
component = "spinner/Component.toml"

[[supervisor.child]]
component = "crasher/Component.toml"
"#;

/// The folder with the files. A temporary one goes when this is dropped.
pub(super) struct Files {
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl Files {
    /// Writes them to `keep`, or to a folder that does not stay.
    pub(super) fn write(keep: Option<&Path>) -> Result<Self, CliError> {
        let files = match keep {
            Some(folder) => {
                if is_in_use(folder) {
                    let path = folder.to_path_buf();
                    return Err(ExpectedError::NotEmpty { path }.into());
                }
                Self {
                    folder: folder.to_path_buf(),
                    _temporary: None,
                }
            }
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("airssys-demo-")
                    .tempdir()
                    .map_err(|source| failed(&std::env::temp_dir(), source))?;
                Self {
                    folder: temporary.path().to_path_buf(),
                    _temporary: Some(temporary),
                }
            }
        };
        files.fill()?;
        Ok(files)
    }

    /// Where the tree is described.
    pub(super) fn airssys_toml(&self) -> PathBuf {
        self.folder.join("airssys.toml")
    }

    fn fill(&self) -> Result<(), Failure> {
        for guest in ALL {
            let folder = self.folder.join(guest.name);
            fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
            let wasm = format!("{}.wasm", guest.name);
            write(&folder.join(wasm), guest.wasm)?;
            write(
                &folder.join("Component.toml"),
                guest.component_toml.as_bytes(),
            )?;
        }
        write(&self.airssys_toml(), AIRSSYS_TOML.as_bytes())
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> Failure {
    Failure::Files {
        path: path.to_path_buf(),
        source,
    }
}
