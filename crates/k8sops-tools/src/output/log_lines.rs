//! Lines of a log: similar lines are folded into one with their count, and lines about errors are kept first.

use std::{
    collections::HashMap,
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{OutputBudget, truncate::shrink_to_budget};

/// Fewer lines are not treated as a log.
const MIN_LINES: usize = 20;
/// Most groups of similar lines. Further lines are only counted.
const MAX_GROUPS: usize = 20_000;
/// Longest line in bytes that is shown completely.
const MAX_LINE_BYTES: usize = 2_000;
/// Share of the budget that lines about errors get, in tenths.
const ERROR_TENTHS: usize = 7;
/// Bytes that are reserved for the last line, without its note.
const SUMMARY_BYTES: usize = 160;
/// Words of a line about an error.
const ERROR_WORDS: &[&str] = &[
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
struct LineGroup<'a> {
    first: &'a str,
    last: &'a str,
    count: usize,
    is_error: bool,
}

/// The groups of all lines of a text.
struct GroupedLines<'a> {
    groups: Vec<LineGroup<'a>>,
    /// Lines beyond the largest number of groups.
    ungrouped: usize,
    total: usize,
}

/// Returns the lines of a text, folded; `None` if there are too few.
pub(super) fn fold_log_lines(text: &str, budget: OutputBudget, note: &str) -> Option<String> {
    let grouped = group_lines(text);
    if grouped.total < MIN_LINES {
        return None;
    }
    Some(shrink_to_budget(budget, |max_bytes| render_groups(&grouped, max_bytes, note)))
}

fn group_lines(text: &str) -> GroupedLines<'_> {
    let mut grouped = GroupedLines { groups: Vec::new(), ungrouped: 0, total: 0 };
    let mut known: HashMap<u64, usize> = HashMap::new();
    for line in text.lines() {
        grouped.total += 1;
        if line.trim().is_empty() {
            continue;
        }
        let groups = &mut grouped.groups;
        let hash = hash_template(line);
        match known.get(&hash) {
            Some(at) => {
                groups[*at].count += 1;
                groups[*at].last = line;
            }
            None if groups.len() < MAX_GROUPS => {
                known.insert(hash, groups.len());
                groups.push(LineGroup { first: line, last: line, count: 1, is_error: is_error_line(line) });
            }
            None => grouped.ungrouped += 1,
        }
    }
    grouped
}

fn render_groups(grouped: &GroupedLines<'_>, max_bytes: usize, note: &str) -> String {
    let GroupedLines { groups, ungrouped, total } = grouped;
    let kept = select_groups(groups, max_bytes.saturating_sub(note.len() + SUMMARY_BYTES));
    let mut text = String::new();
    let mut gap = 0;
    for (group, kept) in groups.iter().zip(&kept) {
        if !kept {
            gap += group.count;
            continue;
        }
        if gap > 0 {
            let _ = writeln!(text, "[... {gap} lines ...]");
            gap = 0;
        }
        if group.count > 1 {
            let _ = write!(text, "[×{} similar, last {}] ", group.count, first_word(group.last));
        }
        text.push_str(&group.first[..group.first.floor_char_boundary(MAX_LINE_BYTES)]);
        text.push_str(if group.first.len() > MAX_LINE_BYTES { "…\n" } else { "\n" });
    }
    if gap + ungrouped > 0 {
        let _ = writeln!(text, "[... {} lines ...]", gap + ungrouped);
    }
    let _ =
        write!(text, "[{total} lines in {} groups; similar lines differ only in numbers and ids{note}]", groups.len());
    text
}

/// Returns which groups are shown: first those about errors, then groups from both ends, because they say how the log began
/// and how it ends.
fn select_groups(groups: &[LineGroup<'_>], max_bytes: usize) -> Vec<bool> {
    let mut remaining = max_bytes;
    let mut kept = vec![false; groups.len()];
    let mut keep_if_fits = |at: usize, remaining: &mut usize| {
        let size = groups[at].first.len().min(MAX_LINE_BYTES) + 48;
        if !kept[at] && size < *remaining {
            *remaining -= size;
            kept[at] = true;
        }
    };
    let for_errors = remaining * ERROR_TENTHS / 10;
    let mut remaining_for_errors = for_errors;
    for at in (0..groups.len()).filter(|at| groups[*at].is_error) {
        keep_if_fits(at, &mut remaining_for_errors);
    }
    remaining -= for_errors - remaining_for_errors;
    for step in 0..groups.len().div_ceil(2) {
        keep_if_fits(step, &mut remaining);
        keep_if_fits(groups.len() - 1 - step, &mut remaining);
    }
    kept
}

/// Returns a hash of the words of a line, in which all words with a digit count as the same.
fn hash_template(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for word in line.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if word.bytes().any(|byte| byte.is_ascii_digit()) {
            0_u8.hash(&mut hasher);
        } else {
            word.hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn is_error_line(line: &str) -> bool {
    let beginning = line[..line.floor_char_boundary(MAX_LINE_BYTES)].to_ascii_lowercase();
    ERROR_WORDS.iter().any(|word| beginning.contains(word))
}

/// Returns the first word of a line, which usually is its time.
fn first_word(line: &str) -> &str {
    let word = line.split_whitespace().next().unwrap_or_default();
    &word[..word.floor_char_boundary(40)]
}
