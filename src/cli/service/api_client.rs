//! The REST calls that commands need.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{account_stream::AccountStream, found_session::FoundSession};
use crate::{cli::terminal::sanitize_text, config::TOKEN_VARIABLE};
use k8sops_core::{is_loopback, mask_url};

/// Time limit of a whole request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit of a stream, after which it is opened again.
const STREAM_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Time limit of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The path of the newest sessions.
const NEWEST_SESSIONS: &str = "sessions?limit=50";

/// The longest text that is fetched, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// The characters that are escaped in a path segment.
const ESCAPED_IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Why a call to the service failed. The texts are for users.
#[derive(Debug, thiserror::Error)]
pub enum ApiClientError {
    /// The URL cannot be the URL of a service.
    #[error("`{0}` is not a service URL; expected http://host:port or https://host:port")]
    InvalidUrl(String),
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up: {}", root_cause(.0))]
    Setup(#[source] reqwest::Error),
    /// The service did not answer.
    #[error("{address} does not answer ({}); is `k8sops serve` running?", root_cause(.source))]
    Unreachable {
        /// The address of the service.
        address: String,
        /// Why the request failed.
        source: reqwest::Error,
    },
    /// The service rejected the request.
    #[error("{message}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The code of the problem, if it is one of k8sops.
        code: Option<String>,
        /// The explanation of the service.
        message: String,
    },
    /// The service answered, but not as this API does.
    #[error("{address} did not answer like a k8sops service: {problem}")]
    UnexpectedResponse {
        /// The address of the service.
        address: String,
        /// What is wrong with the response.
        problem: &'static str,
    },
    /// No session has such an id.
    #[error("there is no session whose id starts or ends with `{given}`")]
    NoSuchSession {
        /// What is given.
        given: String,
    },
    /// No request for approval has such an id.
    #[error("{}", no_such_approval(.given))]
    NoSuchApproval {
        /// What is given; empty if nothing is.
        given: String,
    },
    /// Several requests for approval wait, and none is named.
    #[error("{waiting} requests wait; give the id of one, which `k8sops approvals` lists")]
    WhichApproval {
        /// How many.
        waiting: usize,
    },
    /// An abbreviated id matches several requests for approval.
    #[error("{matches} requests have an id like `{given}`; give more characters")]
    AmbiguousApproval {
        /// The abbreviated id.
        given: String,
        /// The number of matching requests.
        matches: usize,
    },
    /// An abbreviated session id matches several sessions.
    #[error("{matches} session ids match `{given}`; give more characters")]
    AmbiguousSession {
        /// The abbreviated id.
        given: String,
        /// The number of matching sessions.
        matches: usize,
    },
}

/// A model, with the provider that offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct ModelSelection {
    pub(in crate::cli) provider: String,
    pub(in crate::cli) model: String,
}

/// What answers at the URL of a service.
#[derive(Debug)]
pub(in crate::cli) enum ServiceProbe {
    /// A k8sops service, which may reject the caller.
    Answers,
    /// Nothing.
    Absent(ApiClientError),
    /// Another program.
    Foreign(ApiClientError),
}

/// A client of one service.
#[derive(Debug, Clone)]
pub(in crate::cli) struct ApiClient {
    base: Url,
    http: reqwest::Client,
    token: Option<SecretString>,
}

impl ApiClient {
    /// Creates a client of the service at `url`, which may end in `/v1`.
    ///
    /// # Errors
    /// The URL is not a service URL, or the HTTP client cannot be set up.
    pub(in crate::cli) fn new(url: &str) -> Result<Self, ApiClientError> {
        let invalid = || ApiClientError::InvalidUrl(mask_url(url));
        let mut base = Url::parse(url).map_err(|_| invalid())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none_or(str::is_empty) {
            return Err(invalid());
        }
        let root = base.path().trim_end_matches('/');
        let path = format!("{}/v1/", root.strip_suffix("/v1").unwrap_or(root));
        base.set_path(&path);
        base.set_query(None);
        base.set_fragment(None);
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(REQUEST_TIMEOUT);
        if base.host_str().is_some_and(is_loopback) {
            http = http.no_proxy();
        }
        Ok(Self { base, http: http.build().map_err(ApiClientError::Setup)?, token: None })
    }

    /// Returns the client with the key or token of a user.
    #[must_use]
    pub(in crate::cli) fn with_token(self, token: SecretString) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Returns the `Authorization` header, if there is a token that is a valid header value.
    pub(in crate::cli) fn authorization_header(&self) -> Option<HeaderValue> {
        let token = self.token.as_ref()?.expose_secret().trim();
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Returns the address of the service, with credentials masked.
    #[must_use]
    pub(in crate::cli) fn address(&self) -> String {
        mask_url(self.base.as_str().trim_end_matches("/v1/"))
    }

    /// Returns the URL of a door beside the native API.
    #[must_use]
    pub(in crate::cli) fn door_url(&self, door: &str) -> Url {
        let mut url = self.base.clone();
        let root = url.path().trim_end_matches("v1/").to_owned();
        url.set_path(&format!("{root}{door}"));
        url
    }

    /// Finds out what answers at the URL.
    pub(in crate::cli) async fn probe(&self) -> ServiceProbe {
        match self.get_info().await {
            Ok(info) if info["name"] == env!("CARGO_PKG_NAME") => ServiceProbe::Answers,
            Ok(_) => ServiceProbe::Foreign(ApiClientError::UnexpectedResponse {
                address: self.address(),
                problem: "it does not say that it is k8sops",
            }),
            Err(ApiClientError::Rejected { code: Some(_), .. }) => ServiceProbe::Answers,
            Err(error @ ApiClientError::Unreachable { .. }) => ServiceProbe::Absent(error),
            Err(error) => ServiceProbe::Foreign(error),
        }
    }

    /// Fetches facts about the service.
    pub(in crate::cli) async fn get_info(&self) -> Result<Value, ApiClientError> {
        self.send_request(Method::GET, "info", None).await
    }

    /// Fetches the newest sessions.
    pub(in crate::cli) async fn list_sessions(&self) -> Result<Vec<Value>, ApiClientError> {
        let page = self.send_request(Method::GET, NEWEST_SESSIONS, None).await?;
        Ok(page["sessions"].as_array().cloned().unwrap_or_default())
    }

    /// Fetches one session.
    pub(in crate::cli) async fn get_session(&self, id: &str) -> Result<Value, ApiClientError> {
        self.send_request(Method::GET, &session_path(id), None).await
    }

    /// Returns the newest session, if there is one.
    pub(in crate::cli) async fn newest_session(&self) -> Result<Option<FoundSession>, ApiClientError> {
        Ok(self.list_sessions().await?.first().map(FoundSession::from_json))
    }

    /// Returns the session with an id, or with an id that starts or ends with what is given.
    pub(in crate::cli) async fn find_session(&self, given: &str) -> Result<FoundSession, ApiClientError> {
        if uuid::Uuid::try_parse(given).is_ok() {
            return Ok(FoundSession::from_json(&self.get_session(given).await?));
        }
        let is_meant = |found: &FoundSession| found.id.starts_with(given) || found.id.ends_with(given);
        let mut matches: Vec<FoundSession> = Vec::new();
        let mut next = Some(NEWEST_SESSIONS.to_owned());
        while let Some(path) = next {
            let page = self.send_request(Method::GET, &path, None).await?;
            let found = page["sessions"].as_array().into_iter().flatten().map(FoundSession::from_json);
            matches.extend(found.filter(is_meant));
            let cursor = page["next_cursor"].as_str().map(escape_segment);
            next = cursor.map(|cursor| format!("sessions?limit=200&cursor={cursor}"));
        }
        match &matches[..] {
            [found] => Ok(found.clone()),
            [] => Err(ApiClientError::NoSuchSession { given: given.to_owned() }),
            _ => Err(ApiClientError::AmbiguousSession { given: given.to_owned(), matches: matches.len() }),
        }
    }

    /// Creates a session and returns its id.
    pub(in crate::cli) async fn create_session(
        &self,
        title: Option<&str>,
        selection: Option<&ModelSelection>,
    ) -> Result<String, ApiClientError> {
        let mut body = json!({});
        if let Some(title) = title {
            body["title"] = json!(title);
        }
        if let Some(ModelSelection { provider, model }) = selection {
            body["provider"] = json!(provider);
            body["model"] = json!(model);
        }
        let session = self.send_request(Method::POST, "sessions", Some(body)).await?;
        session["session_id"].as_str().map(str::to_owned).ok_or_else(|| ApiClientError::UnexpectedResponse {
            address: self.address(),
            problem: "the new session has no session_id",
        })
    }

    /// Renames a session.
    pub(in crate::cli) async fn rename_session(&self, id: &str, title: &str) -> Result<(), ApiClientError> {
        self.send_request(Method::PATCH, &session_path(id), Some(json!({"title": title}))).await.map(drop)
    }

    /// Deletes a session.
    pub(in crate::cli) async fn delete_session(&self, id: &str) -> Result<(), ApiClientError> {
        self.send_request(Method::DELETE, &session_path(id), None).await.map(drop)
    }

    /// Rates a reply.
    pub(in crate::cli) async fn rate_reply(&self, id: &str, reply: &str, rating: Value) -> Result<(), ApiClientError> {
        let path = format!("{}/messages/{}/feedback", session_path(id), escape_segment(reply));
        self.send_request(Method::POST, &path, Some(rating)).await.map(drop)
    }

    /// Changes the model of a session.
    pub(in crate::cli) async fn set_session_model(
        &self,
        id: &str,
        selection: &ModelSelection,
    ) -> Result<(), ApiClientError> {
        let body = json!({"provider": selection.provider, "model": selection.model});
        self.send_request(Method::PATCH, &format!("{}/settings", session_path(id)), Some(body)).await.map(drop)
    }

    /// Fetches the requests for approval that the user may answer.
    pub(in crate::cli) async fn list_approvals(&self) -> Result<Vec<Value>, ApiClientError> {
        let list = self.send_request(Method::GET, "approvals", None).await?;
        Ok(list["approvals"].as_array().cloned().unwrap_or_default())
    }

    /// Follows what changes of the user's sessions, and of what waits for the user.
    pub(in crate::cli) async fn follow_account(&self) -> Result<AccountStream, ApiClientError> {
        let request = self.build_request(Method::GET, "events?follow=true")?;
        let request = request.header(ACCEPT, "application/x-ndjson").timeout(STREAM_TIMEOUT);
        Ok(AccountStream::new(self.send_built(request).await?))
    }

    /// Answers a request for approval, and returns the answer as it is logged.
    pub(in crate::cli) async fn resolve_approval(
        &self,
        approval: &Value,
        decision: &str,
        comment: Option<&str>,
    ) -> Result<Value, ApiClientError> {
        let id = |key: &str| approval[key].as_str().unwrap_or_default();
        let path = format!("{}/approvals/{}", session_path(id("session_id")), escape_segment(id("approval_id")));
        let body = match comment.filter(|comment| !comment.trim().is_empty()) {
            Some(comment) => json!({"decision": decision, "comment": comment}),
            None => json!({"decision": decision}),
        };
        self.send_request(Method::POST, &path, Some(body)).await
    }

    /// Fetches the whole preview of an approval.
    pub(in crate::cli) async fn get_approval_preview(&self, session: &str, id: &str) -> Result<String, ApiClientError> {
        self.get_pages(&format!("{}/approvals/{}/preview", session_path(session), escape_segment(id))).await
    }

    /// Fetches the whole output of a tool call.
    pub(in crate::cli) async fn get_tool_output(&self, session: &str, call: &str) -> Result<String, ApiClientError> {
        self.get_pages(&format!("{}/tool_calls/{}/output", session_path(session), escape_segment(call))).await
    }

    /// Fetches a text of several parts, up to [`MAX_TEXT_BYTES`].
    async fn get_pages(&self, path: &str) -> Result<String, ApiClientError> {
        let mut text = String::new();
        let mut offset = 0;
        while text.len() < MAX_TEXT_BYTES {
            let page = self.send_request(Method::GET, &format!("{path}?offset={offset}"), None).await?;
            text.push_str(page["content"].as_str().unwrap_or_default());
            match page["next_offset"].as_u64().filter(|next| *next > offset) {
                Some(next) => offset = next,
                None => return Ok(text),
            }
        }
        text.push_str("\n[… the rest is left out …]\n");
        Ok(text)
    }

    /// Fetches messages of a session, oldest first.
    pub(in crate::cli) async fn list_messages(&self, session: &str) -> Result<Vec<Value>, ApiClientError> {
        let mut messages = Vec::new();
        let mut after = 0;
        loop {
            let path = format!("{}/messages?limit=1000&after={after}", session_path(session));
            let page = self.send_request(Method::GET, &path, None).await?;
            messages.extend(page["messages"].as_array().cloned().unwrap_or_default());
            match page["next_after"].as_u64().filter(|next| *next > after) {
                Some(next) => after = next,
                None => return Ok(messages),
            }
        }
    }

    /// Fetches a session as Markdown.
    pub(in crate::cli) async fn export_session(&self, session: &str) -> Result<String, ApiClientError> {
        let path = format!("{}/export?format=md", session_path(session));
        let bytes = self.send_bytes(Method::GET, &path, None).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Fetches the tools of all servers.
    pub(in crate::cli) async fn list_tools(&self) -> Result<Vec<Value>, ApiClientError> {
        let list = self.send_request(Method::GET, "tools", None).await?;
        Ok(list["tools"].as_array().cloned().unwrap_or_default())
    }

    /// Fetches the user's tokens and costs.
    pub(in crate::cli) async fn get_usage(&self) -> Result<Value, ApiClientError> {
        self.send_request(Method::GET, "usage", None).await
    }

    /// Fetches the catalog of providers and models.
    pub(in crate::cli) async fn list_providers(&self) -> Result<Value, ApiClientError> {
        self.send_request(Method::GET, "providers", None).await
    }

    /// Returns the WebSocket URL of a session's events: those after `after`, or a snapshot followed by new events.
    #[must_use]
    pub(in crate::cli) fn events_url(&self, id: &str, after: Option<u64>) -> String {
        let from = after.map_or_else(|| "after=0&snapshot=true".to_owned(), |seq| format!("after={seq}"));
        let rest = self.base.as_str().strip_prefix("http").unwrap_or_default();
        format!("ws{rest}{}/ws?{from}", session_path(id))
    }

    async fn send_request(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, ApiClientError> {
        let bytes = self.send_bytes(method, path, body).await?;
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn send_bytes(&self, method: Method, path: &str, body: Option<Value>) -> Result<Vec<u8>, ApiClientError> {
        let mut request = self.build_request(method, path)?;
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = self.send_built(request).await?;
        let bytes = response.bytes().await;
        Ok(bytes.map_err(|source| ApiClientError::Unreachable { address: self.address(), source })?.to_vec())
    }

    pub(super) fn build_request(&self, method: Method, path: &str) -> Result<RequestBuilder, ApiClientError> {
        let url = self.base.join(path).map_err(|_| ApiClientError::InvalidUrl(path.to_owned()))?;
        let request = self.http.request(method, url);
        Ok(match self.authorization_header() {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        })
    }

    /// Sends a request, and returns the response if it is a success.
    pub(super) async fn send_built(&self, request: RequestBuilder) -> Result<Response, ApiClientError> {
        let unreachable = |source| ApiClientError::Unreachable { address: self.address(), source };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.bytes().await.map_err(unreachable)?;
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let code = problem["code"].as_str().map(str::to_owned);
        let message = problem_message(status.as_u16(), &bytes);
        Err(ApiClientError::Rejected { status: status.as_u16(), code, message })
    }
}

/// Returns the message of a `problem+json` body; for any other body, a message that names the status.
pub(in crate::cli) fn problem_message(status: u16, body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let message = ["detail", "title", "code"].iter().find_map(|key| problem[key].as_str());
    // The text may come from another program, or quote one.
    let message = message.map_or_else(|| format!("the service returned HTTP {status}"), sanitize_text);
    // The message of the service addresses clients that write the header themselves.
    if status == 401 { format!("{message} (set --token or {TOKEN_VARIABLE})") } else { message }
}

/// Returns the path of a session. The service rejects an invalid id; here it only must not become another path.
pub(super) fn session_path(id: &str) -> String {
    format!("sessions/{}", escape_segment(id))
}

fn escape_segment(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED_IN_PATH).to_string()
}

fn no_such_approval(given: &str) -> String {
    if given.is_empty() {
        return "nothing waits for your decision".to_owned();
    }
    format!("nothing with an id like `{given}` waits for your decision; `k8sops approvals` lists what waits")
}

/// Returns the text of the innermost cause: `connection refused` says more than `error sending request`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_url_is_accepted_with_and_without_version() {
        for (given, events) in [
            ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/sessions/a/ws?after=3"),
            ("http://127.0.0.1:8080/v1/", "ws://127.0.0.1:8080/v1/sessions/a/ws?after=3"),
            ("https://h/ops/", "wss://h/ops/v1/sessions/a/ws?after=3"),
        ] {
            assert_eq!(ApiClient::new(given).unwrap().events_url("a", Some(3)), events);
        }
        let client = ApiClient::new("http://h").unwrap();
        assert_eq!(client.events_url("../x", None), "ws://h/v1/sessions/%2E%2E%2Fx/ws?after=0&snapshot=true");
        assert_eq!(client.address(), "http://h");
        assert_eq!(ApiClient::new("https://h/ops/v1").unwrap().door_url("mcp").as_str(), "https://h/ops/mcp");
        for bad in ["", "127.0.0.1:8080", "ftp://h", "http://"] {
            assert!(ApiClient::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn problem_message_prefers_the_detail() {
        let body = br#"{"title":"t","detail":"there is no session x","code":"c"}"#;
        assert_eq!(problem_message(404, body), "there is no session x");
        assert_eq!(problem_message(502, b"<html>"), "the service returned HTTP 502");
    }
}
