//! The methods about push notifications, whatever the binding.

use k8sops_core::{RunId, SessionId};
use serde_json::{Map, Value};

use super::{
    a2a_error::{A2aError, A2aErrorKind, A2aFailure},
    agent_service::{AgentService, to_json},
    human_input::HITL_EXTENSION,
    message_turn::MessageOutcome,
    push_config_body::{PushConfigList, PushConfigRequest, PushConfigResource},
    service_parameters::HitlActivation,
    task_id::TaskId,
};
use crate::{
    api::caller::{Caller, CanWrite},
    audit::{AuditAction, AuditRecord, AuditTrail},
    notifier::{NotificationPosition, PushConfig, PushConfigError, PushTask},
};

impl AgentService {
    /// Posts what becomes of a task from now on.
    pub(super) async fn create_push_config(
        &self,
        task_id: &str,
        request: PushConfigRequest,
    ) -> Result<Value, A2aFailure> {
        self.ensure_push_notifications()?;
        Caller::<CanWrite>::new(self.identity.clone())?;
        let task = self.read_task(task_id).await?.task;
        let config = request.into_config(task.id(), self.push_task(task.id(), None));
        let position = NotificationPosition::after_event(task.last_seq());
        self.save_push_config(&config, position).await?;
        Ok(to_json(&PushConfigResource::from(config)))
    }

    /// Returns a configuration of a task.
    pub(super) async fn get_push_config(&self, task_id: &str, config_id: &str) -> Result<Value, A2aFailure> {
        let (id, task) = self.find_push_task(task_id).await?;
        let found = self.state.notifier.find_config(&task, config_id).await?;
        let config = found.ok_or_else(|| {
            let why = "the task has no push notification configuration with this id";
            A2aError::new(A2aErrorKind::TaskNotFound, why).of_task(id)
        })?;
        Ok(to_json(&PushConfigResource::from(config)))
    }

    /// Lists the configurations of a task.
    pub(super) async fn list_push_configs(&self, task_id: &str) -> Result<Value, A2aFailure> {
        let (_, task) = self.find_push_task(task_id).await?;
        let configs = self.state.notifier.list_configs(&task).await?;
        let configs = configs.into_iter().map(PushConfigResource::from).collect();
        Ok(to_json(&PushConfigList { configs, next_page_token: String::new() }))
    }

    /// Deletes a configuration of a task. That it does not exist is no error.
    pub(super) async fn delete_push_config(&self, task_id: &str, config_id: &str) -> Result<Value, A2aFailure> {
        self.ensure_push_notifications()?;
        Caller::<CanWrite>::new(self.identity.clone())?;
        let (_, task) = self.find_push_task(task_id).await?;
        if self.state.notifier.remove_config(&task, config_id).await?.is_some() {
            audit_push_config(&self.state.audit, AuditAction::PushConfigDeleted, &task).await;
        }
        Ok(Value::Object(Map::new()))
    }

    /// Checks the configuration of a message before the message is sent.
    pub(super) fn check_push_config(&self, request: Option<&PushConfigRequest>) -> Result<(), A2aFailure> {
        let Some(request) = request else { return Ok(()) };
        self.ensure_push_notifications()?;
        let id = TaskId { session: SessionId::new(), run: RunId::new() };
        let config = request.clone().into_config(id, self.push_task(id, None));
        Ok(self.state.notifier.check_config(&config)?)
    }

    /// Posts what becomes of the task of a message that was sent: all of it, or what comes after an answer.
    pub(super) async fn add_push_config(
        &self,
        request: Option<PushConfigRequest>,
        outcome: &MessageOutcome,
        context: Option<String>,
    ) -> Result<(), A2aFailure> {
        let Some(request) = request else { return Ok(()) };
        let (task, after) = match outcome {
            MessageOutcome::Following { task, cursor } => (task.id(), cursor.start_seq()),
            MessageOutcome::Settled(task) => (task.id(), 0),
            MessageOutcome::Answered(_) => return Ok(()),
        };
        let config = request.into_config(task, self.push_task(task, context));
        self.save_push_config(&config, NotificationPosition::after_event(after)).await
    }

    async fn save_push_config(&self, config: &PushConfig, position: NotificationPosition) -> Result<(), A2aFailure> {
        let (state, config) = (self.state.clone(), config.clone());
        let saving = async move {
            state.notifier.save_config(&config, position).await?;
            audit_push_config(&state.audit, AuditAction::PushConfigSaved, &config.task).await;
            Ok::<(), PushConfigError>(())
        };
        // A configuration that is half saved is listed and not delivered.
        Ok(self.state.sessions.run_to_completion(saving).await?)
    }

    /// Finds a task of the caller.
    async fn find_push_task(&self, task_id: &str) -> Result<(TaskId, PushTask), A2aFailure> {
        self.ensure_push_notifications()?;
        let id: TaskId = task_id.parse().map_err(|_| A2aError::task_not_found(task_id))?;
        let found = self.state.sessions.find_run(&self.identity.user, id.session, id.run).await;
        match found.map_err(A2aFailure::from) {
            Ok(Some(_)) => Ok((id, self.push_task(id, None))),
            Ok(None) => Err(A2aError::task_not_found(task_id).into()),
            Err(failure) => Err(failure),
        }
    }

    fn push_task(&self, id: TaskId, context: Option<String>) -> PushTask {
        let extensions = match self.parameters.hitl {
            HitlActivation::Active => vec![HITL_EXTENSION.to_owned()],
            HitlActivation::Inactive => Vec::new(),
        };
        PushTask { user: self.identity.user.clone(), session: id.session, run: id.run, context, extensions }
    }

    /// # Errors
    /// The operator has allowed no receivers.
    pub(super) fn ensure_push_notifications(&self) -> Result<(), A2aFailure> {
        if self.state.notifier.is_enabled() { Ok(()) } else { Err(push_notifications_not_supported().into()) }
    }
}

async fn audit_push_config(audit: &AuditTrail, action: AuditAction, task: &PushTask) {
    let record = AuditRecord::new(action).with_actor(format!("user:{}", task.user)).with_session(task.session);
    audit.record(vec![record]).await;
}

/// Says that nothing is posted anywhere.
fn push_notifications_not_supported() -> A2aError {
    A2aError::new(
        A2aErrorKind::PushNotificationNotSupported,
        "push notifications are not supported; subscribe to the task, or ask for it",
    )
}

impl From<PushConfigError> for A2aFailure {
    fn from(error: PushConfigError) -> Self {
        match error {
            PushConfigError::NotSupported => push_notifications_not_supported().into(),
            PushConfigError::Target(rejection) => A2aError::invalid_field("url", rejection.to_string()).into(),
            error @ (PushConfigError::Invalid(_) | PushConfigError::TooMany) => {
                A2aError::invalid_params(error.to_string()).into()
            }
            PushConfigError::Store(error) => error.into(),
        }
    }
}
