//! The way to a provider: its HTTP client, its base URL, its key.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::{Client, RequestBuilder, Response, Url, redirect};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    ModelError,
    fault::{self, Call, Complaint, Peer},
    sse::SseEvents,
};
use crate::config::ProviderConfig;

/// The most bytes that are read of an answer with an error status.
const MAX_ERROR_BODY: usize = 64 << 10;
/// The most bytes of a list of models.
const MAX_LIST: usize = 8 << 20;
/// The most ids that a message lists.
const LISTED: usize = 12;

/// A provider's HTTP endpoint.
pub(super) struct Endpoint {
    peer: Arc<Peer>,
    base: Option<Url>,
    key_optional: bool,
    connect_timeout: Duration,
    read_timeout: Duration,
    /// Made at the first call: a client reads the machine's certificates, and a provider that nobody uses must not fail a
    /// start for want of them.
    client: OnceLock<Client>,
}

/// How a provider takes its key: the headers for it.
pub(super) type KeyHeaders = fn(&Endpoint, &str) -> Vec<(HeaderName, String)>;

impl Endpoint {
    pub(super) fn new(config: &ProviderConfig) -> Self {
        let base = Url::parse(&config.base_url).ok().filter(|url| url.has_host() && !url.cannot_be_a_base());
        let host = base.as_ref().and_then(Url::host_str).unwrap_or("no valid base URL");
        let host = match base.as_ref().and_then(Url::port) {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let key = config.api_key.clone().filter(|key| !key.expose_secret().trim().is_empty());
        let key_variable = config.key_variable.clone();
        Self {
            peer: Arc::new(Peer { name: config.name.clone(), host, key, key_variable }),
            base,
            key_optional: config.key_optional,
            connect_timeout: config.connect_timeout,
            read_timeout: config.read_timeout,
            client: OnceLock::new(),
        }
    }

    /// Whether this is the provider at `host` itself, not a server that speaks like it.
    pub(super) fn is_at(&self, host: &str) -> bool {
        self.base.as_ref().and_then(Url::host_str) == Some(host)
    }

    /// A call for `model`, for error messages.
    pub(super) fn call(&self, model: &str) -> Call {
        Call { peer: Arc::clone(&self.peer), model: model.to_owned() }
    }

    /// Posts `body` and returns the events of the answer, once the provider has accepted the request.
    pub(super) async fn post(
        &self,
        call: &Call,
        path: &[&str],
        headers: HeaderMap,
        body: &impl Serialize,
    ) -> Result<SseEvents, ModelError> {
        let url = self.url(path)?;
        let body = serde_json::to_vec(body).map_err(|error| {
            ModelError::InvalidRequest(format!("The request to {} cannot be written as JSON: {error}.", call.who()))
        })?;
        let request = self.client(call)?.post(url).headers(headers).body(body);
        let response = self.send(
            call,
            request.header(header::CONTENT_TYPE, "application/json").header(header::ACCEPT, "text/event-stream"),
        );
        let response = response.await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(call, response).await);
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/json") || kind.starts_with("text/html") {
            return Err(self.no_stream(call, response).await);
        }
        let bytes = response.bytes_stream().map_err(fault::cause);
        Ok(SseEvents::new(bytes, self.read_timeout, call.clone()))
    }

    /// Whether the provider's list of models, at `path`, has `model`. A provider without such a list is believed if it
    /// takes calls at `chat`.
    pub(super) async fn check(
        &self,
        model: &str,
        path: &[&str],
        chat: &[&str],
        headers: HeaderMap,
    ) -> Result<(), ModelError> {
        let call = self.call(model);
        let list = self.get(&call, path, headers.clone()).await?;
        let Some(list) = list.as_ref().and_then(|list| list.get("data")?.as_array()) else {
            return self.knock(&call, chat, headers).await;
        };
        let ids: Vec<&str> = list.iter().filter_map(|item| item.get("id")?.as_str()).collect();
        // Ollama lists what is asked for as `name` under `name:latest`.
        if ids.iter().any(|id| *id == model || id.strip_suffix(":latest") == Some(model)) {
            return Ok(());
        }
        // Lists are paged, and leave out aliases and fine-tuned models: ask for the one.
        if self.get(&call, &[path, &[model]].concat(), headers).await?.is_some() {
            return Ok(());
        }
        let more = if ids.len() > LISTED { ", …" } else { "" };
        let listed = ids.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
        Err(ModelError::InvalidRequest(format!(
            "{} answers, but does not list the model `{model}`. It lists: {}{more}.",
            call.who(),
            if ids.is_empty() { "none".to_owned() } else { call.quote(&listed) }
        )))
    }

    /// Whether anything takes calls at `path`: asked with a request that no model can be called with, so that it costs
    /// nothing, and a refusal of it is the answer of one that is there.
    async fn knock(&self, call: &Call, path: &[&str], headers: HeaderMap) -> Result<(), ModelError> {
        let url = self.url(path)?;
        let shown = url.path().to_owned();
        let request = self.client(call)?.post(url).headers(headers).json(&serde_json::json!({"model": call.model}));
        let response = self.send(call, request).await?;
        match response.status().as_u16() {
            status @ (404 | 405 | 501) => Err(ModelError::InvalidRequest(format!(
                "{} has neither a list of models nor anything at {shown} ({status}). Check the base URL for a missing or \
                 doubled /v1.",
                call.who()
            ))),
            300..=399 | 401..=403 => Err(self.refusal(call, response).await),
            _ => Ok(()),
        }
    }

    /// The JSON at `path`; `None` when there is nothing there.
    async fn get(&self, call: &Call, path: &[&str], headers: HeaderMap) -> Result<Option<Value>, ModelError> {
        let request = self.client(call)?.get(self.url(path)?).headers(headers);
        let response = self.send(call, request.header(header::ACCEPT, "application/json")).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => return Ok(None),
            _ => return Err(self.refusal(call, response).await),
        }
        let body = self.read(response, MAX_LIST).await;
        let value = serde_json::from_slice(&body);
        value.map(Some).map_err(|_| {
            ModelError::InvalidRequest(format!(
                "{} does not answer with JSON at its list of models. Check that the base URL is one of a model server.",
                call.who()
            ))
        })
    }

    /// The headers that hold the key and nothing else.
    pub(super) fn authorise(&self, headers: KeyHeaders) -> Result<HeaderMap, ModelError> {
        let Some(key) = &self.peer.key else {
            return if self.key_optional {
                Ok(HeaderMap::new())
            } else {
                Err(ModelError::Auth(format!("{} has no key. {}.", self.peer.name, self.peer.set_the_key())))
            };
        };
        let headers = headers(self, key.expose_secret().trim()).into_iter().map(|(name, value)| {
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                ModelError::Auth(format!(
                    "The key of {} has characters that cannot be sent. {}.",
                    self.peer.name,
                    self.peer.set_the_key()
                ))
            })?;
            value.set_sensitive(true);
            Ok((name, value))
        });
        headers.collect()
    }

    fn url(&self, path: &[&str]) -> Result<Url, ModelError> {
        let mut url = self.base.clone().ok_or_else(|| {
            ModelError::InvalidRequest(format!(
                "The base URL of {} is not an http or https URL. Correct it in the configuration.",
                self.peer.name
            ))
        })?;
        // A base URL with the version at its end is as common as one without.
        let doubled = url.path().trim_end_matches('/').rsplit('/').next() == path.first().copied();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&path[usize::from(doubled)..]);
        }
        Ok(url)
    }

    fn client(&self, call: &Call) -> Result<&Client, ModelError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // No limit on the whole reply, which may take minutes: `SseEvents` limits the gaps. No redirects: the key in
        // `x-api-key` would go along to wherever one points.
        let mut builder = Client::builder()
            .user_agent(concat!("k8sops/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .redirect(redirect::Policy::none());
        if self.base.as_ref().is_some_and(is_loopback) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| {
            ModelError::Network(format!(
                "No TLS for {}: {}. Install the system's CA certificates.",
                call.who(),
                call.quote(&fault::cause(error))
            ))
        })?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Sends, and waits for the answer's head.
    async fn send(&self, call: &Call, request: RequestBuilder) -> Result<Response, ModelError> {
        // Connecting has its own limit, inside.
        match timeout(self.connect_timeout + self.read_timeout, request.send()).await {
            Err(_) => Err(call.silent(self.read_timeout)),
            Ok(Err(error)) => Err(call.unreachable(error, self.connect_timeout)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// The error for an answer with an error status.
    async fn refusal(&self, call: &Call, response: Response) -> ModelError {
        let status = response.status().as_u16();
        let retry_after = fault::retry_after(response.headers());
        let body = self.read(response, MAX_ERROR_BODY).await;
        call.refused(&Complaint::from_body(status, retry_after, &body))
    }

    /// The error for an answer that is fine by its status and yet no stream.
    async fn no_stream(&self, call: &Call, response: Response) -> ModelError {
        let body = self.read(response, MAX_ERROR_BODY).await;
        match serde_json::from_slice::<Value>(&body).ok().as_ref().and_then(|body| body.get("error")) {
            Some(error) if !error.is_null() => call.refused(&Complaint::from_error(error)),
            _ => ModelError::InvalidRequest(format!(
                "{} does not answer with a stream of events. Check that the base URL is one of a model server that can \
                 stream.",
                call.who()
            )),
        }
    }

    /// A body up to `limit` bytes; what did not come is not missed, for it only explains.
    async fn read(&self, mut response: Response, limit: usize) -> Vec<u8> {
        let mut body = Vec::new();
        let _ = timeout(self.read_timeout.min(Duration::from_secs(10)), async {
            while body.len() < limit {
                let Ok(Some(piece)) = response.chunk().await else { break };
                body.extend_from_slice(&piece);
            }
        })
        .await;
        body.truncate(limit);
        body
    }
}

/// Whether a URL points at this machine, where no proxy stands between.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
