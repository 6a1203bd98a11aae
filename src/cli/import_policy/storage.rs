//! `storage`: URIs as directories. Whatever cannot be said as whole directories is refused.

use std::path::{Path, PathBuf};

use airssys_osl::grants::DirectoryGrant;

use super::ledger::Ledger;
use super::manifest::{Directory, Manifest};
use super::policy::{Access, Lists, Rule, Storage};
use super::refusal::Why;

/// What a URI names.
#[derive(Debug)]
struct Place {
    absolute: bool,
    /// Of the path, up to the first part with a wildcard.
    parts: Vec<String>,
    extent: Extent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// The path and all below it.
    Whole,
    /// A file, or what is probably one.
    File,
    /// Some of what is below the path.
    Some,
}

impl Place {
    fn read(uri: &str, base: &Path) -> Result<Self, Why> {
        let path = uri.strip_prefix("fs://").ok_or(Why::NoDirectory)?;
        let absolute = path.starts_with('/');
        let (path, whole) = match path.strip_suffix("**") {
            Some(rest) if rest.is_empty() || rest.ends_with('/') => (rest, true),
            _ => (path, false),
        };
        if path.is_empty() && !whole {
            return Err(Why::NoDirectory);
        }
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut place = Self {
            absolute,
            parts: Vec::new(),
            extent: Extent::Whole,
        };
        for part in path.split('/').filter(|_| !path.is_empty()) {
            let bad = |c: char| c.is_control() || matches!(c, '"' | '\\');
            if matches!(part, "" | "." | "..") || part.contains(bad) {
                return Err(Why::Path);
            }
            if part.contains(['*', '?', '[', ']', '{', '}']) {
                place.extent = Extent::Some;
            }
            if place.extent == Extent::Whole {
                place.parts.push(part.to_owned());
            }
        }
        DirectoryGrant::check_guest_path(&place.guest()).map_err(|_| Why::Path)?;
        if !whole && place.extent == Extent::Whole && place.is_file(base) {
            place.extent = Extent::File;
        }
        Ok(place)
    }

    /// A URI does not tell whether it names a file; what is there does, or else the name.
    fn is_file(&self, base: &Path) -> bool {
        let path = base.join(self.host());
        match path.metadata() {
            Ok(found) => !found.is_dir(),
            Err(_) => path.extension().is_some(),
        }
    }

    fn guest(&self) -> String {
        format!("/{}", self.parts.join("/"))
    }

    /// The path as Component.toml names it.
    fn host(&self) -> String {
        match (self.absolute, self.parts.is_empty()) {
            (true, _) => self.guest(),
            (false, true) => String::from("."),
            (false, false) => self.parts.join("/"),
        }
    }

    /// Whether a directory is this one or below.
    fn holds(&self, other: &Self) -> bool {
        self.absolute == other.absolute && other.parts.starts_with(&self.parts)
    }

    fn is(&self, other: &Self) -> bool {
        self.absolute == other.absolute && other.parts == self.parts
    }

    /// Where it really is, links followed as far as there is anything.
    fn real(&self, base: &Path) -> PathBuf {
        let path = base.join(self.host());
        for above in path.ancestors() {
            if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
                return real.join(rest);
            }
        }
        path
    }
}

type Placed<'r> = (&'r Rule<Storage>, Place);

/// What became of a directory that rules allow.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It is granted, by the directory of this number.
    Granted(usize),
    /// Nothing of what was allowed is left.
    Denied,
    WriteOnly,
    /// The directory of this line is known by the same path.
    Taken(usize),
}

#[derive(Debug)]
struct Judged<'r> {
    place: &'r Place,
    left: Access,
    fate: Fate,
}

/// Writes what the rules allow, and sees that what they deny is not.
pub(super) fn translate(
    storage: &Lists<Storage>,
    base: &Path,
    manifest: &mut Manifest,
    ledger: &mut Ledger,
) {
    let mut allow = placed(&storage.allow, base, true, ledger);
    let deny = placed(&storage.deny, base, false, ledger);
    // A directory comes before those below it, however the file is ordered.
    allow.sort_by_key(|(_, place)| place.parts.len());
    let mut denied = vec![None; deny.len()];
    let mut judged: Vec<Judged<'_>> = Vec::new();
    let whole = |(_, place): &&Placed<'_>| place.extent == Extent::Whole;
    for (rule, place) in allow.iter().filter(whole) {
        if judged.iter().any(|known| known.place.is(place)) {
            continue;
        }
        let asked = allowed(&allow, place);
        let left = without(&deny, &mut denied, place, asked, rule.line, base);
        let fate = match left {
            Access {
                read: false,
                write: false,
            } => Fate::Denied,
            Access { read: false, .. } => Fate::WriteOnly,
            left => grant(rule.line, place, left, &judged, manifest),
        };
        judged.push(Judged { place, left, fate });
    }
    for (rule, place) in &allow {
        settle(rule, place, &judged, manifest, ledger);
    }
    for ((rule, _), line) in deny.iter().zip(denied) {
        match line {
            Some(line) => ledger.refuse(rule.line, &rule.text, Why::PartDenied { line }, false),
            None => ledger.holds(
                rule.line,
                &rule.text,
                String::from("nothing below grants it"),
            ),
        }
    }
}

fn placed<'r>(
    rules: &'r [Rule<Storage>],
    base: &Path,
    allows: bool,
    ledger: &mut Ledger,
) -> Vec<Placed<'r>> {
    let mut placed = Vec::new();
    for rule in rules {
        match Place::read(&rule.says.uri, base) {
            Ok(place) => placed.push((rule, place)),
            Err(why) => ledger.refuse(rule.line, &rule.text, why, allows),
        }
    }
    placed
}

/// All that is allowed in a directory, by its own rules and by those above it.
fn allowed(allow: &[Placed<'_>], place: &Place) -> Access {
    let mut access = Access::default();
    for (rule, above) in allow {
        if above.extent == Extent::Whole && above.holds(place) {
            access.read |= rule.says.access.read;
            access.write |= rule.says.access.write;
        }
    }
    access
}

/// What is left of it where rules deny all of the directory; those that deny a part are noted, with
/// the line that grants the whole.
fn without(
    deny: &[Placed<'_>],
    denied: &mut [Option<usize>],
    place: &Place,
    asked: Access,
    line: usize,
    base: &Path,
) -> Access {
    let real = place.real(base);
    let others: Vec<PathBuf> = deny.iter().map(|(_, other)| other.real(base)).collect();
    let covers = |other: &Place, at: &PathBuf| other.extent != Extent::Some && real.starts_with(at);
    let mut left = asked;
    for ((rule, other), at) in deny.iter().zip(&others) {
        if covers(other, at) {
            left.read &= !rule.says.access.read;
            left.write &= !rule.says.access.write;
        }
    }
    if !left.read {
        return left;
    }
    for (((rule, other), at), denied) in deny.iter().zip(&others).zip(denied) {
        let access = rule.says.access;
        let touches = access.read || (access.write && left.write);
        let near = at.starts_with(&real) || real.starts_with(at);
        if touches && near && !covers(other, at) {
            denied.get_or_insert(line);
        }
    }
    left
}

/// Grants a directory, unless one above it is granted as much already.
fn grant(
    line: usize,
    place: &Place,
    left: Access,
    judged: &[Judged<'_>],
    manifest: &mut Manifest,
) -> Fate {
    let above = judged.iter().rev().find_map(|known| match known.fate {
        Fate::Granted(number) if known.place.holds(place) => Some((known.left, number)),
        _ => None,
    });
    if let Some((_, number)) = above.filter(|(given, _)| *given == left) {
        return Fate::Granted(number);
    }
    let guest = place.guest();
    if let Some(taken) = manifest
        .directories
        .iter()
        .find(|known| known.guest == guest)
    {
        return Fate::Taken(taken.line);
    }
    manifest.directories.push(Directory {
        path: place.host(),
        guest,
        write: left.write,
        line,
        lines: Vec::new(),
    });
    Fate::Granted(manifest.directories.len() - 1)
}

/// Tells what became of a rule that allows something.
fn settle(
    rule: &Rule<Storage>,
    place: &Place,
    judged: &[Judged<'_>],
    manifest: &mut Manifest,
    ledger: &mut Ledger,
) {
    let access = rule.says.access;
    let own = match place.extent {
        Extent::Whole => judged.iter().find(|known| known.place.is(place)),
        // A part of a directory that is granted as much in whole.
        Extent::File | Extent::Some => judged.iter().rev().find(|known| {
            let enough = (known.left.read || !access.read) && (known.left.write || !access.write);
            matches!(known.fate, Fate::Granted(_)) && known.place.holds(place) && enough
        }),
    };
    let why = match (own.map(|own| own.fate), place.extent) {
        (Some(Fate::Granted(number)), _) => {
            if let Some(directory) = manifest.directories.get_mut(number) {
                directory.lines.push(rule.line);
                let by = format!("capabilities.filesystem.path \"{}\"", directory.path);
                ledger.keyed(rule.line, &rule.text, by);
            }
            return;
        }
        (Some(Fate::Denied), _) => {
            let by = String::from("the policy denies it, so it is not granted");
            return ledger.holds(rule.line, &rule.text, by);
        }
        (Some(Fate::Taken(line)), _) => Why::GuestTaken { line },
        (Some(Fate::WriteOnly), _) => Why::WriteOnly,
        (None, Extent::File) => Why::File,
        (None, _) => Why::Glob,
    };
    ledger.refuse(rule.line, &rule.text, why, true);
}
