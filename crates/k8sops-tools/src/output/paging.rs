//! Parts of a whole output: a range of its lines, or the lines that match a pattern.

use std::{borrow::Cow, fmt::Write};

use regex::{Regex, RegexBuilder};

use super::{budget::OutputBudget, truncate::shrink_to_budget};

/// Longest line in bytes that is shown completely.
const MAX_LINE_BYTES: usize = 4_000;
/// Most memory of a compiled pattern in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Returns up to `lines` lines from line `from` on, counted from 1, as far as the budget allows.
pub(crate) fn page_lines(text: &str, from: u64, lines: u64, budget: OutputBudget) -> String {
    let skip = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
    let max_lines = usize::try_from(lines).unwrap_or(usize::MAX);
    let total = text.lines().count();
    if skip >= total {
        return format!("[the output has {total} lines]");
    }
    shrink_to_budget(budget, |max_bytes| {
        let mut page = String::new();
        let mut shown = 0;
        for line in text.lines().skip(skip).take(max_lines) {
            let line = shorten_line(line);
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

/// Returns up to `max_matches` lines that match, each with its number and `context` lines around it. A pattern without
/// upper-case letters ignores case. A pattern that is not a valid regular expression is searched literally.
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
                let mark = if regex.is_match(line) { ':' } else { '-' };
                let _ = writeln!(excerpt, "{}{mark} {}", number + 1, shorten_line(line));
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

fn shorten_line(line: &str) -> Cow<'_, str> {
    if line.len() <= MAX_LINE_BYTES {
        return line.into();
    }
    let beginning = &line[..line.floor_char_boundary(MAX_LINE_BYTES)];
    format!("{beginning}… [{} bytes more in this line]", line.len() - MAX_LINE_BYTES).into()
}
