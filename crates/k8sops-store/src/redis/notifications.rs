//! What replicas see of each other's work: previews, pending approvals, notifications.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    encoding::{StreamEntry, parse_json, to_json},
    scripts::{AppendPreview, PreviewReply},
    store::{RedisStore, ReplySize},
};
use k8sops_core::{
    MessageId, MessagePreview, NotificationTopic, Notifications, PreviewPage, SessionId, SessionLease, StoreError,
    StoreNotification, Timestamp,
};

/// How long the preview of a message is kept after its owner crashed.
const PREVIEW_TTL: Duration = Duration::from_secs(600);

#[async_trait]
impl Notifications for RedisStore {
    async fn write_preview(
        &self,
        lease: SessionLease,
        message: MessageId,
        pieces: &[MessagePreview],
    ) -> Result<(), StoreError> {
        let append = AppendPreview {
            meta_key: self.keys.meta(lease.session),
            preview_key: self.keys.preview(lease.session),
            epoch: lease.epoch.0,
            message: message.to_string(),
            preview_ttl_ms: PREVIEW_TTL,
            log_channel: self.keys.session_channel(lease.session, NotificationTopic::Log),
            chunks: pieces.iter().map(to_json).collect(),
        };
        // Not retried: readers would see a chunk twice.
        match self.writes.run_script_once(&append).await? {
            // A rejected chunk is ignored: its lease or its message is over.
            PreviewReply::Appended | PreviewReply::Rejected => Ok(()),
        }
    }

    async fn read_preview(&self, session: SessionId, after: u64) -> Result<PreviewPage, StoreError> {
        let mut read = redis::cmd("XRANGE");
        read.arg(self.keys.preview(session)).arg(format!("({after}-0")).arg("+");
        // From the start of a message, what a long reply has so far; then what was written within some 50 ms.
        let size = if after == 0 { ReplySize::Large } else { ReplySize::Small };
        let entries: Vec<StreamEntry> = self.read(&read, size).await?;
        let mut page = PreviewPage { pieces: Vec::new(), position: after };
        for entry in &entries {
            page.pieces.push(parse_json("a message preview", entry.field("p")?)?);
            page.position = entry.position()?;
        }
        Ok(page)
    }

    async fn set_approval_deadline(&self, session: SessionId, until: Option<Timestamp>) -> Result<(), StoreError> {
        self.registry.record_approval_deadline(session, until).await
    }

    async fn list_awaiting_approval(&self, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        self.registry.sessions_awaiting_approval(limit).await
    }

    fn subscribe(&self, session: SessionId, topic: NotificationTopic) {
        self.subscriber.subscribe(session, topic);
    }

    fn unsubscribe(&self, session: SessionId, topic: NotificationTopic) {
        self.subscriber.unsubscribe(session, topic);
    }

    async fn next_notification(&self) -> StoreNotification {
        self.subscriber.next_notification().await
    }
}
