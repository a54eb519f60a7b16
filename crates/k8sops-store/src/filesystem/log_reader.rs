//! Reads the lines of a session's file of which every line was committed.

use std::{
    fs::{File, Metadata},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
};

use super::{
    disk_io::{self, DiskOperation},
    files::{FileIdentity, unavailable},
    line_damage::damaged_line,
    line_search::{events_start, read_line_head},
    log_line::{LogLine, is_checkpoint, is_commit, is_inbox, parse_seq},
};
use k8sops_core::{EventPage, StoreError};

/// How much is read at once. A page of events ends somewhere in what was read last.
const READ_BYTES: usize = 8 * 1024;

/// The committed lines of a session's file. All methods block.
#[derive(Debug)]
pub(super) struct LogReader {
    pub(super) path: PathBuf,
    /// Shared with the journal, which syncs it later.
    pub(super) file: Arc<File>,
    /// Which file is at `path` as long as no other program has put another one there.
    pub(super) identity: FileIdentity,
    /// The size of the committed lines; bytes of a failed write behind them do not count.
    pub(super) committed_bytes: u64,
    pub(super) oldest_seq: u64,
    /// The seq of the last event of the page that was read last, and the start of the line in which the next page begins.
    pub(super) page_end: Option<(u64, u64)>,
}

impl LogReader {
    /// Reads the first `committed_bytes` of an open file.
    pub(super) fn new(path: PathBuf, file: File, committed_bytes: u64) -> io::Result<Self> {
        let identity = FileIdentity::at_path(&path)?;
        let oldest_seq = read_oldest_seq(&file, committed_bytes)?;
        Ok(Self { path, file: Arc::new(file), identity, committed_bytes, oldest_seq, page_end: None })
    }

    /// Whether the open file is still the one at its path, with the lines that are known. If not, another program has
    /// replaced or changed it. Bytes behind the committed lines may be `excused`.
    pub(super) fn is_current(&self, excused: ExtraBytes) -> Result<bool, StoreError> {
        self.find_metadata(excused).map(|data| data.is_some())
    }

    /// What the file system knows of the file at its path; `None` if the file [is not current](Self::is_current).
    pub(super) fn find_metadata(&self, excused: ExtraBytes) -> Result<Option<Metadata>, StoreError> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(data) => {
                let has_size = excused == ExtraBytes::Excused || data.len() == self.committed_bytes;
                let is_current = has_size && FileIdentity::from_metadata(&data) == self.identity;
                Ok(is_current.then_some(data))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(&self.path, error)),
        }
    }

    /// See [`SessionLog::read_events`](k8sops_core::SessionLog::read_events). `last_seq` is that of the newest event.
    pub(super) fn read_events(&mut self, after: u64, limit: usize, last_seq: u64) -> Result<EventPage, StoreError> {
        let mut page = EventPage { last_seq, oldest_seq: self.oldest_seq, ..EventPage::default() };
        if after >= last_seq {
            return Ok(page);
        }
        let failed = |error: io::Error| unavailable(&self.path, error);
        let mut at = match self.page_end {
            Some((seq, offset)) if seq == after => offset,
            _ if after < self.oldest_seq => 0,
            _ => events_start(&self.file, after, self.committed_bytes).map_err(failed)?,
        };
        let mut reader = self.reader_at(at).map_err(failed)?;
        let mut bytes = Vec::new();
        let mut line_start = at;
        while page.events.len() < limit.max(1) && at < self.committed_bytes {
            bytes.clear();
            line_start = at;
            let length = reader.read_until(b'\n', &mut bytes).map_err(failed)?;
            if length == 0 {
                break;
            }
            // Lines of other kinds have no events; what is of no kind is damaged.
            if is_commit(&bytes) || !(is_inbox(&bytes) || is_checkpoint(&bytes)) {
                let line =
                    LogLine::from_bytes(&bytes).map_err(|error| damaged_line(&self.file, &self.path, at, error))?;
                let events = line.commit.into_iter().flat_map(|commit| commit.events);
                page.events.extend(events.filter(|event| event.seq > after));
            }
            at += length as u64;
        }
        drop(reader);
        let next_start = if page.events.len() > limit.max(1) { line_start } else { at };
        page.events.truncate(limit.max(1));
        self.page_end = page.events.last().map(|last| (last.seq, next_start));
        Ok(page)
    }

    /// Reads the line that starts at an offset.
    pub(super) fn read_line(&self, start: u64) -> Result<LogLine, StoreError> {
        let mut bytes = Vec::new();
        self.reader_at(start)
            .and_then(|mut reader| reader.read_until(b'\n', &mut bytes))
            .map_err(|error| unavailable(&self.path, error))?;
        LogLine::from_bytes(&bytes).map_err(|error| damaged_line(&self.file, &self.path, start, error))
    }

    fn reader_at(&self, start: u64) -> io::Result<impl BufRead> {
        disk_io::check_operation(DiskOperation::Read, &self.path)?;
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::with_capacity(READ_BYTES, file.take(self.committed_bytes - start)))
    }
}

/// Whether a file may have bytes behind its committed lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtraBytes {
    /// A failed write left them.
    Excused,
    /// Another program wrote them.
    Foreign,
}

/// The seq of the oldest event in a file: the first line has it, or is a checkpoint right before it.
fn read_oldest_seq(file: &File, end: u64) -> io::Result<u64> {
    let head = read_line_head(file, 0, end)?;
    let seq = parse_seq(&head).unwrap_or(0);
    Ok(if is_checkpoint(&head) { seq + 1 } else { 1 })
}
