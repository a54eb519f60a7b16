//! All tools of all servers, as the model, the agent and the API see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    CallClass, Gate, Progress, ProgressSink, Target, ToolExecutor, ToolOutcome,
    classify::{Candidate, Verdict, classify},
    naming, output, schema,
};
use crate::{
    config::{ApprovalMode, ToolsConfig},
    mcp::{CallContext, CallError, CallLimits, CallProgress, McpHub, RemoteTool},
    models::ToolSpec,
    session::{Effect, ToolStatus},
};

/// The tools of a [`McpHub`] under names that providers accept.
///
/// What is derived from the servers' lists is kept and made anew only when they have changed.
pub struct ToolCatalog {
    hub: Arc<McpHub>,
    approval: ApprovalMode,
    max_output_bytes: usize,
    call_timeout: Duration,
    /// Replaced as a whole: two readers that find it old at the same time both make the same new one.
    current: ArcSwap<Snapshot>,
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
    pub effect: Effect,
    /// Whether a call runs at once, after a user's approval, or never.
    pub gate: Gate,
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
    pub fn new(hub: Arc<McpHub>, config: &ToolsConfig, call_timeout: Duration) -> Self {
        let current = ArcSwap::from_pointee(Snapshot::of(&hub));
        Self { hub, approval: config.approval, max_output_bytes: config.max_output_bytes, call_timeout, current }
    }

    /// All tools, sorted by name.
    pub fn list(&self) -> Vec<ToolInfo> {
        let snapshot = self.snapshot();
        let infos = snapshot.tools.iter().zip(snapshot.specs.iter()).map(|((name, entry), spec)| {
            let class = self.class(entry);
            ToolInfo {
                name: name.clone(),
                server: entry.server.clone(),
                remote_name: entry.tool.name.clone(),
                description: entry.tool.description.clone(),
                input_schema: spec.input_schema.clone(),
                effect: class.effect,
                gate: class.gate,
                reason: class.reason,
            }
        });
        infos.collect()
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

    fn class(&self, entry: &Entry) -> CallClass {
        let Verdict { effect, reason } = classify(&Candidate { server: &entry.server, tool: &entry.tool });
        let gate = match (effect, self.approval) {
            (Effect::Read, _) | (_, ApprovalMode::Auto) => Gate::Open,
            (_, ApprovalMode::Ask) => Gate::Ask,
            (_, ApprovalMode::Deny) => Gate::Deny,
        };
        CallClass { target: Target::new(&entry.server, &entry.tool.name), effect, gate, reason }
    }

    /// Whether a call would still be what it was classed as: an approval was given to that.
    fn still_is(&self, class: &CallClass) -> Result<(), String> {
        let (server, tool) = (class.target.server(), class.target.tool());
        let snapshot = self.snapshot();
        let Some(entry) = snapshot.tools.values().find(|e| e.server == server && e.tool.name == tool) else {
            return Err(format!("The MCP server {server} no longer has the tool {tool}."));
        };
        let now = self.class(entry);
        if weight(now.effect) > weight(class.effect) {
            return Err(format!(
                "The tool {tool} of the MCP server {server} has changed: a call is {} now and was {} when it was \
                 looked at. Call it again to have it judged anew.",
                word(now.effect),
                word(class.effect)
            ));
        }
        Ok(())
    }

    fn outcome(&self, status: ToolStatus, text: String, structured: Option<Value>) -> ToolOutcome {
        let fitted = output::fit(text, structured, self.max_output_bytes);
        ToolOutcome {
            status,
            content: fitted.content,
            structured: fitted.structured,
            truncated: fitted.truncated,
            bytes: fitted.bytes,
        }
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
            description: entry.tool.description.clone(),
            input_schema: schema::for_providers(&entry.tool.input_schema),
        });
        Self { version, specs: specs.collect(), tools }
    }
}

#[async_trait]
impl ToolExecutor for ToolCatalog {
    async fn ready(&self) {
        self.hub.settled().await;
    }

    fn specs(&self) -> Arc<[ToolSpec]> {
        self.snapshot().specs.clone()
    }

    fn classify(&self, name: &str, _arguments: &Map<String, Value>) -> Option<CallClass> {
        Some(self.class(self.snapshot().tools.get(name)?))
    }

    async fn call(&self, class: &CallClass, arguments: &Map<String, Value>, progress: ProgressSink) -> ToolOutcome {
        let CallClass { target, effect, .. } = class;
        if let Err(why) = self.still_is(class) {
            return self.outcome(ToolStatus::Error, format!("{why} Nothing was run."), None);
        }
        let progress = Arc::new(move |CallProgress { progress: so_far, total, message }| {
            progress(Progress { progress: so_far, total, message });
        });
        let context = CallContext { progress, ..CallContext::within(CallLimits::of(self.call_timeout)) };
        let answer = self.hub.call(target.server(), target.tool(), arguments.clone(), context).await;
        match answer {
            Ok(answer) => {
                let status = if answer.is_error { ToolStatus::Error } else { ToolStatus::Ok };
                let text = match (&answer.structured, answer.text) {
                    (Some(structured), text) if text.is_empty() => structured.to_string(),
                    (None, text) if text.is_empty() => "(no output)".to_owned(),
                    (_, text) => text,
                };
                self.outcome(status, text, answer.structured)
            }
            Err(error) => {
                let (status, text) = explain(&error, *effect);
                self.outcome(status, text, None)
            }
        }
    }
}

/// How much an effect asks for: what is allowed for one is allowed for all below it.
fn weight(effect: Effect) -> u8 {
    match effect {
        Effect::Read => 0,
        Effect::Idempotent => 1,
        Effect::Mutating => 2,
    }
}

fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "read",
        Effect::Idempotent => "idempotent",
        Effect::Mutating => "mutating",
    }
}

/// What is known after a call that returned nothing, for the model and the user.
fn explain(error: &CallError, effect: Effect) -> (ToolStatus, String) {
    let advice = match effect {
        Effect::Read => "The call changes nothing and can be made again.",
        Effect::Idempotent => {
            "Whether it took effect is not known. Check the state; making the same call again does no harm."
        }
        Effect::Mutating => "Whether it took effect is not known. Check the state before doing it again.",
    };
    let lost = if effect == Effect::Read { ToolStatus::Error } else { ToolStatus::Unknown };
    match error {
        CallError::NotSent(why) => {
            (ToolStatus::Error, format!("The tool was not run: {why}. Nothing was sent, so nothing has changed."))
        }
        CallError::Refused(why) => (ToolStatus::Error, format!("The server refused the call: {why}")),
        CallError::Failed(why) => (lost, format!("The server answered with an error: {why}. {advice}")),
        CallError::Broken(why) => (lost, format!("The connection broke after the request was sent ({why}). {advice}")),
        CallError::Timeout(_) => (ToolStatus::Timeout, format!("{}. {advice}", capitalized(&error.to_string()))),
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_call_is_unknown_unless_it_only_reads() {
        let broken = CallError::Broken("gone".into());
        assert_eq!(explain(&broken, Effect::Read).0, ToolStatus::Error);
        assert_eq!(explain(&broken, Effect::Idempotent).0, ToolStatus::Unknown);
        let (status, text) = explain(&broken, Effect::Mutating);
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
        assert_eq!(explain(&failed, Effect::Read).0, ToolStatus::Error);
        assert_eq!(explain(&failed, Effect::Idempotent).0, ToolStatus::Unknown);
        assert_eq!(
            explain(&failed, Effect::Mutating),
            (
                ToolStatus::Unknown,
                "The server answered with an error: out of memory. \
                 Whether it took effect is not known. Check the state before doing it again."
                    .to_owned()
            )
        );
        assert_eq!(explain(&CallError::Refused("no".into()), Effect::Mutating).0, ToolStatus::Error);
    }

    #[test]
    fn a_timeout_says_how_long_and_what_is_known() {
        let (status, text) = explain(&CallError::Timeout(Duration::from_mins(1)), Effect::Mutating);
        assert_eq!(status, ToolStatus::Timeout);
        assert!(text.starts_with("No answer within 60 s. Whether it took effect is not known."), "{text}");
    }

    #[test]
    fn what_was_not_sent_has_changed_nothing() {
        let (status, text) = explain(&CallError::NotSent("not connected".into()), Effect::Mutating);
        assert_eq!(status, ToolStatus::Error);
        assert!(text.contains("nothing has changed"), "{text}");
    }
}
