//! Events: everything that happens in a session, as it is logged and as it is streamed.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApprovalId, Cause, CommandId, Effect, InputId, MemoryNote, MessageId, ProviderData, RunId, SessionId, StopReason,
    Timestamp, ToolCall, ToolCallId, ToolStatus, Usage, UserId,
};

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its place: 1 for the first, then gapless.
    pub seq: u64,
    /// The session it belongs to.
    pub session_id: SessionId,
    /// When it was logged.
    pub ts: Timestamp,
    /// The run it belongs to; absent outside runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

impl Event {
    /// About how many bytes it takes to store: what the policy on checkpoints reckons with.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let content = match &self.body {
            EventBody::UserMessage(e) => e.content.len(),
            EventBody::AssistantMessage(e) => {
                e.content.len()
                    + e.reasoning.as_ref().map_or(0, String::len)
                    + e.provider_data.as_ref().map_or(0, ProviderData::weight)
            }
            EventBody::ToolEnd(e) => e.content.len(),
            EventBody::ContextCompacted(e) => e.summary.len(),
            EventBody::MemoryRecalled(MemoryRecalled { memories })
            | EventBody::MemorySaved(MemorySaved { memories, .. }) => {
                memories.iter().map(|note| note.content.len()).sum()
            }
            _ => 0,
        };
        256 + content as u64
    }
}

/// An event that has no place in the log yet.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDraft {
    /// When it happened.
    pub ts: Timestamp,
    /// The run it belongs to.
    pub run_id: Option<RunId>,
    /// What happened.
    pub body: EventBody,
}

impl EventDraft {
    /// An event of now, outside any run.
    #[must_use]
    pub fn new(body: EventBody) -> Self {
        Self { ts: Timestamp::now(), run_id: None, body }
    }

    /// An event of now, in a run.
    #[must_use]
    pub fn in_run(run_id: RunId, body: EventBody) -> Self {
        Self { ts: Timestamp::now(), run_id: Some(run_id), body }
    }

    /// The event at its place.
    #[must_use]
    pub fn at(self, session_id: SessionId, seq: u64) -> Event {
        Event { seq, session_id, ts: self.ts, run_id: self.run_id, body: self.body }
    }
}

/// What happened. The field `type` of the JSON names the variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    /// The session began.
    SessionCreated(SessionCreated),
    /// The settings were changed; they apply from the next run on.
    SettingsChanged(SettingsChanged),
    /// The session was given a title.
    TitleChanged(TitleChanged),
    /// The user said something.
    UserMessage(UserMessageEvent),
    /// The agent began to work on a message.
    RunStarted(RunStarted),
    /// The model's whole reply; replaces what `token` events showed of it.
    AssistantMessage(AssistantMessageEvent),
    /// A tool call waits for a user's approval.
    ApprovalRequested(ApprovalRequested),
    /// An approval was given, refused, or has expired.
    ApprovalResolved(ApprovalResolved),
    /// An MCP server asks the user something in the middle of a tool call.
    InputRequested(InputRequested),
    /// The question was answered, or is not to be answered any more.
    InputResolved(InputResolved),
    /// A tool call is about to be sent.
    ToolStart(ToolStart),
    /// A tool call has ended.
    ToolEnd(ToolEnd),
    /// The oldest turns were summarised, so that what the model is sent fits it. The log keeps them.
    ContextCompacted(ContextCompacted),
    /// What is remembered of the user and speaks to the message; the model is given it.
    MemoryRecalled(MemoryRecalled),
    /// The conversation was looked at for what is worth remembering.
    MemorySaved(MemorySaved),
    /// The run goes on after an interruption; previews of the superseded messages are void.
    RunRecovered(RunRecovered),
    /// The run ended.
    RunFinished(RunFinished),
    /// The run could not go on.
    RunFailed(RunFailed),
    /// Something that the user should know, and that ends nothing.
    Warning(Warning),
}

impl EventBody {
    /// The value of the JSON's `type`, and of the SSE `event:` line.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SessionCreated(_) => "session_created",
            Self::SettingsChanged(_) => "settings_changed",
            Self::TitleChanged(_) => "title_changed",
            Self::UserMessage(_) => "user_message",
            Self::RunStarted(_) => "run_started",
            Self::AssistantMessage(_) => "assistant_message",
            Self::ApprovalRequested(_) => "approval_requested",
            Self::ApprovalResolved(_) => "approval_resolved",
            Self::InputRequested(_) => "input_requested",
            Self::InputResolved(_) => "input_resolved",
            Self::ToolStart(_) => "tool_start",
            Self::ToolEnd(_) => "tool_end",
            Self::ContextCompacted(_) => "context_compacted",
            Self::MemoryRecalled(_) => "memory_recalled",
            Self::MemorySaved(_) => "memory_saved",
            Self::RunRecovered(_) => "run_recovered",
            Self::RunFinished(_) => "run_finished",
            Self::RunFailed(_) => "run_failed",
            Self::Warning(_) => "warning",
        }
    }

    /// Whether this event ends its run.
    #[must_use]
    pub fn ends_run(&self) -> bool {
        matches!(self, Self::RunFinished(_) | Self::RunFailed(_))
    }

    /// What a call of a model used that this event tells of.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        match self {
            Self::AssistantMessage(e) => Some(e.usage),
            Self::ContextCompacted(e) => Some(e.usage),
            Self::MemorySaved(e) => Some(e.usage),
            _ => None,
        }
    }

    /// The command that caused it, for those events that a command causes one to one.
    #[must_use]
    pub fn command_id(&self) -> Option<&CommandId> {
        match self {
            Self::SettingsChanged(e) => e.command_id.as_ref(),
            Self::TitleChanged(e) => e.command_id.as_ref(),
            Self::UserMessage(e) => e.command_id.as_ref(),
            Self::ApprovalResolved(e) => e.command_id.as_ref(),
            Self::InputResolved(e) => e.command_id.as_ref(),
            _ => None,
        }
    }
}

/// Who did something: a user (`user:anna`), or k8sops itself (`system`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Actor {
    /// k8sops.
    System,
    /// A user.
    User(UserId),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::User(id) => write!(f, "user:{id}"),
        }
    }
}

impl From<Actor> for String {
    fn from(actor: Actor) -> String {
        actor.to_string()
    }
}

impl TryFrom<String> for Actor {
    type Error = super::InvalidId;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        match s.strip_prefix("user:") {
            Some(id) => Ok(Self::User(id.parse()?)),
            None if s == "system" => Ok(Self::System),
            None => Err(super::InvalidId { what: "actor", expected: "`system` or `user:<id>`" }),
        }
    }
}

/// How a session's runs are done. Values are validated where they enter; see `Catalog`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Settings {
    /// The provider's id in the catalog.
    pub provider: String,
    /// The model's id at that provider.
    pub model: String,
    /// Sampling temperature, 0 to 2; absent: the provider's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The most tokens of one reply; absent: the catalog's figure for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// How much the model thinks before it answers; absent: as the model does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Effort>,
    /// Whether memories are recalled in this session and kept of it, where the service has a long-term memory. `false` is a
    /// session off the record.
    #[serde(default = "on_the_record", skip_serializing_if = "Clone::clone")]
    #[schema(default = true)]
    pub memory: bool,
}

impl Settings {
    /// Those of a session that only says who answers.
    #[must_use]
    pub fn of(provider: impl Into<String>, model: impl Into<String>) -> Self {
        let (provider, model) = (provider.into(), model.into());
        Self { provider, model, temperature: None, max_tokens: None, reasoning: None, memory: on_the_record() }
    }
}

fn on_the_record() -> bool {
    true
}

/// How much a model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Not at all, where the model can do without.
    Off,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

impl Effort {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// The effort of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Off, Self::Low, Self::Medium, Self::High].into_iter().find(|effort| effort.as_str() == word)
    }
}

/// See [`EventBody::SessionCreated`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionCreated {
    /// Whose session it is.
    pub user_id: UserId,
    /// The title given at creation; absent: the first message makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The settings it begins with.
    pub settings: Settings,
    /// Who created it.
    #[schema(value_type = String)]
    pub by: Actor,
}

/// See [`EventBody::SettingsChanged`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettingsChanged {
    /// All settings as they are now.
    pub settings: Settings,
    /// Who changed them.
    #[schema(value_type = String)]
    pub by: Actor,
    /// The command that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// See [`EventBody::TitleChanged`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TitleChanged {
    /// The title as it is now.
    pub title: String,
    /// Who changed it; `system` when it was made from the first message.
    #[schema(value_type = String)]
    pub by: Actor,
    /// The command that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

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
    #[serde(default, skip_serializing_if = "Cause::is_empty")]
    pub cause: Cause,
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
    pub usage: Usage,
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

/// See [`EventBody::ApprovalRequested`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalRequested {
    /// The id to answer to.
    pub approval_id: ApprovalId,
    /// The call that waits.
    pub tool_call_id: ToolCallId,
    /// The tool.
    pub name: String,
    /// The exact arguments that approval lets through.
    pub arguments: serde_json::Value,
    /// What the call does to the world.
    pub effect: Effect,
    /// Why it needs approval.
    pub reason: String,
    /// What the call would do, where that can be known without doing it: the output of a server-side dry run, or a diff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// When the request turns into a refusal.
    pub expires_at: Timestamp,
}

/// What became of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The call may run.
    Approve,
    /// The call must not run.
    Deny,
    /// Nobody answered in time; the call does not run.
    Expired,
}

/// See [`EventBody::ApprovalResolved`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalResolved {
    /// The approval.
    pub approval_id: ApprovalId,
    /// What became of it.
    pub decision: Decision,
    /// The arguments to run with, when the approver edited them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<serde_json::Value>,
    /// Who decided.
    #[schema(value_type = String)]
    pub by: Actor,
    /// What the approver said; the model is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The command that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// See [`EventBody::InputRequested`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InputRequested {
    /// The id to answer to.
    pub input_id: InputId,
    /// The call that waits.
    pub tool_call_id: ToolCallId,
    /// The MCP server that asks.
    pub server: String,
    /// The question, in the server's words: data, and no word of k8sops.
    pub message: String,
    /// JSON Schema of the answer: a flat object. Absent when a page is to be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub schema: Option<serde_json::Map<String, serde_json::Value>>,
    /// The page that the user is asked to open, outside of k8sops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When the question turns into a cancel.
    pub expires_at: Timestamp,
}

/// How a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputAction {
    /// With values; or the user agreed to open the page.
    Accept,
    /// The user does not want to.
    Decline,
    /// Nobody answered in time, or nobody waits for the answer any more.
    Cancel,
}

/// See [`EventBody::InputResolved`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InputResolved {
    /// The question.
    pub input_id: InputId,
    /// How it was answered.
    pub action: InputAction,
    /// The values, with `accept`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub content: Option<serde_json::Map<String, serde_json::Value>>,
    /// Who answered.
    #[schema(value_type = String)]
    pub by: Actor,
    /// The command that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
}

/// See [`EventBody::ToolStart`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolStart {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The tool's name as the model knows it.
    pub name: String,
    /// The MCP server that runs it.
    pub server: String,
    /// The arguments that are sent.
    pub arguments: serde_json::Value,
    /// What the call does to the world.
    pub effect: Effect,
    /// 1, or more when a read call is sent again after an interruption.
    pub attempt: u32,
}

/// See [`EventBody::ToolEnd`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolEnd {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// How it ended.
    pub status: ToolStatus,
    /// The output, cut to the budget.
    pub content: String,
    /// The structured output, where the tool gives one and it fits the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<serde_json::Value>,
    /// Whether `content` is less than the tool returned.
    pub truncated: bool,
    /// The size of the whole output in bytes.
    pub bytes: u64,
    /// From `tool_start` to here; 0 when the tool was not called.
    pub duration_ms: u64,
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
    pub usage: Usage,
    /// The provider that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// See [`EventBody::MemoryRecalled`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryRecalled {
    /// The best first. What an earlier message of the conversation recalled already is not recalled again.
    pub memories: Vec<MemoryNote>,
}

/// See [`EventBody::MemorySaved`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemorySaved {
    /// What is new or was confirmed; empty when there was nothing worth it, or it could not be found out.
    pub memories: Vec<MemoryNote>,
    /// The newest event that was looked at. What comes after it is looked at the next time.
    pub up_to_seq: u64,
    /// What looking cost.
    #[serde(default)]
    pub usage: Usage,
    /// The provider that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that was asked.
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
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The model gave its answer.
    Completed,
    /// The user cancelled.
    Cancelled,
    /// A limit was reached; the last message says as much as was known.
    Limit,
}

impl Outcome {
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
    pub outcome: Outcome,
    /// What all model calls of the run used.
    pub usage: Usage,
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
    pub usage: Usage,
}

/// See [`EventBody::Warning`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// A stable word for the cause.
    pub code: String,
    /// What happened.
    pub message: String,
    /// How long it is waited before the next attempt, in seconds, where something is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<f64>,
}

impl Warning {
    /// A warning after which nothing is waited for.
    #[must_use]
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), wait_seconds: None }
    }
}
