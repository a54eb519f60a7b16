//! Builds session commands from what clients send, for REST and WebSocket alike.

use data_encoding::HEXLOWER;
use k8sops_core::{
    ApprovalDecision, ApprovalId, CommandBody, CommandId, FeedbackRating, InputAction, InputId, MessageId, OnBusy,
    RunId, SessionCommand, SettingsPatch, UserId,
};
use k8sops_telemetry::trace_context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    attachments::{NewAttachment, check_attachments, read_null_as_none},
    options::ServerOptions,
    problem::ProblemDetails,
    problem_code::ProblemCode,
};
use crate::auth::{CallerIdentity, UserRole};

/// The maximum length of a title, in characters.
const MAX_TITLE_CHARS: usize = 200;
/// The most characters of a comment.
const MAX_COMMENT_CHARS: usize = 2_000;

/// A message for the agent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SendMessage {
    /// The text. It must not be empty or longer than `K8SOPS_MAX_MESSAGE_BYTES`.
    pub(super) content: String,
    /// Texts that go with it, at most 10: a manifest, a log. The model reads them as data, without secrets, and shortened like the
    /// outputs of tools. Together they have at most `K8SOPS_MAX_ATTACHMENT_BYTES`.
    #[serde(default, deserialize_with = "read_null_as_none", skip_serializing_if = "Vec::is_empty")]
    pub(super) attachments: Vec<NewAttachment>,
    /// What happens if a run is in progress.
    #[serde(default)]
    pub(super) on_busy: OnBusy,
}

impl From<String> for SendMessage {
    fn from(content: String) -> Self {
        Self { content, attachments: Vec::new(), on_busy: OnBusy::default() }
    }
}

/// An answer to an approval request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolveApproval {
    /// Whether the tool call may run.
    pub(super) decision: ApprovalVerdict,
    /// Arguments that replace those of the tool call. Only allowed with `approve`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(super) arguments: Option<serde_json::Map<String, serde_json::Value>>,
    /// A comment for the log. The model also sees the comment of a denial.
    #[serde(default)]
    pub(super) comment: Option<String>,
}

/// Whether a tool call may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Verdict)]
pub(super) enum ApprovalVerdict {
    /// The tool call may run.
    Approve,
    /// The tool call must not run.
    Deny,
}

/// An answer to a question of an MCP server.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerInput {
    /// `accept`, `decline` or `cancel`.
    pub(super) action: InputAction,
    /// The values, which must match the question's `schema`. Only allowed with `accept`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(super) content: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A rating of a reply.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RateMessage {
    /// Whether the reply helped.
    pub(super) rating: FeedbackRating,
    /// What is right or wrong about it, at most 2,000 characters.
    #[serde(default)]
    pub(super) comment: Option<String>,
}

impl RateMessage {
    /// Returns the rating with a trimmed comment, if that is not too long.
    pub(super) fn checked(self) -> Result<Self, ProblemDetails> {
        let comment = self.comment.map(|comment| comment.trim().to_owned()).filter(|comment| !comment.is_empty());
        if comment.as_ref().is_some_and(|comment| comment.chars().count() > MAX_COMMENT_CHARS) {
            return Err(ProblemDetails::invalid(format!("comment must have at most {MAX_COMMENT_CHARS} characters")));
        }
        Ok(Self { comment, ..self })
    }
}

/// Builds the command for a message. Fails if the message is empty or exceeds the limits of the service.
pub(super) fn message_command(
    user: &UserId,
    command_id: CommandId,
    message: SendMessage,
    limits: &ServerOptions,
) -> Result<SessionCommand, ProblemDetails> {
    if message.content.trim().is_empty() {
        return Err(ProblemDetails::invalid("content must not be empty"));
    }
    let length = message.content.len();
    let max_bytes = limits.max_message_bytes;
    if length > max_bytes {
        let detail = format!("content has {length} bytes, the limit is {max_bytes} (K8SOPS_MAX_MESSAGE_BYTES)");
        return Err(ProblemDetails::new(ProblemCode::MessageTooLong, detail));
    }
    let fingerprint = fingerprint(&("message", &message));
    let attachments = check_attachments(message.attachments, limits.max_attachment_bytes)?;
    Ok(SessionCommand {
        command_id,
        fingerprint,
        by: user.clone(),
        body: CommandBody::Message {
            message_id: MessageId::new(),
            run_id: RunId::new(),
            content: message.content,
            attachments,
            on_busy: message.on_busy,
            cause: trace_context::current_request(),
        },
    })
}

/// Builds the command that cancels the run in progress.
pub(super) fn cancel_command(user: &UserId, command_id: CommandId) -> SessionCommand {
    SessionCommand {
        command_id,
        fingerprint: fingerprint(&"cancel"),
        by: user.clone(),
        body: CommandBody::Cancel { run_id: None },
    }
}

/// Builds the command that cancels a run, also one that has not started.
pub(super) fn cancel_run_command(user: &UserId, command_id: CommandId, run: RunId) -> SessionCommand {
    SessionCommand {
        command_id,
        fingerprint: fingerprint(&("cancel", run)),
        by: user.clone(),
        body: CommandBody::Cancel { run_id: Some(run) },
    }
}

/// Builds the command that answers an approval request.
pub(super) fn approval_command(
    caller: &CallerIdentity,
    command_id: CommandId,
    approval_id: ApprovalId,
    answer: ResolveApproval,
) -> Result<SessionCommand, ProblemDetails> {
    if answer.decision == ApprovalVerdict::Deny && answer.arguments.is_some() {
        return Err(ProblemDetails::invalid("arguments are only allowed with \"decision\": \"approve\""));
    }
    let fingerprint = fingerprint(&("resolve", approval_id, &answer));
    let decision = match answer.decision {
        ApprovalVerdict::Approve => ApprovalDecision::Approve,
        ApprovalVerdict::Deny => ApprovalDecision::Deny,
    };
    let arguments = answer.arguments.map(serde_json::Value::Object);
    let approver = caller.roles.contains(UserRole::Approver);
    let body = CommandBody::Resolve { approval_id, decision, arguments, comment: answer.comment, approver };
    Ok(SessionCommand { command_id, fingerprint, by: caller.user.clone(), body })
}

/// Builds the command that answers a question of an MCP server.
pub(super) fn input_command(
    user: &UserId,
    command_id: CommandId,
    input_id: InputId,
    answer: AnswerInput,
) -> Result<SessionCommand, ProblemDetails> {
    if answer.action != InputAction::Accept && answer.content.is_some() {
        return Err(ProblemDetails::invalid("content is only allowed with \"action\": \"accept\""));
    }
    let fingerprint = fingerprint(&("answer", input_id, &answer));
    let body = CommandBody::Answer { input_id, action: answer.action, content: answer.content };
    Ok(SessionCommand { command_id, fingerprint, by: user.clone(), body })
}

/// Builds the command that rates a reply.
pub(super) fn feedback_command(
    user: &UserId,
    command_id: CommandId,
    message_id: MessageId,
    feedback: RateMessage,
) -> SessionCommand {
    let fingerprint = fingerprint(&("feedback", message_id, &feedback));
    let RateMessage { rating, comment } = feedback;
    let body = CommandBody::Feedback { message_id, rating, comment };
    SessionCommand { command_id, fingerprint, by: user.clone(), body }
}

/// Builds the command that changes settings of a session.
pub(super) fn settings_command(
    user: &UserId,
    command_id: CommandId,
    patch: SettingsPatch,
) -> Result<SessionCommand, ProblemDetails> {
    if patch == SettingsPatch::default() {
        return Err(ProblemDetails::invalid(
            "the request changes nothing: set provider, model, temperature, max_tokens, reasoning or memory",
        ));
    }
    Ok(SessionCommand {
        command_id,
        fingerprint: fingerprint(&("settings", &patch)),
        by: user.clone(),
        body: CommandBody::Settings(patch),
    })
}

/// Builds the command that renames a session.
pub(super) fn title_command(
    user: &UserId,
    command_id: CommandId,
    title: &str,
) -> Result<SessionCommand, ProblemDetails> {
    let title = validate_title(title)?;
    Ok(SessionCommand {
        command_id,
        fingerprint: fingerprint(&("title", &title)),
        by: user.clone(),
        body: CommandBody::Title { title },
    })
}

/// Returns the trimmed title, or an error if it is empty, too long or not a single line.
pub(super) fn validate_title(title: &str) -> Result<String, ProblemDetails> {
    let title = title.trim();
    if title.is_empty() || title.chars().count() > MAX_TITLE_CHARS || title.chars().any(char::is_control) {
        return Err(ProblemDetails::invalid(format!(
            "title must be a single line of 1 to {MAX_TITLE_CHARS} characters that are not all white space"
        )));
    }
    Ok(title.to_owned())
}

/// Returns a digest of a request. It tells a retry from a different request with the same command id.
pub(super) fn fingerprint(request: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(request).expect("requests have string keys and no failing Serialize");
    HEXLOWER.encode(&Sha256::digest(bytes)[..16])
}
