//! `airssys audit`: what is on record of the host calls that needed a grant.

use std::path::Path;
use std::time::UNIX_EPOCH;

use airssys_osl::{
    AUDIT_POLL, AuditDecision, AuditError, AuditEvent, AuditFault, AuditFinding, AuditFollower,
    AuditItem, AuditReader, AuditRecord, AuditSummary, AuditText, verify_audit,
};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::error::{CliError, ExpectedError, Failure};
use super::output::{Output, printable};
use super::{AuditCommand, AuditShowArgs, Exit, start};

pub(super) async fn audit(command: &AuditCommand, output: Output) -> Result<Exit, CliError> {
    match command {
        AuditCommand::Verify(args) => verify(&args.directory, output),
        AuditCommand::Show(args) => show(args, output),
        AuditCommand::Follow(args) => follow(&args.directory, output).await,
    }
}

/// A log that is not there is bad usage; one that is damaged is a failure.
fn refused(error: AuditError) -> CliError {
    match error {
        AuditError::Missing { .. } | AuditError::Directory(_) | AuditError::KeyMissing { .. } => {
            ExpectedError::NoAudit(error).into()
        }
        other => Failure::AuditRead(other).into(),
    }
}

fn verify(path: &Path, output: Output) -> Result<Exit, CliError> {
    let verdict = verify_audit(path).map_err(refused)?;
    let summary = verdict.summary;
    if output.is_json() {
        let findings: Vec<Value> = verdict.findings.iter().map(finding_json).collect();
        output.json(&json!({
            "directory": path.display().to_string(),
            "whole": verdict.is_whole(),
            "segments": summary.segments,
            "records": summary.records,
            "first": summary.first,
            "last": summary.last,
            "tag": summary.tag.to_string(),
            "unfinished_bytes": summary.unfinished_bytes,
            "findings": findings,
            "further_findings": verdict.further,
        }))?;
        let whole = verdict.is_whole();
        return Ok(if whole { Exit::Ok } else { Exit::Failed });
    }
    for finding in &verdict.findings {
        output.line(&finding.to_string())?;
    }
    output.line(&found(&summary))?;
    if verdict.is_whole() {
        return Ok(Exit::Ok);
    }
    Err(Failure::Audit {
        path: path.to_path_buf(),
        findings: verdict.findings.len() as u64 + verdict.further,
    }
    .into())
}

fn found(summary: &AuditSummary) -> String {
    let AuditSummary {
        segments,
        records,
        first,
        last,
        tag,
        unfinished_bytes,
    } = summary;
    let mut text = format!(
        "{records} proven record(s) in {segments} segment(s), begins at record {first}\n\
         last record {last}, tag {tag}"
    );
    if *unfinished_bytes > 0 {
        text.push_str(&format!(
            "\n{unfinished_bytes} unfinished bytes at the end: a host is writing, or was killed"
        ));
    }
    text
}

fn show(args: &AuditShowArgs, output: Output) -> Result<Exit, CliError> {
    let reader = AuditReader::open(&args.directory).map_err(refused)?;
    let mut findings = 0;
    for item in reader {
        match item.map_err(Failure::AuditRead)? {
            AuditItem::Record(record) if args.asks_for(&record) => print(&record, output)?,
            AuditItem::Record(_) => {}
            AuditItem::Finding(finding) => {
                findings += 1;
                output.note(&finding.to_string());
            }
        }
    }
    match findings {
        0 => Ok(Exit::Ok),
        findings => Err(Failure::Audit {
            path: args.directory.clone(),
            findings,
        }
        .into()),
    }
}

impl AuditShowArgs {
    fn asks_for(&self, record: &AuditRecord) -> bool {
        if record.sequence < self.since {
            return false;
        }
        match &record.event {
            AuditEvent::Call(call) => {
                let wanted = self.component.as_ref();
                let denied = call.decision == AuditDecision::Deny;
                wanted.is_none_or(|name| *name == call.component.text) && (denied || !self.denied)
            }
            _ => self.component.is_none() && !self.denied,
        }
    }
}

async fn follow(path: &Path, output: Output) -> Result<Exit, CliError> {
    let mut interrupt = start::interrupt()?;
    let mut follower = AuditFollower::open(path).map_err(refused)?;
    let mut ticks = tokio::time::interval(AUDIT_POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = interrupt.asked() => return Ok(Exit::Ok),
        }
        for item in follower.poll().map_err(Failure::AuditRead)? {
            match item {
                AuditItem::Record(record) => print(&record, output)?,
                AuditItem::Finding(finding) if output.is_json() => {
                    output.json(&json!({ "finding": finding_json(&finding) }))?;
                }
                AuditItem::Finding(finding) => output.note(&finding.to_string()),
            }
        }
    }
}

fn print(record: &AuditRecord, output: Output) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(&record_json(record));
    }
    let time = humantime::format_rfc3339_micros(record.time);
    let what = match &record.event {
        AuditEvent::Call(call) => format!(
            "{} {}.{} {} {}  [{}]",
            decision(call.decision),
            one_line(&call.component),
            call.generation,
            one_line(&call.capability),
            one_line(&call.subject),
            one_line(&call.rule),
        ),
        AuditEvent::Opened { cut_bytes: 0 } => String::from("-- opened"),
        AuditEvent::Opened { cut_bytes } => {
            format!("-- opened, {cut_bytes} unfinished bytes cut off")
        }
        AuditEvent::Lost { entries } => format!("-- {entries} entries lost: no room"),
        AuditEvent::Closed => String::from("-- closed"),
        other => format!("-- {other:?}"),
    };
    output.line(&format!("{} {time} {what}", record.sequence))
}

fn decision(decision: AuditDecision) -> &'static str {
    match decision {
        AuditDecision::Allow => "allow",
        AuditDecision::Deny => "deny",
    }
}

/// A text on one line: what does not show is escaped, so that no text looks like another record.
fn one_line(text: &AuditText) -> String {
    let shown: String = text.text.escape_debug().collect();
    let shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    let cut = if text.cut { "…" } else { "" };
    printable(&format!("{shown}{cut}"))
}

fn record_json(record: &AuditRecord) -> Value {
    let time = humantime::format_rfc3339_micros(record.time).to_string();
    let since = record.time.duration_since(UNIX_EPOCH);
    let mut object = json!({
        "sequence": record.sequence,
        "time": time,
        "unix_us": since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0)),
    });
    let event = match &record.event {
        AuditEvent::Call(call) => json!({
            "event": "call",
            "component": call.component.text,
            "generation": call.generation,
            "capability": call.capability.text,
            "subject": call.subject.text,
            "subject_cut": call.subject.cut,
            "decision": decision(call.decision),
            "rule": call.rule.text,
            "rule_cut": call.rule.cut,
        }),
        AuditEvent::Opened { cut_bytes } => json!({ "event": "opened", "cut_bytes": cut_bytes }),
        AuditEvent::Lost { entries } => json!({ "event": "lost", "entries": entries }),
        AuditEvent::Closed => json!({ "event": "closed" }),
        other => json!({ "event": format!("{other:?}") }),
    };
    if let (Some(object), Value::Object(event)) = (object.as_object_mut(), event) {
        object.extend(event);
    }
    object
}

fn finding_json(finding: &AuditFinding) -> Value {
    let through = match finding.fault {
        AuditFault::Missing { through }
        | AuditFault::SegmentMissing { through }
        | AuditFault::Damaged { through, .. } => Some(through),
        _ => None,
    };
    json!({
        "kind": finding.fault.as_str(),
        "segment": finding.segment,
        "record": finding.sequence,
        "through": through,
        "message": finding.to_string(),
    })
}
