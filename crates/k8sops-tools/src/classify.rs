//! What a call does to the world, and who says so: the operator, then what is known of the tool, then its server's hints.

use serde_json::{Map, Value};

use super::effects::{self, Judged, Sensitive};
use crate::{ApprovalMode, ToolRule};
use k8sops_core::ToolEffect;
use k8sops_mcp::RemoteTool;

/// A call that is to be judged.
pub(super) struct Candidate<'a> {
    /// The server that would run it.
    pub(super) server: &'a str,
    /// The tool as the server describes it.
    pub(super) tool: &'a RemoteTool,
    /// What it would be called with; `None` when the tool as such is judged.
    pub(super) arguments: Option<&'a Map<String, Value>>,
    /// The operator's rules.
    pub(super) rules: &'a [ToolRule],
}

/// An effect and where it comes from, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) effect: ToolEffect,
    pub(super) reason: String,
    /// What is known of secrets in its output.
    pub(super) sensitive: Option<Sensitive>,
    /// What the operator says of its approval.
    pub(super) approval: Option<ApprovalMode>,
}

/// Someone who may know; `None` when they do not.
type Source = fn(&Candidate<'_>) -> Option<Verdict>;

/// Those who know, in the order of their word's weight. The first that knows decides.
const SOURCES: &[Source] = &[knowledge, annotations];

/// Judges a call. Whoever is not known to be harmless is not. The operator's rule comes first; what it leaves open is
/// decided as without it.
pub(super) fn classify(candidate: &Candidate<'_>) -> Verdict {
    let mut verdict = SOURCES.iter().find_map(|source| source(candidate)).unwrap_or_else(|| Verdict {
        effect: ToolEffect::Mutating,
        reason: format!("no annotation by server {}: treated as mutating", candidate.server),
        sensitive: None,
        approval: None,
    });
    if let Some(rule) = rule(candidate) {
        let colon = if rule.reason.is_some() { ": " } else { "" };
        verdict.reason = format!("the operator's rule{colon}{}", rule.reason.as_deref().unwrap_or_default());
        verdict.effect = rule.effect.unwrap_or(verdict.effect);
        verdict.approval = rule.approval;
    }
    verdict
}

/// The first of the operator's rules that is about the call. A rule on arguments says nothing of a tool as such.
fn rule<'a>(candidate: &Candidate<'a>) -> Option<&'a ToolRule> {
    let none = Map::new();
    candidate.rules.iter().find(|rule| {
        (candidate.arguments.is_some() || !rule.needs_arguments())
            && rule.matches(candidate.server, &candidate.tool.name, candidate.arguments.unwrap_or(&none))
    })
}

/// What is known of the command lines of kubectl, helm and argocd, and of the tools of the common servers.
fn knowledge(candidate: &Candidate<'_>) -> Option<Verdict> {
    let none = Map::new();
    let Judged { effect, sensitive, reason } =
        effects::judge(&candidate.tool.name, candidate.arguments.unwrap_or(&none))?;
    Some(Verdict { effect, reason, sensitive, approval: None })
}

/// The server's own hints.
fn annotations(candidate: &Candidate<'_>) -> Option<Verdict> {
    let hints = candidate.tool.hints;
    let (effect, hint) = match (hints.read_only, hints.idempotent, hints.destructive) {
        (Some(true), _, _) => (ToolEffect::Read, "readOnlyHint"),
        (_, Some(true), _) => (ToolEffect::Idempotent, "idempotentHint"),
        (_, _, Some(true)) => (ToolEffect::Mutating, "destructiveHint"),
        (Some(false), _, _) => (ToolEffect::Mutating, "readOnlyHint=false"),
        _ => return None,
    };
    let reason = format!("annotated {hint} by server {}", candidate.server);
    Some(Verdict { effect, reason, sensitive: None, approval: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8sops_mcp::ToolHints;

    fn verdict(hints: ToolHints) -> (ToolEffect, String) {
        let tool = RemoteTool { name: "t".into(), description: String::new(), input_schema: Map::new(), hints };
        let verdict = classify(&Candidate { server: "prod", tool: &tool, arguments: None, rules: &[] });
        (verdict.effect, verdict.reason)
    }

    #[test]
    fn hints_decide_and_their_absence_means_mutating() {
        let none = ToolHints::default();
        assert_eq!(verdict(none), (ToolEffect::Mutating, "no annotation by server prod: treated as mutating".into()));
        assert_eq!(
            verdict(ToolHints { read_only: Some(true), ..none }),
            (ToolEffect::Read, "annotated readOnlyHint by server prod".into())
        );
        assert_eq!(
            verdict(ToolHints { idempotent: Some(true), read_only: Some(false), ..none }),
            (ToolEffect::Idempotent, "annotated idempotentHint by server prod".into())
        );
        assert_eq!(
            verdict(ToolHints { destructive: Some(true), ..none }),
            (ToolEffect::Mutating, "annotated destructiveHint by server prod".into())
        );
    }

    #[test]
    fn read_only_wins_over_the_hints_that_mean_nothing_then() {
        let hints =
            ToolHints { read_only: Some(true), destructive: Some(true), idempotent: Some(true), open_world: None };
        assert_eq!(verdict(hints).0, ToolEffect::Read);
    }
}
