//! A store whose writes a test can delay, count or fail. A test double implements [`StoreHooks`] and not the ports.

use std::{ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8sops_core::{
    ClaimedSessions, CommandId, CommandReceipt, ConfirmableWrite, DailyUsage, DamagedSession, EmbeddingVector,
    EventPage, ExpiringRecord, IdleDeletion, Inbox, InboxEntry, LeaseRenewal, Leases, ListCursor, LogCommit,
    LogLineage, LostBranch, LostMessages, MemoryChange, MemoryId, MemoryStore, MemoryVersion, MemoryWrite,
    NewCommandCommit, Notifications, OutputPart, OutputStore, OwnSessions, RecordGroup, RecordId, RecordInsertion,
    RecordStore, RemainingWork, ReplayStart, SessionCommand, SessionEvent, SessionId, SessionIndex, SessionLease,
    SessionLog, SessionState, SessionStore, SessionSummary, StoreError, ToolCallId, UpkeepClaim, UsageDay, UsageStore,
    UserDailyUsage, UserId, UserMemories, WriteConfirmation,
};

/// A write that passes the hooks.
#[derive(Debug, Clone, Copy)]
pub enum StoreWrite<'a> {
    /// [`SessionLog::create_session`].
    Create,
    /// [`SessionLog::commit_events`] and [`SessionLog::commit_new_command`].
    Commit(&'a LogCommit<'a>),
    /// [`Inbox::submit_command`].
    Submit,
    /// [`WriteConfirmation::confirm_write`].
    Confirm(ConfirmableWrite<'a>),
    /// [`SessionIndex::delete_session`].
    Delete,
    /// [`SessionLog::report_lost_branch`].
    ReportLoss,
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

    /// Notifications in place of those of the wrapped store.
    fn notifications(&self) -> Option<&dyn Notifications> {
        None
    }
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

    /// Returns the wrapped store.
    pub fn inner(&self) -> &S {
        &self.inner
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
        self.hooks.notifications().or_else(|| self.inner.notifications())
    }
    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}

/// Implements a port for [`HookedStore`]: each method forwards to the wrapped store. A method that is `hooked as` a write calls
/// the hooks before and after it.
macro_rules! forward_port {
    ($port:ident {
        $(fn $method:ident($($argument:ident: $type:ty),*) -> $output:ty $(, hooked as $write:expr)?;)*
    }) => {
        #[async_trait]
        impl<S: SessionStore, H: StoreHooks> $port for HookedStore<S, H> {
            $(
                async fn $method(&self $(, $argument: $type)*) -> Result<$output, StoreError> {
                    $(self.hooks.before_write($write).await?;)?
                    let output = self.inner.$method($($argument),*).await?;
                    $(self.hooks.after_write($write).await;)?
                    Ok(output)
                }
            )*
        }
    };
}

forward_port!(SessionLog {
    fn create_session(created: &SessionEvent) -> (), hooked as StoreWrite::Create;
    fn commit_events(commit: LogCommit<'_>) -> Option<LogLineage>, hooked as StoreWrite::Commit(&commit);
    fn commit_new_command(commit: LogCommit<'_>, command: &SessionCommand) -> NewCommandCommit,
        hooked as StoreWrite::Commit(&commit);
    fn read_events(session: SessionId, after: u64, limit: usize) -> EventPage;
    fn read_checkpoint(session: SessionId) -> Option<SessionState>;
    fn read_replay_start(session: SessionId) -> ReplayStart;
    fn keep_state(lease: SessionLease, state: SessionState) -> ();
    fn report_lost_branch(session: SessionId, lost: &LostBranch) -> (), hooked as StoreWrite::ReportLoss;
});

forward_port!(Inbox {
    fn submit_command(session: SessionId, command: SessionCommand) -> CommandReceipt, hooked as StoreWrite::Submit;
    fn find_receipt(session: SessionId, by: &UserId, command: &CommandId) -> Option<CommandReceipt>;
    fn list_inbox(session: SessionId) -> Vec<InboxEntry>;
    fn find_lost_messages(session: SessionId) -> LostMessages;
});

forward_port!(WriteConfirmation {
    fn confirm_write(session: SessionId, write: ConfirmableWrite<'_>) -> (), hooked as StoreWrite::Confirm(write);
});

forward_port!(Leases {
    fn acquire_lease(session: SessionId, owner: &str, ttl: Duration) -> SessionLease;
    fn renew_lease(lease: SessionLease, ttl: Duration) -> LeaseRenewal;
    fn release_lease(lease: SessionLease) -> RemainingWork;
});

forward_port!(SessionIndex {
    fn read_summary(session: SessionId) -> Option<SessionSummary>;
    fn list_sessions(user: &UserId, after: Option<ListCursor>, limit: usize) -> Vec<SessionSummary>;
    fn count_sessions(user: &UserId) -> usize;
    fn delete_session(session: SessionId) -> (), hooked as StoreWrite::Delete;
    fn delete_idle_session(session: SessionId) -> IdleDeletion;
    fn claim_unfinished_sessions(own: OwnSessions<'_>) -> ClaimedSessions;
    fn list_damaged_sessions() -> Vec<DamagedSession>;
});

forward_port!(OutputStore {
    fn deployment_key() -> [u8; 32];
    fn save_output(session: SessionId, call: &ToolCallId, output: Arc<str>, session_limit: usize) -> u64;
    fn read_output(session: SessionId, call: &ToolCallId, offset: u64, limit: usize) -> Option<OutputPart>;
});

forward_port!(UsageStore {
    fn record_usage(user: &UserId, session: SessionId, usage: &DailyUsage) -> ();
    fn close_session_usage(user: &UserId, session: SessionId) -> ();
    fn read_usage(user: &UserId, days: &[UsageDay]) -> Vec<UserDailyUsage>;
});

forward_port!(MemoryStore {
    fn write_memories(user: &UserId, version: MemoryVersion, changes: &[MemoryChange]) -> MemoryWrite;
    fn read_memories(user: &UserId) -> UserMemories;
    fn find_nearest_memories(user: &UserId, to: &EmbeddingVector, limit: usize) -> Vec<(MemoryId, f32)>;
    fn claim_embedding_upkeep(user: &UserId, holder: &str, ttl: Duration) -> UpkeepClaim;
    fn release_embedding_upkeep(user: &UserId, holder: &str) -> ();
    fn delete_memory(user: &UserId, id: MemoryId) -> bool;
    fn delete_all_memories(user: &UserId) -> usize;
});

forward_port!(RecordStore {
    fn insert_record(group: &RecordGroup, record: &ExpiringRecord) -> RecordInsertion;
    fn replace_record(group: &RecordGroup, record: &ExpiringRecord) -> ();
    fn read_record(group: &RecordGroup, id: &RecordId) -> Option<ExpiringRecord>;
    fn take_record(group: &RecordGroup, id: &RecordId) -> Option<ExpiringRecord>;
    fn list_records(group: &RecordGroup) -> Vec<ExpiringRecord>;
});
