//! `airssys import-policy`: a wassette policy as a Component.toml that is held to each of its rules
//! (ADR-SYS-004).

mod ledger;
mod limits;
mod manifest;
mod network;
mod policy;
mod refusal;
mod storage;
mod yaml;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use airssys::config::ComponentName;
use airssys::{ComponentConfig, ConfigErrors};
use airssys_osl::grants::EnvironmentName;
use airssys_osl::{ReadError, read_regular_file};
use serde_json::{Value, json};

use super::error::{CliError, ExpectedError, Failure};
use super::output::Output;
use super::{Exit, ImportPolicyArgs, report};
use ledger::Ledger;
use manifest::{CEILING_BYTES, Identity, Line, Manifest};
use policy::{Lists, Policy};
pub(super) use refusal::{PolicyError, Refusal, Why};

/// Most bytes of a policy.
const MAX_POLICY_BYTES: u64 = 1024 * 1024;

/// Writes the Component.toml of a policy, where all its rules can be enforced.
pub(super) fn import_policy(args: &ImportPolicyArgs, output: Output) -> Result<Exit, CliError> {
    let name = name(args)?;
    let text = read(&args.policy)?;
    let base = base(args.out.as_deref());
    let (manifest, ledger, description) = translate(&text, &base);

    let hard = ledger.refused.iter().any(|refusal| !refusal.allows);
    let skipped = !ledger.refused.is_empty();
    let error = PolicyError {
        path: args.policy.clone(),
        text,
        refusals: Vec::new(),
    };
    if hard || (skipped && !args.skip_refused) {
        let mut refusals = ledger.refused;
        refusals.sort_by_key(|refusal| refusal.line);
        return Err(ExpectedError::Policy(PolicyError { refusals, ..error }).into());
    }

    let wasm = args.wasm.clone().unwrap_or_else(|| format!("{name}.wasm"));
    let policy = args
        .policy
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let identity = Identity {
        name: &name,
        wasm: &wasm,
        policy: &policy,
        description: description.as_deref(),
    };
    let max_bytes = manifest.max_bytes();
    let toml = manifest.text(&identity, max_bytes, &ledger);
    check(args, &manifest, &identity, &ledger)?;
    for refusal in &ledger.refused {
        output.note(report::refusal_text(&error, refusal, true).trim_end());
    }
    if max_bytes > CEILING_BYTES {
        output.note(&format!(
            "max_bytes = {max_bytes} is more than the {CEILING_BYTES} that a host allows by itself; \
             say in its airssys.toml:\n[policy.memory]\nmax_bytes = {max_bytes}"
        ));
    }
    deliver(args, &toml, &ledger, output)?;
    Ok(if skipped { Exit::Failed } else { Exit::Ok })
}

/// Brings each rule of a text to the manifest or to the refusals.
fn translate(text: &str, base: &Path) -> (Manifest, Ledger, Option<String>) {
    let mut ledger = Ledger::default();
    let mut manifest = Manifest::default();
    let document = match yaml::read(text) {
        Ok(document) => document,
        Err((line, error)) => {
            ledger.refuse(line, "policy", Why::Yaml(error), false);
            return (manifest, ledger, None);
        }
    };
    let policy = Policy::read(&document, &mut ledger);
    storage::translate(&policy.storage, base, &mut manifest, &mut ledger);
    network::translate(&policy.network, &mut manifest, &mut ledger);
    environment(&policy.environment, &mut manifest, &mut ledger);
    limits::translate(&policy.limits, &mut manifest, &mut ledger);
    limits::container(&policy.container, &mut ledger);
    for rule in &policy.ipc.allow {
        ledger.refuse(rule.line, &rule.text, Why::Ipc, true);
    }
    for rule in &policy.ipc.deny {
        let by = "components have no pipes and no sockets of this machine";
        ledger.holds(rule.line, &rule.text, String::from(by));
    }
    ledger.enforced.sort_by_key(|rule| rule.line);
    (manifest, ledger, policy.description)
}

fn environment(keys: &Lists<String>, manifest: &mut Manifest, ledger: &mut Ledger) {
    for rule in &keys.deny {
        match rule.says.parse::<EnvironmentName>() {
            Ok(_) => ledger.holds(rule.line, &rule.text, String::from("not inherited")),
            Err(_) => ledger.refuse(rule.line, &rule.text, Why::Variable, false),
        }
    }
    for rule in &keys.allow {
        if rule.says.parse::<EnvironmentName>().is_err() {
            ledger.refuse(rule.line, &rule.text, Why::Variable, true);
        } else if keys.deny.iter().any(|denied| denied.says == rule.says) {
            let by = "denied by the policy itself, so not inherited";
            ledger.holds(rule.line, &rule.text, String::from(by));
        } else {
            let by = format!("capabilities.environment.inherit \"{}\"", rule.says);
            ledger.keyed(rule.line, &rule.text, by);
            Line::add(&mut manifest.inherit, &rule.says, rule.line);
        }
    }
}

/// Has the loader read what will be written, under the memory that a host may allow.
fn check(
    args: &ImportPolicyArgs,
    manifest: &Manifest,
    identity: &Identity<'_>,
    ledger: &Ledger,
) -> Result<(), CliError> {
    // The bounds of memory have been checked; what a host's policy raises is not known here.
    let bytes = manifest.max_bytes().min(CEILING_BYTES);
    let toml = manifest.text(identity, bytes, ledger);
    let path = args.out.as_deref().unwrap_or(Path::new("Component.toml"));
    ComponentConfig::parse(path, &toml)
        .map(drop)
        .map_err(|error| ExpectedError::Config(ConfigErrors(vec![error])).into())
}

fn deliver(
    args: &ImportPolicyArgs,
    toml: &str,
    ledger: &Ledger,
    output: Output,
) -> Result<(), CliError> {
    let out = args.out.as_deref().filter(|_| !args.dry_run);
    if let Some(path) = out {
        write(path, toml, args.force)?;
    }
    if output.is_json() {
        let rules: Vec<Value> = ledger
            .enforced
            .iter()
            .map(|rule| json!({ "line": rule.line, "rule": rule.rule, "by": rule.by }))
            .collect();
        let left_out: Vec<Value> = ledger.refused.iter().map(Refusal::json).collect();
        return output.json(&json!({
            "file": out.map(|path| path.display().to_string()),
            "toml": toml,
            "enforced": rules,
            "left_out": left_out,
        }));
    }
    if args.dry_run {
        let lines: Vec<String> = ledger
            .enforced
            .iter()
            .map(|rule| format!("{}: {}: {}", rule.line, rule.rule, rule.by))
            .collect();
        return output.line(&lines.join("\n"));
    }
    match out {
        Some(_) => Ok(()),
        None => output.line(toml),
    }
}

/// The name that is asked for, or that the file's own name suggests: `fetch` of
/// `fetch.policy.yaml`, and of `fetch/policy.yaml`.
fn name(args: &ImportPolicyArgs) -> Result<ComponentName, ExpectedError> {
    let stem = |path: &Path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some(name.split('.').next().unwrap_or_default().to_owned())
    };
    let wish = match &args.name {
        Some(name) => name.clone(),
        None => {
            let own = stem(&args.policy).unwrap_or_default();
            let folder = || {
                args.policy
                    .canonicalize()
                    .ok()
                    .and_then(|path| stem(path.parent()?))
            };
            let wish = match own.as_str() {
                "policy" => folder().unwrap_or_default(),
                _ => own,
            };
            wish.to_ascii_lowercase().replace('_', "-")
        }
    };
    wish.parse()
        .map_err(|source| ExpectedError::NoName { wish, source })
}

fn read(path: &Path) -> Result<String, ExpectedError> {
    let path = path.to_path_buf();
    let limit_bytes = MAX_POLICY_BYTES;
    let bytes = read_regular_file(&path, limit_bytes).map_err(|error| match error {
        ReadError::Missing { source, .. } | ReadError::Io { source, .. } => {
            let path = path.clone();
            ExpectedError::Unreadable { path, source }
        }
        _ => {
            let path = path.clone();
            ExpectedError::Unfit { path, limit_bytes }
        }
    })?;
    String::from_utf8(bytes).map_err(|_| ExpectedError::NotText { path })
}

/// The directory that relative paths in the Component.toml start from.
fn base(out: Option<&Path>) -> PathBuf {
    let folder = out
        .and_then(Path::parent)
        .filter(|path| !path.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    folder
        .canonicalize()
        .unwrap_or_else(|_| folder.to_path_buf())
}

fn write(path: &Path, toml: &str, force: bool) -> Result<(), CliError> {
    let failed = |source: std::io::Error| -> CliError {
        let path = path.to_path_buf();
        match source.kind() {
            std::io::ErrorKind::AlreadyExists => ExpectedError::Exists { path }.into(),
            _ => Failure::Files { path, source }.into(),
        }
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(!force);
    if force {
        options.create(true).truncate(true);
    }
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(toml.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)
}
