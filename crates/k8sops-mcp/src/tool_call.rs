//! One call of a tool: sent once, and an honest word on what became of it.

use std::{sync::Arc, time::Duration};

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
    CallError, CallOutput, McpCallContext,
    convert::call_output,
    in_flight_call::Flight,
    input_required::{MAX_ROUNDS, next_round},
    supervisor::{Live, Server},
    transport::handshake::quote,
    transport::http_connector::{self, SendFault},
};
use k8sops_telemetry::trace_context;

/// How long telling a server that a call was given up may take.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// See [`McpHub::call_tool`](crate::McpHub::call_tool).
pub(crate) async fn call(
    server: &Server,
    tool: &str,
    arguments: Map<String, Value>,
    context: McpCallContext,
    tracker: &TaskTracker,
) -> Result<CallOutput, CallError> {
    let Some(live) = server.live() else {
        let why = server.status().error.clone().unwrap_or_default();
        return Err(CallError::NotSent(format!("the MCP server {} is not connected: {why}", server.name)));
    };
    let _in_flight = live.in_flight();
    let flight = Flight::new(context);
    let _over = flight.over_when_dropped();
    let call = Call { server, live: &live, flight: &flight, tracker };
    let mut params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    if let Some(headers) = trace_context::outgoing_headers() {
        let meta = params.meta.get_or_insert_default();
        for (name, value) in headers.pairs() {
            meta.insert(name.to_owned(), Value::String(value.to_owned()));
        }
    }
    tokio::select! {
        // An answer that came just in time counts.
        biased;
        outcome = call.run(params) => outcome,
        // The exchange is dropped, which tells the server to stop.
        overrun = flight.overrun() => {
            server.recheck();
            Err(CallError::Timeout(overrun))
        }
    }
}

/// A call on one connection.
struct Call<'a> {
    server: &'a Server,
    live: &'a Live,
    flight: &'a Arc<Flight>,
    tracker: &'a TaskTracker,
}

impl Call<'_> {
    /// Sends the call, and again as long as the server asks for that. It is never sent again for any other reason.
    async fn run(&self, mut params: CallToolRequestParams) -> Result<CallOutput, CallError> {
        for round in 0..=MAX_ROUNDS {
            let answer = self.exchange(params.clone()).await;
            match if round == 0 { answer? } else { answer.map_err(half_way)? } {
                ServerResult::InputRequiredResult(required) => {
                    params = next_round(self.live, self.flight, params, required).await.map_err(CallError::Failed)?;
                }
                result => return output(result),
            }
        }
        Err(CallError::Failed(format!("the tool asked for input more than {MAX_ROUNDS} times")))
    }

    async fn exchange(&self, params: CallToolRequestParams) -> Result<ServerResult, CallError> {
        let Self { server, live, flight, tracker } = *self;
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let sending = live.handler.sending().await;
        let Ok(handle) = live.peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await else {
            let why = live.handler.close_reason();
            return Err(CallError::NotSent(format!("the MCP server {} is not connected: {why}", server.name)));
        };
        let _entry = live.handler.enter(handle.id.clone(), handle.progress_token.clone(), flight);
        drop(sending);
        let mut cancel = CancelWhenDropped { live, request: Some(handle.id.clone()), tracker };
        let answer = tokio::select! {
            // An answer that came just before the end counts.
            biased;
            answer = handle.await_response() => answer,
            // The SDK lets go of calls in flight only when it has cleared the connection away.
            () = live.handler.closed() => Err(ServiceError::TransportClosed),
        };
        cancel.request = None;
        live.handler.hear();
        answer.map_err(|error| failure(server, live, error))
    }
}

/// A failure after the server has had the call once: it may have done a part of it.
fn half_way(error: CallError) -> CallError {
    match error {
        CallError::NotSent(why) => CallError::Broken(why),
        CallError::Refused(why) => CallError::Failed(why),
        other => other,
    }
}

fn output(result: ServerResult) -> Result<CallOutput, CallError> {
    match result {
        ServerResult::CallToolResult(result) => Ok(call_output(result)),
        // Some servers answer with no content at all.
        ServerResult::EmptyResult(_) => Ok(CallOutput { text: String::new(), structured: None, is_error: false }),
        ServerResult::CreateTaskResult(_) => Err(CallError::Broken(
            "the server went on with the call as a task in the background, which is not followed here".to_owned(),
        )),
        _ => Err(CallError::Broken("the server's answer is not the result of a tool".to_owned())),
    }
}

fn failure(server: &Server, live: &Live, error: ServiceError) -> CallError {
    let of = |why: String| format!("MCP server {}: {why}", server.name);
    let failure = match error {
        ServiceError::McpError(e) => {
            // These are said of a call. Others can be a restarted server's way to say that it does not know us.
            if !matches!(e.code, ErrorCode::INVALID_PARAMS | ErrorCode::INTERNAL_ERROR | ErrorCode::METHOD_NOT_FOUND) {
                server.recheck();
            }
            return if is_refusal(&e) {
                CallError::Refused(e.message.into_owned())
            } else {
                CallError::Failed(e.message.into_owned())
            };
        }
        ServiceError::TransportSend(e) => match http_connector::fault(&e) {
            SendFault::NotSent(why) => CallError::NotSent(of(why)),
            SendFault::Refused(why) => CallError::Refused(of(why)),
            SendFault::Unknown(why) => CallError::Broken(of(why)),
        },
        ServiceError::TransportClosed => CallError::Broken(of(live.handler.close_reason())),
        other => CallError::Broken(of(quote(&other.to_string()))),
    };
    server.recheck();
    failure
}

/// Whether an error says that the tool was not run. Of an internal error that is not known: it may have come half-way.
fn is_refusal(error: &ErrorData) -> bool {
    match error.code {
        ErrorCode::INVALID_REQUEST | ErrorCode::METHOD_NOT_FOUND | ErrorCode::INVALID_PARAMS => true,
        // What SDKs say to a request of a session that they do not know; they use the codes for other things too.
        ErrorCode(-32_001 | -32_000) => error.message.to_ascii_lowercase().contains("session"),
        _ => false,
    }
}

/// Tells the server, when dropped with a request in it, that nobody waits for its answer any more.
struct CancelWhenDropped<'a> {
    live: &'a Live,
    request: Option<RequestId>,
    tracker: &'a TaskTracker,
}

impl Drop for CancelWhenDropped<'_> {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else { return };
        // Without a runtime there is no connection either.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.live.handler.is_closed() {
            return;
        }
        let peer: Peer<RoleClient> = self.live.peer.clone();
        self.tracker.spawn_on(
            async move {
                let reason = "the caller gave the call up".to_owned();
                let params = CancelledNotificationParam::new(Some(request), Some(reason));
                let _ = tokio::time::timeout(CANCEL_LIMIT, peer.notify_cancelled(params)).await;
            },
            &runtime,
        );
    }
}
