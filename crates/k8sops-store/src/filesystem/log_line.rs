//! The lines of a session's file. One line is one atomic write: a line that is complete took effect, and one that is not
//! was never acknowledged.
//!
//! ```text
//! {"seq":1,"commit":{"epoch":0,"events":[…],"consumed":[]}}
//! {"seq":1,"inbox":{"position":1,"accepted_seq":1,"command":{…}}}
//! {"seq":4,"commit":{"epoch":1,"events":[…],"consumed":[1]}}
//! {"seq":4,"checkpoint":{"state":{…},"epoch":1,"inbox":{…}}}
//! ```
//!
//! `seq` is the seq of the newest event after the line. It always comes first, so that a reader finds a position by looking
//! at the beginnings of lines.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::inbox_state::InboxState;
use k8sops_core::{InboxEntry, SessionEvent, SessionState};

/// How many bytes of a line's beginning are enough for [`parse_seq`] and [`is_checkpoint`].
pub(super) const LINE_HEAD_BYTES: usize = 48;

/// A line. One of the three optional fields is set.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct LogLine {
    pub(super) seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<CommitRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inbox: Option<InboxEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checkpoint: Option<Box<CheckpointRecord>>,
}

/// Events that were appended, and positions of the inbox entries that were consumed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CommitRecord {
    pub(super) epoch: u64,
    pub(super) events: Vec<Arc<SessionEvent>>,
    pub(super) consumed: Vec<u64>,
}

/// Everything that the lines before it say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CheckpointRecord {
    pub(super) state: SessionState,
    pub(super) epoch: u64,
    pub(super) inbox: InboxState,
}

impl LogLine {
    /// Encodes the line, including the line end.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("records have string keys and no failing Serialize");
        bytes.push(b'\n');
        bytes
    }

    /// Decodes a line.
    pub(super) fn from_bytes(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }
}

/// The `seq` of a line, from its beginning.
pub(super) fn parse_seq(head: &[u8]) -> Option<u64> {
    let digits = head.strip_prefix(b"{\"seq\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// Whether a line is a checkpoint, from its beginning.
pub(super) fn is_checkpoint(head: &[u8]) -> bool {
    rest_after_seq(head).is_some_and(|rest| rest.starts_with(b",\"checkpoint\":"))
}

/// Whether a line is a commit, from its beginning.
pub(super) fn is_commit(head: &[u8]) -> bool {
    rest_after_seq(head).is_some_and(|rest| rest.starts_with(b",\"commit\":"))
}

fn rest_after_seq(head: &[u8]) -> Option<&[u8]> {
    let digits = head.strip_prefix(b"{\"seq\":")?;
    Some(&digits[digits.iter().position(|byte| !byte.is_ascii_digit())?..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_head_tells_seq_and_kind() {
        let commit = LogLine {
            seq: u64::MAX,
            commit: Some(CommitRecord { epoch: 1, events: Vec::new(), consumed: Vec::new() }),
            ..LogLine::default()
        };
        let bytes = commit.to_bytes();
        let head = &bytes[..LINE_HEAD_BYTES];
        assert_eq!(parse_seq(head), Some(u64::MAX));
        assert!(is_commit(head) && !is_checkpoint(head));
        assert!(is_checkpoint(b"{\"seq\":7,\"checkpoint\":{"));
        for garbage in [&b""[..], b"{", b"{\"seq\":", b"{\"seq\":7", b"\0\0\0", b"{\"seq\":x,"] {
            assert_eq!(parse_seq(garbage), None);
        }
    }
}
