//! What is posted: a door turns the log of a run into notifications in the form of its protocol.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::push_config::PushTask;

/// A position among the notifications of a task. It is made of the log alone, so that it is the same on every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotificationPosition {
    /// The seq of the event that the notification is about.
    pub seq: u64,
    /// The number of the notification among those of the same event.
    pub index: u32,
}

impl NotificationPosition {
    /// The position after everything that an event causes.
    #[must_use]
    pub fn after_event(seq: u64) -> Self {
        Self { seq, index: u32::MAX }
    }
}

/// A notification of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushNotification {
    /// Its position: a later notification has a greater one, and a repetition has the same.
    pub position: NotificationPosition,
    /// The body of the request.
    pub body: String,
}

/// Why the next notification of a task cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NotificationSourceError {
    /// The session does not exist any more.
    #[error("the session was deleted")]
    SessionDeleted,
    /// The log can be read later.
    #[error("the log cannot be read at the moment")]
    Unavailable,
    /// The log does not have what is needed, or is damaged.
    #[error("{0}")]
    Broken(String),
}

/// The notifications of tasks, in the form of a protocol.
#[async_trait]
pub trait NotificationSource: Send + Sync + 'static {
    /// The media type of the bodies.
    fn content_type(&self) -> &'static str;

    /// Opens the notifications of a task, from its start on.
    ///
    /// # Errors
    /// The log cannot be read.
    async fn open_task(&self, task: &PushTask) -> Result<Box<dyn NotificationStream>, NotificationSourceError>;
}

/// The notifications of one task, in order: those of the past at once, and those to come when they are committed.
#[async_trait]
pub trait NotificationStream: Send {
    /// Waits for the next notification; `None` after the last one of the task. Cancel safe.
    ///
    /// # Errors
    /// The log cannot be read. The stream must be opened again.
    async fn next_notification(&mut self) -> Result<Option<PushNotification>, NotificationSourceError>;
}
