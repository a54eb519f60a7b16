//! The conversation as messages: what the projection keeps of the log for the model and for `GET …/messages`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MemoryNote, MessageId, RunId, Timestamp, ToolCallId, UsdAmount};

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Message)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum ChatMessage {
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
    /// Whether it may be remembered beyond this session, with what was said because of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
    /// What was remembered when it came, and is given to the model with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recalled: Vec<MemoryNote>,
}

impl UserMessage {
    /// A message in the place of the user's that stands in no log.
    #[must_use]
    pub fn unlogged(content: impl Into<String>) -> Self {
        let (message_id, ts) = (MessageId::new(), Timestamp::now());
        Self { message_id, seq: 0, ts, content: content.into(), memory: false, recalled: Vec::new() }
    }
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
    /// The provider that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the provider wants back of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_data: Option<ProviderData>,
    /// What it used: its input and output together are the conversation up to here, as the model counts it.
    #[serde(default)]
    pub usage: TokenUsage,
}

/// What a provider wants back of its own reply when the conversation goes on: signed thinking, encrypted reasoning. Opaque
/// to all but the adapter that wrote it, and sent to no other provider or model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderData {
    /// The wire protocol that the blocks belong to.
    pub api: String,
    /// The blocks of the reply in their order. Text and arguments are not repeated in them.
    #[schema(value_type = Vec<Object>)]
    pub blocks: Vec<serde_json::Value>,
}

impl ProviderData {
    /// About how many bytes it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        fn of(value: &serde_json::Value) -> usize {
            match value {
                serde_json::Value::String(text) => text.len(),
                serde_json::Value::Array(items) => items.iter().map(of).sum(),
                serde_json::Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + of(value)).sum(),
                _ => 4,
            }
        }
        self.blocks.iter().map(of).sum()
    }
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

impl ChatMessage {
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
    /// The provider paused a long reply of its own accord; asked again, it goes on.
    Paused,
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
#[schema(as = Effect)]
#[serde(rename_all = "snake_case")]
pub enum ToolEffect {
    /// It only looks.
    Read,
    /// It changes something, and doing it twice is the same as once.
    Idempotent,
    /// It changes something.
    Mutating,
}

impl ToolEffect {
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
#[schema(as = Usage)]
pub struct TokenUsage {
    /// Tokens of the prompts, cached ones included.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens of the replies, reasoning included.
    #[serde(default)]
    pub output_tokens: u64,
    /// Prompt tokens that the provider read from its cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Prompt tokens that the provider wrote to its cache, where it charges for that.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Reply tokens spent on reasoning, where the provider counts them apart.
    #[serde(default)]
    pub reasoning_tokens: u64,
    /// What it cost in US dollars, by the prices of the catalog; 0 where they are not known.
    #[serde(default)]
    #[schema(value_type = f64)]
    pub cost_usd: UsdAmount,
}

impl TokenUsage {
    /// Tokens in and out: what budgets count.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl std::ops::AddAssign for TokenUsage {
    fn add_assign(&mut self, other: Self) {
        // A provider may say anything; a sum that cannot be made must not keep a session from being opened.
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.output_tokens, other.output_tokens);
        add(&mut self.cached_tokens, other.cached_tokens);
        add(&mut self.cache_write_tokens, other.cache_write_tokens);
        add(&mut self.reasoning_tokens, other.reasoning_tokens);
        self.cost_usd += other.cost_usd;
    }
}
