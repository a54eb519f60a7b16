//! Lists, claims and deletion of sessions.

use async_trait::async_trait;

use super::{
    scripts::{DeleteReply, DeleteSession},
    store::RedisStore,
};
use k8sops_core::{
    IdleDeletion, ListCursor, NotificationTopic, SessionId, SessionIndex, SessionSummary, StoreError, UserId,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeletionCondition {
    Always,
    OnlyIfIdle,
}

#[async_trait]
impl SessionIndex for RedisStore {
    async fn read_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        self.registry.session_summary(session).await
    }

    async fn list_sessions(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        self.registry.user_sessions(user, after, limit).await
    }

    async fn is_session_of(&self, user: &UserId, session: SessionId) -> Result<bool, StoreError> {
        Ok(self.registry.session_user(session).await?.is_some_and(|found| &found == user))
    }

    async fn count_sessions(&self, user: &UserId) -> Result<usize, StoreError> {
        self.registry.session_count(user).await
    }

    async fn delete_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.delete_session_keys(session, DeletionCondition::Always).await.map(drop)
    }

    async fn delete_idle_session(&self, session: SessionId) -> Result<IdleDeletion, StoreError> {
        self.delete_session_keys(session, DeletionCondition::OnlyIfIdle).await
    }

    async fn claim_unfinished_sessions(&self) -> Result<Vec<SessionId>, StoreError> {
        self.registry.claim_due_sessions().await
    }
}

impl RedisStore {
    async fn delete_session_keys(
        &self,
        session: SessionId,
        condition: DeletionCondition,
    ) -> Result<IdleDeletion, StoreError> {
        // Not the summary: a damaged session can be deleted, too.
        let user = self.registry.session_user(session).await?.ok_or(StoreError::NotFound(session))?;
        let delete = DeleteSession {
            meta_key: self.keys.meta(session),
            log_key: self.keys.log(session),
            checkpoint_key: self.keys.checkpoint(session),
            inbox_key: self.keys.inbox(session),
            preview_key: self.keys.preview(session),
            receipts_key: self.keys.receipts(session),
            receipt_order_key: self.keys.receipt_order(session),
            outputs_key: self.keys.outputs(session),
            log_channel: self.keys.session_channel(session, NotificationTopic::Log),
            inbox_channel: self.keys.session_channel(session, NotificationTopic::Inbox),
            only_if_idle: condition == DeletionCondition::OnlyIfIdle,
        };
        let reply = self.writes.run_script(&delete).await?;
        if reply == DeleteReply::Busy {
            return Ok(IdleDeletion::Busy);
        }
        // The session is gone. Entries that cannot be removed now are removed when they are read.
        let removed = self.registry.remove_session(&user, session).await;
        let unscheduled = self.registry.unschedule_session(session).await;
        for error in [removed, unscheduled].into_iter().filter_map(Result::err) {
            tracing::debug!(%session, %error, "entry of deleted session not removed");
        }
        match reply {
            DeleteReply::NotFound => Err(StoreError::NotFound(session)),
            DeleteReply::Deleted | DeleteReply::Busy => Ok(IdleDeletion::Deleted),
        }
    }
}
