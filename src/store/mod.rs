//! stub
use crate::session::*;
use async_trait::async_trait;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
#[derive(Default)]
pub struct MemoryStore {
    sessions: Mutex<HashMap<SessionId, S>>,
}
struct S {
    log: Vec<Arc<Event>>,
    summary: SessionSummary,
    checkpoint: Option<SessionState>,
    epoch: u64,
    held: Option<(String, Instant)>,
    inbox: Vec<InboxEntry>,
    next: u64,
    receipts: VecDeque<Receipt>,
}
impl MemoryStore {
    pub fn new(_shallow: bool) -> Self {
        Self::default()
    }
    fn with<T>(&self, id: SessionId, f: impl FnOnce(&mut S) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut m = self.sessions.lock().unwrap();
        f(m.get_mut(&id).ok_or(StoreError::NotFound(id))?)
    }
}
#[async_trait]
impl SessionStore for MemoryStore {
    fn backend(&self) -> &'static str {
        "memory"
    }
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
    async fn create(&self, e: &Event) -> Result<(), StoreError> {
        let mut m = self.sessions.lock().unwrap();
        if m.contains_key(&e.session_id) {
            return Err(StoreError::Exists(e.session_id));
        }
        m.insert(
            e.session_id,
            S {
                log: vec![Arc::new(e.clone())],
                summary: SessionSummary::begin(e).unwrap(),
                checkpoint: None,
                epoch: 0,
                held: None,
                inbox: vec![],
                next: 1,
                receipts: VecDeque::new(),
            },
        );
        Ok(())
    }
    async fn summary(&self, id: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        Ok(self.sessions.lock().unwrap().get(&id).map(|s| s.summary.clone()))
    }
    async fn list(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        let m = self.sessions.lock().unwrap();
        let mut v: Vec<_> = m.values().filter(|s| &s.summary.user_id == user).map(|s| s.summary.clone()).collect();
        v.sort_by_key(|s| std::cmp::Reverse((s.updated_at, s.session_id)));
        Ok(v.into_iter()
            .filter(|s| after.is_none_or(|a| (s.updated_at, s.session_id) < (a.updated_at, a.session_id)))
            .take(limit)
            .collect())
    }
    async fn count(&self, user: &UserId) -> Result<usize, StoreError> {
        Ok(self.sessions.lock().unwrap().values().filter(|s| &s.summary.user_id == user).count())
    }
    async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
        self.sessions.lock().unwrap().remove(&id).map(drop).ok_or(StoreError::NotFound(id))
    }
    async fn unfinished(&self) -> Result<Vec<SessionId>, StoreError> {
        Ok(self
            .sessions
            .lock()
            .unwrap()
            .values()
            .filter(|s| s.summary.open_run.is_some() || !s.inbox.is_empty())
            .map(|s| s.summary.session_id)
            .collect())
    }
    async fn acquire(&self, id: SessionId, owner: &str, ttl: Duration) -> Result<Lease, StoreError> {
        self.with(id, |s| {
            if s.held.as_ref().is_some_and(|(o, until)| o != owner && *until > Instant::now()) {
                return Err(StoreError::Held(id));
            }
            s.epoch += 1;
            s.held = Some((owner.into(), Instant::now() + ttl));
            Ok(Lease { session: id, epoch: Epoch(s.epoch) })
        })
    }
    async fn renew(&self, l: Lease, _ttl: Duration) -> Result<(), StoreError> {
        self.with(l.session, |s| {
            if s.epoch == l.epoch.0 {
                Ok(())
            } else {
                Err(StoreError::Fenced { session: l.session, attempted: l.epoch, current: Epoch(s.epoch) })
            }
        })
    }
    async fn release(&self, l: Lease) -> Result<(), StoreError> {
        self.with(l.session, |s| {
            if s.epoch == l.epoch.0 {
                s.held = None;
            }
            Ok(())
        })
    }
    async fn commit(&self, c: Commit<'_>) -> Result<(), StoreError> {
        self.with(c.session, |s| {
            if s.epoch != c.epoch.0 {
                return Err(StoreError::Fenced { session: c.session, attempted: c.epoch, current: Epoch(s.epoch) });
            }
            if s.log.len() as u64 != c.expected_seq {
                return Err(StoreError::SeqConflict {
                    session: c.session,
                    expected: c.expected_seq,
                    found: s.log.len() as u64,
                });
            }
            s.log.extend(c.events.iter().cloned());
            s.inbox.retain(|e| !c.consumed.contains(&e.position));
            s.summary = c.summary.clone();
            if let Some(x) = c.checkpoint {
                s.checkpoint = Some(x.clone());
            }
            Ok(())
        })
    }
    async fn read(&self, id: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        self.with(id, |s| {
            Ok(EventPage {
                events: s.log.iter().skip(usize::try_from(after).unwrap()).take(limit).cloned().collect(),
                last_seq: s.log.len() as u64,
                oldest_seq: 1,
            })
        })
    }
    async fn checkpoint(&self, id: SessionId) -> Result<Option<SessionState>, StoreError> {
        self.with(id, |s| Ok(s.checkpoint.clone()))
    }
    async fn submit(&self, id: SessionId, command: Command, idle: bool) -> Result<Receipt, StoreError> {
        self.with(id, |s| {
            if let Some(r) = s.receipts.iter().find(|r| r.command_id == command.command_id) {
                if r.fingerprint != command.fingerprint {
                    return Err(StoreError::CommandIdReused);
                }
                return Ok(Receipt { duplicate: true, ..r.clone() });
            }
            if idle
                && (s.summary.open_run.is_some()
                    || s.inbox.iter().any(|e| matches!(e.command.body, CommandBody::Message { .. })))
            {
                return Err(StoreError::Busy(id));
            }
            if s.inbox.len() >= INBOX_LIMIT {
                return Err(StoreError::InboxFull(INBOX_LIMIT));
            }
            let seq = s.log.len() as u64;
            let r = Receipt::of(&command, seq);
            s.receipts.push_back(r.clone());
            s.inbox.push(InboxEntry { position: s.next, accepted_seq: seq, command });
            s.next += 1;
            Ok(r)
        })
    }
    async fn inbox(&self, id: SessionId) -> Result<Vec<InboxEntry>, StoreError> {
        self.with(id, |s| Ok(s.inbox.clone()))
    }
}
pub struct FilesystemStore;
impl FilesystemStore {
    pub async fn open(_: &std::path::Path, s: bool) -> Result<MemoryStore, StoreError> {
        Ok(MemoryStore::new(s))
    }
}
