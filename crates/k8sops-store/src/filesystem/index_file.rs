//! The index of all sessions: the summaries are on the disk, and in memory is where each of them is and what it takes to
//! sort them.
//!
//! The index is derived from the sessions' files and is never the only place of anything, so that its lines are written
//! without waiting for the disk. Every start checks each line against its session's file.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{index_line::IndexLine, session_file::SessionFile, session_work::SessionWork};
use k8sops_core::{ListCursor, SessionId, SessionSummary, Timestamp, UserId};

/// Outdated lines of at most this size are not worth a compaction.
const GARBAGE_ALLOWANCE_BYTES: u64 = 1024 * 1024;

/// The index of all sessions. Methods that read or write lines block.
#[derive(Debug)]
pub(super) struct IndexFile {
    path: PathBuf,
    file: File,
    end: u64,
    /// Bytes of the lines that are the newest of their session.
    live_bytes: u64,
    entries: HashMap<SessionId, IndexEntry>,
    /// Every user id once, however many sessions the user has.
    users: HashSet<Arc<UserId>>,
}

#[derive(Debug, Clone)]
struct IndexEntry {
    user: Arc<UserId>,
    updated_at: Timestamp,
    /// Where the session's newest line starts.
    line_start: u64,
    line_bytes: u32,
    work: SessionWork,
    is_damaged: bool,
}

impl IndexFile {
    /// Opens the file and reads its lines as far as they can be read; of several lines of a session, the last one counts.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, HashMap<SessionId, IndexLine>)> {
        let file = open_index(&path)?;
        let mut lines: HashMap<SessionId, IndexLine> = HashMap::new();
        let mut reader = BufReader::new(&file);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes)? > 0 {
            // A line that cannot be read is torn; the session's file says what it would have said.
            if let Ok(line) = serde_json::from_slice::<IndexLine>(&bytes) {
                lines.insert(line.summary.session_id, line);
            }
            bytes.clear();
        }
        let index = Self { path, file, end: 0, live_bytes: 0, entries: HashMap::new(), users: HashSet::new() };
        Ok((index, lines))
    }

    /// Replaces all lines.
    pub(super) fn replace_lines(&mut self, lines: impl IntoIterator<Item = IndexLine>) -> io::Result<()> {
        let new = self.path.with_extension("jsonl.new");
        let file = open_index(&new)?;
        file.set_len(0)?;
        self.file = file;
        self.end = 0;
        self.live_bytes = 0;
        self.entries.clear();
        for line in lines {
            self.write_line(&line)?;
        }
        std::fs::rename(&new, &self.path)
    }

    /// Writes a session's line.
    pub(super) fn write_line(&mut self, line: &IndexLine) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        // A line that is torn here is overwritten by the next one, or skipped at the next start.
        self.file.write_all_at(&bytes, self.end)?;
        let line_bytes = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a summary exceeds 4 GiB"))?;
        let entry = IndexEntry {
            user: self.intern_user(&line.summary.user_id),
            updated_at: line.summary.updated_at,
            line_start: self.end,
            line_bytes,
            work: line.work,
            is_damaged: line.is_damaged,
        };
        self.end += bytes.len() as u64;
        self.live_bytes += bytes.len() as u64;
        if let Some(old) = self.entries.insert(line.summary.session_id, entry) {
            self.live_bytes -= u64::from(old.line_bytes);
        }
        self.compact_if_worthwhile()
    }

    /// Removes a session.
    pub(super) fn remove_session(&mut self, session: SessionId) {
        if let Some(old) = self.entries.remove(&session) {
            self.live_bytes -= u64::from(old.line_bytes);
        }
    }

    /// Updates the entry of a session whose file is open, in memory only.
    pub(super) fn update_entry(&mut self, file: &SessionFile) {
        if let Some(entry) = self.entries.get_mut(&file.summary.session_id) {
            entry.updated_at = file.summary.updated_at;
            entry.work = file.work();
            entry.is_damaged = false;
        }
    }

    /// Whether the session's file could not be read at the last attempt.
    pub(super) fn is_damaged(&self, session: SessionId) -> bool {
        self.entries.get(&session).is_some_and(|entry| entry.is_damaged)
    }

    /// Whether the session has an open run or commands in its inbox.
    pub(super) fn is_busy(&self, session: SessionId) -> bool {
        self.entries.get(&session).is_some_and(|entry| entry.work.busy)
    }

    /// The owner of a session; `None` if the session does not exist.
    pub(super) fn session_user(&self, session: SessionId) -> Option<&UserId> {
        self.entries.get(&session).map(|entry| entry.user.as_ref())
    }

    pub(super) fn count_sessions(&self, user: &UserId) -> usize {
        self.entries.values().filter(|entry| entry.user.as_ref() == user).count()
    }

    pub(super) fn damaged_sessions(&self) -> Vec<SessionId> {
        self.entries.iter().filter(|(_, entry)| entry.is_damaged).map(|(session, _)| *session).collect()
    }

    pub(super) fn unfinished_sessions(&self) -> Vec<SessionId> {
        self.entries.iter().filter(|(_, entry)| entry.work.unfinished).map(|(session, _)| *session).collect()
    }

    /// A user's sessions, newest activity first.
    pub(super) fn list_sessions(&self, user: &UserId, after: Option<ListCursor>, limit: usize) -> Vec<SessionId> {
        let after = after.map(|cursor| (cursor.updated_at, cursor.session_id));
        let of_user = self.entries.iter().filter(|(_, entry)| entry.user.as_ref() == user);
        let mut keys: Vec<_> = of_user
            .map(|(session, entry)| (entry.updated_at, *session))
            .filter(|key| after.is_none_or(|after| *key < after))
            .collect();
        keys.sort_unstable_by_key(|key| Reverse(*key));
        keys.into_iter().take(limit).map(|(_, session)| session).collect()
    }

    /// The summary in the session's newest line.
    pub(super) fn read_summary(&self, session: SessionId) -> io::Result<Option<SessionSummary>> {
        let Some(entry) = self.entries.get(&session) else { return Ok(None) };
        Ok(Some(SessionSummary { waiting: entry.work.waiting, ..self.read_line(entry)?.summary }))
    }

    fn read_line(&self, entry: &IndexEntry) -> io::Result<IndexLine> {
        let mut bytes = vec![0; entry.line_bytes as usize];
        self.file.read_exact_at(&mut bytes, entry.line_start)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn intern_user(&mut self, user: &UserId) -> Arc<UserId> {
        if let Some(known) = self.users.get(user) {
            return known.clone();
        }
        let user = Arc::new(user.clone());
        self.users.insert(user.clone());
        user
    }

    fn compact_if_worthwhile(&mut self) -> io::Result<()> {
        if self.end <= self.live_bytes * 2 + GARBAGE_ALLOWANCE_BYTES {
            return Ok(());
        }
        let new = self.path.with_extension("jsonl.new");
        let file = open_index(&new)?;
        file.set_len(0)?;
        let mut writer = BufWriter::new(&file);
        let mut entries = self.entries.clone();
        let mut end = 0;
        for entry in entries.values_mut() {
            let mut bytes = vec![0; entry.line_bytes as usize];
            self.file.read_exact_at(&mut bytes, entry.line_start)?;
            writer.write_all(&bytes)?;
            entry.line_start = end;
            end += bytes.len() as u64;
        }
        writer.flush()?;
        drop(writer);
        std::fs::rename(&new, &self.path)?;
        self.file = file;
        self.entries = entries;
        self.end = end;
        self.live_bytes = end;
        Ok(())
    }
}

fn open_index(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_line_is_overwritten_by_the_next() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("sessions.jsonl");
        let (mut index, _) = IndexFile::open(path.clone()).unwrap();
        let line = || {
            let user: UserId = "anna".parse().unwrap();
            IndexLine::from_damaged_session(user, SessionId::new(), Timestamp::from_millis(1), None)
        };
        let first = line();
        let torn = line();
        let last = line();
        index.write_line(&first).unwrap();
        let writable = std::mem::replace(&mut index.file, File::open(&path).unwrap());
        index.write_line(&torn).unwrap_err();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"summary\":").unwrap();
        index.file = writable;
        index.write_line(&last).unwrap();
        for line in [first, last] {
            assert_eq!(index.read_summary(line.summary.session_id).unwrap(), Some(line.summary));
        }
        assert_eq!(index.read_summary(torn.summary.session_id).unwrap(), None);
    }
}
