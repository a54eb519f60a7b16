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
//! at the beginnings of lines. See `line_format` for the ends of lines.

use std::sync::Arc;

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::line_format::{
    FORMAT_VERSION, FormatRecord, LineError, ends_with_format, named_format, seal_line, verify_checksum,
};
use crate::inbox_state::InboxState;
use k8sops_core::{InboxEntry, SessionEvent, SessionState};

/// How many bytes of a line's beginning are enough for [`parse_seq`] and [`is_checkpoint`].
pub(super) const LINE_HEAD_BYTES: usize = 48;

/// A line. One of `commit`, `inbox` and `checkpoint` is set, or `commit` with the `inbox` entry that it consumes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct LogLine {
    pub(super) seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<CommitRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inbox: Option<InboxEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checkpoint: Option<Box<CheckpointRecord>>,
    /// The format of this line and those after it, if it is not that of the line before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<FormatRecord>,
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
    /// Encodes the line with its checksum and its line end.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        seal_line(serde_json::to_vec(self).expect("records have string keys and no failing Serialize"))
    }

    /// Decodes a line, with or without its line end.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, LineError> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        verify_checksum(bytes)?;
        let newer = |format: Option<&FormatRecord>| format.map(|format| format.version).filter(|v| *v > FORMAT_VERSION);
        let line = match serde_json::from_slice::<Self>(bytes) {
            Ok(line) => line,
            Err(error) => {
                return Err(match newer(named_format(bytes).as_ref()) {
                    Some(found) => LineError::NewerFormat { found },
                    None => error.into(),
                });
            }
        };
        if let Some(found) = newer(line.format.as_ref()) {
            return Err(LineError::NewerFormat { found });
        }
        if line.commit.is_none() && line.inbox.is_none() && line.checkpoint.is_none() {
            return Err(LineError::UnknownKind);
        }
        Ok(line)
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

/// Whether a line is a command, from its beginning.
pub(super) fn is_inbox(head: &[u8]) -> bool {
    rest_after_seq(head).is_some_and(|rest| rest.starts_with(b",\"inbox\":"))
}

/// Whether a line is a commit, from its beginning.
pub(super) fn is_commit(head: &[u8]) -> bool {
    rest_after_seq(head).is_some_and(|rest| rest.starts_with(b",\"commit\":"))
}

/// Whether a damaged line can only be a checkpoint. If its line end was damaged, too, the next line seems to belong to it,
/// which may be a commit: a checkpoint ends with its format and its checksum, and has no other line in it.
pub(super) fn is_only_checkpoint(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let starts_line = |at: usize| {
        let head = &line[at..];
        head.starts_with(b"{\"seq\":") && (is_commit(head) || is_inbox(head) || is_checkpoint(head))
    };
    is_checkpoint(line)
        && (serde_json::from_slice::<IgnoredAny>(line).is_ok() || ends_with_format(line))
        && !(1..line.len()).any(starts_line)
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

    #[test]
    fn any_changed_bit_of_a_sealed_line_is_noticed() {
        let line = seal_line(br#"{"seq":1,"inbox":null,"commit":{"epoch":1,"events":[],"consumed":[]}}"#.to_vec());
        LogLine::from_bytes(&line).unwrap();
        let end = line.len() - 1;
        for byte in 0..end {
            for bit in 0..8 {
                let mut flipped = line.clone();
                flipped[byte] ^= 1 << bit;
                let is_same = LogLine::from_bytes(&flipped).is_ok();
                // A changed name of the checksum leaves a line without one.
                let name = end - r#","crc":"9ae0daaf"}"#.len();
                let in_name = (name..name + r#","crc":""#.len()).contains(&byte);
                assert!(!is_same || in_name, "byte {byte}, bit {bit}: {}", String::from_utf8_lossy(&flipped));
            }
        }
    }

    #[test]
    fn lines_of_other_versions_are_told_apart() {
        let rows: [(&[u8], &str); 7] = [
            (br#"{"seq":1,"commit":{"epoch":1,"events":[],"consumed":[],"more":1},"later":{}}"#, ""),
            (br#"{"seq":1,"snapshot":{}}"#, "neither a commit"),
            (br#"{"seq":1,"commit":{"parts":[]},"format":{"version":9,"writer":"9.0.0"}}"#, "format 9 is newer"),
            (
                br#"{"seq":1,"commit":{"epoch":1,"events":[],"consumed":[]},"format":{"version":9,"writer":"9"}}"#,
                "format 9",
            ),
            (br#"{"seq":1,"commit":{"epoch":1,"events":[{"type":"later"}],"consumed":[]}}"#, "does not understand"),
            (br#"{"seq":1,"commit":{"epoch":1,"events":[],"consumed":[]},"crc":"00000000"}"#, "checksum"),
            (b"\0\0\0", "does not understand"),
        ];
        for (line, expected) in rows {
            let found = LogLine::from_bytes(line).map_or_else(|error| error.to_string(), |_| String::new());
            assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}");
        }
    }
}
