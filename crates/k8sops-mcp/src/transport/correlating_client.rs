//! An HTTP client that brings every failure back to the request it belongs to.
//!
//! A server that turns a request away before reading it (an unknown session, a wrong header) answers with an HTTP error
//! whose JSON-RPC error has no id. The SDK cannot tell whose it is and drops it, and the caller waits for its time limit.
//! But over HTTP it is known whose it is: it came in the answer to that request. The same goes for an event that is too
//! large or cut off, and for a list of tools of which one cannot be read.

use std::{collections::HashMap, fmt, sync::Arc};

use futures_util::StreamExt;
use http::{HeaderName, HeaderValue};
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

use crate::{tool_discovery, transport::line_transport};
use k8sops_telemetry::trace_context::{TRACEPARENT, TRACESTATE};

type Headers = HashMap<HeaderName, HeaderValue>;
type ElicitationAnswer<T> = Result<T, StreamableHttpError<reqwest::Error>>;

/// See the module.
#[derive(Clone)]
pub(crate) struct Correlating {
    pub(crate) client: reqwest::Client,
}

/// What is known of the request that an answer belongs to.
struct Asked {
    id: RequestId,
    lists_tools: bool,
    limit: usize,
}

impl Asked {
    fn told_too_large(&self) -> String {
        serde_json::to_string(&line_transport::error(line_transport::too_large(self.limit), self.id.clone()))
            .unwrap_or_default()
    }
}

/// In the place of an event that is too large, another. The SDK takes such an event for the end of the whole connection, and
/// tells it from other failures only in words. Its stream is over after it.
fn or_told<S: Default, E: fmt::Display>(event: Result<S, E>, tell: impl FnOnce(&mut S)) -> Result<S, E> {
    match event {
        Err(error) if error.to_string().contains("exceeded the maximum size") => {
            let mut told = S::default();
            tell(&mut told);
            Ok(told)
        }
        other => other,
    }
}

/// A message in the answer to a request.
fn matched(mut message: ServerJsonRpcMessage, request: &Asked) -> ServerJsonRpcMessage {
    match &mut message {
        ServerJsonRpcMessage::Error(error) if error.id.is_none() => error.id = Some(request.id.clone()),
        // Here and not only later: from here on the SDK learns which arguments go into headers.
        ServerJsonRpcMessage::Response(response) if request.lists_tools => {
            tool_discovery::mend(&mut response.result);
        }
        _ => {}
    }
    message
}

/// The data of an event in the answer to a request.
fn event_data(data: String, request: &Asked) -> String {
    // What is no object is no message, and some servers send such things to keep a connection open.
    if !data.trim_start().starts_with('{') {
        return data;
    }
    if request.lists_tools
        && let Ok(message) = serde_json::from_str(&data)
    {
        return serde_json::to_string(&matched(message, request)).unwrap_or(data);
    }
    match serde_json::from_str::<IgnoredAny>(&data) {
        Ok(_) => data,
        Err(fault) => {
            let told = line_transport::error(format!("its answer cannot be read: {fault}"), request.id.clone());
            serde_json::to_string(&told).unwrap_or(data)
        }
    }
}

/// Returns the trace headers of a tool call. The SDK sends from a task of its own, so that only the message has them.
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

impl StreamableHttpClient for Correlating {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> ElicitationAnswer<StreamableHttpPostResponse> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session_id, auth_header, custom_headers, limits).await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        mut custom_headers: Headers,
        limits: StreamableHttpResponseLimits,
    ) -> ElicitationAnswer<StreamableHttpPostResponse> {
        custom_headers.extend(trace_headers(&message));
        let request = match &message {
            ClientJsonRpcMessage::Request(request) => {
                let lists_tools = matches!(request.request, ClientRequest::ListToolsRequest(_));
                Some(Asked { id: request.id.clone(), lists_tools, limit: limits.max_sse_event_size })
            }
            _ => None,
        };
        let answer = self
            .client
            .post_message_with_response_limits(uri, message, session_id, auth_header, custom_headers, limits)
            .await?;
        let Some(request) = request else { return Ok(answer) };
        Ok(match answer {
            StreamableHttpPostResponse::Json(message, session) => {
                StreamableHttpPostResponse::Json(matched(message, &request), session)
            }
            StreamableHttpPostResponse::Sse(events, session) => {
                let events = events.map(move |event| {
                    let mut event = or_told(event, |event| event.data = Some(request.told_too_large()))?;
                    event.data = event.data.map(|data| event_data(data, &request));
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
        custom_headers: Headers,
    ) -> ElicitationAnswer<()> {
        self.client.delete_session(uri, session_id, auth_header, custom_headers).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> ElicitationAnswer<BoxedSseResponse> {
        self.client.get_stream(uri, session_id, last_event_id, auth_header, custom_headers).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: Headers,
        max_sse_event_size: usize,
    ) -> ElicitationAnswer<BoxedSseResponse> {
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
