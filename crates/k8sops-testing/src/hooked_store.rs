//! A store whose writes a test can delay, count or fail. A test double implements [`StoreHooks`] and not the ports.

use std::{ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8sops_core::{
    CommandId, CommandReceipt, DailyUsage, DamagedSession, EmbeddingVector, EventPage, IdleDeletion, Inbox, InboxEntry,
    Leases, ListCursor, LogCommit, MemoryChange, MemoryId, MemoryStore, MemoryVersion, MemoryWrite, Notifications,
    OutputPart, OutputStore, RemainingWork, SessionCommand, SessionEvent, SessionId, SessionIndex, SessionLease,
    SessionLog, SessionState, SessionStore, SessionSummary, StoreError, ToolCallId, UpkeepClaim, UsageDay, UsageStore,
    UserDailyUsage, UserId, UserMemories,
};

/// A write that passes the hooks.
#[derive(Debug, Clone, Copy)]
pub enum StoreWrite<'a> {
    /// [`SessionLog::create_session`].
    Create,
    /// [`SessionLog::commit_events`].
    Commit(&'a LogCommit<'a>),
    /// [`Inbox::submit_command`].
    Submit,
    /// [`SessionIndex::delete_session`].
    Delete,
}

/// What a test does around the writes of a store.
#[async_trait]
pub trait StoreHooks: Send + Sync + 'static {
    /// Called before a write. An error is returned in place of the write.
    async fn before_write(&self, _write: StoreWrite<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Called after a write that succeeded, before its caller gets the answer.
    async fn after_write(&self, _write: StoreWrite<'_>) {}
}

/// A store with hooks; dereferences to the hooks.
pub struct HookedStore<S, H> {
    inner: S,
    hooks: H,
}

impl<S, H> HookedStore<S, H> {
    /// Wraps a store.
    pub fn new(inner: S, hooks: H) -> Arc<Self> {
        Arc::new(Self { inner, hooks })
    }
}

impl<S, H> Deref for HookedStore<S, H> {
    type Target = H;
    fn deref(&self) -> &H {
        &self.hooks
    }
}

#[async_trait]
impl<S: SessionStore, H: StoreHooks> SessionStore for HookedStore<S, H> {
    fn backend_name(&self) -> &'static str {
        self.inner.backend_name()
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
    fn notifications(&self) -> Option<&dyn Notifications> {
        self.inner.notifications()
    }
}

#[async_trait]
impl<S: SessionStore, H: StoreHooks> SessionLog for HookedStore<S, H> {
    async fn create_session(&self, created: &SessionEvent) -> Result<(), StoreError> {
        self.hooks.before_write(StoreWrite::Create).await?;
        self.inner.create_session(created).await?;
        self.hooks.after_write(StoreWrite::Create).await;
        Ok(())
    }
    async fn commit_events(&self, commit: LogCommit<'_>) -> Result<(), StoreError> {
        self.hooks.before_write(StoreWrite::Commit(&commit)).await?;
        self.inner.commit_events(LogCommit { ..commit }).await?;
        self.hooks.after_write(StoreWrite::Commit(&commit)).await;
        Ok(())
    }
    async fn read_events(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        self.inner.read_events(session, after, limit).await
    }
    async fn read_checkpoint(&self, session: SessionId) -> Result<Option<SessionState>, StoreError> {
        self.inner.read_checkpoint(session).await
    }
}

#[async_trait]
impl<S: SessionStore, H: StoreHooks> Inbox for HookedStore<S, H> {
    async fn submit_command(&self, session: SessionId, command: SessionCommand) -> Result<CommandReceipt, StoreError> {
        self.hooks.before_write(StoreWrite::Submit).await?;
        let receipt = self.inner.submit_command(session, command).await?;
        self.hooks.after_write(StoreWrite::Submit).await;
        Ok(receipt)
    }
    async fn find_receipt(
        &self,
        session: SessionId,
        by: &UserId,
        command: &CommandId,
    ) -> Result<Option<CommandReceipt>, StoreError> {
        self.inner.find_receipt(session, by, command).await
    }
    async fn list_inbox(&self, session: SessionId) -> Result<Vec<InboxEntry>, StoreError> {
        self.inner.list_inbox(session).await
    }
}

#[async_trait]
impl<S: SessionStore, H: StoreHooks> Leases for HookedStore<S, H> {
    async fn acquire_lease(&self, session: SessionId, owner: &str, ttl: Duration) -> Result<SessionLease, StoreError> {
        self.inner.acquire_lease(session, owner, ttl).await
    }
    async fn renew_lease(&self, lease: SessionLease, ttl: Duration) -> Result<(), StoreError> {
        self.inner.renew_lease(lease, ttl).await
    }
    async fn release_lease(&self, lease: SessionLease) -> Result<RemainingWork, StoreError> {
        self.inner.release_lease(lease).await
    }
}

#[async_trait]
impl<S: SessionStore, H: StoreHooks> SessionIndex for HookedStore<S, H> {
    async fn read_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        self.inner.read_summary(session).await
    }
    async fn list_sessions(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        self.inner.list_sessions(user, after, limit).await
    }
    async fn count_sessions(&self, user: &UserId) -> Result<usize, StoreError> {
        self.inner.count_sessions(user).await
    }
    async fn delete_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.hooks.before_write(StoreWrite::Delete).await?;
        self.inner.delete_session(session).await?;
        self.hooks.after_write(StoreWrite::Delete).await;
        Ok(())
    }
    async fn delete_idle_session(&self, session: SessionId) -> Result<IdleDeletion, StoreError> {
        self.inner.delete_idle_session(session).await
    }
    async fn claim_unfinished_sessions(&self) -> Result<Vec<SessionId>, StoreError> {
        self.inner.claim_unfinished_sessions().await
    }
    async fn list_damaged_sessions(&self) -> Result<Vec<DamagedSession>, StoreError> {
        self.inner.list_damaged_sessions().await
    }
}

#[async_trait]
impl<S: SessionStore, H: StoreHooks> OutputStore for HookedStore<S, H> {
    async fn deployment_key(&self) -> Result<[u8; 32], StoreError> {
        self.inner.deployment_key().await
    }
    async fn save_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        output: Arc<str>,
        session_limit: usize,
    ) -> Result<u64, StoreError> {
        self.inner.save_output(session, call, output, session_limit).await
    }
    async fn read_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<Option<OutputPart>, StoreError> {
        self.inner.read_output(session, call, offset, limit).await
    }
}

#[async_trait]
impl<S: SessionStore, H: StoreHooks> UsageStore for HookedStore<S, H> {
    async fn record_usage(&self, user: &UserId, session: SessionId, usage: &DailyUsage) -> Result<(), StoreError> {
        self.inner.record_usage(user, session, usage).await
    }
    async fn close_session_usage(&self, user: &UserId, session: SessionId) -> Result<(), StoreError> {
        self.inner.close_session_usage(user, session).await
    }
    async fn read_usage(&self, user: &UserId, days: &[UsageDay]) -> Result<Vec<UserDailyUsage>, StoreError> {
        self.inner.read_usage(user, days).await
    }
}

#[async_trait]
impl<S: SessionStore, H: StoreHooks> MemoryStore for HookedStore<S, H> {
    async fn write_memories(
        &self,
        user: &UserId,
        version: MemoryVersion,
        changes: &[MemoryChange],
    ) -> Result<MemoryWrite, StoreError> {
        self.inner.write_memories(user, version, changes).await
    }
    async fn read_memories(&self, user: &UserId) -> Result<UserMemories, StoreError> {
        self.inner.read_memories(user).await
    }
    async fn find_nearest_memories(
        &self,
        user: &UserId,
        to: &EmbeddingVector,
        limit: usize,
    ) -> Result<Vec<(MemoryId, f32)>, StoreError> {
        self.inner.find_nearest_memories(user, to, limit).await
    }
    async fn claim_embedding_upkeep(
        &self,
        user: &UserId,
        holder: &str,
        ttl: Duration,
    ) -> Result<UpkeepClaim, StoreError> {
        self.inner.claim_embedding_upkeep(user, holder, ttl).await
    }
    async fn release_embedding_upkeep(&self, user: &UserId, holder: &str) -> Result<(), StoreError> {
        self.inner.release_embedding_upkeep(user, holder).await
    }
    async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        self.inner.delete_memory(user, id).await
    }
    async fn delete_all_memories(&self, user: &UserId) -> Result<usize, StoreError> {
        self.inner.delete_all_memories(user).await
    }
}
