//! What a client asks for: where the notifications of a task are posted, and how the receiver knows that they are genuine.

use std::fmt;

use http::HeaderValue;
use k8sops_core::{RunId, SessionId, UserId};
use serde::{Deserialize, Serialize};

/// The longest id, token, scheme or credentials, in bytes.
const MAX_TEXT_BYTES: usize = 4096;
/// The longest id of a configuration, in bytes.
const MAX_ID_BYTES: usize = 256;

/// The task whose notifications are posted: a run of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushTask {
    /// The user of the session.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// The run.
    pub run: RunId,
    /// The name that the session has for the client, if it has another one than its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The extensions of the protocol that the client has activated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
}

/// A configuration of push notifications. Its `Debug` form has no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushConfig {
    /// The id, unique for the task.
    pub id: String,
    /// The task.
    pub task: PushTask,
    /// Where notifications are posted.
    pub url: String,
    /// A text that the receiver gets with each notification, by which it knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// How the service authenticates to the receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<PushAuthentication>,
}

/// How the service authenticates to a receiver.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushAuthentication {
    /// The scheme, such as `Bearer`.
    pub scheme: String,
    /// The credentials; without them no header is sent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub credentials: String,
}

impl PushConfig {
    /// The `X-A2A-Notification-Token` header.
    pub(super) fn token_header(&self) -> Option<HeaderValue> {
        sensitive_header(self.token.as_deref()?)
    }

    /// The `Authorization` header.
    pub(super) fn authorization_header(&self) -> Option<HeaderValue> {
        let PushAuthentication { scheme, credentials } = self.authentication.as_ref()?;
        if scheme.is_empty() || credentials.is_empty() {
            return None;
        }
        sensitive_header(&format!("{scheme} {credentials}"))
    }

    /// Returns what is wrong with the fields that become headers, or with the id.
    pub(super) fn find_problem(&self) -> Option<&'static str> {
        let fits = |text: &str| text.len() <= MAX_TEXT_BYTES;
        if self.id.is_empty() || self.id.len() > MAX_ID_BYTES || self.id.chars().any(char::is_control) {
            return Some("the id of the configuration must have 1 to 256 bytes and no control characters");
        }
        if let Some(token) = &self.token
            && (!fits(token) || self.token_header().is_none())
        {
            return Some("the token is not the value of an HTTP header of at most 4096 bytes");
        }
        if let Some(PushAuthentication { scheme, credentials }) = &self.authentication {
            let is_token =
                !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b));
            if !is_token || !fits(scheme) {
                return Some("the scheme of the authentication is not the name of an HTTP authentication scheme");
            }
            if !fits(credentials) || (!credentials.is_empty() && self.authorization_header().is_none()) {
                return Some("the credentials are not the value of an HTTP header of at most 4096 bytes");
            }
        }
        None
    }
}

fn sensitive_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl fmt::Debug for PushConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushConfig").field("task", &self.task).finish_non_exhaustive()
    }
}

impl fmt::Debug for PushAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushAuthentication").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}
