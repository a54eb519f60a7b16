//! The one place that decides whether a call runs, waits for a user's approval, or is rejected.
//!
//! [`decide_approval`] is pure: it gets everything that counts as a parameter, and everything that a call is asked about or
//! rejected for is in its table. In this order:
//!
//! 1. an approval mode of the operator's rule;
//! 2. a change of a server process that others use, too: rejected;
//! 3. a change where the operator allows none: rejected;
//! 4. the value of a secret in the arguments, or a file of the server's machine: asked, whatever the effect;
//! 5. a call that only reads: runs;
//! 6. the operator's setting, which for `auto` also looks at where the words of the arguments come from.

use serde::Serialize;
use utoipa::ToSchema;

use k8sops_core::ToolEffect;

use crate::ApprovalMode;

/// Whether a call runs, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalRequirement {
    /// The call runs immediately.
    Run,
    /// A user must approve the call.
    Ask {
        /// Why, for the person who is asked.
        reason: String,
    },
    /// The call never runs.
    Deny {
        /// Why, for the model and for a person to read.
        reason: String,
    },
}

/// Whether a call needs a user's approval before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Gate)]
pub enum ToolGate {
    /// The call runs immediately.
    #[serde(rename = "open")]
    Open,
    /// The call runs immediately, unless its arguments come from the output of a tool; then a user must approve it.
    #[serde(rename = "trusted")]
    Trusted,
    /// A user must approve the call.
    #[serde(rename = "ask")]
    Ask,
    /// The call never runs.
    #[serde(rename = "deny")]
    Deny,
}

/// What is known about a call before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallFacts<'a> {
    /// Effect of the call on the cluster.
    pub(crate) effect: ToolEffect,
    /// Where the effect comes from, for a person to read.
    pub(crate) reason: &'a str,
    /// What the call does beyond its effect on the cluster.
    pub(crate) reach: CallReach,
    /// Whether the arguments contain placeholders, which become the values of secrets when the call is sent.
    pub(crate) placeholders: PlaceholderUse,
    /// A word of the arguments that no user said; `None` if there is none.
    pub(crate) untrusted_word: Option<&'a UntrustedWord>,
}

/// What a call does beyond its effect on the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CallReach {
    /// It changes the state of the server's process, such as the cluster that the server talks to, and other sessions use
    /// that process, too.
    pub(crate) changes_shared_server: bool,
    /// It reads a file of the machine on which the server runs.
    pub(crate) reads_server_files: bool,
}

/// Whether the arguments of a call contain placeholders of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceholderUse {
    None,
    Present,
}

/// A word of the arguments that occurs outside of what the user said, and in no message of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntrustedWord {
    /// The word.
    pub word: String,
    /// Where it occurs, such as `the output of pods_log`.
    pub source: String,
}

/// What the operator has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ApprovalSettings {
    /// Approval that the rule which matches the call demands.
    pub(crate) rule: Option<ApprovalMode>,
    /// `TOOL_APPROVAL`.
    pub(crate) default: ApprovalMode,
    /// `TOOL_APPROVAL_UNTRUSTED`: whether `auto` also covers words that no user said.
    pub(crate) approve_untrusted: bool,
}

/// Decides whether a call runs, waits for an approval, or is rejected.
pub(crate) fn decide_approval(call: &CallFacts<'_>, settings: ApprovalSettings) -> ApprovalRequirement {
    let CallFacts { effect, reason, reach, placeholders, untrusted_word } = *call;
    match settings.rule {
        Some(ApprovalMode::Auto) => return ApprovalRequirement::Run,
        Some(ApprovalMode::Deny) => return deny(reason, "the operator's rule forbids it"),
        Some(ApprovalMode::Ask) | None => {}
    }
    if reach.changes_shared_server && settings.rule.is_none() {
        return deny(
            reason,
            "it would change the server's process, which other sessions use, too; name the cluster or context in the \
             arguments of each call instead, or ask the operator for a server with a scope of its own",
        );
    }
    let is_read = effect == ToolEffect::Read;
    if !is_read && settings.rule.is_none() && settings.default == ApprovalMode::Deny {
        return deny(reason, "this call would change something, and the operator allows none");
    }
    let mut causes = Vec::new();
    if placeholders == PlaceholderUse::Present {
        // An attacker who can write to a log could otherwise make the model send a secret anywhere, even by a call that only
        // reads.
        causes.push("it sends the value of a secret to the tool".to_owned());
    }
    if reach.reads_server_files {
        causes.push("it reads a file of the machine on which the server runs".to_owned());
    }
    let runs_on_trust = settings.rule.is_none() && settings.default == ApprovalMode::Auto;
    if !is_read
        && runs_on_trust
        && !settings.approve_untrusted
        && let Some(UntrustedWord { word, source }) = untrusted_word
    {
        causes.push(format!("{word:?} in its arguments comes from {source}"));
    }
    let asks_anyway = settings.rule.is_some() || (!is_read && !runs_on_trust);
    if !asks_anyway && causes.is_empty() {
        return ApprovalRequirement::Run;
    }
    let reason = std::iter::once(reason.to_owned()).chain(causes).collect::<Vec<_>>().join("; ");
    ApprovalRequirement::Ask { reason }
}

fn deny(effect_reason: &str, why: &str) -> ApprovalRequirement {
    ApprovalRequirement::Deny { reason: format!("{why} ({effect_reason})") }
}

/// Returns what happens to the calls of a tool, as far as it does not depend on their arguments.
pub(crate) fn decide_tool_gate(call: &CallFacts<'_>, settings: ApprovalSettings) -> ToolGate {
    let outside = UntrustedWord { word: String::new(), source: String::new() };
    let with_user_words = decide_approval(&CallFacts { untrusted_word: None, ..*call }, settings);
    let with_outside_words = decide_approval(&CallFacts { untrusted_word: Some(&outside), ..*call }, settings);
    match (with_user_words, with_outside_words) {
        (ApprovalRequirement::Deny { .. }, _) | (_, ApprovalRequirement::Deny { .. }) => ToolGate::Deny,
        (ApprovalRequirement::Ask { .. }, _) => ToolGate::Ask,
        (ApprovalRequirement::Run, ApprovalRequirement::Ask { .. }) => ToolGate::Trusted,
        (ApprovalRequirement::Run, ApprovalRequirement::Run) => ToolGate::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ApprovalMode::{Ask, Auto, Deny};
    use ToolEffect::{Idempotent, Mutating, Read};

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Expected {
        Runs,
        Asks,
        Denied,
    }
    use Expected::{Asks, Denied, Runs};

    /// What is special about a call.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Special {
        Nothing,
        Placeholder,
        OutsideWord,
        ServerFile,
        SharedServer,
    }
    use Special::{Nothing, OutsideWord, Placeholder, ServerFile, SharedServer};

    fn decide(effect: ToolEffect, special: Special, settings: ApprovalSettings) -> ApprovalRequirement {
        let word = UntrustedWord { word: "billing-prod".into(), source: "the output of pods_log".into() };
        let facts = CallFacts {
            effect,
            reason: "by test",
            reach: CallReach {
                changes_shared_server: special == SharedServer,
                reads_server_files: special == ServerFile,
            },
            placeholders: if special == Placeholder { PlaceholderUse::Present } else { PlaceholderUse::None },
            untrusted_word: (special == OutsideWord).then_some(&word),
        };
        decide_approval(&facts, settings)
    }

    /// The safety of all tool calls, in one table: every effect with everything that may be special about a call, under every
    /// rule and setting.
    #[test]
    fn table_of_all_decisions() {
        // (effect, special, no rule: ask / auto / auto with TOOL_APPROVAL_UNTRUSTED / deny)
        let table = [
            (Read, Nothing, [Runs, Runs, Runs, Runs]),
            (Read, OutsideWord, [Runs, Runs, Runs, Runs]),
            (Read, Placeholder, [Asks, Asks, Asks, Asks]),
            (Read, ServerFile, [Asks, Asks, Asks, Asks]),
            (Read, SharedServer, [Denied, Denied, Denied, Denied]),
            (Idempotent, Nothing, [Asks, Runs, Runs, Denied]),
            (Idempotent, OutsideWord, [Asks, Asks, Runs, Denied]),
            (Idempotent, Placeholder, [Asks, Asks, Asks, Denied]),
            (Idempotent, ServerFile, [Asks, Asks, Asks, Denied]),
            (Idempotent, SharedServer, [Denied, Denied, Denied, Denied]),
            (Mutating, Nothing, [Asks, Runs, Runs, Denied]),
            (Mutating, OutsideWord, [Asks, Asks, Runs, Denied]),
            (Mutating, Placeholder, [Asks, Asks, Asks, Denied]),
            (Mutating, ServerFile, [Asks, Asks, Asks, Denied]),
            (Mutating, SharedServer, [Denied, Denied, Denied, Denied]),
        ];
        let defaults = [(Ask, false), (Auto, false), (Auto, true), (Deny, false)];
        for (effect, special, expected) in table {
            for ((default, approve_untrusted), expected) in defaults.into_iter().zip(expected) {
                for (rule, expected) in [(None, expected), (Some(Auto), Runs), (Some(Ask), Asks), (Some(Deny), Denied)]
                {
                    let settings = ApprovalSettings { rule, default, approve_untrusted };
                    let decided = match decide(effect, special, settings) {
                        ApprovalRequirement::Run => Runs,
                        ApprovalRequirement::Ask { .. } => Asks,
                        ApprovalRequirement::Deny { .. } => Denied,
                    };
                    assert_eq!(decided, expected, "{effect:?} {special:?} {settings:?}");
                }
            }
        }
    }

    #[test]
    fn reason_names_every_cause() {
        let settings = ApprovalSettings { rule: None, default: Auto, approve_untrusted: false };
        let ApprovalRequirement::Ask { reason } = decide(Mutating, OutsideWord, settings) else { panic!("it asks") };
        assert_eq!(reason, "by test; \"billing-prod\" in its arguments comes from the output of pods_log");
        let ApprovalRequirement::Ask { reason } = decide(Read, Placeholder, settings) else { panic!("it asks") };
        assert_eq!(reason, "by test; it sends the value of a secret to the tool");
        let settings = ApprovalSettings { default: Deny, ..settings };
        let ApprovalRequirement::Deny { reason } = decide(Mutating, Nothing, settings) else { panic!("it is denied") };
        assert_eq!(reason, "this call would change something, and the operator allows none (by test)");
    }

    #[test]
    fn gate_of_a_tool_shows_what_depends_on_the_arguments() {
        let facts = |effect| CallFacts {
            effect,
            reason: "by test",
            reach: CallReach::default(),
            placeholders: PlaceholderUse::None,
            untrusted_word: None,
        };
        let gate = |effect, rule, default| {
            decide_tool_gate(&facts(effect), ApprovalSettings { rule, default, approve_untrusted: false })
        };
        assert_eq!(gate(Read, None, Deny), ToolGate::Open);
        assert_eq!(gate(Mutating, None, Ask), ToolGate::Ask);
        assert_eq!(gate(Mutating, None, Auto), ToolGate::Trusted);
        assert_eq!(gate(Mutating, None, Deny), ToolGate::Deny);
        assert_eq!(gate(Mutating, Some(Auto), Deny), ToolGate::Open);
        let wire: Vec<_> = [ToolGate::Open, ToolGate::Trusted, ToolGate::Ask, ToolGate::Deny]
            .iter()
            .map(|gate| serde_json::to_value(gate).unwrap())
            .collect();
        assert_eq!(wire, ["open", "trusted", "ask", "deny"]);
    }
}
