//! Values behind a name without a separator: in the configuration of many programs (`requirepass VALUE`,
//! `proxy_set_header X-Auth-Token VALUE;`, `sentinel auth-pass NAME VALUE`), and in sentences (`issued API token VALUE`,
//! `the password was changed to VALUE`).

use std::ops::Range;

use super::{
    found_secret::{FoundSecret, SecretReach},
    secret_names::{SecretNameLevel, is_identifier_name, rate_secret_name},
    secret_values::{is_name_like, is_plain_value, looks_random},
    text_lines::lines_from,
};

/// A line with more words is a sentence or a row of a table.
const MAX_DIRECTIVE_WORDS: usize = 8;
/// Most words of a line that are read.
const MAX_LINE_WORDS: usize = 200;
/// How many words behind the name of a directive may be its value. The first may say whose it is.
const MAX_DIRECTIVE_DISTANCE: usize = 2;
/// How many words behind the name in a sentence may be its value.
const MAX_SENTENCE_DISTANCE: usize = 10;
/// Shortest password of a person that is told from a word.
const MIN_PASSWORD_LEN: usize = 8;

/// Adds the values of directives and sentences to `found`.
pub(super) fn find_directive_secrets(text: &str, found: &mut Vec<FoundSecret>) {
    for line in lines_from(text, 0) {
        let words: Vec<Range<usize>> =
            split_words(text, line).filter(|word| &text[word.clone()] != "=").take(MAX_LINE_WORDS).collect();
        for at in 0..words.len() {
            let Some((name, level)) = rate_word(text, &words, at) else { continue };
            if let Some(value) = find_value(text, &words, at, level) {
                let reach =
                    if looks_random(&text[value.clone()]) { SecretReach::Session } else { SecretReach::InPlace };
                found.push(FoundSecret::plain(value, name, reach));
            }
        }
    }
}

/// Returns a word, or two as in `API key`, if it sounds like a secret.
fn rate_word<'a>(text: &'a str, words: &[Range<usize>], at: usize) -> Option<(&'a str, SecretNameLevel)> {
    let word = &text[words[at].clone()];
    let is_name = word.starts_with(|char: char| char.is_ascii_alphabetic())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    let name = match at.checked_sub(1) {
        Some(before) if word.eq_ignore_ascii_case("key") => &text[words[before].start..words[at].end],
        _ => word,
    };
    let level = rate_secret_name(name);
    (is_name && level > SecretNameLevel::Possible).then_some((name, level))
}

/// Returns the word behind a name that is its value.
fn find_value(text: &str, words: &[Range<usize>], name: usize, level: SecretNameLevel) -> Option<Range<usize>> {
    let distance = if words.len() <= MAX_DIRECTIVE_WORDS { MAX_DIRECTIVE_DISTANCE } else { 1 };
    let behind = words[name + 1..].iter().enumerate().take(MAX_SENTENCE_DISTANCE);
    for (between, word) in behind {
        let value = &text[word.clone()];
        let is_said = between < distance || is_said_next(text, words, name + 1 + between);
        let is_next = between == 0;
        // `set -x API_TOKEN VALUE`: in a sentence, hexadecimal digits are those of a commit.
        let is_variable = is_next && words.len() <= 4 && text[words[name].clone()].contains('_');
        let may_be_password =
            level == SecretNameLevel::Certain && (is_next || is_said_next(text, words, name + 1 + between));
        if is_said && is_generated(value)
            || may_be_password && is_password(value)
            || is_variable && looks_random(value) && !is_plain_value(value)
        {
            return Some(word.clone());
        }
    }
    None
}

/// Returns whether the words before a word of a sentence say that a value follows, and not an identifier.
fn is_said_next(text: &str, words: &[Range<usize>], at: usize) -> bool {
    let before = &text[words[at - 1].clone()];
    let is_announced = before.ends_with(':');
    let before = before.trim_end_matches(':');
    let is_joined = matches!(before, "is" | "to" | "with" | "as" | "was" | "are" | "using");
    let subject = match is_joined {
        true => at.checked_sub(2).map_or("", |subject| &text[words[subject].clone()]),
        false => before,
    };
    // `the password of the user is …`
    let is_owner = matches!(subject, "user" | "account" | "role" | "service");
    (is_announced || is_joined) && (is_owner || !is_identifier_name(subject))
}

/// Returns whether a word looks generated, and is neither a digest nor the identifier of a commit.
fn is_generated(word: &str) -> bool {
    looks_random(word)
        && !is_plain_value(word)
        && !word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        && !word.trim_end_matches('=').contains([':', '=', '"', '\'', '('])
        // Base64 has slashes, too, and no dots and dashes.
        && (!word.contains('/') || (!word.contains(['.', '-', '_']) && word.split('/').any(is_base64_part)))
}

/// Returns whether a part of a word looks generated and is not the digest in a path.
fn is_base64_part(part: &str) -> bool {
    looks_random(part) && !part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns whether a word directly behind the word for a password looks like one that a person made.
fn is_password(word: &str) -> bool {
    let has = |accepts: fn(&u8) -> bool| word.as_bytes().iter().any(accepts);
    word.len() >= MIN_PASSWORD_LEN
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_lowercase)
        && (has(u8::is_ascii_uppercase) || has(|byte| b"!#$%&*+?@^~".contains(byte)) || has_inner_digit(word))
        && !is_name_like(word)
        && !is_plain_value(word)
        && !word.contains([':', '=', '(', '/', '"', '<', '['])
}

/// Returns whether a word without separators has a digit before a letter, as `dragon77x` and unlike `sha256`.
fn has_inner_digit(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && word.as_bytes().windows(2).any(|pair| pair[0].is_ascii_digit() && pair[1].is_ascii_alphabetic())
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
