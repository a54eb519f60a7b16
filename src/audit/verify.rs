//! Verifies that a trail is unmodified.

use std::fmt;

use super::{
    chain::{self, INITIAL_HASH},
    record::AuditAction,
};

/// Findings of a trail whose every line is intact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrailReport {
    /// The number of records.
    pub records: u64,
    /// The number of chains: processes that wrote to the trail.
    pub chains: u64,
    /// The number of records that could not be written, as counted by the trail itself.
    pub lost: u64,
    /// The number of chains before the last one without a closing record: their process was killed, or lines were cut off
    /// before the next chain started.
    pub broken_off: u64,
    /// Whether the last chain has its closing record.
    pub closed: bool,
    /// The hash of the last record, to be compared with a copy that is stored elsewhere.
    pub head: String,
}

/// The first line that was modified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailFault {
    /// The line number, counted from 1.
    pub line: u64,
    /// What is wrong with the line.
    pub why: &'static str,
}

impl fmt::Display for TrailFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

const ALTERED: &str = "the line was altered or cut off";

/// Verifies the text of a trail. The files of a rotated trail are concatenated, oldest first.
///
/// An attacker who can write the file can also replace it by a whole new trail. That is only detected if the head is stored
/// elsewhere; the service logs it at startup and at shutdown.
///
/// # Errors
/// The first modified line.
pub fn verify_trail(text: &str) -> Result<TrailReport, TrailFault> {
    let mut report = TrailReport { head: INITIAL_HASH.to_owned(), ..TrailReport::default() };
    let mut chain: Option<(String, u64)> = None;
    let mut number = 0;
    // A line that is not a record is a torn write if the next record says so, and an alteration otherwise.
    let mut unparsed = None;
    for line in text.split_inclusive('\n') {
        number += 1;
        let fault = |why| TrailFault { line: number, why };
        let whole = line.strip_suffix('\n');
        let Some(position) = whole.and_then(chain::parse_line) else {
            if unparsed.replace(number).is_some() {
                break;
            }
            continue;
        };
        match unparsed.take() {
            Some(torn) if !position.torn_line => return Err(TrailFault { line: torn, why: ALTERED }),
            None if position.torn_line => {
                return Err(fault("the line refers to a torn line that is missing before it"));
            }
            _ => {}
        }
        let starts = position.action == AuditAction::ChainStarted;
        let first = report.records == 0;
        let continues = first && position.action == AuditAction::ChainContinued;
        if first && !starts && !continues {
            return Err(fault("the trail does not start here: earlier lines are missing"));
        }
        if position.prev != report.head && !continues {
            return Err(fault(if first {
                "earlier lines are missing"
            } else {
                "the line does not follow the previous line: lines are missing or were moved"
            }));
        }
        let follows = match &chain {
            _ if starts => position.seq == 0,
            _ if continues => true,
            Some((id, seq)) => *id == position.chain && position.seq == seq + 1,
            None => false,
        };
        if !follows {
            return Err(fault("the record number does not follow that of the previous line"));
        }
        report.chains += u64::from(starts || continues);
        report.broken_off += u64::from(starts && !first && !report.closed);
        report.records += 1;
        report.lost += position.lost.unwrap_or(0);
        report.closed = matches!(position.action, AuditAction::ChainClosed | AuditAction::ChainMoved);
        report.head = position.hash;
        chain = Some((position.chain, position.seq));
    }
    match unparsed {
        Some(line) => Err(TrailFault { line, why: ALTERED }),
        None if report.records == 0 => Err(TrailFault { line: 1, why: "the trail is empty: lines are missing" }),
        None => Ok(report),
    }
}
