//! The content of an audit record.

use data_encoding::HEXLOWER;
use k8sops_core::{
    ApprovalId, EventBody, MessageId, RunId, SessionEvent, SessionId, ToolCallId, ToolEffect, ToolStatus, UserId,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The action that a record describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditAction {
    /// A process started to write to this file.
    ChainStarted,
    /// The chain of another file continues in this file.
    ChainContinued,
    /// The chain continues in another file.
    ChainMoved,
    /// The process shut down gracefully.
    ChainClosed,
    /// Records before this one could not be written; `lost` is their number.
    RecordsLost,
    /// A session was created.
    SessionCreated,
    /// A session was deleted.
    SessionDeleted,
    /// A message was accepted and its run started.
    MessageAccepted,
    /// The settings of a session were changed.
    SettingsChanged,
    /// A tool call requires approval.
    ApprovalRequested,
    /// An approval was granted, denied or expired.
    ApprovalResolved,
    /// A tool call is about to be sent.
    ToolCallStarted,
    /// A tool call has ended.
    ToolCallEnded,
    /// A single-use ticket was issued.
    TicketIssued,
    /// A link was created by which others read a session.
    ShareCreated,
    /// A link was revoked by which others read a session.
    ShareRevoked,
    /// A client asked for push notifications of a task, or changed where they go.
    PushConfigSaved,
    /// A client ended push notifications of a task.
    PushConfigDeleted,
    /// One memory or all memories of a user were deleted.
    MemoryDeleted,
    /// Requests with invalid credentials were rejected. At most one record per minute is written.
    LoginFailed,
}

/// A record before it is added to a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRecord {
    action: AuditAction,
    /// A user (`user:anna`) or `system`.
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
    /// The SHA-256 of the canonical JSON of the arguments.
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

impl AuditRecord {
    /// Creates a record that contains only its action.
    #[must_use]
    pub fn new(action: AuditAction) -> Self {
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

    /// Sets the actor: `user:` and the user's id, or `system`.
    #[must_use]
    pub fn with_actor(self, actor: impl Into<String>) -> Self {
        Self { actor: Some(actor.into()), ..self }
    }

    /// Sets the session.
    #[must_use]
    pub fn with_session(self, session: SessionId) -> Self {
        Self { session_id: Some(session), ..self }
    }

    /// Sets the run, if there is one.
    #[must_use]
    pub fn with_run(self, run: Option<RunId>) -> Self {
        Self { run_id: run, ..self }
    }

    /// Sets the hash of the arguments. The arguments themselves are not stored.
    #[must_use]
    pub fn with_arguments(self, arguments: &Value) -> Self {
        Self { arguments_sha256: Some(canonical_sha256(arguments)), ..self }
    }

    /// Sets the tool call.
    #[must_use]
    pub fn with_tool_call(self, call: &ToolCallId, server: &str, tool: &str, effect: ToolEffect) -> Self {
        Self {
            tool_call_id: Some(call.clone()),
            server: Some(server.to_owned()),
            tool: Some(tool.to_owned()),
            effect: Some(effect),
            ..self
        }
    }

    /// Sets the actor that approved the tool call.
    #[must_use]
    pub fn with_approver(self, by: Option<String>) -> Self {
        Self { approved_by: by, ..self }
    }

    pub(super) fn action(&self) -> AuditAction {
        self.action
    }

    pub(super) fn with_lost_count(count: u64) -> Self {
        Self { lost: Some(count), ..Self::new(AuditAction::RecordsLost) }
    }

    /// Creates the record of a committed event. Returns `None` for events that are not audited. The start of a tool call is
    /// not recorded from its event but before the call is sent.
    #[must_use]
    pub fn from_event(event: &SessionEvent, user: &UserId) -> Option<Self> {
        let new = |action| Self::new(action).with_session(event.session_id).with_run(event.run_id);
        Some(match &event.body {
            EventBody::SessionCreated(e) => new(AuditAction::SessionCreated)
                .with_actor(e.by.to_string())
                .with_arguments(&serde_json::to_value(&e.settings).ok()?),
            EventBody::SettingsChanged(e) => new(AuditAction::SettingsChanged)
                .with_actor(e.by.to_string())
                .with_arguments(&serde_json::to_value(&e.settings).ok()?),
            EventBody::UserMessage(e) => {
                let record = new(AuditAction::MessageAccepted)
                    .with_actor(format!("user:{user}"))
                    .with_arguments(&Value::String(e.content.clone()));
                Self { message_id: Some(e.message_id), ..record }
            }
            EventBody::ApprovalRequested(e) => {
                let record = new(AuditAction::ApprovalRequested).with_actor("system").with_arguments(&e.arguments);
                Self {
                    approval_id: Some(e.approval_id),
                    tool_call_id: Some(e.tool_call_id.clone()),
                    tool: Some(e.name.clone()),
                    effect: Some(e.effect),
                    ..record
                }
            }
            EventBody::ApprovalResolved(e) => {
                let record = new(AuditAction::ApprovalResolved).with_actor(e.by.to_string());
                let record = e.arguments.iter().fold(record, Self::with_arguments);
                let decision = serde_json::to_value(e.decision).ok()?.as_str()?.to_owned();
                Self { approval_id: Some(e.approval_id), decision: Some(decision), ..record }
            }
            EventBody::ToolEnd(e) => {
                let record = new(AuditAction::ToolCallEnded).with_actor(format!("user:{user}"));
                Self { tool_call_id: Some(e.tool_call_id.clone()), status: Some(e.status), ..record }
            }
            _ => return None,
        })
    }
}

/// Returns the SHA-256 of a value's canonical JSON: no spaces, object keys sorted by code point.
#[must_use]
pub fn canonical_sha256(value: &Value) -> String {
    fn write_canonical(value: &Value, into: &mut String) {
        match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    into.push(if at == 0 { '[' } else { ',' });
                    write_canonical(item, into);
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
                    write_canonical(value, into);
                }
                into.push_str(if fields.is_empty() { "{}" } else { "}" });
            }
            plain => into.push_str(&plain.to_string()),
        }
    }
    let mut text = String::new();
    write_canonical(value, &mut text);
    HEXLOWER.encode(&Sha256::digest(text))
}
