//! What happened, by type of event.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::run::MESSAGE_LOST;
use super::{
    ApprovalRequested, ApprovalResolved, AssistantMessageEvent, ContextCompacted, InputRequested, InputResolved,
    LogTruncated, MemoryRecalled, MemorySaved, MessageFeedback, RunFailed, RunFinished, RunRecovered, RunStarted,
    ServersIntroduced, SessionCreated, SessionWarning, SettingsChanged, TitleChanged, ToolEnd, ToolStart,
    UserMessageEvent,
};
use crate::{ids::CommandId, message::TokenUsage};

/// What happened. The field `type` of the JSON names the variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    /// The session was created.
    SessionCreated(SessionCreated),
    /// The settings were changed. They apply from the next run on.
    SettingsChanged(SettingsChanged),
    /// The title was changed, or derived from the first message.
    TitleChanged(TitleChanged),
    /// The user sent a message.
    UserMessage(UserMessageEvent),
    /// The agent started to work on a message.
    RunStarted(RunStarted),
    /// The model's whole reply, which replaces the text of the `token` events before it.
    AssistantMessage(AssistantMessageEvent),
    /// A tool call waits for a user's approval.
    ApprovalRequested(ApprovalRequested),
    /// An approval was granted, denied, or has expired.
    ApprovalResolved(ApprovalResolved),
    /// An MCP server requests input from the user during a tool call (an elicitation).
    InputRequested(InputRequested),
    /// A request for input was answered, or will not be answered any more.
    InputResolved(InputResolved),
    /// A tool call is about to be sent, or was denied.
    ToolStart(ToolStart),
    /// A tool call has ended.
    ToolEnd(ToolEnd),
    /// The oldest turns were summarized, so that the conversation fits the model's context. The log keeps them.
    ContextCompacted(ContextCompacted),
    /// Memories of the user that are relevant to the message were recalled; the model gets them with it.
    MemoryRecalled(MemoryRecalled),
    /// The conversation was examined for what is worth remembering.
    MemorySaved(MemorySaved),
    /// MCP servers were seen for the first time; the model gets what they say of themselves.
    ServersIntroduced(ServersIntroduced),
    /// A user rated a reply.
    MessageFeedback(MessageFeedback),
    /// The run continues after an interruption. Previews of the superseded messages are void.
    RunRecovered(RunRecovered),
    /// The run ended.
    RunFinished(RunFinished),
    /// The run failed.
    RunFailed(RunFailed),
    /// Something that the user should know and that does not end the run.
    Warning(SessionWarning),
    /// The store has lost the newest events of the session. The only event before which seqs are left out.
    LogTruncated(LogTruncated),
}

impl EventBody {
    /// The value of `type` in JSON, and of the `event:` line of SSE.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
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
            Self::ServersIntroduced(_) => "servers_introduced",
            Self::MessageFeedback(_) => "message_feedback",
            Self::RunRecovered(_) => "run_recovered",
            Self::RunFinished(_) => "run_finished",
            Self::RunFailed(_) => "run_failed",
            Self::Warning(_) => "warning",
            Self::LogTruncated(_) => "log_truncated",
        }
    }

    /// Whether this event ends its run.
    #[must_use]
    pub fn ends_run(&self) -> bool {
        matches!(self, Self::RunFinished(_) | Self::RunFailed(_))
    }

    /// Whether the event may have this seq, in a log that ends at `last_seq`: the next one, or after a loss of the store any
    /// later one.
    #[must_use]
    pub fn may_follow(&self, last_seq: u64, seq: u64) -> bool {
        seq == last_seq + 1 || (self.is_log_truncated() && seq > last_seq)
    }

    /// Whether this event says that the store has lost events.
    #[must_use]
    pub fn is_log_truncated(&self) -> bool {
        matches!(self, Self::LogTruncated(_))
    }

    /// Whether this event says that the event `seq` is lost.
    #[must_use]
    pub fn says_lost(&self, seq: u64) -> bool {
        matches!(self, Self::LogTruncated(truncated) if truncated.from_seq <= seq)
    }

    /// Tokens and cost of the model call that this event reports, if it reports one.
    #[must_use]
    pub fn model_usage(&self) -> Option<TokenUsage> {
        match self {
            Self::AssistantMessage(e) => Some(e.usage),
            Self::ContextCompacted(e) => Some(e.usage),
            Self::MemorySaved(e) => Some(e.usage),
            Self::Warning(e) => e.dropped_call.as_ref().map(|call| call.usage),
            _ => None,
        }
    }

    /// Whether the event says that an accepted message is lost.
    #[must_use]
    pub fn is_message_lost(&self) -> bool {
        matches!(self, Self::Warning(warning) if warning.code == MESSAGE_LOST)
    }

    /// The command that caused the event, for events that correspond to one command.
    #[must_use]
    pub fn command_id(&self) -> Option<&CommandId> {
        match self {
            Self::SettingsChanged(e) => e.command_id.as_ref(),
            Self::TitleChanged(e) => e.command_id.as_ref(),
            Self::UserMessage(e) => e.command_id.as_ref(),
            Self::MessageFeedback(e) => e.command_id.as_ref(),
            Self::ApprovalResolved(e) => e.command_id.as_ref(),
            Self::InputResolved(e) => e.command_id.as_ref(),
            _ => None,
        }
    }
}
