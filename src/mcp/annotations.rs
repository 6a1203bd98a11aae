//! What a component's author says of a tool, in the comment above the function in its WIT.
//!
//! The last lines of the comment that begin with `@` are not for people:
//!
//! - `@title TEXT`: what to call it in a list
//! - `@readonly`: it changes nothing
//! - `@destructive` or `@additive`: what it changes is lost, or only added to
//! - `@idempotent`: the same call again changes nothing more
//! - `@openworld` or `@closedworld`: whether it reaches beyond the host
//!
//! They are hints, as the protocol has them: nothing is allowed or denied because of one. What is
//! not said is not told either. A line that is none of these stays in the description, and so do all
//! lines above it.

use rmcp::model::ToolAnnotations;

/// The comment without its last lines that are annotations, and those.
pub(super) fn annotated(comment: &str) -> (String, Option<ToolAnnotations>) {
    let mut annotations = ToolAnnotations::new();
    let mut text = comment.trim_end();
    let mut any = false;
    loop {
        let (before, last) = text.rsplit_once('\n').unwrap_or(("", text));
        let Some(more) = annotation(last.trim(), &annotations) else {
            break;
        };
        annotations = more;
        any = true;
        text = before.trim_end();
    }
    (text.to_owned(), any.then_some(annotations))
}

fn annotation(line: &str, so_far: &ToolAnnotations) -> Option<ToolAnnotations> {
    let so_far = so_far.clone();
    Some(match line {
        "@readonly" => so_far.read_only(true),
        "@destructive" => so_far.destructive(true),
        "@additive" => so_far.destructive(false),
        "@idempotent" => so_far.idempotent(true),
        "@openworld" => so_far.open_world(true),
        "@closedworld" => so_far.open_world(false),
        line => {
            let title = line.strip_prefix("@title ")?.trim();
            let mut titled = so_far;
            titled.title = Some(title.to_owned());
            titled
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

    use super::*;

    #[test]
    fn annotations_at_the_end_are_taken_out_of_the_description() {
        let (text, annotations) = annotated("Reads a file.\nAll of it.\n@title Read\n@readonly\n");
        assert_eq!(text, "Reads a file.\nAll of it.");
        let annotations = annotations.unwrap();
        assert_eq!(annotations.title.as_deref(), Some("Read"));
        assert_eq!(annotations.read_only_hint, Some(true));
        assert_eq!(annotations.destructive_hint, None);
    }

    #[test]
    fn a_line_that_is_no_annotation_stays_with_all_above_it() {
        let (text, annotations) = annotated("Sends.\n@readonly\n@someday soon\n@idempotent");
        assert_eq!(text, "Sends.\n@readonly\n@someday soon");
        let annotations = annotations.unwrap();
        assert_eq!(annotations.read_only_hint, None);
        assert_eq!(annotations.idempotent_hint, Some(true));
    }

    #[test]
    fn a_comment_of_annotations_alone_leaves_nothing() {
        assert_eq!(annotated("@destructive").0, "");
        assert_eq!(annotated("Adds."), (String::from("Adds."), None));
    }
}
