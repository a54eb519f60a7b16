//! Commands: what clients ask of a session. A command is acknowledged once it is in the session's durable inbox.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    attachment::SentAttachment,
    event::{ApprovalDecision, EventAuthor, EventBody, FeedbackRating, InputAction, SessionEvent},
    ids::{ApprovalId, CommandId, InputId, MessageId, RunId, UserId},
    request_context::RequestContext,
    settings::SettingsPatch,
};

/// A command with its id and its sender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionCommand {
    /// The idempotency key: a sender's commands with the same id are one command, and are handled once.
    pub command_id: CommandId,
    /// A digest of the request, which detects that a client reuses an id for a different command.
    pub fingerprint: String,
    /// The user that sent the command.
    pub by: UserId,
    /// What the command asks for.
    pub body: CommandBody,
}

impl SessionCommand {
    /// Whether the command is a message, which starts a run.
    #[must_use]
    pub fn is_message(&self) -> bool {
        matches!(self.body, CommandBody::Message { .. })
    }

    /// The run that the command starts or cancels.
    #[must_use]
    pub fn run_id(&self) -> Option<RunId> {
        match &self.body {
            CommandBody::Message { run_id, .. } => Some(*run_id),
            CommandBody::Cancel { run_id } => *run_id,
            _ => None,
        }
    }

    /// Whether the command must be rejected while a run is open or a message is in the inbox.
    #[must_use]
    pub fn only_if_idle(&self) -> bool {
        matches!(self.body, CommandBody::Message { on_busy: OnBusy::Reject, .. })
    }
}

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CommandBody {
    /// Sends a message to the agent. The ids of what it causes are fixed on acceptance, so that the receipt can name them.
    Message {
        /// The id of the `user_message` that the command causes.
        message_id: MessageId,
        /// The id of the run that the command starts.
        run_id: RunId,
        /// The text of the message.
        content: String,
        /// The texts that go with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<SentAttachment>,
        /// What to do while a run is in progress.
        on_busy: OnBusy,
        /// The request that brought the message.
        #[serde(default, skip_serializing_if = "RequestContext::is_empty")]
        cause: RequestContext,
    },
    /// Cancels a run. The run is fixed on acceptance, so that the command never cancels a later one.
    Cancel {
        /// The run to cancel; `None` if there was none, and nothing is cancelled.
        run_id: Option<RunId>,
    },
    /// Resolves an approval.
    Resolve {
        /// The approval to resolve.
        approval_id: ApprovalId,
        /// `approve` or `deny`.
        decision: ApprovalDecision,
        /// Arguments to run the call with in place of those that the model wrote.
        arguments: Option<serde_json::Value>,
        /// A comment for the model and the log.
        comment: Option<String>,
        /// Whether the sender has the role `approver`.
        #[serde(default)]
        approver: bool,
    },
    /// Answers an MCP server's request for input (an elicitation).
    Answer {
        /// The request to answer.
        input_id: InputId,
        /// `accept`, `decline` or `cancel`.
        action: InputAction,
        /// The values, with `accept`.
        content: Option<serde_json::Map<String, serde_json::Value>>,
    },
    /// Rates a reply.
    Feedback {
        /// The reply.
        message_id: MessageId,
        /// The rating.
        rating: FeedbackRating,
        /// What the user says about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
    },
    /// Changes some settings of the session.
    Settings(SettingsPatch),
    /// Renames the session.
    Title {
        /// The new title.
        title: String,
    },
}

/// What happens to a message that is sent while a run is in progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBusy {
    /// The message waits for the runs of the messages before it.
    #[default]
    Enqueue,
    /// The message is rejected with 409.
    Reject,
    /// The run in progress is cancelled, and this message is handled next.
    Interrupt,
}

/// A command in the inbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InboxEntry {
    /// The position in the inbox. It grows with every command of the session and is never reused.
    pub position: u64,
    /// The seq of the newest event when the command was accepted: all events that the command causes come after it.
    pub accepted_seq: u64,
    /// The command.
    pub command: SessionCommand,
}

impl InboxEntry {
    /// Whether the entry is the message that starts this run.
    #[must_use]
    pub fn starts_run(&self, run_id: RunId) -> bool {
        self.command.is_message() && self.command.run_id() == Some(run_id)
    }
}

/// The acknowledgement of a command that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandReceipt {
    /// The id of the command.
    pub command_id: CommandId,
    /// The sender: ids of two senders do not collide. Absent in receipts of older versions, where an id was the same for
    /// all senders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// See [`SessionCommand::fingerprint`].
    pub fingerprint: String,
    /// The seq of the newest event when the command was accepted. All events that it causes come after it.
    pub seq: u64,
    /// The id of the `user_message`, if the command is a message.
    pub message_id: Option<MessageId>,
    /// The run that the command starts (a message) or cancels (a cancel).
    pub run_id: Option<RunId>,
    /// Whether the command was accepted before, and this is the receipt of the first time.
    #[serde(default)]
    pub duplicate: bool,
}

impl CommandReceipt {
    /// The receipt of a command that is accepted when the newest event is `seq`.
    #[must_use]
    pub fn for_command(command: &SessionCommand, seq: u64) -> Self {
        let message_id = match &command.body {
            CommandBody::Message { message_id, .. } => Some(*message_id),
            _ => None,
        };
        Self {
            command_id: command.command_id.clone(),
            by: Some(command.by.clone()),
            fingerprint: command.fingerprint.clone(),
            seq,
            message_id,
            run_id: command.run_id(),
            duplicate: false,
        }
    }

    /// The receipt of the command that caused an event of a session of `owner`, for a store that has lost it. What the request
    /// was is not known, so it has no fingerprint.
    #[must_use]
    pub fn from_event(event: &SessionEvent, owner: &UserId) -> Option<Self> {
        let command_id = event.body.command_id()?.clone();
        let author = match &event.body {
            EventBody::SettingsChanged(e) => Some(&e.by),
            EventBody::TitleChanged(e) => Some(&e.by),
            EventBody::ApprovalResolved(e) => Some(&e.by),
            EventBody::InputResolved(e) => Some(&e.by),
            EventBody::MessageFeedback(e) => Some(&e.by),
            _ => None,
        };
        let by = match author {
            Some(EventAuthor::User(user)) => user.clone(),
            _ => owner.clone(),
        };
        let message_id = match &event.body {
            EventBody::UserMessage(e) => Some(e.message_id),
            _ => None,
        };
        Some(Self {
            command_id,
            by: Some(by),
            fingerprint: String::new(),
            seq: event.seq.saturating_sub(1),
            run_id: message_id.and(event.run_id),
            message_id,
            duplicate: false,
        })
    }

    /// Returns this first receipt of a command for a submission of the same command. The ids of a message are generated for each
    /// submission: with the same ones, it was submitted once, and the reply of an earlier write was lost.
    #[must_use]
    pub fn for_known_command(self, command: &SessionCommand) -> Self {
        let is_same_submission = command.is_message() && self.run_id == command.run_id();
        Self { duplicate: !is_same_submission, ..self }
    }

    /// Whether this is the receipt of a request with this fingerprint, as far as that is known.
    #[must_use]
    pub fn is_of_request(&self, fingerprint: &str) -> bool {
        self.fingerprint.is_empty() || self.fingerprint == fingerprint
    }

    /// Whether this is the receipt of the command with this id from this sender.
    #[must_use]
    pub fn matches_command(&self, by: &UserId, command: &CommandId) -> bool {
        self.command_id == *command && self.by.as_ref().is_none_or(|sender| sender == by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipt_matches_its_sender_or_anyone_if_it_is_old() {
        let [anna, ben]: [UserId; 2] = ["anna", "ben"].map(|user| user.parse().unwrap());
        let command_id = CommandId::generate();
        let body = CommandBody::Cancel { run_id: None };
        let command =
            SessionCommand { command_id: command_id.clone(), fingerprint: "f".into(), by: anna.clone(), body };
        let receipt = CommandReceipt::for_command(&command, 1);
        assert!(receipt.matches_command(&anna, &command_id) && !receipt.matches_command(&ben, &command_id));
        let mut stored = serde_json::to_value(receipt).unwrap();
        stored.as_object_mut().unwrap().remove("by");
        let older: CommandReceipt = serde_json::from_value(stored).unwrap();
        assert!(older.matches_command(&anna, &command_id) && older.matches_command(&ben, &command_id));
        assert!(!older.matches_command(&anna, &CommandId::generate()));
    }
}
