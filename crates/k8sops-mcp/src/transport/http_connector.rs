//! Servers that are reached over streamable HTTP.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, StatusCode};
use reqwest::{Url, redirect};
use rmcp::{
    model::ProtocolVersion,
    service::ClientLifecycleMode,
    transport::{
        DynamicTransportError, StreamableHttpClientTransport,
        common::client_side_sse::ExponentialBackoff,
        streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError},
    },
};
use secrecy::{ExposeSecret, SecretString};

use crate::USER_TOKEN;
use crate::{
    ConnectionHandler,
    per_user::WAITS_FOR_TOKEN,
    transport::correlating_client::Correlating,
    transport::handshake::{ConnectError, McpConnection, McpConnector, quote, serve},
};
use k8sops_core::is_loopback;

/// How long a TCP and TLS connection may take.
const DIAL: Duration = Duration::from_secs(10);
/// A dead peer behind a silent network is noticed after about this long.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Requests at the same time. All sessions share the connection, and the SDK would have the 17th wait.
const MAX_REQUESTS: usize = 256;
const MAX_REDIRECTS: usize = 5;
/// How often, and with which longest wait, a response stream that broke off is taken up again. Without a limit the SDK
/// doubles the wait for ever, and a call in flight would not learn that its server is gone.
const STREAM_RETRIES: usize = 3;
const STREAM_RETRY_DELAY: Duration = Duration::from_secs(2);

/// Connects to a server over streamable HTTP.
pub struct HttpConnector {
    url: Arc<str>,
    headers: Headers,
    client: Correlating,
}

/// The headers of every request.
enum Headers {
    Fixed(HashMap<HeaderName, HeaderValue>),
    /// With [`USER_TOKEN`] in them.
    PerUser(BTreeMap<String, SecretString>),
}

impl HttpConnector {
    /// `headers` go with every request. With `${user.token}` in one of them, it is a connector [of one user
    /// each](Connector::for_user) and makes no connection itself.
    ///
    /// # Errors
    /// [`ConnectError::Config`] for what is no http(s) URL, or no header.
    pub fn new(url: &str, headers: &BTreeMap<String, SecretString>, ssl_verify: bool) -> Result<Self, ConnectError> {
        let parsed = Url::parse(url)
            .ok()
            .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
            .ok_or_else(|| ConnectError::Config("the URL of the MCP server is not an http(s) URL".to_owned()))?;
        let fixed = headers.iter().map(|(name, value)| header(name, value)).collect::<Result<_, _>>()?;
        let headers = match headers.values().any(|value| value.expose_secret().contains(USER_TOKEN)) {
            true => Headers::PerUser(headers.clone()),
            false => Headers::Fixed(fixed),
        };
        let client = client(&parsed, ssl_verify)
            .map_err(|e| ConnectError::Config(format!("no HTTP client can be made: {}", root_cause(&e))))?;
        Ok(Self { url: parsed.as_str().into(), headers, client: Correlating { client } })
    }
}

impl HttpConnector {
    fn open(
        &self,
        headers: &HashMap<HeaderName, HeaderValue>,
        max_message_bytes: usize,
    ) -> StreamableHttpClientTransport<Correlating> {
        let mut retry = ExponentialBackoff::default();
        retry.max_times = Some(STREAM_RETRIES);
        retry.max_delay = Some(STREAM_RETRY_DELAY);
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.clone())
            .custom_headers(headers.clone())
            // The SDK would open a new session by itself, send the request again there, and answer the other calls in
            // flight with an error that looks like the server's own. The supervisor does it instead.
            .reinit_on_expired_session(false);
        config.max_concurrent_requests = MAX_REQUESTS;
        config.max_sse_event_size = max_message_bytes;
        config.max_json_response_size = max_message_bytes;
        config.retry_config = Arc::new(retry);
        StreamableHttpClientTransport::with_client(self.client.clone(), config)
    }
}

fn header(name: &str, value: &SecretString) -> Result<(HeaderName, HeaderValue), ConnectError> {
    let name = HeaderName::try_from(name)
        .map_err(|_| ConnectError::Config(format!("{name:?} is not a name of an HTTP header")))?;
    let mut value = HeaderValue::try_from(value.expose_secret()).map_err(|_| {
        ConnectError::Config(format!("the value of the HTTP header {name} has characters that no header may have"))
    })?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn client(url: &Url, ssl_verify: bool) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("k8sops/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(DIAL)
        .tcp_keepalive(KEEPALIVE)
        // A connection taken from the pool can be one that the server is just closing; and SSE bodies left in it cost
        // 40 ms each through delayed acknowledgements.
        .pool_max_idle_per_host(0)
        // The headers carry credentials, so they stay with the origin they were configured for; and only these two
        // statuses keep a POST a POST.
        .redirect(redirect::Policy::custom(|attempt| {
            let keeps_method =
                matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            let same_origin = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
            if keeps_method && same_origin && attempt.previous().len() <= MAX_REDIRECTS {
                attempt.follow()
            } else {
                attempt.stop()
            }
        }))
        .tls_danger_accept_invalid_certs(!ssl_verify);
    if url.host_str().is_some_and(is_loopback) {
        // A proxy of the machine cannot reach what listens on the machine's own loopback.
        builder = builder.no_proxy();
    }
    builder.build()
}

#[async_trait]
impl McpConnector for HttpConnector {
    fn transport(&self) -> &'static str {
        "http"
    }

    async fn connect(&self, handler: ConnectionHandler, limit: Duration) -> Result<McpConnection, ConnectError> {
        let Headers::Fixed(headers) = &self.headers else {
            return Err(ConnectError::Config(WAITS_FOR_TOKEN.to_owned()));
        };
        let open = || self.open(headers, handler.max_message_bytes());
        let started = Instant::now();
        let auto = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
        };
        match serve(handler.clone(), open(), auto, limit).await {
            // The SDK falls back to the old handshake where the new one is not known at all, but not where a server knows
            // it and supports older versions only (kubernetes-mcp-server with sessions does), nor after an answer that
            // makes no sense to it.
            Err(ConnectError::Handshake(first)) => {
                tracing::debug!(server = handler.server(), first, "trying the old handshake");
                let rest = limit.saturating_sub(started.elapsed());
                // The first connection has ended, and with it its handler.
                serve(handler.renewed(), open(), ClientLifecycleMode::Initialize, rest).await
            }
            other => other,
        }
    }

    fn is_per_user(&self) -> bool {
        matches!(self.headers, Headers::PerUser(_))
    }

    fn for_user(&self, token: &SecretString) -> Result<Arc<dyn McpConnector>, ConnectError> {
        let Headers::PerUser(template) = &self.headers else {
            return Err(ConnectError::Config("the MCP server takes no tokens of users".to_owned()));
        };
        let headers = template.iter().map(|(name, value)| {
            header(name, &value.expose_secret().replace(USER_TOKEN, token.expose_secret()).into())
        });
        let headers = Headers::Fixed(headers.collect::<Result<_, _>>()?);
        // The HTTP client keeps nothing between requests: no cookies, no idle connections.
        Ok(Arc::new(Self { url: self.url.clone(), headers, client: self.client.clone() }))
    }
}

/// What a failure to send means for the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SendFault {
    /// It never reached the server.
    NotSent(String),
    /// The server, or what stands before it, turned it away.
    Refused(String),
    /// It may have been carried out.
    Unknown(String),
}

impl SendFault {
    /// The words alone.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::NotSent(text) | Self::Refused(text) | Self::Unknown(text) => text,
        }
    }
}

/// Reads an error of a transport: what is known, in words without the URL (it can hold a credential).
pub(crate) fn fault(error: &DynamicTransportError) -> SendFault {
    type Http = StreamableHttpError<reqwest::Error>;
    let Some(error) = error.error.downcast_ref::<Http>() else {
        return SendFault::Unknown(format!("the connection broke: {}", quote(&error.error.to_string())));
    };
    match error {
        Http::Client(e) if e.is_connect() => SendFault::NotSent(format!("cannot connect: {}", root_cause(e))),
        Http::Client(e) if e.is_builder() => {
            SendFault::NotSent(format!("the request cannot be made: {}", root_cause(e)))
        }
        Http::Client(e) => SendFault::Unknown(format!("the connection broke: {}", root_cause(e))),
        Http::SessionExpired => {
            SendFault::NotSent("the server no longer knows this session (was it restarted?)".to_owned())
        }
        Http::ReservedHeaderConflict(name) => {
            SendFault::NotSent(format!("the HTTP header {name} is MCP's own and cannot be configured"))
        }
        Http::AuthRequired(_) => SendFault::Refused("HTTP 401: the server wants other credentials".to_owned()),
        Http::InsufficientScope(_) => SendFault::Refused("HTTP 403: the credentials do not allow it".to_owned()),
        Http::HttpStatus(status) if status.status == 429 => {
            SendFault::Refused("HTTP 429: too many requests".to_owned())
        }
        Http::HttpStatus(status) => SendFault::Unknown(format!("HTTP {}", status.status)),
        Http::UnexpectedServerResponse(text) if text.starts_with("HTTP 4") => SendFault::Refused(quote(text)),
        other => SendFault::Unknown(quote(&other.to_string())),
    }
}

/// The innermost cause; the outer ones print the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if cause.is::<reqwest::Error>() {
        return match error.status() {
            Some(status) => format!("HTTP {status}"),
            None if error.is_timeout() => "no answer in time".to_owned(),
            None => "the HTTP exchange went wrong".to_owned(),
        };
    }
    quote(&cause.to_string())
}
