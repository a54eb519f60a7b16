//! Lines of logs: what repeats is folded with its count, and what says that something is wrong is kept first.

use std::{
    collections::HashMap,
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{Budget, cut::shrinking};

/// Fewer lines are cut like any text.
const MIN_LINES: usize = 20;
/// Kinds of lines that are told apart; more are counted together.
const MAX_KINDS: usize = 20_000;
/// A longer line is cut.
const MAX_LINE: usize = 2_000;
/// The share of the room that lines get that say that something is wrong, in tenths.
const WRONG_TENTHS: usize = 7;
/// Words of a line that somebody looks for.
const WRONG: &[&str] = &[
    "error",
    "fatal",
    "panic",
    "exception",
    "oom",
    "killed",
    "failed",
    "failure",
    "refused",
    "denied",
    "unhealthy",
    "crash",
    "timeout",
    "timed out",
    "warn",
    "critical",
    "traceback",
    "segfault",
    "evicted",
    "backoff",
    "unable",
    "cannot",
];

/// Lines that differ only in numbers, times and ids.
struct Kind<'a> {
    first: &'a str,
    last: &'a str,
    count: usize,
    wrong: bool,
}

/// The lines of a text, folded; `None` when there are too few for that.
pub(super) fn folded(text: &str, budget: Budget, note: &str) -> Option<String> {
    let mut kinds: Vec<Kind<'_>> = Vec::new();
    let mut known: HashMap<u64, usize> = HashMap::new();
    let (mut total, mut others) = (0_usize, 0_usize);
    for line in text.lines() {
        total += 1;
        if line.trim().is_empty() {
            continue;
        }
        match known.get(&template(line)) {
            Some(at) => {
                kinds[*at].count += 1;
                kinds[*at].last = line;
            }
            None if kinds.len() < MAX_KINDS => {
                known.insert(template(line), kinds.len());
                kinds.push(Kind { first: line, last: line, count: 1, wrong: is_wrong(line) });
            }
            None => others += 1,
        }
    }
    if total < MIN_LINES {
        return None;
    }
    Some(shrinking(budget, |room| shown(&kinds, others, total, room, note)))
}

fn shown(kinds: &[Kind<'_>], others: usize, total: usize, room: usize, note: &str) -> String {
    let mut left = room.saturating_sub(note.len() + 160);
    let mut kept = vec![false; kinds.len()];
    let mut take = |at: usize, left: &mut usize| {
        let size = kinds[at].first.len().min(MAX_LINE) + 48;
        if !kept[at] && size < *left {
            *left -= size;
            kept[at] = true;
        }
    };
    let mut for_wrong = left * WRONG_TENTHS / 10;
    let before = for_wrong;
    for at in (0..kinds.len()).filter(|at| kinds[*at].wrong) {
        take(at, &mut for_wrong);
    }
    left -= before - for_wrong;
    // Then from both ends: how it began, and how it is now.
    for step in 0..kinds.len().div_ceil(2) {
        take(step, &mut left);
        take(kinds.len() - 1 - step, &mut left);
    }
    let mut text = String::new();
    let mut gap = 0;
    for (kind, kept) in kinds.iter().zip(&kept) {
        if !kept {
            gap += kind.count;
            continue;
        }
        if gap > 0 {
            let _ = writeln!(text, "[... {gap} lines ...]");
            gap = 0;
        }
        if kind.count > 1 {
            let _ = write!(text, "[×{} alike, the last {}] ", kind.count, moment(kind.last));
        }
        text.push_str(&kind.first[..kind.first.floor_char_boundary(MAX_LINE)]);
        text.push_str(if kind.first.len() > MAX_LINE { "…\n" } else { "\n" });
    }
    if gap + others > 0 {
        let _ = writeln!(text, "[... {} lines ...]", gap + others);
    }
    let _ = write!(
        text,
        "[{total} lines, of {} kinds; alike are lines that differ in numbers and ids only{note}]",
        kinds.len()
    );
    text
}

/// What tells a line's kind: its words without those that have a digit.
fn template(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for word in line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if word.bytes().any(|b| b.is_ascii_digit()) {
            0_u8.hash(&mut hasher);
        } else {
            word.hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn is_wrong(line: &str) -> bool {
    let start = line[..line.floor_char_boundary(MAX_LINE)].to_ascii_lowercase();
    WRONG.iter().any(|word| start.contains(word))
}

/// When a line was written, or how it begins.
fn moment(line: &str) -> &str {
    let word = line.split_whitespace().next().unwrap_or_default();
    &word[..word.floor_char_boundary(40)]
}
