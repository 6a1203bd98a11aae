use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use airssys_osl::{
    AgeKey, LoadError, MAX_AGE_WORK_FACTOR, MAX_SECRET_NAME_BYTES, NamedSecrets, PrivateError,
    ProtectedSecret, SecretError, SecretKeyring, SecretLimits, SecretMemory, SecretName,
    SecretPolicy, SecretSource,
};

use super::memory;

fn private(path: &Path, bytes: impl AsRef<[u8]>) -> PathBuf {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    path.to_path_buf()
}

fn load(source: SecretSource) -> Result<Arc<ProtectedSecret>, LoadError> {
    NamedSecrets::new(memory()).load("loaded".parse().unwrap(), &source)
}

#[test]
fn names_lead_to_secrets_and_unknown_ones_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let store = NamedSecrets::new(memory());
    for (name, value) in [("api-token", "one"), ("b2", "two")] {
        let path = private(&dir.path().join(name), value);
        store
            .load(name.parse().unwrap(), &SecretSource::File(path))
            .unwrap();
    }
    let is = |name: &str, value: &str| {
        let secret = store.get(name).unwrap();
        secret
            .with_bytes(|bytes| bytes == value.as_bytes())
            .unwrap()
    };
    assert!(is("api-token", "one") && is("b2", "two"));
    assert_eq!(store.get("c").unwrap_err().name, "c");
    let again = SecretSource::File(dir.path().join("b2"));
    let taken = store.load("api-token".parse().unwrap(), &again);
    assert!(matches!(taken, Err(LoadError::NameTaken { .. })));
    assert!(is("api-token", "one"));
    // Handed out, a secret outlives its name.
    let held = store.get("b2").unwrap();
    drop(store.remove("b2").unwrap());
    assert!(store.get("b2").is_err() && store.remove("b2").is_err());
    assert!(held.with_bytes(|bytes| bytes == b"two").unwrap());
    let names = store.names();
    assert_eq!(names, ["api-token".parse().unwrap()]);
}

#[test]
fn a_name_is_of_small_letters_digits_and_hyphens() {
    let longest = "a".repeat(MAX_SECRET_NAME_BYTES);
    for good in ["a", "a-1", &longest] {
        assert_eq!(good.parse::<SecretName>().unwrap().as_str(), good);
    }
    let too_long = format!("{longest}a");
    for bad in ["", "1a", "-a", "A", "a_b", "a/b", "ä", &too_long] {
        assert_eq!(bad.parse::<SecretName>().unwrap_err().text, bad);
    }
}

#[test]
fn a_file_that_others_may_use_is_refused_with_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = private(&dir.path().join("secret"), "value");
    load(SecretSource::File(path.clone())).unwrap();
    for bits in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
        fs::set_permissions(&path, Permissions::from_mode(0o600 | bits)).unwrap();
        let refused = load(SecretSource::File(path.clone())).unwrap_err();
        assert!(
            matches!(refused, LoadError::File(PrivateError::OpenToOthers { mode, .. }) if mode == 0o600 | bits),
            "{refused}"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    load(SecretSource::File(path.clone())).unwrap();
    // Only root can give files away; others have root's own to look at.
    let other = rustix::process::geteuid().as_raw() + 1;
    let foreign = match std::os::unix::fs::chown(&path, Some(other), None) {
        Ok(()) => path,
        Err(_) => PathBuf::from("/etc/hostname"),
    };
    assert!(matches!(
        load(SecretSource::File(foreign)),
        Err(LoadError::File(PrivateError::ForeignOwner { .. }))
    ));
}

#[test]
fn only_a_regular_file_that_is_no_link_is_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let path = private(&dir.path().join("secret"), "value");
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    let pipe = dir.path().join("pipe");
    let made = Command::new("mkfifo").arg("-m600").arg(&pipe).status();
    assert!(made.unwrap().success());
    for wrong in [link, pipe, dir.path().to_path_buf()] {
        let refused = load(SecretSource::File(wrong)).unwrap_err();
        assert!(
            matches!(refused, LoadError::File(PrivateError::WrongKind { .. })),
            "{refused}"
        );
    }
    let missing = load(SecretSource::File(dir.path().join("none")));
    assert!(matches!(missing, Err(LoadError::MissingFile { .. })));
    let empty = private(&dir.path().join("empty"), "");
    assert!(matches!(
        load(SecretSource::File(empty)),
        Err(LoadError::Memory(SecretError::Empty))
    ));
}

#[test]
fn a_file_longer_than_a_secret_may_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let limits = SecretLimits {
        max_bytes: 100,
        max_secrets: 10,
    };
    let store = NamedSecrets::new(SecretMemory::new(SecretPolicy::BestEffort, limits));
    let fits = private(&dir.path().join("fits"), [7; 100]);
    let long = private(&dir.path().join("long"), [7; 101]);
    store
        .load("fits".parse().unwrap(), &SecretSource::File(fits))
        .unwrap();
    assert!(matches!(
        store.load("long".parse().unwrap(), &SecretSource::File(long)),
        Err(LoadError::Memory(SecretError::TooLong {
            len_bytes: 101,
            limit_bytes: 100
        }))
    ));
    let identity = age::x25519::Identity::generate();
    let key = private(
        &dir.path().join("key"),
        age::secrecy::ExposeSecret::expose_secret(&identity.to_string()),
    );
    for (name, len) in [("age-fits", 100), ("age-long", 101)] {
        let path = dir.path().join(name);
        let encrypted = age::encrypt(&identity.to_public(), &vec![7; len]).unwrap();
        fs::write(&path, encrypted).unwrap();
        let source = SecretSource::Age {
            path,
            key: AgeKey::IdentityFile(key.clone()),
        };
        let loaded = store.load(name.parse().unwrap(), &source);
        match len {
            100 => assert_eq!(loaded.unwrap().len_bytes(), 100),
            _ => assert!(matches!(
                loaded,
                Err(LoadError::Memory(SecretError::TooLong { .. }))
            )),
        }
    }
}

#[test]
fn a_variable_is_a_source_and_can_be_withheld_from_a_child() {
    // One that every test process has: setting one here would race with other tests.
    let variable = String::from("PATH");
    let expected = std::env::var_os(&variable).unwrap();
    let store = NamedSecrets::new(memory());
    let source = SecretSource::Environment(variable);
    let secret = store.load("variable".parse().unwrap(), &source).unwrap();
    assert!(
        secret
            .with_bytes(|value| value == expected.as_encoded_bytes())
            .unwrap()
    );
    let child = || {
        let mut child = Command::new("/usr/bin/env");
        child.env("KEPT", "1");
        child
    };
    let told = |mut child: Command| {
        let output = child.output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(told(child()).contains("PATH="));
    let mut withheld = child();
    store.withhold_variables(&mut withheld);
    let seen = told(withheld);
    assert!(
        !seen.lines().any(|line| line.starts_with("PATH=")),
        "{seen}"
    );
    assert!(seen.contains("KEPT=1"));
    let missing = load(SecretSource::Environment(String::from("AIRSSYS_NOT_SET")));
    assert!(matches!(missing, Err(LoadError::MissingVariable { .. })));
}

#[test]
fn a_key_of_the_kernels_keyring_is_a_source() {
    use linux_keyutils::{KeyRing, KeyRingIdentifier};

    let source = |description: &str| SecretSource::Keyring {
        keyring: SecretKeyring::Process,
        description: description.to_owned(),
    };
    let ring = KeyRing::from_special_id(KeyRingIdentifier::Process, true);
    let ring = match ring {
        Ok(ring) => ring,
        // A sandbox without keyrings: then the error says so.
        Err(_) => {
            let refused = load(source("airssys-test")).unwrap_err();
            assert!(
                matches!(refused, LoadError::NoKeyring | LoadError::Key { .. }),
                "{refused}"
            );
            return;
        }
    };
    let key = ring.add_key("airssys-test", "from the kernel").unwrap();
    let secret = load(source("airssys-test")).unwrap();
    assert!(
        secret
            .with_bytes(|value| value == b"from the kernel")
            .unwrap()
    );
    assert!(matches!(
        load(source("airssys-none")),
        Err(LoadError::MissingKey { .. })
    ));
    key.invalidate().unwrap();
}

/// Written by age 1.1.1 of another implementation, `age -r` and `age -a -r`, for this identity.
const IDENTITY: &str = include_str!("age/identity");
const BINARY: &[u8] = include_bytes!("age/binary.age");
const ARMORED: &[u8] = include_bytes!("age/armored.age");

#[test]
fn what_the_age_program_encrypted_is_decrypted() {
    let dir = tempfile::tempdir().unwrap();
    let identity = private(&dir.path().join("identity"), IDENTITY);
    for bytes in [BINARY, ARMORED] {
        let path = dir.path().join("encrypted");
        fs::write(&path, bytes).unwrap();
        let secret = load(SecretSource::Age {
            path,
            key: AgeKey::IdentityFile(identity.clone()),
        })
        .unwrap();
        assert!(
            secret
                .with_bytes(|value| value == b"what was encrypted elsewhere")
                .unwrap()
        );
    }
}

#[test]
fn what_is_decrypted_is_what_was_encrypted_at_every_length() {
    let dir = tempfile::tempdir().unwrap();
    let key = age::x25519::Identity::generate();
    let text = key.to_string();
    let text = age::secrecy::ExposeSecret::expose_secret(&text);
    let identity = private(&dir.path().join("identity"), text);
    let path = dir.path().join("encrypted");
    for len in [1, 900, 3_000, 65_536, 70_000] {
        let value: Vec<u8> = (0..len).map(|n| (n * 7) as u8).collect();
        fs::write(&path, age::encrypt(&key.to_public(), &value).unwrap()).unwrap();
        let secret = load(SecretSource::Age {
            path: path.clone(),
            key: AgeKey::IdentityFile(identity.clone()),
        });
        let secret = secret.unwrap();
        assert!(secret.with_bytes(|bytes| bytes == value).unwrap(), "{len}");
        secret.close().unwrap();
    }
}

#[test]
fn no_flip_of_an_encrypted_file_and_no_cut_of_it_is_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let identity = private(&dir.path().join("identity"), IDENTITY);
    let path = dir.path().join("encrypted");
    let source = SecretSource::Age {
        path: path.clone(),
        key: AgeKey::IdentityFile(identity),
    };
    let refused = |bytes: &[u8], what: usize| {
        fs::write(&path, bytes).unwrap();
        let store = NamedSecrets::new(memory());
        let loaded = store.load("loaded".parse().unwrap(), &source);
        assert!(
            matches!(loaded, Err(LoadError::Decrypt { .. })),
            "{what}: {loaded:?}"
        );
    };
    for at in 0..BINARY.len() {
        let mut flipped = BINARY.to_vec();
        flipped[at] ^= 1;
        refused(&flipped, at);
        refused(&BINARY[..at], at);
    }
}

#[test]
fn a_passphrase_opens_what_it_closed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let memory = memory();
    let path = dir.path().join("encrypted");
    let mut recipient = age::scrypt::Recipient::new("correct horse".into());
    recipient.set_work_factor(2);
    fs::write(&path, age::encrypt(&recipient, b"value").unwrap()).unwrap();
    let with = |passphrase: &[u8]| {
        let passphrase = ProtectedSecret::from_vec(&memory, passphrase.to_vec()).unwrap();
        load(SecretSource::Age {
            path: path.clone(),
            key: AgeKey::Passphrase(Arc::new(passphrase)),
        })
    };
    let secret = with(b"correct horse").unwrap();
    assert!(secret.with_bytes(|value| value == b"value").unwrap());
    assert!(matches!(with(b"battery"), Err(LoadError::Decrypt { .. })));
    assert!(matches!(with(b"\xff"), Err(LoadError::Passphrase)));
}

#[test]
fn a_file_that_asks_for_more_work_than_its_bound_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut recipient = age::scrypt::Recipient::new("passphrase".into());
    recipient.set_work_factor(2);
    let encrypted = age::encrypt(&recipient, b"value").unwrap();
    // The header is text: `-> scrypt SALT FACTOR`.
    let line = encrypted.iter().enumerate().filter(|(_, b)| **b == b'\n');
    let end = line.map(|(at, _)| at).nth(1).unwrap();
    let more = (MAX_AGE_WORK_FACTOR + 1).to_string();
    let greedy = [&encrypted[..end - 1], more.as_bytes(), &encrypted[end..]].concat();
    let path = dir.path().join("encrypted");
    fs::write(&path, greedy).unwrap();
    let passphrase = ProtectedSecret::from_vec(&memory(), b"passphrase".to_vec()).unwrap();
    let refused = load(SecretSource::Age {
        path,
        key: AgeKey::Passphrase(Arc::new(passphrase)),
    });
    let Err(LoadError::Decrypt { source, .. }) = refused else {
        panic!("{refused:?}");
    };
    let required = MAX_AGE_WORK_FACTOR + 1;
    assert!(
        matches!(source, age::DecryptError::ExcessiveWork { required: r, .. } if r == required),
        "{source}"
    );
}

#[test]
fn an_identity_that_others_may_read_or_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let encrypted = dir.path().join("encrypted");
    fs::write(&encrypted, BINARY).unwrap();
    let with = |identity: PathBuf| {
        load(SecretSource::Age {
            path: encrypted.clone(),
            key: AgeKey::IdentityFile(identity),
        })
    };
    let open = private(&dir.path().join("open"), IDENTITY);
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(
        with(open),
        Err(LoadError::File(PrivateError::OpenToOthers {
            mode: 0o644,
            ..
        }))
    ));
    for none in ["# only a comment\n", "AGE-SECRET-KEY-1WRONG\n"] {
        let none = private(&dir.path().join("none"), none);
        assert!(matches!(with(none), Err(LoadError::Identity { .. })));
    }
    let other = age::x25519::Identity::generate().to_string();
    let other = private(
        &dir.path().join("other"),
        age::secrecy::ExposeSecret::expose_secret(&other),
    );
    assert!(matches!(with(other), Err(LoadError::Decrypt { .. })));
}
