//! The port [`Notifications`]: what several processes see of each other's work.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{SessionLease, StoreError};
use crate::{
    account::AccountTopic, ids::SessionId, preview::MessagePreview, preview_update::PreviewUpdate, time::Timestamp,
};

/// How long an announcement of streams is valid. That of a process that was killed makes the owner write previews without a
/// reader for so long.
pub const WATCHER_TTL: Duration = Duration::from_secs(30);

/// What a process subscribes to of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationTopic {
    /// The log has grown, or the preview of the open message.
    Log,
    /// The inbox has a new command.
    Inbox,
}

/// A hint that it is worth reading something again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreNotification {
    /// This topic of this session has changed, or was subscribed to just now.
    Session(SessionId, NotificationTopic),
    /// Another process has streams of this session from now on: its owner writes previews.
    Watched(SessionId),
    /// Another process, or this one, has published a change of an account.
    Account(Arc<str>),
    /// Sessions have work and no owner.
    Unfinished,
    /// Notifications may have been lost: everything that is subscribed to may have changed.
    All,
}

/// What [`Notifications::read_preview`] read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PreviewPage {
    /// The chunks, in order.
    pub pieces: Vec<MessagePreview>,
    /// The position after the last chunk, from which to read on.
    pub position: u64,
}

/// Whether other processes than the owner have streams of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAudience {
    /// At least one has announced so ([`Notifications::announce_watcher`]).
    Present,
    /// None has, or its announcement has expired.
    Absent,
}

/// What several processes that share a store see of each other's work. Nothing that is logged depends on it: a lost
/// notification delays a reader until its next poll, and a lost preview is made up for by the committed message.
#[async_trait]
pub trait Notifications: Send + Sync {
    /// Writes to the preview of an open message, and returns who reads it. Ignored without an error if the lease or the
    /// message is over.
    async fn write_preview(&self, lease: SessionLease, update: &PreviewUpdate) -> Result<RemoteAudience, StoreError>;

    /// Reads the preview of the open message from the position `after` on.
    async fn read_preview(&self, session: SessionId, after: u64) -> Result<PreviewPage, StoreError>;

    /// Announces for [`WATCHER_TTL`] that the process `watcher` (its name in leases) has streams of a session. The owner is
    /// notified, and is told with each [`write_preview`](Self::write_preview) and each renewal of its lease.
    async fn announce_watcher(&self, session: SessionId, watcher: &str) -> Result<(), StoreError>;

    /// Takes an announcement back.
    async fn withdraw_watcher(&self, session: SessionId, watcher: &str) -> Result<(), StoreError>;

    /// Records when the last pending approval of a session expires; `None` if it has no pending approval. A record is
    /// dropped when its time has passed.
    async fn set_approval_deadline(&self, session: SessionId, until: Option<Timestamp>) -> Result<(), StoreError>;

    /// Sessions with pending approvals, those that expire first, at most `limit`.
    async fn list_awaiting_approval(&self, limit: usize) -> Result<Vec<SessionId>, StoreError>;

    /// Publishes a change to the processes that have subscribed to the topic, among them this one.
    async fn publish_account_change(&self, topic: &AccountTopic, payload: &str) -> Result<(), StoreError>;

    /// Subscribes to changes of accounts.
    fn subscribe_account(&self, topic: &AccountTopic);

    /// Ends a subscription to changes of accounts.
    fn unsubscribe_account(&self, topic: &AccountTopic);

    /// Subscribes to a topic of a session. The subscription takes effect a little later; a [`StoreNotification`] of the
    /// same session and topic says when.
    fn subscribe(&self, session: SessionId, topic: NotificationTopic);

    /// Ends a subscription.
    fn unsubscribe(&self, session: SessionId, topic: NotificationTopic);

    /// Waits for the next notification. For one caller at a time. Cancel safe.
    async fn next_notification(&self) -> StoreNotification;
}
