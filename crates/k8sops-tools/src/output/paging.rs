//! Parts of a whole output: a range of its lines, a part of a long line, or what matches a pattern.

use std::{borrow::Cow, fmt::Write};

use regex::{Regex, RegexBuilder};

use super::{budget::OutputBudget, truncate::shrink_to_budget};

/// Longest line in bytes that is shown completely.
const MAX_LINE_BYTES: usize = 4_000;
/// Bytes that are shown on each side of a match in a longer line.
const EXCERPT_BYTES: usize = 300;
/// Most memory of a compiled pattern in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Returns up to `lines` lines from line `from` on, counted from 1, as far as the budget allows. With `from_byte`, the first of them
/// begins at that byte, counted from 0, and only as much of it is shown as the budget allows. So is a line that is alone.
pub(crate) fn page_lines(text: &str, from: u64, from_byte: Option<u64>, lines: u64, budget: OutputBudget) -> String {
    let skip = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
    let max_lines = usize::try_from(lines).unwrap_or(usize::MAX);
    let total = text.lines().count();
    if skip >= total {
        return format!("[the output has {total} lines]");
    }
    let first = text.lines().nth(skip).unwrap_or_default();
    if first.len() > MAX_LINE_BYTES && (from_byte.is_some() || max_lines == 1 || total == 1) {
        let start = usize::try_from(from_byte.unwrap_or(0)).unwrap_or(usize::MAX);
        return page_line(first, skip + 1, start, total, budget);
    }
    shrink_to_budget(budget, |max_bytes| {
        let mut page = String::new();
        let mut shown = 0;
        for (number, line) in text.lines().enumerate().skip(skip).take(max_lines) {
            let line = shorten_line(line, number + 1);
            if shown > 0 && page.len() + line.len() + 1 > max_bytes.saturating_sub(100) {
                break;
            }
            page.push_str(&line);
            page.push('\n');
            shown += 1;
        }
        let last = skip + shown;
        let more = if last < total { format!("; continue with from_line={}", last + 1) } else { String::new() };
        format!("{page}[lines {} to {last} of {total}{more}]", skip + 1)
    })
}

/// Returns the part of a line from a byte on, as far as the budget allows.
fn page_line(line: &str, number: usize, start: usize, total: usize, budget: OutputBudget) -> String {
    if start >= line.len() {
        return format!("[line {number} has {} bytes]", line.len());
    }
    let rest = &line[line.floor_char_boundary(start)..];
    shrink_to_budget(budget, |max_bytes| {
        let part = &rest[..rest.floor_char_boundary(max_bytes.saturating_sub(160))];
        let from = line.len() - rest.len();
        let end = from + part.len();
        let more = if end < line.len() {
            format!("; continue with from_line={number}, from_byte={end}")
        } else if number < total {
            format!("; continue with from_line={}", number + 1)
        } else {
            String::new()
        };
        format!("{part}\n[bytes {from} to {end} of {} of line {number} of {total}{more}]", line.len())
    })
}

/// Returns up to `max_matches` lines that match, each with its number and `context` lines around it. Of a long line, the matches
/// are shown with the text around them and their bytes in the line. A pattern without upper-case letters ignores case. A pattern that is not a valid regular expression is searched literally.
pub(crate) fn search_lines(
    text: &str,
    pattern: &str,
    context: usize,
    max_matches: usize,
    budget: OutputBudget,
) -> String {
    let (regex, remark) = match compile_pattern(pattern) {
        Ok(regex) => (regex, ""),
        Err(_) => match compile_pattern(&regex::escape(pattern)) {
            Ok(regex) => (regex, " (the pattern is not a valid regular expression and was searched literally)"),
            Err(error) => return format!("[the pattern is invalid: {error}]"),
        },
    };
    let mut lines: Vec<&str> = Vec::new();
    let mut found: Vec<usize> = Vec::new();
    let mut matches = 0_usize;
    for (at, line) in text.lines().enumerate() {
        if regex.is_match(line) {
            matches += 1;
            if found.len() < max_matches {
                found.push(at);
            }
        }
        lines.push(line);
    }
    if matches == 0 {
        return format!("[no line of {} matches{remark}]", lines.len());
    }
    shrink_to_budget(budget, |max_bytes| {
        let mut shown = String::new();
        let mut next = 0;
        let mut count = 0;
        for at in &found {
            let mut excerpt = String::new();
            let first = at.saturating_sub(context).max(next);
            let last = (at + context).min(lines.len() - 1);
            if first > next && next > 0 {
                excerpt.push_str("--\n");
            }
            for (number, line) in lines.iter().enumerate().take(last + 1).skip(first) {
                let is_match = regex.is_match(line);
                let mark = if is_match { ':' } else { '-' };
                let line = match is_match && line.len() > MAX_LINE_BYTES {
                    true => {
                        excerpt_matches(line, &regex, max_matches, max_bytes.saturating_sub(shown.len() + 200)).into()
                    }
                    false => shorten_line(line, number + 1),
                };
                let _ = writeln!(excerpt, "{}{mark} {line}", number + 1);
            }
            if count > 0 && shown.len() + excerpt.len() > max_bytes.saturating_sub(120) {
                break;
            }
            shown.push_str(&excerpt);
            next = last + 1;
            count += 1;
        }
        format!("{shown}[{count} of {matches} matches in {} lines shown{remark}]", lines.len())
    })
}

fn compile_pattern(pattern: &str) -> Result<Regex, regex::Error> {
    let ignores_case = !pattern.chars().any(char::is_uppercase);
    RegexBuilder::new(pattern).case_insensitive(ignores_case).size_limit(MAX_PATTERN_BYTES).build()
}

/// Returns the matches in a long line with the text around them, as far as `max_bytes` allow. Each part names its first byte.
fn excerpt_matches(line: &str, regex: &Regex, max_matches: usize, max_bytes: usize) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    let mut matches = 0;
    let mut shown = 0;
    for found in regex.find_iter(line) {
        matches += 1;
        let from = line.floor_char_boundary(found.start().saturating_sub(EXCERPT_BYTES));
        // A match can be as long as the line.
        let to = line.ceil_char_boundary(found.end().min(found.start() + 2 * EXCERPT_BYTES) + EXCERPT_BYTES);
        let used: usize = parts.iter().map(|(from, to)| to - from + 20).sum();
        match parts.last_mut() {
            _ if shown >= max_matches => {}
            Some(last) if from <= last.1 => {
                last.1 = to.min(last.0 + MAX_LINE_BYTES).max(last.1);
                shown += 1;
            }
            Some(_) if used + to - from > max_bytes => {}
            _ => {
                parts.push((from, to));
                shown += 1;
            }
        }
    }
    let mut text = String::new();
    for (from, to) in parts {
        let _ = write!(text, "[byte {from}]…{}…", line.get(from..to).unwrap_or_default());
    }
    let _ = write!(text, "[{shown} of {matches} matches in this line of {} bytes]", line.len());
    text
}

fn shorten_line(line: &str, number: usize) -> Cow<'_, str> {
    if line.len() <= MAX_LINE_BYTES {
        return line.into();
    }
    let beginning = &line[..line.floor_char_boundary(MAX_LINE_BYTES)];
    let (left, end) = (line.len() - beginning.len(), beginning.len());
    format!("{beginning}… [{left} bytes more in this line: from_line={number}, from_byte={end}]").into()
}
