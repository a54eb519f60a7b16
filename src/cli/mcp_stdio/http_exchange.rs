//! Sends a message to the service, and reads the messages that answer it.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use reqwest::{
    Client, RequestBuilder, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value, json};
use sse_stream::SseStream;
use tokio::{sync::mpsc, time::sleep};

use super::host_message::{HostMessage, HostMessageKind};
use crate::cli::service::{ApiClient, problem_message};
use k8sops_core::is_loopback;

/// Time limit of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be silent. The service sends a sign of life every 15 s.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How often, and after which time, a broken stream is opened again: as long as a service takes to restart.
const RECONNECTS: u32 = 20;
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// What the service knows of the host since `initialize`.
#[derive(Debug, Clone, Default)]
struct HostSession {
    id: Option<String>,
    version: Option<String>,
}

/// The door of a service.
#[derive(Clone)]
pub(super) struct ServiceEndpoint {
    http: Client,
    url: String,
    address: String,
    authorization: Option<HeaderValue>,
    session: Arc<Mutex<HostSession>>,
}

/// Why a message got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The service did not answer, or its answer broke off.
    #[error("{address} does not answer: {source}")]
    Unreachable { address: String, source: reqwest::Error },
    /// The service answered with something else than the protocol.
    #[error("{0}")]
    Rejected(String),
    /// The stream ended without the answer.
    #[error("the connection broke off; the run goes on if the service runs: `get_session` shows it")]
    Incomplete,
}

impl ServiceEndpoint {
    /// Creates a client of the door.
    pub(super) fn new(client: &ApiClient) -> Result<Self, reqwest::Error> {
        let url = client.door_url("mcp");
        let mut http = Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
        if url.host_str().is_some_and(is_loopback) {
            http = http.no_proxy();
        }
        Ok(Self {
            http: http.build()?,
            url: url.into(),
            address: client.address(),
            authorization: client.authorization_header(),
            session: Arc::default(),
        })
    }

    /// Sends a message of the host, and passes on the messages that answer it.
    pub(super) async fn exchange(&self, message: &HostMessage, out: &mpsc::Sender<Value>) -> Result<(), ExchangeError> {
        let mut request = self.http.post(&self.url).json(&message.body).header(CONTENT_TYPE, "application/json");
        request = request.header(ACCEPT, "application/json, text/event-stream");
        for (name, value) in message.stateless_headers() {
            request = request.header(name, value);
        }
        if message.stateless_version().is_none() && !message.is_initialize() {
            request = self.with_session(request);
        }
        let response = self.send(request).await?;
        if message.is_initialize() {
            let id = response.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
            self.session.lock().id = id;
        }
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_type.starts_with("text/event-stream") {
            return self.pass_stream_on(response, message, out).await;
        }
        let status = response.status();
        let body = response.bytes().await.map_err(|source| self.unreachable(source))?;
        let HostMessageKind::Request(id) = &message.kind else {
            return if status.is_success() { Ok(()) } else { Err(rejected(status.as_u16(), &body)) };
        };
        let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
            return Err(rejected(status.as_u16(), &body));
        };
        if answer["jsonrpc"].is_null() {
            return Err(rejected(status.as_u16(), &body));
        }
        // An error from before the request was read has no id.
        answer["id"] = id.clone();
        if message.is_initialize() {
            self.session.lock().version = answer["result"]["protocolVersion"].as_str().map(str::to_owned);
        }
        let _ = out.send(answer).await;
        Ok(())
    }

    /// Passes the messages of a stream on until the answer to the request. A stream with an id is opened again if it breaks off.
    async fn pass_stream_on(
        &self,
        response: Response,
        message: &HostMessage,
        out: &mpsc::Sender<Value>,
    ) -> Result<(), ExchangeError> {
        let HostMessageKind::Request(request_id) = &message.kind else { return Ok(()) };
        let mut stream_id = None;
        let mut next = Some(response);
        for _ in 0..RECONNECTS {
            if let Some(response) = next.take() {
                let mut events = SseStream::from_bytes_stream(response.bytes_stream());
                while let Some(Ok(event)) = events.next().await {
                    stream_id = event.id.or(stream_id);
                    let Some(sent) = event.data.and_then(|data| serde_json::from_str::<Value>(&data).ok()) else {
                        continue;
                    };
                    let is_answer = sent["id"] == *request_id && sent["method"].is_null();
                    if out.send(sent).await.is_err() || is_answer {
                        return Ok(());
                    }
                }
            }
            let Some(id) = &stream_id else { break };
            sleep(RECONNECT_DELAY).await;
            let request = self.http.get(&self.url).header(ACCEPT, "text/event-stream").header("last-event-id", id);
            match self.send(self.with_session(request)).await {
                Ok(response) if response.status().is_success() => next = Some(response),
                Ok(response) if response.status().is_client_error() => break,
                Ok(_) | Err(_) => {}
            }
        }
        Err(ExchangeError::Incomplete)
    }

    fn with_session(&self, mut request: RequestBuilder) -> RequestBuilder {
        let session = self.session.lock().clone();
        for (name, value) in [("mcp-session-id", session.id), ("mcp-protocol-version", session.version)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request
    }

    async fn send(&self, mut request: RequestBuilder) -> Result<Response, ExchangeError> {
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|source| self.unreachable(source))
    }

    fn unreachable(&self, source: reqwest::Error) -> ExchangeError {
        ExchangeError::Unreachable { address: self.address.clone(), source: source.without_url() }
    }
}

impl ExchangeError {
    /// Returns the error as the answer to a request.
    pub(super) fn to_answer(&self, request_id: &Value) -> Value {
        json!({"jsonrpc": "2.0", "id": request_id, "error": {"code": -32603, "message": self.to_string()}})
    }
}

fn rejected(status: u16, body: &[u8]) -> ExchangeError {
    ExchangeError::Rejected(problem_message(status, body))
}
