//! Push notification configurations as clients send and get them. No `Debug` form has a secret.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{a2a_error::A2aError, task_id::TaskId};
use crate::notifier::{PushAuthentication, PushConfig, PushTask};

/// Where what becomes of a task is posted.
#[derive(Clone, Default, Deserialize, ToSchema)]
#[schema(as = A2aPushNotificationConfigRequest)]
#[serde(rename_all = "camelCase")]
pub(super) struct PushConfigRequest {
    /// The id, unique for the task; absent: the id of the task. A configuration with the same id is replaced.
    #[serde(default)]
    id: Option<String>,
    /// The task, unless the path or the message says it.
    #[serde(default, alias = "task_id")]
    task_id: Option<String>,
    /// The URL of the receiver, which the operator must have allowed.
    #[serde(default)]
    url: Option<String>,
    /// A text that comes with each notification in the header `X-A2A-Notification-Token`.
    #[serde(default)]
    token: Option<String>,
    /// How the agent authenticates to the receiver.
    #[serde(default)]
    authentication: Option<AuthenticationRequest>,
}

/// How the agent authenticates to a receiver.
#[derive(Clone, Default, Deserialize, ToSchema)]
#[schema(as = A2aPushAuthenticationRequest)]
struct AuthenticationRequest {
    /// The scheme, such as `Bearer`.
    #[serde(default)]
    scheme: Option<String>,
    /// What follows the scheme in the header `Authorization`.
    #[serde(default)]
    credentials: Option<String>,
}

impl PushConfigRequest {
    /// Returns the id of the task.
    ///
    /// # Errors
    /// It is missing.
    pub(super) fn task_id(&self) -> Result<&str, A2aError> {
        let id = self.task_id.as_deref().filter(|id| !id.is_empty());
        id.ok_or_else(|| A2aError::invalid_field("taskId", "taskId is missing"))
    }

    /// Returns the configuration for a task.
    pub(super) fn into_config(self, id: TaskId, task: PushTask) -> PushConfig {
        let named = |text: Option<String>| text.filter(|text| !text.is_empty());
        PushConfig {
            id: named(self.id).unwrap_or_else(|| id.to_string()),
            task,
            url: self.url.unwrap_or_default(),
            token: named(self.token),
            authentication: self.authentication.map(|authentication| PushAuthentication {
                scheme: authentication.scheme.unwrap_or_default(),
                credentials: authentication.credentials.unwrap_or_default(),
            }),
        }
    }
}

impl fmt::Debug for PushConfigRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushConfigRequest").field("task_id", &self.task_id).finish_non_exhaustive()
    }
}

/// A configuration. The credentials are not returned.
#[derive(Serialize, ToSchema)]
#[schema(as = A2aPushNotificationConfig)]
#[serde(rename_all = "camelCase")]
pub(super) struct PushConfigResource {
    /// The id, unique for the task.
    id: String,
    /// The task.
    task_id: String,
    /// The URL of the receiver.
    url: String,
    /// The text that comes with each notification.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// How the agent authenticates to the receiver, without the credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication: Option<AuthenticationResource>,
}

/// How the agent authenticates to a receiver.
#[derive(Serialize, ToSchema)]
#[schema(as = A2aPushAuthentication)]
struct AuthenticationResource {
    /// The scheme.
    scheme: String,
}

/// The configurations of a task.
#[derive(Serialize, ToSchema)]
#[schema(as = A2aPushNotificationConfigs)]
#[serde(rename_all = "camelCase")]
pub(super) struct PushConfigList {
    /// The configurations, in the order of their ids.
    pub(super) configs: Vec<PushConfigResource>,
    /// Always empty: a task has few configurations.
    pub(super) next_page_token: String,
}

impl From<PushConfig> for PushConfigResource {
    fn from(config: PushConfig) -> Self {
        let PushConfig { id, task, url, token, authentication } = config;
        let task_id = TaskId { session: task.session, run: task.run }.to_string();
        let authentication = authentication.map(|it| AuthenticationResource { scheme: it.scheme });
        Self { id, task_id, url, token, authentication }
    }
}

/// Which configuration a method is about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PushConfigSelector {
    #[serde(default)]
    id: Option<String>,
    #[serde(default, alias = "task_id")]
    task_id: Option<String>,
}

impl PushConfigSelector {
    /// Returns the id of the task.
    ///
    /// # Errors
    /// It is missing.
    pub(super) fn task_id(&self) -> Result<&str, A2aError> {
        let id = self.task_id.as_deref().filter(|id| !id.is_empty());
        id.ok_or_else(|| A2aError::invalid_field("taskId", "taskId is missing"))
    }

    /// Returns the id of the configuration.
    ///
    /// # Errors
    /// It is missing.
    pub(super) fn config_id(&self) -> Result<&str, A2aError> {
        let id = self.id.as_deref().filter(|id| !id.is_empty());
        id.ok_or_else(|| A2aError::invalid_field("id", "id is missing"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TASK: &str = "0190000000007000800000000000000a019af00000007000800000000000000b";

    fn read(request: Value) -> PushConfig {
        let request: PushConfigRequest = serde_json::from_value(request).unwrap();
        let id: TaskId = TASK.parse().unwrap();
        let user = "anna".parse().unwrap();
        let task = PushTask { user, session: id.session, run: id.run, context: None, extensions: Vec::new() };
        request.into_config(id, task)
    }

    #[test]
    fn configuration_comes_back_without_its_credentials() {
        let config = read(json!({"id": "c", "url": "https://a.example", "token": "t", "unknown": 1,
            "authentication": {"scheme": "Bearer", "credentials": "s3cret"}}));
        assert_eq!(config.authentication.as_ref().unwrap().credentials, "s3cret");
        let returned = serde_json::to_value(PushConfigResource::from(config)).unwrap();
        let expected = json!({"id": "c", "taskId": TASK, "url": "https://a.example", "token": "t",
            "authentication": {"scheme": "Bearer"}});
        assert_eq!(returned, expected);
    }

    #[test]
    fn id_is_that_of_the_task_unless_it_is_named() {
        let config = read(json!({"task_id": TASK, "url": "https://a.example", "id": "", "token": ""}));
        assert_eq!((config.id.as_str(), config.token), (TASK, None));
    }

    #[test]
    fn debug_form_has_no_secret() {
        let request: PushConfigRequest = serde_json::from_value(json!({"url": "https://s3cret", "token": "s3cret",
            "authentication": {"scheme": "Bearer", "credentials": "s3cret"}}))
        .unwrap();
        assert!(!format!("{request:?}").contains("s3cret"));
    }
}
