//! What goes over a WebSocket besides events: how a client says who it is, its commands, and the answers to them.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

use crate::api::{
    ProblemCode, ProblemDetails,
    approvals::{ResolveApproval, Verdict},
    inputs::AnswerInput,
    messages::SendMessage,
};
use k8sops_core::{ApprovalId, CommandId, CommandReceipt, InputAction, InputId, MessageId, RunId, SettingsPatch};

/// What a client says first that did not say in the handshake who it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "type")]
pub(super) enum Introduction {
    /// By what it has in place of a header.
    Auth {
        /// As after `Authorization: Bearer`.
        token: String,
        /// As `X-MCP-Authorization`.
        #[serde(default)]
        mcp_token: Option<String>,
    },
}

/// The answer to a command. The field `type` of the JSON names the variant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Reply {
    /// The command is durable.
    Ack(Ack),
    /// The command was refused; the WebSocket stays open.
    Error(Refusal),
}

/// See [`Reply::Ack`].
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ack {
    /// The command: the id that it came with, or one that was made.
    command_id: CommandId,
    /// All that it causes has a higher seq.
    seq: u64,
    /// The message, for a `message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message_id: Option<MessageId>,
    /// The run that answers it, for a `message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    run_id: Option<RunId>,
    /// This very command had been accepted before; nothing was taken in again. Absent: it had not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    duplicate: bool,
}

/// See [`Reply::Error`].
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refusal {
    /// What was given as `command_id`, whatever it is; `null`: nothing was.
    command_id: Value,
    /// The stable word.
    code: ProblemCode,
    /// What was attempted, what was found, what to do.
    message: String,
}

impl Reply {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an answer has string keys and no failing Serialize")
    }
}

pub(super) fn acknowledgement(receipt: CommandReceipt) -> Reply {
    let CommandReceipt { command_id, seq, message_id, run_id, duplicate, .. } = receipt;
    Reply::Ack(Ack { command_id, seq, message_id, run_id, duplicate })
}

pub(super) fn refusal(command_id: Value, problem: ProblemDetails) -> Reply {
    Reply::Error(Refusal { command_id, code: problem.code, message: problem.detail })
}

/// The schemas of what only a WebSocket carries; see [`crate::api::asyncapi`].
#[derive(OpenApi)]
#[openapi(components(schemas(Introduction, Reply, SendMessage, Nothing, Answer, InputAnswer, SettingsPatch)))]
pub(in crate::api) struct Frames;

/// The commands: the word in `type`, the schema of the rest, and what it does.
pub(in crate::api) const COMMANDS: [(&str, &str, &str); 6] = [
    ("message", "SendMessage", "Sends a message."),
    ("cancel", "Nothing", "Cancels the run in progress."),
    ("approve", "Answer", "Lets a tool call run that waits for approval."),
    ("deny", "Answer", "Refuses a tool call that waits for approval."),
    ("answer", "InputAnswer", "CanApprove a question of an MCP server."),
    ("settings", "SettingsPatch", "Changes some settings; they apply from the next run on."),
];

/// What a client sends.
#[derive(Debug)]
pub(super) enum Up {
    Message(SendMessage),
    Cancel,
    Resolve(ApprovalId, ResolveApproval),
    Answer(InputId, AnswerInput),
    Settings(SettingsPatch),
}

/// An answer to a request for approval.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// From `approval_requested`.
    approval_id: ApprovalId,
    /// Run it with these arguments instead; with `approve` only.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    arguments: Option<serde_json::Map<String, Value>>,
    /// For the log; the model is told of a refusal's.
    #[serde(default)]
    comment: Option<String>,
}

/// An answer to a question of an MCP server.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InputAnswer {
    /// From `input_requested`.
    input_id: InputId,
    /// `accept`, `decline` or `cancel`.
    action: InputAction,
    /// The values, which fit the question's `schema`; with `accept` only.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    content: Option<serde_json::Map<String, Value>>,
}

/// A command that needs no more than its `type`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Reads a text frame. The error names the command that it answers, where one was given.
pub(super) fn envelope(text: &str) -> Result<(CommandId, Up), Box<(Value, ProblemDetails)>> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else {
        return Ok((CommandId::generate(), Up::Message(text.to_owned().into())));
    };
    let given = fields.remove("command_id").unwrap_or(Value::Null);
    let refuse = |problem: ProblemDetails| Box::new((given.clone(), problem));
    let command_id = match &given {
        Value::Null => CommandId::generate(),
        Value::String(id) => id.parse().map_err(|error| refuse(ProblemDetails::from(error)))?,
        _ => return Err(refuse(ProblemDetails::invalid("command_id must be a string"))),
    };
    let kind = fields.remove("type");
    let kind = kind.as_ref().and_then(Value::as_str).unwrap_or_default();
    let up = match kind {
        "message" => read(fields).map(Up::Message),
        "cancel" => read(fields).map(|Nothing {}| Up::Cancel),
        "approve" => read(fields).map(|answer| resolve(Verdict::Approve, answer)),
        "deny" => read(fields).map(|answer| resolve(Verdict::Deny, answer)),
        "answer" => read(fields)
            .map(|InputAnswer { input_id, action, content }| Up::Answer(input_id, AnswerInput { action, content })),
        "settings" => read(fields).map(Up::Settings),
        _ => {
            Err(ProblemDetails::invalid(format!("type must be one of {}", COMMANDS.map(|(kind, ..)| kind).join(", "))))
        }
    };
    Ok((command_id, up.map_err(refuse)?))
}

fn resolve(decision: Verdict, answer: Answer) -> Up {
    let Answer { approval_id, arguments, comment } = answer;
    Up::Resolve(approval_id, ResolveApproval { decision, arguments, comment })
}

fn read<T: DeserializeOwned>(fields: serde_json::Map<String, Value>) -> Result<T, ProblemDetails> {
    serde_json::from_value(Value::Object(fields))
        .map_err(|error| ProblemDetails::new(ProblemCode::InvalidJson, error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_a_json_object_is_a_message() {
        for text in ["why is it down?", "42", "\"quoted\"", "[1]", "{ not json", ""] {
            assert!(matches!(envelope(text), Ok((_, Up::Message(_)))), "{text}");
        }
    }

    #[test]
    fn every_command_that_is_told_of_is_taken() {
        for (kind, ..) in COMMANDS {
            let read = envelope(&json!({"type": kind, "no such field": 1}).to_string());
            assert_eq!(read.unwrap_err().1.code, ProblemCode::InvalidJson, "{kind}");
        }
    }

    #[test]
    fn an_error_names_the_command_that_it_answers() {
        let (id, problem) = *envelope(r#"{"type":"message","command_id":"c1","contnet":"x"}"#).unwrap_err();
        assert_eq!((id, problem.code), (json!("c1"), ProblemCode::InvalidJson));
        assert!(problem.detail.contains("contnet"), "{}", problem.detail);
        let (id, problem) = *envelope(r#"{"type":"dance","command_id":"c2"}"#).unwrap_err();
        assert_eq!((id, problem.code), (json!("c2"), ProblemCode::InvalidRequest));
        let (id, _) = *envelope(r#"{"type":"cancel","command_id":7}"#).unwrap_err();
        assert_eq!(id, json!(7));
        assert!(envelope(r#"{"type":"cancel","command_id":"has space"}"#).is_err());
    }
}
