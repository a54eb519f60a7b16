//! Lists, claims and deletion of sessions.

use async_trait::async_trait;

use super::{
    lost_keys::missing_log,
    scripts::{DeleteReply, DeleteSession},
    store::RedisStore,
};
use k8sops_core::{
    ClaimedSessions, IdleDeletion, ListCursor, NotificationTopic, OwnSessions, SessionId, SessionIndex, SessionSummary,
    StoreError, UserId,
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
        match self.registry.session_user(session).await {
            Ok(Some(found)) => Ok(&found == user),
            Ok(None) | Err(StoreError::Corrupt(_)) => self.registry.is_listed(user, session).await,
            Err(error) => Err(error),
        }
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

    async fn claim_unfinished_sessions(&self, own: OwnSessions<'_>) -> Result<ClaimedSessions, StoreError> {
        self.registry.claim_due_sessions(own).await
    }
}

impl RedisStore {
    async fn delete_session_keys(
        &self,
        session: SessionId,
        condition: DeletionCondition,
    ) -> Result<IdleDeletion, StoreError> {
        // Not the summary: a damaged session can be deleted, too. Without its user, the list is put right when it is read.
        let user = match self.registry.session_user(session).await {
            Err(StoreError::Corrupt(_)) => None,
            user => user?,
        };
        let delete = DeleteSession {
            meta_key: self.keys.meta(session),
            log_key: self.keys.log(session),
            checkpoint_key: self.keys.checkpoint(session),
            inbox_key: self.keys.inbox(session),
            preview_key: self.keys.preview(session),
            receipts_key: self.keys.receipts(session),
            receipt_order_key: self.keys.receipt_order(session),
            outputs_key: self.keys.outputs(session),
            watchers_key: self.keys.watchers(session),
            publish_command: self.keys.publish_command(),
            log_channel: self.keys.session_channel(session, NotificationTopic::Log),
            inbox_channel: self.keys.session_channel(session, NotificationTopic::Inbox),
            only_if_idle: condition == DeletionCondition::OnlyIfIdle,
        };
        let reply = self.writes.run_script(&delete).await?;
        match reply {
            DeleteReply::Busy => return Ok(IdleDeletion::Busy),
            DeleteReply::LogMissing => return Err(missing_log(session)),
            DeleteReply::Deleted | DeleteReply::NotFound => {}
        }
        // The session is gone. Entries that cannot be removed now are removed when they are read.
        let removed = match &user {
            Some(user) => self.registry.remove_session(user, session).await,
            None => Ok(()),
        };
        let unscheduled = self.registry.unschedule_session(session).await;
        for error in [removed, unscheduled].into_iter().filter_map(Result::err) {
            tracing::debug!(%session, %error, "entry of deleted session not removed");
        }
        if reply == DeleteReply::NotFound { Err(StoreError::NotFound(session)) } else { Ok(IdleDeletion::Deleted) }
    }
}
