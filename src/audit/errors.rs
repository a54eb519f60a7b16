//! Errors of the audit trail.

use std::{io, path::PathBuf, sync::Arc};

/// Why a record could not be added to the trail. Cloned for every caller that waits for the same fsync.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened or read.
    #[error("the audit trail {} cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the file system reported.
        source: Arc<io::Error>,
    },
    /// Another process holds the lock of the file.
    #[error("the audit trail {} cannot be opened: another process writes to it; give each process a file of its own", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A record cannot be written or synced.
    #[error("the audit trail cannot be written")]
    Write(#[source] Arc<io::Error>),
    /// The trail is closed.
    #[error("the audit trail is closed")]
    Closed,
}

impl AuditError {
    pub(super) fn write(error: io::Error) -> Self {
        Self::Write(Arc::new(error))
    }
}
