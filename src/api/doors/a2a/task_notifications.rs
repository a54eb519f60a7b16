//! The notifications of tasks: the updates that a stream of the task has, as far as they are logged.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use k8sops_core::{ErrorChain, StoreError, StreamFrame};

use super::{
    http_endpoint::A2A_JSON, human_input::HITL_EXTENSION, service_parameters::HitlActivation,
    task_builder::TaskBuilder, task_id::TaskId, task_resource::StreamItem,
};
use crate::{
    api::doors::run_cursor::{RunCursor, RunInterruption, RunRest, RunStep},
    notifier::{
        NotificationPosition, NotificationSource, NotificationSourceError, NotificationStream, PushNotification,
        PushTask,
    },
    runtime::{RunLocation, Sessions, SessionsError},
};

/// Returns what push notifications say of the tasks of sessions.
#[must_use]
pub fn task_notifications(sessions: Sessions) -> Arc<dyn NotificationSource> {
    Arc::new(TaskNotifications { sessions })
}

/// Makes notifications of the logs of sessions.
struct TaskNotifications {
    sessions: Sessions,
}

#[async_trait]
impl NotificationSource for TaskNotifications {
    fn content_type(&self) -> &'static str {
        A2A_JSON
    }

    async fn open_task(&self, task: &PushTask) -> Result<Box<dyn NotificationStream>, NotificationSourceError> {
        let (user, session, run) = (&task.user, task.session, task.run);
        let location = self.sessions.find_run(user, session, run).await.map_err(source_error)?;
        let start_seq = match location {
            Some(RunLocation::Logged { message_seq }) => message_seq.saturating_sub(1),
            Some(RunLocation::Queued(entry)) => entry.accepted_seq,
            None => return Err(NotificationSourceError::Broken("the log does not have the task".to_owned())),
        };
        let events = self.sessions.open_cursor(user, session, start_seq).await.map_err(source_error)?;
        let hitl = match task.extensions.iter().any(|extension| extension == HITL_EXTENSION) {
            true => HitlActivation::Active,
            false => HitlActivation::Inactive,
        };
        Ok(Box::new(TaskUpdates {
            cursor: RunCursor::after_message(events, run, start_seq),
            task: TaskBuilder::new(TaskId { session, run }, task.context.as_deref(), hitl),
            ready: VecDeque::new(),
            position: NotificationPosition { seq: start_seq, index: 0 },
            is_over: false,
        }))
    }
}

/// The updates of a task, each with its position.
struct TaskUpdates {
    cursor: RunCursor,
    task: TaskBuilder,
    ready: VecDeque<PushNotification>,
    /// That of the next update.
    position: NotificationPosition,
    is_over: bool,
}

#[async_trait]
impl NotificationStream for TaskUpdates {
    async fn next_notification(&mut self) -> Result<Option<PushNotification>, NotificationSourceError> {
        while self.ready.is_empty() && !self.is_over {
            let step = self.cursor.next().await.map_err(store_error)?;
            self.apply_step(step)?;
        }
        Ok(self.ready.pop_front())
    }
}

impl TaskUpdates {
    fn apply_step(&mut self, step: RunStep) -> Result<(), NotificationSourceError> {
        let mut updates = Vec::new();
        match step {
            RunStep::Frame(frame @ StreamFrame::Event(_)) => {
                if let Some(seq) = frame.seq() {
                    self.position = NotificationPosition { seq, index: 0 };
                }
                self.task.apply_frame(&frame, &mut updates);
            }
            // Text that is not logged yet would come again with its message.
            RunStep::Frame(_) | RunStep::Blocked(_) => {}
            RunStep::Rest(rest) => {
                self.task.apply_rest(&rest, &mut updates);
                match rest {
                    RunRest::Waiting(_) => {}
                    RunRest::Finished(_) | RunRest::Failed(_) | RunRest::Interrupted(RunInterruption::MessageLost) => {
                        self.is_over = true;
                    }
                    RunRest::Interrupted(RunInterruption::SessionDeleted) => {
                        return Err(NotificationSourceError::SessionDeleted);
                    }
                    RunRest::Interrupted(why) => return Err(NotificationSourceError::Broken(why.message())),
                }
            }
        }
        for update in updates {
            self.push_update(&update);
        }
        Ok(())
    }

    fn push_update(&mut self, update: &StreamItem) {
        let body = serde_json::to_string(update).unwrap_or_default();
        self.ready.push_back(PushNotification { position: self.position, body });
        self.position.index += 1;
    }
}

fn source_error(error: SessionsError) -> NotificationSourceError {
    match error {
        SessionsError::NotFound(_) => NotificationSourceError::SessionDeleted,
        SessionsError::Store(error) => store_error(error),
        error => NotificationSourceError::Broken(ErrorChain(&error).to_string()),
    }
}

fn store_error(error: StoreError) -> NotificationSourceError {
    match error {
        StoreError::Unavailable(_) => NotificationSourceError::Unavailable,
        StoreError::NotFound(_) => NotificationSourceError::SessionDeleted,
        error => NotificationSourceError::Broken(ErrorChain(&error).to_string()),
    }
}
