//! Whether a trail is as it was written.

use std::fmt;

use super::{
    chain::{self, INITIAL_HASH},
    record::AuditAction,
};

/// What was found in a trail that is as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrailReport {
    /// Records.
    pub records: u64,
    /// Chains: processes that wrote to it.
    pub chains: u64,
    /// Records that could not be written at the time, by the trail's own word.
    pub lost: u64,
    /// Chains before the last one that were not ended in order: their process was killed, or lines were cut off before the
    /// next one began.
    pub broken_off: u64,
    /// Whether the last chain was ended in order.
    pub closed: bool,
    /// The hash of the last record: what was noted elsewhere can be held against it.
    pub head: String,
}

/// The first line that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailFault {
    /// Its number, from 1 on.
    pub line: u64,
    /// What is wrong.
    pub why: &'static str,
}

impl fmt::Display for TrailFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// Looks through the text of a trail, or of the files of one in their order.
///
/// Whoever can write the file can write a whole new one; that is seen only where its head is kept elsewhere (the service logs
/// it when it begins and when it stops).
///
/// # Errors
/// The first line that is wrong.
pub fn verify_trail(text: &str) -> Result<TrailReport, TrailFault> {
    let mut report = TrailReport { head: INITIAL_HASH.to_owned(), ..TrailReport::default() };
    let mut chain: Option<(String, u64)> = None;
    let mut number = 0;
    // A line that is no record is torn if the next says so, and altered otherwise.
    let mut unread = None;
    for line in text.split_inclusive('\n') {
        number += 1;
        let at = |why| TrailFault { line: number, why };
        let whole = line.strip_suffix('\n');
        let Some(position) = whole.and_then(chain::parse_line) else {
            if unread.replace(number).is_some() {
                break;
            }
            continue;
        };
        match unread.take() {
            Some(torn) if !position.torn_line => return Err(TrailFault { line: torn, why: ALTERED }),
            None if position.torn_line => return Err(at("the torn line that it speaks of is not before it")),
            _ => {}
        }
        let begins = position.action == AuditAction::ChainStarted;
        let first = report.records == 0;
        let continues = first && position.action == AuditAction::ChainContinued;
        if first && !begins && !continues {
            return Err(at("the trail does not begin here: lines before it are missing"));
        }
        if position.prev != report.head && !continues {
            return Err(at(if first {
                "lines before it are missing"
            } else {
                "it does not follow the line before it: lines between them are missing, or moved"
            }));
        }
        let follows = match &chain {
            _ if begins => position.seq == 0,
            _ if continues => true,
            Some((id, seq)) => *id == position.chain && position.seq == seq + 1,
            None => false,
        };
        if !follows {
            return Err(at("its number does not follow that of the line before it"));
        }
        report.chains += u64::from(begins || continues);
        report.broken_off += u64::from(begins && !first && !report.closed);
        report.records += 1;
        report.lost += position.lost.unwrap_or(0);
        report.closed = matches!(position.action, AuditAction::ChainClosed | AuditAction::ChainMoved);
        report.head = position.hash;
        chain = Some((position.chain, position.seq));
    }
    match unread {
        Some(line) => Err(TrailFault { line, why: ALTERED }),
        None if report.records == 0 => Err(TrailFault { line: 1, why: "there is no record: lines are missing" }),
        None => Ok(report),
    }
}

const ALTERED: &str = "it is not as it was written: altered, or cut off";
