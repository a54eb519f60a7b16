//! Effect of a call, and the source that decides it: the operator's rules, then the classifier, then the annotations of the
//! tool's server.

use serde_json::{Map, Value};

use k8sops_classifier::{Classification, EffectClass, SensitiveOutput, classify_tool_call};
use k8sops_core::ToolEffect;
use k8sops_mcp::RemoteTool;

use crate::{ApprovalMode, ToolRule, approval_gate::CallReach};

/// A call whose effect is to be decided.
pub(crate) struct CallCandidate<'a> {
    /// Name of the server.
    pub(crate) server: &'a str,
    /// The tool as its server lists it.
    pub(crate) tool: &'a RemoteTool,
    /// Arguments of the call; `None` to decide on the tool without a call.
    pub(crate) arguments: Option<&'a Map<String, Value>>,
    /// The operator's rules.
    pub(crate) rules: &'a [ToolRule],
}

/// The effect of a call, and what else is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EffectDecision {
    pub(crate) effect: ToolEffect,
    /// Where the effect comes from, for a person to read.
    pub(crate) reason: String,
    /// What the call does beyond its effect on the cluster.
    pub(crate) reach: CallReach,
    /// How the output may contain secret values.
    pub(crate) sensitive_output: Option<SensitiveOutput>,
    /// Approval that the operator's rule demands.
    pub(crate) approval: Option<ApprovalMode>,
}

/// Decides the effect of a call. A tool that is not known to be read-only is treated as mutating. The operator's rule comes
/// first; what it leaves open is decided as if there were no rule.
pub(crate) fn decide_effect(candidate: &CallCandidate<'_>) -> EffectDecision {
    let known = decide_by_classifier(candidate).or_else(|| decide_by_annotations(candidate));
    let mut decision = known.unwrap_or_else(|| EffectDecision {
        effect: ToolEffect::Mutating,
        reason: format!("no annotation by server {}: treated as mutating", candidate.server),
        reach: CallReach::default(),
        sensitive_output: None,
        approval: None,
    });
    if let Some(rule) = find_rule(candidate) {
        let colon = if rule.reason.is_some() { ": " } else { "" };
        decision.reason = format!("the operator's rule{colon}{}", rule.reason.as_deref().unwrap_or_default());
        decision.effect = rule.effect.unwrap_or(decision.effect);
        decision.approval = rule.approval;
    }
    decision
}

/// Returns the first of the operator's rules that matches the call. A rule about arguments does not match a tool without a
/// call.
fn find_rule<'a>(candidate: &CallCandidate<'a>) -> Option<&'a ToolRule> {
    let no_arguments = Map::new();
    candidate.rules.iter().find(|rule| {
        (candidate.arguments.is_some() || !rule.needs_arguments())
            && rule.matches(candidate.server, &candidate.tool.name, candidate.arguments.unwrap_or(&no_arguments))
    })
}

fn decide_by_classifier(candidate: &CallCandidate<'_>) -> Option<EffectDecision> {
    let no_arguments = Map::new();
    let Classification { effect, sensitive_output, reason } =
        classify_tool_call(&candidate.tool.name, candidate.arguments.unwrap_or(&no_arguments))?;
    let effect = match effect {
        EffectClass::Read => ToolEffect::Read,
        EffectClass::Idempotent => ToolEffect::Idempotent,
        EffectClass::Mutating => ToolEffect::Mutating,
    };
    // The one place where facts of the classifier about other machines and sessions become what the gate looks at.
    let reach = CallReach::default();
    Some(EffectDecision { effect, reason, reach, sensitive_output, approval: None })
}

fn decide_by_annotations(candidate: &CallCandidate<'_>) -> Option<EffectDecision> {
    let hints = candidate.tool.hints;
    let (effect, hint) = match (hints.read_only, hints.idempotent, hints.destructive) {
        (Some(true), _, _) => (ToolEffect::Read, "readOnlyHint"),
        (_, Some(true), _) => (ToolEffect::Idempotent, "idempotentHint"),
        (_, _, Some(true)) => (ToolEffect::Mutating, "destructiveHint"),
        (Some(false), _, _) => (ToolEffect::Mutating, "readOnlyHint=false"),
        _ => return None,
    };
    let reason = format!("annotated {hint} by server {}", candidate.server);
    Some(EffectDecision { effect, reason, reach: CallReach::default(), sensitive_output: None, approval: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8sops_mcp::ToolHints;

    fn decision(hints: ToolHints) -> (ToolEffect, String) {
        let tool = RemoteTool { name: "t".into(), description: String::new(), input_schema: Map::new(), hints };
        let decision = decide_effect(&CallCandidate { server: "prod", tool: &tool, arguments: None, rules: &[] });
        (decision.effect, decision.reason)
    }

    #[test]
    fn annotations_decide_the_effect() {
        let none = ToolHints::default();
        assert_eq!(decision(none), (ToolEffect::Mutating, "no annotation by server prod: treated as mutating".into()));
        assert_eq!(
            decision(ToolHints { read_only: Some(true), ..none }),
            (ToolEffect::Read, "annotated readOnlyHint by server prod".into())
        );
        assert_eq!(
            decision(ToolHints { idempotent: Some(true), read_only: Some(false), ..none }),
            (ToolEffect::Idempotent, "annotated idempotentHint by server prod".into())
        );
        assert_eq!(
            decision(ToolHints { destructive: Some(true), ..none }),
            (ToolEffect::Mutating, "annotated destructiveHint by server prod".into())
        );
    }

    #[test]
    fn read_only_hint_overrides_other_hints() {
        let hints =
            ToolHints { read_only: Some(true), destructive: Some(true), idempotent: Some(true), open_world: None };
        assert_eq!(decision(hints).0, ToolEffect::Read);
    }
}
