//! Calls that a server answers with `input_required`: it asks for input and for the same request again (MCP 2026-07-28).

use std::time::Duration;

use futures_util::future::join_all;
use rmcp::model::{
    CallToolRequestParams, ElicitResult, ElicitationAction, InputRequest, InputRequiredResult, InputResponses,
};
use serde_json::{Value, json};

use crate::{active_connection::ActiveConnection, elicitation_relay::relay_elicitation, in_flight_call::InFlightCall};

/// How often a server may ask for input during one call. A server that asks more often is looping.
pub(crate) const MAX_INPUT_ROUNDS: usize = 10;
/// Delay before the request is sent again to a server that asked for no input, only for the request.
const RESEND_DELAY: Duration = Duration::from_millis(250);
/// Inputs that a server may ask for in one answer.
const MAX_INPUTS: usize = 32;

/// Why the required input cannot be provided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("the server requested {0} inputs at once; the limit is {MAX_INPUTS}")]
    TooManyInputs(usize),
    #[error("the server requested sampling by a language model, which is not supported")]
    SamplingUnsupported,
    #[error("cannot encode the user's answer")]
    Encoding(#[source] serde_json::Error),
}

/// Collects the input that the server requires and adds it to the request.
pub(crate) async fn provide_input(
    connection: &ActiveConnection,
    call: &InFlightCall,
    mut params: CallToolRequestParams,
    required: InputRequiredResult,
) -> Result<CallToolRequestParams, InputError> {
    let requests = required.input_requests.unwrap_or_default();
    if requests.len() > MAX_INPUTS {
        return Err(InputError::TooManyInputs(requests.len()));
    }
    if requests.is_empty() {
        tokio::time::sleep(RESEND_DELAY).await;
    }
    call.record_activity();
    let responses = requests.into_iter().map(|(key, request)| async move {
        let response = answer_input_request(connection, call, request).await?;
        Ok((key, response))
    });
    let responses = join_all(responses).await.into_iter().collect::<Result<InputResponses, InputError>>()?;
    params.input_responses = (!responses.is_empty()).then_some(responses);
    // Opaque to clients: it is returned unchanged.
    params.request_state = required.request_state;
    Ok(params)
}

async fn answer_input_request(
    connection: &ActiveConnection,
    call: &InFlightCall,
    request: InputRequest,
) -> Result<Value, InputError> {
    match request {
        InputRequest::Elicitation(request) => {
            let result = match connection.handler.open_elicitation() {
                Some(_open) => relay_elicitation(connection.handler.server(), call, request.params).await,
                None => ElicitResult::new(ElicitationAction::Decline),
            };
            serde_json::to_value(result).map_err(InputError::Encoding)
        }
        InputRequest::ListRoots(_) => Ok(json!({"roots": []})),
        _ => Err(InputError::SamplingUnsupported),
    }
}
