//! Whether a trail is as it was written.

use std::fmt;

use super::{
    chain::{self, NOTHING},
    record::Action,
};

/// What was found in a trail that is as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
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
pub struct Fault {
    /// Its number, from 1 on.
    pub line: u64,
    /// What is wrong.
    pub why: &'static str,
}

impl fmt::Display for Fault {
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
pub fn verify(text: &str) -> Result<Report, Fault> {
    let mut report = Report { head: NOTHING.to_owned(), ..Report::default() };
    let mut chain: Option<(String, u64)> = None;
    let mut number = 0;
    // A line that is no record is torn if the next says so, and altered otherwise.
    let mut unread = None;
    for line in text.split_inclusive('\n') {
        number += 1;
        let at = |why| Fault { line: number, why };
        let whole = line.strip_suffix('\n');
        let Some(place) = whole.and_then(chain::read) else {
            if unread.replace(number).is_some() {
                break;
            }
            continue;
        };
        match unread.take() {
            Some(torn) if !place.torn_line => return Err(Fault { line: torn, why: ALTERED }),
            None if place.torn_line => return Err(at("the torn line that it speaks of is not before it")),
            _ => {}
        }
        let begins = place.action == Action::ChainStarted;
        let first = report.records == 0;
        let continues = first && place.action == Action::ChainContinued;
        if first && !begins && !continues {
            return Err(at("the trail does not begin here: lines before it are missing"));
        }
        if place.prev != report.head && !continues {
            return Err(at(if first {
                "lines before it are missing"
            } else {
                "it does not follow the line before it: lines between them are missing, or moved"
            }));
        }
        let follows = match &chain {
            _ if begins => place.seq == 0,
            _ if continues => true,
            Some((id, seq)) => *id == place.chain && place.seq == seq + 1,
            None => false,
        };
        if !follows {
            return Err(at("its number does not follow that of the line before it"));
        }
        report.chains += u64::from(begins || continues);
        report.broken_off += u64::from(begins && !first && !report.closed);
        report.records += 1;
        report.lost += place.lost.unwrap_or(0);
        report.closed = matches!(place.action, Action::ChainClosed | Action::ChainMoved);
        report.head = place.hash;
        chain = Some((place.chain, place.seq));
    }
    match unread {
        Some(line) => Err(Fault { line, why: ALTERED }),
        None if report.records == 0 => Err(Fault { line: 1, why: "there is no record: lines are missing" }),
        None => Ok(report),
    }
}

const ALTERED: &str = "it is not as it was written: altered, or cut off";
