//! The ports, implemented by the files of the store.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    session_files::DeletionGuard,
    store::{FilesystemStore, StoreFiles},
    work_queue::wait_in_work,
};
use crate::user_memory_set::find_nearest_in_set;
use k8sops_core::{
    ClaimedSessions, CommandId, CommandReceipt, DailyUsage, DamagedSession, EmbeddingVector, EventPage, ExpiringRecord,
    IdleDeletion, Inbox, InboxEntry, LeaseEpoch, LeaseRenewal, Leases, ListCursor, LogCommit, LogLineage, MemoryChange,
    MemoryId, MemoryStore, MemoryVersion, MemoryWrite, NewCommandCommit, OutputPart, OutputStore, OwnSessions,
    RecordGroup, RecordId, RecordInsertion, RecordStore, RemainingWork, ReplayStart, SessionCommand, SessionEvent,
    SessionId, SessionIndex, SessionLease, SessionLog, SessionState, SessionStore, SessionSummary, StoreError,
    ToolCallId, UsageDay, UsageStore, UserDailyUsage, UserId, UserMemories, WriteConfirmation,
};

#[async_trait]
impl SessionStore for FilesystemStore {
    fn backend_name(&self) -> &'static str {
        "filesystem"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.with_files(StoreFiles::check_access).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.with_files(|files| {
            files.sessions.journal().empty();
            Ok(())
        })
        .await
    }
}

/// A write is on the disk (`fsync`) when it returns.
impl WriteConfirmation for FilesystemStore {}

/// A commit that is written on another thread.
struct OwnedCommit {
    session: SessionId,
    epoch: LeaseEpoch,
    expected_seq: u64,
    events: Vec<Arc<SessionEvent>>,
    consumed: Vec<u64>,
    summary: SessionSummary,
    checkpoint: Option<SessionState>,
}

impl OwnedCommit {
    fn new(commit: &LogCommit<'_>) -> Self {
        Self {
            session: commit.session,
            epoch: commit.epoch,
            expected_seq: commit.expected_seq,
            events: commit.events.to_vec(),
            consumed: commit.consumed.to_vec(),
            summary: commit.summary.clone(),
            checkpoint: commit.checkpoint.cloned(),
        }
    }

    fn as_commit(&self) -> LogCommit<'_> {
        LogCommit {
            session: self.session,
            epoch: self.epoch,
            expected_seq: self.expected_seq,
            expected_lineage: None,
            events: &self.events,
            consumed: &self.consumed,
            summary: &self.summary,
            checkpoint: self.checkpoint.as_ref(),
        }
    }
}

#[async_trait]
impl SessionLog for FilesystemStore {
    async fn create_session(&self, created: &SessionEvent) -> Result<(), StoreError> {
        let created = created.clone();
        self.with_files(move |files| files.sessions.create_session(&created)).await
    }

    async fn commit_events(&self, commit: LogCommit<'_>) -> Result<Option<LogLineage>, StoreError> {
        let commit = OwnedCommit::new(&commit);
        self.write_session(commit.session, move |file, retention, journal| {
            let commit = commit.as_commit();
            let mut stage = || file.stage_commit(&commit, retention, journal);
            // A checkpoint may be large.
            if commit.checkpoint.is_some() { wait_in_work(stage) } else { stage() }
        })
        .await?;
        // One process has the files to itself, so no feed can be ahead of them.
        Ok(None)
    }

    async fn commit_new_command(
        &self,
        commit: LogCommit<'_>,
        command: &SessionCommand,
    ) -> Result<NewCommandCommit, StoreError> {
        let (commit, command) = (OwnedCommit::new(&commit), command.clone());
        self.write_session(commit.session, move |file, _, journal| {
            file.stage_new_command(&commit.as_commit(), &command, journal)
        })
        .await
    }

    async fn read_events(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        match self.find_view(session).and_then(|view| view.page_after(after)) {
            Some(page) => Ok(page),
            None => self.with_files(move |files| files.sessions.read_events(session, after, limit)).await,
        }
    }

    async fn read_oldest_seq(&self, session: SessionId) -> Result<u64, StoreError> {
        match self.find_view(session) {
            Some(view) => Ok(view.oldest_seq),
            None => self.read_events(session, 0, 1).await?.first_kept_seq(session),
        }
    }

    async fn read_checkpoint(&self, session: SessionId) -> Result<Option<SessionState>, StoreError> {
        self.with_session(session, |file| file.read_checkpoint()).await
    }

    async fn read_replay_start(&self, session: SessionId) -> Result<ReplayStart, StoreError> {
        self.with_session_queued(session, |file| file.read_replay_start()).await
    }

    async fn keep_state(&self, lease: SessionLease, state: SessionState) -> Result<(), StoreError> {
        self.with_session_queued(lease.session, move |file| {
            file.keep_state(state);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Inbox for FilesystemStore {
    async fn submit_command(&self, session: SessionId, command: SessionCommand) -> Result<CommandReceipt, StoreError> {
        self.write_session(session, move |file, _, journal| file.stage_command(command, journal)).await
    }

    async fn find_receipt(
        &self,
        session: SessionId,
        by: &UserId,
        command: &CommandId,
    ) -> Result<Option<CommandReceipt>, StoreError> {
        let by = by.clone();
        let command = command.clone();
        self.with_session_queued(session, move |file| Ok(file.inbox.find_receipt(&by, &command))).await
    }

    async fn list_inbox(&self, session: SessionId) -> Result<Vec<InboxEntry>, StoreError> {
        let entries = match self.find_view(session) {
            Some(view) => view.inbox.clone(),
            None => self.with_session(session, |file| Ok(file.inbox.entries.clone())).await?,
        };
        Ok(entries.iter().map(|entry| InboxEntry::clone(entry)).collect())
    }
}

#[async_trait]
impl Leases for FilesystemStore {
    async fn acquire_lease(&self, session: SessionId, owner: &str, ttl: Duration) -> Result<SessionLease, StoreError> {
        let owner = owner.to_owned();
        self.with_files_queued(move |files| files.sessions.acquire_lease(session, &owner, ttl)).await
    }

    async fn renew_lease(&self, lease: SessionLease, ttl: Duration) -> Result<LeaseRenewal, StoreError> {
        self.with_session_queued(lease.session, move |file| file.lease.renew(lease, ttl)).await
    }

    async fn release_lease(&self, lease: SessionLease) -> Result<RemainingWork, StoreError> {
        self.with_files_queued(move |files| files.sessions.release_lease(lease)).await
    }
}

#[async_trait]
impl SessionIndex for FilesystemStore {
    async fn read_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        match self.find_view(session) {
            Some(view) => Ok(Some(view.summary.clone())),
            None => self.with_files(move |files| files.sessions.read_summary(session)).await,
        }
    }

    async fn list_sessions(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        let user = user.clone();
        self.with_files(move |files| files.sessions.list_sessions(&user, after, limit)).await
    }

    async fn count_sessions(&self, user: &UserId) -> Result<usize, StoreError> {
        Ok(self.files().sessions.count_sessions(user))
    }

    async fn delete_session(&self, session: SessionId) -> Result<(), StoreError> {
        let guard = DeletionGuard::Unconditional;
        self.with_files(move |files| files.sessions.delete_session(session, guard, &files.outputs)).await.map(drop)
    }

    async fn delete_idle_session(&self, session: SessionId) -> Result<IdleDeletion, StoreError> {
        let guard = DeletionGuard::SpareBusy;
        self.with_files(move |files| files.sessions.delete_session(session, guard, &files.outputs)).await
    }

    async fn claim_unfinished_sessions(&self, _own: OwnSessions<'_>) -> Result<ClaimedSessions, StoreError> {
        Ok(ClaimedSessions { sessions: self.files().sessions.unfinished_sessions(), next_due: None })
    }

    async fn list_damaged_sessions(&self) -> Result<Vec<DamagedSession>, StoreError> {
        self.with_files(|files| Ok(files.sessions.damaged_sessions())).await
    }
}

#[async_trait]
impl OutputStore for FilesystemStore {
    async fn deployment_key(&self) -> Result<[u8; 32], StoreError> {
        self.with_files(|files| files.outputs.deployment_key()).await
    }

    async fn save_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        output: Arc<str>,
        session_limit: usize,
    ) -> Result<u64, StoreError> {
        let call = call.clone();
        self.with_files(move |files| {
            // Under the session's lock, so that a concurrent deletion leaves no output behind.
            files.sessions.with_session(session, |_| files.outputs.save_output(session, &call, &output, session_limit))
        })
        .await
    }

    async fn read_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<Option<OutputPart>, StoreError> {
        let call = call.clone();
        self.with_files(move |files| files.outputs.read_output(session, &call, offset, limit)).await
    }
}

#[async_trait]
impl UsageStore for FilesystemStore {
    async fn record_usage(&self, user: &UserId, session: SessionId, usage: &DailyUsage) -> Result<(), StoreError> {
        let user = user.clone();
        let usage = usage.clone();
        self.with_files_queued(move |files| files.usage.record_usage(&user, session, &usage)).await
    }

    async fn read_usage(&self, user: &UserId, days: &[UsageDay]) -> Result<Vec<UserDailyUsage>, StoreError> {
        let user = user.clone();
        let days = days.to_vec();
        self.with_files(move |files| days.iter().map(|day| files.usage.read_usage(&user, *day)).collect()).await
    }
}

#[async_trait]
impl MemoryStore for FilesystemStore {
    async fn write_memories(
        &self,
        user: &UserId,
        version: MemoryVersion,
        changes: &[MemoryChange],
    ) -> Result<MemoryWrite, StoreError> {
        let user = user.clone();
        let changes = changes.to_vec();
        self.with_files(move |files| files.memories.write_memories(&user, version, &changes)).await
    }

    async fn read_memories(&self, user: &UserId) -> Result<UserMemories, StoreError> {
        let user = user.clone();
        self.with_files(move |files| files.memories.read_memories(&user)).await
    }

    async fn find_nearest_memories(
        &self,
        user: &UserId,
        to: &EmbeddingVector,
        limit: usize,
    ) -> Result<Vec<(MemoryId, f32)>, StoreError> {
        let user = user.clone();
        let set = self.with_files(move |files| files.memories.load_set(&user)).await?;
        find_nearest_in_set(set, to, limit).await
    }

    async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        let user = user.clone();
        self.with_files(move |files| files.memories.delete_memory(&user, id)).await
    }

    async fn delete_all_memories(&self, user: &UserId) -> Result<usize, StoreError> {
        let user = user.clone();
        self.with_files(move |files| files.memories.delete_all_memories(&user)).await
    }
}

#[async_trait]
impl RecordStore for FilesystemStore {
    async fn insert_record(&self, group: &RecordGroup, record: &ExpiringRecord) -> Result<RecordInsertion, StoreError> {
        let (group, record) = (group.clone(), record.clone());
        self.with_files(move |files| files.records.insert_record(&group, &record)).await
    }

    async fn replace_record(&self, group: &RecordGroup, record: &ExpiringRecord) -> Result<(), StoreError> {
        let (group, record) = (group.clone(), record.clone());
        self.with_files(move |files| files.records.replace_record(&group, &record)).await
    }

    async fn read_record(&self, group: &RecordGroup, id: &RecordId) -> Result<Option<ExpiringRecord>, StoreError> {
        let (group, id) = (group.clone(), id.clone());
        self.with_files(move |files| files.records.read_record(&group, &id)).await
    }

    async fn take_record(&self, group: &RecordGroup, id: &RecordId) -> Result<Option<ExpiringRecord>, StoreError> {
        let (group, id) = (group.clone(), id.clone());
        self.with_files(move |files| files.records.take_record(&group, &id)).await
    }

    async fn list_records(&self, group: &RecordGroup) -> Result<Vec<ExpiringRecord>, StoreError> {
        let group = group.clone();
        self.with_files(move |files| files.records.list_records(&group)).await
    }
}
