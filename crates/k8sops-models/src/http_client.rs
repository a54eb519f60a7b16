//! The HTTP client of a provider: its connections, base URL and API key.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use k8sops_telemetry::trace_context;
use reqwest::{Client, RequestBuilder, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    Dialect, DialectChoice, DialectProtocol, ModelError, ModelErrorKind, ProviderOptions, RecognizedDialect,
    dialect::ServerDialect,
    error_mapping::{ProviderCall, ProviderEndpoint, ProviderErrorBody, innermost_cause, parse_retry_after},
    event_framing::EventFraming,
    event_stream::ProviderEventStream,
    runtime_clients::RuntimeClients,
};

/// The size limit for reading an error response.
const MAX_ERROR_BODY: usize = 64 << 10;
/// The size limit for reading a JSON response, such as a list of models.
const MAX_JSON_BODY: usize = 8 << 20;
/// The maximum number of model ids in an error message.
const MAX_LISTED_MODELS: usize = 12;

/// The time limit of a request for the list of models that only recognizes the server.
const MODEL_LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// The header for the API key on Azure, where a bearer token must be one of Entra ID.
pub(crate) const AZURE_API_KEY: HeaderName = HeaderName::from_static("api-key");

/// The HTTP client of one provider.
pub(crate) struct ProviderHttpClient {
    endpoint: Arc<ProviderEndpoint>,
    base: Option<Url>,
    key_optional: bool,
    /// Additional headers of every request. They replace ours.
    headers: BTreeMap<String, SecretString>,
    connect_timeout: Duration,
    read_timeout: Duration,
    dialect: ServerDialect,
    clients: RuntimeClients,
}

/// Returns the headers in which a provider expects its API key.
pub(crate) type KeyHeaders = fn(&ProviderHttpClient, &str) -> Vec<(HeaderName, String)>;

impl ProviderHttpClient {
    pub(crate) fn new(config: &ProviderOptions) -> Self {
        let base = Url::parse(&config.base_url).ok().filter(|url| url.has_host() && !url.cannot_be_a_base());
        let host = base.as_ref().and_then(Url::host_str).unwrap_or("no valid base URL");
        let host = match base.as_ref().and_then(Url::port) {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let key = config.api_key.clone().filter(|key| !key.expose_secret().trim().is_empty());
        let key_variable = config.key_variable.clone();
        let secrets = config.headers.values().cloned().collect();
        let is_loopback = base.as_ref().is_some_and(is_loopback);
        Self {
            endpoint: Arc::new(ProviderEndpoint { name: config.name.clone(), host, key, secrets, key_variable }),
            base,
            key_optional: config.key_optional,
            headers: config.headers.clone(),
            connect_timeout: config.connect_timeout,
            read_timeout: config.read_timeout,
            dialect: ServerDialect::new(&DialectChoice::default(), DialectProtocol::Chat, ""),
            clients: RuntimeClients::new(config.connect_timeout, !is_loopback),
        }
    }

    /// Chooses the dialect for a protocol.
    pub(crate) fn choose_dialect(&mut self, config: &ProviderOptions, protocol: DialectProtocol) {
        let host = self.base.as_ref().and_then(Url::host_str).unwrap_or_default();
        self.dialect = ServerDialect::new(&config.dialect, protocol, host);
    }

    /// Returns the rules of the server, as far as they are known.
    pub(crate) fn dialect(&self) -> Arc<Dialect> {
        self.dialect.current()
    }

    /// Returns which dialect the server speaks, if it is known by now.
    pub(crate) fn recognized_dialect(&self) -> Option<RecognizedDialect> {
        self.dialect.recognized()
    }

    /// Requests the list of models at `path` once, to recognize a server by it after it has rejected a request.
    pub(crate) async fn recognize_server(
        &self,
        call: &ProviderCall,
        error: &ModelError,
        path: &[&str],
        headers: &HeaderMap,
    ) {
        if error.is_rejected_request() && self.dialect.should_ask_server() {
            let list = timeout(MODEL_LIST_TIMEOUT, self.get_json(call, path, headers.clone())).await;
            if let Ok(Ok(Some(list))) = list {
                self.dialect.observe_models(&list);
            }
        }
    }

    /// Returns whether the base URL has this host, as opposed to a compatible server.
    pub(crate) fn is_host(&self, host: &str) -> bool {
        self.base.as_ref().and_then(Url::host_str) == Some(host)
    }

    /// Returns whether the server is Azure's, which expects the key in its own header.
    pub(crate) fn is_azure(&self) -> bool {
        const HOSTS: [&str; 3] = [".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"];
        let host = self.base.as_ref().and_then(Url::host_str).unwrap_or_default();
        HOSTS.iter().any(|suffix| host.ends_with(suffix))
    }

    /// Returns the context of a call for error messages.
    pub(crate) fn provider_call(&self, model: &str) -> ProviderCall {
        ProviderCall {
            endpoint: Arc::clone(&self.endpoint),
            model: model.to_owned(),
            request_id: None,
            wait_fields: Vec::new(),
        }
    }

    /// Posts `body` and returns the events of the response, once the provider has accepted the request.
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
        let call = call.with_response_headers(response.headers());
        let call = &ProviderCall { wait_fields: self.dialect().wait_fields.clone(), ..call };
        let header_text = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        // Compression was not requested, and is not supported.
        let encoding = header_text(header::CONTENT_ENCODING);
        if !encoding.is_empty() && encoding != "identity" {
            let message = format!(
                "{} compressed its response ({}), which was not requested. Check the proxies on the way.",
                call.provider_label(),
                call.redact(encoding)
            );
            return Err(ModelError::new(ModelErrorKind::InvalidRequest, message));
        }
        let content_type = header_text(header::CONTENT_TYPE);
        // Some servers and proxies send their streams under other types, and some reply with one JSON object. A page does
        // not become a reply.
        let is_declared = content_type.starts_with(match framing {
            EventFraming::Sse => "text/event-stream",
            EventFraming::Lines => "application/x-ndjson",
        });
        let is_page = content_type.starts_with("text/html");
        let mut beginning = Vec::new();
        if is_page {
            if let Ok(Ok(Some(piece))) = timeout(self.read_timeout, response.chunk()).await {
                beginning.extend_from_slice(&piece);
            }
            if beginning.trim_ascii_start().first().is_none_or(|byte| *byte == b'<') {
                return Err(call.no_stream_error());
            }
        }
        let bytes = response.bytes_stream().map_err(|error| error.without_url().into());
        let events = ProviderEventStream::new(bytes, framing, self.read_timeout, call.clone());
        let events = events.with_first_bytes(&beginning);
        Ok(if is_declared { events } else { events.without_declared_type() })
    }

    /// Posts `body` and returns the JSON response.
    pub(crate) async fn post_for_json(
        &self,
        call: &ProviderCall,
        path: &[&str],
        headers: HeaderMap,
        body: &impl Serialize,
    ) -> Result<Value, ModelError> {
        let response = self.send_post(call, path, headers, body, "application/json").await?;
        let body = self.read_body(response, MAX_JSON_BODY).await;
        serde_json::from_slice(&body).map_err(|error| {
            call.unparsable_error(
                &format!("the response of {}", path.join("/")),
                error,
                &String::from_utf8_lossy(&body),
            )
        })
    }

    /// Posts `body` and returns the response if its status is 200.
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
            let message = format!("The request to {} cannot be encoded as JSON: {error}.", call.provider_label());
            ModelError::new(ModelErrorKind::InvalidRequest, message).with_source(error)
        })?;
        let request =
            self.http_client(call).await?.post(url).header(header::CONTENT_TYPE, "application/json").body(body);
        // Protocol and configured headers are added last, so that they replace ours.
        let mut request = request.header(header::ACCEPT, accept);
        for (name, value) in trace_context::outgoing_headers().iter().flat_map(trace_context::TraceHeaders::pairs) {
            request = request.header(name, value);
        }
        let request = request.headers(headers);
        let response = self.send_request(call, request).await?;
        self.dialect.observe_headers(response.headers());
        if response.status() == StatusCode::OK { Ok(response) } else { Err(self.read_rejection(call, response).await) }
    }

    /// Checks that the provider's list of models at `path` contains `model`. If the provider has no such list, it is
    /// checked that `chat` accepts requests.
    pub(crate) async fn check_model(
        &self,
        model: &str,
        path: &[&str],
        chat: &[&str],
        headers: HeaderMap,
    ) -> Result<(), ModelError> {
        let call = self.provider_call(model);
        let list = self.get_json(&call, path, headers.clone()).await?;
        if let Some(list) = &list {
            self.dialect.observe_models(list);
        }
        let Some(list) = list.as_ref().and_then(|list| list.get("data")?.as_array()) else {
            return self.probe_endpoint(&call, chat, headers).await;
        };
        let ids: Vec<&str> = list.iter().filter_map(|item| item.get("id")?.as_str()).collect();
        // Ollama lists a model as `name:latest` if it was requested as `name`.
        if ids.iter().any(|id| *id == model || id.strip_suffix(":latest") == Some(model)) {
            return Ok(());
        }
        // Lists are paginated, and omit aliases and fine-tuned models. The model's own page decides.
        if self.get_json(&call, &[path, &[model]].concat(), headers).await?.is_some() {
            return Ok(());
        }
        let more = if ids.len() > MAX_LISTED_MODELS { ", …" } else { "" };
        let listed = ids.iter().take(MAX_LISTED_MODELS).copied().collect::<Vec<_>>().join(", ");
        let message = format!(
            "{} responds, but does not list the model `{model}`. It lists: {}{more}.",
            call.provider_label(),
            if ids.is_empty() { "none".to_owned() } else { call.redact(&listed) }
        );
        Err(ModelError::new(ModelErrorKind::InvalidRequest, message))
    }

    /// Checks that `path` accepts requests. The request is incomplete, so that it costs nothing: its rejection shows
    /// that the endpoint exists.
    async fn probe_endpoint(&self, call: &ProviderCall, path: &[&str], headers: HeaderMap) -> Result<(), ModelError> {
        let url = self.endpoint_url(path)?;
        let shown = url.path().to_owned();
        let request =
            self.http_client(call).await?.post(url).headers(headers).json(&serde_json::json!({"model": call.model}));
        let response = self.send_request(call, request).await?;
        match response.status().as_u16() {
            status @ (404 | 405 | 501) => {
                let message = format!(
                    "{} has neither a list of models nor an endpoint at {shown} ({status}). Check the base URL for a \
                     missing or doubled /v1.",
                    call.provider_label()
                );
                Err(ModelError::new(ModelErrorKind::InvalidRequest, message))
            }
            300..=399 | 401..=403 => Err(self.read_rejection(call, response).await),
            _ => Ok(()),
        }
    }

    /// Returns the JSON at `path`, or `None` if the path does not exist.
    pub(crate) async fn get_json(
        &self,
        call: &ProviderCall,
        path: &[&str],
        headers: HeaderMap,
    ) -> Result<Option<Value>, ModelError> {
        let request = self.http_client(call).await?.get(self.endpoint_url(path)?).headers(headers);
        let response = self.send_request(call, request.header(header::ACCEPT, "application/json")).await?;
        self.dialect.observe_headers(response.headers());
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => return Ok(None),
            _ => return Err(self.read_rejection(call, response).await),
        }
        let body = self.read_body(response, MAX_JSON_BODY).await;
        serde_json::from_slice(&body).map(Some).map_err(|error| {
            let message = format!(
                "{} did not return its list of models as JSON. Check that the base URL is that of a model server.",
                call.provider_label()
            );
            ModelError::new(ModelErrorKind::InvalidRequest, message).with_source(error)
        })
    }

    /// Returns the headers of every request: the API key in the provider's form, and the configured headers.
    pub(crate) fn request_headers(&self, key_headers: KeyHeaders) -> Result<HeaderMap, ModelError> {
        let name = &self.endpoint.name;
        let mut headers = HeaderMap::new();
        let mut add = |header: HeaderName, value: &str| {
            // Any header may contain a secret.
            let mut value = HeaderValue::try_from(value).ok()?;
            value.set_sensitive(true);
            headers.insert(header, value);
            Some(())
        };
        match &self.endpoint.key {
            Some(key) => {
                for (header, value) in key_headers(self, key.expose_secret().trim()) {
                    add(header, &value).ok_or_else(|| {
                        ModelError::new(
                            ModelErrorKind::Auth,
                            format!(
                                "The API key of {name} contains characters that cannot be sent in a header. {}.",
                                self.endpoint.key_instruction()
                            ),
                        )
                    })?;
                }
            }
            // A configured header may hold the credentials.
            None if self.key_optional || !self.headers.is_empty() => {}
            None => {
                return Err(ModelError::new(
                    ModelErrorKind::Auth,
                    format!("{name} has no API key. {}.", self.endpoint.key_instruction()),
                ));
            }
        }
        for (header, value) in &self.headers {
            let added = HeaderName::try_from(header).ok().and_then(|header| add(header, value.expose_secret()));
            added.ok_or_else(|| {
                let message = format!(
                    "The header `{header}` of {name} cannot be sent, because its name or its value contains invalid \
                     characters. Correct it in the configuration."
                );
                ModelError::new(ModelErrorKind::InvalidRequest, message)
            })?;
        }
        Ok(headers)
    }

    fn endpoint_url(&self, path: &[&str]) -> Result<Url, ModelError> {
        let mut url = self.base.clone().ok_or_else(|| {
            let message = format!(
                "The base URL of {} is not an http or https URL. Correct it in the configuration.",
                self.endpoint.name
            );
            ModelError::new(ModelErrorKind::InvalidRequest, message)
        })?;
        // Base URLs with and without the API version at the end are equally common.
        let doubled = url.path().trim_end_matches('/').rsplit('/').next() == path.first().copied();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&path[usize::from(doubled)..]);
        }
        Ok(url)
    }

    async fn http_client(&self, call: &ProviderCall) -> Result<Client, ModelError> {
        self.clients.client_of_runtime().await.map_err(|error| {
            let message = format!(
                "TLS for {} could not be set up: {}. Install the system's CA certificates.",
                call.provider_label(),
                call.redact(&innermost_cause(&error))
            );
            ModelError::new(ModelErrorKind::Network, message).with_source(error)
        })
    }

    /// Sends a request and waits for the head of the response.
    async fn send_request(&self, call: &ProviderCall, request: RequestBuilder) -> Result<Response, ModelError> {
        // The client limits the time to connect itself.
        match timeout(self.connect_timeout + self.read_timeout, request.send()).await {
            Err(_) => Err(call.read_timeout_error(self.read_timeout)),
            Ok(Err(error)) => Err(call.connection_error(error, self.connect_timeout)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// Returns the error for a response with an error status.
    async fn read_rejection(&self, call: &ProviderCall, response: Response) -> ModelError {
        let status = response.status().as_u16();
        let retry_after = parse_retry_after(response.headers());
        let call = call.with_response_headers(response.headers());
        let body = self.read_body(response, MAX_ERROR_BODY).await;
        self.dialect.observe_error_body(&body);
        call.rejection_error(&ProviderErrorBody::from_body(status, retry_after, &body, &self.dialect().wait_fields))
    }

    /// Reads a body up to `limit` bytes. A body that is cut short is returned as far as it arrived: most of an error
    /// response explains the error, too, and truncated JSON is rejected by its parser.
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

/// Returns whether a URL points to this machine, which is not reached through a proxy.
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
        // The same headers are sent without an API key.
        (config.api_key, config.key_optional) = (None, true);
        assert_eq!(ProviderHttpClient::new(&config).request_headers(key).unwrap().len(), 2);
        config.headers.insert("X-Bad".into(), "secret\nvalue".into());
        let error = ProviderHttpClient::new(&config).request_headers(key).unwrap_err().to_string();
        assert!(error.contains("X-Bad") && !error.contains("secret"), "{error}");
    }
}
