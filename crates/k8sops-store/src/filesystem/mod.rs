//! Sessions in files, for one machine.
//!
//! ```text
//! ROOT/lock                                    held by the one process that works here
//! ROOT/sessions.jsonl                          the index: a summary per line
//! ROOT/sessions/USER_ID/SESSION_ID.jsonl       a session: one line per atomic write (see `record`)
//! ROOT/outputs/SESSION_ID/TOOL_CALL_ID         the whole output of a call that was too long for the log
//! ROOT/memories/USER_ID/MEMORY_ID.json         what is remembered of a user
//! ROOT/usage/USER_ID/DAY.json                  what the user's sessions used on a day
//! ROOT/key                                     32 random bytes of this deployment
//! ```
//!
//! A write is on the disk before it is acknowledged. A session that nobody works on is closed: it takes an entry in the
//! index and nothing else. Paths are made of parsed ids, which cannot leave their folder.

mod index;
mod lines;
mod log_file;
mod memories;
mod outputs;
mod record;
mod survey;
#[cfg(test)]
mod tests;
mod usage;

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use self::{
    index::{Index, IndexLine},
    log_file::{LogFile, sync_folder_of, unavailable},
    survey::{survey, written},
};
use k8sops_core::{
    CommandId, CommandReceipt, DamagedSession, EventPage, IdleDeletion, Inbox, InboxEntry, Leases, ListCursor,
    LogCommit, RemainingWork, SessionCommand, SessionEvent, SessionId, SessionIndex, SessionLease, SessionLog,
    SessionState, SessionStore, SessionSummary, StoreError, UserId,
};

/// Sessions in files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FilesystemStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    shallow: bool,
    /// The greatest epoch that this process gave out. A closed file forgets an epoch under which nothing was written; who
    /// had it must be fenced off all the same.
    newest_epoch: AtomicU64,
    /// Locked as long as this lives.
    _lock: File,
    // Both are plain mutexes, held across file access but never across an await; who needs both takes `open` first.
    open: Mutex<HashMap<SessionId, Slot>>,
    index: Mutex<Index>,
    /// Held while a note of what was used is made; alone.
    usage: Mutex<()>,
    memories: memories::Known,
}

/// A session's file, open or about to be.
#[derive(Debug, Default, Clone)]
struct Slot {
    file: Arc<Mutex<Handle>>,
    /// Somebody holds the lease: the file stays open.
    held: bool,
}

#[derive(Debug, Default)]
enum Handle {
    #[default]
    Closed,
    Open(Box<LogFile>),
    Deleted,
}

impl FilesystemStore {
    /// Opens the folder, and makes it if it is not there. With `shallow`, events before the newest checkpoint are dropped.
    ///
    /// # Errors
    /// `InUse` when another process works there; `Unavailable` when it cannot be made or read.
    pub async fn open(root: &Path, shallow: bool) -> Result<Self, StoreError> {
        let root = root.to_owned();
        blocking(move || Ok(Self(Arc::new(Shared::open(root, shallow)?)))).await
    }

    /// Works on a session's file, on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        session: SessionId,
        work: impl FnOnce(&Shared, &mut LogFile) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.0.clone();
        // A caller that goes away does not stop the work half way: it is done by itself.
        blocking(move || shared.with(session, work)).await
    }
}

impl Shared {
    fn open(root: PathBuf, shallow: bool) -> Result<Self, StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| unavailable(&path, error)
        };
        let sessions = root.join("sessions");
        DirBuilder::new().recursive(true).mode(0o700).create(&sessions).map_err(failed(&sessions))?;
        sync_folder_of(&sessions)?;
        sync_folder_of(&root)?;
        let lock_path = root.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let lock = lock.map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse(format!(
                    "another process works in {}; stop it, or choose another folder with MEMORY_FILESYSTEM_PATH",
                    root.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(unavailable(&lock_path, error)),
        }
        let index_path = root.join("sessions.jsonl");
        let (mut index, known) = Index::open(index_path.clone()).map_err(failed(&index_path))?;
        let lines = survey(&sessions, &known)?;
        let there = lines.iter().map(|line| (line.summary.session_id, ())).collect();
        outputs::clear_strays(&root, &there).map_err(failed(&root.join("outputs")))?;
        usage::clear_old(&root).map_err(failed(&root.join("usage")))?;
        index.fill(lines).map_err(failed(&index_path))?;
        Ok(Self {
            root,
            shallow,
            newest_epoch: AtomicU64::new(0),
            _lock: lock,
            open: Mutex::default(),
            index: Mutex::new(index),
            usage: Mutex::default(),
            memories: memories::Known::default(),
        })
    }

    fn path(&self, user: &UserId, session: SessionId) -> PathBuf {
        path_in(&self.root.join("sessions"), user, session)
    }

    fn open_files(&self) -> MutexGuard<'_, HashMap<SessionId, Slot>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        session: SessionId,
        work: impl FnOnce(&Self, &mut LogFile) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let user = self.index().user_of(session).cloned().ok_or(StoreError::NotFound(session))?;
        let slot = self.open_files().entry(session).or_default().clone();
        let result = self.on(&slot, &self.path(&user, session), session, work);
        self.close_if_idle(session, slot);
        result
    }

    fn on<T>(
        &self,
        slot: &Slot,
        path: &Path,
        session: SessionId,
        work: impl FnOnce(&Self, &mut LogFile) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut handle = slot.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Handle::Closed = &*handle {
            *handle = Handle::Open(Box::new(LogFile::open(path.to_owned(), session).inspect_err(|error| {
                if let StoreError::Corrupt(_) = error {
                    self.damaged(path, session);
                }
            })?));
        }
        let Handle::Open(file) = &mut *handle else { return Err(StoreError::NotFound(session)) };
        let result = work(self, file);
        self.index().mark(file);
        if file.is_broken() {
            // Opening it anew repairs it. Whoever holds the lease learns that it is gone.
            *handle = Handle::Closed;
        }
        result
    }

    /// Notes that a session's file turned out to be damaged.
    fn damaged(&self, path: &Path, session: SessionId) {
        let mut index = self.index();
        if index.is_damaged(session) {
            return;
        }
        let (Some(user), Ok(known)) = (index.user_of(session).cloned(), index.summary(session)) else { return };
        if let Err(error) = index.put(&IndexLine::damaged(user, session, written(path), known)) {
            tracing::warn!(%error, "the index of sessions cannot be written");
        }
    }

    /// Closes a file that nobody holds and nobody else works on.
    fn close_if_idle(&self, session: SessionId, slot: Slot) {
        let mut open = self.open_files();
        drop(slot);
        let idle = open.get(&session).is_some_and(|slot| !slot.held && Arc::strong_count(&slot.file) == 1);
        if !idle {
            return;
        }
        let Some(slot) = open.remove(&session) else { return };
        let handle = slot.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Handle::Open(file) = &*handle {
            self.note(file);
        }
    }

    /// Writes the session's line in the index. If that fails, the next start finds out by itself.
    fn note(&self, file: &LogFile) {
        let line = IndexLine::of(file);
        let mut index = self.index();
        if index.user_of(line.summary.session_id).is_some()
            && let Err(error) = index.put(&line)
        {
            tracing::warn!(%error, "the index of sessions cannot be written");
        }
    }

    fn hold(&self, session: SessionId, held: bool) {
        if let Some(slot) = self.open_files().get_mut(&session) {
            slot.held = held;
        }
    }

    /// A summary: of the open file, else of the index.
    fn summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        let slot = self.open_files().get(&session).cloned();
        if let Some(slot) = slot {
            let open = match &*slot.file.lock().unwrap_or_else(PoisonError::into_inner) {
                Handle::Open(file) => Some(Some(file.shown())),
                Handle::Deleted => Some(None),
                Handle::Closed => None,
            };
            // Whoever worked on it meanwhile left the closing to the last one that has it.
            self.close_if_idle(session, slot);
            if let Some(summary) = open {
                return Ok(summary);
            }
        }
        if self.index().is_damaged(session) {
            // It may have been repaired; if not, its reader is told what is wrong with it.
            return match self.with(session, |_, file| Ok(file.shown())) {
                Err(StoreError::NotFound(_)) => Ok(None),
                summary => summary.map(Some),
            };
        }
        self.noted(session)
    }

    /// The summary that a list shows: also of a session that cannot be read, so that it can be found and deleted.
    fn listed(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        if self.index().is_damaged(session) { self.noted(session) } else { self.summary(session) }
    }

    /// The summary of the index.
    fn noted(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        self.index().summary(session).map_err(|error| StoreError::unavailable("sessions.jsonl", error))
    }

    fn create(&self, created: &SessionEvent) -> Result<(), StoreError> {
        let session = created.session_id;
        let summary = SessionSummary::from_first_event(created)
            .ok_or_else(|| StoreError::Corrupt("a session begins with session_created".into()))?;
        // One id is one session, whoever's it is.
        if self.index().user_of(session).is_some() {
            return Err(StoreError::Exists(session));
        }
        let path = self.path(&summary.user_id, session);
        let folder = path.parent().unwrap_or(&self.root);
        if !folder.is_dir() {
            DirBuilder::new().mode(0o700).create(folder).or_else(|error| {
                // Made by another session of the same user just now.
                if folder.is_dir() { Ok(()) } else { Err(unavailable(folder, error)) }
            })?;
            sync_folder_of(folder)?;
        }
        let file = LogFile::create(path.clone(), created)?;
        let put = self.index().put(&IndexLine::of(&file));
        put.map_err(|error| {
            let _ = fs::remove_file(&path);
            StoreError::unavailable("sessions.jsonl", error)
        })
    }

    /// Removes a session; with `only_idle`, only if it has no work.
    fn delete(&self, session: SessionId, only_idle: bool) -> Result<IdleDeletion, StoreError> {
        let user = self.index().user_of(session).cloned().ok_or(StoreError::NotFound(session))?;
        let path = self.path(&user, session);
        let slot = self.open_files().entry(session).or_default().clone();
        let removed = {
            let mut handle = slot.file.lock().unwrap_or_else(PoisonError::into_inner);
            if only_idle && self.index().is_busy(session) {
                Ok(IdleDeletion::Busy)
            } else {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unavailable(&path, error)),
                    _ => {
                        *handle = Handle::Deleted;
                        self.index().remove(session);
                        self.drop_outputs(session);
                        Ok(IdleDeletion::Deleted)
                    }
                }
            }
        };
        if let Ok(IdleDeletion::Deleted) = removed {
            self.hold(session, false);
            self.close_if_idle(session, slot);
            sync_folder_of(&path)?;
        } else {
            self.close_if_idle(session, slot);
        }
        removed
    }
}

fn path_in(sessions: &Path, user: &UserId, session: SessionId) -> PathBuf {
    sessions.join(user.as_str()).join(format!("{session}.jsonl"))
}

/// Runs file access on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::unavailable("the file access was aborted", error)),
    }
}

#[async_trait]
impl SessionStore for FilesystemStore {
    fn backend_name(&self) -> &'static str {
        "filesystem"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let shared = self.0.clone();
        blocking(move || {
            let folder = shared.root.join("sessions");
            fs::metadata(&folder).map(drop).map_err(|error| unavailable(&folder, error))
        })
        .await
    }
}

#[async_trait]
impl SessionLog for FilesystemStore {
    async fn create_session(&self, created: &SessionEvent) -> Result<(), StoreError> {
        let (shared, created) = (self.0.clone(), created.clone());
        blocking(move || shared.create(&created)).await
    }

    async fn commit_events(&self, commit: LogCommit<'_>) -> Result<(), StoreError> {
        let LogCommit { session, epoch, expected_seq, events, consumed, summary, checkpoint } = commit;
        let (events, consumed) = (events.to_vec(), consumed.to_vec());
        let (summary, checkpoint) = (summary.clone(), checkpoint.cloned());
        self.with(session, move |shared, file| {
            let commit = LogCommit {
                session,
                epoch,
                expected_seq,
                events: &events,
                consumed: &consumed,
                summary: &summary,
                checkpoint: checkpoint.as_ref(),
            };
            file.commit(&commit, shared.shallow)
        })
        .await
    }

    async fn read_events(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        self.with(session, move |_, file| file.read(after, limit)).await
    }

    async fn read_checkpoint(&self, session: SessionId) -> Result<Option<SessionState>, StoreError> {
        self.with(session, |_, file| file.checkpoint()).await
    }
}

#[async_trait]
impl Inbox for FilesystemStore {
    async fn submit_command(&self, session: SessionId, command: SessionCommand) -> Result<CommandReceipt, StoreError> {
        self.with(session, move |_, file| file.submit(command)).await
    }

    async fn find_receipt(
        &self,
        session: SessionId,
        by: &UserId,
        command: &CommandId,
    ) -> Result<Option<CommandReceipt>, StoreError> {
        let (by, command) = (by.clone(), command.clone());
        self.with(session, move |_, file| Ok(file.inbox.receipt(&by, &command))).await
    }

    async fn list_inbox(&self, session: SessionId) -> Result<Vec<InboxEntry>, StoreError> {
        self.with(session, |_, file| Ok(file.inbox.waiting.clone())).await
    }
}

#[async_trait]
impl Leases for FilesystemStore {
    async fn acquire_lease(&self, session: SessionId, owner: &str, ttl: Duration) -> Result<SessionLease, StoreError> {
        let owner = owner.to_owned();
        self.with(session, move |shared, file| {
            let floor = shared.newest_epoch.load(Ordering::SeqCst);
            let lease = file.ownership.acquire(session, &owner, ttl, floor)?;
            shared.newest_epoch.fetch_max(lease.epoch.0, Ordering::SeqCst);
            shared.hold(session, true);
            Ok(lease)
        })
        .await
    }

    async fn renew_lease(&self, lease: SessionLease, ttl: Duration) -> Result<(), StoreError> {
        self.with(lease.session, move |_, file| file.ownership.renew(lease, ttl)).await
    }

    async fn release_lease(&self, lease: SessionLease) -> Result<RemainingWork, StoreError> {
        let released = self.with(lease.session, move |shared, file| {
            let released = file.ownership.release(lease);
            if released {
                shared.hold(lease.session, false);
            }
            Ok(if released && file.work().unfinished { RemainingWork::Unfinished } else { RemainingWork::None })
        });
        match released.await {
            Err(StoreError::NotFound(_)) => Ok(RemainingWork::None),
            released => released,
        }
    }
}

#[async_trait]
impl SessionIndex for FilesystemStore {
    async fn read_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        let shared = self.0.clone();
        blocking(move || shared.summary(session)).await
    }

    async fn list_sessions(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        let (shared, user) = (self.0.clone(), user.clone());
        blocking(move || {
            let page = shared.index().page(&user, after, limit);
            let summaries = page.into_iter().map(|session| shared.listed(session));
            // One that was deleted meanwhile is not in the list.
            summaries.filter_map(Result::transpose).collect()
        })
        .await
    }

    async fn count_sessions(&self, user: &UserId) -> Result<usize, StoreError> {
        Ok(self.0.index().count(user))
    }

    async fn delete_session(&self, session: SessionId) -> Result<(), StoreError> {
        let shared = self.0.clone();
        blocking(move || shared.delete(session, false)).await.map(drop)
    }

    async fn delete_idle_session(&self, session: SessionId) -> Result<IdleDeletion, StoreError> {
        let shared = self.0.clone();
        blocking(move || shared.delete(session, true)).await
    }

    async fn claim_unfinished_sessions(&self) -> Result<Vec<SessionId>, StoreError> {
        Ok(self.0.index().unfinished())
    }

    async fn list_damaged_sessions(&self) -> Result<Vec<DamagedSession>, StoreError> {
        let shared = self.0.clone();
        blocking(move || {
            let damaged = shared.index().damaged();
            let found = damaged.into_iter().map(|session| (session, shared.with(session, |_, _| Ok(()))));
            // One that was repaired or deleted meanwhile is well.
            let found = found.filter(|(_, tried)| !matches!(tried, Ok(()) | Err(StoreError::NotFound(_))));
            Ok(found
                .filter_map(|(session_id, tried)| Some(DamagedSession { session_id, error: tried.err()? }))
                .collect())
        })
        .await
    }
}
