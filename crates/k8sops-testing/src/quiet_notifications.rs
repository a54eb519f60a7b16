//! Notifications of a store that several processes share, none of which arrives.

use std::future::pending;

use async_trait::async_trait;
use k8sops_core::{
    AccountTopic, NotificationTopic, Notifications, PreviewPage, PreviewUpdate, RemoteAudience, SessionId,
    SessionLease, StoreError, StoreNotification, Timestamp,
};

/// Makes a store one that several processes share. They learn of each other's work only by looking.
#[derive(Debug, Default)]
pub struct QuietNotifications {
    /// What is stored of the preview of every session.
    pub preview: PreviewPage,
}

#[async_trait]
impl Notifications for QuietNotifications {
    async fn write_preview(&self, _: SessionLease, _: &PreviewUpdate) -> Result<RemoteAudience, StoreError> {
        Ok(RemoteAudience::Absent)
    }

    async fn read_preview(&self, _: SessionId, after: u64) -> Result<PreviewPage, StoreError> {
        let nothing_new = || PreviewPage { pieces: Vec::new(), position: after };
        Ok(if after < self.preview.position { self.preview.clone() } else { nothing_new() })
    }

    async fn announce_watcher(&self, _: SessionId, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn withdraw_watcher(&self, _: SessionId, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn set_approval_deadline(&self, _: SessionId, _: Option<Timestamp>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list_awaiting_approval(&self, _: usize) -> Result<Vec<SessionId>, StoreError> {
        Ok(Vec::new())
    }

    async fn publish_account_change(&self, _: &AccountTopic, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn subscribe_account(&self, _: &AccountTopic) {}

    fn unsubscribe_account(&self, _: &AccountTopic) {}

    fn subscribe(&self, _: SessionId, _: NotificationTopic) {}

    fn unsubscribe(&self, _: SessionId, _: NotificationTopic) {}

    async fn next_notification(&self) -> StoreNotification {
        pending().await
    }
}
