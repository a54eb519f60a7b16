//! What the keys of a session say about each other. A server can lose a single key: it evicts, or someone deletes or restores
//! it. What is left must not look like a session that never was, or accept what can never be done.

use super::{connection::SharedConnection, keys::RedisKeys};
use k8sops_core::{SessionId, StoreError};

/// The error of a session of which the key `meta` or the log was not found: it does not exist, or one of them is gone. Scripts
/// write and delete all keys of a session at once, so that one without the others shows a loss.
pub(super) async fn explain_missing_session(
    reads: &SharedConnection,
    keys: &RedisKeys,
    session: SessionId,
) -> StoreError {
    let mut look = redis::pipe();
    look.cmd("EXISTS").arg(keys.log(session)).cmd("EXISTS").arg(keys.checkpoint(session));
    look.cmd("EXISTS").arg(keys.meta(session));
    match reads.query::<(bool, bool, bool)>(&look).await {
        Ok((false, false, false)) => StoreError::NotFound(session),
        Ok((_, _, false)) => missing_meta(session),
        Ok((false, _, true)) => missing_log(session),
        Ok((true, _, true)) => StoreError::Unavailable(format!("session {session} changed while it was read").into()),
        Err(error) => error,
    }
}

/// The error of a session whose key `meta` is gone, while its log is there.
pub(super) fn missing_meta(session: SessionId) -> StoreError {
    StoreError::Corrupt(format!("session {session} has a log, but its key meta is gone").into())
}

/// The error of a session whose log is gone, while its other keys are there.
pub(super) fn missing_log(session: SessionId) -> StoreError {
    StoreError::Corrupt(format!("session {session} exists, but its log is gone").into())
}

/// The error of a session whose log is not the one that its key `meta` describes.
pub(super) fn foreign_log(session: SessionId, last_seq: u64, found: &str) -> StoreError {
    let expected = format!("the log of session {session} must end at seq {last_seq}");
    StoreError::Corrupt(format!("{expected}, but {found}; one of the keys log and meta was restored alone").into())
}
