//! Options of the audit trail.

use std::path::PathBuf;

/// Where the audit trail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditLog {
    /// To standard output, a line each.
    Stdout,
    /// To the end of a file.
    File(PathBuf),
}

impl AuditLog {
    #[allow(clippy::unnecessary_wraps, reason = "the loader wants parsers that can refuse")]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(if text == "-" { Self::Stdout } else { Self::File(text.into()) })
    }
}
