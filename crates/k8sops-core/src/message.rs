//! The conversation as messages: what the projection keeps of the log for the model and for `GET …/messages`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    attachment::{MessageAttachment, attachment_bytes},
    event::{EventAuthor, FeedbackRating},
    ids::{CommandId, MessageId, RunId, ToolCallId},
    lineage::LostToolCall,
    money::UsdAmount,
    time::Timestamp,
    user_memory::MemoryNote,
};

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Message)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum ChatMessage {
    /// A message of the user.
    User(UserMessage),
    /// A reply of the model, with the tools that it calls.
    Assistant(AssistantMessage),
    /// The result of a tool call.
    Tool(ToolMessage),
}

impl ChatMessage {
    /// The approximate size in bytes.
    #[must_use]
    pub fn estimated_bytes(&self) -> u64 {
        let content = match self {
            Self::User(m) => {
                m.content.len()
                    + attachment_bytes(&m.attachments)
                    + m.recalled.iter().map(|note| note.content.len()).sum::<usize>()
            }
            Self::Assistant(m) => {
                m.content.len()
                    + m.reasoning.as_ref().map_or(0, String::len)
                    + m.provider_data.as_ref().map_or(0, ProviderData::estimated_bytes)
            }
            Self::Tool(m) => m.content.len(),
        };
        256 + content as u64
    }

    /// The seq of the event that holds this message.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match self {
            Self::User(m) => m.seq,
            Self::Assistant(m) => m.seq,
            Self::Tool(m) => m.seq,
        }
    }
}

/// A message of the user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UserMessage {
    /// The id of the message.
    pub message_id: MessageId,
    /// The seq of the event that holds it.
    pub seq: u64,
    /// When it was logged.
    pub ts: Timestamp,
    /// The command that brought the message. Absent in conversations that an older version stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// The text.
    pub content: String,
    /// The texts that were attached. The model gets them as data in front of the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<MessageAttachment>,
    /// Whether memories may be extracted from this message and from the replies to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
    /// The memories that were recalled for this message, which the model gets together with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recalled: Vec<MemoryNote>,
    /// The MCP servers that were not connected when the agent started to work on this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unavailable_servers: Vec<String>,
    /// Calls whose records the store had lost when the agent worked on this message: they may have taken effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_calls: Vec<LostToolCall>,
}

impl UserMessage {
    /// A message to the model that is in no log.
    #[must_use]
    pub fn unlogged(content: impl Into<String>) -> Self {
        Self {
            message_id: MessageId::new(),
            seq: 0,
            ts: Timestamp::now(),
            command_id: None,
            content: content.into(),
            attachments: Vec::new(),
            memory: false,
            recalled: Vec::new(),
            unavailable_servers: Vec::new(),
            lost_calls: Vec::new(),
        }
    }
}

/// A reply of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AssistantMessage {
    /// The id of the message.
    pub message_id: MessageId,
    /// The seq of the event that holds it.
    pub seq: u64,
    /// When it was logged.
    pub ts: Timestamp,
    /// The run that it belongs to.
    pub run_id: Option<RunId>,
    /// The text; empty if the model only called tools.
    pub content: String,
    /// The reasoning that the provider shows, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The tools that the model calls, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The tool outputs that the text cites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub citations: Vec<Citation>,
    /// Why the reply ended.
    pub stop_reason: StopReason,
    /// The provider that the reply came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that wrote the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Data that the provider needs back with the next request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_data: Option<ProviderData>,
    /// Tokens and cost of this reply. Its input and output tokens together are the size of the conversation up to here, as
    /// the provider counts it.
    #[serde(default)]
    pub usage: TokenUsage,
    /// What the user thinks of the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<ReplyFeedback>,
}

/// What a user thinks of a reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplyFeedback {
    /// The rating.
    pub rating: FeedbackRating,
    /// What the user says about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Who rated it: `user:<id>`.
    #[schema(value_type = String)]
    pub by: EventAuthor,
    /// When it was rated.
    pub ts: Timestamp,
}

/// A tool output that a reply cites as `[n]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Citation {
    /// The number in the text, which is that of the output.
    pub n: u64,
    /// The call that returned the output.
    pub tool_call_id: ToolCallId,
}

/// Data of a reply that the provider needs back when the conversation continues: signed thinking, encrypted reasoning. It is
/// opaque to everything but the adapter that wrote it, and is sent to no other provider or model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderData {
    /// The wire protocol that the blocks belong to.
    pub api: String,
    /// The blocks of the reply, in order. Text and arguments are not repeated in them.
    #[schema(value_type = Vec<Object>)]
    pub blocks: Vec<serde_json::Value>,
}

impl ProviderData {
    /// The approximate size in bytes.
    #[must_use]
    pub fn estimated_bytes(&self) -> usize {
        self.blocks.iter().map(estimated_value_bytes).sum()
    }
}

fn estimated_value_bytes(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(estimated_value_bytes).sum(),
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + estimated_value_bytes(value)).sum()
        }
        _ => 4,
    }
}

/// The result of a tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolMessage {
    /// The tool call.
    pub tool_call_id: ToolCallId,
    /// The seq of the event that holds this message.
    pub seq: u64,
    /// When it was logged.
    pub ts: Timestamp,
    /// The number of the output in its session, from 1 on, by which replies cite it. Outputs of version 0.2 have none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub number: u64,
    /// The name of the tool.
    pub name: String,
    /// How the call ended.
    pub status: ToolStatus,
    /// The output, shortened to the output budget.
    pub content: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A tool call that the model asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolCall {
    /// The id of the call, unique in the session.
    pub id: ToolCallId,
    /// The name of the tool as the model knows it.
    pub name: String,
    /// The arguments: an object. Anything else is what the model wrote in place of one.
    pub arguments: serde_json::Value,
}

impl ToolCall {
    /// Whether this call of a run is one whose record is lost: by its id or, if the store has lost the model's reply as well
    /// and the run asked again, by what it does.
    #[must_use]
    pub fn repeats(&self, run_id: RunId, lost: &LostToolCall) -> bool {
        self.id == lost.tool_call_id
            || (lost.run_id == run_id && self.name == lost.name && self.arguments == lost.arguments)
    }
}

/// Why a reply of the model ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model finished its answer.
    EndTurn,
    /// The model waits for the results of its tool calls.
    ToolUse,
    /// The limit of output tokens was reached.
    MaxTokens,
    /// The provider's filter stopped the reply, or the model refused.
    Refusal,
    /// The user cancelled the run; the text is what had arrived by then.
    Cancelled,
    /// The provider paused a long reply; another request continues it.
    Paused,
    /// Another reason of the provider.
    Other,
}

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// The tool returned a result.
    Ok,
    /// The tool, or the connection to it, failed.
    Error,
    /// The user or the operator's policy denied the call. It was not run.
    Denied,
    /// The run was cancelled before the call started, or while it ran and it changes nothing.
    Cancelled,
    /// The call timed out. A call that changes something may still have taken effect.
    Timeout,
    /// The call was sent, and whether it took effect is not known.
    Unknown,
}

impl ToolStatus {
    /// The value in JSON and in metric labels.
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

/// The effect of a tool call on the outside world, from the least to the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[schema(as = Effect)]
#[serde(rename_all = "snake_case")]
pub enum ToolEffect {
    /// The call only reads.
    Read,
    /// The call changes something, and repeating it changes nothing more.
    Idempotent,
    /// The call changes something.
    Mutating,
}

impl ToolEffect {
    /// The value in JSON and in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Idempotent => "idempotent",
            Self::Mutating => "mutating",
        }
    }
}

/// Tokens and cost of a model call, a run or a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Usage)]
pub struct TokenUsage {
    /// Tokens of the prompts, including cached ones.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens of the replies, including reasoning.
    #[serde(default)]
    pub output_tokens: u64,
    /// Prompt tokens that the provider read from its cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Prompt tokens that the provider wrote to its cache, where it charges for that.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Reply tokens that were spent on reasoning, where the provider counts them separately.
    #[serde(default)]
    pub reasoning_tokens: u64,
    /// The cost in US dollars by the prices of the catalog; 0 where the prices are not known.
    #[serde(default)]
    #[schema(value_type = f64)]
    pub cost_usd: UsdAmount,
}

impl TokenUsage {
    /// Input and output tokens together, which is what budgets count.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl std::ops::AddAssign for TokenUsage {
    fn add_assign(&mut self, other: Self) {
        // A provider may report any number; an overflow must not make a session unreadable.
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.output_tokens, other.output_tokens);
        add(&mut self.cached_tokens, other.cached_tokens);
        add(&mut self.cache_write_tokens, other.cache_write_tokens);
        add(&mut self.reasoning_tokens, other.reasoning_tokens);
        self.cost_usd += other.cost_usd;
    }
}
