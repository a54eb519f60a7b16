//! The journal, by which one wait for the disk makes the lines of all sessions durable that were written meanwhile.
//!
//! A line is written to its session's file first, which is not waited for. Its writer then adds it to the batch that is being
//! gathered, and does not wait. The first of the writers writes the batch to the journal, syncs that once, and tells all of them;
//! what arrives in between is its next batch. Another thread syncs the sessions' files later and empties the journal: when it is
//! full, at rest, before a session's deletion is done, and at the end. What a power failure takes from the sessions' files in
//! between is written again from the journal at the next start.
//!
//! There are two files, so that one is emptied while the other is written.

use std::{
    fmt, io, mem,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    batch_writing::BatchWriting,
    disk_io,
    journal_batch::{FinishedBatch, GatheredBatch, WrittenLines},
    journal_file::{FULL_BYTES, JournalFile},
    journal_replay::replay_journal_file,
    layout::StoreLayout,
    unsynced_files::{UnsyncedFile, sync_files},
    work_queue::wait_in_work,
};
use k8sops_core::SessionId;

/// Larger lines are not worth to be written twice: their file is synced.
const MAX_LINES_BYTES: usize = 256 * 1024;
/// While one file of the journal cannot be emptied, the other one grows to this size. Then sessions' files are synced.
const LIMIT_BYTES: u64 = 16 * FULL_BYTES;
/// How long the store is at rest until the journal is emptied.
const REST: Duration = Duration::from_secs(2);

/// The journal of a store.
pub(super) struct CommitJournal {
    shared: Arc<JournalShared>,
    thread: Option<JoinHandle<()>>,
}

struct JournalShared {
    layout: StoreLayout,
    // Never held during file access.
    state: Mutex<JournalState>,
    /// A batch was written, or could not be.
    batch_done: Condvar,
    /// The thread has something to do.
    must_empty: Condvar,
    /// Held while a file is emptied.
    emptying: Mutex<()>,
}

struct JournalState {
    gathered: GatheredBatch,
    /// A thread writes what is gathered until nothing is left.
    has_writer: bool,
    /// A batch is being written.
    is_writing: bool,
    next_number: u64,
    files: [JournalFile; 2],
    /// Which file is written to.
    active: usize,
    written_at: Instant,
    /// Emptying failed, and is tried again after some time.
    failed_at: Option<Instant>,
    end: JournalEnd,
}

/// Whether the journal is still in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JournalEnd {
    InUse,
    /// The thread empties the journal once more.
    Closed,
    /// The process ends as if it was killed.
    #[cfg(test)]
    Abandoned,
}

impl CommitJournal {
    /// The journal of a store whose files have all that an earlier one had.
    pub(super) fn new(layout: &StoreLayout) -> Self {
        let state = JournalState {
            gathered: GatheredBatch::default(),
            has_writer: false,
            is_writing: false,
            next_number: 1,
            files: layout.journal_files().map(JournalFile::new),
            active: 0,
            written_at: Instant::now(),
            failed_at: None,
            end: JournalEnd::InUse,
        };
        let shared = Arc::new(JournalShared {
            layout: layout.clone(),
            state: Mutex::new(state),
            batch_done: Condvar::new(),
            must_empty: Condvar::new(),
            emptying: Mutex::default(),
        });
        let of_thread = shared.clone();
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || of_thread.empty_until_closed());
        if let Err(error) = &thread {
            tracing::warn!(%error, "journal of the store has no thread, it is emptied at the end");
        }
        Self { shared, thread: thread.ok() }
    }

    /// Returns what appends lines without keeping the store open.
    pub(super) fn appender(&self) -> LineAppender {
        LineAppender { journal: self.shared.clone() }
    }

    /// Notes that a session's file is on the disk with all its lines.
    pub(super) fn mark_synced(&self, session: SessionId) {
        self.shared.state.lock().mark_synced(session);
    }

    /// Does something that syncs a session's file. If that fails, what was written to the file before may be lost although a
    /// later sync succeeds, so that the lines that the journal has of it are written again.
    pub(super) fn guard_sync<T, E>(&self, session: SessionId, sync: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.shared.guard_sync(session, sync)
    }

    /// Removes all lines of a session that was deleted. The journal is emptied if it has some.
    pub(super) fn erase_session(&self, session: SessionId) {
        let mut state = self.shared.state.lock();
        if !state.files.iter().any(|file| file.sessions.contains_key(&session)) {
            return;
        }
        state.mark_synced(session);
        drop(state);
        self.shared.empty_all();
    }

    /// Ends as a process that is killed.
    #[cfg(test)]
    pub(super) fn abandon(&self) {
        self.shared.state.lock().end = JournalEnd::Abandoned;
    }

    /// Empties the journal.
    pub(super) fn empty(&self) {
        self.shared.empty_all();
    }
}

impl fmt::Debug for CommitJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitJournal").finish_non_exhaustive()
    }
}

/// Appends lines to the journal.
pub(super) struct LineAppender {
    journal: Arc<JournalShared>,
}

impl LineAppender {
    /// Lets lines become durable, and tells their `finish`. If that fails they are in no file of the journal, and `finish`
    /// undoes them. The caller runs the writer that it gets.
    #[must_use]
    pub(super) fn append_lines(self, lines: WrittenLines) -> Option<BatchWriter> {
        self.journal.append_lines(lines)
    }
}

/// The duty to write what is gathered.
#[must_use]
pub(super) struct BatchWriter {
    journal: Arc<JournalShared>,
}

impl BatchWriter {
    /// Writes batches until nothing is gathered.
    pub(super) fn write_batches(self) {
        while let Some(finished) = self.journal.write_gathered() {
            finished.finish_lines();
        }
    }
}

impl Drop for BatchWriter {
    fn drop(&mut self) {
        // After a panic, the next lines get another writer. Without one, another thread may write by now.
        if thread::panicking() {
            self.journal.state.lock().has_writer = false;
        }
    }
}

impl Drop for CommitJournal {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if state.end == JournalEnd::InUse {
            state.end = JournalEnd::Closed;
        }
        drop(state);
        self.shared.must_empty.notify_all();
        match self.thread.take() {
            // A batch that the thread itself wrote was the last user of the store.
            Some(thread) if thread.thread().id() == thread::current().id() => {}
            Some(thread) => drop(thread.join()),
            None => self.shared.empty_all(),
        }
    }
}

impl JournalState {
    fn mark_synced(&mut self, session: SessionId) {
        for file in &mut self.files {
            if let Some(unsynced) = file.sessions.get_mut(&session) {
                *unsynced = None;
            }
        }
    }

    fn active_file(&mut self) -> &mut JournalFile {
        &mut self.files[self.active]
    }

    /// Whether the thread should empty the file that is written to.
    fn should_empty(&self) -> bool {
        let retries = self.failed_at.is_none_or(|at| at.elapsed() >= REST);
        let is_full = self.files[self.active].is_full();
        let rests = self.written_at.elapsed() >= REST;
        let has_lines = self.files.iter().any(|file| !file.is_empty());
        retries && has_lines && (is_full || rests || !self.files[1 - self.active].is_empty())
    }
}

impl JournalShared {
    fn append_lines(self: &Arc<Self>, lines: WrittenLines) -> Option<BatchWriter> {
        let mut state = self.state.lock();
        if lines.bytes.len() > MAX_LINES_BYTES || state.active_file().end >= LIMIT_BYTES {
            let mut finished = FinishedBatch::default();
            if state.files.iter().any(|file| file.failed_bytes > 0) {
                // Lines that failed must not become valid behind these.
                (state, finished) = self.write_next_batch(state);
            }
            let failed = state.files.iter().find(|file| file.failed_bytes > 0);
            let failed = failed.map(|failed| io::Error::other(format!("{} cannot be written", failed.path.display())));
            drop(state);
            finished.finish_lines();
            (lines.finish)(failed.map_or_else(|| self.sync_session(lines.entry.session, &lines.unsynced), Err));
            return None;
        }
        state.gathered.push(lines);
        let has_writer = mem::replace(&mut state.has_writer, true);
        (!has_writer).then(|| BatchWriter { journal: self.clone() })
    }

    fn sync_session(&self, session: SessionId, unsynced: &UnsyncedFile) -> io::Result<()> {
        self.guard_sync(session, || disk_io::sync_file(&unsynced.file, &unsynced.path))?;
        self.state.lock().mark_synced(session);
        Ok(())
    }

    /// Writes the lines that are gathered, if there are any.
    fn write_gathered(&self) -> Option<FinishedBatch> {
        let mut state = self.state.lock();
        if state.gathered.is_empty() {
            state.has_writer = false;
            return None;
        }
        Some(self.write_next_batch(state).1)
    }

    /// See [`CommitJournal::guard_sync`].
    fn guard_sync<T, E>(&self, session: SessionId, sync: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        // Before the sync: a file of the journal that is emptied meanwhile may sync the session's file after it has failed.
        let guarded = self.state.lock().files.each_mut().map(|file| {
            let has_lines = file.sessions.contains_key(&session);
            file.guarded_syncs += usize::from(has_lines);
            has_lines
        });
        let synced = sync();
        let mut state = self.state.lock();
        for (file, is_guarded) in state.files.iter_mut().zip(guarded) {
            file.guarded_syncs -= usize::from(is_guarded);
            file.must_replay |= is_guarded && synced.is_err();
        }
        synced
    }

    /// Writes the gathered batch, which the caller finishes without the lock. One thread does that at a time.
    fn write_next_batch<'a>(
        &'a self,
        mut state: MutexGuard<'a, JournalState>,
    ) -> (MutexGuard<'a, JournalState>, FinishedBatch) {
        while state.is_writing {
            wait_in_work(|| self.batch_done.wait(&mut state));
        }
        let batch = mem::take(&mut state.gathered);
        state.is_writing = true;
        let number = state.next_number;
        state.next_number += 1;
        let at = state.active;
        let JournalFile { path, handle, end, failed_bytes, .. } = state.active_file();
        let mut writing = BatchWriting {
            path: path.clone(),
            handle: handle.clone(),
            end: *end,
            failed_bytes: *failed_bytes,
            root: self.layout.root(),
        };
        drop(state);
        let written = self
            .replace_lost_file(at, &mut writing)
            .and_then(|()| writing.write_batch(number, &batch.entries, &batch.lines));
        let mut state = self.state.lock();
        let file = &mut state.files[at];
        let was_empty = file.is_empty();
        (file.handle, file.end, file.failed_bytes) = (writing.handle, writing.end, writing.failed_bytes);
        if written.is_ok() {
            for (entry, unsynced) in batch.entries.iter().zip(&batch.files) {
                file.sessions.insert(entry.session, Some(unsynced.clone()));
            }
        }
        let is_full = file.is_full();
        state.written_at = Instant::now();
        state.is_writing = false;
        self.batch_done.notify_all();
        if is_full || was_empty {
            self.must_empty.notify_one();
        }
        (state, batch.into_finished(written))
    }

    /// Starts another file if another program removed or replaced the one that is written to. What was in it is made durable.
    fn replace_lost_file(&self, at: usize, writing: &mut BatchWriting<'_>) -> io::Result<()> {
        if writing.handle.as_ref().is_none_or(|handle| handle.is_at_path(&writing.path)) {
            return Ok(());
        }
        tracing::error!(path = %writing.path.display(), "file of the journal was removed or replaced, starting another one");
        let unsynced = self.state.lock().files[at].unsynced();
        sync_files(&unsynced)?;
        (writing.handle, writing.end, writing.failed_bytes) = (None, 0, 0);
        self.state.lock().files[at].forget_lines();
        Ok(())
    }

    /// Empties files until the journal is closed.
    fn empty_until_closed(&self) {
        loop {
            let mut state = self.state.lock();
            while state.end == JournalEnd::InUse && !state.should_empty() {
                if state.files.iter().all(JournalFile::is_empty) {
                    self.must_empty.wait(&mut state);
                } else {
                    self.must_empty.wait_for(&mut state, REST);
                }
            }
            let end = state.end;
            drop(state);
            match end {
                JournalEnd::InUse => self.empty_once(),
                JournalEnd::Closed => return self.empty_all(),
                #[cfg(test)]
                JournalEnd::Abandoned => return,
            }
        }
    }

    /// Empties both files, also of lines that are written meanwhile.
    fn empty_all(&self) {
        self.empty_once();
        self.empty_once();
    }

    /// Empties the file that is not written to, or lets the other one be written and empties this one.
    fn empty_once(&self) {
        let _guard = self.emptying.lock();
        let mut state = self.state.lock();
        while state.is_writing {
            self.batch_done.wait(&mut state);
        }
        if state.files[1 - state.active].is_empty() {
            let mut finished = FinishedBatch::default();
            // What a failed write left must be gone before the other file is written.
            if state.active_file().failed_bytes > 0 {
                (state, finished) = self.write_next_batch(state);
            }
            let has_failed = state.active_file().failed_bytes > 0;
            let has_lines = !has_failed && !state.active_file().is_empty();
            if has_failed {
                state.failed_at = Some(Instant::now());
            }
            if has_lines {
                state.active = 1 - state.active;
            }
            drop(state);
            finished.finish_lines();
            if !has_lines {
                return;
            }
            state = self.state.lock();
        }
        // Only here the active file changes, and one thread is here at a time.
        let emptied = 1 - state.active;
        let JournalFile { path, handle, end, .. } = &state.files[emptied];
        let (Some(handle), false) = (handle.clone(), *end == 0) else { return };
        let (path, end) = (path.clone(), *end);
        let unsynced = state.files[emptied].unsynced();
        drop(state);
        let result = self.sync_sessions(emptied, &path, &unsynced).and_then(|()| {
            let zeros = vec![0; usize::try_from(end).unwrap_or(0)];
            let overwritten = disk_io::write_at(&handle.file, &path, &zeros, 0)
                .and_then(|()| disk_io::sync_file(&handle.file, &path));
            overwritten.map_err(|error| error.to_string())
        });
        // The handle may be stale.
        let reopened = result.as_ref().err().and_then(|_| handle.reopen(&path).ok());
        let mut state = self.state.lock();
        let emptied = &mut state.files[emptied];
        match result {
            Ok(()) => {
                emptied.end = 0;
                emptied.forget_lines();
                state.failed_at = None;
            }
            Err(error) => {
                emptied.must_replay = true;
                emptied.handle = reopened.or(emptied.handle.take());
                if state.failed_at.replace(Instant::now()).is_none() {
                    tracing::warn!(path = %path.display(), %error, "journal of the store cannot be emptied, retrying");
                }
            }
        }
    }

    /// Makes all lines durable that a file of the journal has.
    fn sync_sessions(&self, file: usize, path: &Path, unsynced: &[UnsyncedFile]) -> Result<(), String> {
        let synced = sync_files(unsynced);
        // After a failed sync the next one succeeds without having written anything.
        if synced.is_err() || self.state.lock().files[file].must_replay() {
            replay_journal_file(&self.layout, path).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
