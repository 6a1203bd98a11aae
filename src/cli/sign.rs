//! `airssys keygen` and `airssys sign`: whose components a host runs.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use airssys::PublicKey;
use airssys_osl::{ReadError, read_regular_file};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::error::{CliError, ExpectedError, Failure};
use super::output::Output;
use super::{Exit, KeygenArgs, SignArgs};

/// Most bytes of a private key's file.
const MAX_KEY_BYTES: u64 = 4096;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Where ring's document has the private key's 32 bytes.
const SEED: std::ops::Range<usize> = 16..48;

/// What stands before them in the first version of PKCS#8, the one that openssl reads.
const PKCS8_V1: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Makes a key that nobody else may read.
pub(super) fn keygen(args: &KeygenArgs, output: Output) -> Result<Exit, CliError> {
    let document =
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| Failure::NoRandomness)?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| Failure::NoRandomness)?;
    let seed = document.as_ref().get(SEED).ok_or(Failure::NoRandomness)?;
    let coded = STANDARD.encode([PKCS8_V1, seed].concat());
    let lines: Vec<&str> = coded
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    write(
        &args.key,
        format!("{BEGIN}\n{}\n{END}\n", lines.join("\n")).as_bytes(),
        0o600,
    )?;
    let public = public(&pair)?;
    if output.is_json() {
        output.json(
            &json!({ "key": args.key.display().to_string(), "public": public.to_string() }),
        )?;
    } else {
        output.line(&format!("[policy.signatures]\nkeys = [\"{public}\"]"))?;
    }
    Ok(Exit::Ok)
}

/// Signs a binary, and prints what to write in its Component.toml.
pub(super) fn sign(args: &SignArgs, output: Output) -> Result<Exit, CliError> {
    let pair = private(&args.key)?;
    let bytes = read(&args.wasm, airssys_wasm::MAX_WASM_BYTES)?;
    let digest = Sha256::digest(&bytes);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let out = args.out.clone().unwrap_or_else(|| {
        let mut name = args.wasm.clone().into_os_string();
        name.push(".sig");
        PathBuf::from(name)
    });
    let signature = STANDARD.encode(pair.sign(&bytes).as_ref());
    if args.force {
        std::fs::remove_file(&out).ok();
    }
    write(&out, format!("{signature}\n").as_bytes(), 0o644)?;
    let file = out.file_name().map_or_else(
        || out.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    if output.is_json() {
        output.json(&json!({
            "signature": out.display().to_string(),
            "digest": format!("sha256:{digest}"),
            "public": public(&pair)?.to_string(),
        }))?;
    } else {
        output.line(&format!(
            "[component]\ndigest = \"sha256:{digest}\"\nsignature = \"{file}\""
        ))?;
    }
    Ok(Exit::Ok)
}

fn public(pair: &Ed25519KeyPair) -> Result<PublicKey, CliError> {
    let bytes = pair.public_key().as_ref().try_into();
    Ok(PublicKey::new(bytes.map_err(|_| Failure::NoRandomness)?))
}

/// An Ed25519 key in PKCS#8, as PEM or bare.
fn private(path: &Path) -> Result<Ed25519KeyPair, CliError> {
    let held = read(path, MAX_KEY_BYTES)?;
    let text = std::str::from_utf8(&held).ok();
    let between = text.and_then(|text| {
        let (_, rest) = text.split_once(BEGIN)?;
        let (coded, _) = rest.split_once(END)?;
        let coded: String = coded.split_ascii_whitespace().collect();
        STANDARD.decode(coded).ok()
    });
    let document = between.unwrap_or(held);
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&document).map_err(|_| {
        let path = path.to_path_buf();
        ExpectedError::NoKey { path }.into()
    })
}

fn read(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ExpectedError> {
    let path = path.to_path_buf();
    read_regular_file(&path, limit_bytes).map_err(|error| match error {
        ReadError::Missing { source, .. } | ReadError::Io { source, .. } => {
            ExpectedError::Unreadable { path, source }
        }
        _ => ExpectedError::Unfit { path, limit_bytes },
    })
}

/// A file that is not there yet.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    let failed = |source: std::io::Error| -> CliError {
        let path = path.to_path_buf();
        match source.kind() {
            std::io::ErrorKind::AlreadyExists => ExpectedError::Exists { path }.into(),
            _ => Failure::Files { path, source }.into(),
        }
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed)
}
