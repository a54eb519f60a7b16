//! The conversation as messages: what the projection keeps of the log for the model and for `GET …/messages`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MessageId, RunId, Timestamp, ToolCallId};

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// What the user said.
    User(UserMessage),
    /// What the model said, with the tools it asked for.
    Assistant(AssistantMessage),
    /// What a tool returned.
    Tool(ToolMessage),
}

/// What the user said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UserMessage {
    /// The message's id.
    pub message_id: MessageId,
    /// The event that holds it.
    pub seq: u64,
    /// When it was logged.
    pub ts: Timestamp,
    /// The text.
    pub content: String,
}

/// One whole reply of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AssistantMessage {
    /// The message's id.
    pub message_id: MessageId,
    /// The event that holds it.
    pub seq: u64,
    /// When it was logged.
    pub ts: Timestamp,
    /// The run that it belongs to.
    pub run_id: Option<RunId>,
    /// The text; empty when the model only called tools.
    pub content: String,
    /// What the model thought aloud, where the provider shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The tools it asked for, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why the reply ended.
    pub stop_reason: StopReason,
}

/// What a tool returned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolMessage {
    /// The call that this answers.
    pub tool_call_id: ToolCallId,
    /// The event that holds it.
    pub seq: u64,
    /// When it was logged.
    pub ts: Timestamp,
    /// The tool's name.
    pub name: String,
    /// How the call ended.
    pub status: ToolStatus,
    /// The output, cut to the budget.
    pub content: String,
}

impl Message {
    /// The event that holds this message.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match self {
            Self::User(m) => m.seq,
            Self::Assistant(m) => m.seq,
            Self::Tool(m) => m.seq,
        }
    }
}

/// A tool call that the model asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolCall {
    /// Unique in the session.
    pub id: ToolCallId,
    /// The tool's name as the model knows it.
    pub name: String,
    /// The arguments: an object; anything else is what the model wrote in place of one.
    pub arguments: serde_json::Value,
}

/// Why a reply of the model ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model had said all.
    EndTurn,
    /// It waits for the results of its tool calls.
    ToolUse,
    /// The limit of output tokens was reached in the middle.
    MaxTokens,
    /// The provider's filter stopped it, or the model refused.
    Refusal,
    /// The user cancelled; the text is what had come until then.
    Cancelled,
    /// The provider named a reason that is none of these.
    Other,
}

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// The tool answered.
    Ok,
    /// The tool, or the way to it, failed.
    Error,
    /// The user, or the operator's policy, said no: it was not run.
    Denied,
    /// The turn was cancelled; a call that changes nothing was dropped, or the call had not begun.
    Cancelled,
    /// No answer in time. A call that changes something may still have taken effect.
    Timeout,
    /// The call was sent, and whether it took effect is not known.
    Unknown,
}

impl ToolStatus {
    /// The word used in JSON and in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Unknown => "unknown",
        }
    }
}

/// What a tool call does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It only looks.
    Read,
    /// It changes something, and doing it twice is the same as once.
    Idempotent,
    /// It changes something.
    Mutating,
}

impl Effect {
    /// The word used in JSON and in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Idempotent => "idempotent",
            Self::Mutating => "mutating",
        }
    }
}

/// Tokens that a model call, a run or a session used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens of the prompts, cached ones included.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens of the replies, reasoning included.
    #[serde(default)]
    pub output_tokens: u64,
    /// Prompt tokens that the provider read from its cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Reply tokens spent on reasoning, where the provider counts them apart.
    #[serde(default)]
    pub reasoning_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cached_tokens += other.cached_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
    }
}
