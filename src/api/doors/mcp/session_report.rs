//! `get_session`: what a session does, and its last answer.

use std::{sync::Arc, time::Duration};

use actix_web::web;
use k8sops_core::{ChatMessage, RunFailed, SessionId, SessionState};
use serde_json::{Value, json};

use super::{
    ask_result::{complete_result, describe_waiting},
    client_protocol::ProtocolEra,
};
use crate::api::{
    caller::Caller,
    doors::{
        run_cursor::{RunRest, RunStep},
        turn_opening::TurnOpener,
        waiting_interactions::WaitingInteractions,
    },
    problem::ProblemDetails,
    state::ApiState,
};

/// The most tool calls that are listed, the newest.
const MAX_STEPS: usize = 50;
/// How long the end of the newest run is looked for.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Describes a session of the caller.
pub(super) async fn report_session(
    state: &web::Data<ApiState>,
    caller: &Caller,
    session: SessionId,
    era: ProtocolEra,
) -> Result<Value, ProblemDetails> {
    let summary = state.sessions.get_session(&caller.user, session).await?;
    let loaded = state.sessions.load_session(&caller.user, session).await?;
    let waiting = loaded.run.as_ref().filter(|run| run.is_blocked_on_user()).map(WaitingInteractions::from_run);
    let waiting = waiting.unwrap_or_default();
    let status = match (&loaded.run, waiting.is_empty()) {
        (Some(_), false) => "waiting",
        (Some(_), true) => "working",
        (None, _) if summary.is_processing() => "working",
        (None, _) => "idle",
    };
    let mut newest = NewestTurn::from_state(&loaded);
    if status == "idle" && newest.text.is_empty() {
        let opener = TurnOpener { state, identity: &caller.identity, session };
        if let Some(failed) = find_failure(&opener, newest.seq).await {
            newest.text = format!("The run failed: {} ({})", failed.message, failed.code);
        }
    }
    let described = describe_waiting(&waiting);
    let waits = described.iter().filter_map(|item| item["text"].as_str());
    let parts = [format!("{status}: {}", summary.title), newest.steps.join("\n"), newest.text.clone()];
    let parts = parts.iter().map(String::as_str).chain(waits).filter(|part| !part.is_empty());
    let text = parts.collect::<Vec<_>>().join("\n\n");
    let structured = json!({
        "session_id": session,
        "status": status,
        "title": summary.title,
        "question": newest.question,
        "steps": newest.steps,
        "text": newest.text,
        "waiting": described,
    });
    let content = json!([{"type": "text", "text": text}]);
    Ok(complete_result(json!({"content": content, "structuredContent": structured, "isError": false}), era))
}

/// The newest message of the user, and what came of it.
#[derive(Debug, Default, PartialEq)]
struct NewestTurn {
    question: String,
    /// The seq of the message; 0 if there is none.
    seq: u64,
    steps: Vec<String>,
    text: String,
}

impl NewestTurn {
    fn from_state(state: &SessionState) -> Self {
        let mut turn = Self::from_messages(&state.messages);
        let open = state.run.iter().flat_map(|run| &run.calls);
        turn.steps.extend(open.map(|open| match open.started {
            Some(_) => format!("{}: running", open.call.name),
            None => format!("{}: not started", open.call.name),
        }));
        let surplus = turn.steps.len().saturating_sub(MAX_STEPS);
        turn.steps.drain(..surplus);
        turn
    }

    fn from_messages(messages: &[Arc<ChatMessage>]) -> Self {
        let mut turn = Self::default();
        for message in messages {
            match message.as_ref() {
                ChatMessage::User(message) => {
                    turn = Self { question: message.content.clone(), seq: message.seq, ..Self::default() };
                }
                ChatMessage::Assistant(message) if !message.content.is_empty() => {
                    turn.text.clone_from(&message.content);
                }
                ChatMessage::Assistant(_) => {}
                ChatMessage::Tool(message) => turn.steps.push(format!("{}: {}", message.name, message.status.as_str())),
            }
        }
        turn
    }
}

/// Returns why the run that answers a message failed, if it did. The state of a session does not have it.
async fn find_failure(opener: &TurnOpener<'_>, seq: u64) -> Option<RunFailed> {
    let search = async {
        let mut cursor = opener.follow_logged_message(seq).await.ok()?;
        loop {
            match cursor.next().await.ok()? {
                RunStep::Frame(_) | RunStep::Blocked(_) | RunStep::Rest(RunRest::Waiting(_)) => {}
                RunStep::Rest(RunRest::Failed(failed)) => return Some(failed),
                RunStep::Rest(_) => return None,
            }
        }
    };
    tokio::time::timeout(SEARCH_TIMEOUT, search).await.ok().flatten()
}
