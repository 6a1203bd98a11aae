//! What a caller tells the log: one host call that needed a grant.

/// Most bytes of a component's name on record; a replica's name is the longest.
pub(crate) const COMPONENT_BYTES: usize = 128;
/// Most bytes of a capability's name on record.
pub(crate) const CAPABILITY_BYTES: usize = 32;
/// Most bytes of a subject on record.
pub(crate) const SUBJECT_BYTES: usize = 1024;
/// Most bytes of a rule on record.
pub(crate) const RULE_BYTES: usize = 512;

/// Bytes of a call's record before its texts: decision, marks, generation, four lengths.
const CALL_BYTES: usize = 1 + 1 + 8 + 4 * 2;
/// Most bytes of a call's record, its texts included.
pub(crate) const MAX_CALL_BYTES: usize =
    CALL_BYTES + COMPONENT_BYTES + CAPABILITY_BYTES + SUBJECT_BYTES + RULE_BYTES;

/// Whether the call was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditDecision {
    /// A grant allows it.
    Allow,
    /// No grant does.
    Deny,
}

/// A host call that needed a grant.
///
/// Texts longer than their bound are cut at a character and marked as cut.
#[derive(Debug, Clone, Copy)]
pub struct AuditEntry<'a> {
    /// Who: the component's name in the tree, at most 128 bytes.
    pub component: &'a str,
    /// Which incarnation of it.
    pub generation: u64,
    /// Kind of capability such as `filesystem`, at most 32 bytes.
    pub capability: &'a str,
    /// What it is about, such as `read data/x.txt`, at most 1024 bytes. May be a guest's own text.
    pub subject: &'a str,
    /// What was decided.
    pub decision: AuditDecision,
    /// The rule that decided; for a denial the grant that is missing, as TOML. At most 512 bytes.
    pub rule: &'a str,
}

/// A text within its bound.
#[derive(Debug, Clone, Copy)]
struct Clipped<'a> {
    text: &'a str,
    cut: bool,
}

fn clipped(text: &str, limit: usize) -> Clipped<'_> {
    let end = text.floor_char_boundary(limit);
    Clipped {
        text: text.get(..end).unwrap_or_default(),
        cut: end < text.len(),
    }
}

/// An entry whose texts are within their bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounded<'a> {
    generation: u64,
    decision: AuditDecision,
    texts: [Clipped<'a>; 4],
}

impl<'a> From<AuditEntry<'a>> for Bounded<'a> {
    fn from(entry: AuditEntry<'a>) -> Self {
        Self {
            generation: entry.generation,
            decision: entry.decision,
            texts: [
                clipped(entry.component, COMPONENT_BYTES),
                clipped(entry.capability, CAPABILITY_BYTES),
                clipped(entry.subject, SUBJECT_BYTES),
                clipped(entry.rule, RULE_BYTES),
            ],
        }
    }
}

impl Bounded<'_> {
    /// Bytes that [`Bounded::write`] adds.
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.texts.iter().map(|clipped| clipped.text.len());
        CALL_BYTES + texts.sum::<usize>()
    }

    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.push(match self.decision {
            AuditDecision::Deny => 0,
            AuditDecision::Allow => 1,
        });
        let marks = self.texts.iter().rev();
        to.push(marks.fold(0, |marks, clipped| marks << 1 | u8::from(clipped.cut)));
        to.extend_from_slice(&self.generation.to_le_bytes());
        for clipped in &self.texts {
            // Every bound is below 65536.
            let length = u16::try_from(clipped.text.len()).unwrap_or(u16::MAX);
            to.extend_from_slice(&length.to_le_bytes());
        }
        for clipped in &self.texts {
            to.extend_from_slice(clipped.text.as_bytes());
        }
    }
}
