//! Whether a turn that changed something looked at it afterwards. Until it has, the model is asked to with each request, and an
//! answer without a look is marked with a warning.

use std::{collections::HashSet, sync::Arc};

use k8sops_core::{ChatMessage, ToolCall, ToolEffect, ToolMessage, ToolStatus};
use k8sops_tools::ToolExecutor;
use serde_json::Value;

use crate::{citations::is_pod_name, provenance::is_vocabulary};

/// Minimum length of a word in the arguments of a change that can name its object.
const MIN_NAME_CHARS: usize = 3;

/// What the model reads below the newest result until it has looked.
const LOOK_FIRST: &str = "\n[k8sops: something was changed in this turn and not looked at since. Look whether it helped before you \
                          answer; if there is nothing to look at, say what remains unverified.]";

/// Returns the tool of the newest change of the current turn that nothing has read since.
pub(crate) fn find_unverified_change<'a>(
    messages: &'a [Arc<ChatMessage>],
    tools: &dyn ToolExecutor,
) -> Option<&'a str> {
    let start = messages.iter().rposition(|m| matches!(m.as_ref(), ChatMessage::User(_))).unwrap_or(0);
    let turn = &messages[start..];
    let mut change: Option<ChangedObjects<'_>> = None;
    for message in turn {
        let ChatMessage::Tool(result) = message.as_ref() else { continue };
        let Some(call) = find_call(turn, &result.tool_call_id) else { continue };
        let Value::Object(arguments) = &call.arguments else { continue };
        let Some(class) = tools.classify_call(&call.name, arguments, None) else { continue };
        match class.effect {
            ToolEffect::Read => {
                if change.as_ref().is_some_and(|change| change.is_shown_by(call, result)) {
                    change = None;
                }
            }
            // What a call of which nothing is known did may be nothing.
            ToolEffect::Idempotent | ToolEffect::Mutating if class.is_assumed => {}
            ToolEffect::Idempotent | ToolEffect::Mutating => {
                if may_have_run(result.status) {
                    change = Some(ChangedObjects::of_call(call));
                }
            }
        }
    }
    change.map(|change| change.call.name.as_str())
}

/// Asks the model below the newest result to look at what it changed. This stands only in the request: it is not true any more
/// when the turn goes on.
pub(crate) fn request_look(messages: &mut [Arc<ChatMessage>]) {
    if let Some(newest) = messages.last_mut()
        && let ChatMessage::Tool(result) = newest.as_ref()
    {
        let content = format!("{}{LOOK_FIRST}", result.content);
        *newest = Arc::new(ChatMessage::Tool(ToolMessage { content, ..result.clone() }));
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
