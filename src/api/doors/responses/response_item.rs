//! The items of a response.

use k8sops_core::{ApprovalRequested, MessageId, ToolCallId, ToolEnd, ToolStart, ToolStatus};
use serde_json::{Value, json};

use super::{event_number::TextKind, response_id::ApprovalItemId};
use crate::api::doors::waiting_interactions::compact_json;

/// How far an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemStatus {
    InProgress,
    Completed,
    Incomplete,
}

impl ItemStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

/// What a message is in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessagePhase {
    /// The agent goes on after it.
    Commentary,
    /// It answers the user.
    FinalAnswer,
}

impl MessagePhase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Commentary => "commentary",
            Self::FinalAnswer => "final_answer",
        }
    }
}

/// Returns the id of the item that holds a text of a message.
pub(super) fn text_item_id(kind: TextKind, message: MessageId) -> String {
    let prefix = match kind {
        TextKind::Reasoning => "rs",
        TextKind::Text => "msg",
    };
    format!("{prefix}_{}", data_encoding::HEXLOWER.encode(message.as_bytes()))
}

/// Returns an item that holds a text.
pub(super) fn text_item(
    kind: TextKind,
    id: &str,
    text: Option<&str>,
    status: ItemStatus,
    phase: Option<MessagePhase>,
) -> Value {
    let parts: Vec<Value> = text.map(|text| text_part(kind, text)).into_iter().collect();
    match kind {
        TextKind::Reasoning => json!({"type": "reasoning", "id": id, "summary": parts, "status": status.as_str()}),
        TextKind::Text => {
            let mut item = json!({"type": "message", "id": id, "role": "assistant", "content": parts,
                "status": status.as_str()});
            if let Some(phase) = phase {
                item["phase"] = phase.as_str().into();
            }
            item
        }
    }
}

/// Returns the part of an item that is its text.
pub(super) fn text_part(kind: TextKind, text: &str) -> Value {
    match kind {
        TextKind::Reasoning => json!({"type": "summary_text", "text": text}),
        TextKind::Text => json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}),
    }
}

/// A tool call as it starts.
#[derive(Debug, Clone)]
pub(super) struct CallItem {
    id: String,
    server: String,
    name: String,
    /// JSON.
    pub(super) arguments: String,
}

impl CallItem {
    pub(super) fn from_start(start: &ToolStart) -> Self {
        Self {
            id: call_item_id(&start.tool_call_id),
            server: start.server.clone(),
            name: start.name.clone(),
            arguments: compact_json(&start.arguments),
        }
    }

    /// A call whose start is not known.
    pub(super) fn from_end(end: &ToolEnd) -> Self {
        let id = call_item_id(&end.tool_call_id);
        Self { id, server: end.server.clone(), name: end.name.clone(), arguments: "{}".to_owned() }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the call before its arguments, which clients put together from their deltas.
    pub(super) fn begun(&self) -> Value {
        let mut item = self.running();
        item["arguments"] = "".into();
        item
    }

    /// Returns the call while it runs.
    pub(super) fn running(&self) -> Value {
        self.item("in_progress", None, None)
    }

    /// Returns the call that goes on in the next response.
    pub(super) fn interrupted(&self) -> Value {
        self.item("incomplete", None, None)
    }

    /// Returns the call with its result.
    pub(super) fn ended(&self, end: &ToolEnd) -> Value {
        match end.status {
            ToolStatus::Ok => self.item("completed", Some(&end.content), None),
            status if end.content.is_empty() => self.item("failed", None, Some(status.as_str())),
            _ => self.item("failed", None, Some(&end.content)),
        }
    }

    fn item(&self, status: &str, output: Option<&str>, error: Option<&str>) -> Value {
        json!({"type": "mcp_call", "id": self.id, "server_label": self.server, "name": self.name,
            "arguments": self.arguments, "status": status, "output": output, "error": error,
            "approval_request_id": null})
    }
}

fn call_item_id(call: &ToolCallId) -> String {
    format!("mcp_{}", call.as_str().trim_start_matches("call_"))
}

/// Returns a request for approval. What the call would change is in `k8sops`.
pub(super) fn approval_item(id: &ApprovalItemId, asked: &ApprovalRequested) -> Value {
    let mut details = json!({"approval_id": asked.approval_id, "effect": asked.effect, "reason": asked.reason,
        "expires_at": asked.expires_at});
    if !asked.summary.is_empty() {
        details["summary"] = asked.summary.as_str().into();
    }
    if let Some(cluster) = &asked.cluster {
        details["cluster"] = cluster.as_str().into();
    }
    if let Some(preview) = &asked.preview {
        details["preview"] = preview.as_str().into();
    }
    json!({"type": "mcp_approval_request", "id": id.to_string(), "server_label": asked.server, "name": asked.name,
        "arguments": compact_json(&asked.arguments), "k8sops": details})
}
