//! Events: everything that happens in a session, as it is logged and as it is streamed.

mod memory;
mod run;
mod session;
mod tools;

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CommandId, InvalidId, ProviderData, RunId, SessionId, Timestamp, TokenUsage, UserId};

pub use memory::*;
pub use run::*;
pub use session::*;
pub use tools::*;

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct SessionEvent {
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

impl SessionEvent {
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
    pub fn at(self, session_id: SessionId, seq: u64) -> SessionEvent {
        SessionEvent { seq, session_id, ts: self.ts, run_id: self.run_id, body: self.body }
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
    Warning(SessionWarning),
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
    pub fn usage(&self) -> Option<TokenUsage> {
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
pub enum EventAuthor {
    /// k8sops.
    System,
    /// A user.
    User(UserId),
}

impl fmt::Display for EventAuthor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::User(id) => write!(f, "user:{id}"),
        }
    }
}

impl From<EventAuthor> for String {
    fn from(actor: EventAuthor) -> String {
        actor.to_string()
    }
}

impl TryFrom<String> for EventAuthor {
    type Error = InvalidId;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        match s.strip_prefix("user:") {
            Some(id) => Ok(Self::User(id.parse()?)),
            None if s == "system" => Ok(Self::System),
            None => Err(InvalidId { what: "actor", expected: "`system` or `user:<id>`" }),
        }
    }
}
