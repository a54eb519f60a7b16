//! The sessions' files: which are open, and the index of all of them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    commit_journal::CommitJournal,
    disk_io,
    files::{create_durable_folder, is_stale, sync_parent_folder, unavailable},
    folder_lock::FolderLock,
    index_file::IndexFile,
    index_line::IndexLine,
    known_log::KnownLog,
    layout::StoreLayout,
    log_reader::{ExtraBytes, LogReader},
    open_files::{FileHandle, LockedFile, OpenFiles, OpenSlot},
    output_files::OutputFiles,
    recovery_scan::modified_at,
    session_file::{ForeignChange, SessionFile},
    session_views::SessionViews,
    trash::discard_folder,
    work_queue::wait_in_work,
};
use crate::log_retention::LogRetention;
use k8sops_core::{
    DamagedSession, EventPage, IdleDeletion, ListCursor, RemainingWork, SessionEvent, SessionId, SessionLease,
    SessionSummary, StoreError, UserId,
};

/// The sessions' files. All methods block.
#[derive(Debug)]
pub(super) struct SessionFiles {
    layout: StoreLayout,
    pub(super) retention: LogRetention,
    /// The greatest epoch that this process granted. A closed file forgets an epoch under which nothing was written; its
    /// owner must be fenced off nevertheless.
    newest_epoch: AtomicU64,
    // Both locks are held during file access but never across an await. Code that needs both locks `open` first.
    open: Mutex<OpenFiles>,
    pub(super) journal: CommitJournal,
    /// What is known of the open files without waiting for them.
    pub(super) views: SessionViews,
    index: Mutex<IndexFile>,
    /// Held until the journal has been emptied.
    _lock: Arc<FolderLock>,
}

/// Which sessions a deletion spares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DeletionGuard {
    /// None.
    Unconditional,
    /// Sessions with an open run or commands in their inbox.
    SpareBusy,
}

impl SessionFiles {
    pub(super) fn new(layout: StoreLayout, retention: LogRetention, index: IndexFile, lock: Arc<FolderLock>) -> Self {
        Self {
            retention,
            newest_epoch: AtomicU64::new(0),
            journal: CommitJournal::new(&layout),
            layout,
            open: Mutex::default(),
            views: SessionViews::default(),
            index: Mutex::new(index),
            _lock: lock,
        }
    }

    /// Works on a session's file, which is opened if necessary.
    pub(super) fn with_session<T>(
        &self,
        session: SessionId,
        work: impl FnOnce(&mut SessionFile) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (slot, path) = self.find_file(session)?;
        let result = self.with_slot(&slot, &path, session, work);
        self.close_if_idle(session, slot);
        result
    }

    /// The slot of a session's file, for a caller that is about to work on it, and its path.
    pub(super) fn find_file(&self, session: SessionId) -> Result<(OpenSlot, PathBuf), StoreError> {
        let user = self.index.lock().session_user(session).cloned().ok_or(StoreError::NotFound(session))?;
        Ok((self.open.lock().slot(session), self.layout.session_file(&user, session)))
    }

    fn with_slot<T>(
        &self,
        slot: &OpenSlot,
        path: &Path,
        session: SessionId,
        work: impl FnOnce(&mut SessionFile) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut handle = self.lock_open_file(slot, path, session)?;
        let FileHandle::Open(file) = &mut *handle else { return Err(StoreError::NotFound(session)) };
        let result = work(file);
        self.leave_file(&mut handle, session, result.as_ref().err());
        result
    }

    /// Locks a session's file, and opens it if necessary. It is not open if the session is deleted.
    pub(super) fn lock_open_file(
        &self,
        slot: &OpenSlot,
        path: &Path,
        session: SessionId,
    ) -> Result<LockedFile, StoreError> {
        let mut handle = slot.file.try_lock_arc().unwrap_or_else(|| wait_in_work(|| slot.file.lock_arc()));
        let mut touched = None;
        if let FileHandle::Open(file) = &*handle {
            let change = file.find_foreign_change()?;
            if change == ForeignChange::Replaced {
                // The owner of the session learns that its lease is lost.
                tracing::error!(path = %path.display(), "file was changed by another program, reading it again");
            }
            if change != ForeignChange::None {
                self.views.remove(session);
                let replaced = std::mem::take(&mut *handle);
                touched = if change == ForeignChange::Touched { Some(replaced) } else { None };
            }
        }
        if let FileHandle::Closed | FileHandle::Readable(..) = &*handle {
            let opened = self.open_file(path, session).inspect_err(|error| {
                if let StoreError::Corrupt(_) = error {
                    self.mark_damaged(path, session);
                }
            });
            let mut opened = Box::new(opened?);
            if let Some(FileHandle::Open(earlier)) = touched {
                opened.continue_lease(&earlier);
            }
            *handle = FileHandle::Open(opened);
        }
        Ok(handle)
    }

    /// Publishes what was changed in a session's file, and closes a file that must be opened again.
    pub(super) fn leave_file(&self, handle: &mut FileHandle, session: SessionId, failure: Option<&StoreError>) {
        let FileHandle::Open(file) = handle else { return };
        if let Some(view) = file.take_changed_view() {
            self.index.lock().update_entry(file);
            self.views.publish(session, view);
        }
        if file.must_reopen() || (file.may_reopen() && failure.is_some_and(is_stale)) {
            // Opening the file repairs it. The owner of the session learns that its lease is lost.
            self.views.remove(session);
            *handle = FileHandle::Closed;
        }
    }

    /// See [`SessionLog::read_events`](k8sops_core::SessionLog::read_events). The lines of a file that is as the index knows
    /// it are read without replaying them first.
    pub(super) fn read_events(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        let (slot, path) = self.find_file(session)?;
        let page = self.read_indexed_events(&slot, path, session, after, limit);
        self.close_if_idle(session, slot);
        match page? {
            Some(page) => Ok(page),
            None => self.with_session(session, |file| file.read_events(after, limit)),
        }
    }

    /// Reads events of a file that is as the index knows it; `None` if it is not, or is open already.
    fn read_indexed_events(
        &self,
        slot: &OpenSlot,
        path: PathBuf,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<Option<EventPage>, StoreError> {
        let mut handle = slot.file.lock();
        if let FileHandle::Readable(log, _) = &*handle
            && !log.is_current(ExtraBytes::Foreign)?
        {
            *handle = FileHandle::Closed;
        }
        if let FileHandle::Closed = &*handle {
            let index = self.index.lock();
            let (KnownLog { bytes, .. }, summary) = (index.known_log(session), index.read_summary(session));
            let Ok(Some(SessionSummary { last_seq, .. })) = summary else { return Ok(None) };
            drop(index);
            let Ok(file) = disk_io::open_to_read(&path) else { return Ok(None) };
            let Ok(log) = LogReader::new(path, file, bytes) else { return Ok(None) };
            if !log.is_current(ExtraBytes::Foreign)? {
                return Ok(None);
            }
            *handle = FileHandle::Readable(log, last_seq);
        }
        let page = match &mut *handle {
            FileHandle::Readable(log, last_seq) => log.read_events(after, limit, *last_seq),
            _ => return Ok(None),
        };
        if page.as_ref().is_err_and(|error| matches!(error, StoreError::Corrupt(_)) || is_stale(error)) {
            // Replaying the file tells damage from an incomplete line, and opening it again may help.
            *handle = FileHandle::Closed;
            return Ok(None);
        }
        page.map(Some)
    }

    fn open_file(&self, path: &Path, session: SessionId) -> Result<SessionFile, StoreError> {
        if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
            // A caller that knew the session before its deletion comes after it.
            if self.index.lock().session_user(session).is_none() {
                return Err(StoreError::NotFound(session));
            }
            self.explain_missing_file(path)?;
        }
        let known = self.retention.still_known(self.index.lock().known_log(session));
        // An incomplete line is cut off.
        let open = || self.journal.guard_sync(session, || SessionFile::open(path, known));
        if known.is_long() { wait_in_work(open) } else { open() }
    }

    /// Returns the error of a file that the index knows and that does not exist: its folder is away, or the file was removed
    /// or replaced without the store.
    fn explain_missing_file(&self, path: &Path) -> Result<(), StoreError> {
        // A link is not what was stored, and what it leads to can be changed without a trace here.
        let error = match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() => return Ok(()),
            Ok(_) => {
                let found = format!("{} is not a file: restore it, or delete the session", path.display());
                return Err(StoreError::Corrupt(found.into()));
            }
            Err(error) => error,
        };
        let folder = path.parent().unwrap_or(self.layout.root());
        if error.kind() != io::ErrorKind::NotFound || !folder.is_dir() {
            return Err(unavailable(path, error));
        }
        Err(StoreError::corrupt(format!("{} is missing: restore it, or delete the session", path.display()), error))
    }

    fn mark_damaged(&self, path: &Path, session: SessionId) {
        let mut index = self.index.lock();
        if index.is_damaged(session) {
            return;
        }
        let (Some(user), Ok(known)) = (index.session_user(session).cloned(), index.read_summary(session)) else {
            return;
        };
        index.write_line(&IndexLine::from_damaged_session(user, session, modified_at(path), known));
    }

    /// Updates the index from a file that has no owner and no other caller, and closes the files that had none for the
    /// longest time.
    pub(super) fn close_if_idle(&self, session: SessionId, slot: OpenSlot) {
        let mut open = self.open.lock();
        drop(slot);
        let Some(handle) = open.idle_handle(session) else { return };
        let stays_open = match &mut *handle.lock() {
            FileHandle::Open(file) => {
                self.write_index_line(file);
                true
            }
            FileHandle::Readable(..) => true,
            FileHandle::Closed | FileHandle::Deleted => false,
        };
        drop(handle);
        let closed = if stays_open {
            open.keep_idle(session)
        } else {
            open.close(session);
            vec![session]
        };
        // Under the lock, so that a file that is opened again meanwhile keeps its view.
        for closed in closed {
            self.views.remove(closed);
        }
    }

    /// Writes a session's line in the index, unless it is there.
    fn write_index_line(&self, file: &mut SessionFile) {
        if file.is_indexed() {
            return;
        }
        let line = IndexLine::from_session(file);
        let mut index = self.index.lock();
        if index.session_user(line.summary.session_id).is_some() {
            index.write_line(&line);
            file.mark_indexed();
        }
    }

    /// Writes what the disk did not take of the index.
    pub(super) fn retry_index_writes(&self) {
        self.index.lock().retry_failed_writes();
    }

    /// Creates a session with its first event.
    pub(super) fn create_session(&self, created: &SessionEvent) -> Result<(), StoreError> {
        let session = created.session_id;
        let summary = SessionSummary::from_first_event(created)
            .ok_or_else(|| StoreError::Corrupt("the first event of a session must be session_created".into()))?;
        // The file name alone does not prevent a second session with this id in the folder of another user.
        if self.index.lock().session_user(session).is_some() {
            return Err(StoreError::Exists(session));
        }
        let path = self.layout.session_file(&summary.user_id, session);
        let folder = self.layout.user_sessions(&summary.user_id);
        create_durable_folder(&folder, self.layout.root())?;
        let file = SessionFile::create(&path, created)?;
        self.index.lock().write_line(&IndexLine::from_session(&file));
        Ok(())
    }

    /// See [`Leases::acquire_lease`](k8sops_core::Leases::acquire_lease).
    pub(super) fn acquire_lease(
        &self,
        session: SessionId,
        owner: &str,
        ttl: Duration,
    ) -> Result<SessionLease, StoreError> {
        self.with_session(session, |file| {
            let floor = self.newest_epoch.load(Ordering::SeqCst);
            let lease = file.lease.acquire(session, owner, ttl, floor)?;
            self.newest_epoch.fetch_max(lease.epoch.0, Ordering::SeqCst);
            self.open.lock().set_owned(session, true);
            Ok(lease)
        })
    }

    /// See [`Leases::release_lease`](k8sops_core::Leases::release_lease).
    pub(super) fn release_lease(&self, lease: SessionLease) -> Result<RemainingWork, StoreError> {
        let released = self.with_session(lease.session, |file| {
            if !file.lease.release_if_newest(lease) {
                return Ok(RemainingWork::None);
            }
            self.open.lock().set_owned(lease.session, false);
            Ok(if file.work().unfinished { RemainingWork::Unfinished } else { RemainingWork::None })
        });
        match released {
            Err(StoreError::NotFound(_)) => Ok(RemainingWork::None),
            released => released,
        }
    }

    /// A session's summary: from its file if that is open, else from the index.
    pub(super) fn read_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        let slot = self.open.lock().find_slot(session);
        if let Some(slot) = slot {
            let from_file = match &*slot.file.lock() {
                FileHandle::Open(file) => Some(Some(file.complete_summary())),
                FileHandle::Deleted => Some(None),
                FileHandle::Closed | FileHandle::Readable(..) => None,
            };
            // A caller that worked on the file meanwhile left it to the last one to close it.
            self.close_if_idle(session, slot);
            if let Some(summary) = from_file {
                return Ok(summary);
            }
        }
        if self.index.lock().is_damaged(session) {
            // The file may have been repaired; if not, the error says what is wrong with it.
            return match self.with_session(session, |file| Ok(file.complete_summary())) {
                Err(StoreError::NotFound(_)) => Ok(None),
                summary => summary.map(Some),
            };
        }
        self.read_indexed_summary(session)
    }

    fn read_indexed_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        let summary = self.index.lock().read_summary(session);
        summary.or_else(|error| {
            tracing::warn!(%session, %error, "index of sessions cannot be read, reading the session");
            match self.with_session(session, |file| Ok(file.complete_summary())) {
                Err(StoreError::NotFound(_)) => Ok(None),
                summary => summary.map(Some),
            }
        })
    }

    /// See [`SessionIndex::list_sessions`](k8sops_core::SessionIndex::list_sessions).
    pub(super) fn list_sessions(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        let sessions = self.index.lock().list_sessions(user, after, limit);
        let summaries = sessions.into_iter().map(|session| {
            // A damaged session is listed too, so that it can be found and deleted.
            let is_damaged = self.index.lock().is_damaged(session);
            if is_damaged { self.read_indexed_summary(session) } else { self.read_summary(session) }
        });
        // A session that was deleted meanwhile is left out.
        summaries.filter_map(Result::transpose).collect()
    }

    pub(super) fn count_sessions(&self, user: &UserId) -> usize {
        self.index.lock().count_sessions(user)
    }

    pub(super) fn unfinished_sessions(&self) -> Vec<SessionId> {
        self.index.lock().unfinished_sessions()
    }

    /// Sessions that are damaged. All are opened: damage that does not change the size of a file is not seen at the start.
    pub(super) fn damaged_sessions(&self) -> Vec<DamagedSession> {
        let damaged = self.index.lock().all_sessions();
        let damaged = damaged.into_iter().map(|session| (session, self.with_session(session, |_| Ok(()))));
        damaged
            .filter_map(|(session_id, opened)| match opened {
                Ok(()) | Err(StoreError::NotFound(_)) => None,
                Err(error) => Some(DamagedSession { session_id, error }),
            })
            .collect()
    }

    /// Deletes a session and its outputs.
    pub(super) fn delete_session(
        &self,
        session: SessionId,
        guard: DeletionGuard,
        outputs: &OutputFiles,
    ) -> Result<IdleDeletion, StoreError> {
        let (slot, path) = self.find_file(session)?;
        let deleted = {
            let mut handle = slot.file.lock();
            if guard == DeletionGuard::SpareBusy && self.index.lock().is_busy(session) {
                Ok(IdleDeletion::Busy)
            } else {
                self.remove_session_file(&path).map(|()| {
                    *handle = FileHandle::Deleted;
                    self.views.remove(session);
                    self.index.lock().remove_session(session);
                    self.journal.erase_session(session);
                    outputs.delete_session_outputs(session);
                    IdleDeletion::Deleted
                })
            }
        };
        if let Ok(IdleDeletion::Deleted) = deleted {
            self.open.lock().set_owned(session, false);
            self.close_if_idle(session, slot);
            sync_parent_folder(&path)?;
        } else {
            self.close_if_idle(session, slot);
        }
        deleted
    }

    /// Removes a session's file, which deletes the session. What else belongs to it is removed afterwards, at the latest at
    /// the next start.
    fn remove_session_file(&self, path: &Path) -> Result<(), StoreError> {
        match disk_io::remove_file(path) {
            // Something else is in its place.
            Err(_) if path.is_dir() => discard_folder(&self.layout, path).map(drop),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.explain_missing_file(path) {
                // It is in its folder no more.
                Err(StoreError::Corrupt(_)) | Ok(()) => Ok(()),
                Err(away) => Err(away),
            },
            removed => removed.map_err(|error| unavailable(path, error)),
        }
    }

    /// The journal of all sessions.
    pub(super) fn journal(&self) -> &CommitJournal {
        &self.journal
    }
}

#[cfg(test)]
impl SessionFiles {
    /// The number of files that are open.
    pub(super) fn open_count(&self) -> usize {
        self.open.lock().len()
    }

    /// Holds a session's file open as a concurrent caller would.
    pub(super) fn hold_open(&self, session: SessionId) -> impl Sized + use<> {
        self.open.lock().slot(session)
    }

    /// Does something while a session's file is in use.
    pub(super) fn hold_file<T>(&self, session: SessionId, work: impl FnOnce() -> T) -> T {
        let slot = self.open.lock().slot(session);
        let _handle = slot.file.lock();
        work()
    }
}
