//! All tools of all servers, as the model, the agent and the API see them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use serde_json::{Map, Value};

use k8sops_classifier::{
    ObjectCommands, PreviewCall, SensitiveOutput, build_kubectl_read, build_preview_call, find_object_commands,
};
use k8sops_core::{ChatMessage, ToolEffect};
use k8sops_mcp::{McpHub, RemoteTool, ServerScope};
use k8sops_models::{EmbeddingModel, ToolBounds, ToolSpec};

use crate::{
    ApprovalMode, ApprovalRequirement, ArgumentMismatch, ClassifiedCall, StaleApproval, ToolOptions, ToolRef, ToolRule,
    UntrustedWord,
    approval_gate::{ApprovalSettings, PlaceholderUse, decide_approval, decide_tool_gate},
    argument_schema::find_mismatches,
    call_policy::{CallCandidate, EffectDecision, decide_effect, describe_tool, does_rule_allow_preview},
    kept_texts::has_kept_texts,
    output_tools,
    preview::ObjectReader,
    redaction::arguments_contain_placeholder,
    sanitize::sanitize_description,
    tool_info::{LeftOutTool, OutdatedCall, ToolInfo},
    tool_names::assign_tool_names,
    tool_offer::{OfferCandidate, SchemaBudget, ToolOffer, append_found, read_probes, select_offered},
    tool_schema::{ArgumentKeys, MendedSchema, mend_tool_schema},
    tool_search::{FIND_TOOLS, ToolSearch, find_tools_tool},
    tool_text::shorten_tool_texts,
};

/// The tools of an [`McpHub`] under names that model providers accept.
///
/// What is derived from the servers' tool lists is cached, and recomputed only when a list changes.
pub struct ToolCatalog {
    bounds: ToolBounds,
    hub: Arc<McpHub>,
    /// Replaced as a whole when the configuration is reloaded.
    policy: ArcSwap<ApprovalPolicy>,
    /// Replaced as a whole. Two readers that find it outdated at the same time both compute the same new snapshot.
    current: ArcSwap<CatalogSnapshot>,
    search: ToolSearch,
}

/// The operator's settings on tools that a reload replaces.
struct ApprovalPolicy {
    approval: ApprovalMode,
    approve_untrusted: bool,
    rules: Vec<ToolRule>,
    schema_budget: SchemaBudget,
}

impl ApprovalPolicy {
    fn new(config: &ToolOptions, bounds: ToolBounds) -> Self {
        let ToolOptions { approval, approve_untrusted, ref rules, .. } = *config;
        Self { approval, approve_untrusted, rules: rules.clone(), schema_budget: SchemaBudget::new(config, bounds) }
    }

    fn approval_settings(&self, decision: &EffectDecision) -> ApprovalSettings {
        ApprovalSettings { rule: decision.approval, default: self.approval, approve_untrusted: self.approve_untrusted }
    }

    /// Whether any call of a tool could run. Its effect may depend on its arguments, and so may a rule.
    fn can_run(&self, entry: &CatalogTool) -> bool {
        let CatalogTool { server, tool, scope, .. } = entry;
        let depends_on_rule = self.rules.iter().any(|rule| {
            rule.needs_arguments()
                && rule.approval != Some(ApprovalMode::Deny)
                && rule.concerns_tool(server, &tool.name)
        });
        let runs = |arguments: &Map<String, Value>| {
            let candidate =
                CallCandidate { server, tool, scope: *scope, arguments: Some(arguments), rules: &self.rules };
            let decision = decide_effect(&candidate);
            let facts = decision.facts(PlaceholderUse::None, None);
            !matches!(decide_approval(&facts, self.approval_settings(&decision)), ApprovalRequirement::Deny { .. })
        };
        depends_on_rule || runs(&Map::new()) || read_probes(&tool.input_schema).iter().any(runs)
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

/// The catalog at one version of the hub and of the policy.
struct CatalogSnapshot {
    version: u64,
    policy: Arc<ApprovalPolicy>,
    tools: BTreeMap<String, CatalogTool>,
    /// Whether a server has tools. Without one, only the built-in tools are in `tools`.
    has_servers: bool,
    /// All tools, in the order of `tools`.
    specs: Arc<[ToolSpec]>,
    /// Whether models get each of `specs`.
    offers: Vec<ToolOffer>,
    /// The tools of every request.
    offered: Arc<[ToolSpec]>,
    left_out: Vec<LeftOutTool>,
}

struct CatalogTool {
    server: String,
    tool: RemoteTool,
    /// Whose calls one process of the server serves.
    scope: ServerScope,
    /// The keys of arguments that models know under other names.
    argument_keys: ArgumentKeys,
}

impl ToolCatalog {
    /// Creates the catalog of the tools that `hub` has now and later, within `bounds` that all model servers accept.
    pub fn new(hub: Arc<McpHub>, config: &ToolOptions, bounds: ToolBounds) -> Self {
        let policy = Arc::new(ApprovalPolicy::new(config, bounds));
        let current = ArcSwap::from_pointee(CatalogSnapshot::build(&hub, policy.clone(), bounds));
        Self { hub, bounds, policy: ArcSwap::new(policy), current, search: ToolSearch::default() }
    }

    /// Lets `find_tools` compare tools by meaning, too.
    #[must_use]
    pub fn with_embedder(self, embedder: Option<Arc<dyn EmbeddingModel>>) -> Self {
        Self { search: ToolSearch::new(embedder), ..self }
    }

    /// Replaces the approval policy and the operator's rules. They apply immediately, also to runs in progress.
    pub fn set_policy(&self, config: &ToolOptions) {
        self.policy.store(Arc::new(ApprovalPolicy::new(config, self.bounds)));
    }

    /// Returns all tools, sorted by name.
    pub fn list_tools(&self) -> Vec<ToolInfo> {
        let snapshot = self.current_snapshot();
        let infos = snapshot.tools.iter().zip(snapshot.specs.iter()).zip(&snapshot.offers);
        let infos = infos.filter(|_| snapshot.has_servers).map(|(((name, entry), spec), offer)| {
            let (decision, settings) = self.decide_effect(entry, None);
            let facts = decision.facts(PlaceholderUse::None, None);
            let gate = decide_tool_gate(&facts, settings);
            ToolInfo {
                name: name.clone(),
                server: entry.server.clone(),
                remote_name: entry.tool.name.clone(),
                description: spec.description.clone(),
                input_schema: spec.input_schema.clone(),
                effect: decision.effect,
                gate,
                reason: decision.displayed_reason(),
                offer: *offer,
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

    /// Returns the tools as the model gets them: those of every request, then those of `found` that are not among them.
    pub(crate) fn tool_specs(&self, found: &[String], messages: &[Arc<ChatMessage>]) -> Arc<[ToolSpec]> {
        let snapshot = self.current_snapshot();
        if !snapshot.has_servers && !has_kept_texts(messages) {
            return Arc::default();
        }
        let hidden: BTreeMap<&str, &ToolSpec> = snapshot.hidden().map(|spec| (spec.name.as_str(), spec)).collect();
        let found: Vec<&ToolSpec> = found.iter().filter_map(|name| hidden.get(name.as_str()).copied()).collect();
        if found.is_empty() {
            return snapshot.offered.clone();
        }
        append_found(&snapshot.offered, &found, snapshot.policy.schema_budget).into()
    }

    /// Returns the tools that the model only finds by a search.
    pub(crate) fn hidden_specs(&self) -> Vec<ToolSpec> {
        self.current_snapshot().hidden().cloned().collect()
    }

    /// Whether there are tools that the model only finds by a search.
    pub(crate) fn has_hidden_tools(&self) -> bool {
        self.current_snapshot().hidden().next().is_some()
    }

    pub(crate) fn tool_search(&self) -> &ToolSearch {
        &self.search
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

    /// Returns the call that shows what a call would do; `None` if the classifier knows none that is certain to change nothing
    /// (annotations of a server do not count), or if the operator's rules do not let it run without a question.
    pub(crate) fn build_preview(&self, tool: &ToolRef, arguments: &Map<String, Value>) -> Option<PreviewRun> {
        let snapshot = self.current_snapshot();
        let preview = build_preview_call(&describe_tool(&snapshot.find_by_ref(tool)?.tool), arguments)?;
        self.allow_preview(tool.server(), preview)
    }

    /// Returns what a call does to objects.
    pub(crate) fn find_object_commands(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
    ) -> Option<ObjectCommands> {
        find_object_commands(&describe_tool(&self.current_snapshot().find_by_ref(tool)?.tool), arguments)
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
        let policy = self.policy.load_full();
        if current.version == self.hub.version() && Arc::ptr_eq(&current.policy, &policy) {
            return current;
        }
        let new = Arc::new(CatalogSnapshot::build(&self.hub, policy, self.bounds));
        self.current.store(new.clone());
        new
    }

    /// Decides the effect of a call, and returns it with the settings under which the call is approved.
    fn decide_effect(
        &self,
        entry: &CatalogTool,
        arguments: Option<&Map<String, Value>>,
    ) -> (EffectDecision, ApprovalSettings) {
        let CatalogTool { server, tool, scope, .. } = entry;
        let policy = self.policy.load();
        let decision = decide_effect(&CallCandidate { server, tool, scope: *scope, arguments, rules: &policy.rules });
        let settings = policy.approval_settings(&decision);
        (decision, settings)
    }

    fn resolve_call(
        &self,
        entry: &CatalogTool,
        arguments: &Map<String, Value>,
        untrusted_word: Option<&UntrustedWord>,
    ) -> ResolvedCall {
        let (mut decision, settings) = self.decide_effect(entry, Some(arguments));
        decision.reason = decision.displayed_reason();
        let has_placeholder = arguments_contain_placeholder(arguments);
        let placeholders = if has_placeholder { PlaceholderUse::Present } else { PlaceholderUse::None };
        let approval = decide_approval(&decision.facts(placeholders, untrusted_word), settings);
        let EffectDecision { effect, reason, is_assumed, sensitive_output, .. } = decision;
        let tool = ToolRef::new(&entry.server, &entry.tool.name);
        ResolvedCall { call: ClassifiedCall { tool, effect, approval, reason, is_assumed }, sensitive_output }
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
    fn build(hub: &McpHub, policy: Arc<ApprovalPolicy>, bounds: ToolBounds) -> Self {
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
        let has_servers = !remotes.is_empty();
        let server = || output_tools::SERVER.to_owned();
        remotes.extend(output_tools::TOOLS.iter().map(|tool| ((server(), tool.name.clone()), tool.clone())));
        if has_servers {
            let search = find_tools_tool(&BTreeMap::new());
            remotes.insert((server(), search.name.clone()), search);
        }
        let mut mended = BTreeMap::new();
        let most = bounds.max_schema_key_bytes;
        remotes.retain(|(server, name), tool: &mut RemoteTool| match mend_tool_schema(&tool.input_schema, most) {
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
            let scope = hub.scope_of(&remote.0);
            let candidate =
                CallCandidate { server: &remote.0, tool: &tool, scope, arguments: None, rules: &policy.rules };
            let description = sanitize_description(&tool.description, bounds.max_description_bytes);
            let mut spec = ToolSpec { name: name.clone(), description, input_schema };
            shorten_tool_texts(&mut spec, decide_effect(&candidate).effect.into());
            specs.push(spec);
            tools.insert(name, CatalogTool { server: remote.0, tool, scope, argument_keys });
        }
        let mut snapshot = Self {
            version,
            policy,
            offers: Vec::new(),
            offered: Arc::default(),
            has_servers,
            specs: specs.into(),
            tools,
            left_out,
        };
        snapshot.decide_offers(bounds);
        snapshot
    }

    /// Decides which tools are part of every request.
    fn decide_offers(&mut self, bounds: ToolBounds) {
        let entries: Vec<(&CatalogTool, &ToolSpec)> = self.tools.values().zip(self.specs.iter()).collect();
        let is_search = |entry: &CatalogTool| entry.server == output_tools::SERVER && entry.tool.name == FIND_TOOLS;
        let mut offers: Vec<ToolOffer> = entries
            .iter()
            .map(|(entry, _)| if self.policy.can_run(entry) { ToolOffer::Always } else { ToolOffer::Never })
            .collect();
        let limited: Vec<usize> = (0..entries.len())
            .filter(|at| offers[*at] == ToolOffer::Always && entries[*at].0.server != output_tools::SERVER)
            .collect();
        let candidates: Vec<OfferCandidate<'_>> = limited
            .iter()
            .map(|at| {
                let (CatalogTool { server, tool, scope, .. }, spec) = entries[*at];
                let rules = &self.policy.rules;
                let effect =
                    decide_effect(&CallCandidate { server, tool, scope: *scope, arguments: None, rules }).effect;
                OfferCandidate { spec, server, effect }
            })
            .collect();
        for (at, is_offered) in limited.iter().zip(select_offered(&candidates, self.policy.schema_budget)) {
            if !is_offered {
                offers[*at] = ToolOffer::OnSearch;
            }
        }
        let mut hidden = BTreeMap::<&str, Vec<&str>>::new();
        for ((entry, spec), _) in entries.iter().zip(&offers).filter(|(_, offer)| **offer == ToolOffer::OnSearch) {
            hidden.entry(&entry.server).or_default().push(&spec.name);
        }
        let description = sanitize_description(&find_tools_tool(&hidden).description, bounds.max_description_bytes);
        let search = entries.iter().position(|(entry, _)| is_search(entry));
        let mut specs = self.specs.to_vec();
        if let Some(at) = search {
            if hidden.is_empty() {
                // There is nothing to find.
                let name = specs.remove(at).name;
                offers.remove(at);
                self.tools.remove(&name);
            } else {
                specs[at].description = description;
            }
        }
        let offered = specs.iter().zip(&offers).filter(|(_, offer)| **offer == ToolOffer::Always);
        self.offered = offered.map(|(spec, _)| spec.clone()).collect();
        self.specs = specs.into();
        self.offers = offers;
    }

    /// Returns the tools that are found by a search.
    fn hidden(&self) -> impl Iterator<Item = &ToolSpec> {
        let hidden = self.specs.iter().zip(&self.offers).filter(|(_, offer)| **offer == ToolOffer::OnSearch);
        hidden.map(|(spec, _)| spec)
    }

    fn find_by_ref(&self, tool: &ToolRef) -> Option<&CatalogTool> {
        self.tools.values().find(|entry| entry.server == tool.server() && entry.tool.name == tool.tool())
    }
}
