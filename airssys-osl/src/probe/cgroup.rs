//! The memory limits of the cgroups that this process is in, of both versions.

use std::path::{Path, PathBuf};

use super::{MemoryBound, MemoryRoom, ProbeError, optional};

/// Names of the files of a version.
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// The line of `memory.stat` with what files keep in memory and have not used lately.
    inactive_file: &'static str,
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    inactive_file: "total_inactive_file ",
};

const V2: Names = Names {
    limit: "memory.max",
    usage: "memory.current",
    inactive_file: "inactive_file ",
};

/// Where a hierarchy is mounted.
struct Mount {
    /// The cgroup that is seen at the mount point: not the root inside a container.
    shown: String,
    point: PathBuf,
    names: &'static Names,
}

/// A bound for each cgroup with a limit, from that of this process up to the mount point.
pub(super) fn bounds(root: &Path, resident: u64) -> Result<Vec<MemoryRoom>, ProbeError> {
    let Some(own) = optional(&root.join("proc/self/cgroup"))? else {
        return Ok(Vec::new());
    };
    let mountinfo = optional(&root.join("proc/self/mountinfo"))?.unwrap_or_default();
    let mut bounds = Vec::new();
    for mount in mountinfo.lines().filter_map(|line| mount(root, line)) {
        let Some(path) = own.lines().find_map(|line| membership(line, mount.names)) else {
            continue;
        };
        let own = mount.point.join(below(path, &mount.shown));
        for directory in own.ancestors() {
            bounds.extend(bound(directory, mount.names, resident)?);
            if directory == mount.point {
                break;
            }
        }
    }
    Ok(bounds)
}

/// A line of mountinfo that mounts a hierarchy with memory limits (proc_pid_mountinfo(5)).
fn mount(root: &Path, line: &str) -> Option<Mount> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (shown, point) = (mount.next()?, mount.next()?);
    let mut kind = kind.split(' ');
    let names = match (kind.next()?, kind.nth(1)?) {
        ("cgroup2", _) => &V2,
        ("cgroup", options) if options.split(',').any(|option| option == "memory") => &V1,
        _ => return None,
    };
    Some(Mount {
        shown: unescaped(shown),
        point: root.join(unescaped(point).trim_start_matches('/')),
        names,
    })
}

/// Path of this process in a hierarchy: `0::/path`, or `4:cpu,memory:/path` in version 1.
fn membership<'l>(line: &'l str, names: &Names) -> Option<&'l str> {
    let mut fields = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let is_it = if names.limit == V2.limit {
        hierarchy == "0"
    } else {
        controllers.split(',').any(|name| name == "memory")
    };
    is_it.then_some(path)
}

/// A cgroup's path below the one that is shown. One outside of it, as a process has that was moved
/// out of its namespace, is not to be seen: then the one that is shown has to do.
fn below<'p>(path: &'p str, shown: &str) -> &'p Path {
    let inner = Path::new(path).strip_prefix(shown).unwrap_or(Path::new(""));
    if inner.components().any(|part| part.as_os_str() == "..") {
        return Path::new("");
    }
    inner
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescaped(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |field, (from, to)| {
        field.replace(from, to)
    })
}

fn bound(directory: &Path, names: &Names, resident: u64) -> Result<Option<MemoryRoom>, ProbeError> {
    let limit_path = directory.join(names.limit);
    let limit = match optional(&limit_path)?.as_deref().map(str::trim) {
        // The root cgroup of version 2 has none. Version 1 writes a number that is never the least.
        None | Some("max") => return Ok(None),
        Some(limit) => number(limit, &limit_path, names.limit)?,
    };
    let usage_path = directory.join(names.usage);
    // One that was removed meanwhile bounds nothing.
    let Some(usage) = optional(&usage_path)? else {
        return Ok(None);
    };
    let usage = number(usage.trim(), &usage_path, names.usage)?;
    let stat_path = directory.join("memory.stat");
    let inactive_file = match optional(&stat_path)? {
        None => 0,
        Some(stat) => match stat
            .lines()
            .find_map(|line| line.strip_prefix(names.inactive_file))
        {
            None => 0,
            Some(bytes) => number(bytes, &stat_path, names.inactive_file)?,
        },
    };
    let used = usage.saturating_sub(inactive_file);
    Ok(Some(MemoryRoom {
        available: limit.saturating_sub(used),
        limit,
        used,
        resident,
        bound_by: MemoryBound::Cgroup {
            path: directory.to_path_buf(),
        },
    }))
}

fn number(text: &str, path: &Path, wanted: &'static str) -> Result<u64, ProbeError> {
    text.parse().map_err(|_| ProbeError::Form {
        path: path.to_path_buf(),
        wanted,
    })
}
