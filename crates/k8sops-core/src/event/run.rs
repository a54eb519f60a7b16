//! Events of a run: the message that begins it, what the model says, and how it ends.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommandId, MessageId, ProviderData, RequestContext, StopReason, TokenUsage, ToolCall};

/// See [`EventBody::UserMessage`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UserMessageEvent {
    /// The message's id.
    pub message_id: MessageId,
    /// The text.
    pub content: String,
    /// The command that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// See [`EventBody::RunStarted`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunStarted {
    /// The request that it came from.
    #[serde(default, skip_serializing_if = "RequestContext::is_empty")]
    pub cause: RequestContext,
    /// The provider that this run asks.
    pub provider: String,
    /// The model that this run asks.
    pub model: String,
    /// 1; a run that goes on after an interruption says so with `run_recovered`.
    pub attempt: u32,
    /// Whether memories are recalled for it, and what it says is looked at for new ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
}

/// See [`EventBody::AssistantMessage`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AssistantMessageEvent {
    /// The message's id, the same as in its `token` events.
    pub message_id: MessageId,
    /// The whole text.
    pub content: String,
    /// What the model thought aloud, where the provider shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The tools it asked for, in its order.
    #[serde(default)]
    pub tool_calls: Vec<ToolCall>,
    /// What this reply used.
    pub usage: TokenUsage,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// The provider that wrote it: the run's, or one of its fallbacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the provider wants back of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_data: Option<ProviderData>,
}

/// See [`EventBody::ContextCompacted`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContextCompacted {
    /// What the model is sent in the place of all messages up to `up_to_seq`.
    pub summary: String,
    /// The newest message that the summary stands for.
    pub up_to_seq: u64,
    /// Tokens of the next request as it would have been.
    pub tokens_before: u64,
    /// Tokens of it as it is, about.
    pub tokens_after: u64,
    /// What the summary cost.
    #[serde(default)]
    pub usage: TokenUsage,
    /// The provider that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// See [`EventBody::RunRecovered`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunRecovered {
    /// The number of this attempt at the run, from 2 on.
    pub attempt: u32,
    /// Messages whose previews are void.
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
    /// The user cancelled.
    Cancelled,
    /// A limit was reached; the last message says as much as was known.
    Limit,
}

impl RunOutcome {
    /// The word used in JSON and in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Limit => "limit",
        }
    }
}

/// See [`EventBody::RunFinished`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunFinished {
    /// How.
    pub outcome: RunOutcome,
    /// What all model calls of the run used.
    pub usage: TokenUsage,
    /// From `run_started` to here.
    pub duration_ms: u64,
}

/// See [`EventBody::RunFailed`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunFailed {
    /// A stable word for the cause.
    pub code: String,
    /// What was attempted, what was found, what to do.
    pub message: String,
    /// Whether the same message may succeed later.
    pub retryable: bool,
    /// What all model calls of the run used.
    #[serde(default)]
    pub usage: TokenUsage,
}

/// See [`EventBody::Warning`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Warning)]
pub struct SessionWarning {
    /// A stable word for the cause.
    pub code: String,
    /// What happened.
    pub message: String,
    /// How long it is waited before the next attempt, in seconds, where something is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<f64>,
}

impl SessionWarning {
    /// A warning after which nothing is waited for.
    #[must_use]
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), wait_seconds: None }
    }
}
