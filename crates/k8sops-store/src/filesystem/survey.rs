//! What is there when a folder is opened.

use std::{collections::HashMap, fs, io, path::Path, time::UNIX_EPOCH};

use super::{
    index::IndexLine,
    log_file::{LogFile, unavailable},
    path_in,
};
use k8sops_core::{SessionId, StoreError, Timestamp, UserId};

/// The index lines of all sessions whose files are there. A line that is missing, or older than its file, is made anew.
pub(super) fn survey(sessions: &Path, known: &HashMap<SessionId, IndexLine>) -> Result<Vec<IndexLine>, StoreError> {
    let failed = |error: io::Error| unavailable(sessions, error);
    let mut lines = Vec::with_capacity(known.len());
    let mut damaged = Vec::new();
    for folder in fs::read_dir(sessions).map_err(failed)? {
        let folder = folder.map_err(failed)?;
        let user = folder.file_name().to_str().and_then(|name| name.parse::<UserId>().ok());
        let (Some(user), true) = (user, folder.file_type().is_ok_and(|kind| kind.is_dir())) else {
            tracing::warn!(path = %folder.path().display(), "not a folder of sessions; left as it is");
            continue;
        };
        for file in fs::read_dir(folder.path()).map_err(failed)? {
            let file = file.map_err(failed)?;
            let name = file.file_name();
            let session = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse::<SessionId>().ok());
            if name.to_str().and_then(|name| name.strip_suffix(".jsonl.new")?.parse::<SessionId>().ok()).is_some() {
                // What was to take a file's place when the service was killed: the file itself is still there.
                fs::remove_file(file.path()).map_err(failed)?;
                continue;
            }
            let (Some(session), true) = (session, file.file_type().is_ok_and(|kind| kind.is_file())) else {
                tracing::warn!(path = %file.path().display(), "not a session; left as it is");
                continue;
            };
            let bytes = file.metadata().map_err(failed)?.len();
            let known = known.get(&session).filter(|line| line.summary.user_id == user);
            match known {
                Some(line) if line.bytes == bytes => lines.push(line.clone()),
                _ => match LogFile::open(path_in(sessions, &user, session), session) {
                    Ok(log) if log.summary.session_id == session && log.summary.user_id == user => {
                        lines.push(IndexLine::of(&log));
                    }
                    Ok(_) => tracing::error!(path = %file.path().display(), "the file is another session's; left out"),
                    // Deleted just now.
                    Err(StoreError::NotFound(_)) => {}
                    Err(error) if bytes == 0 && known.is_none() => {
                        // Nobody was ever told of it.
                        tracing::warn!(%error, "a session whose creation was broken off; left out");
                    }
                    // One session that cannot be read does not keep the others from being served.
                    Err(error) => {
                        tracing::error!(
                            %session, %error,
                            "a session cannot be read: repair its file, or delete the session; the others are served"
                        );
                        let (summary, written) = (known.map(|line| line.summary.clone()), written(&file.path()));
                        damaged.push(IndexLine::damaged(user.clone(), session, written, summary));
                    }
                },
            }
        }
    }
    // What can be read counts, should a file of the same name in another folder be damaged.
    damaged.extend(lines);
    Ok(damaged)
}

/// When a file was last written.
pub(super) fn written(path: &Path) -> Timestamp {
    let since = fs::metadata(path).and_then(|data| data.modified()).map(|at| at.duration_since(UNIX_EPOCH));
    let ms = since.ok().and_then(Result::ok).and_then(|since| i64::try_from(since.as_millis()).ok());
    ms.map_or_else(Timestamp::now, Timestamp::from_millis)
}
