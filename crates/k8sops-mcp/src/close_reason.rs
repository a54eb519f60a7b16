//! Why a connection ended.

use std::{fmt, io, process::ExitStatus, sync::Arc};

/// Why a connection ended.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CloseReason {
    /// The transport ended, and nothing more is known.
    #[error("the server closed the connection")]
    ClosedByServer,
    /// The child process of a stdio server exited.
    #[error("the server's process exited ({status}){stderr}")]
    ProcessExited { status: ExitStatus, stderr: LastStderrLines },
    /// The child process of a stdio server closed its standard output and is still running.
    #[error("the server's process closed its output{stderr}")]
    OutputClosed { stderr: LastStderrLines },
    /// Reading from the server failed.
    #[error("cannot read the server's output")]
    ReadFailed(#[source] Arc<io::Error>),
    /// A message exceeded the size limit, did not end, and could not be matched to a request.
    #[error("the server sent more than {limit} bytes without ending a message")]
    UnendedMessage { limit: usize },
}

/// The end of a child's standard error, displayed as the suffix of an error text; empty if the child printed nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastStderrLines(pub(crate) String);

impl fmt::Display for LastStderrLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; stderr: {}", self.0) }
    }
}
