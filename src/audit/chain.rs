//! The hash chain: formats a record as a line, and parses a line.
//!
//! A line is a flat JSON object that ends with `,"hash":"…"}`. The hash covers the exact bytes of the line before that
//! suffix, so that verification needs no canonical form of JSON. The field `prev` is the hash of the previous line.

use data_encoding::HEXLOWER;
use k8sops_core::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::record::{AuditAction, AuditRecord};

/// The `prev` of the first line of a trail.
pub(super) const INITIAL_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Separates the hashed part of a line from its hash.
const HASH_FIELD: &str = ",\"hash\":\"";
const LINE_SUFFIX: &str = "\"}";

/// The state of a chain after its newest record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HashChain {
    pub(super) id: String,
    /// The number of the next record.
    pub(super) seq: u64,
    /// The hash of the newest record.
    pub(super) prev: String,
    replica: String,
}

#[derive(Serialize)]
struct TrailLine<'a> {
    seq: u64,
    ts: Timestamp,
    chain: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    torn_line: bool,
    prev: &'a str,
    #[serde(flatten)]
    record: &'a AuditRecord,
}

/// The fields of a line that define its position in the chain.
#[derive(Debug, Deserialize)]
pub(super) struct ChainPosition {
    pub(super) seq: u64,
    pub(super) chain: String,
    pub(super) prev: String,
    pub(super) action: AuditAction,
    #[serde(default)]
    pub(super) torn_line: bool,
    #[serde(default)]
    pub(super) lost: Option<u64>,
    #[serde(skip)]
    pub(super) hash: String,
}

/// Whether the line before a record is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PreviousLine {
    /// It is complete, or the file is empty.
    Whole,
    /// It was cut off in the middle, for example by a crash.
    Torn,
}

impl HashChain {
    /// Creates a chain that follows the record with the hash `after`.
    pub(super) fn new(id: String, replica: String, after: String) -> Self {
        Self { id, seq: 0, prev: after, replica }
    }

    /// Creates another chain of the same process that follows the record with the hash `after`.
    pub(super) fn start_new(&self, id: String, after: String) -> Self {
        Self { id, seq: 0, prev: after, replica: self.replica.clone() }
    }

    /// Formats the next record as a line that ends with a newline. Also returns the chain after that line.
    pub(super) fn format_next(&self, record: &AuditRecord, previous: PreviousLine) -> (String, Self) {
        let starts_file = matches!(record.action(), AuditAction::ChainStarted | AuditAction::ChainContinued);
        let line = TrailLine {
            seq: self.seq,
            ts: Timestamp::now(),
            chain: &self.id,
            replica: starts_file.then_some(self.replica.as_str()),
            version: starts_file.then_some(env!("CARGO_PKG_VERSION")),
            torn_line: previous == PreviousLine::Torn,
            prev: &self.prev,
            record,
        };
        let mut text = serde_json::to_string(&line).expect("a record has string keys and no failing Serialize");
        text.pop();
        let hash = HEXLOWER.encode(&Sha256::digest(&text));
        text.extend([HASH_FIELD, &hash, LINE_SUFFIX, "\n"]);
        (text, Self { seq: self.seq + 1, prev: hash, ..self.clone() })
    }
}

/// Parses a line without its newline. Returns `None` if its hash does not match its content.
pub(super) fn parse_line(line: &str) -> Option<ChainPosition> {
    let (body, hash) = line.strip_suffix(LINE_SUFFIX)?.rsplit_once(HASH_FIELD)?;
    if hash.len() != INITIAL_HASH.len() || HEXLOWER.encode(&Sha256::digest(body)) != hash {
        return None;
    }
    let mut position: ChainPosition = serde_json::from_str(line).ok()?;
    hash.clone_into(&mut position.hash);
    Some(position)
}
