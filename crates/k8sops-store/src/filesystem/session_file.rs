//! The open file of one session: what is at its end is in memory, its lines are on the disk.

use std::{
    fs::OpenOptions,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use super::{
    commit_journal::CommitJournal,
    disk_io::{self, DiskOperation},
    files::{ChangeTimes, FileIdentity, create_private_file, replacement_path, sync_parent_folder, unavailable},
    known_log::KnownLog,
    line_damage::damaged_line,
    line_format::{FormatRecord, LineError, is_incomplete_write},
    line_search::last_line_start,
    log_line::{CommitRecord, LogLine},
    log_reader::{ExtraBytes, LogReader},
    session_replay::{ReplayOutcome, SessionReplay},
    session_views::SessionView,
    session_work::SessionWork,
    work_queue::wait_in_work,
};
use crate::{inbox_state::InboxState, lease_state::LeaseState};
use k8sops_core::{BackendError, EventPage, ReplayStart, SessionEvent, SessionState, SessionSummary, StoreError};

/// The open file of a session. All methods block.
#[derive(Debug)]
pub(super) struct SessionFile {
    pub(super) log: LogReader,
    /// The newest lines name another format, or another version of k8sops, than this process writes.
    pub(super) must_name_format: bool,
    /// The size of the file as of the index.
    indexed_bytes: u64,
    /// Where the newest checkpoint starts.
    pub(super) checkpoint_start: Option<u64>,
    /// The state as of the newest event, for the next reader or owner, until a commit makes it older.
    pub(super) state: Option<KeptState>,
    /// The size of the events after the newest checkpoint.
    pub(super) bytes_since_checkpoint: u64,
    /// Why the newest checkpoint cannot be read, until there is a newer one.
    pub(super) damaged_checkpoint: Option<BackendError>,
    pub(super) summary: SessionSummary,
    pub(super) inbox: InboxState,
    pub(super) lease: LeaseState,
    pub(super) write_state: WriteState,
    /// The times of the file after the newest write; `None` if they are not known.
    pub(super) change_times: Option<ChangeTimes>,
    /// The checksum of the bytes before the next line, if it is known, see [`JournalEntry::follows`].
    pub(super) follows: Option<String>,
    /// The summary or the inbox has changed since the last view of them.
    pub(super) has_changed: bool,
}

/// A session's state, and how much memory it takes.
#[derive(Debug)]
pub(super) struct KeptState {
    state: SessionState,
    bytes: u64,
}

impl KeptState {
    fn new(state: SessionState) -> Self {
        Self { bytes: state.estimated_bytes(), state }
    }
}

/// What another program did to an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForeignChange {
    None,
    /// It is the same file of the same size. Its content may be changed, or only its times or rights.
    Touched,
    /// Another file is in its place, or it has another size.
    Replaced,
}

/// Whether an open file can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteState {
    Ready,
    /// The disk took no writes when the file was opened.
    ReadOnly,
    /// A write failed and could not be undone: bytes that are not committed may be behind the committed lines.
    MustUndo,
    /// The file replaced another one, and that may not be on the disk. Syncing the folder again could succeed without
    /// writing it, so that the file must be replaced again.
    MustReplace,
    /// Only opening the file again tells what is on the disk, or whether it takes writes by now.
    MustReopen,
}

impl SessionFile {
    /// Creates a session's file with its first event.
    pub(super) fn create(path: &Path, created: &SessionEvent) -> Result<Self, StoreError> {
        let session = created.session_id;
        let summary = SessionSummary::from_first_event(created)
            .ok_or_else(|| StoreError::Corrupt("the first event of a session must be session_created".into()))?;
        let opened = disk_io::create_file(path);
        let file = match opened {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(StoreError::Exists(session)),
            opened => opened.map_err(|error| unavailable(path, error))?,
        };
        let log = LogReader::new(path.to_owned(), file, 0).map_err(|error| unavailable(path, error))?;
        let mut created_file = Self {
            log,
            must_name_format: true,
            indexed_bytes: 0,
            checkpoint_start: None,
            state: None,
            bytes_since_checkpoint: created.estimated_bytes(),
            damaged_checkpoint: None,
            summary,
            inbox: InboxState::default(),
            lease: LeaseState::after_epoch(0),
            write_state: WriteState::Ready,
            change_times: None,
            follows: None,
            has_changed: true,
        };
        let commit = CommitRecord { epoch: 0, events: vec![Arc::new(created.clone())], consumed: Vec::new() };
        let line =
            LogLine { seq: 1, commit: Some(commit), format: created_file.format_to_name(), ..LogLine::default() };
        let bytes = line.to_bytes();
        let written = disk_io::write_at(&created_file.log.file, path, &bytes, 0)
            .and_then(|()| disk_io::sync_file(&created_file.log.file, path))
            .map_err(|error| unavailable(path, error));
        if let Err(error) = written.and_then(|()| sync_parent_folder(path)) {
            // The caller gets an error, so that the session must not appear after the next start.
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        created_file.log.committed_bytes = bytes.len() as u64;
        created_file.must_name_format = false;
        Ok(created_file)
    }

    /// Opens a session's file and repairs its end: a line that is not complete was never acknowledged, and is cut off. A
    /// whole line is never changed.
    pub(super) fn open(path: &Path, known: KnownLog) -> Result<Self, StoreError> {
        let failed = |error: io::Error| unavailable(path, error);
        let mut write_state = WriteState::Ready;
        let file = match disk_io::open_file(path, OpenOptions::new().read(true).write(true)) {
            // What is stored can be read on a disk that takes no writes.
            Err(error) if matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => {
                write_state = WriteState::ReadOnly;
                disk_io::open_to_read(path)
            }
            opened => opened,
        };
        let file = file.map_err(failed)?;
        disk_io::check_operation(DiskOperation::Read, path).map_err(failed)?;
        let data = file.metadata().map_err(failed)?;
        if !data.is_file() {
            return Err(StoreError::Corrupt(format!("{} is not a file", path.display()).into()));
        }
        let file_bytes = data.len();
        let mut end = last_line_start(&file, file_bytes).map_err(failed)?;
        let mut tail = vec![0; usize::try_from(file_bytes - end).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut tail, end).map_err(failed)?;
        if !is_incomplete_write(&tail) {
            return Err(damaged_line(&file, path, end, LineError::NoLineEnd));
        }
        let replay = loop {
            match SessionReplay::replay_file(&file, path, end, known)? {
                ReplayOutcome::Complete(replay) => break *replay,
                ReplayOutcome::TornLastLine(start) => end = start,
            }
        };
        let Some(state) = replay.state else {
            // The file is left as it is, because a manual repair needs everything that is there.
            return Err(StoreError::Corrupt(format!("{} has no complete session_created", path.display()).into()));
        };
        if end < file_bytes {
            tracing::warn!(path = %path.display(), bytes = file_bytes - end, "cut off an incomplete line");
            let cut = disk_io::resize_file(&file, path, end).and_then(|()| disk_io::sync_file(&file, path));
            cut.map_err(failed)?;
        }
        // Before the lines were read, unless this process has changed the file since.
        let change_times = (end == file_bytes).then(|| ChangeTimes::from_metadata(&data));
        Ok(Self {
            log: LogReader::new(path.to_owned(), file, end).map_err(failed)?,
            must_name_format: replay.format != Some(FormatRecord::current()),
            indexed_bytes: known.bytes,
            checkpoint_start: replay.checkpoint_start,
            summary: state.summary.clone(),
            state: Some(KeptState::new(state)),
            bytes_since_checkpoint: replay.replayed_bytes,
            damaged_checkpoint: replay.damaged_checkpoint,
            inbox: replay.inbox,
            lease: LeaseState::after_epoch(replay.epoch),
            write_state,
            change_times,
            follows: None,
            has_changed: true,
        })
    }

    /// Finds what another program did to the file since this process has used it.
    pub(super) fn find_foreign_change(&self) -> Result<ForeignChange, StoreError> {
        let excused = if self.write_state == WriteState::MustUndo { ExtraBytes::Excused } else { ExtraBytes::Foreign };
        let Some(data) = self.log.find_metadata(excused)? else { return Ok(ForeignChange::Replaced) };
        let is_touched = self.change_times.is_some_and(|times| times != ChangeTimes::from_metadata(&data));
        Ok(if is_touched { ForeignChange::Touched } else { ForeignChange::None })
    }

    /// Continues the ownership of the same file, which was opened again and found to have the same content.
    pub(super) fn continue_lease(&mut self, earlier: &Self) {
        let is_same = self.summary == earlier.summary
            && self.log.committed_bytes == earlier.log.committed_bytes
            && self.inbox.entries.len() == earlier.inbox.entries.len();
        if is_same {
            self.lease = earlier.lease.clone();
        }
    }

    /// Makes the file as it was committed, if that was not possible when a write failed.
    pub(super) fn recover_from_failed_write(&mut self, journal: &CommitJournal) -> Result<(), StoreError> {
        match self.write_state {
            WriteState::Ready => {}
            WriteState::ReadOnly => {
                // The disk may take writes by now.
                self.write_state = WriteState::MustReopen;
                return Err(unavailable(&self.log.path, ErrorKind::ReadOnlyFilesystem.into()));
            }
            WriteState::MustReopen => {
                return Err(unavailable(&self.log.path, ErrorKind::StaleNetworkFileHandle.into()));
            }
            WriteState::MustUndo => {
                self.truncate_to_committed(journal).map_err(|error| unavailable(&self.log.path, error))?;
            }
            WriteState::MustReplace => {
                // By its path: the open file may be stale.
                let bytes = disk_io::read_file(&self.log.path).map_err(|error| unavailable(&self.log.path, error))?;
                let committed = usize::try_from(self.log.committed_bytes).ok().and_then(|end| bytes.get(..end));
                let too_short = || unavailable(&self.log.path, ErrorKind::UnexpectedEof.into());
                self.replace_bytes(committed.ok_or_else(too_short)?)?;
                self.sync_replacement(journal)?;
            }
        }
        self.write_state = WriteState::Ready;
        Ok(())
    }

    pub(super) fn truncate_to_committed(&self, journal: &CommitJournal) -> io::Result<()> {
        journal.guard_sync(self.summary.session_id, || {
            disk_io::resize_file(&self.log.file, &self.log.path, self.log.committed_bytes)?;
            disk_io::sync_file(&self.log.file, &self.log.path)
        })
    }

    /// The format, if the next line must name it.
    pub(super) fn format_to_name(&self) -> Option<FormatRecord> {
        self.must_name_format.then(FormatRecord::current)
    }

    /// Whether the index has the newest lines.
    pub(super) fn is_indexed(&self) -> bool {
        self.indexed_bytes == self.log.committed_bytes
    }

    /// Notes that the index has the newest lines.
    pub(super) fn mark_indexed(&mut self) {
        self.indexed_bytes = self.log.committed_bytes;
    }

    /// Where the newest checkpoint starts; 0 if there is none.
    pub(super) fn checkpoint_start(&self) -> u64 {
        self.checkpoint_start.unwrap_or(0)
    }

    /// The size of the file in bytes.
    pub(super) fn size(&self) -> u64 {
        self.log.committed_bytes
    }

    pub(super) fn must_reopen(&self) -> bool {
        self.write_state == WriteState::MustReopen
    }

    /// Whether it may be opened again to find out what is on the disk.
    pub(super) fn may_reopen(&self) -> bool {
        self.write_state != WriteState::MustReplace
    }

    /// What readers see of the session, if that has changed since the last call.
    pub(super) fn take_changed_view(&mut self) -> Option<SessionView> {
        std::mem::take(&mut self.has_changed).then(|| SessionView {
            summary: self.complete_summary(),
            inbox: self.inbox.entries.clone(),
            oldest_seq: self.log.oldest_seq,
        })
    }

    /// The summary as of now.
    pub(super) fn complete_summary(&self) -> SessionSummary {
        self.inbox.complete_summary(&self.summary)
    }

    /// What is left to do in the session.
    pub(super) fn work(&self) -> SessionWork {
        let busy = self.summary.open_run.is_some() || !self.inbox.entries.is_empty();
        SessionWork { unfinished: busy || self.summary.has_work(), busy, waiting: self.inbox.has_message() }
    }

    /// See [`SessionLog::read_events`](k8sops_core::SessionLog::read_events).
    pub(super) fn read_events(&mut self, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        self.log.read_events(after, limit, self.summary.last_seq)
    }

    /// The newest checkpoint.
    pub(super) fn read_checkpoint(&self) -> Result<Option<SessionState>, StoreError> {
        let Some(start) = self.checkpoint_start else { return Ok(None) };
        Ok(self.log.read_line(start)?.checkpoint.map(|checkpoint| checkpoint.state))
    }

    /// See [`SessionLog::read_replay_start`](k8sops_core::SessionLog::read_replay_start).
    pub(super) fn read_replay_start(&self) -> Result<ReplayStart, StoreError> {
        let (state, replayed_bytes) = match &self.state {
            // Its messages are shared with the caller.
            Some(kept) => (Some(kept.state.clone()), self.bytes_since_checkpoint),
            None => (wait_in_work(|| self.read_checkpoint())?, 0),
        };
        Ok(ReplayStart { state, replayed_bytes, damaged_checkpoint: self.damaged_checkpoint.clone() })
    }

    /// See [`SessionLog::keep_state`](k8sops_core::SessionLog::keep_state).
    pub(super) fn keep_state(&mut self, state: SessionState) {
        if state.last_seq() == self.summary.last_seq {
            self.state = Some(KeptState::new(state));
        }
    }

    /// The size of the state that is kept in memory.
    pub(super) fn kept_state_bytes(&self) -> u64 {
        self.state.as_ref().map_or(0, |kept| kept.bytes)
    }

    /// Frees the state that is kept in memory.
    pub(super) fn forget_state(&mut self) {
        self.state = None;
    }

    pub(super) fn record_change_times(&mut self) {
        self.change_times = self.log.file.metadata().ok().map(|data| ChangeTimes::from_metadata(&data));
    }

    /// Replaces all lines of the file. The caller syncs that.
    pub(super) fn replace_bytes(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let new = replacement_path(&self.log.path);
        let replaced = create_private_file(&new).and_then(|file| {
            disk_io::write_at(&file, &new, bytes, 0)?;
            disk_io::sync_file(&file, &new)?;
            let identity = FileIdentity::at_path(&new)?;
            disk_io::rename_file(&new, &self.log.path)?;
            Ok((file, identity))
        });
        let replaced = replaced.map_err(|error| {
            let _ = std::fs::remove_file(&new);
            unavailable(&self.log.path, error)
        })?;
        let (file, identity) = replaced;
        (self.log.file, self.log.identity) = (Arc::new(file), identity);
        self.log.page_end = None;
        self.follows = None;
        self.must_name_format = false;
        self.log.committed_bytes = bytes.len() as u64;
        self.record_change_times();
        Ok(())
    }

    /// Makes a replacement durable. If that fails it took effect, but may not survive a power failure.
    pub(super) fn sync_replacement(&mut self, journal: &CommitJournal) -> Result<(), StoreError> {
        sync_parent_folder(&self.log.path).inspect_err(|_| self.write_state = WriteState::MustReplace)?;
        journal.mark_synced(self.summary.session_id);
        Ok(())
    }
}
