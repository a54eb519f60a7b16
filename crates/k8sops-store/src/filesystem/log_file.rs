//! One session's file, open: its end at hand, its lines on the disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    index::Work,
    lines,
    record::{CheckpointRecord, CommitRecord, Line, is_commit},
};
use crate::inbox::{Admission, InboxState, Ownership};
use k8sops_core::{
    CommandReceipt, EventPage, LogCommit, SessionCommand, SessionEvent, SessionId, SessionState, SessionSummary,
    StoreError,
};

/// A session's file. All methods block.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Bytes that are committed; what a broken write left behind them is not there.
    end: u64,
    /// Where the newest checkpoint's line begins, if there is one.
    checkpoint_at: Option<u64>,
    oldest_seq: u64,
    pub(super) summary: SessionSummary,
    pub(super) inbox: InboxState,
    pub(super) ownership: Ownership,
    /// A write failed and could not be undone: the file must be opened anew, which repairs it.
    broken: bool,
}

impl LogFile {
    /// Makes a session's file with its first event.
    pub(super) fn create(path: PathBuf, created: &SessionEvent) -> Result<Self, StoreError> {
        let session = created.session_id;
        let summary = SessionSummary::from_first_event(created)
            .ok_or_else(|| StoreError::Corrupt("a session begins with session_created".into()))?;
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(StoreError::Exists(session)),
            opened => opened.map_err(|error| unavailable(&path, error))?,
        };
        let mut log = Self {
            path,
            file,
            end: 0,
            checkpoint_at: None,
            oldest_seq: 1,
            summary,
            inbox: InboxState::default(),
            ownership: Ownership::after(0),
            broken: false,
        };
        let events = vec![Arc::new(created.clone())];
        let commit = CommitRecord { epoch: 0, events, consumed: Vec::new() };
        let line = Line { seq: 1, commit: Some(commit), ..Line::default() };
        if let Err(error) = log.write(&line.to_bytes()).and_then(|()| sync_folder_of(&log.path)) {
            // Whoever asked is told that there is no such session: then there must be none after the next start either.
            let _ = std::fs::remove_file(&log.path);
            return Err(error);
        }
        Ok(log)
    }

    /// Opens a session's file and repairs its end: a line that was not written whole was never acknowledged.
    pub(super) fn open(path: PathBuf, session: SessionId) -> Result<Self, StoreError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound(session),
            _ => unavailable(&path, error),
        };
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(&failed)?;
        let length = file.metadata().map_err(&failed)?.len();
        let mut end = lines::start_of_last(&file, length).map_err(&failed)?;
        let replay = loop {
            match Replay::of(&file, &path, end)? {
                Ok(replay) => break replay,
                // The last line is no record: the disk had not yet what the file system says it has.
                Err(cut) => end = cut,
            }
        };
        let Some(state) = replay.state else {
            // Left as it is: whoever repairs it needs all that there is.
            return Err(StoreError::Corrupt(format!("{} has no whole session_created", path.display()).into()));
        };
        if end < length {
            tracing::warn!(path = %path.display(), bytes = length - end, "cut off a line that was not written whole");
            file.set_len(end).and_then(|()| file.sync_all()).map_err(&failed)?;
        }
        Ok(Self {
            oldest_seq: oldest_seq(&file, end).map_err(|error| unavailable(&path, error))?,
            path,
            file,
            end,
            checkpoint_at: replay.checkpoint_at,
            summary: state.summary,
            inbox: replay.inbox,
            ownership: Ownership::after(replay.epoch),
            broken: false,
        })
    }

    /// The size of the file in bytes.
    pub(super) fn size(&self) -> u64 {
        self.end
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// The summary as of now.
    pub(super) fn shown(&self) -> SessionSummary {
        self.inbox.shown(&self.summary)
    }

    /// What there is to do.
    pub(super) fn work(&self) -> Work {
        let busy = self.summary.open_run.is_some() || !self.inbox.waiting.is_empty();
        Work { unfinished: busy || self.summary.has_work(), busy, waiting: self.inbox.message_waits() }
    }

    /// See [`k8sops_core::SessionLog::commit_events`].
    pub(super) fn commit(&mut self, commit: &LogCommit<'_>, shallow: bool) -> Result<(), StoreError> {
        self.ownership.admit(commit, self.summary.last_seq)?;
        let mut bytes = Vec::new();
        if let Some(state) = commit.checkpoint {
            let record = CheckpointRecord { state: state.clone(), epoch: commit.epoch.0, inbox: self.inbox.clone() };
            let line = Line { seq: self.summary.last_seq, checkpoint: Some(Box::new(record)), ..Line::default() };
            bytes = line.to_bytes();
        }
        if !commit.events.is_empty() || !commit.consumed.is_empty() {
            let record = CommitRecord {
                epoch: commit.epoch.0,
                events: commit.events.to_vec(),
                consumed: commit.consumed.to_vec(),
            };
            let seq = commit.expected_seq + commit.events.len() as u64;
            bytes.extend(Line { seq, commit: Some(record), ..Line::default() }.to_bytes());
        }
        if commit.checkpoint.is_some() && shallow {
            self.rewrite(&bytes)?;
            self.checkpoint_at = Some(0);
            self.oldest_seq = commit.expected_seq + 1;
        } else {
            let at = self.end;
            self.write(&bytes)?;
            if commit.checkpoint.is_some() {
                self.checkpoint_at = Some(at);
            }
        }
        self.inbox.consume(commit.consumed);
        self.summary.clone_from(commit.summary);
        Ok(())
    }

    /// See [`k8sops_core::Inbox::submit_command`].
    pub(super) fn submit(&mut self, command: SessionCommand) -> Result<CommandReceipt, StoreError> {
        let open_run = self.summary.open_run.is_some();
        let last_seq = self.summary.last_seq;
        match self.inbox.admit(self.summary.session_id, command, last_seq, open_run)? {
            Admission::Known(receipt) => Ok(receipt),
            Admission::New(entry) => {
                let line = Line { seq: last_seq, inbox: Some((*entry).clone()), ..Line::default() };
                self.write(&line.to_bytes())?;
                Ok(self.inbox.take(*entry))
            }
        }
    }

    /// See [`k8sops_core::SessionLog::read_events`].
    pub(super) fn read(&self, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        let mut page = EventPage { events: Vec::new(), last_seq: self.summary.last_seq, oldest_seq: self.oldest_seq };
        if after >= page.last_seq {
            return Ok(page);
        }
        let failed = |error: io::Error| unavailable(&self.path, error);
        let mut at = lines::place_of(&self.file, after, self.end).map_err(&failed)?;
        let mut reader = self.reader(at).map_err(&failed)?;
        let mut bytes = Vec::new();
        while page.events.len() < limit.max(1) && at < self.end {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes).map_err(&failed)?;
            if length == 0 {
                break;
            }
            if is_commit(&bytes) {
                let line = parse(&bytes).map_err(|error| corrupt(&self.path, at, error))?;
                let events = line.commit.into_iter().flat_map(|commit| commit.events);
                page.events.extend(events.filter(|event| event.seq > after));
            }
            at += length as u64;
        }
        page.events.truncate(limit.max(1));
        Ok(page)
    }

    /// The newest checkpoint.
    pub(super) fn checkpoint(&self) -> Result<Option<SessionState>, StoreError> {
        let Some(at) = self.checkpoint_at else { return Ok(None) };
        let mut bytes = Vec::new();
        self.reader(at)
            .and_then(|mut reader| reader.read_until(b'\n', &mut bytes))
            .map_err(|error| unavailable(&self.path, error))?;
        let line = parse(&bytes).map_err(|error| corrupt(&self.path, at, error))?;
        Ok(line.checkpoint.map(|checkpoint| checkpoint.state))
    }

    fn reader(&self, at: u64) -> io::Result<impl BufRead> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(at))?;
        Ok(BufReader::with_capacity(64 * 1024, file.take(self.end - at)))
    }

    /// Writes lines behind the last one; they are on the disk when it returns. All of them, or none.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all_at(bytes, self.end).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What is there of it must not become the beginning of the next line.
            let undone = self.file.set_len(self.end).and_then(|()| self.file.sync_all());
            self.broken = undone.is_err();
            return Err(unavailable(&self.path, error));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Puts lines into the place of all that is there.
    fn rewrite(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let new = self.path.with_extension("jsonl.new");
        let replaced =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&new).and_then(
                |file| {
                    file.write_all_at(bytes, 0)?;
                    file.sync_all()?;
                    std::fs::rename(&new, &self.path)?;
                    Ok(file)
                },
            );
        self.file = replaced.map_err(|error| unavailable(&self.path, error))?;
        self.end = bytes.len() as u64;
        // The rename has happened in any case; that it is not known to last is no reason to go back.
        if let Err(error) = sync_folder_of(&self.path) {
            self.broken = true;
            return Err(error);
        }
        Ok(())
    }
}

/// Why a line of a session's file cannot be replayed.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("seq {seq} follows seq {last_seq}")]
    Gap { seq: u64, last_seq: u64 },
}

/// What the lines from the newest checkpoint on say.
struct Replay {
    state: Option<SessionState>,
    checkpoint_at: Option<u64>,
    epoch: u64,
    inbox: InboxState,
}

impl Replay {
    /// Reads the lines up to `end`. The inner error is where the last line begins, when that one is no record.
    fn of(file: &File, path: &Path, end: u64) -> Result<Result<Self, u64>, StoreError> {
        let failed = |error: io::Error| unavailable(path, error);
        let mut at = lines::newest_checkpoint(file, end).map_err(failed)?;
        let mut file = file;
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        let mut reader = BufReader::new(file.take(end - at));
        let mut replay = Self { state: None, checkpoint_at: None, epoch: 0, inbox: InboxState::default() };
        let mut bytes = Vec::new();
        while at < end {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes).map_err(failed)? as u64;
            let taken = parse(&bytes).map_err(ReplayError::from).and_then(|line| replay.take(line, at));
            match taken {
                Ok(()) => at += length,
                Err(_) if at + length >= end && at > 0 => return Ok(Err(at)),
                Err(error) => return Err(corrupt(path, at, error)),
            }
            if length == 0 {
                break;
            }
        }
        Ok(Ok(replay))
    }

    fn take(&mut self, line: Line, at: u64) -> Result<(), ReplayError> {
        if let Some(checkpoint) = line.checkpoint {
            let checkpoint = *checkpoint;
            self.checkpoint_at = Some(at);
            self.epoch = self.epoch.max(checkpoint.epoch);
            self.inbox = checkpoint.inbox;
            self.state = Some(checkpoint.state);
        }
        if let Some(entry) = line.inbox {
            self.inbox.take(entry);
        }
        if let Some(commit) = line.commit {
            self.epoch = self.epoch.max(commit.epoch);
            self.inbox.consume(&commit.consumed);
            for event in &commit.events {
                let last_seq = self.state.as_ref().map_or(0, SessionState::last_seq);
                if event.seq != last_seq + 1 {
                    return Err(ReplayError::Gap { seq: event.seq, last_seq });
                }
                match &mut self.state {
                    Some(state) => state.apply_event(event),
                    None => self.state = SessionState::from_first_event(event),
                }
            }
        }
        Ok(())
    }
}

/// The seq of the oldest event in the file: the first line has it, or is a checkpoint that comes right before it.
fn oldest_seq(file: &File, end: u64) -> io::Result<u64> {
    let head = lines::head(file, 0, end)?;
    let seq = super::record::seq_of(&head).unwrap_or(0);
    Ok(if super::record::is_checkpoint(&head) { seq + 1 } else { 1 })
}

fn parse(bytes: &[u8]) -> serde_json::Result<Line> {
    serde_json::from_slice(bytes)
}

fn corrupt(path: &Path, at: u64, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::corrupt(format!("{} at byte {at}", path.display()), error)
}

pub(super) fn unavailable(path: &Path, error: io::Error) -> StoreError {
    StoreError::unavailable(path.display().to_string(), error)
}

/// Makes the creation, renaming or removal of a file last.
pub(super) fn sync_folder_of(path: &Path) -> Result<(), StoreError> {
    // The parent of a name alone is no name at all.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| unavailable(folder, error))
}
