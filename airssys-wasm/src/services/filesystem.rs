//! `wasi:filesystem`: wasmtime's, behind the gate and within quotas.
//!
//! What keeps a path inside its directory is wasmtime's own resolution, by handles. Here every call
//! that takes a path is put on record before it is made, what is refused is told with the grant that
//! is missing, and whatever makes a directory larger is charged first.

use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::Arc;

use airssys_osl::grants::{Capability, Denial, DenialReason, ENTRY_BYTES, Missing, QuotaExceeded};
use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, Filesize, HostDescriptor, HostDirectoryEntryStream,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::gate::Gate;
use super::granted::Directory;
use super::quota_stream::QuotaStream;
use crate::state::ComponentState;

/// Most bytes of a path that is remembered for the names of what is opened below it.
const MAX_PATH_BYTES: usize = 256;

/// Where a guest's descriptor came from.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    /// Which of the directories it was granted.
    directory: usize,
    /// Its path as the guest knows it.
    path: Box<str>,
}

/// One instance's view of the file system.
pub(crate) struct Filesystem<'a> {
    pub(crate) inner: WasiFilesystemCtxView<'a>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) opened: &'a mut HashMap<u32, Opened>,
}

/// For the linker: where in a Store it is.
pub(super) struct HasFilesystem;

impl HasData for HasFilesystem {
    type Data<'a> = Filesystem<'a>;
}

pub(super) fn of(state: &mut ComponentState) -> Filesystem<'_> {
    state.filesystem()
}

/// What a call asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Read,
    Write,
}

impl Filesystem<'_> {
    fn opened(&self, descriptor: &Resource<Descriptor>) -> FsResult<Opened> {
        let opened = self.opened.get(&descriptor.rep()).cloned();
        opened.ok_or_else(|| ErrorCode::BadDescriptor.into())
    }

    /// Puts a call with a path on record, or refuses it.
    fn ask(
        &self,
        verb: &str,
        at: &Resource<Descriptor>,
        path: &str,
        asks: Asks,
    ) -> FsResult<Opened> {
        let at = self.opened(at)?;
        let granted = self.gate.granted();
        let Some(directory) = granted.directories.get(at.directory) else {
            return Err(ErrorCode::BadDescriptor.into());
        };
        let refused = |reason, missing| {
            self.gate.deny(Denial {
                capability: Capability::Filesystem,
                subject: format!("{verb} {}", below(&at.path, path)),
                reason,
                missing: Some(Box::new(missing)),
            });
            FsError::from(ErrorCode::NotPermitted)
        };
        if climbs(path) {
            let needed = toml_text(&outside(&directory.host, &at, &directory.guest, path));
            let missing = Missing {
                table: "[[capabilities.filesystem]]",
                key: "path",
                value: needed.clone(),
                // The host's own path is as good as any.
                beside: vec![("guest", needed)],
            };
            return Err(refused(DenialReason::NotGranted, missing));
        }
        if asks == Asks::Write && directory.quota.is_none() {
            return Err(refused(DenialReason::NotGranted, read_write(directory)));
        }
        let subject = format_args!("{verb} {}/{path}", at.path.trim_end_matches('/'));
        let rule = &directory.guest;
        let allowed = self.gate.allow(Capability::Filesystem, subject, rule);
        allowed.map_err(|denial| {
            self.gate.deny(denial);
            FsError::from(ErrorCode::NotPermitted)
        })?;
        Ok(at)
    }

    /// What came of a call that was allowed here: refusals of those below are told as well.
    fn told<T>(&self, verb: &str, at: &Opened, path: &str, came: FsResult<T>) -> FsResult<T> {
        if let Err(error) = &came
            && let Some(ErrorCode::NotPermitted | ErrorCode::Access | ErrorCode::ReadOnly) =
                error.downcast_ref()
        {
            self.gate.deny(Denial {
                capability: Capability::Filesystem,
                subject: format!("{verb} {}", below(&at.path, path)),
                reason: DenialReason::NotGranted,
                missing: None,
            });
        }
        came
    }

    async fn size(&mut self, descriptor: &Resource<Descriptor>) -> FsResult<u64> {
        let same = Resource::new_borrow(descriptor.rep());
        Ok(HostDescriptor::stat(&mut self.inner, same).await?.size)
    }

    /// Charges what makes the file longer than it is.
    async fn charge_growth(&mut self, file: &Resource<Descriptor>, end: u64) -> FsResult<()> {
        let opened = self.opened(file)?;
        let grows = end.saturating_sub(self.size(file).await?);
        charge(&self.gate, opened.directory, grows).await
    }

    fn metered(
        &mut self,
        file: u32,
        stream: Resource<DynOutputStream>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let opened = self.opened.get(&file).map(|opened| opened.directory);
        let directory = opened.and_then(|index| self.gate.granted().directories.get(index));
        let Some((quota, max)) = directory.and_then(|directory| directory.quota.clone()) else {
            return Ok(stream);
        };
        let index = opened.unwrap_or_default();
        let stream = self.inner.table.delete(stream)?;
        let gate = Arc::clone(&self.gate);
        let metered = QuotaStream::new(stream, quota, max, move |exceeded| {
            let directory = gate.granted().directories.get(index);
            gate.deny(quota_denial(directory, exceeded));
        });
        Ok(self
            .inner
            .table
            .push(Box::new(metered) as DynOutputStream)?)
    }
}

/// Takes `bytes` of a directory's quota; where they are not there, after counting anew.
async fn charge(gate: &Gate, directory: usize, bytes: u64) -> FsResult<()> {
    let directory = gate.granted().directories.get(directory);
    let Some((quota, max)) = directory.and_then(|directory| directory.quota.as_ref()) else {
        return Ok(());
    };
    if quota.charge(bytes, *max).is_ok() {
        return Ok(());
    }
    let count = Arc::clone(quota);
    // A count that fails leaves the one there was.
    let _ = tokio::task::spawn_blocking(move || count.recount()).await;
    quota.charge(bytes, *max).map_err(|exceeded| {
        gate.deny(quota_denial(directory, exceeded));
        FsError::from(ErrorCode::Quota)
    })
}

fn quota_denial(directory: Option<&Directory>, exceeded: QuotaExceeded) -> Denial {
    let enough = exceeded.used.saturating_add(exceeded.asked);
    Denial {
        capability: Capability::Filesystem,
        subject: format!("write {}", directory.map_or("", |own| &own.guest)),
        reason: DenialReason::Quota(exceeded),
        missing: directory.map(|directory| {
            Box::new(Missing {
                table: "[[capabilities.filesystem]]",
                key: "max_bytes",
                value: enough.to_string(),
                beside: [("access", String::from("\"read-write\""))]
                    .into_iter()
                    .chain(places(directory))
                    .collect(),
            })
        }),
    }
}

/// Which directory it is, as its table says it.
fn places(directory: &Directory) -> [(&'static str, String); 2] {
    [
        ("path", toml_text(&directory.host.display().to_string())),
        ("guest", toml_text(&directory.guest)),
    ]
}

fn read_write(directory: &Directory) -> Missing {
    Missing {
        table: "[[capabilities.filesystem]]",
        key: "access",
        value: String::from("\"read-write\""),
        beside: places(directory).into(),
    }
}

/// Whether a path, read part by part, leads above where it starts. Links are not looked at here.
fn climbs(path: &str) -> bool {
    let mut depth = 0i32;
    for part in Path::new(path).components() {
        match part {
            Component::RootDir | Component::Prefix(_) => return true,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

/// The directory of the host that a path which climbs out of its own would need.
fn outside(host: &Path, at: &Opened, guest: &str, path: &str) -> String {
    let within = at.path.strip_prefix(guest).unwrap_or_default();
    let mut found = host.join(within.trim_start_matches('/'));
    for part in Path::new(path).components() {
        match part {
            Component::RootDir => found = "/".into(),
            Component::ParentDir => _ = found.pop(),
            Component::Normal(name) => found.push(name),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    found.pop();
    found.display().to_string()
}

/// A text as TOML, whatever is in it.
fn toml_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A guest's path, one below the other, cut where it is long.
fn below(at: &str, path: &str) -> String {
    let mut joined = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", at.trim_end_matches('/')),
    };
    joined.truncate(joined.floor_char_boundary(MAX_PATH_BYTES));
    joined
}

impl preopens::Host for Filesystem<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let found = preopens::Host::get_directories(&mut self.inner)?;
        for (directory, (descriptor, path)) in found.iter().enumerate() {
            let path = Box::from(path.as_str());
            self.opened
                .insert(descriptor.rep(), Opened { directory, path });
        }
        Ok(found)
    }
}

impl types::Host for Filesystem<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        types::Host::convert_error_code(&mut self.inner, error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        types::Host::filesystem_error_code(&mut self.inner, error)
    }
}

impl HostDescriptor for Filesystem<'_> {
    async fn open_at(
        &mut self,
        at: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let makes = open_flags.contains(OpenFlags::CREATE);
        let writes = makes
            || open_flags.contains(OpenFlags::TRUNCATE)
            || flags.contains(DescriptorFlags::WRITE);
        let (verb, asks) = match writes {
            true => ("write", Asks::Write),
            false => ("read", Asks::Read),
        };
        let from = self.ask(verb, &at, &path, asks)?;
        if makes {
            let there = HostDescriptor::stat_at(
                &mut self.inner,
                Resource::new_borrow(at.rep()),
                path_flags,
                path.clone(),
            );
            if there.await.is_err() {
                charge(&self.gate, from.directory, ENTRY_BYTES).await?;
            }
        }
        let named = path.clone();
        let found = self.inner.open_at(at, path_flags, path, open_flags, flags);
        let found = found.await;
        let descriptor = self.told(verb, &from, &named, found)?;
        let opened = Opened {
            directory: from.directory,
            path: below(&from.path, &named).into(),
        };
        self.opened.insert(descriptor.rep(), opened);
        Ok(descriptor)
    }

    async fn create_directory_at(
        &mut self,
        at: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let from = self.ask("create", &at, &path, Asks::Write)?;
        charge(&self.gate, from.directory, ENTRY_BYTES).await?;
        let named = path.clone();
        let came = self.inner.create_directory_at(at, path).await;
        self.told("create", &from, &named, came)
    }

    async fn remove_directory_at(
        &mut self,
        at: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let from = self.ask("remove", &at, &path, Asks::Write)?;
        let named = path.clone();
        let came = self.inner.remove_directory_at(at, path).await;
        self.told("remove", &from, &named, came)
    }

    async fn unlink_file_at(&mut self, at: Resource<Descriptor>, path: String) -> FsResult<()> {
        let from = self.ask("remove", &at, &path, Asks::Write)?;
        let named = path.clone();
        let came = self.inner.unlink_file_at(at, path).await;
        self.told("remove", &from, &named, came)
    }

    async fn rename_at(
        &mut self,
        at: Resource<Descriptor>,
        old_path: String,
        new_at: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let from = self.ask("rename", &at, &old_path, Asks::Write)?;
        let to = self.ask("rename to", &new_at, &new_path, Asks::Write)?;
        // What moves between quotas would have to be counted first; programs copy instead.
        if from.directory != to.directory {
            return Err(ErrorCode::CrossDevice.into());
        }
        let named = old_path.clone();
        let came = self.inner.rename_at(at, old_path, new_at, new_path).await;
        self.told("rename", &from, &named, came)
    }

    async fn link_at(
        &mut self,
        at: Resource<Descriptor>,
        old_path_flags: PathFlags,
        old_path: String,
        new_at: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let from = self.ask("link", &at, &old_path, Asks::Write)?;
        let to = self.ask("link to", &new_at, &new_path, Asks::Write)?;
        if from.directory != to.directory {
            return Err(ErrorCode::CrossDevice.into());
        }
        // A file is counted under each of its names.
        let same = Resource::new_borrow(at.rep());
        let stat = HostDescriptor::stat_at(&mut self.inner, same, old_path_flags, old_path.clone());
        let size = stat.await?.size;
        charge(&self.gate, from.directory, size.saturating_add(ENTRY_BYTES)).await?;
        let named = old_path.clone();
        let came = self
            .inner
            .link_at(at, old_path_flags, old_path, new_at, new_path);
        let came = came.await;
        self.told("link", &from, &named, came)
    }

    async fn symlink_at(
        &mut self,
        at: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        let from = self.ask("create", &at, &path, Asks::Write)?;
        charge(&self.gate, from.directory, ENTRY_BYTES).await?;
        let named = path.clone();
        let came = self.inner.symlink_at(at, target, path).await;
        self.told("create", &from, &named, came)
    }

    async fn readlink_at(&mut self, at: Resource<Descriptor>, path: String) -> FsResult<String> {
        let from = self.ask("read", &at, &path, Asks::Read)?;
        let named = path.clone();
        let came = self.inner.readlink_at(at, path).await;
        self.told("read", &from, &named, came)
    }

    async fn stat_at(
        &mut self,
        at: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        let from = self.ask("stat", &at, &path, Asks::Read)?;
        let named = path.clone();
        let came = self.inner.stat_at(at, path_flags, path).await;
        self.told("stat", &from, &named, came)
    }

    async fn set_times_at(
        &mut self,
        at: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let from = self.ask("set times of", &at, &path, Asks::Write)?;
        let named = path.clone();
        let came = self
            .inner
            .set_times_at(at, path_flags, path, accessed, modified);
        let came = came.await;
        self.told("set times of", &from, &named, came)
    }

    async fn metadata_hash_at(
        &mut self,
        at: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let from = self.ask("stat", &at, &path, Asks::Read)?;
        let named = path.clone();
        let came = self.inner.metadata_hash_at(at, path_flags, path).await;
        self.told("stat", &from, &named, came)
    }

    async fn write(
        &mut self,
        file: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        let end = offset.saturating_add(bytes.len() as u64);
        self.charge_growth(&file, end).await?;
        self.inner.write(file, bytes, offset).await
    }

    async fn set_size(&mut self, file: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        self.charge_growth(&file, size).await?;
        self.inner.set_size(file, size).await
    }

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let rep = file.rep();
        let stream = self.inner.write_via_stream(file, offset)?;
        self.metered(rep, stream)
    }

    fn append_via_stream(
        &mut self,
        file: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let rep = file.rep();
        let stream = self.inner.append_via_stream(file)?;
        self.metered(rep, stream)
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.opened.remove(&descriptor.rep());
        HostDescriptor::drop(&mut self.inner, descriptor)
    }

    // What works on what is open already was asked about when it was opened.

    async fn advise(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        self.inner.advise(file, offset, len, advice).await
    }

    async fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.inner.sync_data(descriptor).await
    }

    async fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.inner.sync(descriptor).await
    }

    async fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        self.inner.get_flags(descriptor).await
    }

    async fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorType> {
        self.inner.get_type(descriptor).await
    }

    async fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.inner.set_times(descriptor, accessed, modified).await
    }

    async fn read(
        &mut self,
        file: Resource<Descriptor>,
        len: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.inner.read(file, len, offset).await
    }

    async fn read_directory(
        &mut self,
        directory: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        self.inner.read_directory(directory).await
    }

    async fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        HostDescriptor::stat(&mut self.inner, descriptor).await
    }

    fn read_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        self.inner.read_via_stream(file, offset)
    }

    async fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        self.inner.is_same_object(one, other).await
    }

    async fn metadata_hash(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<MetadataHashValue> {
        self.inner.metadata_hash(descriptor).await
    }
}

impl HostDirectoryEntryStream for Filesystem<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.inner.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.inner, stream)
    }
}
