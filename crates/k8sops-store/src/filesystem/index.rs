//! The index of all sessions. In memory: where the newest line of each is in `sessions.jsonl`, and what it takes to sort
//! them. On the disk: the summaries.
//!
//! The index is made of what the sessions' files say and is never the only place of anything, so that its lines are
//! written without waiting for the disk. At the start each line is held against its session's file.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::log_file::LogFile;
use k8sops_core::{ListCursor, SessionId, SessionSettings, SessionSummary, Timestamp, TokenUsage, UserId};

/// Garbage that is not worth a compaction.
const SPARE: u64 = 1024 * 1024;

/// What a list of sessions shows in place of the newest message of one that cannot be read.
const DAMAGED: &str = "(damaged: what is stored of this session cannot be read)";

/// The index. Methods that read or write lines block.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    file: File,
    end: u64,
    /// Bytes of lines that are the newest of their session.
    live: u64,
    entries: HashMap<SessionId, Entry>,
    /// Each user's id once, however many sessions there are.
    users: HashSet<Arc<UserId>>,
}

#[derive(Debug, Clone)]
struct Entry {
    user: Arc<UserId>,
    updated_at: Timestamp,
    /// Where the session's newest line is.
    at: u64,
    length: u32,
    work: Work,
    damaged: bool,
}

/// What there is to do for a session.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Work {
    /// Whether there is something for an owner.
    pub(super) unfinished: bool,
    /// Whether its user waits for something: then it is not deleted to make room.
    #[serde(default)]
    pub(super) busy: bool,
    /// See [`SessionSummary::waiting`], which is not written with the summary.
    #[serde(default)]
    pub(super) waiting: bool,
}

/// A line of `sessions.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct IndexLine {
    pub(super) summary: SessionSummary,
    /// The size of the session's file when this was written: if it is another, the line is old.
    pub(super) bytes: u64,
    #[serde(flatten)]
    pub(super) work: Work,
    /// The session's file cannot be read; the summary is as it last was. Found out anew at each start.
    #[serde(skip)]
    pub(super) damaged: bool,
}

impl IndexLine {
    /// What there is to say of a session.
    pub(super) fn of(file: &LogFile) -> Self {
        Self { summary: file.shown(), bytes: file.size(), work: file.work(), damaged: false }
    }

    /// What there is to say of a session whose file cannot be read: what was known of it, else when the file was written.
    /// Nobody is to work on it.
    pub(super) fn damaged(user: UserId, session: SessionId, written: Timestamp, known: Option<SessionSummary>) -> Self {
        let settings = SessionSettings::for_model("", "");
        let known = known.unwrap_or_else(|| SessionSummary {
            session_id: session,
            user_id: user,
            title: String::new(),
            preview: String::new(),
            message_count: 0,
            created_at: written,
            updated_at: written,
            last_seq: 0,
            settings,
            open_run: None,
            usage: TokenUsage::default(),
            to_learn: false,
            waiting: false,
        });
        let summary = SessionSummary { preview: DAMAGED.to_owned(), open_run: None, to_learn: false, ..known };
        // No file has this size, so that the next start does not take the line for a true one.
        Self { summary, bytes: u64::MAX, work: Work::default(), damaged: true }
    }
}

impl Index {
    /// Reads the file, as far as it can be read; the last line of each session counts.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, HashMap<SessionId, IndexLine>)> {
        let file = open_index(&path)?;
        let mut lines: HashMap<SessionId, IndexLine> = HashMap::new();
        let mut reader = BufReader::new(&file);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes)? > 0 {
            // A line that cannot be read is an old one, or torn: the session's file says what it would have said.
            if let Ok(line) = serde_json::from_slice::<IndexLine>(&bytes) {
                lines.insert(line.summary.session_id, line);
            }
            bytes.clear();
        }
        let index = Self { path, file, end: 0, live: 0, entries: HashMap::new(), users: HashSet::new() };
        Ok((index, lines))
    }

    /// Begins anew with these lines.
    pub(super) fn fill(&mut self, lines: impl IntoIterator<Item = IndexLine>) -> io::Result<()> {
        let new = self.path.with_extension("jsonl.new");
        let file = open_index(&new)?;
        file.set_len(0)?;
        self.file = file;
        (self.end, self.live) = (0, 0);
        self.entries.clear();
        for line in lines {
            self.put(&line)?;
        }
        std::fs::rename(&new, &self.path)
    }

    /// Notes what a session is now.
    pub(super) fn put(&mut self, line: &IndexLine) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        // A line that is torn here is written over by the next one, or passed over at the next start.
        self.file.write_all_at(&bytes, self.end)?;
        let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a summary of 4 GiB"))?;
        let entry = Entry {
            user: self.user(&line.summary.user_id),
            updated_at: line.summary.updated_at,
            at: self.end,
            length,
            work: line.work,
            damaged: line.damaged,
        };
        self.end += bytes.len() as u64;
        self.live += bytes.len() as u64;
        if let Some(old) = self.entries.insert(line.summary.session_id, entry) {
            self.live -= u64::from(old.length);
        }
        self.compact_if_worth_it()
    }

    /// Forgets a session.
    pub(super) fn remove(&mut self, session: SessionId) {
        if let Some(old) = self.entries.remove(&session) {
            self.live -= u64::from(old.length);
        }
    }

    /// Notes in memory what a session is now, whose file is open.
    pub(super) fn mark(&mut self, file: &LogFile) {
        if let Some(entry) = self.entries.get_mut(&file.summary.session_id) {
            entry.updated_at = file.summary.updated_at;
            entry.work = file.work();
            entry.damaged = false;
        }
    }

    /// Whether the session's file could not be read when it was last tried.
    pub(super) fn is_damaged(&self, session: SessionId) -> bool {
        self.entries.get(&session).is_some_and(|entry| entry.damaged)
    }

    pub(super) fn damaged(&self) -> Vec<SessionId> {
        self.entries.iter().filter(|(_, entry)| entry.damaged).map(|(session, _)| *session).collect()
    }

    pub(super) fn user_of(&self, session: SessionId) -> Option<&UserId> {
        self.entries.get(&session).map(|entry| entry.user.as_ref())
    }

    pub(super) fn count(&self, user: &UserId) -> usize {
        self.entries.values().filter(|entry| entry.user.as_ref() == user).count()
    }

    pub(super) fn is_busy(&self, session: SessionId) -> bool {
        self.entries.get(&session).is_some_and(|entry| entry.work.busy)
    }

    pub(super) fn unfinished(&self) -> Vec<SessionId> {
        self.entries.iter().filter(|(_, entry)| entry.work.unfinished).map(|(session, _)| *session).collect()
    }

    /// A user's sessions, newest activity first.
    pub(super) fn page(&self, user: &UserId, after: Option<ListCursor>, limit: usize) -> Vec<SessionId> {
        let after = after.map(|cursor| (cursor.updated_at, cursor.session_id));
        let of_user = self.entries.iter().filter(|(_, entry)| entry.user.as_ref() == user);
        let mut keys: Vec<_> = of_user
            .map(|(session, entry)| (entry.updated_at, *session))
            .filter(|key| after.is_none_or(|after| *key < after))
            .collect();
        keys.sort_unstable_by_key(|key| Reverse(*key));
        keys.into_iter().take(limit).map(|(_, session)| session).collect()
    }

    /// The summary as it was last noted.
    pub(super) fn summary(&self, session: SessionId) -> io::Result<Option<SessionSummary>> {
        let Some(entry) = self.entries.get(&session) else { return Ok(None) };
        Ok(Some(SessionSummary { waiting: entry.work.waiting, ..self.line(entry)?.summary }))
    }

    fn line(&self, entry: &Entry) -> io::Result<IndexLine> {
        let mut bytes = vec![0; entry.length as usize];
        self.file.read_exact_at(&mut bytes, entry.at)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn user(&mut self, user: &UserId) -> Arc<UserId> {
        if let Some(known) = self.users.get(user) {
            return known.clone();
        }
        let user = Arc::new(user.clone());
        self.users.insert(user.clone());
        user
    }

    fn compact_if_worth_it(&mut self) -> io::Result<()> {
        if self.end <= self.live * 2 + SPARE {
            return Ok(());
        }
        let new = self.path.with_extension("jsonl.new");
        let file = open_index(&new)?;
        file.set_len(0)?;
        let mut writer = BufWriter::new(&file);
        let mut entries = self.entries.clone();
        let mut end = 0;
        for entry in entries.values_mut() {
            let mut bytes = vec![0; entry.length as usize];
            self.file.read_exact_at(&mut bytes, entry.at)?;
            writer.write_all(&bytes)?;
            entry.at = end;
            end += bytes.len() as u64;
        }
        writer.flush()?;
        drop(writer);
        std::fs::rename(&new, &self.path)?;
        self.file = file;
        self.entries = entries;
        (self.end, self.live) = (end, end);
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
    fn a_line_that_was_not_written_whole_moves_no_other() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("sessions.jsonl");
        let (mut index, _) = Index::open(path.clone()).unwrap();
        let line = || {
            let user: UserId = "anna".parse().unwrap();
            IndexLine::damaged(user, SessionId::new(), Timestamp::from_millis(1), None)
        };
        let (first, torn, last) = (line(), line(), line());
        index.put(&first).unwrap();
        let writable = std::mem::replace(&mut index.file, File::open(&path).unwrap());
        index.put(&torn).unwrap_err();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"summary\":").unwrap();
        index.file = writable;
        index.put(&last).unwrap();
        for line in [first, last] {
            assert_eq!(index.summary(line.summary.session_id).unwrap(), Some(line.summary));
        }
        assert_eq!(index.summary(torn.summary.session_id).unwrap(), None);
    }
}
