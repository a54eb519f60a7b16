//! Options of this crate: the approval policy, the operator's rules and the output budget.

use std::{collections::BTreeMap, time::Duration};

use k8sops_core::ToolEffect;
use regex::Regex;

/// Policy on tools.
#[derive(Debug, Clone)]
pub struct ToolsConfig {
    /// `TOOL_APPROVAL` (`ask`).
    pub approval: ApprovalMode,
    /// `TOOL_APPROVAL_BY`: who answers requests for approval (`owner`).
    pub approval_by: ApprovalBy,
    /// How long a request for approval stands (1 h).
    pub approval_ttl: Duration,
    /// Whether `auto` covers a call whose arguments come from what a tool returned (no).
    pub approve_untrusted: bool,
    /// The operator's rules, in their order; the first that matches a call decides.
    pub rules: Vec<ToolRule>,
    /// The most bytes of a tool's output that the model and the log get (65536).
    pub max_output_bytes: usize,
    /// The most tokens of it (8000).
    pub max_output_tokens: usize,
    /// The most of it as a share of what the model can take in, in percent (10).
    pub max_output_share: usize,
    /// The most bytes of whole outputs that are kept of one session; the oldest make room (256 MiB).
    pub keep_output_bytes: usize,
}

/// What happens to a call that is not `read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalMode {
    /// A user must approve.
    Ask,
    /// It runs.
    Auto,
    /// It never runs.
    Deny,
}

/// Who answers a session's requests for approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalBy {
    /// The session's user.
    Owner,
    /// Somebody with the role `approver` who is not the session's user.
    Approver,
}

impl ApprovalMode {
    /// Parses `ask`, `auto` or `deny`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ask" => Some(Self::Ask),
            "auto" => Some(Self::Auto),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }
}

/// A rule of `tools.rules`. The first that matches a call says what it says; what it leaves open is judged as without it.
#[derive(Debug, Clone)]
pub struct ToolRule {
    /// Servers by name (`*` for any characters, `?` for one); `None`: all.
    pub server: Option<Regex>,
    /// Tools by the name that their server has for them, in the same way; `None`: all.
    pub tool: Option<Regex>,
    /// Arguments that the call must have, each matched whole (text as it is, anything else as JSON).
    pub arguments: BTreeMap<String, Regex>,
    /// What such a call does to the world.
    pub effect: Option<ToolEffect>,
    /// Whether it needs approval, whatever `TOOL_APPROVAL` says.
    pub approval: Option<ApprovalMode>,
    /// Why, for whoever is asked.
    pub reason: Option<String>,
}

impl ToolRule {
    /// Whether a call is one that the rule is about.
    #[must_use]
    pub fn matches(&self, server: &str, tool: &str, arguments: &serde_json::Map<String, serde_json::Value>) -> bool {
        self.server.as_ref().is_none_or(|server_is| server_is.is_match(server))
            && self.tool.as_ref().is_none_or(|tool_is| tool_is.is_match(tool))
            && self.arguments.iter().all(|(name, is)| match arguments.get(name) {
                Some(serde_json::Value::String(text)) => is.is_match(text),
                Some(other) => is.is_match(&other.to_string()),
                None => false,
            })
    }

    /// Whether the rule looks at arguments.
    #[must_use]
    pub fn needs_arguments(&self) -> bool {
        !self.arguments.is_empty()
    }
}
