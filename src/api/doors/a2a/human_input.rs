//! The extension `hitl/v1` of kagent: what a task waits for, and the answers, for programs.
//!
//! A task waits for approvals of tool calls or, when there are none, for the answer to one question of an MCP server. The answers
//! come with a message to the task and name what was asked.

use k8sops_core::{ApprovalRequested, InputAction, InputRequested};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{a2a_error::A2aError, client_message::ClientMessage};
use crate::api::{
    commands::{AnswerInput, ApprovalVerdict, ResolveApproval},
    doors::{
        turn_opening::InteractionAnswer,
        waiting_interactions::{WaitingInteractions, compact_json},
    },
    typed_json::read_json_value,
};

/// The URI of the extension.
pub(super) const HITL_EXTENSION: &str = "https://kagent.dev/extensions/hitl/v1";
/// The answer to a question that has no form.
const ACCEPT: &str = "accept";
/// The answer of a user who does not want to answer.
const DECLINE: &str = "decline";

/// Answers to what a task waits for.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum HitlResponse {
    ToolApprovalResponse { approvals: Vec<ToolDecision> },
    AskUserResponse { id: String, answers: Vec<UserAnswer> },
}

/// The answer to a request for approval.
#[derive(Debug, Deserialize)]
pub(super) struct ToolDecision {
    id: String,
    approved: bool,
    #[serde(default)]
    rejection_reason: Option<String>,
}

/// The answer to a question.
#[derive(Debug, Deserialize)]
pub(super) struct UserAnswer {
    answer: Vec<String>,
}

/// Describes what a task waits for.
pub(super) fn describe_request(waiting: &WaitingInteractions) -> Option<Value> {
    if !waiting.approvals.is_empty() {
        let hints: Vec<String> = waiting.approvals.iter().map(describe_call).collect();
        let tools: Vec<Value> = waiting.approvals.iter().map(describe_tool).collect();
        return Some(json!({"type": "tool_approval_request", "hint": hints.join("; "), "tools": tools}));
    }
    let asked = waiting.inputs.first()?;
    let questions: Vec<Value> = list_questions(asked).iter().map(Question::describe).collect();
    Some(json!({"type": "ask_user_request", "id": asked.input_id, "questions": questions}))
}

fn describe_call(asked: &ApprovalRequested) -> String {
    let what = if asked.summary.is_empty() { compact_json(&asked.arguments) } else { asked.summary.clone() };
    format!("{}: {what}", asked.name)
}

fn describe_tool(asked: &ApprovalRequested) -> Value {
    json!({"id": asked.approval_id, "call_id": asked.tool_call_id, "name": asked.name, "args": asked.arguments})
}

/// A question, and the field of the form that its answer fills.
struct Question<'a> {
    text: String,
    choices: Vec<String>,
    field: Option<(&'a str, &'a Value)>,
    /// Whether there must be an answer.
    is_required: bool,
}

impl Question<'_> {
    fn describe(&self) -> Value {
        json!({"question": self.text, "choices": self.choices, "multiple": self.is_multiple()})
    }

    fn is_multiple(&self) -> bool {
        self.field.is_some_and(|(_, schema)| schema["type"] == "array")
    }

    /// Whether an answer leaves the question open. Clients send nothing, or the empty text of an empty box.
    fn is_left_open(&self, answer: &[String]) -> bool {
        !self.is_required && answer.iter().all(|text| text.trim().is_empty())
    }

    /// Reads the answer as a value of the form.
    fn read_value(&self, answer: &[String]) -> Result<Value, A2aError> {
        if self.is_multiple() {
            return Ok(answer.into());
        }
        let [text] = answer else {
            return Err(invalid(format!("the question {:?} takes one answer", self.text)));
        };
        let is_text = self.field.is_none_or(|(_, schema)| schema["type"] == "string");
        let parsed = if is_text { None } else { serde_json::from_str(text).ok() };
        Ok(parsed.unwrap_or_else(|| text.as_str().into()))
    }
}

/// Returns the fields of a form as questions. A request without a form is one question.
fn list_questions(asked: &InputRequested) -> Vec<Question<'_>> {
    let fields = asked.schema.as_ref().and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    let message = asked.message.trim();
    if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
        let required = asked.schema.as_ref().and_then(|schema| schema.get("required")).and_then(Value::as_array);
        let is_required = |name: &str| required.into_iter().flatten().any(|required| required == name);
        return fields.iter().map(|(name, schema)| ask_for_field(message, name, schema, is_required(name))).collect();
    }
    let text = asked.url.as_ref().map_or_else(|| message.to_owned(), |url| format!("{message} Open {url}"));
    vec![Question { text, choices: vec![ACCEPT.to_owned(), DECLINE.to_owned()], field: None, is_required: true }]
}

fn ask_for_field<'a>(message: &str, name: &'a str, schema: &'a Value, is_required: bool) -> Question<'a> {
    let label = schema["title"].as_str().or_else(|| schema["description"].as_str()).unwrap_or(name);
    let text = format!("{message} ({label})");
    Question { text, choices: list_choices(schema), field: Some((name, schema)), is_required }
}

fn list_choices(schema: &Value) -> Vec<String> {
    let listed = schema["enum"].as_array().or_else(|| schema["items"]["enum"].as_array());
    let titled = schema["oneOf"].as_array().or_else(|| schema["items"]["anyOf"].as_array());
    let constants = titled.into_iter().flatten().map(|choice| &choice["const"]);
    let mut choices: Vec<String> =
        listed.into_iter().flatten().chain(constants).filter_map(Value::as_str).map(str::to_owned).collect();
    if schema["type"] == "boolean" {
        choices.extend(["true", "false"].map(str::to_owned));
    }
    choices
}

/// Reads the answers that come with a message.
///
/// # Errors
/// The message does not declare the extension, or what it says is not understood.
pub(super) fn read_response(message: &ClientMessage) -> Result<Option<HitlResponse>, A2aError> {
    let Some(payload) = message.metadata.as_ref().and_then(|metadata| metadata.get(HITL_EXTENSION)) else {
        return Ok(None);
    };
    if !message.extensions.iter().flatten().any(|uri| uri == HITL_EXTENSION) {
        return Err(A2aError::invalid_field(
            "message.extensions",
            format!("message.extensions lacks {HITL_EXTENSION}"),
        ));
    }
    read_json_value(payload.clone(), "the answer").map(Some).map_err(|error| invalid(error.to_string()))
}

/// Finds what the answers are for.
///
/// # Errors
/// They are not complete, or for something that the task does not wait for.
pub(super) fn find_answers(
    response: HitlResponse,
    waiting: &WaitingInteractions,
) -> Result<Vec<InteractionAnswer>, A2aError> {
    match response {
        HitlResponse::ToolApprovalResponse { approvals } => find_approvals(&approvals, &waiting.approvals),
        HitlResponse::AskUserResponse { id, answers } => {
            let asked = waiting.inputs.iter().find(|asked| asked.input_id.to_string() == id);
            let asked = asked.ok_or_else(|| invalid(format!("the task does not wait for an answer to {id:?}")))?;
            Ok(vec![InteractionAnswer::Input(asked.input_id, read_answers(asked, &answers)?)])
        }
    }
}

fn find_approvals(
    decisions: &[ToolDecision],
    waiting: &[ApprovalRequested],
) -> Result<Vec<InteractionAnswer>, A2aError> {
    let unknown = decisions.iter().find(|given| !waiting.iter().any(|asked| asked.approval_id.to_string() == given.id));
    if let Some(unknown) = unknown {
        return Err(invalid(format!("the task does not wait for an approval with the id {:?}", unknown.id)));
    }
    if waiting.is_empty() {
        return Err(invalid("the task does not wait for approvals"));
    }
    // What is left out must never count as approved, nor what is there twice.
    let answers = waiting.iter().map(|asked| {
        let id = asked.approval_id.to_string();
        let mut given = decisions.iter().filter(|given| given.id == id);
        let (Some(decision), None) = (given.next(), given.next()) else {
            return Err(invalid(format!("there must be one approval with the id {id:?}")));
        };
        let reason = decision.rejection_reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
        let answer = ResolveApproval {
            decision: if decision.approved { ApprovalVerdict::Approve } else { ApprovalVerdict::Deny },
            arguments: None,
            comment: reason.filter(|_| !decision.approved).map(str::to_owned),
        };
        Ok(InteractionAnswer::Approval(asked.approval_id, answer))
    });
    answers.collect()
}

fn read_answers(asked: &InputRequested, answers: &[UserAnswer]) -> Result<AnswerInput, A2aError> {
    let questions = list_questions(asked);
    if questions.len() != answers.len() {
        return Err(invalid(format!("there must be {} answers, in the order of the questions", questions.len())));
    }
    let mut content = Map::new();
    for (question, answer) in questions.iter().zip(answers) {
        if question.is_left_open(&answer.answer) {
            continue;
        }
        let value = question.read_value(&answer.answer)?;
        match question.field {
            Some((name, _)) => {
                content.insert(name.to_owned(), value);
            }
            None if value == DECLINE => return Ok(AnswerInput { action: InputAction::Decline, content: None }),
            None if value == ACCEPT => {}
            None => return Err(invalid(format!("the answer must be {ACCEPT} or {DECLINE}"))),
        }
    }
    Ok(AnswerInput { action: InputAction::Accept, content: Some(content).filter(|values| !values.is_empty()) })
}

fn invalid(why: impl Into<String>) -> A2aError {
    A2aError::invalid_field("message.metadata", why)
}
