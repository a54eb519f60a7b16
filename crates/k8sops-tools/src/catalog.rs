//! All tools of all servers, as the model, the agent and the API see them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use k8sops_classifier::{
    ObjectCommand, PreviewCall, SensitiveOutput, build_kubectl_read, build_preview_call, find_object_command,
};
use k8sops_core::ToolEffect;
use k8sops_mcp::{McpHub, RemoteTool};
use k8sops_models::ToolSpec;

use crate::{
    ApprovalMode, ApprovalRequirement, ArgumentMismatch, ClassifiedCall, StaleApproval, ToolGate, ToolOptions, ToolRef,
    ToolRule, UntrustedWord,
    approval_gate::{ApprovalSettings, CallFacts, PlaceholderUse, decide_approval, decide_tool_gate},
    argument_schema::find_mismatches,
    call_policy::{CallCandidate, EffectDecision, decide_effect, describe_tool, does_rule_allow_preview},
    output_tools,
    preview::ObjectReader,
    redaction::arguments_contain_placeholder,
    sanitize::sanitize_description,
    tool_names::assign_tool_names,
    tool_schema::{ArgumentKeys, MendedSchema, mend_tool_schema},
};

/// The tools of an [`McpHub`] under names that model providers accept.
///
/// What is derived from the servers' tool lists is cached, and recomputed only when a list changes.
pub struct ToolCatalog {
    hub: Arc<McpHub>,
    /// Replaced as a whole when the configuration is reloaded.
    policy: ArcSwap<ApprovalPolicy>,
    /// Replaced as a whole. Two readers that find it outdated at the same time both compute the same new snapshot.
    current: ArcSwap<CatalogSnapshot>,
}

/// The operator's settings on approvals.
struct ApprovalPolicy {
    approval: ApprovalMode,
    approve_untrusted: bool,
    rules: Vec<ToolRule>,
}

impl From<&ToolOptions> for ApprovalPolicy {
    fn from(config: &ToolOptions) -> Self {
        let ToolOptions { approval, approve_untrusted, ref rules, .. } = *config;
        Self { approval, approve_untrusted, rules: rules.clone() }
    }
}

/// A call whose tool was found in the catalog.
pub(crate) struct ResolvedCall {
    pub(crate) call: ClassifiedCall,
    /// How the output may contain secret values.
    pub(crate) sensitive_output: Option<SensitiveOutput>,
}

/// A call that shows what another call would do, and changes nothing.
pub(crate) struct PreviewRun {
    pub(crate) tool: ToolRef,
    pub(crate) arguments: Map<String, Value>,
    /// How the output may contain secret values.
    pub(crate) sensitive_output: Option<SensitiveOutput>,
}

/// A call is not what it was when it was classified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutdatedCall {
    #[error("The MCP server {} no longer has the tool {}.", .0.server(), .0.tool())]
    ToolRemoved(ToolRef),
    #[error(
        "The tool {} of the MCP server {} has changed: a call is {} now and was {} when it was classified. Repeat the call to \
         have it classified again.", .tool.tool(), .tool.server(), .now.as_str(), .before.as_str()
    )]
    BecameStricter { tool: ToolRef, before: ToolEffect, now: ToolEffect },
}

/// A tool as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ToolInfo {
    /// Name under which models call the tool.
    pub name: String,
    /// Server that runs the tool.
    pub server: String,
    /// Name of the tool on its server.
    pub remote_name: String,
    /// What the tool does, as the server describes it.
    pub description: String,
    /// JSON Schema of the arguments, as models get it.
    #[schema(value_type = Object)]
    pub input_schema: Map<String, Value>,
    /// Effect of a call on the cluster, as far as it does not depend on the arguments.
    pub effect: ToolEffect,
    /// Whether a call runs immediately, after a user's approval, or never.
    pub gate: ToolGate,
    /// Where the effect comes from.
    pub reason: String,
}

/// A tool that no model gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeftOutTool {
    /// Server that lists the tool.
    pub server: String,
    /// Name of the tool on its server; empty if it has none.
    pub remote_name: String,
    /// Why it is left out.
    pub reason: String,
}

/// The catalog at one version of the hub.
struct CatalogSnapshot {
    version: u64,
    tools: BTreeMap<String, CatalogTool>,
    specs: Arc<[ToolSpec]>,
    left_out: Vec<LeftOutTool>,
}

struct CatalogTool {
    server: String,
    tool: RemoteTool,
    /// The keys of arguments that models know under other names.
    argument_keys: ArgumentKeys,
}

impl ToolCatalog {
    /// Creates the catalog of the tools that `hub` has now and later.
    pub fn new(hub: Arc<McpHub>, config: &ToolOptions) -> Self {
        let current = ArcSwap::from_pointee(CatalogSnapshot::from_hub(&hub));
        Self { hub, policy: ArcSwap::from_pointee(config.into()), current }
    }

    /// Replaces the approval policy and the operator's rules. They apply immediately, also to runs in progress.
    pub fn set_policy(&self, config: &ToolOptions) {
        self.policy.store(Arc::new(config.into()));
    }

    /// Returns all tools, sorted by name.
    pub fn list_tools(&self) -> Vec<ToolInfo> {
        let snapshot = self.current_snapshot();
        let infos = snapshot.tools.iter().zip(snapshot.specs.iter()).map(|((name, entry), spec)| {
            let (decision, settings) = self.decide_effect(entry, None);
            let facts = call_facts(&decision, PlaceholderUse::None, None);
            let gate = decide_tool_gate(&facts, settings);
            ToolInfo {
                name: name.clone(),
                server: entry.server.clone(),
                remote_name: entry.tool.name.clone(),
                description: spec.description.clone(),
                input_schema: spec.input_schema.clone(),
                effect: decision.effect,
                gate,
                reason: displayed_reason(&decision),
            }
        });
        infos.collect()
    }

    /// Returns the tools that no model gets, with the reason.
    pub fn list_left_out(&self) -> Vec<LeftOutTool> {
        self.current_snapshot().left_out.clone()
    }

    /// Returns arguments as a model wrote them with the keys that the tool's server expects.
    pub(crate) fn restore_argument_keys<'a>(
        &self,
        name: &str,
        arguments: &'a Map<String, Value>,
    ) -> Cow<'a, Map<String, Value>> {
        match self.current_snapshot().tools.get(name) {
            Some(entry) => entry.argument_keys.restore(arguments),
            None => Cow::Borrowed(arguments),
        }
    }

    /// Like [`restore_argument_keys`](Self::restore_argument_keys), for a call that was classified.
    pub(crate) fn restore_keys_by_ref<'a>(
        &self,
        tool: &ToolRef,
        arguments: &'a Map<String, Value>,
    ) -> Cow<'a, Map<String, Value>> {
        match self.current_snapshot().find_by_ref(tool) {
            Some(entry) => entry.argument_keys.restore(arguments),
            None => Cow::Borrowed(arguments),
        }
    }

    /// Returns the tools as the model gets them.
    pub(crate) fn tool_specs(&self) -> Arc<[ToolSpec]> {
        self.current_snapshot().specs.clone()
    }

    /// Classifies a call of the tool with that name in the catalog.
    pub(crate) fn classify_by_name(
        &self,
        name: &str,
        arguments: &Map<String, Value>,
        untrusted_word: Option<&UntrustedWord>,
    ) -> Option<ResolvedCall> {
        Some(self.resolve_call(self.current_snapshot().tools.get(name)?, arguments, untrusted_word))
    }

    /// Classifies a call of the tool with that name on that server.
    pub(crate) fn classify_by_ref(&self, tool: &ToolRef, arguments: &Map<String, Value>) -> Option<ResolvedCall> {
        Some(self.resolve_call(self.current_snapshot().find_by_ref(tool)?, arguments, None))
    }

    /// Returns the call that shows what a call would do; `None` if there is none that is certain to change nothing, or if the
    /// operator's rules do not let it run without a question. Only the classifier knows such calls; the annotations of a
    /// server are not enough.
    pub(crate) fn build_preview(&self, tool: &ToolRef, arguments: &Map<String, Value>) -> Option<PreviewRun> {
        let snapshot = self.current_snapshot();
        let preview = build_preview_call(&describe_tool(&snapshot.find_by_ref(tool)?.tool), arguments)?;
        self.allow_preview(tool.server(), preview)
    }

    /// Returns what a command line does to objects.
    pub(crate) fn find_object_command(&self, tool: &ToolRef, arguments: &Map<String, Value>) -> Option<ObjectCommand> {
        find_object_command(&describe_tool(&self.current_snapshot().find_by_ref(tool)?.tool), arguments)
    }

    /// Returns the call of a tool that runs kubectl with words that only read.
    pub(crate) fn build_kubectl_read(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        words: &[&str],
    ) -> Option<PreviewCall> {
        build_kubectl_read(&describe_tool(&self.current_snapshot().find_by_ref(tool)?.tool), arguments, words)
    }

    /// Returns how the server of a tool reads objects.
    pub(crate) fn find_object_reader(&self, server: &str) -> Option<ObjectReader> {
        let snapshot = self.current_snapshot();
        ObjectReader::find(|name| snapshot.find_by_ref(&ToolRef::new(server, name)).is_some())
    }

    /// Returns a call that reads, if the model could make it without an approval.
    pub(crate) fn allow_read(&self, server: &str, tool: &str, arguments: Map<String, Value>) -> Option<PreviewRun> {
        let tool = ToolRef::new(server, tool);
        let ResolvedCall { call, sensitive_output } = self.classify_by_ref(&tool, &arguments)?;
        let is_read = call.effect == ToolEffect::Read && call.approval == ApprovalRequirement::Run;
        is_read.then_some(PreviewRun { tool, arguments, sensitive_output })
    }

    /// Returns what the operator's rule says about an approval of a call whose preview does not hold any more.
    pub(crate) fn decide_stale_approval(&self, tool: &ToolRef, arguments: &Map<String, Value>) -> StaleApproval {
        let snapshot = self.current_snapshot();
        let rule = snapshot.find_by_ref(tool).and_then(|entry| self.decide_effect(entry, Some(arguments)).0.on_stale);
        rule.unwrap_or(StaleApproval::Ask)
    }

    /// Returns a call that the classifier made to show what another call would do, unless the operator's rules forbid it.
    pub(crate) fn allow_preview(&self, server: &str, preview: PreviewCall) -> Option<PreviewRun> {
        let snapshot = self.current_snapshot();
        let tool = ToolRef::new(server, &preview.tool);
        let CatalogTool { server, tool: remote, .. } = snapshot.find_by_ref(&tool)?;
        let rules = &self.policy.load().rules;
        let scope = self.hub.scope_of(server);
        let candidate = CallCandidate { server, tool: remote, scope, arguments: Some(&preview.arguments), rules };
        let EffectDecision { sensitive_output, .. } = decide_effect(&candidate);
        let is_allowed = does_rule_allow_preview(&candidate);
        is_allowed.then_some(PreviewRun { tool, arguments: preview.arguments, sensitive_output })
    }

    /// Checks arguments against the schema that the tool's server gave. Arguments of an unknown tool are accepted: the call
    /// fails later, with its own message.
    pub(crate) fn validate_arguments(
        &self,
        name: &str,
        arguments: &Map<String, Value>,
    ) -> Result<(), ArgumentMismatch> {
        let snapshot = self.current_snapshot();
        let Some(entry) = snapshot.tools.get(name) else { return Ok(()) };
        let arguments = entry.argument_keys.restore(arguments).into_owned();
        let problems = find_mismatches(&entry.tool.input_schema, &Value::Object(arguments));
        if problems.is_empty() { Ok(()) } else { Err(ArgumentMismatch { tool: name.to_owned(), problems }) }
    }

    fn current_snapshot(&self) -> Arc<CatalogSnapshot> {
        let current = self.current.load_full();
        if current.version == self.hub.version() {
            return current;
        }
        let new = Arc::new(CatalogSnapshot::from_hub(&self.hub));
        self.current.store(new.clone());
        new
    }

    /// Decides the effect of a call, and returns it with the settings under which the call is approved.
    fn decide_effect(
        &self,
        entry: &CatalogTool,
        arguments: Option<&Map<String, Value>>,
    ) -> (EffectDecision, ApprovalSettings) {
        let CatalogTool { server, tool, .. } = entry;
        let policy = self.policy.load();
        let decision = decide_effect(&CallCandidate {
            server,
            tool,
            scope: self.hub.scope_of(server),
            arguments,
            rules: &policy.rules,
        });
        let ApprovalPolicy { approval: default, approve_untrusted, .. } = **policy;
        let settings = ApprovalSettings { rule: decision.approval, default, approve_untrusted };
        (decision, settings)
    }

    fn resolve_call(
        &self,
        entry: &CatalogTool,
        arguments: &Map<String, Value>,
        untrusted_word: Option<&UntrustedWord>,
    ) -> ResolvedCall {
        let (mut decision, settings) = self.decide_effect(entry, Some(arguments));
        decision.reason = displayed_reason(&decision);
        let has_placeholder = arguments_contain_placeholder(arguments);
        let placeholders = if has_placeholder { PlaceholderUse::Present } else { PlaceholderUse::None };
        let approval = decide_approval(&call_facts(&decision, placeholders, untrusted_word), settings);
        let EffectDecision { effect, reason, sensitive_output, .. } = decision;
        let tool = ToolRef::new(&entry.server, &entry.tool.name);
        ResolvedCall { call: ClassifiedCall { tool, effect, approval, reason }, sensitive_output }
    }

    /// Checks that a call still is what it was classified as, because that is what was approved. Returns how its output may
    /// contain secret values.
    pub(crate) fn check_unchanged(
        &self,
        call: &ClassifiedCall,
        arguments: &Map<String, Value>,
    ) -> Result<Option<SensitiveOutput>, OutdatedCall> {
        let Some(current) = self.classify_by_ref(&call.tool, arguments) else {
            return Err(OutdatedCall::ToolRemoved(call.tool.clone()));
        };
        let now = current.call.effect;
        // An approval of an effect covers all lesser effects.
        if now > call.effect {
            return Err(OutdatedCall::BecameStricter { tool: call.tool.clone(), before: call.effect, now });
        }
        Ok(current.sensitive_output)
    }
}

impl CatalogSnapshot {
    fn from_hub(hub: &McpHub) -> Self {
        // The version is read first, so that a change in between makes the snapshot outdated and not permanently wrong.
        let version = hub.version();
        let mut remotes = BTreeMap::new();
        let mut left_out = Vec::new();
        for status in hub.statuses() {
            left_out.extend(status.skipped.iter().map(|skipped| LeftOutTool {
                server: status.name.clone(),
                remote_name: skipped.name.clone(),
                reason: skipped.reason.clone(),
            }));
            for tool in status.tools.iter() {
                remotes.insert((status.name.clone(), tool.name.clone()), tool.clone());
            }
        }
        // Without any tool there is no output to read.
        if !remotes.is_empty() {
            let built_in = output_tools::TOOLS
                .iter()
                .map(|tool| ((output_tools::SERVER.to_owned(), tool.name.clone()), tool.clone()));
            remotes.extend(built_in);
        }
        let mut mended = BTreeMap::new();
        remotes.retain(|(server, name), tool: &mut RemoteTool| match mend_tool_schema(&tool.input_schema) {
            Ok(schema) => {
                mended.insert((server.clone(), name.clone()), schema);
                true
            }
            Err(error) => {
                let (server, remote_name) = (server.clone(), name.clone());
                left_out.push(LeftOutTool { server, remote_name, reason: error.to_string() });
                false
            }
        });
        let names = assign_tool_names(&remotes.keys().cloned().collect::<BTreeSet<_>>());
        let mut tools = BTreeMap::new();
        let mut specs = Vec::with_capacity(names.len());
        for (name, remote) in names {
            let (Some(tool), Some(schema)) = (remotes.remove(&remote), mended.remove(&remote)) else { continue };
            let MendedSchema { schema: input_schema, keys: argument_keys } = schema;
            let description = sanitize_description(&tool.description);
            specs.push(ToolSpec { name: name.clone(), description, input_schema });
            tools.insert(name, CatalogTool { server: remote.0, tool, argument_keys });
        }
        Self { version, specs: specs.into(), tools, left_out }
    }

    fn find_by_ref(&self, tool: &ToolRef) -> Option<&CatalogTool> {
        self.tools.values().find(|entry| entry.server == tool.server() && entry.tool.name == tool.tool())
    }
}

fn call_facts<'a>(
    decision: &'a EffectDecision,
    placeholders: PlaceholderUse,
    untrusted_word: Option<&'a UntrustedWord>,
) -> CallFacts<'a> {
    let EffectDecision { effect, ref reason, reach, .. } = *decision;
    CallFacts { effect, reason, reach, placeholders, untrusted_word }
}

/// Returns the reason of an effect as people see it.
fn displayed_reason(decision: &EffectDecision) -> String {
    let redacted = if decision.sensitive_output.is_some() { "; secrets in its output are redacted" } else { "" };
    format!("{}{redacted}", decision.reason)
}
