//! All tools of all servers, as the model, the agent and the API see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    ApprovalRequirement, ArgumentMismatch, ClassifiedCall, ToolRef, builtin,
    classify::{Candidate, Verdict, classify},
    effects::Sensitive,
    naming, schema, words,
};
use crate::{ApprovalMode, ToolRule, ToolsConfig};
use k8sops_core::{ErrorChain, ToolEffect, ToolStatus};
use k8sops_mcp::{CallError, McpHub, RemoteTool};
use k8sops_models::ToolSpec;

/// The tools of a [`McpHub`] under names that providers accept.
///
/// What is derived from the servers' lists is kept and made anew only when they have changed.
pub struct ToolCatalog {
    hub: Arc<McpHub>,
    /// Replaced as a whole when the configuration is read anew; it holds from the next look at a call on.
    policy: ArcSwap<Policy>,
    /// Replaced as a whole: two readers that find it old at the same time both make the same new one.
    current: ArcSwap<Snapshot>,
}

/// The operator's word on tools.
struct Policy {
    approval: ApprovalMode,
    approve_untrusted: bool,
    rules: Vec<ToolRule>,
}

impl From<&ToolsConfig> for Policy {
    fn from(config: &ToolsConfig) -> Self {
        let ToolsConfig { approval, approve_untrusted, ref rules, .. } = *config;
        Self { approval, approve_untrusted, rules: rules.clone() }
    }
}

/// A call that was looked up and judged.
pub(super) struct Found {
    pub(super) class: ClassifiedCall,
    /// What is known of secrets in its output.
    pub(super) sensitive: Option<Sensitive>,
    /// What the operator says of its approval.
    pub(super) approval: Option<ApprovalMode>,
}

/// A tool as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ToolInfo {
    /// The name that models call it by.
    pub name: String,
    /// The server that runs it.
    pub server: String,
    /// Its name there.
    pub remote_name: String,
    /// What it does, in the server's words.
    pub description: String,
    /// JSON Schema of its arguments, as models get it.
    #[schema(value_type = Object)]
    pub input_schema: Map<String, Value>,
    /// What a call does to the world, as far as the tool alone tells.
    pub effect: ToolEffect,
    /// Whether a call runs at once, after a user's approval, or never.
    pub gate: ApprovalRequirement,
    /// Where the effect comes from, in words.
    pub reason: String,
}

/// The catalog as of one version of the hub.
struct Snapshot {
    version: u64,
    tools: BTreeMap<String, Entry>,
    specs: Arc<[ToolSpec]>,
}

struct Entry {
    server: String,
    tool: RemoteTool,
}

impl ToolCatalog {
    /// The catalog of what `hub` has, now and later.
    pub fn new(hub: Arc<McpHub>, config: &ToolsConfig) -> Self {
        let current = ArcSwap::from_pointee(Snapshot::of(&hub));
        Self { hub, policy: ArcSwap::from_pointee(config.into()), current }
    }

    /// Takes another policy on approvals and other rules. What is looked at from now on is judged by them, in runs in progress
    /// too: an operator who allows nothing any more means now.
    pub fn set_policy(&self, config: &ToolsConfig) {
        self.policy.store(Arc::new(config.into()));
    }

    /// All tools, sorted by name.
    pub fn list(&self) -> Vec<ToolInfo> {
        let snapshot = self.snapshot();
        let infos = snapshot.tools.iter().zip(snapshot.specs.iter()).map(|((name, entry), spec)| {
            let class = self.judge(entry, None).class;
            ToolInfo {
                name: name.clone(),
                server: entry.server.clone(),
                remote_name: entry.tool.name.clone(),
                description: spec.description.clone(),
                input_schema: spec.input_schema.clone(),
                effect: class.effect,
                gate: class.approval,
                reason: class.reason,
            }
        });
        infos.collect()
    }

    /// What the model is told of.
    pub(super) fn specs(&self) -> Arc<[ToolSpec]> {
        self.snapshot().specs.clone()
    }

    /// The tool of a name, and what a call of it would be.
    pub(super) fn find(&self, name: &str, arguments: Option<&Map<String, Value>>) -> Option<Found> {
        Some(self.judge(self.snapshot().tools.get(name)?, arguments))
    }

    /// The same for a tool by the name that its server has for it.
    pub(super) fn find_remote(&self, target: &ToolRef, arguments: &Map<String, Value>) -> Option<Found> {
        Some(self.judge(self.snapshot().entry(target)?, Some(arguments)))
    }

    /// Whether arguments fit the schema that a tool's server gave.
    pub(super) fn validate_arguments(
        &self,
        name: &str,
        arguments: &Map<String, Value>,
    ) -> Result<(), ArgumentMismatch> {
        let snapshot = self.snapshot();
        let Some(entry) = snapshot.tools.get(name) else { return Ok(()) };
        let problems = schema::find_mismatches(&entry.tool.input_schema, &Value::Object(arguments.clone()));
        if problems.is_empty() { Ok(()) } else { Err(ArgumentMismatch { tool: name.to_owned(), problems }) }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let current = self.current.load_full();
        if current.version == self.hub.version() {
            return current;
        }
        let new = Arc::new(Snapshot::of(&self.hub));
        self.current.store(new.clone());
        new
    }

    fn judge(&self, entry: &Entry, arguments: Option<&Map<String, Value>>) -> Found {
        let Entry { server, tool } = entry;
        let policy = self.policy.load();
        let candidate = Candidate { server, tool, arguments, rules: &policy.rules };
        let Verdict { effect, reason, sensitive, approval } = classify(&candidate);
        let gate = match (approval, effect, policy.approval) {
            (Some(ApprovalMode::Auto), ..) | (None, ToolEffect::Read, _) => ApprovalRequirement::NotRequired,
            (Some(ApprovalMode::Ask), ..) | (None, _, ApprovalMode::Ask) => ApprovalRequirement::Required,
            (Some(ApprovalMode::Deny), ..) | (None, _, ApprovalMode::Deny) => ApprovalRequirement::Denied,
            (None, _, ApprovalMode::Auto) if policy.approve_untrusted => ApprovalRequirement::NotRequired,
            (None, _, ApprovalMode::Auto) => ApprovalRequirement::RequiredIfUntrusted,
        };
        let reason = match sensitive {
            Some(_) => format!("{reason}; secrets in its output are masked"),
            None => reason,
        };
        Found {
            class: ClassifiedCall { tool: ToolRef::new(server, &tool.name), effect, approval: gate, reason },
            sensitive,
            approval,
        }
    }

    /// Whether a call would still be what it was classed as: an approval was given to that. What is known of secrets in
    /// its output.
    pub(super) fn still_is(
        &self,
        class: &ClassifiedCall,
        arguments: &Map<String, Value>,
    ) -> Result<Option<Sensitive>, String> {
        let (server, tool) = (class.tool.server(), class.tool.tool());
        let Some(now) = self.find_remote(&class.tool, arguments) else {
            return Err(format!("The MCP server {server} no longer has the tool {tool}."));
        };
        if weight(now.class.effect) > weight(class.effect) {
            return Err(format!(
                "The tool {tool} of the MCP server {server} has changed: a call is {} now and was {} when it was \
                 looked at. Call it again to have it judged anew.",
                word(now.class.effect),
                word(class.effect)
            ));
        }
        Ok(now.sensitive)
    }
}

impl Snapshot {
    fn of(hub: &McpHub) -> Self {
        // The version is read first: a change in between makes the snapshot old, not stale for ever.
        let version = hub.version();
        let mut remotes = BTreeMap::new();
        for status in hub.statuses() {
            for tool in status.tools.iter() {
                remotes.insert((status.name.clone(), tool.name.clone()), tool.clone());
            }
        }
        // Nothing to read again where nothing can be called.
        if !remotes.is_empty() {
            let own = builtin::TOOLS.iter().map(|tool| ((builtin::SERVER.to_owned(), tool.name.clone()), tool.clone()));
            remotes.extend(own);
        }
        let names = naming::names(&remotes.keys().cloned().collect::<BTreeSet<_>>());
        let tools = names
            .into_iter()
            .filter_map(|(name, remote)| {
                let tool = remotes.remove(&remote)?;
                Some((name, Entry { server: remote.0, tool }))
            })
            .collect::<BTreeMap<_, _>>();
        let specs = tools.iter().map(|(name, entry)| ToolSpec {
            name: name.clone(),
            description: words::description(&entry.tool.description),
            input_schema: schema::for_providers(&entry.tool.input_schema),
        });
        Self { version, specs: specs.collect(), tools }
    }

    fn entry(&self, target: &ToolRef) -> Option<&Entry> {
        self.tools.values().find(|entry| entry.server == target.server() && entry.tool.name == target.tool())
    }
}

/// How much an effect asks for: what is allowed for one is allowed for all below it.
fn weight(effect: ToolEffect) -> u8 {
    match effect {
        ToolEffect::Read => 0,
        ToolEffect::Idempotent => 1,
        ToolEffect::Mutating => 2,
    }
}

fn word(effect: ToolEffect) -> &'static str {
    match effect {
        ToolEffect::Read => "read",
        ToolEffect::Idempotent => "idempotent",
        ToolEffect::Mutating => "mutating",
    }
}

/// What is known after a call that returned nothing, for the model and the user.
pub(super) fn explain(error: &CallError, effect: ToolEffect) -> (ToolStatus, String) {
    let advice = match effect {
        ToolEffect::Read => "The call changes nothing and can be made again.",
        ToolEffect::Idempotent => {
            "Whether it took effect is not known. Check the state; making the same call again does no harm."
        }
        ToolEffect::Mutating => "Whether it took effect is not known. Check the state before doing it again.",
    };
    let lost = if effect == ToolEffect::Read { ToolStatus::Error } else { ToolStatus::Unknown };
    match error {
        CallError::NotSent(why) => (
            ToolStatus::Error,
            format!("The tool was not run: {}. Nothing was sent, so nothing has changed.", ErrorChain(why)),
        ),
        CallError::Refused(why) => (ToolStatus::Error, format!("The server refused the call: {}", ErrorChain(why))),
        CallError::Failed(why) => (lost, format!("The server answered with an error: {}. {advice}", ErrorChain(why))),
        CallError::Broken(why) => {
            (lost, format!("The connection broke after the request was sent ({}). {advice}", ErrorChain(why)))
        }
        CallError::Timeout(_) => (ToolStatus::Timeout, format!("{}. {advice}", capitalized(&error.to_string()))),
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use k8sops_mcp::DeadlineExceeded;

    #[test]
    fn a_broken_call_is_unknown_unless_it_only_reads() {
        let broken = CallError::Broken("gone".into());
        assert_eq!(explain(&broken, ToolEffect::Read).0, ToolStatus::Error);
        assert_eq!(explain(&broken, ToolEffect::Idempotent).0, ToolStatus::Unknown);
        let (status, text) = explain(&broken, ToolEffect::Mutating);
        assert_eq!(status, ToolStatus::Unknown);
        assert_eq!(
            text,
            "The connection broke after the request was sent (gone). \
             Whether it took effect is not known. Check the state before doing it again."
        );
    }

    #[test]
    fn an_error_after_which_nothing_is_known_is_unknown_and_a_refusal_is_not() {
        let failed = CallError::Failed("out of memory".into());
        assert_eq!(explain(&failed, ToolEffect::Read).0, ToolStatus::Error);
        assert_eq!(explain(&failed, ToolEffect::Idempotent).0, ToolStatus::Unknown);
        assert_eq!(
            explain(&failed, ToolEffect::Mutating),
            (
                ToolStatus::Unknown,
                "The server answered with an error: out of memory. \
                 Whether it took effect is not known. Check the state before doing it again."
                    .to_owned()
            )
        );
        assert_eq!(explain(&CallError::Refused("no".into()), ToolEffect::Mutating).0, ToolStatus::Error);
    }

    #[test]
    fn a_timeout_says_how_long_and_what_is_known() {
        let (status, text) =
            explain(&CallError::Timeout(DeadlineExceeded::Total(Duration::from_mins(1))), ToolEffect::Mutating);
        assert_eq!(status, ToolStatus::Timeout);
        assert!(text.starts_with("No answer within 60 s. Whether it took effect is not known."), "{text}");
    }

    #[test]
    fn what_was_not_sent_has_changed_nothing() {
        let (status, text) = explain(&CallError::NotSent("not connected".into()), ToolEffect::Mutating);
        assert_eq!(status, ToolStatus::Error);
        assert!(text.contains("nothing has changed"), "{text}");
    }
}
