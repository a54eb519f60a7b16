//! What a run waits for, as interrupts of AG-UI, and the answers that resume it.

use k8sops_core::{ApprovalRequested, InputAction, InputRequested};
use serde_json::{Map, Value, json};

use super::run_input::{ResumeEntry, ResumeStatus};
use crate::api::{
    commands::{AnswerInput, ApprovalVerdict, ResolveApproval},
    doors::{
        turn_opening::InteractionAnswer,
        waiting_interactions::{WaitingInteractions, describe_decider},
    },
};

/// The comment of a call that was denied because the user turned away from the question.
const ABANDONED: &str = "the user left the question unanswered";

/// Returns what waits as interrupts.
pub(super) fn describe_interrupts(waiting: &WaitingInteractions) -> Vec<Value> {
    let approvals = waiting.approvals.iter().map(approval_interrupt);
    approvals.chain(waiting.inputs.iter().map(input_interrupt)).collect()
}

fn approval_interrupt(asked: &ApprovalRequested) -> Value {
    let what = if asked.summary.is_empty() { asked.arguments.to_string() } else { asked.summary.clone() };
    // Edited arguments are not offered: forms send an empty object that the user did not fill in.
    let schema = json!({
        "type": "object",
        "properties": {
            "approved": {"type": "boolean", "description": "Whether the call may run"},
            "comment": {"type": "string", "description": "A reason for the log and the model"},
        },
        "required": ["approved"],
    });
    let mut details = Map::from_iter([
        ("effect".to_owned(), json!(asked.effect)),
        ("arguments".to_owned(), asked.arguments.clone()),
        ("reason".to_owned(), json!(asked.reason)),
        ("server".to_owned(), json!(asked.server)),
    ]);
    details.extend(asked.cluster.as_ref().map(|cluster| ("cluster".to_owned(), json!(cluster))));
    details.extend(asked.preview.as_ref().map(|preview| ("preview".to_owned(), json!(preview))));
    details.insert("answeredBy".to_owned(), json!(asked.answered_by));
    let mut interrupt = json!({
        "id": asked.approval_id,
        "reason": "tool_call",
        "toolCallId": asked.tool_call_id,
        "expiresAt": asked.expires_at,
        "metadata": {"k8sops": details},
    });
    if let Some(decider) = describe_decider(asked) {
        interrupt["message"] = format!("{} waits for an approval: {what}\n{decider}", asked.name).into();
    } else {
        interrupt["message"] = format!("Approve {}? {what}", asked.name).into();
        interrupt["responseSchema"] = schema;
    }
    interrupt
}

fn input_interrupt(asked: &InputRequested) -> Value {
    let mut interrupt = json!({
        "id": asked.input_id,
        "reason": "input_required",
        "message": asked.message,
        "toolCallId": asked.tool_call_id,
        "expiresAt": asked.expires_at,
        "metadata": {"k8sops": {"server": asked.server}},
    });
    if let Some(schema) = &asked.schema {
        interrupt["responseSchema"] = Value::Object(schema.clone());
    }
    if let Some(url) = &asked.url {
        interrupt["message"] = format!("{} Open {url}", asked.message.trim()).into();
        interrupt["metadata"]["k8sops"]["url"] = url.as_str().into();
    }
    interrupt
}

/// Returns the answers to what waits. Entries for something that does not wait any more are left out: someone else was faster.
pub(super) fn read_answers(entries: &[ResumeEntry], waiting: &WaitingInteractions) -> Vec<InteractionAnswer> {
    let answers = entries.iter().filter_map(|entry| {
        let approval = waiting.approvals.iter().find(|asked| asked.approval_id.to_string() == entry.interrupt_id);
        if let Some(asked) = approval {
            return Some(InteractionAnswer::Approval(asked.approval_id, read_approval(entry)));
        }
        let asked = waiting.inputs.iter().find(|asked| asked.input_id.to_string() == entry.interrupt_id)?;
        Some(InteractionAnswer::Input(asked.input_id, read_input(entry)))
    });
    answers.collect()
}

/// Only an explicit approval approves. Everything else denies.
fn read_approval(entry: &ResumeEntry) -> ResolveApproval {
    let payload = entry.payload.as_ref();
    let field = |name: &str| payload.and_then(|payload| payload.get(name));
    let is_resolved = entry.status == ResumeStatus::Resolved;
    let is_approved = is_resolved && field("approved") == Some(&Value::Bool(true));
    // `reason` is what the approval buttons of assistant-ui send.
    let comment =
        field("comment").or(field("reason")).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let edited = field("editedArgs").and_then(Value::as_object).filter(|edited| is_approved && !edited.is_empty());
    ResolveApproval {
        decision: if is_approved { ApprovalVerdict::Approve } else { ApprovalVerdict::Deny },
        arguments: edited.cloned(),
        comment: if is_resolved { comment.map(str::to_owned) } else { Some(ABANDONED.to_owned()) },
    }
}

fn read_input(entry: &ResumeEntry) -> AnswerInput {
    if entry.status != ResumeStatus::Resolved {
        return AnswerInput { action: InputAction::Cancel, content: None };
    }
    let payload = entry.payload.as_ref().and_then(Value::as_object);
    let is_declined = payload.is_some_and(|payload| {
        payload.get("approved") == Some(&Value::Bool(false)) || payload.get("action") == Some(&json!("decline"))
    });
    if is_declined {
        return AnswerInput { action: InputAction::Decline, content: None };
    }
    AnswerInput { action: InputAction::Accept, content: payload.cloned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(status: ResumeStatus, payload: Option<Value>) -> ResumeEntry {
        ResumeEntry { interrupt_id: "x".into(), status, payload }
    }

    #[test]
    fn only_an_explicit_approval_approves() {
        use ResumeStatus::{Cancelled, Resolved};
        for (status, payload, approves) in [
            (Resolved, Some(json!({"approved": true})), true),
            (Resolved, Some(json!({"approved": true, "comment": "", "editedArgs": {}})), true),
            (Resolved, Some(json!({"approved": false, "editedArgs": {"replicas": 1}})), false),
            (Resolved, Some(json!({"approved": "true"})), false),
            (Resolved, Some(json!({"approved": 1})), false),
            (Resolved, Some(json!(true)), false),
            (Resolved, Some(json!({})), false),
            (Resolved, None, false),
            (Cancelled, Some(json!({"approved": true})), false),
        ] {
            let answer = read_approval(&entry(status, payload.clone()));
            assert_eq!(answer.decision == ApprovalVerdict::Approve, approves, "{payload:?}");
            assert_eq!(answer.arguments, None, "{payload:?}");
        }
        for words in ["comment", "reason"] {
            let answer = read_approval(&entry(Resolved, Some(json!({"approved": false, words: "not now"}))));
            assert_eq!(answer.comment.as_deref(), Some("not now"));
        }
        let edited = read_approval(&entry(Resolved, Some(json!({"approved": true, "editedArgs": {"replicas": 1}}))));
        assert_eq!(Value::Object(edited.arguments.unwrap()), json!({"replicas": 1}));
    }

    #[test]
    fn questions_are_accepted_declined_or_cancelled() {
        use ResumeStatus::{Cancelled, Resolved};
        for (status, payload, action) in [
            (Resolved, Some(json!({"name": "a"})), InputAction::Accept),
            (Resolved, None, InputAction::Accept),
            (Resolved, Some(json!({"approved": false})), InputAction::Decline),
            (Resolved, Some(json!({"action": "decline"})), InputAction::Decline),
            (Cancelled, Some(json!({"name": "a"})), InputAction::Cancel),
        ] {
            let answer = read_input(&entry(status, payload.clone()));
            assert_eq!(
                (answer.action, answer.content.is_some()),
                (action, action == InputAction::Accept && payload.is_some())
            );
        }
    }
}
