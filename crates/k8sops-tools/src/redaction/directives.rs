//! Values behind a name without a separator, as in the configuration of many programs: `requirepass VALUE`,
//! `proxy_set_header X-Auth-Token VALUE;`, `sentinel auth-pass NAME VALUE`.

use std::ops::Range;

use super::{
    found_secret::{FoundSecret, SecretReach},
    secret_names::{SecretNameLevel, rate_secret_name},
    secret_values::{is_plain_value, looks_random},
    text_lines::lines_from,
};

/// A line with more words is a sentence or a row of a table.
const MAX_WORDS: usize = 8;
/// How many words behind the name may be its value. The first may say whose it is.
const MAX_DISTANCE: usize = 2;

/// Adds the values of directives to `found`.
pub(super) fn find_directive_secrets(text: &str, found: &mut Vec<FoundSecret>) {
    for line in lines_from(text, 0) {
        let words: Vec<Range<usize>> =
            split_words(text, line).filter(|word| &text[word.clone()] != "=").take(MAX_WORDS + 1).collect();
        if !(2..=MAX_WORDS).contains(&words.len()) {
            continue;
        }
        for (at, name) in words.iter().enumerate() {
            let name = &text[name.clone()];
            if rate_secret_name(name) <= SecretNameLevel::Possible || !is_name(name) {
                continue;
            }
            let value = words[at + 1..].iter().take(MAX_DISTANCE).find(|value| is_value(&text[(*value).clone()]));
            if let Some(value) = value {
                found.push(FoundSecret::plain(value.clone(), name, SecretReach::Session));
            }
        }
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|char: char| char.is_ascii_alphabetic())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// Returns whether a word looks generated, and is neither a digest nor the identifier of a commit.
fn is_value(word: &str) -> bool {
    looks_random(word)
        && !is_plain_value(word)
        && !word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        && !word.contains([':', '=', '"', '\''])
}

/// Splits a line at its blanks. Quotes and the end of a statement are not part of the words.
fn split_words(text: &str, line: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut at = line.start;
    std::iter::from_fn(move || {
        let rest = &text[at..line.end];
        let start = at + rest.find(|char: char| !char.is_ascii_whitespace())?;
        let end =
            start + text[start..line.end].find(|char: char| char.is_ascii_whitespace()).unwrap_or(line.end - start);
        at = end;
        let word = text[start..end].trim_start_matches(['"', '\'']);
        let from = end - word.len();
        Some(from..from + word.trim_end_matches(['"', '\'', ';', ',']).len())
    })
}
