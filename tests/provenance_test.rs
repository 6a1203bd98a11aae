//! The binary that is meant: pinned by digest, signed by whom the policy names.

use std::path::Path;
use std::process::Command;

use airssys::{ComponentConfig, HostError, UpgradeError};
use airssys_guests::{CALCULATOR, NOTEBOOK};

use crate::cli_test::{airssys, code, err, out};
use crate::support::{Alone, Tree, block_on, start_failure};

const MIB: usize = 1_048_576;

/// A key and its public line.
fn key(folder: &Path, name: &str) -> (String, String) {
    let path = folder.join(name).display().to_string();
    let made = airssys(&["keygen", &path]);
    assert_eq!(code(&made), 0, "{}", err(&made));
    let lines = out(&made);
    let public = lines.split('"').nth(1).unwrap().to_owned();
    assert!(public.starts_with("ed25519:"), "{lines}");
    (path, public)
}

/// Signs the component's binary, and answers the lines for its Component.toml.
fn signed(tree: &Tree, key: &str) -> String {
    let wasm = tree.path().join("alone/component.wasm");
    let wasm = wasm.display().to_string();
    let signed = airssys(&["sign", "--force", "--key", key, &wasm]);
    assert_eq!(code(&signed), 0, "{}", err(&signed));
    out(&signed)
}

fn tree() -> Tree {
    Tree::new().component("alone", CALCULATOR.wasm, MIB, "")
}

/// A host whose policy names these keys.
async fn start(tree: &Tree, keys: &[&str]) -> Result<airssys::Host, HostError> {
    let path = tree.write();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        format!("{text}\n[policy.signatures]\nkeys = {keys:?}\n"),
    )
    .unwrap();
    airssys::Host::from_config(&path).await
}

fn refusal(outcome: Result<airssys::Host, HostError>, tree: Tree) -> String {
    let outcome = outcome.map(|host| Alone::in_host(host, tree));
    start_failure(outcome).to_string()
}

#[test]
fn a_binary_that_is_not_the_pinned_one_is_not_loaded() {
    block_on(async {
        let of = |wasm: &[u8]| {
            use sha2::Digest;
            let digest = sha2::Sha256::digest(wasm);
            let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("digest = \"sha256:{digits}\"")
        };
        let pinned = tree().line("alone", "component", &of(CALCULATOR.wasm));
        let alone = Alone::of(pinned).await.unwrap();
        assert_eq!(
            alone
                .number("add", &[airssys::Val::U32(2), airssys::Val::U32(3)])
                .await,
            5
        );
        let other = tree().line("alone", "component", &of(NOTEBOOK.wasm));
        let told = start_failure(Alone::of(other).await).to_string();
        assert!(
            told.contains("component.digest") && told.contains("ADR-WASM-026"),
            "{told}"
        );
        for wrong in ["sha256:12", "md5:00", "sha256:zz"] {
            let line = format!("digest = \"{wrong}\"");
            let wrong = Alone::of(tree().line("alone", "component", &line)).await;
            let told = wrong.map(|_| ()).unwrap_err().to_string();
            assert!(told.contains("component.digest"), "{told}");
        }
    });
}

#[test]
fn with_keys_named_only_what_one_of_them_signed_is_loaded() {
    block_on(async {
        let keys = tempfile::tempdir().unwrap();
        let (ours, our_public) = key(keys.path(), "ours.pem");
        let (theirs, their_public) = key(keys.path(), "theirs.pem");
        let line = "signature = \"component.wasm.sig\"";

        let unsigned = tree();
        let told = refusal(start(&unsigned, &[&our_public]).await, unsigned);
        assert!(told.contains("is not signed"), "{told}");

        let missing = tree().line("alone", "component", line);
        let told = refusal(start(&missing, &[&our_public]).await, missing);
        assert!(told.contains("component.wasm.sig does not exist"), "{told}");

        let by_others = tree().line("alone", "component", line);
        signed(&by_others, &theirs);
        let told = refusal(start(&by_others, &[&our_public]).await, by_others);
        assert!(
            told.contains("by nobody in policy.signatures.keys"),
            "{told}"
        );

        let by_either = tree().line("alone", "component", line);
        signed(&by_either, &theirs);
        start(&by_either, &[&our_public, &their_public])
            .await
            .unwrap();

        // Signed, and exchanged afterwards.
        let exchanged = tree().line("alone", "component", line);
        signed(&exchanged, &ours);
        start(&exchanged, &[&our_public]).await.unwrap();
        std::fs::write(exchanged.path().join("alone/component.wasm"), NOTEBOOK.wasm).unwrap();
        let told = refusal(start(&exchanged, &[&our_public]).await, exchanged);
        assert!(told.contains("a signature of another binary"), "{told}");

        for garbage in [&b""[..], b"not base64!", &[7; 63], &[7; 65], &[b'A'; 88]] {
            let tree = tree().line("alone", "component", line);
            let path = tree.path().join("alone/component.wasm.sig");
            std::fs::write(path, garbage).unwrap();
            let told = refusal(start(&tree, &[&our_public]).await, tree);
            assert!(
                told.contains("is no Ed25519 signature") || told.contains("by nobody"),
                "{told}"
            );
        }
    });
}

#[test]
fn a_signature_that_nothing_can_check_is_refused() {
    block_on(async {
        let tree = tree().line("alone", "component", "signature = \"component.wasm.sig\"");
        let told = start_failure(Alone::of(tree).await).to_string();
        assert!(told.contains("policy.signatures.keys"), "{told}");
        let tree = self::tree();
        let wrong = start(&tree, &["ed25519:AAAA"]).await.map(|_| ());
        let told = wrong.unwrap_err().to_string();
        assert!(told.contains("policy.signatures.keys"), "{told}");
    });
}

#[test]
fn an_upgrade_is_held_to_digest_and_signature_too() {
    block_on(async {
        let keys = tempfile::tempdir().unwrap();
        let (ours, public) = key(keys.path(), "ours.pem");
        let tree = tree().line("alone", "component", "signature = \"component.wasm.sig\"");
        signed(&tree, &ours);
        let host = start(&tree, &[&public]).await.unwrap();
        let alone = host.component("alone").unwrap();
        let file = tree.path().join("alone/Component.toml");
        // Another binary under the old one's signature.
        std::fs::write(tree.path().join("alone/component.wasm"), NOTEBOOK.wasm).unwrap();
        let refused = alone.upgrade(ComponentConfig::load(&file).unwrap()).await;
        match refused {
            Err(UpgradeError::Load { cause, .. }) => {
                assert!(cause.to_string().contains("another binary"), "{cause}");
            }
            other => panic!("{other:?}"),
        }
        alone
            .call("add", &[airssys::Val::U32(2), airssys::Val::U32(3)])
            .await
            .unwrap();
        signed(&tree, &ours);
        let mut config = ComponentConfig::load(&file).unwrap();
        config.upgrade.probation = std::time::Duration::ZERO;
        alone.upgrade(config).await.unwrap();
    });
}

#[test]
fn what_the_program_signs_is_what_the_host_verifies() {
    block_on(async {
        let keys = tempfile::tempdir().unwrap();
        let (ours, public) = key(keys.path(), "ours.pem");
        // Nobody else may read it, and it is not made twice.
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&ours).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = airssys(&["keygen", &ours]);
        assert_eq!(code(&again), 2);
        // The lines that are printed are those to paste.
        let tree = tree();
        let lines = signed(&tree, &ours);
        let lines = lines.strip_prefix("[component]\n").unwrap().to_owned();
        let tree = tree.line("alone", "component", &lines);
        start(&tree, &[&public]).await.unwrap();
        // A signature that is there stays, unless it is to go.
        let wasm = tree
            .path()
            .join("alone/component.wasm")
            .display()
            .to_string();
        assert_eq!(code(&airssys(&["sign", "--key", &ours, &wasm])), 2);
        let no_key = airssys(&["sign", "--force", "--key", &wasm, &wasm]);
        assert_eq!(code(&no_key), 2);
        // What openssl signs with the same key is the same, as Ed25519 has it.
        let raw = tree.path().join("raw.sig");
        let made = Command::new("openssl")
            .args([
                "pkeyutl", "-sign", "-rawin", "-inkey", &ours, "-in", &wasm, "-out",
            ])
            .arg(&raw)
            .output();
        match made {
            Ok(made) if made.status.success() => {
                let signature = tree.path().join("alone/component.wasm.sig");
                std::fs::copy(&raw, signature).unwrap();
                start(&tree, &[&public]).await.unwrap();
            }
            Ok(failed) => panic!("{}", String::from_utf8_lossy(&failed.stderr)),
            Err(absent) => println!("openssl is not there: {absent}"),
        }
    });
}
