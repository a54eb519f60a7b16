//! Options of this crate: the approval policy, the operator's rules and the output budget.

use std::{collections::BTreeMap, time::Duration};

use k8sops_core::ToolEffect;
use k8sops_settings::{
    FieldShape, SettingScope, SettingsSection as _, ValueFormat,
    declaration::{custom, map, optional, required},
    formats::{BOOLEAN, BYTE_SIZE, DURATION, TEXT, whole_number, whole_number_in},
    options, words,
};
use regex::Regex;

options! {
    /// Approval of tool calls, and how much of their output a model gets.
    #[derive(Debug, Clone)]
    pub struct ToolOptions at "tools" {
        /// What happens to a call that is not read-only: a user must approve it, it runs, or it is rejected.
        pub approval: ApprovalMode = required(APPROVAL_MODE, "ask").variable("TOOL_APPROVAL").live(),
        /// Who answers approval requests: the user of the session, or another user with the role approver.
        pub approval_by: ApprovalBy = required(APPROVAL_BY, "owner").variable("TOOL_APPROVAL_BY"),
        /// How long an approval request is open.
        pub approval_ttl: Duration = required(DURATION, "1h").variable("K8SOPS_APPROVAL_TTL").live(),
        /// Whether TOOL_APPROVAL=auto also covers a call whose arguments come from the output of a tool.
        pub approve_untrusted: bool = required(BOOLEAN, "false").variable("TOOL_APPROVAL_UNTRUSTED").live(),
        /// Largest output of a tool that the model and the session log get.
        pub max_output_bytes: usize = required(BYTE_SIZE, "64KiB").variable("K8SOPS_MAX_TOOL_OUTPUT_BYTES"),
        /// Largest output of a tool that the model gets, in tokens.
        pub max_output_tokens: usize =
            required(whole_number(1), "8000").variable("K8SOPS_MAX_TOOL_OUTPUT_TOKENS"),
        /// Largest output of a tool that the model gets, in percent of its context window.
        pub max_output_share: usize =
            required(whole_number_in(1, 100), "10").variable("K8SOPS_MAX_TOOL_OUTPUT_SHARE"),
        /// Tokens that the descriptions of tools may take in a request. If the servers have more, some tools of each are sent
        /// and the model finds the others with `find_tools`.
        pub max_schema_tokens: usize =
            required(whole_number(1), "10000").variable("K8SOPS_MAX_TOOL_SCHEMA_TOKENS").live(),
        /// Tokens that the descriptions of one server's tools may take in a request. If the server has more, those of everyday
        /// work are sent and the model finds the others with `find_tools`.
        pub server_schema_tokens: usize =
            required(whole_number(1), "1000").variable("K8SOPS_SERVER_TOOL_SCHEMA_TOKENS").live(),
        /// Bytes of complete outputs that are kept per session, to be read in pages; the oldest are removed first.
        pub keep_output_bytes: usize = required(BYTE_SIZE, "256MiB").variable("K8SOPS_KEEP_TOOL_OUTPUT_BYTES"),
        /// The operator's rules on tools, in their order; the first that matches a call decides. `config/policy.yaml` is an
        /// example.
        pub rules: Vec<ToolRule> = custom(TEXT, FieldShape::Sections(&ToolRule::SECTION), read_rules).live(),
    }
}

options! {
    /// A rule of `tools.rules`. What it leaves open is decided as without the rule.
    #[derive(Debug, Clone)]
    pub struct ToolRule at "" {
        /// Name of the server; absent: every server.
        pub server: Option<Regex> = optional(NAME_GLOB),
        /// Name of the tool at its server; absent: every tool.
        pub tool: Option<Regex> = optional(NAME_GLOB),
        /// Arguments that the call must have. Text is matched as it is, any other value as JSON.
        pub arguments: BTreeMap<String, Regex> = map(ARGUMENT_PATTERN),
        /// Effect of such a call.
        pub effect: Option<ToolEffect> = optional(TOOL_EFFECT),
        /// Whether such a call needs approval, regardless of TOOL_APPROVAL.
        pub approval: Option<ApprovalMode> = optional(APPROVAL_MODE),
        /// What happens to an approved call whose preview does not hold any more when it is about to run: it is asked again, or
        /// it runs.
        pub on_stale: Option<StaleApproval> = optional(STALE_APPROVAL),
        /// Reason that is shown with an approval request.
        pub reason: Option<String> = optional(TEXT),
    }
}

/// What happens to a call that is not `read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalMode {
    /// A user must approve it.
    Ask,
    /// It runs.
    Auto,
    /// It is rejected.
    Deny,
}

/// What happens to an approved call when what its approval showed has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleApproval {
    /// The approval lapses and is asked again.
    Ask,
    /// The call runs.
    Run,
}

const STALE_APPROVAL: ValueFormat<StaleApproval> = words! { "ask" => StaleApproval::Ask, "run" => StaleApproval::Run };

const APPROVAL_MODE: ValueFormat<ApprovalMode> =
    words! { "ask" => ApprovalMode::Ask, "auto" => ApprovalMode::Auto, "deny" => ApprovalMode::Deny };

/// Who answers the approval requests of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalBy {
    /// The user of the session.
    Owner,
    /// A user with the role `approver` who is not the user of the session.
    Approver,
}

const APPROVAL_BY: ValueFormat<ApprovalBy> =
    words! { "owner" => ApprovalBy::Owner, "approver" => ApprovalBy::Approver };

const TOOL_EFFECT: ValueFormat<ToolEffect> = words! {
    "read" => ToolEffect::Read,
    "idempotent" => ToolEffect::Idempotent,
    "mutating" => ToolEffect::Mutating,
};

const NAME_GLOB: ValueFormat<Regex> =
    ValueFormat::described("a name, with * for any characters and ? for one", |text| Some(compile_glob(text)));

const ARGUMENT_PATTERN: ValueFormat<Regex> =
    ValueFormat::described("a regular expression, which must match the whole argument", compile_pattern).keep_space();

impl ToolRule {
    /// Whether the rule is about a call.
    #[must_use]
    pub fn matches(&self, server: &str, tool: &str, arguments: &serde_json::Map<String, serde_json::Value>) -> bool {
        self.concerns_tool(server, tool)
            && self.arguments.iter().all(|(name, pattern)| match arguments.get(name) {
                Some(serde_json::Value::String(text)) => pattern.is_match(text),
                Some(other) => pattern.is_match(&other.to_string()),
                None => false,
            })
    }

    /// Whether the rule is about calls of a tool, whatever their arguments.
    #[must_use]
    pub fn concerns_tool(&self, server: &str, tool: &str) -> bool {
        self.server.as_ref().is_none_or(|pattern| pattern.is_match(server))
            && self.tool.as_ref().is_none_or(|pattern| pattern.is_match(tool))
    }

    /// Whether the rule depends on arguments.
    #[must_use]
    pub fn needs_arguments(&self) -> bool {
        !self.arguments.is_empty()
    }
}

fn read_rules(scope: &mut SettingScope<'_>, key: &'static str) -> Vec<ToolRule> {
    scope.read_items(key, read_rule).into_iter().flatten().collect()
}

fn read_rule(scope: &mut SettingScope<'_>) -> Option<ToolRule> {
    let problems_before = scope.reader().problem_count();
    let rule = ToolRule::read_from(scope);
    let is_valid = scope.reader().problem_count() == problems_before;
    if is_valid && rule.effect.is_none() && rule.approval.is_none() && rule.on_stale.is_none() {
        let problem = format!(
            "{}: {} decides nothing; give it an effect, an approval, on_stale or several of them",
            scope.origin(),
            scope.path()
        );
        scope.reader().report_problem(problem);
        return None;
    }
    is_valid.then_some(rule)
}

/// Compiles a pattern that matches a whole text.
fn compile_pattern(pattern: &str) -> Option<Regex> {
    // Alone first: what is put around it would make a pattern like `a)(b` valid.
    Regex::new(pattern).ok().filter(|_| !pattern.is_empty())?;
    Regex::new(&format!(r"\A(?s:{pattern})\z")).ok()
}

/// Compiles a name in which `*` stands for any characters and `?` for one.
fn compile_glob(text: &str) -> Regex {
    let pattern = regex::escape(text).replace(r"\*", ".*").replace(r"\?", ".");
    Regex::new(&format!(r"\A(?s:{pattern})\z")).expect("an escaped text is a valid pattern")
}
