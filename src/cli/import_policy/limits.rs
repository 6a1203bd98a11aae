//! `resources` and `runtime`: limits that are kept, and privileges that there are none of.

use super::ledger::Ledger;
use super::manifest::Manifest;
use super::policy::{Container, Limit, Rule};
use super::refusal::Why;

/// Fewest bytes that `resources.memory.max_bytes` may be.
const LEAST_BYTES: u64 = 524_288;

/// Most bytes that `policy.memory.max_bytes` may raise it to.
const MOST_BYTES: u64 = 1_073_741_824;

/// Digits behind the point that are read; further ones make a limit less by nothing that counts.
const MAX_DECIMALS: usize = 9;

/// Writes the memory's limit, and refuses what nothing measures.
pub(super) fn translate(limits: &[Rule<Limit>], manifest: &mut Manifest, ledger: &mut Ledger) {
    for rule in limits {
        match checked(&rule.says) {
            Err(why) => {
                // Less memory than was asked for is less; any other limit left out is more.
                let less = matches!(why, Why::MemoryTooHigh { .. });
                ledger.refuse(rule.line, &rule.text, why, less);
            }
            Ok(None) => {
                let by = "an instance runs on one processor at a time";
                ledger.holds(rule.line, &rule.text, String::from(by));
            }
            Ok(Some(bytes)) => {
                let by = format!("resources.memory.max_bytes, at most {bytes}");
                ledger.keyed(rule.line, &rule.text, by);
                let memory = manifest.memory.get_or_insert((bytes, Vec::new()));
                memory.0 = memory.0.min(bytes);
                memory.1.push(rule.line);
            }
        }
    }
}

/// Whether a component is without a privilege; it always is.
pub(super) fn container(rules: &[Rule<Container>], ledger: &mut Ledger) {
    for rule in rules {
        match rule.says {
            Container::Asks => ledger.refuse(rule.line, &rule.text, Why::Privileges, true),
            Container::Spares => {
                let by = "a component has no privileges of the host's";
                ledger.holds(rule.line, &rule.text, String::from(by));
            }
        }
    }
}

/// Bytes of memory, or nothing for a limit that holds by itself.
fn checked(limit: &Limit) -> Result<Option<u64>, Why> {
    let bytes = match limit {
        Limit::Io => return Err(Why::Io),
        Limit::Cpu(text) => return whole_processor(text, 1000),
        Limit::CpuPercent(text) => return whole_processor(text, 10),
        Limit::Memory(text) => quantity(text)?,
        Limit::Megabytes(text) => match text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            true => quantity(&format!("{text}M"))?,
            false => quantity(text)?,
        },
    };
    match bytes {
        ..LEAST_BYTES => Err(Why::MemoryTooLow {
            bytes,
            least: LEAST_BYTES,
        }),
        LEAST_BYTES..=MOST_BYTES => Ok(Some(bytes)),
        _ => Err(Why::MemoryTooHigh {
            bytes,
            most: MOST_BYTES,
        }),
    }
}

/// Whether a limit is one processor or more; `milli` is what one of its units is.
fn whole_processor(text: &str, milli: u64) -> Result<Option<u64>, Why> {
    let (digits, milli) = match text.strip_suffix('m') {
        Some(digits) if milli == 1000 => (digits, 1),
        _ => (text, milli),
    };
    match decimal(digits, milli)? {
        1000.. => Ok(None),
        _ => Err(Why::CpuShare),
    }
}

fn quantity(text: &str) -> Result<u64, Why> {
    const UNITS: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let with_unit = UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (digits, bytes) = with_unit.unwrap_or((text, 1));
    decimal(digits, bytes)
}

/// So many units, rounded down.
fn decimal(digits: &str, unit: u64) -> Result<u64, Why> {
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) {
        return Err(Why::Quantity);
    }
    let part: String = part.chars().take(MAX_DECIMALS).collect();
    let whole = whole.parse::<u64>().map_err(|_| Why::Quantity)?;
    let of_one = 10_u128.pow(u32::try_from(part.len()).map_err(|_| Why::Quantity)?);
    let part = part.parse::<u128>().map_err(|_| Why::Quantity)?;
    let sum = u128::from(whole) * u128::from(unit) + part * u128::from(unit) / of_one;
    u64::try_from(sum).map_err(|_| Why::Quantity)
}
