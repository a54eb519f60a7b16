//! Why a store did not do what it was asked to do.

use std::{error::Error, fmt, sync::Arc};

use super::LeaseEpoch;
use crate::ids::SessionId;

/// Why a store did not do what it was asked to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The session does not exist, or was deleted.
    #[error("session {0} not found")]
    NotFound(SessionId),
    /// A session with this id exists already.
    #[error("session {0} already exists")]
    Exists(SessionId),
    /// The write carries an epoch that is over: another owner has taken the session.
    #[error("lease epoch {} of session {session} is over: epoch {} owns the session", attempted.0, current.0)]
    Fenced {
        /// The session that was written to.
        session: SessionId,
        /// The epoch of the rejected write.
        attempted: LeaseEpoch,
        /// The epoch that owns the session.
        current: LeaseEpoch,
    },
    /// Another owner holds the lease, and it has not expired.
    #[error("session {0} is held by another owner")]
    Held(SessionId),
    /// The log does not end where the writer expected it to.
    #[error("the log of session {session} ends at seq {found}, but the write expected seq {expected}")]
    SeqConflict {
        /// The session that was written to.
        session: SessionId,
        /// The seq at which the writer expected the log to end.
        expected: u64,
        /// The seq at which the log ends.
        found: u64,
    },
    /// The store has lost events that it had acknowledged: the log is not the one that the writer knows.
    #[error("the log of session {session} has another event at seq {seq} than the one that the write follows")]
    Forked {
        /// The session that was written to.
        session: SessionId,
        /// The seq at which the log differs, or up to which seqs of lost events must not be used.
        seq: u64,
    },
    /// The command asked to be rejected if the session is busy, and it is.
    #[error("session {0} has a run in progress")]
    Busy(SessionId),
    /// The sender used the command id before, for a different command.
    #[error("the command id was already used for a different command")]
    CommandIdReused,
    /// The inbox holds as many commands as it may.
    #[error("the session's inbox is full: {0} commands are waiting, which is the limit")]
    InboxFull(usize),
    /// Another process uses the storage, which admits one at a time.
    #[error("{0}")]
    InUse(String),
    /// The backend cannot be reached or does not answer. Whether the write took effect is not known.
    #[error("store unavailable: {0}")]
    Unavailable(#[source] BackendError),
    /// The stored data of a session cannot be read. Other sessions are not affected, and the session can be deleted.
    #[error("stored data cannot be read: {0}")]
    Corrupt(#[source] BackendError),
    /// A stored file that belongs to no session cannot be read: usage, the deployment key. Nothing else is affected.
    #[error("stored file cannot be read: {0}")]
    FileDamaged(#[source] BackendError),
}

impl StoreError {
    /// An [`Unavailable`](Self::Unavailable) with its cause: `message` says what was attempted, and where.
    #[must_use]
    pub fn unavailable(message: impl Into<String>, cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(BackendError::caused_by(message, cause))
    }

    /// Why the backend is unavailable; `None` for other errors.
    #[must_use]
    pub fn outage(&self) -> Option<StoreOutage> {
        match self {
            Self::Unavailable(error) => Some(error.outage()),
            _ => None,
        }
    }

    /// A [`Corrupt`](Self::Corrupt) with its cause: `message` says what cannot be read.
    #[must_use]
    pub fn corrupt(message: impl Into<String>, cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Corrupt(BackendError::caused_by(message, cause))
    }
}

/// Why a backend does not do what it is asked, as far as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreOutage {
    /// It does not answer, or what it says is none of the others.
    #[default]
    Unreachable,
    /// Its memory or disk is full. It can be read.
    Full,
    /// It accepts no writes: a replica, or a read-only file system. It can be read.
    ReadOnly,
    /// It is reading its data after a start.
    Loading,
    /// It rejects the credentials, or the user lacks a right.
    AccessDenied,
    /// It cannot save its data, and accepts no writes until it can.
    NotPersisting,
    /// It has not confirmed that a write survives a failure, see [`WriteConfirmation`](super::WriteConfirmation).
    Unconfirmed,
    /// Its configuration, or its address in ours, is not what a store of sessions needs.
    Misconfigured,
}

/// What a storage backend reported. Displayed, it includes its cause, because log lines and API answers show the text
/// alone.
#[derive(Debug, Clone)]
pub struct BackendError {
    message: String,
    cause: Option<Arc<dyn Error + Send + Sync>>,
    outage: StoreOutage,
}

impl BackendError {
    /// An error without a cause of its own.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: None, outage: StoreOutage::default() }
    }

    /// An error that follows from another one.
    #[must_use]
    pub fn caused_by(message: impl Into<String>, cause: impl Error + Send + Sync + 'static) -> Self {
        Self { message: message.into(), cause: Some(Arc::new(cause)), outage: StoreOutage::default() }
    }

    /// What the error says about the backend.
    #[must_use]
    pub fn outage(&self) -> StoreOutage {
        self.outage
    }

    /// The error with what it says about the backend.
    #[must_use]
    pub fn with_outage(self, outage: StoreOutage) -> Self {
        Self { outage, ..self }
    }
}

impl From<String> for BackendError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for BackendError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_error_shows_and_keeps_its_cause() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error = StoreError::unavailable("Redis", refused);
        assert_eq!(error.to_string(), "store unavailable: Redis: connection refused");
        let root = error.source().and_then(Error::source).and_then(|cause| cause.downcast_ref::<std::io::Error>());
        assert_eq!(root.map(std::io::Error::kind), Some(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(StoreError::Corrupt("no events".into()).to_string(), "stored data cannot be read: no events");
    }
}
