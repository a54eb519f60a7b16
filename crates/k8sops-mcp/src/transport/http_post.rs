//! The POST of a tool call, whose answer is repaired before it is parsed.
//!
//! The SDK's own client parses an answer in plain JSON before anything else sees it. An unpaired surrogate, a byte that is no
//! UTF-8, or a `NaN` in it would lose the whole answer, and with it what is known of a change that was made.

use std::{borrow::Cow, collections::HashMap, fmt, io, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use reqwest::Response;
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::streamable_http_client::{
        AuthRequiredError, HttpStatusError, InsufficientScopeError, StreamableHttpError, StreamableHttpPostResponse,
        StreamableHttpResponseLimits,
    },
};
use sse_stream::SseStream;

use super::message_repair::{parse_messages, repair_message};

const SESSION_HEADER: &str = "mcp-session-id";
const EVENT_STREAM: &str = "text/event-stream";
const JSON: &str = "application/json";
const PLAIN_TEXT: &str = "text/plain";

type HttpResult<T> = Result<T, StreamableHttpError<reqwest::Error>>;

/// The parts of a POST besides its message.
pub(super) struct PostTarget {
    pub(super) uri: Arc<str>,
    pub(super) session_id: Option<Arc<str>>,
    pub(super) auth_token: Option<String>,
    pub(super) headers: HashMap<HeaderName, HeaderValue>,
    pub(super) limits: StreamableHttpResponseLimits,
}

/// Sends a message that is answered, and returns its answer as the SDK's own client does.
pub(super) async fn post_repaired(
    client: &reqwest::Client,
    target: PostTarget,
    message: &ClientJsonRpcMessage,
) -> HttpResult<StreamableHttpPostResponse> {
    let PostTarget { uri, session_id, auth_token, headers, limits } = target;
    let mut request = client.post(&*uri).header(ACCEPT, format!("{EVENT_STREAM}, {JSON}"));
    if let Some(token) = auth_token {
        request = request.bearer_auth(token);
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let has_session = session_id.is_some();
    if let Some(session_id) = session_id {
        request = request.header(SESSION_HEADER, &*session_id);
    }
    let response = request.json(message).send().await.map_err(StreamableHttpError::Client)?;
    let status = response.status();
    if let Some(error) = find_rejection(&response, has_session) {
        return Err(error);
    }
    if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
        return Ok(StreamableHttpPostResponse::Accepted);
    }
    let is_json = has_content_type(&response, JSON);
    let session = header_text(&response, SESSION_HEADER);
    if !status.is_success() {
        return read_failure(response, is_json, session, limits).await;
    }
    if has_content_type(&response, EVENT_STREAM) {
        let events = bounded_events(response.bytes_stream(), limits.max_sse_event_size);
        return Ok(StreamableHttpPostResponse::Sse(SseStream::from_bytes_stream(events).boxed(), session));
    }
    if !is_json {
        return Err(StreamableHttpError::UnexpectedContentType(header_text(&response, CONTENT_TYPE.as_str())));
    }
    let body = read_body(response, limits.max_json_response_size).await?;
    let unexpected = |reason: &dyn fmt::Display| {
        StreamableHttpError::UnexpectedServerResponse(Cow::Owned(format!("the answer is not valid: {reason}")))
    };
    let messages = parse_messages(&body).map_err(|error| unexpected(&error))?;
    let is_answer = |message: &ServerJsonRpcMessage| {
        matches!(message, ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_))
    };
    // One request was sent, so that a batch has one answer.
    let message = messages.into_iter().find(is_answer).ok_or_else(|| unexpected(&"it is no answer"))?;
    Ok(StreamableHttpPostResponse::Json(message, session))
}

/// Returns the error that a status means by itself.
fn find_rejection(response: &Response, has_session: bool) -> Option<StreamableHttpError<reqwest::Error>> {
    let challenge = || header_text(response, WWW_AUTHENTICATE.as_str());
    match response.status() {
        StatusCode::UNAUTHORIZED => Some(StreamableHttpError::AuthRequired(AuthRequiredError::new(challenge()?))),
        StatusCode::FORBIDDEN => {
            Some(StreamableHttpError::InsufficientScope(InsufficientScopeError::new(challenge()?, None)))
        }
        StatusCode::NOT_FOUND if has_session => Some(StreamableHttpError::SessionExpired),
        _ => None,
    }
}

/// Reads the answer of a failed request: the error of the server if there is one, else the status.
async fn read_failure(
    response: Response,
    is_json: bool,
    session: Option<String>,
    limits: StreamableHttpResponseLimits,
) -> HttpResult<StreamableHttpPostResponse> {
    let status = response.status();
    let is_transient = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    let is_readable = is_json || has_content_type(&response, PLAIN_TEXT);
    let retry_after = header_text(&response, RETRY_AFTER.as_str());
    let status_error = || HttpStatusError::new(status.as_u16(), retry_after.clone()).into();
    // A page of a proxy says nothing but the status.
    if is_transient && !is_readable {
        return Err(status_error());
    }
    let body = read_body(response, limits.max_json_response_size).await.unwrap_or_default();
    let text = repair_message(&body);
    let is_auth_failure = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if let Ok(message @ ServerJsonRpcMessage::Error(_)) = serde_json::from_str(&text)
        && is_json
        && !is_auth_failure
    {
        return Ok(StreamableHttpPostResponse::Json(message, session));
    }
    if is_transient && text.trim().is_empty() {
        return Err(status_error());
    }
    let text = &text[..text.floor_char_boundary(limits.max_error_response_size)];
    Err(StreamableHttpError::UnexpectedServerResponse(Cow::Owned(format!("HTTP {status}: {text}"))))
}

async fn read_body(response: Response, max_size: usize) -> HttpResult<Vec<u8>> {
    let too_large = || StreamableHttpError::ResponseBodyTooLarge { max_size };
    let mut chunks = response.bytes_stream();
    let mut body = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(StreamableHttpError::Client)?;
        if body.len() + chunk.len() > max_size {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Ends a stream with an error when an event of it exceeds a size.
fn bounded_events(
    chunks: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    max_size: usize,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let mut size = EventSize::default();
    let checked = chunks.map(move |chunk| {
        let chunk = chunk.map_err(io::Error::other)?;
        if size.largest_after(&chunk) > max_size {
            // The words are those of the SDK, by which such an event is replaced.
            return Err(io::Error::other(format!("SSE event exceeded the maximum size of {max_size} bytes")));
        }
        Ok(chunk)
    });
    // Nothing follows an error.
    checked.scan(false, |failed, item| {
        let is_over = std::mem::replace(failed, *failed || item.is_err());
        future::ready((!is_over).then_some(item))
    })
}

/// The size of the event that is being received.
#[derive(Default)]
struct EventSize {
    bytes: usize,
    ends_line: bool,
}

impl EventSize {
    /// Returns the size of the largest event, or part of one, up to the end of a chunk. An empty line ends an event.
    fn largest_after(&mut self, chunk: &[u8]) -> usize {
        let mut largest = self.bytes;
        for byte in chunk {
            match byte {
                b'\r' => continue,
                b'\n' if self.ends_line => self.bytes = 0,
                _ => self.bytes += 1,
            }
            self.ends_line = *byte == b'\n';
            largest = largest.max(self.bytes);
        }
        largest
    }
}

fn has_content_type(response: &Response, expected: &str) -> bool {
    let value = header_text(response, CONTENT_TYPE.as_str()).unwrap_or_default();
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(expected))
}

fn header_text(response: &Response, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}
