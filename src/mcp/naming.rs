//! What tools are called (ADR-SYS-002).
//!
//! A tool's name is its component's name, `_`, and the shortest form of the function's name that no
//! other function of that component has. What else is loaded changes no name: a component's name has
//! no `_` in it and is unique in the tree.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

/// Most bytes of a tool's name, as the protocol has it.
pub(super) const MAX_NAME_BYTES: usize = 128;

/// Digits of the hash that ends a name which was too long.
const HASH_DIGITS: usize = 8;

/// The names of a component's functions as tools, in the order given. `functions` are the names they
/// are exported under, `pkg:name/iface@ver#func` or `func`, in the order of the exports.
pub(super) fn names(component: &str, functions: &[&str]) -> Vec<String> {
    let forms: Vec<Vec<String>> = functions.iter().map(|function| forms(function)).collect();
    let mut holders: HashMap<&str, usize> = HashMap::new();
    for form in forms.iter().flatten() {
        *holders.entry(form).or_default() += 1;
    }
    let mut taken = HashSet::new();
    let named = functions.iter().zip(&forms).map(|(function, forms)| {
        let own = |form: &&String| holders.get(form.as_str()) == Some(&1);
        // The longest where none is its own: two versions of an interface, for example.
        let form = forms.iter().find(own).or(forms.last());
        let whole = format!("{component}_{}", form.map_or("", String::as_str));
        let mut name = cut(whole.clone(), &format!("{component} {function}"));
        for number in 2.. {
            if taken.insert(name.clone()) {
                break;
            }
            let numbered = format!("{whole}_{number}");
            name = cut(numbered, &format!("{component} {function} {number}"));
        }
        name
    });
    named.collect()
}

/// A function's name normalised, from the bare name to the whole, each once.
fn forms(function: &str) -> Vec<String> {
    let Some((interface, bare)) = function.split_once('#') else {
        return vec![normal(function)];
    };
    let unversioned = interface.split('@').next().unwrap_or_default();
    let short = unversioned.rsplit('/').next().unwrap_or_default();
    let mut forms = vec![
        normal(bare),
        normal(&format!("{short}#{bare}")),
        normal(&format!("{unversioned}#{bare}")),
    ];
    forms.dedup();
    forms
}

/// Lower case, and `_` for all that is neither a letter, a digit nor `-`.
fn normal(name: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let each = name.chars().map(|c| match kept(c) {
        true => c.to_ascii_lowercase(),
        false => '_',
    });
    each.collect()
}

/// A name that fits: its beginning, and a hash of what it is the name of.
fn cut(mut name: String, of: &str) -> String {
    if name.len() > MAX_NAME_BYTES {
        let digest = Sha256::digest(of.as_bytes());
        // All of it is ASCII by now.
        name.truncate(MAX_NAME_BYTES - HASH_DIGITS - 1);
        name.push('_');
        for byte in digest.iter().take(HASH_DIGITS / 2) {
            name.push_str(&format!("{byte:02x}"));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a panic fails the test")]

    use super::*;

    #[test]
    fn the_shortest_name_that_is_the_functions_own_is_taken() {
        let functions = [
            "docs:adder/add@0.1.0#add",
            "airssys:desk/files@1.0.0#read",
            "airssys:desk/mail@1.0.0#read",
            "run",
        ];
        let expected = ["desk_add", "desk_files_read", "desk_mail_read", "desk_run"];
        assert_eq!(names("desk", &functions), expected);
    }

    #[test]
    fn the_same_interface_of_two_packages_is_told_apart_by_the_package() {
        let functions = ["a:x/files@1.0.0#read", "a:y/files@1.0.0#read"];
        assert_eq!(
            names("c", &functions),
            ["c_a_x_files_read", "c_a_y_files_read"]
        );
    }

    #[test]
    fn two_versions_of_an_interface_are_numbered_in_the_order_of_the_exports() {
        let functions = ["a:x/files@1.0.0#read", "a:x/files@2.0.0#read", "write"];
        let expected = ["c_a_x_files_read", "c_a_x_files_read_2", "c_write"];
        assert_eq!(names("c", &functions), expected);
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_and_stays_unique() {
        let long = "f".repeat(200);
        let (one, other) = (format!("{long}-a"), format!("{long}-b"));
        let named = names("c", &[&one, &other]);
        assert_ne!(named[0], named[1]);
        assert!(named.iter().all(|name| name.len() == MAX_NAME_BYTES));
        // The same again: it hangs on the name alone.
        assert_eq!(names("c", &[&one]), named[..1]);
    }

    #[test]
    fn letters_are_small_and_hyphens_stay() {
        assert_eq!(names("c", &["read-URL"]), ["c_read-url"]);
    }
}
