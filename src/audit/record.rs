//! What a record says.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use k8sops_core::{
    ApprovalId, EventBody, MessageId, RunId, SessionEvent, SessionId, ToolCallId, ToolEffect, ToolStatus, UserId,
};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A process began to write here.
    ChainStarted,
    /// The chain of another file goes on here.
    ChainContinued,
    /// The chain goes on in another file.
    ChainMoved,
    /// The process ended in order.
    ChainClosed,
    /// Records before this one could not be written; `lost` says how many.
    RecordsLost,
    /// A session was begun.
    SessionCreated,
    /// A session was deleted.
    SessionDeleted,
    /// A message was taken up.
    MessageAccepted,
    /// Settings of a session were changed.
    SettingsChanged,
    /// A tool call waits for an approval.
    ApprovalRequested,
    /// An approval was given, refused, or has expired.
    ApprovalResolved,
    /// A tool call is about to be sent.
    ToolCallStarted,
    /// A tool call has ended.
    ToolCallEnded,
    /// A memory, or all of a user, was deleted.
    MemoryDeleted,
    /// Callers were not let in: what they presented is not valid. At most one record a minute, however many.
    LoginFailed,
}

/// A record before it has its place in a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    action: Action,
    /// A user (`user:anna`), or `system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<ToolCallId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval_id: Option<ApprovalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<ToolEffect>,
    /// Of their canonical JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<ToolStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
}

impl Entry {
    /// A record of an action, and of nothing else yet.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            action,
            actor: None,
            session_id: None,
            run_id: None,
            message_id: None,
            tool_call_id: None,
            approval_id: None,
            server: None,
            tool: None,
            effect: None,
            arguments_sha256: None,
            decision: None,
            approved_by: None,
            status: None,
            lost: None,
        }
    }

    /// Who did it.
    #[must_use]
    pub fn by(self, actor: impl Into<String>) -> Self {
        Self { actor: Some(actor.into()), ..self }
    }

    /// In which session.
    #[must_use]
    pub fn in_session(self, session: SessionId) -> Self {
        Self { session_id: Some(session), ..self }
    }

    /// In which run.
    #[must_use]
    pub fn in_run(self, run: Option<RunId>) -> Self {
        Self { run_id: run, ..self }
    }

    /// With which arguments, of which only the hash is kept.
    #[must_use]
    pub fn with(self, arguments: &Value) -> Self {
        Self { arguments_sha256: Some(hash_of(arguments)), ..self }
    }

    /// Of which tool call.
    #[must_use]
    pub fn call(self, call: &ToolCallId, server: &str, tool: &str, effect: ToolEffect) -> Self {
        Self {
            tool_call_id: Some(call.clone()),
            server: Some(server.to_owned()),
            tool: Some(tool.to_owned()),
            effect: Some(effect),
            ..self
        }
    }

    /// Who approved it.
    #[must_use]
    pub fn approved(self, by: Option<String>) -> Self {
        Self { approved_by: by, ..self }
    }

    pub(super) fn action(&self) -> Action {
        self.action
    }

    pub(super) fn lost(count: u64) -> Self {
        Self { lost: Some(count), ..Self::new(Action::RecordsLost) }
    }

    /// What a committed event says, where that belongs into a trail. The start of a tool call does not come from its event:
    /// it is recorded before the call is sent.
    #[must_use]
    pub fn of_event(event: &SessionEvent, user: &UserId) -> Option<Self> {
        let new = |action| Self::new(action).in_session(event.session_id).in_run(event.run_id);
        Some(match &event.body {
            EventBody::SessionCreated(e) => {
                new(Action::SessionCreated).by(e.by.to_string()).with(&serde_json::to_value(&e.settings).ok()?)
            }
            EventBody::SettingsChanged(e) => {
                new(Action::SettingsChanged).by(e.by.to_string()).with(&serde_json::to_value(&e.settings).ok()?)
            }
            EventBody::UserMessage(e) => {
                let entry =
                    new(Action::MessageAccepted).by(format!("user:{user}")).with(&Value::String(e.content.clone()));
                Self { message_id: Some(e.message_id), ..entry }
            }
            EventBody::ApprovalRequested(e) => {
                let entry = new(Action::ApprovalRequested).by("system").with(&e.arguments);
                Self {
                    approval_id: Some(e.approval_id),
                    tool_call_id: Some(e.tool_call_id.clone()),
                    tool: Some(e.name.clone()),
                    effect: Some(e.effect),
                    ..entry
                }
            }
            EventBody::ApprovalResolved(e) => {
                let entry = new(Action::ApprovalResolved).by(e.by.to_string());
                let entry = e.arguments.iter().fold(entry, Self::with);
                let decision = serde_json::to_value(e.decision).ok()?.as_str()?.to_owned();
                Self { approval_id: Some(e.approval_id), decision: Some(decision), ..entry }
            }
            EventBody::ToolEnd(e) => {
                let entry = new(Action::ToolCallEnded).by(format!("user:{user}"));
                Self { tool_call_id: Some(e.tool_call_id.clone()), status: Some(e.status), ..entry }
            }
            _ => return None,
        })
    }
}

/// The SHA-256 of a value's canonical JSON: no spaces, keys of objects in the order of their code points.
#[must_use]
pub fn hash_of(value: &Value) -> String {
    fn canonical(value: &Value, into: &mut String) {
        match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    into.push(if at == 0 { '[' } else { ',' });
                    canonical(item, into);
                }
                into.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(key, _)| key.as_str());
                for (at, (key, value)) in fields.iter().enumerate() {
                    into.push(if at == 0 { '{' } else { ',' });
                    into.push_str(&Value::String((*key).clone()).to_string());
                    into.push(':');
                    canonical(value, into);
                }
                into.push_str(if fields.is_empty() { "{}" } else { "}" });
            }
            plain => into.push_str(&plain.to_string()),
        }
    }
    let mut text = String::new();
    canonical(value, &mut text);
    hex(&Sha256::digest(text))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
