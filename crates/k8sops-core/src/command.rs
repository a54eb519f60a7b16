//! Commands: what clients ask of a session. They enter through its durable inbox and are acknowledged once they are in it.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use utoipa::ToSchema;

use super::{
    ApprovalDecision, ApprovalId, CommandId, InputAction, InputId, MessageId, ReasoningEffort, RunId, SessionSettings,
    UserId,
};

/// A command with its sender and its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionCommand {
    /// The same id is the same command: it is taken once.
    pub command_id: CommandId,
    /// A digest of what the client sent, so that an id used again for something else is noticed.
    pub fingerprint: String,
    /// Who sent it.
    pub by: UserId,
    /// What is asked.
    pub body: CommandBody,
}

impl SessionCommand {
    /// Whether it asks for an answer of the model.
    #[must_use]
    pub fn is_message(&self) -> bool {
        matches!(self.body, CommandBody::Message { .. })
    }

    /// The run that it will cause, or ends.
    #[must_use]
    pub fn run_id(&self) -> Option<RunId> {
        match &self.body {
            CommandBody::Message { run_id, .. } => Some(*run_id),
            CommandBody::Cancel { run_id } => *run_id,
            _ => None,
        }
    }

    /// Whether it is to be refused while a run is open or a message waits.
    #[must_use]
    pub fn only_if_idle(&self) -> bool {
        matches!(self.body, CommandBody::Message { on_busy: OnBusy::Reject, .. })
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CommandBody {
    /// A message for the agent. The ids of what it will cause are fixed on acceptance, so that the answer can name them.
    Message {
        /// The id that the `user_message` will have.
        message_id: MessageId,
        /// The id that its run will have.
        run_id: RunId,
        /// The text.
        content: String,
        /// What to do when a run is in progress.
        on_busy: OnBusy,
        /// Where it came from.
        #[serde(default, skip_serializing_if = "RequestContext::is_empty")]
        cause: RequestContext,
    },
    /// Ends a run. It names the run that was meant when it was accepted, so that it never ends another.
    Cancel {
        /// The run; `None`: there was none, and nothing is ended.
        run_id: Option<RunId>,
    },
    /// Answers an approval.
    Resolve {
        /// Which.
        approval_id: ApprovalId,
        /// `approve` or `deny`.
        decision: ApprovalDecision,
        /// Arguments to run with instead.
        arguments: Option<serde_json::Value>,
        /// For the model and the log.
        comment: Option<String>,
        /// Whether who answers has the role `approver`.
        #[serde(default)]
        approver: bool,
    },
    /// Answers a question of an MCP server.
    Answer {
        /// Which.
        input_id: InputId,
        /// `accept`, `decline` or `cancel`.
        action: InputAction,
        /// The values, with `accept`.
        content: Option<serde_json::Map<String, serde_json::Value>>,
    },
    /// Changes some settings.
    Settings(SettingsPatch),
    /// Renames the session.
    Title {
        /// The new title.
        title: String,
    },
}

/// The request that something came from, so that a run can be told to belong to it, on whichever replica it is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Cause)]
pub struct RequestContext {
    /// Its W3C trace context (`traceparent`); absent when it is not traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What other tracing systems added to the trace (`tracestate`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    /// Its id in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl RequestContext {
    /// Whether nothing is known of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.traceparent.is_none() && self.tracestate.is_none() && self.request_id.is_none()
    }
}

/// What happens to a message that comes while a run is in progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBusy {
    /// It waits, and has its run after those that came before.
    #[default]
    Enqueue,
    /// It is refused with 409.
    Reject,
    /// The run in progress is cancelled, and this message is next.
    Interrupt,
}

/// A change of settings. Absent: as before. `null`: back to the default, which provider and model do not have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsPatch {
    /// The provider's id in the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    #[schema(nullable = false)]
    pub provider: Option<String>,
    /// The model's id at that provider.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    #[schema(nullable = false)]
    pub model: Option<String>,
    /// Sampling temperature, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable")]
    #[schema(value_type = Option<f64>)]
    pub temperature: Option<Option<f64>>,
    /// The most tokens of one reply.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub max_tokens: Option<Option<u32>>,
    /// How much the model thinks before it answers.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable")]
    #[schema(value_type = Option<ReasoningEffort>)]
    pub reasoning: Option<Option<ReasoningEffort>>,
    /// Whether memories are recalled and kept; on by default.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable")]
    #[schema(value_type = Option<bool>)]
    pub memory: Option<Option<bool>>,
}

impl SettingsPatch {
    /// The settings after this change.
    #[must_use]
    pub fn apply(&self, settings: &SessionSettings) -> SessionSettings {
        let mut new = settings.clone();
        if let Some(provider) = &self.provider {
            new.provider.clone_from(provider);
        }
        if let Some(model) = &self.model {
            new.model.clone_from(model);
        }
        if let Some(temperature) = self.temperature {
            new.temperature = temperature;
        }
        if let Some(max_tokens) = self.max_tokens {
            new.max_tokens = max_tokens;
        }
        if let Some(reasoning) = self.reasoning {
            new.reasoning = reasoning;
        }
        if let Some(memory) = self.memory {
            new.memory = memory.unwrap_or(true);
        }
        new
    }
}

/// Refuses `null` in place of a value that has no default, so that nobody takes it for done.
fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    Option::<T>::deserialize(d)?.map(Some).ok_or_else(|| {
        D::Error::custom("provider and model cannot be null, they have no default; leave out what is to stay as it is")
    })
}

/// Tells a field that is absent (`None`) from one that is `null` (`Some(None)`).
mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(value: &Option<Option<T>>, s: S) -> Result<S::Ok, S::Error> {
        value.as_ref().and_then(Option::as_ref).serialize(s)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<Option<T>>, D::Error> {
        Option::<T>::deserialize(d).map(Some)
    }
}

/// A command in the inbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InboxEntry {
    /// Its place in the inbox: grows with every command of the session, is never used again.
    pub position: u64,
    /// The log's head when it was accepted: all that it causes comes after.
    pub accepted_seq: u64,
    /// The command.
    pub command: SessionCommand,
}

impl InboxEntry {
    /// Whether it is the message whose run this will be.
    #[must_use]
    pub fn begins(&self, run_id: RunId) -> bool {
        self.command.is_message() && self.command.run_id() == Some(run_id)
    }
}

/// The acknowledgement of a command: it is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandReceipt {
    /// The command.
    pub command_id: CommandId,
    /// Who sent it: an id is its sender's, and another's command of the same id another command. Absent in what older
    /// versions wrote, which took the id for everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// See [`SessionCommand::fingerprint`].
    pub fingerprint: String,
    /// The log's head when it was accepted: read from here to see all that it causes.
    pub seq: u64,
    /// For a message: the id of its `user_message`.
    pub message_id: Option<MessageId>,
    /// For a message: the id of its run. For a cancel: the run that it ends, if there is one.
    pub run_id: Option<RunId>,
    /// Whether this very command had been accepted before; nothing was taken in again.
    #[serde(default)]
    pub duplicate: bool,
}

impl CommandReceipt {
    /// Whether it is of this sender's command of this id.
    #[must_use]
    pub fn is_of(&self, by: &UserId, command: &CommandId) -> bool {
        self.command_id == *command && self.by.as_ref().is_none_or(|sender| sender == by)
    }

    /// The receipt of a command that is taken in when the log's head is `seq`.
    #[must_use]
    pub fn of(command: &SessionCommand, seq: u64) -> Self {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_its_senders_and_one_of_an_older_version_everybodys() {
        let [anna, ben]: [UserId; 2] = ["anna", "ben"].map(|user| user.parse().unwrap());
        let (command_id, body) = (CommandId::generate(), CommandBody::Cancel { run_id: None });
        let command =
            SessionCommand { command_id: command_id.clone(), fingerprint: "f".into(), by: anna.clone(), body };
        let receipt = CommandReceipt::of(&command, 1);
        assert!(receipt.is_of(&anna, &command_id) && !receipt.is_of(&ben, &command_id));
        let mut kept = serde_json::to_value(receipt).unwrap();
        kept.as_object_mut().unwrap().remove("by");
        let older: CommandReceipt = serde_json::from_value(kept).unwrap();
        assert!(older.is_of(&anna, &command_id) && older.is_of(&ben, &command_id));
        assert!(!older.is_of(&anna, &CommandId::generate()));
    }
}
