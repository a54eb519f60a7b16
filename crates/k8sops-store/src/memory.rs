//! Sessions in memory: for tests and for trying out. Nothing survives the process.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use super::{
    inbox::{Admission, InboxState, Ownership},
    memories::{self, Shelf},
    outputs::{beginning, dropped},
};
use k8sops_core::{
    CommandId, CommandReceipt, DailyUsage, EmbeddingVector, EventPage, IdleDeletion, Inbox, InboxEntry, Leases,
    ListCursor, LogCommit, MemoryChange, MemoryId, MemoryStore, MemoryVersion, MemoryWrite, OutputPart, OutputStore,
    RemainingWork, SessionCommand, SessionEvent, SessionId, SessionIndex, SessionLease, SessionLog, SessionState,
    SessionStore, SessionSummary, StoreError, ToolCallId, USAGE_RETENTION_DAYS, UsageDay, UsageStore, UserDailyUsage,
    UserId, UserMemories,
};

/// Sessions in memory.
#[derive(Debug)]
pub struct InMemoryStore {
    shallow: bool,
    // A plain mutex: held for look-ups and pushes, never across an await.
    sessions: Mutex<HashMap<SessionId, Stored>>,
    key: OnceLock<[u8; 32]>,
    /// What users have used on a day.
    usage: Mutex<BTreeMap<(UserId, UsageDay), UserDailyUsage>>,
    /// What is remembered of users.
    memories: Mutex<HashMap<UserId, Arc<Mutex<Shelf>>>>,
}

#[derive(Debug)]
struct Stored {
    summary: SessionSummary,
    /// Events that are kept; the first has the seq `oldest_seq`.
    log: Vec<Arc<SessionEvent>>,
    oldest_seq: u64,
    checkpoint: Option<SessionState>,
    inbox: InboxState,
    ownership: Ownership,
    /// Whole outputs of tool calls, the oldest first.
    outputs: Vec<(ToolCallId, Arc<str>)>,
}

impl Stored {
    fn shown(&self) -> SessionSummary {
        self.inbox.shown(&self.summary)
    }

    fn unfinished(&self) -> bool {
        self.summary.has_work() || !self.inbox.waiting.is_empty()
    }

    fn busy(&self) -> bool {
        self.summary.open_run.is_some() || !self.inbox.waiting.is_empty()
    }
}

impl InMemoryStore {
    /// An empty store. With `shallow`, events before the newest checkpoint are dropped.
    #[must_use]
    pub fn new(shallow: bool) -> Self {
        Self {
            shallow,
            sessions: Mutex::default(),
            key: OnceLock::new(),
            usage: Mutex::default(),
            memories: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Stored>> {
        // A panic while it is held leaves whole values: each is changed by statements that do not panic.
        self.sessions.lock()
    }

    fn with<T>(
        &self,
        session: SessionId,
        work: impl FnOnce(&mut Stored) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        work(self.lock().get_mut(&session).ok_or(StoreError::NotFound(session))?)
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

#[async_trait]
impl SessionLog for InMemoryStore {
    async fn create_session(&self, created: &SessionEvent) -> Result<(), StoreError> {
        let session = created.session_id;
        let summary = SessionSummary::from_first_event(created)
            .ok_or_else(|| StoreError::Corrupt("a session begins with session_created".into()))?;
        let mut sessions = self.lock();
        if sessions.contains_key(&session) {
            return Err(StoreError::Exists(session));
        }
        let stored = Stored {
            summary,
            log: vec![Arc::new(created.clone())],
            oldest_seq: 1,
            checkpoint: None,
            inbox: InboxState::default(),
            ownership: Ownership::after(0),
            outputs: Vec::new(),
        };
        sessions.insert(session, stored);
        Ok(())
    }

    async fn commit_events(&self, commit: LogCommit<'_>) -> Result<(), StoreError> {
        self.with(commit.session, |stored| {
            stored.ownership.admit(&commit, stored.summary.last_seq)?;
            if let Some(state) = commit.checkpoint {
                if self.shallow {
                    stored.log.retain(|event| event.seq > state.last_seq());
                    stored.oldest_seq = state.last_seq() + 1;
                }
                stored.checkpoint = Some(state.clone());
            }
            stored.log.extend(commit.events.iter().cloned());
            stored.inbox.consume(commit.consumed);
            stored.summary.clone_from(commit.summary);
            Ok(())
        })
    }

    async fn read_events(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        self.with(session, |stored| {
            let skip = usize::try_from(after.saturating_add(1).saturating_sub(stored.oldest_seq)).unwrap_or(usize::MAX);
            Ok(EventPage {
                events: stored.log.iter().skip(skip).take(limit.max(1)).cloned().collect(),
                last_seq: stored.summary.last_seq,
                oldest_seq: stored.oldest_seq,
            })
        })
    }

    async fn read_checkpoint(&self, session: SessionId) -> Result<Option<SessionState>, StoreError> {
        self.with(session, |stored| Ok(stored.checkpoint.clone()))
    }
}

#[async_trait]
impl Inbox for InMemoryStore {
    async fn submit_command(&self, session: SessionId, command: SessionCommand) -> Result<CommandReceipt, StoreError> {
        self.with(session, |stored| {
            let open_run = stored.summary.open_run.is_some();
            match stored.inbox.admit(session, command, stored.summary.last_seq, open_run)? {
                Admission::Known(receipt) => Ok(receipt),
                Admission::New(entry) => Ok(stored.inbox.take(*entry)),
            }
        })
    }

    async fn find_receipt(
        &self,
        session: SessionId,
        by: &UserId,
        command: &CommandId,
    ) -> Result<Option<CommandReceipt>, StoreError> {
        self.with(session, |stored| Ok(stored.inbox.receipt(by, command)))
    }

    async fn list_inbox(&self, session: SessionId) -> Result<Vec<InboxEntry>, StoreError> {
        self.with(session, |stored| Ok(stored.inbox.waiting.clone()))
    }
}

#[async_trait]
impl Leases for InMemoryStore {
    async fn acquire_lease(&self, session: SessionId, owner: &str, ttl: Duration) -> Result<SessionLease, StoreError> {
        self.with(session, |stored| stored.ownership.acquire(session, owner, ttl, 0))
    }

    async fn renew_lease(&self, lease: SessionLease, ttl: Duration) -> Result<(), StoreError> {
        self.with(lease.session, |stored| stored.ownership.renew(lease, ttl))
    }

    async fn release_lease(&self, lease: SessionLease) -> Result<RemainingWork, StoreError> {
        match self.with(lease.session, |stored| Ok(stored.ownership.release(lease) && stored.unfinished())) {
            Ok(true) => Ok(RemainingWork::Unfinished),
            Ok(false) | Err(StoreError::NotFound(_)) => Ok(RemainingWork::None),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl SessionIndex for InMemoryStore {
    async fn read_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        Ok(self.lock().get(&session).map(Stored::shown))
    }

    async fn list_sessions(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        let key = |summary: &SessionSummary| (summary.updated_at, summary.session_id);
        let after = after.map(|cursor| (cursor.updated_at, cursor.session_id));
        let sessions = self.lock();
        let of_user = sessions.values().filter(|stored| &stored.summary.user_id == user);
        let mut listed: Vec<_> = of_user.filter(|s| after.is_none_or(|after| key(&s.summary) < after)).collect();
        listed.sort_by_key(|stored| Reverse(key(&stored.summary)));
        Ok(listed.into_iter().take(limit).map(Stored::shown).collect())
    }

    async fn count_sessions(&self, user: &UserId) -> Result<usize, StoreError> {
        Ok(self.lock().values().filter(|stored| &stored.summary.user_id == user).count())
    }

    async fn delete_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.lock().remove(&session).map(drop).ok_or(StoreError::NotFound(session))
    }

    async fn delete_idle_session(&self, session: SessionId) -> Result<IdleDeletion, StoreError> {
        let mut sessions = self.lock();
        if sessions.get(&session).ok_or(StoreError::NotFound(session))?.busy() {
            return Ok(IdleDeletion::Busy);
        }
        sessions.remove(&session);
        Ok(IdleDeletion::Deleted)
    }

    async fn claim_unfinished_sessions(&self) -> Result<Vec<SessionId>, StoreError> {
        let sessions = self.lock();
        let unfinished = sessions.iter().filter(|(_, stored)| stored.unfinished());
        Ok(unfinished.map(|(session, _)| *session).collect())
    }
}

#[async_trait]
impl OutputStore for InMemoryStore {
    async fn deployment_key(&self) -> Result<[u8; 32], StoreError> {
        Ok(*self.key.get_or_init(k8sops_core::random_key))
    }

    async fn save_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        output: Arc<str>,
        room: usize,
    ) -> Result<u64, StoreError> {
        let kept = beginning(&output, room).len();
        let output = if kept < output.len() { Arc::from(&output[..kept]) } else { output };
        self.with(session, |stored| {
            stored.outputs.retain(|(other, _)| other != call);
            let sizes = stored.outputs.iter().map(|(_, output)| output.len() as u64);
            let gone = dropped(sizes, kept as u64, room as u64);
            stored.outputs.drain(..gone);
            stored.outputs.push((call.clone(), output));
            Ok(kept as u64)
        })
    }

    async fn read_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<Option<OutputPart>, StoreError> {
        let sessions = self.lock();
        let outputs = sessions.get(&session).map(|stored| stored.outputs.as_slice()).unwrap_or_default();
        let Some((_, output)) = outputs.iter().find(|(kept, _)| kept == call) else { return Ok(None) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(output.len());
        let end = start.saturating_add(limit).min(output.len());
        Ok(Some(OutputPart { bytes: output.as_bytes()[start..end].to_vec(), total: output.len() as u64 }))
    }
}

#[async_trait]
impl UsageStore for InMemoryStore {
    async fn record_usage(&self, user: &UserId, session: SessionId, spent: &DailyUsage) -> Result<(), StoreError> {
        let mut usage = self.usage.lock();
        let oldest = UsageDay::today().add_days(-USAGE_RETENTION_DAYS);
        usage.retain(|(_, day), _| *day > oldest);
        usage.entry((user.clone(), spent.day)).or_default().sessions.insert(session, spent.models.clone());
        Ok(())
    }

    async fn close_session_usage(&self, user: &UserId, session: SessionId) -> Result<(), StoreError> {
        let mut usage = self.usage.lock();
        usage.iter_mut().filter(|((of, _), _)| of == user).for_each(|(_, day)| day.close_session(session));
        Ok(())
    }

    async fn read_usage(&self, user: &UserId, days: &[UsageDay]) -> Result<Vec<UserDailyUsage>, StoreError> {
        let usage = self.usage.lock();
        Ok(days.iter().map(|day| usage.get(&(user.clone(), *day)).cloned().unwrap_or_default()).collect())
    }
}

impl InMemoryStore {
    fn shelf(&self, user: &UserId) -> Arc<Mutex<Shelf>> {
        let mut all = self.memories.lock();
        Arc::clone(all.entry(user.clone()).or_default())
    }

    fn with_shelf<T>(&self, user: &UserId, work: impl FnOnce(&mut Shelf) -> T) -> T {
        work(&mut self.shelf(user).lock())
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
        Ok(self.with_shelf(user, |shelf| {
            if shelf.version != version {
                return MemoryWrite::VersionConflict;
            }
            if !changes.is_empty() {
                for change in changes {
                    shelf.change(change);
                }
                shelf.is_at(Shelf::after(version));
            }
            MemoryWrite::Written
        }))
    }

    async fn read_memories(&self, user: &UserId) -> Result<UserMemories, StoreError> {
        Ok(self.with_shelf(user, Shelf::memories))
    }

    async fn find_nearest_memories(
        &self,
        user: &UserId,
        to: &EmbeddingVector,
        limit: usize,
    ) -> Result<Vec<(MemoryId, f32)>, StoreError> {
        memories::nearest(self.shelf(user), to, limit).await
    }

    async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        Ok(self.with_shelf(user, |shelf| {
            let was_there = shelf.remove(id);
            if shelf.len() == 0 {
                *shelf = Shelf::default();
            } else if was_there {
                shelf.is_at(Shelf::after(shelf.version));
            }
            was_there
        }))
    }

    async fn delete_all_memories(&self, user: &UserId) -> Result<usize, StoreError> {
        Ok(self.with_shelf(user, std::mem::take).len())
    }
}
