//! A chain: what makes a record into a line, and a line into a record.
//!
//! A line is a flat JSON object that ends with `,"hash":"…"}`. The hash is over all of the line before it, as it stands,
//! so that there is no question of how JSON is to be written; `prev` in it is the hash of the line before.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::record::{AuditAction, AuditRecord, hex};
use crate::session::Timestamp;

/// The `prev` of the first line of all.
pub(super) const INITIAL_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const FIELD: &str = ",\"hash\":\"";
const END: &str = "\"}";

/// Where a chain stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HashChain {
    /// Names it.
    pub(super) id: String,
    /// The number of the next record.
    pub(super) seq: u64,
    /// The hash of the newest.
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
    entry: &'a AuditRecord,
}

/// What a line says of its place.
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

impl HashChain {
    pub(super) fn new(id: String, replica: String, after: String) -> Self {
        Self { id, seq: 0, prev: after, replica }
    }

    /// Another chain of the same process, after these lines.
    pub(super) fn start_new(&self, id: String, after: String) -> Self {
        Self { id, seq: 0, prev: after, replica: self.replica.clone() }
    }

    /// The line of the next record, with its end of line; and the chain after it. `torn`: the line before it is not whole.
    pub(super) fn next_line(&self, entry: &AuditRecord, action: AuditAction, torn: bool) -> (String, Self) {
        let begins = matches!(action, AuditAction::ChainStarted | AuditAction::ChainContinued);
        let line = TrailLine {
            seq: self.seq,
            ts: Timestamp::now(),
            chain: &self.id,
            replica: begins.then_some(self.replica.as_str()),
            version: begins.then_some(env!("CARGO_PKG_VERSION")),
            torn_line: torn,
            prev: &self.prev,
            entry,
        };
        let mut text = serde_json::to_string(&line).expect("a record has string keys and no failing Serialize");
        text.pop();
        let hash = hex(&Sha256::digest(&text));
        text.extend([FIELD, &hash, END, "\n"]);
        (text, Self { seq: self.seq + 1, prev: hash, ..self.clone() })
    }
}

/// Reads a line without its end of line; `None` when its hash is not that of what it says.
pub(super) fn parse_line(line: &str) -> Option<ChainPosition> {
    let (body, hash) = line.strip_suffix(END)?.rsplit_once(FIELD)?;
    if hash.len() != INITIAL_HASH.len() || hex(&Sha256::digest(body)) != hash {
        return None;
    }
    let mut place: ChainPosition = serde_json::from_str(line).ok()?;
    hash.clone_into(&mut place.hash);
    Some(place)
}
