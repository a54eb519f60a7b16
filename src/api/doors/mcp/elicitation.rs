//! What a run waits for as forms of the client, and the answers.
//!
//! Approvals are answered by the user of the client, never by a tool: the model that asked for a change would approve it.

use k8sops_core::{ApprovalAudience, ApprovalId, ApprovalRequested, InputAction, InputId, InputRequested, SessionId};
use serde_json::{Map, Value, json};

use super::client_protocol::ElicitationSupport;
use crate::{
    api::{
        commands::{AnswerInput, ApprovalVerdict, ResolveApproval},
        doors::{
            turn_opening::InteractionAnswer,
            waiting_interactions::{WaitingInteractions, describe_approval_request},
        },
    },
    auth::RoleSet,
};

/// The comment of a call that was denied because the user turned away from the question.
const ABANDONED: &str = "the user left the question unanswered";
/// What the ids of the server's requests begin with.
const REQUEST_ID_PREFIX: &str = "k8sops";

/// A form, and what it is for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ElicitationForm {
    pub(super) key: InteractionKey,
    /// The parameters of `elicitation/create`.
    pub(super) params: Value,
}

/// Something that waits, as clients name it in their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum InteractionKey {
    Approval(ApprovalId),
    Input(InputId),
}

/// Which forms the user of a client can be shown, and may answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct FormAudience {
    pub(super) support: ElicitationSupport,
    pub(super) roles: RoleSet,
}

impl InteractionKey {
    /// Returns the name of the form.
    pub(super) fn name(self) -> String {
        match self {
            Self::Approval(id) => format!("approval-{id}"),
            Self::Input(id) => format!("input-{id}"),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        if let Some(id) = name.strip_prefix("approval-") {
            return id.parse().ok().map(Self::Approval);
        }
        name.strip_prefix("input-")?.parse().ok().map(Self::Input)
    }

    /// Returns the id of the request that shows the form. The replica that gets the response knows from it what is answered.
    pub(super) fn request_id(self, session: SessionId) -> String {
        format!("{REQUEST_ID_PREFIX}/{session}/{}", self.name())
    }

    /// Reads the id of a request of any replica.
    pub(super) fn parse_request_id(id: &Value) -> Option<(SessionId, Self)> {
        let rest = id.as_str()?.strip_prefix(REQUEST_ID_PREFIX)?.strip_prefix('/')?;
        let (session, name) = rest.split_once('/')?;
        Some((session.parse().ok()?, Self::parse(name)?))
    }
}

impl FormAudience {
    /// Returns the forms for what waits, without what the user cannot answer here.
    pub(super) fn describe_forms(self, waiting: &WaitingInteractions) -> Vec<ElicitationForm> {
        let may_approve =
            |asked: &&ApprovalRequested| self.roles.can_approve() && asked.answered_by == ApprovalAudience::Owner;
        let approvals = waiting.approvals.iter().filter(may_approve).filter(|_| self.support.form).map(approval_form);
        let can_show = |asked: &&InputRequested| if asked.url.is_some() { self.support.url } else { self.support.form };
        let inputs = waiting.inputs.iter().filter(|_| self.roles.can_write()).filter(can_show).map(input_form);
        approvals.chain(inputs).collect()
    }
}

fn approval_form(asked: &ApprovalRequested) -> ElicitationForm {
    let schema = json!({
        "type": "object",
        "properties": {
            "decision": {"type": "string", "title": "Decision", "enum": ["approve", "deny"],
                "description": "Whether the call may run"},
            "comment": {"type": "string", "title": "Comment", "description": "A reason for the log and the agent"},
        },
        "required": ["decision"],
    });
    let params = json!({"message": describe_approval_request(asked), "requestedSchema": schema});
    ElicitationForm { key: InteractionKey::Approval(asked.approval_id), params }
}

fn input_form(asked: &InputRequested) -> ElicitationForm {
    let message = format!("The server {} of k8sops asks: {}", asked.server, asked.message.trim());
    let params = if let Some(url) = &asked.url {
        json!({"mode": "url", "message": message, "url": url, "elicitationId": asked.input_id})
    } else {
        let empty = || Map::from_iter([("type".to_owned(), json!("object")), ("properties".to_owned(), json!({}))]);
        json!({"message": message, "requestedSchema": asked.schema.clone().unwrap_or_else(empty)})
    };
    ElicitationForm { key: InteractionKey::Input(asked.input_id), params }
}

/// Reads the answers to forms by their names. Answers to something that does not wait any more are left out: someone else was
/// faster. The error says which answer is none.
pub(super) fn read_named_answers(
    responses: &Map<String, Value>,
    waiting: &WaitingInteractions,
) -> Result<Vec<InteractionAnswer>, String> {
    if let Some((name, _)) = responses.iter().find(|(_, response)| !response.is_object()) {
        return Err(format!("inputResponses[{name:?}] is not an object"));
    }
    let named = responses.iter().filter_map(|(name, response)| Some((InteractionKey::parse(name)?, response)));
    Ok(named.filter_map(|(key, response)| read_answer(key, response, waiting)).collect())
}

/// Reads the answer to a form. Returns `None` if it does not wait any more.
pub(super) fn read_answer(
    key: InteractionKey,
    response: &Value,
    waiting: &WaitingInteractions,
) -> Option<InteractionAnswer> {
    match key {
        InteractionKey::Approval(id) => {
            waiting.approvals.iter().find(|asked| asked.approval_id == id)?;
            Some(InteractionAnswer::Approval(id, read_approval(response)))
        }
        InteractionKey::Input(id) => {
            waiting.inputs.iter().find(|asked| asked.input_id == id)?;
            Some(InteractionAnswer::Input(id, read_input(response)))
        }
    }
}

/// Only an explicit approval approves. Everything else denies.
fn read_approval(response: &Value) -> ResolveApproval {
    let content = &response["content"];
    let is_accepted = response["action"] == "accept";
    let is_approved = is_accepted && content["decision"] == "approve";
    let comment = content["comment"].as_str().map(str::trim).filter(|comment| !comment.is_empty());
    let is_answered = is_accepted || response["action"] == "decline";
    ResolveApproval {
        decision: if is_approved { ApprovalVerdict::Approve } else { ApprovalVerdict::Deny },
        arguments: None,
        comment: if is_answered { comment.map(str::to_owned) } else { Some(ABANDONED.to_owned()) },
    }
}

fn read_input(response: &Value) -> AnswerInput {
    match response["action"].as_str() {
        Some("accept") => {
            let content = response["content"].as_object().filter(|content| !content.is_empty());
            AnswerInput { action: InputAction::Accept, content: content.cloned() }
        }
        Some("decline") => AnswerInput { action: InputAction::Decline, content: None },
        _ => AnswerInput { action: InputAction::Cancel, content: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_explicit_approval_approves() {
        for (response, approves, comment) in [
            (json!({"action": "accept", "content": {"decision": "approve"}}), true, None),
            (json!({"action": "accept", "content": {"decision": "approve", "comment": " ok "}}), true, Some("ok")),
            (json!({"action": "accept", "content": {"decision": "deny", "comment": "no"}}), false, Some("no")),
            (json!({"action": "accept", "content": {"decision": "Approve"}}), false, None),
            (json!({"action": "accept", "content": {"decision": true}}), false, None),
            (json!({"action": "accept", "content": {"approve": true}}), false, None),
            (json!({"action": "accept", "content": {}}), false, None),
            (json!({"action": "accept"}), false, None),
            (json!({"action": "decline", "content": {"decision": "approve"}}), false, None),
            (json!({"action": "cancel", "content": {"decision": "approve"}}), false, Some(ABANDONED)),
            (json!({"content": {"decision": "approve"}}), false, Some(ABANDONED)),
            (json!({}), false, Some(ABANDONED)),
        ] {
            let answer = read_approval(&response);
            let verdict = answer.decision == ApprovalVerdict::Approve;
            assert_eq!((verdict, answer.comment.as_deref()), (approves, comment), "{response}");
        }
    }

    #[test]
    fn questions_are_accepted_declined_or_cancelled() {
        for (response, action, has_content) in [
            (json!({"action": "accept", "content": {"name": "a"}}), InputAction::Accept, true),
            (json!({"action": "accept", "content": {}}), InputAction::Accept, false),
            (json!({"action": "accept"}), InputAction::Accept, false),
            (json!({"action": "decline", "content": {"name": "a"}}), InputAction::Decline, false),
            (json!({"action": "cancel"}), InputAction::Cancel, false),
            (json!({}), InputAction::Cancel, false),
        ] {
            let answer = read_input(&response);
            assert_eq!((answer.action, answer.content.is_some()), (action, has_content), "{response}");
        }
    }

    #[test]
    fn request_ids_say_what_is_answered() {
        let session = SessionId::new();
        for key in [InteractionKey::Approval(ApprovalId::new()), InteractionKey::Input(InputId::new())] {
            let id = json!(key.request_id(session));
            assert_eq!(InteractionKey::parse_request_id(&id), Some((session, key)));
        }
        for id in [json!(1), json!("k8sops"), json!("k8sops/x/approval-1"), json!(format!("k8sops/{session}/input-x"))]
        {
            assert_eq!(InteractionKey::parse_request_id(&id), None, "{id}");
        }
    }
}
