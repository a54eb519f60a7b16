//! What replicas see of each other's work: previews, pending approvals, notifications.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    encoding::{StreamEntry, parse_json, to_json},
    scripts::{AnnounceReply, AnnounceWatcher, AppendPreview, PreviewReply},
    store::{RedisStore, ReplySize},
    subscriber::SubscribedChannel,
};
use k8sops_core::{
    AccountTopic, NotificationTopic, Notifications, PreviewExtent, PreviewPage, PreviewUpdate, RemoteAudience,
    SessionId, SessionLease, StoreError, StoreNotification, Timestamp, WATCHER_TTL,
};

/// How long the preview of a message is kept after its owner crashed.
const PREVIEW_TTL: Duration = Duration::from_secs(600);

#[async_trait]
impl Notifications for RedisStore {
    async fn write_preview(&self, lease: SessionLease, update: &PreviewUpdate) -> Result<RemoteAudience, StoreError> {
        let append = AppendPreview {
            meta_key: self.keys.meta(lease.session),
            preview_key: self.keys.preview(lease.session),
            watchers_key: self.keys.watchers(lease.session),
            epoch: lease.epoch.0,
            message: update.message.to_string(),
            is_whole: update.extent == PreviewExtent::Whole,
            preview_ttl_ms: PREVIEW_TTL,
            publish_command: self.keys.publish_command(),
            log_channel: self.keys.session_channel(lease.session, NotificationTopic::Log),
            chunks: update.pieces.iter().map(to_json).collect(),
        };
        // Not retried: readers would see a chunk twice.
        match self.writes.run_script_once(&append).await? {
            PreviewReply::Watched => Ok(RemoteAudience::Present),
            // A rejected chunk is ignored: its lease or its message is over.
            PreviewReply::Unwatched | PreviewReply::Rejected => Ok(RemoteAudience::Absent),
        }
    }

    async fn read_preview(&self, session: SessionId, after: u64) -> Result<PreviewPage, StoreError> {
        let mut read = redis::cmd("XRANGE");
        read.arg(self.keys.preview(session)).arg(format!("({after}-0")).arg("+");
        // From the start of a message, what a long reply has so far; then what was written within some 50 ms.
        let size = if after == 0 { ReplySize::Large } else { ReplySize::Small };
        let entries: Vec<StreamEntry> = match self.read(&read, size).await {
            // Not what a session consists of: its owner replaces the key.
            Err(StoreError::Corrupt(_)) => Vec::new(),
            entries => entries?,
        };
        let mut page = PreviewPage { pieces: Vec::new(), position: after };
        for entry in &entries {
            page.pieces.push(parse_json("a message preview", entry.field("p")?)?);
            page.position = entry.position()?;
        }
        Ok(page)
    }

    async fn announce_watcher(&self, session: SessionId, watcher: &str) -> Result<(), StoreError> {
        let announce = AnnounceWatcher {
            meta_key: self.keys.meta(session),
            watchers_key: self.keys.watchers(session),
            watcher: watcher.to_owned(),
            ttl_ms: WATCHER_TTL,
            publish_command: self.keys.publish_command(),
            inbox_channel: self.keys.session_channel(session, NotificationTopic::Inbox),
        };
        match self.writes.run_script(&announce).await? {
            AnnounceReply::Announced => Ok(()),
            AnnounceReply::NotFound => Err(self.registry.missing_session(session).await),
        }
    }

    async fn withdraw_watcher(&self, session: SessionId, watcher: &str) -> Result<(), StoreError> {
        self.writes.query(redis::cmd("ZREM").arg(self.keys.watchers(session)).arg(watcher)).await
    }

    async fn set_approval_deadline(&self, session: SessionId, until: Option<Timestamp>) -> Result<(), StoreError> {
        self.registry.record_approval_deadline(session, until).await
    }

    async fn list_awaiting_approval(&self, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        self.registry.sessions_awaiting_approval(limit).await
    }

    async fn publish_account_change(&self, topic: &AccountTopic, payload: &str) -> Result<(), StoreError> {
        self.writes.query(&self.keys.publish(self.keys.account_channel(topic), payload)).await
    }

    fn subscribe_account(&self, topic: &AccountTopic) {
        self.subscriber.subscribe(SubscribedChannel::Account(topic.clone()));
    }

    fn unsubscribe_account(&self, topic: &AccountTopic) {
        self.subscriber.unsubscribe(SubscribedChannel::Account(topic.clone()));
    }

    fn subscribe(&self, session: SessionId, topic: NotificationTopic) {
        self.subscriber.subscribe(SubscribedChannel::Session(session, topic));
    }

    fn unsubscribe(&self, session: SessionId, topic: NotificationTopic) {
        self.subscriber.unsubscribe(SubscribedChannel::Session(session, topic));
    }

    async fn next_notification(&self) -> StoreNotification {
        self.subscriber.next_notification().await
    }
}
