//! A chain: what makes a record into a line, and a line into a record.
//!
//! A line is a flat JSON object that ends with `,"hash":"…"}`. The hash is over all of the line before it, as it stands,
//! so that there is no question of how JSON is to be written; `prev` in it is the hash of the line before.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::record::{Action, Entry, hex};
use k8sops_core::Timestamp;

/// The `prev` of the first line of all.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const FIELD: &str = ",\"hash\":\"";
const END: &str = "\"}";

/// Where a chain stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// Names it.
    pub(super) id: String,
    /// The number of the next record.
    pub(super) seq: u64,
    /// The hash of the newest.
    pub(super) prev: String,
    replica: String,
}

#[derive(Serialize)]
struct Line<'a> {
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
    entry: &'a Entry,
}

/// What a line says of its place.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) chain: String,
    pub(super) prev: String,
    pub(super) action: Action,
    #[serde(default)]
    pub(super) torn_line: bool,
    #[serde(default)]
    pub(super) lost: Option<u64>,
    #[serde(skip)]
    pub(super) hash: String,
}

impl Chain {
    pub(super) fn new(id: String, replica: String, after: String) -> Self {
        Self { id, seq: 0, prev: after, replica }
    }

    /// Another chain of the same process, after these lines.
    pub(super) fn begun_anew(&self, id: String, after: String) -> Self {
        Self { id, seq: 0, prev: after, replica: self.replica.clone() }
    }

    /// The line of the next record, with its end of line; and the chain after it. `torn`: the line before it is not whole.
    pub(super) fn next(&self, entry: &Entry, action: Action, torn: bool) -> (String, Self) {
        let begins = matches!(action, Action::ChainStarted | Action::ChainContinued);
        let line = Line {
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
pub(super) fn read(line: &str) -> Option<Place> {
    let (body, hash) = line.strip_suffix(END)?.rsplit_once(FIELD)?;
    if hash.len() != NOTHING.len() || hex(&Sha256::digest(body)) != hash {
        return None;
    }
    let mut place: Place = serde_json::from_str(line).ok()?;
    hash.clone_into(&mut place.hash);
    Some(place)
}
