//! Credentials of a known format, found without a name around them.

use std::{ops::Range, sync::LazyLock};

use super::{
    found_secret::{FoundSecret, SecretReach},
    pattern_table::PatternTable,
    secret_values::{is_plain_value, looks_random},
    token_format_table::TOKEN_FORMATS,
};

/// Shortest part of a token that may continue on the next line.
const MIN_WRAPPED_LEN: usize = 20;

static PATTERNS: LazyLock<PatternTable> = LazyLock::new(|| {
    let rows: Vec<_> = TOKEN_FORMATS.iter().map(|(_, words, pattern)| (*words, *pattern)).collect();
    PatternTable::new(&rows)
});

/// Adds the credentials of a known format to `found`.
pub(super) fn find_known_tokens(text: &str, found: &mut Vec<FoundSecret>) {
    for (row, pattern) in PATTERNS.candidates(text) {
        let (name, ..) = TOKEN_FORMATS[row];
        for captures in pattern.captures_iter(text) {
            let Some(secret) = captures.name("v").or_else(|| captures.get(0)) else { continue };
            if !is_plain_value(secret.as_str()) {
                let range = include_wrapped_lines(text, secret.range());
                found.push(FoundSecret::plain(range, name, SecretReach::Session));
            }
        }
    }
}

/// Returns the range of a token with the lines that it continues on, if it ends with its line.
pub(super) fn include_wrapped_lines(text: &str, range: Range<usize>) -> Range<usize> {
    let mut end = range.end;
    if range.len() < MIN_WRAPPED_LEN {
        return range;
    }
    while let Some(rest) = text[end..].strip_prefix("\r\n").or_else(|| text[end..].strip_prefix('\n')) {
        let line = rest.lines().next().unwrap_or_default();
        let part = line.trim();
        let is_part = part.len() >= 4
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.+/=".contains(&b))
            // The next line is a pair.
            && !part.trim_end_matches('=').contains('=')
            // A word or a name on the next line is none of it.
            && (looks_random(part) || (end > range.end && part.len() < MIN_WRAPPED_LEN));
        if !is_part {
            break;
        }
        end = text.len() - rest.len() + line.trim_end().len();
        if part.len() < MIN_WRAPPED_LEN {
            break;
        }
    }
    range.start..end
}

#[cfg(test)]
mod tests;
