//! Whether a run that changed something looked at it afterwards. A run that did not is asked once to look.
//!
//! Nothing of this is logged: whether the model was asked follows from the replies, so that a run which another process
//! resumes goes on at the same place.

use std::{collections::HashSet, sync::Arc};

use k8sops_core::{
    AssistantMessage, ChatMessage, RunId, StopReason, ToolCall, ToolEffect, ToolMessage, ToolStatus, UserMessage,
};
use k8sops_tools::ToolExecutor;
use serde_json::Value;

use crate::{citations::is_pod_name, provenance::is_vocabulary};

/// Minimum length of a word in the arguments of a change that can name its object.
const MIN_NAME_CHARS: usize = 3;

/// What the model is told once after a change that it did not look at.
const LOOK_AGAIN: &str = "k8sops says: you changed something in this turn and have not looked at it since. Look now whether it helped, \
                          then answer. If there is nothing to look at, say what remains unverified.";

/// Where a run stands with the newest change that it made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeCheck<'a> {
    /// Nothing was changed, or it was looked at.
    Verified,
    /// The change by this tool was not looked at.
    Unverified {
        /// The tool.
        tool: &'a str,
        /// Answers of the run since its first change. After the first one, the model was asked to look.
        answers: usize,
    },
}

/// Checks the calls of a run in the order of their results.
pub(crate) fn check_changes<'a>(
    run: RunId,
    messages: &'a [Arc<ChatMessage>],
    tools: &dyn ToolExecutor,
) -> ChangeCheck<'a> {
    let start = messages.iter().rposition(|m| matches!(m.as_ref(), ChatMessage::User(_))).unwrap_or(0);
    let turn = &messages[start..];
    let mut change: Option<ChangedObjects<'_>> = None;
    let mut has_changed = false;
    let mut answers = 0;
    for message in turn {
        match message.as_ref() {
            ChatMessage::User(_) => {}
            ChatMessage::Assistant(reply) => answers += usize::from(has_changed && is_answer(reply, run)),
            ChatMessage::Tool(result) => {
                let Some(call) = find_call(turn, &result.tool_call_id) else { continue };
                let Value::Object(arguments) = &call.arguments else { continue };
                let effect = tools.classify_call(&call.name, arguments, None).map(|class| class.effect);
                match effect {
                    Some(ToolEffect::Read) => {
                        if change.as_ref().is_some_and(|change| change.is_shown_by(call, result)) {
                            change = None;
                        }
                    }
                    Some(ToolEffect::Idempotent | ToolEffect::Mutating) if may_have_run(result.status) => {
                        change = Some(ChangedObjects::of_call(call));
                        has_changed = true;
                    }
                    _ => {}
                }
            }
        }
    }
    match change {
        Some(change) => ChangeCheck::Unverified { tool: &change.call.name, answers },
        None => ChangeCheck::Verified,
    }
}

/// A change, and the words by which a read shows that it is about the same objects.
struct ChangedObjects<'a> {
    call: &'a ToolCall,
    names: HashSet<&'a str>,
}

impl<'a> ChangedObjects<'a> {
    fn of_call(call: &'a ToolCall) -> Self {
        Self { call, names: object_names(&call.arguments) }
    }

    /// Returns whether the result of a read shows the objects. That an object is gone shows an error, or a list without it.
    fn is_shown_by(&self, read: &ToolCall, result: &ToolMessage) -> bool {
        let arguments = read.arguments.to_string();
        let is_asked_for = self.names.iter().any(|name| arguments.contains(name));
        match result.status {
            ToolStatus::Error => is_asked_for,
            ToolStatus::Ok => {
                is_asked_for
                    || self.names.is_empty()
                    || self.is_removal()
                    || self.names.iter().any(|name| result.content.contains(name))
            }
            _ => false,
        }
    }

    fn is_removal(&self) -> bool {
        let words = [self.call.name.to_lowercase(), self.call.arguments.to_string().to_lowercase()];
        let removes = |text: &String| ["delete", "uninstall", "remove"].iter().any(|verb| text.contains(verb));
        words.iter().any(removes)
    }
}

/// Returns whether the run has answered already.
pub(crate) fn has_answered(run: RunId, messages: &[Arc<ChatMessage>]) -> bool {
    messages.iter().rev().take_while(|message| !matches!(message.as_ref(), ChatMessage::User(_))).any(|message| {
        matches!(message.as_ref(), ChatMessage::Assistant(reply) if is_answer(reply, run) && !reply.content.trim().is_empty())
    })
}

/// Returns the conversation with the requests to look again where they were made.
pub(crate) fn insert_requests_to_look(messages: &mut Vec<Arc<ChatMessage>>, open_run: Option<RunId>) {
    let mut at = 0;
    while at < messages.len() {
        let next_run = match messages.get(at + 1).map(AsRef::as_ref) {
            Some(ChatMessage::Assistant(next)) => next.run_id,
            Some(_) => None,
            None => open_run,
        };
        if let ChatMessage::Assistant(reply) = messages[at].as_ref()
            && next_run.is_some_and(|run| is_answer(reply, run))
        {
            messages.insert(at + 1, Arc::new(ChatMessage::User(UserMessage::unlogged(LOOK_AGAIN))));
            at += 1;
        }
        at += 1;
    }
}

/// Returns whether a reply is an answer of this run.
fn is_answer(reply: &AssistantMessage, run: RunId) -> bool {
    reply.run_id == Some(run) && reply.tool_calls.is_empty() && is_answer_reason(reply.stop_reason)
}

/// Returns whether a reply that stopped for this reason, without calls, is the whole answer.
pub(crate) fn is_answer_reason(reason: StopReason) -> bool {
    matches!(reason, StopReason::EndTurn | StopReason::ToolUse | StopReason::Other)
}

fn find_call<'a>(turn: &'a [Arc<ChatMessage>], id: &k8sops_core::ToolCallId) -> Option<&'a ToolCall> {
    turn.iter().find_map(|message| match message.as_ref() {
        ChatMessage::Assistant(reply) => reply.tool_calls.iter().find(|call| call.id == *id),
        _ => None,
    })
}

/// Returns whether a call took effect, as far as it is known.
fn may_have_run(status: ToolStatus) -> bool {
    matches!(status, ToolStatus::Ok | ToolStatus::Unknown | ToolStatus::Timeout)
}

/// Returns the words of arguments that can name the object of a change: values of keys like `name` and `resourceName`, and names
/// in manifests; in a command line, all words that are neither options, the namespace nor the tools' own vocabulary.
fn object_names(arguments: &Value) -> HashSet<&str> {
    let mut names = HashSet::new();
    let mut words = HashSet::new();
    collect_names("", arguments, &mut names, &mut words);
    let mut names = if names.is_empty() { words } else { names };
    // What became of a deleted pod shows at its workload.
    let workloads: Vec<&str> =
        names.iter().filter(|name| is_pod_name(name)).filter_map(|name| name.rsplitn(3, '-').nth(2)).collect();
    names.extend(workloads);
    names
}

fn collect_names<'a>(key: &str, value: &'a Value, names: &mut HashSet<&'a str>, words: &mut HashSet<&'a str>) {
    let key = key.to_ascii_lowercase();
    match value {
        Value::String(_) if matches!(key.as_str(), "namespace" | "context" | "cluster") => {}
        Value::String(text) if key.ends_with("name") => drop(names.insert(text.as_str())),
        Value::String(text) => {
            let in_manifest =
                text.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("name: "));
            names.extend(in_manifest.map(|name| name.trim().trim_matches(['"', '\''])));
            let mut is_namespace = false;
            for argument in text.split_whitespace() {
                let skipped = std::mem::replace(&mut is_namespace, matches!(argument, "-n" | "--namespace"));
                if skipped || argument.starts_with('-') {
                    continue;
                }
                let parts = argument.split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '.' | '_')));
                words.extend(parts.filter(|part| part.len() >= MIN_NAME_CHARS && !is_vocabulary(part)));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_names(&key, item, names, words)),
        Value::Object(fields) => fields.iter().for_each(|(key, field)| collect_names(key, field, names, words)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_changed_objects_are_found() {
        for (arguments, expected) in [
            (json!({"name": "checkout", "namespace": "shop", "replicas": 3}), vec!["checkout"]),
            (json!({"command": "kubectl scale deployment/checkout --replicas=3 -n shop"}), vec!["checkout"]),
            (json!({"args": ["rollout", "undo", "deploy/web"]}), vec!["web"]),
            (
                json!({"resource": "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: cart\nspec:\n  replicas: 2\n"}),
                vec!["cart"],
            ),
            (json!({"namespace": "shop", "name": "web-7d9f8b6c5-x2x9k"}), vec!["web-7d9f8b6c5-x2x9k", "web"]),
            (json!({"resourceType": "node", "resourceName": "worker-1"}), vec!["worker-1"]),
        ] {
            let found = object_names(&arguments);
            assert_eq!(found, expected.into_iter().collect(), "{arguments}");
        }
    }
}
