//! C bindings of a WIT world.

use std::io;
use std::path::{Path, PathBuf};

use wit_bindgen_c::Opts;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

/// Why there are no bindings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindingsError {
    /// The WIT cannot be read, is wrong, or has no world, or several and none was chosen.
    #[error("no bindings for {}: {reason:#}", wit.display())]
    Wit {
        /// The file or folder.
        wit: PathBuf,
        /// What the parser said.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes `<world>.h`, `<world>.c` and `<world>_component_type.o` of a WIT file, or of a folder of
/// them, to `folder`, which is made where there is none. `world` may be left out where there is one.
/// Answers with the paths of the files, in the order of their names. A file that is there is
/// replaced.
///
/// # Errors
/// [`BindingsError`].
pub fn write_c_bindings(
    wit: &Path,
    world: Option<&str>,
    folder: &Path,
) -> Result<Vec<PathBuf>, BindingsError> {
    let files = generate(wit, world).map_err(|reason| BindingsError::Wit {
        wit: wit.to_path_buf(),
        reason,
    })?;
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| BindingsError::Write { path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let mut written = Vec::new();
    for (name, bytes) in files.iter() {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(failed(&path))?;
        written.push(path);
    }
    written.sort();
    Ok(written)
}

fn generate(
    wit: &Path,
    world: Option<&str>,
) -> Result<Files, Box<dyn std::error::Error + Send + Sync>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], world)?;
    let mut files = Files::default();
    let mut generator = Opts::default().build();
    generator.generate(&mut resolve, world, &mut files)?;
    Ok(files)
}
