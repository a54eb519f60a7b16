//! The way to a provider: its HTTP client, its base URL, its key.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use k8sops_telemetry::trace_context;
use reqwest::{Client, RequestBuilder, Response, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    ModelError, ProviderConfig,
    error_mapping::{self, ProviderCall, ProviderEndpoint, ProviderErrorBody},
    event_stream::{EventFraming, ProviderEventStream},
};

/// The most bytes that are read of an answer with an error status.
const MAX_ERROR_BODY: usize = 64 << 10;
/// The most bytes of a list of models.
const MAX_JSON_BODY: usize = 8 << 20;
/// The most ids that a message lists.
const MAX_LISTED_MODELS: usize = 12;

/// Where Azure looks for the key: it takes a bearer token for one of Entra ID, and refuses a key there.
pub(crate) const AZURE_API_KEY: HeaderName = HeaderName::from_static("api-key");

/// A provider's HTTP endpoint.
pub(crate) struct ProviderHttpClient {
    endpoint: Arc<ProviderEndpoint>,
    base: Option<Url>,
    key_optional: bool,
    /// More headers of every request; they win over ours.
    headers: BTreeMap<String, SecretString>,
    connect_timeout: Duration,
    read_timeout: Duration,
    /// Made at the first call: a client reads the machine's certificates, and a provider that nobody uses must not fail a
    /// start for want of them.
    client: OnceLock<Client>,
}

/// How a provider takes its key: the headers for it.
pub(crate) type KeyHeaders = fn(&ProviderHttpClient, &str) -> Vec<(HeaderName, String)>;

impl ProviderHttpClient {
    pub(crate) fn new(config: &ProviderConfig) -> Self {
        let base = Url::parse(&config.base_url).ok().filter(|url| url.has_host() && !url.cannot_be_a_base());
        let host = base.as_ref().and_then(Url::host_str).unwrap_or("no valid base URL");
        let host = match base.as_ref().and_then(Url::port) {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let key = config.api_key.clone().filter(|key| !key.expose_secret().trim().is_empty());
        let key_variable = config.key_variable.clone();
        let secrets = config.headers.values().cloned().collect();
        Self {
            endpoint: Arc::new(ProviderEndpoint { name: config.name.clone(), host, key, secrets, key_variable }),
            base,
            key_optional: config.key_optional,
            headers: config.headers.clone(),
            connect_timeout: config.connect_timeout,
            read_timeout: config.read_timeout,
            client: OnceLock::new(),
        }
    }

    /// Whether this is the provider at `host` itself, not a server that speaks like it.
    pub(crate) fn is_host(&self, host: &str) -> bool {
        self.base.as_ref().and_then(Url::host_str) == Some(host)
    }

    /// Whether this is one of Azure's, which take the key in a header of their own.
    pub(crate) fn is_azure(&self) -> bool {
        const HOSTS: [&str; 3] = [".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"];
        let host = self.base.as_ref().and_then(Url::host_str).unwrap_or_default();
        HOSTS.iter().any(|suffix| host.ends_with(suffix))
    }

    /// A call for `model`, for error messages.
    pub(crate) fn provider_call(&self, model: &str) -> ProviderCall {
        ProviderCall { endpoint: Arc::clone(&self.endpoint), model: model.to_owned() }
    }

    /// Posts `body` and returns the events of the answer, once the provider has accepted the request.
    pub(crate) async fn post_streaming(
        &self,
        call: &ProviderCall,
        path: &[&str],
        headers: HeaderMap,
        body: &impl Serialize,
        framing: EventFraming,
    ) -> Result<ProviderEventStream, ModelError> {
        let accept =
            if framing == EventFraming::Sse { "text/event-stream" } else { "application/x-ndjson, application/json" };
        let mut response = self.send_post(call, path, headers, body, accept).await?;
        let word = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        // Not asked for, and not understood.
        let encoding = word(header::CONTENT_ENCODING);
        if !encoding.is_empty() && encoding != "identity" {
            return Err(ModelError::InvalidRequest(format!(
                "{} compresses its answer ({}), which it was not asked to. Look at what stands between, a proxy perhaps.",
                call.provider_label(),
                call.redact(encoding)
            )));
        }
        let kind = word(header::CONTENT_TYPE);
        let is_json = kind.starts_with("application/json") && framing == EventFraming::Sse;
        let mut beginning = Vec::new();
        if is_json || kind.starts_with("text/html") {
            // Some servers and proxies name their streams so.
            if let Ok(Ok(Some(piece))) = timeout(self.read_timeout, response.chunk()).await {
                beginning.extend_from_slice(&piece);
            }
            if !framing.may_start_with(&beginning) {
                return Err(self.read_non_stream_error(call, beginning, response).await);
            }
        }
        let beginning = stream::iter((!beginning.is_empty()).then(|| Ok(Bytes::from(beginning))));
        let bytes = beginning.chain(response.bytes_stream().map_err(error_mapping::innermost_cause));
        Ok(ProviderEventStream::new(bytes, framing, self.read_timeout, call.clone()))
    }

    /// Posts `body` and returns the answer, a JSON value.
    pub(crate) async fn post_for_json(
        &self,
        call: &ProviderCall,
        path: &[&str],
        headers: HeaderMap,
        body: &impl Serialize,
    ) -> Result<Value, ModelError> {
        let response = self.send_post(call, path, headers, body, "application/json").await?;
        let body = self.read_body(response, MAX_JSON_BODY).await;
        serde_json::from_slice(&body)
            .map_err(|error| call.malformed_error(&format!("the answer at {} is no JSON ({error})", path.join("/"))))
    }

    /// Posts `body` and returns the answer, if it is one of success.
    async fn send_post(
        &self,
        call: &ProviderCall,
        path: &[&str],
        headers: HeaderMap,
        body: &impl Serialize,
        accept: &'static str,
    ) -> Result<Response, ModelError> {
        let url = self.endpoint_url(path)?;
        let body = serde_json::to_vec(body).map_err(|error| {
            ModelError::InvalidRequest(format!(
                "The request to {} cannot be written as JSON: {error}.",
                call.provider_label()
            ))
        })?;
        let request = self.http_client(call)?.post(url).header(header::CONTENT_TYPE, "application/json").body(body);
        // Last, so that those of the configuration stand in the place of ours, not beside them.
        let mut request = request.header(header::ACCEPT, accept);
        for (name, value) in trace_context::outgoing_headers().iter().flat_map(trace_context::TraceHeaders::pairs) {
            request = request.header(name, value);
        }
        let request = request.headers(headers);
        let response = self.send_request(call, request).await?;
        if response.status() == StatusCode::OK { Ok(response) } else { Err(self.read_rejection(call, response).await) }
    }

    /// Whether the provider's list of models, at `path`, has `model`. A provider without such a list is believed if it
    /// takes calls at `chat`.
    pub(crate) async fn check_model(
        &self,
        model: &str,
        path: &[&str],
        chat: &[&str],
        headers: HeaderMap,
    ) -> Result<(), ModelError> {
        let call = self.provider_call(model);
        let list = self.get_json(&call, path, headers.clone()).await?;
        let Some(list) = list.as_ref().and_then(|list| list.get("data")?.as_array()) else {
            return self.probe_endpoint(&call, chat, headers).await;
        };
        let ids: Vec<&str> = list.iter().filter_map(|item| item.get("id")?.as_str()).collect();
        // Ollama lists what is asked for as `name` under `name:latest`.
        if ids.iter().any(|id| *id == model || id.strip_suffix(":latest") == Some(model)) {
            return Ok(());
        }
        // Lists are paged, and leave out aliases and fine-tuned models: ask for the one.
        if self.get_json(&call, &[path, &[model]].concat(), headers).await?.is_some() {
            return Ok(());
        }
        let more = if ids.len() > MAX_LISTED_MODELS { ", …" } else { "" };
        let listed = ids.iter().take(MAX_LISTED_MODELS).copied().collect::<Vec<_>>().join(", ");
        Err(ModelError::InvalidRequest(format!(
            "{} answers, but does not list the model `{model}`. It lists: {}{more}.",
            call.provider_label(),
            if ids.is_empty() { "none".to_owned() } else { call.redact(&listed) }
        )))
    }

    /// Whether anything takes calls at `path`: asked with a request that no model can be called with, so that it costs
    /// nothing, and a refusal of it is the answer of one that is there.
    async fn probe_endpoint(&self, call: &ProviderCall, path: &[&str], headers: HeaderMap) -> Result<(), ModelError> {
        let url = self.endpoint_url(path)?;
        let shown = url.path().to_owned();
        let request =
            self.http_client(call)?.post(url).headers(headers).json(&serde_json::json!({"model": call.model}));
        let response = self.send_request(call, request).await?;
        match response.status().as_u16() {
            status @ (404 | 405 | 501) => Err(ModelError::InvalidRequest(format!(
                "{} has neither a list of models nor anything at {shown} ({status}). Check the base URL for a missing or \
                 doubled /v1.",
                call.provider_label()
            ))),
            300..=399 | 401..=403 => Err(self.read_rejection(call, response).await),
            _ => Ok(()),
        }
    }

    /// The JSON at `path`; `None` when there is nothing there.
    pub(crate) async fn get_json(
        &self,
        call: &ProviderCall,
        path: &[&str],
        headers: HeaderMap,
    ) -> Result<Option<Value>, ModelError> {
        let request = self.http_client(call)?.get(self.endpoint_url(path)?).headers(headers);
        let response = self.send_request(call, request.header(header::ACCEPT, "application/json")).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => return Ok(None),
            _ => return Err(self.read_rejection(call, response).await),
        }
        let body = self.read_body(response, MAX_JSON_BODY).await;
        let value = serde_json::from_slice(&body);
        value.map(Some).map_err(|_| {
            ModelError::InvalidRequest(format!(
                "{} does not answer with JSON at its list of models. Check that the base URL is one of a model server.",
                call.provider_label()
            ))
        })
    }

    /// The headers of every request: the key as the provider takes it, and those of the configuration.
    pub(crate) fn request_headers(&self, key_headers: KeyHeaders) -> Result<HeaderMap, ModelError> {
        let name = &self.endpoint.name;
        let mut headers = HeaderMap::new();
        let mut add = |header: HeaderName, value: &str| {
            // Any of them may be a secret.
            let mut value = HeaderValue::try_from(value).ok()?;
            value.set_sensitive(true);
            headers.insert(header, value);
            Some(())
        };
        match &self.endpoint.key {
            Some(key) => {
                for (header, value) in key_headers(self, key.expose_secret().trim()) {
                    let what = "has characters that cannot be sent";
                    add(header, &value).ok_or_else(|| {
                        ModelError::Auth(format!("The key of {name} {what}. {}.", self.endpoint.key_instruction()))
                    })?;
                }
            }
            // A header of one's own may be what lets us in.
            None if self.key_optional || !self.headers.is_empty() => {}
            None => return Err(ModelError::Auth(format!("{name} has no key. {}.", self.endpoint.key_instruction()))),
        }
        for (header, value) in &self.headers {
            let added = HeaderName::try_from(header).ok().and_then(|header| add(header, value.expose_secret()));
            added.ok_or_else(|| {
                ModelError::InvalidRequest(format!(
                    "The header `{header}` of {name} cannot be sent: its name or its value has characters that no header \
                     may have. Correct it in the configuration."
                ))
            })?;
        }
        Ok(headers)
    }

    fn endpoint_url(&self, path: &[&str]) -> Result<Url, ModelError> {
        let mut url = self.base.clone().ok_or_else(|| {
            ModelError::InvalidRequest(format!(
                "The base URL of {} is not an http or https URL. Correct it in the configuration.",
                self.endpoint.name
            ))
        })?;
        // A base URL with the version at its end is as common as one without.
        let doubled = url.path().trim_end_matches('/').rsplit('/').next() == path.first().copied();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&path[usize::from(doubled)..]);
        }
        Ok(url)
    }

    fn http_client(&self, call: &ProviderCall) -> Result<&Client, ModelError> {
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
                call.provider_label(),
                call.redact(&error_mapping::innermost_cause(error))
            ))
        })?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Sends, and waits for the answer's head.
    async fn send_request(&self, call: &ProviderCall, request: RequestBuilder) -> Result<Response, ModelError> {
        // Connecting has its own limit, inside.
        match timeout(self.connect_timeout + self.read_timeout, request.send()).await {
            Err(_) => Err(call.read_timeout_error(self.read_timeout)),
            Ok(Err(error)) => Err(call.connection_error(error, self.connect_timeout)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// The error for an answer with an error status.
    async fn read_rejection(&self, call: &ProviderCall, response: Response) -> ModelError {
        let status = response.status().as_u16();
        let retry_after = error_mapping::parse_retry_after(response.headers());
        let body = self.read_body(response, MAX_ERROR_BODY).await;
        call.rejection_error(&ProviderErrorBody::from_body(status, retry_after, &body))
    }

    /// The error for an answer that is fine by its status and yet no stream.
    async fn read_non_stream_error(&self, call: &ProviderCall, mut body: Vec<u8>, response: Response) -> ModelError {
        body.extend(self.read_body(response, MAX_ERROR_BODY).await);
        match serde_json::from_slice::<Value>(&body).ok().as_ref().and_then(error_mapping::find_error_object) {
            Some(error) => call.rejection_error(&ProviderErrorBody::from_error(error)),
            None => ModelError::InvalidRequest(format!(
                "{} does not answer with a stream of events. Check that the base URL is one of a model server that can \
                 stream.",
                call.provider_label()
            )),
        }
    }

    /// A body up to `limit` bytes; what did not come is not missed, for it only explains.
    async fn read_body(&self, mut response: Response, limit: usize) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ProviderProtocol, test_support};

    fn client(base_url: &str) -> ProviderHttpClient {
        ProviderHttpClient::new(&test_support::provider_config(ProviderProtocol::Openai, base_url))
    }

    #[test]
    fn path_is_appended_before_query() {
        let azure = "https://x.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21";
        for (base, path, url) in [
            ("http://h/v1", ["chat", "completions"], "http://h/v1/chat/completions"),
            ("http://h/v1/", ["chat", "completions"], "http://h/v1/chat/completions"),
            ("http://h/v1", ["v1", "messages"], "http://h/v1/messages"),
            (
                azure,
                ["chat", "completions"],
                "https://x.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
            ),
        ] {
            assert_eq!(client(base).endpoint_url(&path).unwrap().as_str(), url);
        }
    }

    #[test]
    fn configured_headers_replace_defaults() {
        let mut config = test_support::provider_config(ProviderProtocol::Openai, "http://h/v1");
        let key: KeyHeaders = |_, key| vec![(header::AUTHORIZATION, format!("Bearer {key}"))];
        config.headers.insert("X-Tenant".into(), "ops".into());
        let headers = ProviderHttpClient::new(&config).request_headers(key).unwrap();
        assert_eq!(headers["authorization"], format!("Bearer {}", test_support::KEY));
        assert_eq!(headers["x-tenant"], "ops");
        config.headers.insert("Authorization".into(), "Basic eHg=".into());
        let headers = ProviderHttpClient::new(&config).request_headers(key).unwrap();
        assert_eq!(headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Basic eHg="]);
        assert!(!format!("{headers:?}").contains("eHg"));
        // Without a key as well.
        (config.api_key, config.key_optional) = (None, true);
        assert_eq!(ProviderHttpClient::new(&config).request_headers(key).unwrap().len(), 2);
        config.headers.insert("X-Bad".into(), "secret\nvalue".into());
        let error = ProviderHttpClient::new(&config).request_headers(key).unwrap_err().to_string();
        assert!(error.contains("X-Bad") && !error.contains("secret"), "{error}");
    }
}
