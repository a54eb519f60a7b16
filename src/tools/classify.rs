//! What a call does to the world, and who says so.
//!
//! No source looks at the arguments yet; the first that does brings them into [`Candidate`].

use crate::{mcp::RemoteTool, session::Effect};

/// A call that is to be judged.
pub(super) struct Candidate<'a> {
    /// The server that would run it.
    pub(super) server: &'a str,
    /// The tool as the server describes it.
    pub(super) tool: &'a RemoteTool,
}

/// An effect and where it comes from, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) effect: Effect,
    pub(super) reason: String,
}

/// Someone who may know; `None` when they do not.
type Source = fn(&Candidate<'_>) -> Option<Verdict>;

/// The sources in the order of their word's weight. The first that knows decides.
const SOURCES: &[Source] = &[annotations];

/// Judges a call. Whoever is not known to be harmless is not.
pub(super) fn classify(candidate: &Candidate<'_>) -> Verdict {
    SOURCES.iter().find_map(|source| source(candidate)).unwrap_or_else(|| Verdict {
        effect: Effect::Mutating,
        reason: format!("no annotation by server {}: treated as mutating", candidate.server),
    })
}

/// The server's own hints.
fn annotations(candidate: &Candidate<'_>) -> Option<Verdict> {
    let hints = candidate.tool.hints;
    let (effect, hint) = match (hints.read_only, hints.idempotent, hints.destructive) {
        (Some(true), _, _) => (Effect::Read, "readOnlyHint"),
        (_, Some(true), _) => (Effect::Idempotent, "idempotentHint"),
        (_, _, Some(true)) => (Effect::Mutating, "destructiveHint"),
        (Some(false), _, _) => (Effect::Mutating, "readOnlyHint=false"),
        _ => return None,
    };
    Some(Verdict { effect, reason: format!("annotated {hint} by server {}", candidate.server) })
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::mcp::ToolHints;

    fn verdict(hints: ToolHints) -> (Effect, String) {
        let tool = RemoteTool { name: "t".into(), description: String::new(), input_schema: Map::new(), hints };
        let verdict = classify(&Candidate { server: "prod", tool: &tool });
        (verdict.effect, verdict.reason)
    }

    #[test]
    fn hints_decide_and_their_absence_means_mutating() {
        let none = ToolHints::default();
        assert_eq!(verdict(none), (Effect::Mutating, "no annotation by server prod: treated as mutating".into()));
        assert_eq!(
            verdict(ToolHints { read_only: Some(true), ..none }),
            (Effect::Read, "annotated readOnlyHint by server prod".into())
        );
        assert_eq!(
            verdict(ToolHints { idempotent: Some(true), read_only: Some(false), ..none }),
            (Effect::Idempotent, "annotated idempotentHint by server prod".into())
        );
        assert_eq!(
            verdict(ToolHints { destructive: Some(true), ..none }),
            (Effect::Mutating, "annotated destructiveHint by server prod".into())
        );
    }

    #[test]
    fn read_only_wins_over_the_hints_that_mean_nothing_then() {
        let hints =
            ToolHints { read_only: Some(true), destructive: Some(true), idempotent: Some(true), open_world: None };
        assert_eq!(verdict(hints).0, Effect::Read);
    }
}
