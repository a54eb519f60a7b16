//! The index of all sessions: the summaries are on the disk, and in memory is where each of them is and what it takes to
//! sort them.
//!
//! The index is derived from the sessions' files and is never the only place of anything, so that its lines are written
//! without waiting for the disk, and a disk that takes no lines does not stop the store: they stay in memory until it does.
//! Every start checks each line against its session's file. A line that is outdated, or whose session is deleted, is
//! overwritten with spaces, so that the file has no title that no session has.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    files::{create_private_file, if_exists, replacement_path},
    index_line::IndexLine,
    known_log::KnownLog,
    line_format::{FORMAT_VERSION, FormatRecord},
    session_file::SessionFile,
    session_work::SessionWork,
};
use k8sops_core::{ListCursor, SessionId, SessionSummary, Timestamp, UserId};

/// Outdated lines of at most this size are not worth a compaction.
const GARBAGE_ALLOWANCE_BYTES: u64 = 1024 * 1024;
/// How long lines stay in memory at least, after the disk took none.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The index of all sessions. Methods that read or write lines block.
#[derive(Debug)]
pub(super) struct IndexFile {
    path: PathBuf,
    /// `None` until the file can be written.
    file: Option<File>,
    end: u64,
    /// Bytes of the lines that are the newest of their session.
    live_bytes: u64,
    entries: HashMap<SessionId, IndexEntry>,
    /// Every user id once, however many sessions the user has.
    users: HashSet<Arc<UserId>>,
    /// When the file is to be written as a whole again, because the disk did not take a change of it.
    rewrite_at: Option<Instant>,
}

#[derive(Debug, Clone)]
struct IndexEntry {
    user: Arc<UserId>,
    updated_at: Timestamp,
    place: LinePlace,
    known_log: KnownLog,
    work: SessionWork,
    is_damaged: bool,
}

/// Where the newest line of a session is.
#[derive(Debug, Clone)]
enum LinePlace {
    OnDisk {
        start: u64,
        bytes: u32,
    },
    /// The disk did not take it.
    InMemory(Arc<IndexLine>),
}

/// The first line of the file.
#[derive(Serialize, Deserialize)]
struct IndexHeader {
    format: FormatRecord,
}

impl IndexFile {
    /// Reads the lines of the file as far as they can be read; of several lines of a session, the last one counts. The file
    /// is written by [`replace_lines`](Self::replace_lines).
    pub(super) fn open(path: PathBuf) -> (Self, HashMap<SessionId, IndexLine>) {
        let lines = read_lines(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "index of sessions cannot be read, it is made from the sessions");
            HashMap::new()
        });
        let index = Self {
            path,
            file: None,
            end: 0,
            live_bytes: 0,
            entries: HashMap::new(),
            users: HashSet::new(),
            rewrite_at: None,
        };
        (index, lines)
    }

    /// Replaces all lines.
    pub(super) fn replace_lines(&mut self, lines: impl IntoIterator<Item = IndexLine>) {
        self.entries.clear();
        for line in lines {
            let place = LinePlace::InMemory(Arc::new(line.clone()));
            self.insert_entry(&line, place);
        }
        self.rewrite_file();
    }

    /// Writes a session's line.
    pub(super) fn write_line(&mut self, line: &IndexLine) {
        let place = match self.append_line(line) {
            Ok(place) => place,
            Err(error) => {
                self.report_failed_write(&error);
                LinePlace::InMemory(Arc::new(line.clone()))
            }
        };
        if let Some(old) = self.insert_entry(line, place) {
            self.blank_line(&old);
        }
        if self.end > self.live_bytes * 2 + GARBAGE_ALLOWANCE_BYTES {
            self.rewrite_file();
        }
        self.retry_failed_writes();
    }

    /// Removes a session, and its title from the disk.
    pub(super) fn remove_session(&mut self, session: SessionId) {
        let Some(old) = self.entries.remove(&session) else { return };
        self.blank_line(&old);
        if let Some(Err(error)) = self.file.as_ref().map(File::sync_data) {
            self.report_failed_write(&error);
        }
    }

    /// Writes the file as a whole, some time after the disk did not take a change of it.
    pub(super) fn retry_failed_writes(&mut self) {
        if self.rewrite_at.is_some_and(|at| at <= Instant::now()) {
            self.rewrite_file();
        }
    }

    fn append_line(&mut self, line: &IndexLine) -> io::Result<LinePlace> {
        let Some(file) = &self.file else { return Err(io::Error::other("the file could not be created")) };
        let bytes = encode_line(line)?;
        let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a summary exceeds 4 GiB"))?;
        if let Err(error) = file.write_all_at(&bytes, self.end) {
            // A torn line would stay behind a shorter one.
            let _ = file.set_len(self.end);
            return Err(error);
        }
        let start = self.end;
        self.end += bytes.len() as u64;
        Ok(LinePlace::OnDisk { start, bytes: length })
    }

    fn insert_entry(&mut self, line: &IndexLine, place: LinePlace) -> Option<IndexEntry> {
        self.live_bytes += place.bytes_on_disk();
        let entry = IndexEntry {
            user: self.intern_user(&line.summary.user_id),
            updated_at: line.summary.updated_at,
            place,
            known_log: line.known_log(),
            work: line.work,
            is_damaged: line.is_damaged,
        };
        self.entries.insert(line.summary.session_id, entry)
    }

    /// Overwrites a line that is outdated.
    fn blank_line(&mut self, old: &IndexEntry) {
        let LinePlace::OnDisk { start, bytes } = old.place else { return };
        self.live_bytes = self.live_bytes.saturating_sub(u64::from(bytes));
        let spaces = vec![b' '; bytes.saturating_sub(1) as usize];
        if let Some(Err(error)) = self.file.as_ref().map(|file| file.write_all_at(&spaces, start)) {
            self.report_failed_write(&error);
        }
    }

    fn report_failed_write(&mut self, error: &io::Error) {
        if self.rewrite_at.is_none() {
            let path = self.path.display();
            tracing::warn!(%path, %error, "index of sessions cannot be written, it is kept in memory and written later");
        }
        self.rewrite_at = Some(Instant::now() + RETRY_INTERVAL);
    }

    /// Writes the whole file under another name, and puts it in the place of the old one.
    fn rewrite_file(&mut self) {
        match self.write_new_file() {
            Ok(()) => {
                if self.rewrite_at.take().is_some() {
                    tracing::info!(path = %self.path.display(), "index of sessions written again");
                }
            }
            Err(error) => {
                let _ = std::fs::remove_file(replacement_path(&self.path));
                self.report_failed_write(&error);
            }
        }
    }

    fn write_new_file(&mut self) -> io::Result<()> {
        let new = replacement_path(&self.path);
        let file = create_private_file(&new)?;
        let mut writer = BufWriter::new(&file);
        let mut header = serde_json::to_vec(&IndexHeader { format: FormatRecord::current() })?;
        header.push(b'\n');
        writer.write_all(&header)?;
        let mut end = header.len() as u64;
        let mut places = HashMap::with_capacity(self.entries.len());
        for (session, entry) in &self.entries {
            let bytes = match &entry.place {
                LinePlace::OnDisk { start, bytes } => self.read_bytes(*start, *bytes)?,
                LinePlace::InMemory(line) => encode_line(line)?,
            };
            writer.write_all(&bytes)?;
            let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a summary exceeds 4 GiB"))?;
            places.insert(*session, LinePlace::OnDisk { start: end, bytes: length });
            end += bytes.len() as u64;
        }
        writer.flush()?;
        drop(writer);
        std::fs::rename(&new, &self.path)?;
        for (session, place) in places {
            if let Some(entry) = self.entries.get_mut(&session) {
                entry.place = place;
            }
        }
        self.file = Some(file);
        self.end = end;
        self.live_bytes = end;
        Ok(())
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

    /// What is known of the session's file; nothing if the session does not exist.
    pub(super) fn known_log(&self, session: SessionId) -> KnownLog {
        self.entries.get(&session).map(|entry| entry.known_log).unwrap_or_default()
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

    pub(super) fn all_sessions(&self) -> Vec<SessionId> {
        self.entries.keys().copied().collect()
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
        match &entry.place {
            LinePlace::OnDisk { start, bytes } => Ok(serde_json::from_slice(&self.read_bytes(*start, *bytes)?)?),
            LinePlace::InMemory(line) => Ok(IndexLine::clone(line)),
        }
    }

    fn read_bytes(&self, start: u64, length: u32) -> io::Result<Vec<u8>> {
        let Some(file) = &self.file else { return Err(io::Error::other("the file could not be created")) };
        let mut bytes = vec![0; length as usize];
        match file.read_exact_at(&mut bytes, start) {
            // The network file system was mounted or started again.
            Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => {
                File::open(&self.path)?.read_exact_at(&mut bytes, start)?;
            }
            read => read?,
        }
        Ok(bytes)
    }

    fn intern_user(&mut self, user: &UserId) -> Arc<UserId> {
        if let Some(known) = self.users.get(user) {
            return known.clone();
        }
        let user = Arc::new(user.clone());
        self.users.insert(user.clone());
        user
    }
}

impl LinePlace {
    fn bytes_on_disk(&self) -> u64 {
        match self {
            Self::OnDisk { bytes, .. } => u64::from(*bytes),
            Self::InMemory(_) => 0,
        }
    }
}

fn encode_line(line: &IndexLine) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn read_lines(path: &std::path::Path) -> io::Result<HashMap<SessionId, IndexLine>> {
    let mut lines = HashMap::new();
    let Some(file) = if_exists(OpenOptions::new().read(true).open(path))? else { return Ok(lines) };
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        // A line that cannot be read is outdated or torn; the session's file says what it would have said.
        if let Ok(line) = serde_json::from_slice::<IndexLine>(&bytes) {
            lines.insert(line.summary.session_id, line);
        } else if let Ok(header) = serde_json::from_slice::<IndexHeader>(&bytes)
            && header.format.version > FORMAT_VERSION
        {
            return Ok(HashMap::new());
        }
        bytes.clear();
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_line() -> IndexLine {
        let user: UserId = "anna".parse().unwrap();
        let mut line = IndexLine::from_damaged_session(user, SessionId::new(), Timestamp::from_millis(1), None);
        line.summary.title = format!("title of {}", line.summary.session_id);
        line
    }

    fn assert_readable(index: &IndexFile, lines: &[&IndexLine]) {
        for line in lines {
            let found = index.read_summary(line.summary.session_id).unwrap();
            assert_eq!(found.as_ref(), Some(&line.summary));
        }
    }

    #[test]
    fn lines_that_the_disk_does_not_take_stay_in_memory() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("sessions.jsonl");
        let (mut index, _) = IndexFile::open(path.clone());
        let [first, torn, last] = [test_line(), test_line(), test_line()];
        index.replace_lines([]);
        index.write_line(&first);
        let writable = index.file.replace(File::open(&path).unwrap());
        index.write_line(&torn);
        index.file = writable;
        index.write_line(&last);
        assert_readable(&index, &[&first, &torn, &last]);
        assert_eq!(read_lines(&path).unwrap().len(), 2);
        index.rewrite_at = Some(Instant::now());
        index.write_line(&last);
        assert_readable(&index, &[&first, &torn, &last]);
        assert_eq!(read_lines(&path).unwrap().len(), 3);
    }

    #[test]
    fn index_that_cannot_be_created_is_kept_in_memory() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("sessions.jsonl");
        std::fs::create_dir_all(path.join("no file")).unwrap();
        let (mut index, lines) = IndexFile::open(path.clone());
        assert!(lines.is_empty());
        let [first, last] = [test_line(), test_line()];
        index.replace_lines([first.clone()]);
        index.write_line(&last);
        assert_readable(&index, &[&first, &last]);
        std::fs::remove_dir_all(&path).unwrap();
        index.rewrite_at = Some(Instant::now());
        index.retry_failed_writes();
        assert_eq!(read_lines(&path).unwrap().len(), 2);
    }

    #[test]
    fn removed_session_leaves_no_title() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("sessions.jsonl");
        let (mut index, _) = IndexFile::open(path.clone());
        let [mut renamed, removed] = [test_line(), test_line()];
        index.replace_lines([renamed.clone()]);
        index.write_line(&removed);
        let old_title = std::mem::replace(&mut renamed.summary.title, "new".to_owned());
        index.write_line(&renamed);
        index.remove_session(removed.summary.session_id);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&removed.summary.title) && !text.contains(&old_title), "{text}");
        assert_readable(&index, &[&renamed]);
        assert_eq!(read_lines(&path).unwrap().len(), 1);
    }

    #[test]
    fn index_of_a_newer_format_is_made_again() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("sessions.jsonl");
        let newer = IndexHeader { format: FormatRecord { version: FORMAT_VERSION + 1, writer: "9.0.0".to_owned() } };
        let line = String::from_utf8(encode_line(&test_line()).unwrap()).unwrap();
        std::fs::write(&path, format!("{}\n{line}", serde_json::to_string(&newer).unwrap())).unwrap();
        assert!(read_lines(&path).unwrap().is_empty());
    }
}
