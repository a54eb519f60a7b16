//! Credentials of a known format, found without a name around them.

use std::{ops::Range, sync::LazyLock};

use aho_corasick::AhoCorasick;
use regex::Regex;

use super::{
    compile_pattern::compile_pattern,
    found_secret::{FoundSecret, SecretReach},
    secret_values::{is_plain_value, looks_random},
    token_format_table::TOKEN_FORMATS,
};

/// Shortest part of a token that may continue on the next line.
const MIN_WRAPPED_LEN: usize = 20;

struct FormatMatcher {
    /// Finds the words of all formats, so that the patterns of absent ones are not tried.
    words: AhoCorasick,
    /// Index of the format of each word.
    word_formats: Vec<usize>,
    patterns: Vec<(&'static str, Regex)>,
}

static MATCHER: LazyLock<FormatMatcher> = LazyLock::new(|| {
    let words = TOKEN_FORMATS.iter().enumerate();
    let words: Vec<(usize, &str)> =
        words.flat_map(|(format, (_, words, _))| words.split(' ').map(move |word| (format, word))).collect();
    FormatMatcher {
        words: AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(words.iter().map(|(_, word)| *word))
            .expect("constant words"),
        word_formats: words.iter().map(|(format, _)| *format).collect(),
        patterns: TOKEN_FORMATS.iter().map(|(name, _, pattern)| (*name, compile_pattern(pattern))).collect(),
    }
});

/// Adds the credentials of a known format to `found`.
pub(super) fn find_known_tokens(text: &str, found: &mut Vec<FoundSecret>) {
    let matcher = &*MATCHER;
    let mut is_present = vec![false; matcher.patterns.len()];
    for word in matcher.words.find_overlapping_iter(text) {
        is_present[matcher.word_formats[word.pattern().as_usize()]] = true;
    }
    for ((name, pattern), _) in matcher.patterns.iter().zip(is_present).filter(|(_, is_present)| *is_present) {
        for captures in pattern.captures_iter(text) {
            let Some(secret) = captures.name("v").or_else(|| captures.get(0)) else { continue };
            if !is_plain_value(secret.as_str()) {
                let range = include_wrapped_lines(text, secret.range());
                found.push(FoundSecret::plain(range, *name, SecretReach::Session));
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
