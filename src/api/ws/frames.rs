//! Frames that only occur on a WebSocket: authentication, commands and replies.

use k8sops_core::{
    ApprovalId, CommandId, CommandReceipt, FeedbackRating, InputAction, InputId, MessageId, RunId, SettingsPatch,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

use crate::api::{
    commands::{AnswerInput, ApprovalVerdict, RateMessage, ResolveApproval, SendMessage},
    problem::ProblemDetails,
    problem_code::ProblemCode,
    typed_json::read_json_value,
};

/// The first frame of a client whose handshake had no credentials.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "type")]
pub(super) enum AuthFrame {
    /// Authenticates with the values that the client could not send as headers.
    Auth {
        /// The key or token, as in `Authorization: Bearer`.
        token: String,
        /// The token for MCP servers, as in `X-MCP-Authorization`.
        #[serde(default)]
        mcp_token: Option<String>,
    },
}

/// The reply to a command. The field `type` names the variant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum CommandReply {
    /// The command is durable.
    Ack(CommandAck),
    /// The command was rejected. The WebSocket stays open.
    Error(CommandError),
}

/// The command is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CommandAck {
    /// The id of the command: that of the client, or a generated one.
    command_id: CommandId,
    /// All events that the command causes have a higher seq.
    seq: u64,
    /// The id of the message, if the command is a `message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message_id: Option<MessageId>,
    /// The run that answers the message, if the command is a `message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    run_id: Option<RunId>,
    /// Whether the same command was accepted before, so that this one has no effect. Absent if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    duplicate: bool,
}

/// The command was rejected. The WebSocket stays open.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CommandError {
    /// The `command_id` as it was received, or `null` if there was none.
    command_id: Value,
    /// The stable error code.
    code: ProblemCode,
    /// What was attempted, what was found, and what to do.
    message: String,
}

impl CommandReply {
    pub(super) fn accepted(receipt: CommandReceipt) -> Self {
        let CommandReceipt { command_id, seq, message_id, run_id, duplicate, .. } = receipt;
        Self::Ack(CommandAck { command_id, seq, message_id, run_id, duplicate })
    }

    pub(super) fn rejected(command_id: Value, problem: ProblemDetails) -> Self {
        Self::Error(CommandError { command_id, code: problem.code, message: problem.detail })
    }

    pub(super) fn is_accepted(&self) -> bool {
        matches!(self, Self::Ack(_))
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a reply has string keys and no failing Serialize")
    }
}

/// The schemas that only occur on a WebSocket, for the AsyncAPI document.
#[derive(OpenApi)]
#[openapi(components(schemas(
    AuthFrame,
    CommandReply,
    SendMessage,
    EmptyPayload,
    ApprovalAnswer,
    InputAnswer,
    SettingsPatch,
    ReplyRating
)))]
pub(in crate::api) struct WebSocketSchemas;

/// The commands: the value of `type`, the schema of the other fields, and a summary.
pub(in crate::api) const COMMANDS: [(&str, &str, &str); 7] = [
    ("message", "SendMessage", "Sends a message."),
    ("cancel", "EmptyPayload", "Cancels the run in progress."),
    ("approve", "ApprovalAnswer", "Approves a pending tool call."),
    ("deny", "ApprovalAnswer", "Denies a pending tool call."),
    ("answer", "InputAnswer", "Answers a question of an MCP server."),
    ("settings", "SettingsPatch", "Changes settings from the next run on."),
    ("feedback", "ReplyRating", "Rates a reply of the agent. The same rating again has no effect."),
];

/// A command of a client.
#[derive(Debug)]
pub(super) enum ClientFrame {
    Message(SendMessage),
    Cancel,
    Resolve(ApprovalId, ResolveApproval),
    Answer(InputId, AnswerInput),
    Settings(SettingsPatch),
    Feedback(MessageId, RateMessage),
}

/// An answer to an approval request.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalAnswer {
    /// The id from `approval_requested`.
    approval_id: ApprovalId,
    /// Arguments that replace those of the tool call. Only allowed with `approve`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    arguments: Option<serde_json::Map<String, Value>>,
    /// A comment for the log. The model also sees the comment of a denial.
    #[serde(default)]
    comment: Option<String>,
}

/// An answer to a question of an MCP server.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InputAnswer {
    /// The id from `input_requested`.
    input_id: InputId,
    /// `accept`, `decline` or `cancel`.
    action: InputAction,
    /// The values, which must match the question's `schema`. Only allowed with `accept`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    content: Option<serde_json::Map<String, Value>>,
}

/// A rating of a reply.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplyRating {
    /// The id from `assistant_message`.
    message_id: MessageId,
    /// Whether the reply helped.
    rating: FeedbackRating,
    /// What is right or wrong about it, at most 2,000 characters.
    #[serde(default)]
    comment: Option<String>,
}

/// The payload of a command that only has a `type`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EmptyPayload {}

/// A valid text frame.
#[derive(Debug)]
pub(super) struct ParsedFrame {
    pub(super) command_id: CommandId,
    pub(super) frame: ClientFrame,
}

/// An invalid text frame.
#[derive(Debug)]
pub(super) struct RejectedFrame {
    /// The `command_id` as it was received, or `null` if there was none.
    pub(super) command_id: Value,
    pub(super) problem: ProblemDetails,
}

/// Parses a text frame. Text that is not a JSON object is a message.
pub(super) fn parse_frame(text: &str) -> Result<ParsedFrame, Box<RejectedFrame>> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else {
        return Ok(ParsedFrame {
            command_id: CommandId::generate(),
            frame: ClientFrame::Message(text.to_owned().into()),
        });
    };
    let received_id = fields.remove("command_id").unwrap_or(Value::Null);
    let reject = |problem: ProblemDetails| Box::new(RejectedFrame { command_id: received_id.clone(), problem });
    let command_id = match &received_id {
        Value::Null => CommandId::generate(),
        Value::String(id) => id.parse().map_err(|error| reject(ProblemDetails::from(error)))?,
        _ => return Err(reject(ProblemDetails::invalid("command_id must be a string"))),
    };
    let kind = fields.remove("type");
    let frame = match kind.as_ref().and_then(Value::as_str).unwrap_or_default() {
        "message" => parse_payload(fields).map(ClientFrame::Message),
        "cancel" => parse_payload(fields).map(|EmptyPayload {}| ClientFrame::Cancel),
        "approve" => parse_payload(fields).map(|answer| resolve_frame(ApprovalVerdict::Approve, answer)),
        "deny" => parse_payload(fields).map(|answer| resolve_frame(ApprovalVerdict::Deny, answer)),
        "answer" => parse_payload(fields).map(|InputAnswer { input_id, action, content }| {
            ClientFrame::Answer(input_id, AnswerInput { action, content })
        }),
        "settings" => parse_payload(fields).map(ClientFrame::Settings),
        "feedback" => parse_payload(fields).map(|ReplyRating { message_id, rating, comment }| {
            ClientFrame::Feedback(message_id, RateMessage { rating, comment })
        }),
        _ => {
            let kinds = COMMANDS.map(|(kind, ..)| kind).join(", ");
            Err(ProblemDetails::invalid(format!("type must be one of {kinds}")))
        }
    };
    Ok(ParsedFrame { command_id, frame: frame.map_err(reject)? })
}

fn resolve_frame(decision: ApprovalVerdict, answer: ApprovalAnswer) -> ClientFrame {
    let ApprovalAnswer { approval_id, arguments, comment } = answer;
    ClientFrame::Resolve(approval_id, ResolveApproval { decision, arguments, comment })
}

fn parse_payload<T: DeserializeOwned>(fields: serde_json::Map<String, Value>) -> Result<T, ProblemDetails> {
    read_json_value(Value::Object(fields), "the frame")
        .map_err(|error| ProblemDetails::new(ProblemCode::InvalidJson, error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_that_is_not_a_json_object_is_a_message() {
        for text in ["why is it down?", "42", "\"quoted\"", "[1]", "{ not json", ""] {
            assert!(matches!(parse_frame(text), Ok(ParsedFrame { frame: ClientFrame::Message(_), .. })), "{text}");
        }
    }

    #[test]
    fn every_documented_command_is_parsed() {
        for (kind, ..) in COMMANDS {
            let parsed = parse_frame(&json!({"type": kind, "no such field": 1}).to_string());
            assert_eq!(parsed.unwrap_err().problem.code, ProblemCode::InvalidJson, "{kind}");
        }
    }

    #[test]
    fn error_names_the_command_id() {
        let rejected = parse_frame(r#"{"type":"message","command_id":"c1","contnet":"x"}"#).unwrap_err();
        assert_eq!((&rejected.command_id, rejected.problem.code), (&json!("c1"), ProblemCode::InvalidJson));
        assert!(rejected.problem.detail.contains("contnet"), "{}", rejected.problem.detail);
        let rejected = parse_frame(r#"{"type":"dance","command_id":"c2"}"#).unwrap_err();
        assert_eq!((rejected.command_id, rejected.problem.code), (json!("c2"), ProblemCode::InvalidRequest));
        let rejected = parse_frame(r#"{"type":"cancel","command_id":7}"#).unwrap_err();
        assert_eq!(rejected.command_id, json!(7));
        assert!(parse_frame(r#"{"type":"cancel","command_id":"has space"}"#).is_err());
    }
}
