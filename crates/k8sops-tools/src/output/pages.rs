//! Parts of a whole output: a range of its lines, or the lines that match.

use std::fmt::Write;

use regex::RegexBuilder;

use super::{Budget, cut::shrinking};

/// A longer line is cut in what is shown.
const MAX_LINE: usize = 4_000;
/// What a pattern may take in memory.
const MAX_PATTERN: usize = 1 << 20;

/// Lines from `from` on, the first being 1, as many as there is room for.
pub(crate) fn range(text: &str, from: u64, lines: u64, budget: Budget) -> String {
    let skip = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
    let most = usize::try_from(lines).unwrap_or(usize::MAX);
    let total = text.lines().count();
    if skip >= total {
        return format!("[there are {total} lines]");
    }
    shrinking(budget, |room| {
        let mut page = String::new();
        let mut shown = 0;
        for line in text.lines().skip(skip).take(most) {
            let line = short(line);
            if shown > 0 && page.len() + line.len() + 1 > room.saturating_sub(100) {
                break;
            }
            page.push_str(&line);
            page.push('\n');
            shown += 1;
        }
        let last = skip + shown;
        let more = if last < total { format!("; go on with from_line={}", last + 1) } else { String::new() };
        format!("{page}[lines {} to {last} of {total}{more}]", skip + 1)
    })
}

/// The lines that match, each with its number and the lines around it.
pub(crate) fn search(text: &str, pattern: &str, context: usize, most: usize, budget: Budget) -> String {
    let insensitive = !pattern.chars().any(char::is_uppercase);
    let build =
        |pattern: &str| RegexBuilder::new(pattern).case_insensitive(insensitive).size_limit(MAX_PATTERN).build();
    let (regex, taken) = match build(pattern) {
        Ok(regex) => (regex, ""),
        Err(_) => match build(&regex::escape(pattern)) {
            Ok(regex) => (regex, " (the pattern is no regular expression and was taken as it is)"),
            Err(error) => return format!("[the pattern cannot be used: {error}]"),
        },
    };
    let mut lines: Vec<&str> = Vec::new();
    let mut found: Vec<usize> = Vec::new();
    let mut matches = 0_usize;
    for (at, line) in text.lines().enumerate() {
        if regex.is_match(line) {
            matches += 1;
            if found.len() < most {
                found.push(at);
            }
        }
        lines.push(line);
    }
    if matches == 0 {
        return format!("[no line of {} matches{taken}]", lines.len());
    }
    shrinking(budget, |room| {
        let mut shown = String::new();
        let (mut next, mut count) = (0, 0);
        for at in &found {
            let mut piece = String::new();
            let first = at.saturating_sub(context).max(next);
            let last = (at + context).min(lines.len() - 1);
            if first > next && next > 0 {
                piece.push_str("--\n");
            }
            for (number, line) in lines.iter().enumerate().take(last + 1).skip(first) {
                let mark = if regex.is_match(line) { ':' } else { '-' };
                let _ = writeln!(piece, "{}{mark} {}", number + 1, short(line));
            }
            if count > 0 && shown.len() + piece.len() > room.saturating_sub(120) {
                break;
            }
            shown.push_str(&piece);
            next = last + 1;
            count += 1;
        }
        format!("{shown}[{count} of {matches} matches in {} lines shown{taken}]", lines.len())
    })
}

fn short(line: &str) -> std::borrow::Cow<'_, str> {
    if line.len() <= MAX_LINE {
        return line.into();
    }
    format!("{}… [{} bytes more in this line]", &line[..line.floor_char_boundary(MAX_LINE)], line.len() - MAX_LINE)
        .into()
}
