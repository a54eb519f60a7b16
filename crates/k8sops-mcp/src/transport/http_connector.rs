//! Connections to servers over streamable HTTP.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, StatusCode};
use k8sops_core::{ErrorChain, is_loopback};
use reqwest::{Url, redirect};
use rmcp::{
    model::ProtocolVersion,
    service::ClientLifecycleMode,
    transport::{
        StreamableHttpClientTransport, common::client_side_sse::ExponentialBackoff,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use secrecy::{ExposeSecret, SecretString};

use super::{correlating_client::CorrelatingClient, handshake::perform_handshake};
use crate::{ConnectError, ConnectionHandler, ErrorReason, McpConnection, McpConnector, USER_TOKEN, WAITS_FOR_TOKEN};

/// Longest time to establish a TCP and TLS connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of TCP keepalives, which detect a dead peer on a silent network.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Concurrent requests. All sessions share the connection, and the SDK's default would delay the 17th request.
const MAX_CONCURRENT_REQUESTS: usize = 256;
const MAX_REDIRECTS: usize = 5;
/// Longest time that the handshake of the newer era may take. Some servers never answer `server/discover`.
const DISCOVER_TIMEOUT: Duration = Duration::from_secs(8);
/// How often, and after which longest delay, an interrupted response stream is resumed. By default the SDK doubles the delay
/// without a limit, and a call in flight would not learn that its server is gone.
const MAX_STREAM_RETRIES: usize = 3;
const MAX_STREAM_RETRY_DELAY: Duration = Duration::from_secs(2);

/// Connects to a server over streamable HTTP.
pub(super) struct HttpConnector {
    url: Arc<str>,
    headers: RequestHeaders,
    client: CorrelatingClient,
}

/// The configured headers of every request.
enum RequestHeaders {
    Fixed(HashMap<HeaderName, HeaderValue>),
    /// Values that contain [`USER_TOKEN`].
    PerUser(BTreeMap<String, SecretString>),
}

impl HttpConnector {
    /// Creates a connector that sends `headers` with every request. If one of them contains `${user.token}`, the connector
    /// only [creates the connectors of users](McpConnector::for_user) and does not connect itself.
    ///
    /// # Errors
    /// [`ConnectError::Config`] for an invalid URL or header.
    pub(super) fn new(
        url: &str,
        headers: &BTreeMap<String, SecretString>,
        ssl_verify: bool,
    ) -> Result<Self, ConnectError> {
        let url = parse_url(url)?;
        let fixed = headers.iter().map(|(name, value)| parse_header(name, value)).collect::<Result<_, _>>()?;
        let headers = if headers.values().any(|value| value.expose_secret().contains(USER_TOKEN)) {
            RequestHeaders::PerUser(headers.clone())
        } else {
            RequestHeaders::Fixed(fixed)
        };
        let client =
            build_client(&url, ssl_verify).map_err(|error| config_error("cannot create the HTTP client", error))?;
        Ok(Self { url: url.as_str().into(), headers, client: CorrelatingClient { client } })
    }

    fn open_transport(
        &self,
        headers: &HashMap<HeaderName, HeaderValue>,
        max_message_bytes: usize,
    ) -> StreamableHttpClientTransport<CorrelatingClient> {
        let mut retry = ExponentialBackoff::default();
        retry.max_times = Some(MAX_STREAM_RETRIES);
        retry.max_delay = Some(MAX_STREAM_RETRY_DELAY);
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.clone())
            .custom_headers(headers.clone())
            // The SDK would open a new session by itself, send the request again in it, and answer the other calls in
            // flight with an error that looks like the server's. The supervisor reconnects instead.
            .reinit_on_expired_session(false);
        config.max_concurrent_requests = MAX_CONCURRENT_REQUESTS;
        config.max_sse_event_size = max_message_bytes;
        config.max_json_response_size = max_message_bytes;
        config.retry_config = Arc::new(retry);
        StreamableHttpClientTransport::with_client(self.client.clone(), config)
    }
}

fn config_error(message: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> ConnectError {
    ConnectError::Config(ErrorReason::with_source(message, source))
}

fn parse_url(url: &str) -> Result<Url, ConnectError> {
    let url = Url::parse(url).map_err(|error| config_error("the URL of the MCP server is invalid", error))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(ConnectError::Config("the URL of the MCP server is not an http(s) URL".into()))
    }
}

fn parse_header(name: &str, value: &SecretString) -> Result<(HeaderName, HeaderValue), ConnectError> {
    let name = HeaderName::try_from(name)
        .map_err(|error| config_error(format!("cannot send an HTTP header named {name:?}"), error))?;
    let mut value = HeaderValue::try_from(value.expose_secret())
        .map_err(|error| config_error(format!("cannot send the value of the HTTP header {name}"), error))?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn build_client(url: &Url, ssl_verify: bool) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("k8sops/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(TCP_KEEPALIVE)
        // The server may be closing a pooled connection at the moment, and SSE bodies left in the pool cost 40 ms each
        // through delayed acknowledgements.
        .pool_max_idle_per_host(0)
        // The headers contain credentials, so redirects to another origin are not followed. Only these two statuses
        // preserve the method.
        .redirect(redirect::Policy::custom(|attempt| {
            let preserves_method =
                matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            let same_origin = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
            if preserves_method && same_origin && attempt.previous().len() <= MAX_REDIRECTS {
                attempt.follow()
            } else {
                attempt.stop()
            }
        }))
        .tls_danger_accept_invalid_certs(!ssl_verify);
    if url.host_str().is_some_and(is_loopback) {
        // A proxy cannot reach the loopback interface of this machine.
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
        let RequestHeaders::Fixed(headers) = &self.headers else {
            return Err(ConnectError::Config(WAITS_FOR_TOKEN.into()));
        };
        let open_transport = || self.open_transport(headers, handler.max_message_bytes());
        let started_at = Instant::now();
        let auto = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
        };
        match perform_handshake(handler.clone(), open_transport(), auto, limit.min(DISCOVER_TIMEOUT)).await {
            // The SDK falls back to `initialize` if the server does not know `server/discover`. It does not fall back if the
            // server knows it and supports only older versions (kubernetes-mcp-server with sessions), or after an answer
            // that it cannot parse, and its own fallback waits for a request that is never answered.
            Err(ConnectError::Handshake(reason) | ConnectError::Timeout(reason)) => {
                tracing::debug!(server = handler.server(), error = %ErrorChain(&reason), "mcp discover failed, trying initialize");
                let remaining = limit.saturating_sub(started_at.elapsed());
                // The first connection has ended, and its handler with it.
                let handler = handler.new_for_retry();
                perform_handshake(handler, open_transport(), ClientLifecycleMode::Initialize, remaining).await
            }
            other => other,
        }
    }

    fn is_per_user(&self) -> bool {
        matches!(self.headers, RequestHeaders::PerUser(_))
    }

    fn for_user(&self, token: &SecretString) -> Result<Arc<dyn McpConnector>, ConnectError> {
        let RequestHeaders::PerUser(templates) = &self.headers else {
            return Err(ConnectError::Config("the MCP server does not use tokens of users".into()));
        };
        let headers = templates.iter().map(|(name, template)| {
            let value = template.expose_secret().replace(USER_TOKEN, token.expose_secret());
            parse_header(name, &value.into())
        });
        let headers = RequestHeaders::Fixed(headers.collect::<Result<_, _>>()?);
        // The HTTP client can be shared: it keeps no state between requests, neither cookies nor idle connections.
        Ok(Arc::new(Self { url: self.url.clone(), headers, client: self.client.clone() }))
    }
}
