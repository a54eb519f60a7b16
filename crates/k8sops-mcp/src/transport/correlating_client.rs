//! An HTTP client that assigns every failure to the request that it belongs to.
//!
//! A server that rejects a request before parsing it (unknown session, wrong header) answers with an HTTP error whose
//! JSON-RPC error has no id. The SDK cannot assign it to a request and drops it, so the call would only end at its time
//! limit. Over HTTP the request is known: the error arrived in its response. The same holds for an event that is too large or
//! cut off, and for a list of tools that contains an invalid tool.

use std::{borrow::Cow, collections::HashMap, fmt, sync::Arc};

use futures_util::StreamExt;
use http::{HeaderName, HeaderValue};
use k8sops_telemetry::trace_context::{TRACEPARENT, TRACESTATE};
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, RequestId, ServerJsonRpcMessage},
    transport::{
        common::client_side_sse::BoxedSseResponse,
        streamable_http_client::{
            StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse, StreamableHttpResponseLimits,
        },
    },
};
use serde::de::IgnoredAny;

use super::{
    error_response::{error_response, malformed_answer_message, oversized_answer_message},
    http_post::{PostTarget, post_repaired},
    message_repair::repair_message,
};
use crate::tool_list_repair::repair_tool_list;

type HeaderValues = HashMap<HeaderName, HeaderValue>;
type HttpResult<T> = Result<T, StreamableHttpError<reqwest::Error>>;

/// An HTTP client that assigns every failure to the request that it belongs to.
#[derive(Clone)]
pub(super) struct CorrelatingClient {
    pub(super) client: reqwest::Client,
}

/// The request whose response is being read.
struct PendingRequest {
    id: RequestId,
    lists_tools: bool,
    max_event_bytes: usize,
}

impl PendingRequest {
    /// Gives an error without id the id of the request, and repairs a list of tools.
    fn correlate_message(&self, mut message: ServerJsonRpcMessage) -> ServerJsonRpcMessage {
        match &mut message {
            ServerJsonRpcMessage::Error(error) if error.id.is_none() => error.id = Some(self.id.clone()),
            // `InboundFilter` would be too late: the SDK's transport learns from the list which arguments are headers.
            ServerJsonRpcMessage::Response(response) if self.lists_tools => repair_tool_list(&mut response.result),
            _ => {}
        }
        message
    }

    /// Replaces the data of an event that is not valid JSON by an error response.
    fn correlate_event_data(&self, data: String) -> String {
        // Some servers send data that is not an object, to keep a connection open. It is not a message.
        if !data.trim_start().starts_with('{') {
            return data;
        }
        let data = match repair_message(data.as_bytes()) {
            Cow::Borrowed(_) => data,
            Cow::Owned(repaired) => repaired,
        };
        if self.lists_tools
            && let Ok(message) = serde_json::from_str(&data)
        {
            return serde_json::to_string(&self.correlate_message(message)).unwrap_or(data);
        }
        match serde_json::from_str::<IgnoredAny>(&data) {
            Ok(_) => data,
            Err(error) => {
                let response = error_response(malformed_answer_message(&error), self.id.clone());
                serde_json::to_string(&response).unwrap_or(data)
            }
        }
    }

    fn oversized_event_data(&self) -> String {
        let response = error_response(oversized_answer_message(self.max_event_bytes), self.id.clone());
        serde_json::to_string(&response).unwrap_or_default()
    }
}

/// Replaces an event that is too large. The SDK would close the whole connection because of it, and only the text of the
/// error tells it from other failures. The stream of the response ends after it.
fn replace_oversized<S: Default, E: fmt::Display>(
    event: Result<S, E>,
    fill_replacement: impl FnOnce(&mut S),
) -> Result<S, E> {
    match event {
        Err(error) if error.to_string().contains("exceeded the maximum size") => {
            let mut replacement = S::default();
            fill_replacement(&mut replacement);
            Ok(replacement)
        }
        other => other,
    }
}

/// Returns the trace headers of a tool call. The SDK sends in a separate task, so only the message has them.
fn trace_headers(message: &ClientJsonRpcMessage) -> Vec<(HeaderName, HeaderValue)> {
    let ClientJsonRpcMessage::Request(request) = message else { return Vec::new() };
    let ClientRequest::CallToolRequest(call) = &request.request else { return Vec::new() };
    let Some(meta) = &call.params.meta else { return Vec::new() };
    let header = |name: &'static str| {
        let value = HeaderValue::try_from(meta.get(name)?.as_str()?).ok()?;
        Some((HeaderName::from_static(name), value))
    };
    [TRACEPARENT, TRACESTATE].into_iter().filter_map(header).collect()
}

/// Whether a message has an answer that may need a repair. `server/discover` has its own fallback in the SDK.
fn needs_repair(message: &ClientJsonRpcMessage) -> bool {
    matches!(message, ClientJsonRpcMessage::Request(request)
        if !matches!(request.request, ClientRequest::DiscoverRequest(_)))
}

impl StreamableHttpClient for CorrelatingClient {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HeaderValues,
    ) -> HttpResult<StreamableHttpPostResponse> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session_id, auth_header, custom_headers, limits).await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        mut custom_headers: HeaderValues,
        limits: StreamableHttpResponseLimits,
    ) -> HttpResult<StreamableHttpPostResponse> {
        custom_headers.extend(trace_headers(&message));
        let request = match &message {
            ClientJsonRpcMessage::Request(request) => Some(PendingRequest {
                id: request.id.clone(),
                lists_tools: matches!(request.request, ClientRequest::ListToolsRequest(_)),
                max_event_bytes: limits.max_sse_event_size,
            }),
            _ => None,
        };
        let response = if needs_repair(&message) {
            let target = PostTarget { uri, session_id, auth_token: auth_header, headers: custom_headers, limits };
            post_repaired(&self.client, target, &message).await?
        } else {
            self.client
                .post_message_with_response_limits(uri, message, session_id, auth_header, custom_headers, limits)
                .await?
        };
        let Some(request) = request else { return Ok(response) };
        Ok(match response {
            StreamableHttpPostResponse::Json(message, session) => {
                StreamableHttpPostResponse::Json(request.correlate_message(message), session)
            }
            StreamableHttpPostResponse::Sse(events, session) => {
                let events = events.map(move |event| {
                    let mut event =
                        replace_oversized(event, |event| event.data = Some(request.oversized_event_data()))?;
                    event.data = event.data.map(|data| request.correlate_event_data(data));
                    Ok(event)
                });
                StreamableHttpPostResponse::Sse(events.boxed(), session)
            }
            other => other,
        })
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HeaderValues,
    ) -> HttpResult<()> {
        self.client.delete_session(uri, session_id, auth_header, custom_headers).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HeaderValues,
    ) -> HttpResult<BoxedSseResponse> {
        self.client.get_stream(uri, session_id, last_event_id, auth_header, custom_headers).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HeaderValues,
        max_sse_event_size: usize,
    ) -> HttpResult<BoxedSseResponse> {
        self.client
            .get_stream_with_max_sse_event_size(
                uri,
                session_id,
                last_event_id,
                auth_header,
                custom_headers,
                max_sse_event_size,
            )
            .await
    }
}
