//! Events of a run: the message that starts it, the replies of the model, and how it ends.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    attachment::MessageAttachment,
    ids::{CommandId, MessageId},
    message::{Citation, ProviderData, StopReason, TokenUsage, ToolCall},
    request_context::RequestContext,
    request_form::SimplifiedRequest,
};

/// A message of the user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UserMessageEvent {
    /// The id of the message.
    pub message_id: MessageId,
    /// The text.
    pub content: String,
    /// The texts that were attached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<MessageAttachment>,
    /// The command that brought the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// The start of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunStarted {
    /// The request that caused the run.
    #[serde(default, skip_serializing_if = "RequestContext::is_empty")]
    pub cause: RequestContext,
    /// The provider that this run asks.
    pub provider: String,
    /// The model that this run asks.
    pub model: String,
    /// Always 1; `run_recovered` counts the later attempts.
    pub attempt: u32,
    /// Whether memories are recalled for this run, and extracted from it afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
}

/// A whole reply of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AssistantMessageEvent {
    /// The id of the message, the same as in its `token` events.
    pub message_id: MessageId,
    /// The whole text; empty if the model only called tools.
    pub content: String,
    /// The reasoning that the provider shows, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The tools that the model calls, in its order.
    #[serde(default)]
    pub tool_calls: Vec<ToolCall>,
    /// The tool outputs that the text cites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub citations: Vec<Citation>,
    /// Tokens and cost of this reply.
    pub usage: TokenUsage,
    /// Why the reply ended.
    pub stop_reason: StopReason,
    /// The provider that the reply came from: that of the run, or one of its fallbacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that wrote the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Data that the provider needs back with the next request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_data: Option<ProviderData>,
}

/// A summary of the oldest turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContextCompacted {
    /// The summary that the model is sent in place of all messages up to `up_to_seq`.
    pub summary: String,
    /// The seq of the newest message that the summary replaces.
    pub up_to_seq: u64,
    /// Tokens of the next request without the summary.
    pub tokens_before: u64,
    /// Estimated tokens of the next request with the summary.
    pub tokens_after: u64,
    /// Tokens and cost of writing the summary.
    #[serde(default)]
    pub usage: TokenUsage,
    /// The provider that wrote the summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that wrote the summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// The continuation of a run after an interruption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunRecovered {
    /// The number of this attempt at the run, from 2 on.
    pub attempt: u32,
    /// Messages whose previews are void: discard their text.
    pub superseded: Vec<MessageId>,
    /// What interrupted the attempt before.
    pub reason: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Outcome)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// The model gave its answer.
    Completed,
    /// The user cancelled the run.
    Cancelled,
    /// A limit of the run was reached; the last message says what was found by then.
    Limit,
}

impl RunOutcome {
    /// The value in JSON and in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Limit => "limit",
        }
    }
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunFinished {
    /// How the run ended.
    pub outcome: RunOutcome,
    /// Tokens and cost of all model calls of the run.
    pub usage: TokenUsage,
    /// The time since `run_started`, in milliseconds.
    pub duration_ms: u64,
}

/// The failure of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunFailed {
    /// A stable code of the cause.
    pub code: String,
    /// What was attempted, what was found, and what to do about it.
    pub message: String,
    /// Whether sending the same message again may succeed later.
    pub retryable: bool,
    /// The model provider's id of the request that failed, if it named one. Its support finds the request by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_request_id: Option<String>,
    /// Tokens and cost of all model calls of the run.
    #[serde(default)]
    pub usage: TokenUsage,
}

/// A warning about the session or its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Warning)]
pub struct SessionWarning {
    /// A stable code of the cause.
    pub code: String,
    /// What happened.
    pub message: String,
    /// Seconds until the next attempt, if something is retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<f64>,
    /// The MCP servers that are not connected, in a warning about them. The model is told with the message it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unavailable_servers: Vec<String>,
    /// How the conversation is simplified from now on for a model that rejected it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simplified: Option<SimplifiedRequest>,
    /// The model call that failed, if its provider reported that it used tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_call: Option<Box<DroppedCall>>,
}

/// A model call whose reply was dropped, although its provider counts its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DroppedCall {
    /// The provider of the model.
    pub provider: String,
    /// The id of the model at its provider.
    pub model: String,
    /// Tokens and cost, as far as the provider reported them before the call failed.
    pub usage: TokenUsage,
}

/// The code of the warning that the store has lost an accepted message.
pub(super) const MESSAGE_LOST: &str = "message_lost";

impl SessionWarning {
    /// The warning that the store has lost an accepted message, or several whose ids are not known.
    #[must_use]
    pub fn message_lost(count: u64) -> Self {
        let what = match count {
            1 => "the store has lost the message".to_owned(),
            count => format!("the store has lost {count} messages that were accepted"),
        };
        Self::new(MESSAGE_LOST, format!("{what}; send it again, with the same Idempotency-Key if it had one"))
    }

    /// A warning after which nothing is retried.
    #[must_use]
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            wait_seconds: None,
            unavailable_servers: Vec::new(),
            simplified: None,
            dropped_call: None,
        }
    }
}
