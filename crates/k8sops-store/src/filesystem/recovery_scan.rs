//! The scan of all sessions' files when the store is opened. It brings the index up to date and finds damaged sessions.

use std::{
    collections::HashMap,
    fs::{self, DirEntry},
    io,
    path::Path,
    time::UNIX_EPOCH,
};

use super::{
    files::unavailable, index_line::IndexLine, layout::StoreLayout, line_format::is_incomplete_write,
    session_file::SessionFile, session_work::SessionWork,
};
use crate::log_retention::LogRetention;
use k8sops_core::{SessionId, StoreError, Timestamp, UserId};

/// The index lines of all sessions that have a file. A line that is missing, or older than its file, is made from the file.
pub(super) fn scan_sessions(
    layout: &StoreLayout,
    retention: LogRetention,
    known: &HashMap<SessionId, IndexLine>,
) -> Result<Vec<IndexLine>, StoreError> {
    let sessions = layout.sessions();
    let failed = |error: io::Error| unavailable(&sessions, error);
    let mut readable = Vec::with_capacity(known.len());
    let mut damaged = Vec::new();
    for folder in fs::read_dir(&sessions).map_err(failed)? {
        let folder = folder.map_err(failed)?;
        let user = folder.file_name().to_str().and_then(|name| name.parse::<UserId>().ok());
        let is_folder = folder.file_type().is_ok_and(|kind| kind.is_dir());
        let is_of_user = |user: &UserId| is_folder || known.values().any(|line| line.summary.user_id == *user);
        let Some(user) = user.filter(is_of_user) else {
            tracing::warn!(path = %folder.path().display(), "ignored: not the folder of a user's sessions");
            continue;
        };
        let files = match fs::read_dir(folder.path()).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(files) => files,
            // What cannot be read, or is no folder, does not prevent the sessions of other users from being served.
            Err(error) => {
                tracing::error!(path = %folder.path().display(), %error, "sessions of a user cannot be read");
                let of_user = known.values().filter(|line| line.summary.user_id == user);
                damaged.extend(
                    of_user.map(|line| damaged_line_of(&user, line.summary.session_id, Some(line), &folder.path())),
                );
                continue;
            }
        };
        for file in files {
            match scan_file(layout, retention, &user, &file, known) {
                ScannedFile::Readable(line) => readable.push(line),
                ScannedFile::Damaged(line) => damaged.push(line),
                ScannedFile::Ignored => {}
            }
        }
    }
    // Of two files of one session in different folders, the readable one counts: the last line of a session does.
    damaged.extend(readable);
    Ok(damaged)
}

fn damaged_line_of(user: &UserId, session: SessionId, known: Option<&IndexLine>, path: &Path) -> IndexLine {
    let summary = known.map(|line| line.summary.clone());
    IndexLine::from_damaged_session(user.clone(), session, modified_at(path), summary)
}

enum ScannedFile {
    Readable(IndexLine),
    Damaged(IndexLine),
    Ignored,
}

fn scan_file(
    layout: &StoreLayout,
    retention: LogRetention,
    user: &UserId,
    file: &DirEntry,
    known: &HashMap<SessionId, IndexLine>,
) -> ScannedFile {
    let path = file.path();
    if parse_session_file_name(file, ".jsonl.new").is_some() {
        // A rewrite that was interrupted: the file that it was to replace is complete.
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "interrupted rewrite of a session cannot be removed");
        }
        return ScannedFile::Ignored;
    }
    let (Some(session), Ok(kind)) = (parse_session_file_name(file, ".jsonl"), file.file_type()) else {
        tracing::warn!(path = %path.display(), "ignored: not the file of a session");
        return ScannedFile::Ignored;
    };
    let known = known.get(&session).filter(|line| line.summary.user_id == *user);
    if !kind.is_file() {
        // Only what has replaced the file of a session that is known: a link may lead to the session of another user.
        let Some(line) = known else {
            tracing::warn!(path = %path.display(), "ignored: not the file of a session");
            return ScannedFile::Ignored;
        };
        tracing::error!(%session, path = %path.display(), "session damaged: its file was replaced by something else");
        return ScannedFile::Damaged(damaged_line_of(user, session, Some(line), &path));
    }
    let bytes = file.metadata().map(|data| data.len()).ok();
    if let Some(line) = known.filter(|line| Some(line.bytes) == bytes) {
        return ScannedFile::Readable(line.clone());
    }
    // A damaged session has no known size.
    let known_log = retention.still_known(known.map(IndexLine::known_log).unwrap_or_default());
    match SessionFile::open(&layout.session_file(user, session), known_log) {
        Ok(file) if file.summary.session_id == session && file.summary.user_id == *user => {
            if let Some(line) = known.filter(|line| line.summary.last_seq > file.summary.last_seq) {
                let (ends_at, ended_at) = (file.summary.last_seq, line.summary.last_seq);
                tracing::error!(%session, ends_at, ended_at, "the end of a session's log is lost");
            }
            ScannedFile::Readable(IndexLine::from_session(&file))
        }
        Ok(_) => {
            tracing::error!(path = %path.display(), "ignored: the file belongs to another session");
            ScannedFile::Ignored
        }
        Err(error) if known.is_none() && is_interrupted_creation(&path) => {
            // The creation was never acknowledged.
            tracing::warn!(%error, "ignored: the creation of a session was interrupted");
            ScannedFile::Ignored
        }
        // A session that cannot be read does not prevent the others from being served.
        Err(error @ StoreError::Corrupt(_)) => {
            tracing::error!(%session, %error, "session damaged: repair its file, or delete the session");
            ScannedFile::Damaged(damaged_line_of(user, session, known, &path))
        }
        Err(error) => {
            tracing::error!(%session, %error, "session cannot be read, trying again");
            let line = damaged_line_of(user, session, known, &path);
            // It may have work, for which its owner tries again.
            let work = SessionWork { unfinished: true, ..line.work };
            ScannedFile::Damaged(IndexLine { work, ..line })
        }
    }
}

/// Whether a file is the beginning of a first line, of which every byte that is there is right.
fn is_interrupted_creation(path: &Path) -> bool {
    let Ok(bytes) = fs::read(path) else { return false };
    let expected = b"{\"seq\":1,\"commit\":";
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let length = written.min(expected.len());
    !bytes.contains(&b'\n') && bytes[..length] == expected[..length] && is_incomplete_write(&bytes)
}

fn parse_session_file_name(file: &DirEntry, suffix: &str) -> Option<SessionId> {
    file.file_name().to_str()?.strip_suffix(suffix)?.parse().ok()
}

/// When a file was last written; now if that is not known.
pub(super) fn modified_at(path: &Path) -> Timestamp {
    let since_epoch = fs::metadata(path).and_then(|data| data.modified()).map(|at| at.duration_since(UNIX_EPOCH));
    let ms = since_epoch.ok().and_then(Result::ok).and_then(|since| i64::try_from(since.as_millis()).ok());
    ms.map_or_else(Timestamp::now, Timestamp::from_millis)
}
