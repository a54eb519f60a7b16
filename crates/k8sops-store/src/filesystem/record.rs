//! The lines of a session's file. One line is one atomic write: a line that is whole is done, one that is not never was.
//!
//! ```text
//! {"seq":1,"commit":{"epoch":0,"events":[…],"consumed":[]}}
//! {"seq":1,"inbox":{"position":1,"accepted_seq":1,"command":{…}}}
//! {"seq":4,"commit":{"epoch":1,"events":[…],"consumed":[1]}}
//! {"seq":4,"checkpoint":{"state":{…},"epoch":1,"inbox":{…}}}
//! ```
//!
//! `seq` is the log's head after the line and always comes first, so that a reader finds its place by looking at the
//! beginnings of lines.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::inbox::InboxState;
use k8sops_core::{InboxEntry, SessionEvent, SessionState};

/// Bytes of a line's beginning that are enough for [`seq_of`] and [`is_checkpoint`].
pub(super) const HEAD: usize = 48;

/// A line. One of the three is there.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<CommitRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inbox: Option<InboxEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checkpoint: Option<Box<CheckpointRecord>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CommitRecord {
    pub(super) epoch: u64,
    pub(super) events: Vec<Arc<SessionEvent>>,
    pub(super) consumed: Vec<u64>,
}

/// All that the lines before it say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CheckpointRecord {
    pub(super) state: SessionState,
    pub(super) epoch: u64,
    pub(super) inbox: InboxState,
}

impl Line {
    /// The line as it is written, with its end.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("records have string keys and no failing Serialize");
        bytes.push(b'\n');
        bytes
    }
}

/// The `seq` of the line that begins so.
pub(super) fn seq_of(head: &[u8]) -> Option<u64> {
    let digits = head.strip_prefix(b"{\"seq\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// Whether the line that begins so is a checkpoint.
pub(super) fn is_checkpoint(head: &[u8]) -> bool {
    after_seq(head).is_some_and(|rest| rest.starts_with(b",\"checkpoint\":"))
}

/// Whether the line that begins so is a commit.
pub(super) fn is_commit(head: &[u8]) -> bool {
    after_seq(head).is_some_and(|rest| rest.starts_with(b",\"commit\":"))
}

fn after_seq(head: &[u8]) -> Option<&[u8]> {
    let digits = head.strip_prefix(b"{\"seq\":")?;
    Some(&digits[digits.iter().position(|byte| !byte.is_ascii_digit())?..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_line_tells_its_seq_and_kind() {
        let commit = Line {
            seq: u64::MAX,
            commit: Some(CommitRecord { epoch: 1, events: Vec::new(), consumed: Vec::new() }),
            ..Line::default()
        };
        let bytes = commit.to_bytes();
        let head = &bytes[..HEAD];
        assert_eq!(seq_of(head), Some(u64::MAX));
        assert!(is_commit(head) && !is_checkpoint(head));
        assert!(is_checkpoint(b"{\"seq\":7,\"checkpoint\":{"));
        for garbage in [&b""[..], b"{", b"{\"seq\":", b"{\"seq\":7", b"\0\0\0", b"{\"seq\":x,"] {
            assert_eq!(seq_of(garbage), None);
        }
    }
}
