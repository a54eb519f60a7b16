//! The scan of all sessions' files when the store is opened. It brings the index up to date and finds damaged sessions.

use std::{
    collections::HashMap,
    fs::{self, DirEntry},
    io,
    path::Path,
    time::UNIX_EPOCH,
};

use super::{files::unavailable, index_line::IndexLine, layout::StoreLayout, session_file::SessionFile};
use k8sops_core::{SessionId, StoreError, Timestamp, UserId};

/// The index lines of all sessions that have a file. A line that is missing, or older than its file, is made from the file.
pub(super) fn scan_sessions(
    layout: &StoreLayout,
    known: &HashMap<SessionId, IndexLine>,
) -> Result<Vec<IndexLine>, StoreError> {
    let sessions = layout.sessions();
    let failed = |error: io::Error| unavailable(&sessions, error);
    let mut readable = Vec::with_capacity(known.len());
    let mut damaged = Vec::new();
    for folder in fs::read_dir(&sessions).map_err(failed)? {
        let folder = folder.map_err(failed)?;
        let user = folder.file_name().to_str().and_then(|name| name.parse::<UserId>().ok());
        let (Some(user), true) = (user, folder.file_type().is_ok_and(|kind| kind.is_dir())) else {
            tracing::warn!(path = %folder.path().display(), "ignored: not the folder of a user's sessions");
            continue;
        };
        for file in fs::read_dir(folder.path()).map_err(failed)? {
            let file = file.map_err(failed)?;
            match scan_file(layout, &user, &file, known).map_err(failed)? {
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

enum ScannedFile {
    Readable(IndexLine),
    Damaged(IndexLine),
    Ignored,
}

fn scan_file(
    layout: &StoreLayout,
    user: &UserId,
    file: &DirEntry,
    known: &HashMap<SessionId, IndexLine>,
) -> io::Result<ScannedFile> {
    let path = file.path();
    if parse_session_file_name(file, ".jsonl.new").is_some() {
        // A rewrite that was interrupted: the file that it was to replace is complete.
        fs::remove_file(&path)?;
        return Ok(ScannedFile::Ignored);
    }
    let session = parse_session_file_name(file, ".jsonl");
    let (Some(session), true) = (session, file.file_type().is_ok_and(|kind| kind.is_file())) else {
        tracing::warn!(path = %path.display(), "ignored: not the file of a session");
        return Ok(ScannedFile::Ignored);
    };
    let bytes = file.metadata()?.len();
    let known = known.get(&session).filter(|line| line.summary.user_id == *user);
    if let Some(line) = known.filter(|line| line.bytes == bytes) {
        return Ok(ScannedFile::Readable(line.clone()));
    }
    Ok(match SessionFile::open(layout.session_file(user, session), session) {
        Ok(file) if file.summary.session_id == session && file.summary.user_id == *user => {
            ScannedFile::Readable(IndexLine::from_session(&file))
        }
        Ok(_) => {
            tracing::error!(path = %path.display(), "ignored: the file belongs to another session");
            ScannedFile::Ignored
        }
        // Deleted just now.
        Err(StoreError::NotFound(_)) => ScannedFile::Ignored,
        Err(error) if bytes == 0 && known.is_none() => {
            // The creation was never acknowledged.
            tracing::warn!(%error, "ignored: the creation of a session was interrupted");
            ScannedFile::Ignored
        }
        // A session that cannot be read does not prevent the others from being served.
        Err(error) => {
            tracing::error!(%session, %error, "session damaged: repair its file, or delete the session");
            let summary = known.map(|line| line.summary.clone());
            ScannedFile::Damaged(IndexLine::from_damaged_session(user.clone(), session, modified_at(&path), summary))
        }
    })
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
