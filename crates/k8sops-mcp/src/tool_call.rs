//! One call of a tool, which is sent once.

use std::{sync::Arc, time::Duration};

use k8sops_telemetry::trace_context;
use rmcp::{
    ErrorData, RoleClient,
    model::{
        CallToolRequest, CallToolRequestParams, CancelledNotificationParam, ClientRequest, ErrorCode, RequestId,
        ServerResult,
    },
    service::{Peer, PeerRequestOptions, ServiceError},
};
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

use crate::{
    CallError, CallOutput, ErrorReason, McpCallContext,
    active_connection::ActiveConnection,
    convert::{to_call_output, to_lenient_output},
    in_flight_call::InFlightCall,
    input_required::{MAX_INPUT_ROUNDS, provide_input},
    request_error::RequestError,
    server_state::ServerState,
    transport::send_error::SendError,
};

/// Longest time that notifying a server of a cancelled call may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// See [`McpHub::call_tool`](crate::McpHub::call_tool).
pub(crate) async fn call_tool(
    server: &ServerState,
    tool: &str,
    arguments: Map<String, Value>,
    context: McpCallContext,
    tracker: &TaskTracker,
) -> Result<CallOutput, CallError> {
    let wait = context.limits.total;
    let Some(connection) = server.wait_for_connection(wait).await else {
        let error = server.status().error.clone().unwrap_or_default();
        return Err(CallError::NotSent(format!("MCP server {} is not connected: {error}", server.name).into()));
    };
    let _in_flight = connection.count_call();
    let call = InFlightCall::new(context);
    let _end_on_drop = call.end_on_drop();
    let exchange = CallExchange { server, connection: &connection, call: &call, tracker };
    let mut params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    if let Some(headers) = trace_context::outgoing_headers() {
        let meta = params.meta.get_or_insert_default();
        for (name, value) in headers.pairs() {
            meta.insert(name.to_owned(), Value::String(value.to_owned()));
        }
    }
    tokio::select! {
        // An answer that arrives at the deadline counts.
        biased;
        outcome = exchange.run(params) => outcome,
        // The exchange is dropped, which cancels the call on the server.
        exceeded = call.wait_for_deadline() => {
            server.request_check();
            Err(CallError::Timeout(exceeded))
        }
    }
}

/// The messages of one call on one connection.
struct CallExchange<'a> {
    server: &'a ServerState,
    connection: &'a ActiveConnection,
    call: &'a Arc<InFlightCall>,
    tracker: &'a TaskTracker,
}

impl CallExchange<'_> {
    /// Sends the request, and sends it again with the required input for as long as the server asks for input.
    async fn run(&self, mut params: CallToolRequestParams) -> Result<CallOutput, CallError> {
        for round in 0..=MAX_INPUT_ROUNDS {
            let result = self.send_request(params.clone()).await;
            let result = if round == 0 { result? } else { result.map_err(without_certainty)? };
            match result {
                ServerResult::InputRequiredResult(required) => {
                    let with_input = provide_input(self.connection, self.call, params, required).await;
                    params = with_input.map_err(|error| {
                        CallError::Failed(ErrorReason::with_source(
                            "cannot provide the input that the tool requires",
                            error,
                        ))
                    })?;
                }
                result => return parse_result(result),
            }
        }
        Err(CallError::Failed(format!("the tool required input more than {MAX_INPUT_ROUNDS} times").into()))
    }

    async fn send_request(&self, params: CallToolRequestParams) -> Result<ServerResult, CallError> {
        let Self { server, connection, call, tracker } = *self;
        let handler = &connection.handler;
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let sending = handler.lock_sending().await;
        let sent = connection.peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await;
        let Ok(response) = sent else {
            let message = format!("MCP server {} is not connected", server.name);
            return Err(CallError::NotSent(ErrorReason::with_source(message, handler.close_reason())));
        };
        let _registration = handler.register_call(response.id.clone(), response.progress_token.clone(), call);
        drop(sending);
        let mut cancel_on_drop = CancelOnDrop { connection, request: Some(response.id.clone()), tracker };
        let result = tokio::select! {
            // An answer that arrived just before the end of the connection counts.
            biased;
            result = response.await_response() => result,
            // The SDK fails its open requests only after the connection is cleaned up.
            () = handler.wait_until_closed() => Err(ServiceError::TransportClosed),
        };
        cancel_on_drop.request = None;
        handler.record_activity();
        result.map_err(|error| classify_failure(server, connection, error))
    }
}

/// Weakens an error that came after an earlier request of the same call, which may have had an effect.
fn without_certainty(error: CallError) -> CallError {
    match error {
        CallError::NotSent(reason) => CallError::Broken(reason),
        CallError::Refused(reason) => CallError::Failed(reason),
        other => other,
    }
}

fn parse_result(result: ServerResult) -> Result<CallOutput, CallError> {
    match result {
        ServerResult::CallToolResult(result) => Ok(to_call_output(result)),
        // Some servers answer without any content.
        ServerResult::EmptyResult(_) => Ok(CallOutput { text: String::new(), structured: None, is_error: false }),
        ServerResult::CreateTaskResult(_) => {
            Err(CallError::Broken("the server continues the call as a background task, which is not supported".into()))
        }
        ServerResult::CustomResult(answer) => Ok(to_lenient_output(&answer.0)),
        _ => Err(CallError::Broken("the server's answer is not the result of a tool".into())),
    }
}

/// Determines what a failed request says about the call's effect, and has the server checked if it may be gone.
fn classify_failure(server: &ServerState, connection: &ActiveConnection, error: ServiceError) -> CallError {
    if let ServiceError::McpError(error) = error {
        // These codes are about the call. Other ones can mean that a restarted server does not know our session.
        if !matches!(error.code, ErrorCode::INVALID_PARAMS | ErrorCode::INTERNAL_ERROR | ErrorCode::METHOD_NOT_FOUND) {
            server.request_check();
        }
        let is_rejection = is_rejection(&error);
        let message = error.message.into_owned().into();
        return if is_rejection { CallError::Refused(message) } else { CallError::Failed(message) };
    }
    server.request_check();
    let error = RequestError::from_service_error(&error, || connection.handler.close_reason());
    let variant = match &error {
        RequestError::Send(SendError::NotSent(_)) => CallError::NotSent,
        RequestError::Send(SendError::Rejected(_)) => CallError::Refused,
        _ => CallError::Broken,
    };
    variant(ErrorReason::with_source(format!("MCP server {}", server.name), error))
}

/// Whether an error response says that the tool did not run. An internal error does not: the tool may have run in part.
fn is_rejection(error: &ErrorData) -> bool {
    match error.code {
        ErrorCode::INVALID_REQUEST | ErrorCode::METHOD_NOT_FOUND | ErrorCode::INVALID_PARAMS => true,
        // SDKs answer with these codes in a session that they do not know, but use them for other errors too.
        ErrorCode(-32_001 | -32_000) => error.message.to_ascii_lowercase().contains("session"),
        _ => false,
    }
}

/// Cancels a request on the server when it is dropped before the answer arrived.
struct CancelOnDrop<'a> {
    connection: &'a ActiveConnection,
    /// `None` when the answer has arrived.
    request: Option<RequestId>,
    tracker: &'a TaskTracker,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else { return };
        // Without a runtime the connection is gone too.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.connection.handler.is_closed() {
            return;
        }
        let peer: Peer<RoleClient> = self.connection.peer.clone();
        let notify_server = async move {
            let reason = "the caller cancelled the call".to_owned();
            let params = CancelledNotificationParam::new(Some(request), Some(reason));
            let _ = tokio::time::timeout(CANCEL_TIMEOUT, peer.notify_cancelled(params)).await;
        };
        self.tracker.spawn_on(notify_server, &runtime);
    }
}
