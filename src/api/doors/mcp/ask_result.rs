//! What `ask` returns.

use k8sops_core::{RunId, RunOutcome, SessionId};
use serde_json::{Map, Value, json};

use super::client_protocol::ProtocolEra;
use crate::api::{
    doors::{
        run_cursor::RunRest,
        waiting_interactions::{WaitingInteractions, describe_approval_request, describe_input_request},
    },
    problem::ProblemDetails,
};

/// Where a person decides. The model must not be told words that approve.
const WHERE_TO_DECIDE: &str = "A person decides this in the console of k8sops, with `k8sops approvals`, or over its API. \
    After that, `get_session` shows how it went on.";

/// The result of `ask`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AskResult {
    pub(super) session: SessionId,
    pub(super) run: Option<RunId>,
    pub(super) outcome: &'static str,
    pub(super) text: String,
    pub(super) waiting: WaitingInteractions,
    /// Whether the client should take the result for an error.
    pub(super) is_error: bool,
}

impl AskResult {
    /// Returns the result for a run that rests, after the agent has said `text`.
    pub(super) fn from_rest(session: SessionId, run: RunId, text: &str, rest: &RunRest) -> Self {
        let joined =
            |last: &str| [text, last].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n");
        let new = |outcome, text, is_error| Self {
            session,
            run: Some(run),
            outcome,
            text,
            waiting: WaitingInteractions::default(),
            is_error,
        };
        match rest {
            RunRest::Finished(finished) => match finished.outcome {
                RunOutcome::Completed => new("completed", text.to_owned(), false),
                RunOutcome::Cancelled => new("cancelled", joined("The run was cancelled."), false),
                RunOutcome::Limit => new("limit", joined("A limit of the run was reached. Ask again to go on."), false),
            },
            RunRest::Failed(failed) => {
                new("failed", joined(&format!("The run failed: {} ({})", failed.message, failed.code)), true)
            }
            RunRest::Waiting(waiting) => Self::waiting(session, Some(run), text, waiting.clone()),
            RunRest::Interrupted(why) => {
                let text = format!("The run cannot be followed further here: {}. See `get_session`.", why.message());
                new("interrupted", text, why.code() != "reconnect")
            }
        }
    }

    /// Returns the result for a session that waits for a person.
    pub(super) fn waiting(session: SessionId, run: Option<RunId>, preface: &str, waiting: WaitingInteractions) -> Self {
        let described = describe_waiting(&waiting);
        let texts = described.iter().filter_map(|item| item["text"].as_str());
        let parts: Vec<&str> = std::iter::once(preface).chain(texts).chain([WHERE_TO_DECIDE]).collect();
        let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n");
        Self { session, run, outcome: "waiting", text, waiting, is_error: false }
    }

    /// Returns the result as JSON.
    pub(super) fn to_json(&self, era: ProtocolEra) -> Value {
        let mut structured = Map::from_iter([
            ("session_id".to_owned(), json!(self.session)),
            ("outcome".to_owned(), json!(self.outcome)),
            ("text".to_owned(), json!(self.text)),
        ]);
        structured.extend(self.run.map(|run| ("run_id".to_owned(), json!(run))));
        if !self.waiting.is_empty() {
            structured.insert("waiting".to_owned(), Value::Array(describe_waiting(&self.waiting)));
        }
        // Hosts that show their model only the text have to show the session, too.
        let session = format!("session_id: {} ({})", self.session, self.outcome);
        let content = json!([{"type": "text", "text": self.text}, {"type": "text", "text": session}]);
        let result = json!({"content": content, "structuredContent": structured, "isError": self.is_error});
        complete_result(result, era)
    }
}

/// Describes what waits, without the words that answer it.
pub(super) fn describe_waiting(waiting: &WaitingInteractions) -> Vec<Value> {
    let approvals = waiting
        .approvals
        .iter()
        .map(|asked| json!({"kind": "approval", "id": asked.approval_id, "text": describe_approval_request(asked)}));
    let inputs = waiting
        .inputs
        .iter()
        .map(|asked| json!({"kind": "question", "id": asked.input_id, "text": describe_input_request(asked)}));
    approvals.chain(inputs).collect()
}

/// Returns the result of a call that was rejected. The model reads it, and may do better.
pub(super) fn rejected_call(problem: &ProblemDetails, era: ProtocolEra) -> Value {
    failed_call(&format!("{} ({})", problem.detail, problem.code.name()), era)
}

/// Returns the result of a call that failed.
pub(super) fn failed_call(text: &str, era: ProtocolEra) -> Value {
    complete_result(json!({"content": [{"type": "text", "text": text}], "isError": true}), era)
}

/// Marks a result as complete, where the protocol knows others.
pub(super) fn complete_result(mut result: Value, era: ProtocolEra) -> Value {
    if era == ProtocolEra::PerRequest {
        result["resultType"] = "complete".into();
    }
    result
}
