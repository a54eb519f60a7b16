//! Calls that a server answers with `input_required`: it wants something of us and the same call again (MCP 2026-07-28).

use std::time::Duration;

use futures_util::future::join_all;
use rmcp::model::{
    CallToolRequestParams, ElicitResult, ElicitationAction, InputRequest, InputRequiredResult, InputResponses,
};
use serde_json::{Value, json};

use crate::{elicitation_relay::elicit, in_flight_call::Flight, supervisor::Live};

/// How often a call is sent again because its server asks for it; more is a server that goes in circles.
pub(crate) const MAX_ROUNDS: usize = 10;
/// How long a server that only wants to be asked again later is left alone.
const LATER: Duration = Duration::from_millis(250);
/// Questions of one answer.
const MAX_INPUTS: usize = 32;

/// Answers what the server asks, and makes the call that it wants in the place of `params`.
///
/// # Errors
/// What the server asks that is not offered here.
pub(crate) async fn next_round(
    live: &Live,
    flight: &Flight,
    mut params: CallToolRequestParams,
    required: InputRequiredResult,
) -> Result<CallToolRequestParams, String> {
    let requests = required.input_requests.unwrap_or_default();
    if requests.len() > MAX_INPUTS {
        return Err(format!("the server asks {} things at once", requests.len()));
    }
    if requests.is_empty() {
        tokio::time::sleep(LATER).await;
    }
    flight.note_life();
    let asked = requests.into_iter().map(|(key, request)| async move {
        let response = respond(live, flight, request).await?;
        Ok((key, response))
    });
    let responses = join_all(asked).await.into_iter().collect::<Result<InputResponses, String>>()?;
    params.input_responses = (!responses.is_empty()).then_some(responses);
    // Of the server alone: it goes back as it came.
    params.request_state = required.request_state;
    Ok(params)
}

async fn respond(live: &Live, flight: &Flight, request: InputRequest) -> Result<Value, String> {
    match request {
        InputRequest::Elicitation(request) => {
            let result = match live.handler.open_question() {
                Some(_question) => elicit(live.handler.server(), flight, request.params).await,
                None => ElicitResult::new(ElicitationAction::Decline),
            };
            serde_json::to_value(result).map_err(|e| format!("the answer of the user cannot be sent: {e}"))
        }
        // There are none, and that is an answer.
        InputRequest::ListRoots(_) => Ok(json!({"roots": []})),
        _ => Err("the tool wants a model of ours to write something, which is not offered".to_owned()),
    }
}
