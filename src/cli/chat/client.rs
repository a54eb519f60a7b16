//! The REST part of the API, as far as the chat needs it.

use std::time::Duration;

use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, HeaderValue},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::config::TOKEN_VARIABLE;
use k8sops_core::{is_loopback, mask_url};

/// No answer of the service takes longer.
const LIMIT: Duration = Duration::from_secs(15);

/// Why a call failed, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The URL is not one of a service.
    #[error("`{0}` is not the URL of a service; allowed: http://host:port or https://host:port")]
    Url(String),
    /// The service did not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The service said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
}

/// A client of one service.
#[derive(Debug, Clone)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    token: Option<SecretString>,
}

impl Client {
    /// A client of the service at `url`, with or without the `/v1`.
    ///
    /// # Errors
    /// It is no URL of a service.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url(mask_url(url));
        let mut base = Url::parse(url).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        let root = base.path().trim_end_matches('/');
        let path = format!("{}/v1/", root.strip_suffix("/v1").unwrap_or(root));
        base.set_path(&path);
        base.set_query(None);
        base.set_fragment(None);
        let mut http = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).timeout(LIMIT);
        if base.host_str().is_some_and(is_loopback) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| ClientError::Unreachable(error.to_string()))?;
        Ok(Self { base, http, token: None })
    }

    /// The same for the user with this key or token.
    #[must_use]
    pub fn with_token(self, token: SecretString) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The value of `Authorization`, if there is a token that can be in one.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let token = self.token.as_ref()?.expose_secret().trim();
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The service's address, for people.
    #[must_use]
    pub fn address(&self) -> String {
        mask_url(self.base.as_str().trim_end_matches("/v1/"))
    }

    /// The newest sessions.
    ///
    /// # Errors
    /// The service does not answer, or says no.
    pub async fn sessions(&self) -> Result<Vec<Value>, ClientError> {
        let page = self.call(Method::GET, "sessions?limit=50", None).await?;
        Ok(page["sessions"].as_array().cloned().unwrap_or_default())
    }

    /// One session.
    ///
    /// # Errors
    /// The service does not answer, or says no.
    pub async fn session(&self, id: &str) -> Result<Value, ClientError> {
        self.call(Method::GET, &format!("sessions/{}", segment(id)), None).await
    }

    /// A new session. Its id.
    ///
    /// # Errors
    /// The service does not answer, or says no.
    pub async fn create(&self, title: Option<&str>, model: Option<&(String, String)>) -> Result<String, ClientError> {
        let mut body = json!({});
        if let Some(title) = title {
            body["title"] = json!(title);
        }
        if let Some((provider, model)) = model {
            body["provider"] = json!(provider);
            body["model"] = json!(model);
        }
        let session = self.call(Method::POST, "sessions", Some(body)).await?;
        session["session_id"].as_str().map(str::to_owned).ok_or_else(|| ClientError::Refused {
            status: 201,
            message: format!("{} does not answer like k8sops: no session_id in a new session", self.address()),
        })
    }

    /// Renames a session.
    ///
    /// # Errors
    /// The service does not answer, or says no.
    pub async fn rename(&self, id: &str, title: &str) -> Result<(), ClientError> {
        let path = format!("sessions/{}", segment(id));
        self.call(Method::PATCH, &path, Some(json!({"title": title}))).await.map(drop)
    }

    /// Deletes a session.
    ///
    /// # Errors
    /// The service does not answer, or says no.
    pub async fn delete(&self, id: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, &format!("sessions/{}", segment(id)), None).await.map(drop)
    }

    /// Changes the model of a session.
    ///
    /// # Errors
    /// The service does not answer, or says no.
    pub async fn set_model(&self, id: &str, provider: &str, model: &str) -> Result<(), ClientError> {
        let path = format!("sessions/{}/settings", segment(id));
        self.call(Method::PATCH, &path, Some(json!({"provider": provider, "model": model}))).await.map(drop)
    }

    /// The catalog.
    ///
    /// # Errors
    /// The service does not answer, or says no.
    pub async fn providers(&self) -> Result<Value, ClientError> {
        self.call(Method::GET, "providers", None).await
    }

    /// Where the events of a session come from: after a seq, or with a snapshot in place of all that was.
    #[must_use]
    pub fn events_url(&self, id: &str, after: Option<u64>) -> String {
        let from = after.map_or_else(|| "after=0&snapshot=true".to_owned(), |seq| format!("after={seq}"));
        let rest = self.base.as_str().strip_prefix("http").unwrap_or_default();
        format!("ws{rest}sessions/{}/ws?{from}", segment(id))
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, ClientError> {
        let url = self.base.join(path).map_err(|_| ClientError::Url(path.to_owned()))?;
        let mut request = self.http.request(method, url);
        if let Some(authorization) = self.authorization() {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let unreachable = |error: reqwest::Error| {
            let address = self.address();
            ClientError::Unreachable(format!(
                "{address} does not answer ({}); is `k8sops serve` running?",
                root_of(&error)
            ))
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null));
        }
        Err(ClientError::Refused { status: status.as_u16(), message: problem(status.as_u16(), &bytes) })
    }
}

/// The words of a `problem+json`, or of whatever came in its place.
pub(super) fn problem(status: u16, body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let said = ["detail", "title", "code"].iter().find_map(|key| problem[key].as_str());
    let said = said.map_or_else(|| format!("the service answers with HTTP {status}"), str::to_owned);
    // What the service says is for those who write requests themselves.
    if status == 401 { format!("{said} (here: --token, or {TOKEN_VARIABLE})") } else { said }
}

/// An id as one segment of a path. What is no id is refused by the service; it must only not become another path here.
fn segment(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    id.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The first cause of an error: `connection refused` says more than `error sending request`.
fn root_of(error: &dyn std::error::Error) -> String {
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
    fn urls_are_built_from_whatever_form_the_user_gives() {
        for (given, events) in [
            ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/sessions/a/ws?after=3"),
            ("http://127.0.0.1:8080/v1/", "ws://127.0.0.1:8080/v1/sessions/a/ws?after=3"),
            ("https://h/ops/", "wss://h/ops/v1/sessions/a/ws?after=3"),
        ] {
            assert_eq!(Client::new(given).unwrap().events_url("a", Some(3)), events);
        }
        let client = Client::new("http://h").unwrap();
        assert_eq!(client.events_url("../x", None), "ws://h/v1/sessions/%2E%2E%2Fx/ws?after=0&snapshot=true");
        assert_eq!(client.address(), "http://h");
        for bad in ["", "127.0.0.1:8080", "ftp://h", "http://"] {
            assert!(Client::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_problem_is_told_in_its_own_words() {
        assert_eq!(
            problem(404, br#"{"title":"t","detail":"there is no session x","code":"c"}"#),
            "there is no session x"
        );
        assert_eq!(problem(502, b"<html>"), "the service answers with HTTP 502");
    }
}
