//! A session of a list.

use serde_json::Value;

/// A session that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct FoundSession {
    pub(in crate::cli) id: String,
    /// The seq of its newest event.
    pub(in crate::cli) last_seq: u64,
}

impl FoundSession {
    pub(super) fn from_json(session: &Value) -> Self {
        let id = session["session_id"].as_str().unwrap_or_default().to_owned();
        Self { id, last_seq: session["last_seq"].as_u64().unwrap_or(0) }
    }
}
