//! Sessions in the memory of the process, for tests and for trying out. They are lost with the process.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    inbox_state::{CommandAdmission, InboxState},
    lease_state::LeaseState,
    log_retention::LogRetention,
    output_limit::{count_outputs_to_drop, truncate_output},
    record_map::RecordMap,
    user_memory_set::{UserMemorySet, find_nearest_in_set},
};
use k8sops_core::{
    ClaimedSessions, CommandId, CommandReceipt, DailyUsage, EmbeddingVector, EventPage, ExpiringRecord, IdleDeletion,
    Inbox, InboxEntry, LeaseRenewal, Leases, ListCursor, LogCommit, LogLineage, LostBranch, MemoryChange, MemoryId,
    MemoryStore, MemoryVersion, MemoryWrite, NewCommandCommit, OutputPart, OutputStore, OwnSessions, RecordGroup,
    RecordId, RecordInsertion, RecordStore, RemainingWork, SessionCommand, SessionEvent, SessionId, SessionIndex,
    SessionLease, SessionLog, SessionState, SessionStore, SessionSummary, StoreError, ToolCallId, USAGE_RETENTION_DAYS,
    UsageDay, UsageStore, UserDailyUsage, UserId, UserMemories, WriteConfirmation,
};

/// Sessions in the memory of the process.
#[derive(Debug, Default)]
pub struct InMemoryStore {
    retention: LogRetention,
    // All locks are held for look-ups and insertions, never across an await.
    sessions: Mutex<HashMap<SessionId, StoredSession>>,
    deployment_key: OnceLock<[u8; 32]>,
    usage: Mutex<BTreeMap<(UserId, UsageDay), UserDailyUsage>>,
    memories: Mutex<HashMap<UserId, Arc<Mutex<UserMemorySet>>>>,
    records: RecordMap,
}

#[derive(Debug)]
struct StoredSession {
    summary: SessionSummary,
    /// The events that are kept.
    log: Vec<StoredEvent>,
    oldest_seq: u64,
    /// The chain value at the newest event.
    head_lineage: Option<LogLineage>,
    /// What was reported of events that were lost, until the log says it.
    lost_branch: Option<LostBranch>,
    checkpoint: Option<SessionState>,
    inbox: InboxState,
    lease: LeaseState,
    /// Whole outputs of tool calls, the oldest first.
    outputs: Vec<(ToolCallId, Arc<str>)>,
}

#[derive(Debug)]
struct StoredEvent {
    event: Arc<SessionEvent>,
    /// The chain values before and after the event.
    before: Option<LogLineage>,
    after: LogLineage,
}

impl StoredEvent {
    fn new(event: Arc<SessionEvent>, before: Option<LogLineage>) -> Self {
        let json = serde_json::to_vec(&event).expect("events have string keys and no failing Serialize");
        Self { after: LogLineage::extend(before, &json), event, before }
    }
}

impl StoredSession {
    fn complete_summary(&self) -> SessionSummary {
        self.inbox.complete_summary(&self.summary)
    }

    fn is_unfinished(&self) -> bool {
        self.summary.has_work() || !self.inbox.entries.is_empty()
    }

    fn is_busy(&self) -> bool {
        self.summary.open_run.is_some() || !self.inbox.entries.is_empty()
    }

    /// See [`SessionLog::commit_events`].
    fn commit_events(
        &mut self,
        commit: &LogCommit<'_>,
        retention: LogRetention,
    ) -> Result<Option<LogLineage>, StoreError> {
        let session = commit.session;
        self.lease.check_commit(commit, self.summary.last_seq)?;
        if commit.expected_lineage.is_some() && commit.expected_lineage != self.head_lineage {
            return Err(StoreError::Forked { session, seq: commit.expected_seq });
        }
        let lost_seq = self.lost_branch.as_ref().map_or(0, |lost| lost.known_seq);
        if commit.events.first().is_some_and(|first| first.seq <= lost_seq) {
            return Err(StoreError::Forked { session, seq: lost_seq });
        }
        if let Some(lost) = self.lost_branch.take_if(|_| commit.says_lost())
            && !commit.says_all_of(&lost)
        {
            self.lost_branch = Some(lost);
            return Err(StoreError::Forked { session, seq: commit.expected_seq });
        }
        if let Some(state) = commit.checkpoint {
            if retention == LogRetention::SinceCheckpoint {
                self.log.retain(|stored| stored.event.seq > state.last_seq());
                self.oldest_seq = state.last_seq() + 1;
            }
            self.checkpoint = Some(state.clone());
        }
        for event in commit.events {
            let next = StoredEvent::new(event.clone(), self.head_lineage);
            self.head_lineage = Some(next.after);
            self.log.push(next);
        }
        self.inbox.remove_entries(commit.consumed);
        self.summary.clone_from(commit.summary);
        Ok(self.head_lineage)
    }
}

impl InMemoryStore {
    /// An empty store that keeps this much of logs. [`InMemoryStore::default`] keeps whole logs.
    #[must_use]
    pub fn new(retention: LogRetention) -> Self {
        Self { retention, ..Self::default() }
    }

    fn with_session<T>(
        &self,
        session: SessionId,
        work: impl FnOnce(&mut StoredSession) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        work(self.sessions.lock().get_mut(&session).ok_or(StoreError::NotFound(session))?)
    }

    /// Loses all events after `last_seq`, as a Redis does whose lagging replica is promoted.
    ///
    /// # Panics
    /// The session does not exist, or the events before are not kept.
    #[cfg(feature = "contract")]
    pub fn lose_events_after(&self, session: SessionId, last_seq: u64) {
        let mut sessions = self.sessions.lock();
        let stored = sessions.get_mut(&session).expect("the session exists");
        stored.log.retain(|stored| stored.event.seq <= last_seq);
        stored.head_lineage = stored.log.last().map(|stored| stored.after);
        stored.checkpoint.take_if(|state| state.last_seq() > last_seq);
        let state = SessionState::fold_events(None, stored.log.iter().map(|stored| stored.event.as_ref()));
        stored.summary = state.expect("the log begins with session_created").summary;
    }

    fn memory_set(&self, user: &UserId) -> Arc<Mutex<UserMemorySet>> {
        Arc::clone(self.memories.lock().entry(user.clone()).or_default())
    }
}

#[async_trait]
impl SessionStore for InMemoryStore {
    fn backend_name(&self) -> &'static str {
        "memory"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Nothing survives the process, so that there is nothing to wait for.
impl WriteConfirmation for InMemoryStore {}

#[async_trait]
impl SessionLog for InMemoryStore {
    async fn create_session(&self, created: &SessionEvent) -> Result<(), StoreError> {
        let session = created.session_id;
        let summary = SessionSummary::from_first_event(created)
            .ok_or_else(|| StoreError::Corrupt("the first event of a session must be session_created".into()))?;
        let mut sessions = self.sessions.lock();
        if sessions.contains_key(&session) {
            return Err(StoreError::Exists(session));
        }
        let first = StoredEvent::new(Arc::new(created.clone()), None);
        let stored = StoredSession {
            summary,
            head_lineage: Some(first.after),
            log: vec![first],
            oldest_seq: 1,
            lost_branch: None,
            checkpoint: None,
            inbox: InboxState::default(),
            lease: LeaseState::after_epoch(0),
            outputs: Vec::new(),
        };
        sessions.insert(session, stored);
        Ok(())
    }

    async fn commit_events(&self, commit: LogCommit<'_>) -> Result<Option<LogLineage>, StoreError> {
        self.with_session(commit.session, |stored| stored.commit_events(&commit, self.retention))
    }

    async fn commit_new_command(
        &self,
        commit: LogCommit<'_>,
        command: &SessionCommand,
    ) -> Result<NewCommandCommit, StoreError> {
        self.with_session(commit.session, |stored| {
            stored.lease.check_commit(&commit, stored.summary.last_seq)?;
            let Some(entry) = stored.inbox.check_new_command(&commit, command) else {
                return Ok(NewCommandCommit::Declined);
            };
            let lineage = stored.commit_events(&commit, self.retention)?;
            let position = entry.position;
            let receipt = stored.inbox.append_entry(entry);
            stored.inbox.remove_entries(&[position]);
            Ok(NewCommandCommit::Committed { receipt, lineage })
        })
    }

    async fn read_events(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        self.with_session(session, |stored| {
            let start = stored.log.partition_point(|stored| stored.event.seq <= after);
            let page = &stored.log[start..][..limit.max(1).min(stored.log.len() - start)];
            Ok(EventPage {
                events: page.iter().map(|stored| stored.event.clone()).collect(),
                lineage_before: page.first().and_then(|stored| stored.before),
                lineage_after: page.last().map(|stored| stored.after),
                head_lineage: stored.head_lineage,
                lost_branch: stored.lost_branch.clone(),
                last_seq: stored.summary.last_seq,
                oldest_seq: stored.oldest_seq,
            })
        })
    }

    async fn read_checkpoint(&self, session: SessionId) -> Result<Option<SessionState>, StoreError> {
        self.with_session(session, |stored| Ok(stored.checkpoint.clone()))
    }

    async fn report_lost_branch(&self, session: SessionId, lost: &LostBranch) -> Result<(), StoreError> {
        self.with_session(session, |stored| {
            stored.lost_branch.get_or_insert_default().merge(lost.clone());
            Ok(())
        })
    }
}

#[async_trait]
impl Inbox for InMemoryStore {
    async fn submit_command(&self, session: SessionId, command: SessionCommand) -> Result<CommandReceipt, StoreError> {
        self.with_session(session, |stored| {
            let has_open_run = stored.summary.open_run.is_some();
            match stored.inbox.check_command(session, command, stored.summary.last_seq, has_open_run)? {
                CommandAdmission::Known(receipt) => Ok(receipt),
                CommandAdmission::Accepted(entry) => Ok(stored.inbox.append_entry(*entry)),
            }
        })
    }

    async fn find_receipt(
        &self,
        session: SessionId,
        by: &UserId,
        command: &CommandId,
    ) -> Result<Option<CommandReceipt>, StoreError> {
        self.with_session(session, |stored| Ok(stored.inbox.find_receipt(by, command)))
    }

    async fn list_inbox(&self, session: SessionId) -> Result<Vec<InboxEntry>, StoreError> {
        self.with_session(session, |stored| {
            Ok(stored.inbox.entries.iter().map(|entry| InboxEntry::clone(entry)).collect())
        })
    }
}

#[async_trait]
impl Leases for InMemoryStore {
    async fn acquire_lease(&self, session: SessionId, owner: &str, ttl: Duration) -> Result<SessionLease, StoreError> {
        self.with_session(session, |stored| stored.lease.acquire(session, owner, ttl, 0))
    }

    async fn renew_lease(&self, lease: SessionLease, ttl: Duration) -> Result<LeaseRenewal, StoreError> {
        self.with_session(lease.session, |stored| stored.lease.renew(lease, ttl))
    }

    async fn release_lease(&self, lease: SessionLease) -> Result<RemainingWork, StoreError> {
        let released = self.with_session(lease.session, |stored| {
            let has_work = stored.lease.release_if_newest(lease) && stored.is_unfinished();
            Ok(if has_work { RemainingWork::Unfinished } else { RemainingWork::None })
        });
        match released {
            Err(StoreError::NotFound(_)) => Ok(RemainingWork::None),
            released => released,
        }
    }
}

#[async_trait]
impl SessionIndex for InMemoryStore {
    async fn read_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        Ok(self.sessions.lock().get(&session).map(StoredSession::complete_summary))
    }

    async fn list_sessions(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        let key = |summary: &SessionSummary| (summary.updated_at, summary.session_id);
        let after = after.map(|cursor| (cursor.updated_at, cursor.session_id));
        let sessions = self.sessions.lock();
        let of_user = sessions.values().filter(|stored| &stored.summary.user_id == user);
        let mut listed: Vec<_> = of_user.filter(|s| after.is_none_or(|after| key(&s.summary) < after)).collect();
        listed.sort_by_key(|stored| Reverse(key(&stored.summary)));
        Ok(listed.into_iter().take(limit).map(StoredSession::complete_summary).collect())
    }

    async fn count_sessions(&self, user: &UserId) -> Result<usize, StoreError> {
        Ok(self.sessions.lock().values().filter(|stored| &stored.summary.user_id == user).count())
    }

    async fn delete_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.sessions.lock().remove(&session).map(drop).ok_or(StoreError::NotFound(session))
    }

    async fn delete_idle_session(&self, session: SessionId) -> Result<IdleDeletion, StoreError> {
        let mut sessions = self.sessions.lock();
        if sessions.get(&session).ok_or(StoreError::NotFound(session))?.is_busy() {
            return Ok(IdleDeletion::Busy);
        }
        sessions.remove(&session);
        Ok(IdleDeletion::Deleted)
    }

    async fn claim_unfinished_sessions(&self, _own: OwnSessions<'_>) -> Result<ClaimedSessions, StoreError> {
        let sessions = self.sessions.lock();
        let unfinished = sessions.iter().filter(|(_, stored)| stored.is_unfinished());
        Ok(ClaimedSessions { sessions: unfinished.map(|(session, _)| *session).collect(), next_due: None })
    }
}

#[async_trait]
impl OutputStore for InMemoryStore {
    async fn deployment_key(&self) -> Result<[u8; 32], StoreError> {
        Ok(*self.deployment_key.get_or_init(k8sops_core::random_key))
    }

    async fn save_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        output: Arc<str>,
        session_limit: usize,
    ) -> Result<u64, StoreError> {
        let saved = truncate_output(&output, session_limit);
        let saved_bytes = saved.len();
        let output = if saved_bytes < output.len() { Arc::from(saved) } else { output };
        self.with_session(session, |stored| {
            stored.outputs.retain(|(other, _)| other != call);
            let sizes = stored.outputs.iter().map(|(_, output)| output.len() as u64);
            let dropped = count_outputs_to_drop(sizes, saved_bytes as u64, session_limit as u64);
            stored.outputs.drain(..dropped);
            stored.outputs.push((call.clone(), output));
            Ok(saved_bytes as u64)
        })
    }

    async fn read_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<Option<OutputPart>, StoreError> {
        let sessions = self.sessions.lock();
        let outputs = sessions.get(&session).map(|stored| stored.outputs.as_slice()).unwrap_or_default();
        let Some((_, output)) = outputs.iter().find(|(saved, _)| saved == call) else { return Ok(None) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(output.len());
        let end = start.saturating_add(limit).min(output.len());
        Ok(Some(OutputPart { bytes: output.as_bytes()[start..end].to_vec(), total: output.len() as u64 }))
    }
}

#[async_trait]
impl UsageStore for InMemoryStore {
    async fn record_usage(&self, user: &UserId, session: SessionId, usage: &DailyUsage) -> Result<(), StoreError> {
        let mut all = self.usage.lock();
        let expired = UsageDay::today().add_days(-USAGE_RETENTION_DAYS);
        all.retain(|(_, day), _| *day > expired);
        all.entry((user.clone(), usage.day)).or_default().sessions.insert(session, usage.models.clone());
        Ok(())
    }

    async fn close_session_usage(&self, user: &UserId, session: SessionId) -> Result<(), StoreError> {
        let mut all = self.usage.lock();
        all.iter_mut().filter(|((of, _), _)| of == user).for_each(|(_, day)| day.close_session(session));
        Ok(())
    }

    async fn read_usage(&self, user: &UserId, days: &[UsageDay]) -> Result<Vec<UserDailyUsage>, StoreError> {
        let all = self.usage.lock();
        Ok(days.iter().map(|day| all.get(&(user.clone(), *day)).cloned().unwrap_or_default()).collect())
    }
}

#[async_trait]
impl MemoryStore for InMemoryStore {
    async fn write_memories(
        &self,
        user: &UserId,
        version: MemoryVersion,
        changes: &[MemoryChange],
    ) -> Result<MemoryWrite, StoreError> {
        let set = self.memory_set(user);
        let mut set = set.lock();
        if set.version != version {
            return Ok(MemoryWrite::VersionConflict);
        }
        if !changes.is_empty() {
            for change in changes {
                set.apply_change(change);
            }
            set.set_version(UserMemorySet::next_version(version));
        }
        Ok(MemoryWrite::Written)
    }

    async fn read_memories(&self, user: &UserId) -> Result<UserMemories, StoreError> {
        Ok(self.memory_set(user).lock().snapshot())
    }

    async fn find_nearest_memories(
        &self,
        user: &UserId,
        to: &EmbeddingVector,
        limit: usize,
    ) -> Result<Vec<(MemoryId, f32)>, StoreError> {
        find_nearest_in_set(self.memory_set(user), to, limit).await
    }

    async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        let set = self.memory_set(user);
        let mut set = set.lock();
        let existed = set.remove(id);
        if set.len() == 0 {
            *set = UserMemorySet::default();
        } else if existed {
            let next = UserMemorySet::next_version(set.version);
            set.set_version(next);
        }
        Ok(existed)
    }

    async fn delete_all_memories(&self, user: &UserId) -> Result<usize, StoreError> {
        Ok(std::mem::take(&mut *self.memory_set(user).lock()).len())
    }
}

#[async_trait]
impl RecordStore for InMemoryStore {
    async fn insert_record(&self, group: &RecordGroup, record: &ExpiringRecord) -> Result<RecordInsertion, StoreError> {
        Ok(self.records.insert(group, record))
    }

    async fn replace_record(&self, group: &RecordGroup, record: &ExpiringRecord) -> Result<(), StoreError> {
        self.records.replace(group, record);
        Ok(())
    }

    async fn read_record(&self, group: &RecordGroup, id: &RecordId) -> Result<Option<ExpiringRecord>, StoreError> {
        Ok(self.records.read(group, id))
    }

    async fn take_record(&self, group: &RecordGroup, id: &RecordId) -> Result<Option<ExpiringRecord>, StoreError> {
        Ok(self.records.take(group, id))
    }

    async fn list_records(&self, group: &RecordGroup) -> Result<Vec<ExpiringRecord>, StoreError> {
        Ok(self.records.list(group))
    }
}
