//! Effect of a call, and the source that decides it: the operator's rules, then the classifier, then the annotations of the
//! tool's server.

use serde_json::{Map, Value};

use k8sops_classifier::{
    Classification, EffectClass, SensitiveOutput, ServerReach, ToolDescription, classify_tool_call,
};
use k8sops_core::ToolEffect;
use k8sops_mcp::{RemoteTool, ServerScope};

use crate::{
    ApprovalMode, StaleApproval, ToolRule, UntrustedWord,
    approval_gate::{CallFacts, CallReach, PlaceholderUse},
};

/// A call whose effect is to be decided.
pub(crate) struct CallCandidate<'a> {
    /// Name of the server.
    pub(crate) server: &'a str,
    /// The tool as its server lists it.
    pub(crate) tool: &'a RemoteTool,
    /// Whose calls a process of the server serves.
    pub(crate) scope: ServerScope,
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
    /// Whether nothing says what the tool does.
    pub(crate) is_assumed: bool,
    /// What the operator's rule says about an approval whose preview does not hold any more.
    pub(crate) on_stale: Option<StaleApproval>,
}

impl EffectDecision {
    /// Returns the reason of the effect as people see it.
    pub(crate) fn displayed_reason(&self) -> String {
        let redacted = if self.sensitive_output.is_some() { "; secrets in its output are redacted" } else { "" };
        format!("{}{redacted}", self.reason)
    }

    /// Returns what an approval of the call depends on.
    pub(crate) fn facts<'a>(
        &'a self,
        placeholders: PlaceholderUse,
        untrusted_word: Option<&'a UntrustedWord>,
    ) -> CallFacts<'a> {
        let Self { effect, ref reason, reach, .. } = *self;
        CallFacts { effect, reason, reach, placeholders, untrusted_word }
    }
}

/// Decides the effect of a call. A tool that is not known to be read-only is treated as mutating. The operator's rule comes
/// first; what it leaves open is decided as if there were no rule.
pub(crate) fn decide_effect(candidate: &CallCandidate<'_>) -> EffectDecision {
    let known = decide_by_classifier(candidate).or_else(|| decide_by_annotations(candidate));
    let is_assumed = known.is_none();
    let mut decision = known.unwrap_or_else(|| EffectDecision {
        is_assumed,
        effect: ToolEffect::Mutating,
        reason: format!("no annotation by server {}: treated as mutating", candidate.server),
        reach: CallReach::default(),
        sensitive_output: None,
        approval: None,
        on_stale: None,
    });
    if let Some(rule) = find_rule(candidate) {
        let colon = if rule.reason.is_some() { ": " } else { "" };
        decision.reason = format!("the operator's rule{colon}{}", rule.reason.as_deref().unwrap_or_default());
        decision.is_assumed &= rule.effect.is_none();
        decision.effect = rule.effect.unwrap_or(decision.effect);
        decision.approval = rule.approval;
        decision.on_stale = rule.on_stale;
    }
    decision
}

/// Whether the operator's rule on a preview, if there is one, lets it run without a question.
pub(crate) fn does_rule_allow_preview(candidate: &CallCandidate<'_>) -> bool {
    find_rule(candidate).is_none_or(|rule| {
        rule.effect.is_none_or(|effect| effect == ToolEffect::Read)
            && rule.approval.is_none_or(|approval| approval == ApprovalMode::Auto)
    })
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
    let Classification { effect, sensitive_output, reach, reason } =
        classify_tool_call(&describe_tool(candidate.tool), candidate.arguments.unwrap_or(&no_arguments))?;
    let effect = match effect {
        EffectClass::Read => ToolEffect::Read,
        EffectClass::Idempotent => ToolEffect::Idempotent,
        EffectClass::Mutating => ToolEffect::Mutating,
    };
    // The one place where facts of the classifier about other machines and sessions become what the gate looks at.
    let reach = CallReach {
        changes_shared_server: reach == ServerReach::ServerState && candidate.scope == ServerScope::Shared,
        reads_server_files: matches!(reach, ServerReach::Manifests | ServerReach::ServerFiles),
    };
    Some(EffectDecision { effect, reason, reach, sensitive_output, approval: None, is_assumed: false, on_stale: None })
}

/// Returns what the classifier looks at.
pub(crate) fn describe_tool(tool: &RemoteTool) -> ToolDescription<'_> {
    ToolDescription {
        name: &tool.name,
        title: tool.title.as_deref(),
        description: &tool.description,
        input_schema: Some(&tool.input_schema),
    }
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
    Some(EffectDecision {
        is_assumed: false,
        effect,
        reason,
        reach: CallReach::default(),
        sensitive_output: None,
        approval: None,
        on_stale: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8sops_mcp::ToolHints;

    fn decision(hints: ToolHints) -> (ToolEffect, String) {
        let tool =
            RemoteTool { name: "t".into(), title: None, description: String::new(), input_schema: Map::new(), hints };
        let decision = decide_effect(&CallCandidate {
            server: "prod",
            tool: &tool,
            scope: ServerScope::Shared,
            arguments: None,
            rules: &[],
        });
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

    fn decide_call(name: &str, arguments: &serde_json::Value, rules: &[ToolRule]) -> EffectDecision {
        let hints = ToolHints::default();
        let tool =
            RemoteTool { name: name.into(), title: None, description: String::new(), input_schema: Map::new(), hints };
        let arguments = arguments.as_object();
        decide_effect(&CallCandidate { server: "prod", tool: &tool, scope: ServerScope::Shared, arguments, rules })
    }

    #[test]
    fn rule_that_calls_a_tool_read_only_keeps_redaction_and_reach() {
        let rule = ToolRule {
            server: None,
            tool: None,
            arguments: std::collections::BTreeMap::new(),
            effect: Some(ToolEffect::Read),
            approval: None,
            on_stale: None,
            reason: None,
        };
        let rules = [rule];
        for (line, sensitive_output, reads_server_files) in [
            ("get secret db -o jsonpath={.data.password}", Some(SensitiveOutput::Values), false),
            ("get secret db -o yaml > x", Some(SensitiveOutput::Objects), false),
            ("create cm x --from-file=/etc/x --dry-run=client -o yaml", Some(SensitiveOutput::Objects), true),
        ] {
            let decision = decide_call("k8s_kubectl_execute", &serde_json::json!({"command": line}), &rules);
            assert_eq!(decision.effect, ToolEffect::Read, "{line}");
            assert_eq!(decision.sensitive_output, sensitive_output, "{line}");
            assert_eq!(decision.reach.reads_server_files, reads_server_files, "{line}");
        }
    }

    #[test]
    fn change_of_the_server_process_is_a_fact_of_the_call() {
        let changes =
            |name: &str, arguments: serde_json::Value| decide_call(name, &arguments, &[]).reach.changes_shared_server;
        assert!(changes("kubectl_context", serde_json::json!({"operation": "set", "name": "prod"})));
        assert!(changes("k8s_kubectl_execute", serde_json::json!({"command": "config use-context prod"})));
        assert!(!changes("kubectl_context", serde_json::json!({"operation": "list"})));
        assert!(!changes("k8s_kubectl_execute", serde_json::json!({"command": "get pods --context prod"})));
    }

    #[test]
    fn process_of_one_session_may_be_changed() {
        let hints = ToolHints::default();
        let tool = RemoteTool {
            name: "kubectl_context".into(),
            title: None,
            description: String::new(),
            input_schema: Map::new(),
            hints,
        };
        let arguments = serde_json::json!({"operation": "set", "name": "prod"});
        for (scope, expected) in
            [(ServerScope::Shared, true), (ServerScope::User, false), (ServerScope::Session, false)]
        {
            let candidate =
                CallCandidate { server: "prod", tool: &tool, scope, arguments: arguments.as_object(), rules: &[] };
            let decision = decide_effect(&candidate);
            assert_eq!(decision.reach.changes_shared_server, expected, "{scope:?}");
            assert_eq!(decision.effect, ToolEffect::Mutating, "{scope:?}");
        }
    }

    #[test]
    fn read_only_hint_overrides_other_hints() {
        let hints =
            ToolHints { read_only: Some(true), destructive: Some(true), idempotent: Some(true), open_world: None };
        assert_eq!(decision(hints).0, ToolEffect::Read);
    }
}
