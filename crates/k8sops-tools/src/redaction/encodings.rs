//! Encodings in which a known value may occur in a text, and values that are too common to search for.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    secret_names::{SecretNameLevel, rate_secret_name},
    secret_values::{is_mask, is_name_like, is_plain_value, looks_random},
};

/// Shortest value that is searched for in other places. A shorter one is part of too many words.
const MIN_SEARCHED_LEN: usize = 6;
/// Longest value that is searched for. The search for a file would cost more memory than the file is worth.
const MAX_SEARCHED_LEN: usize = 32 << 10;
/// Shortest number that is searched for. A shorter one is also a port, a count or a time.
const MIN_SEARCHED_NUMBER_LEN: usize = 8;
/// Shortest word of lower-case letters that is searched for.
const MIN_SEARCHED_WORD_LEN: usize = 12;
/// Shortest line of a value of several lines that is searched for by itself.
const MIN_SEARCHED_LINE_LEN: usize = 12;
/// Characters that are encoded in a URL.
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Values that are also common words. They are redacted only where they are found as a secret.
const COMMON_VALUES: &[&str] = &[
    "admin",
    "administrator",
    "changeme",
    "cluster",
    "database",
    "default",
    "disable",
    "disabled",
    "enable",
    "enabled",
    "example",
    "false",
    "guest",
    "kubernetes",
    "localhost",
    "mariadb",
    "master",
    "mongodb",
    "mysql",
    "none",
    "opaque",
    "password",
    "postgres",
    "postgresql",
    "production",
    "public",
    "rabbitmq",
    "redis",
    "replica",
    "require",
    "required",
    "secret",
    "service",
    "staging",
    "system",
    "target",
    "token",
    "true",
    "username",
    "verify-full",
];
/// Returns the plain value of a base64 encoding, if it is text.
pub(super) fn decode_base64_text(base64: &str) -> Option<String> {
    let compact: String = base64.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if compact.len() < 2 {
        return None;
    }
    let bytes = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(&compact).ok());
    String::from_utf8(bytes?).ok()
}

/// Returns the standard base64 encoding of a value.
pub(super) fn encode_base64(plain: &str) -> String {
    STANDARD.encode(plain)
}

/// How a known value is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SearchScope {
    /// Not at all: it is an ordinary word or a name, and would make other outputs unreadable.
    Nowhere,
    /// Where no letter or digit is beside it.
    WholeWords,
    /// Everywhere.
    Anywhere,
}

/// Returns how a value with this key is searched for in other places than the one where it was found.
pub(super) fn search_scope(key: &str, plain: &str) -> SearchScope {
    let plain = plain.trim();
    let lower = plain.to_ascii_lowercase();
    let is_number = plain.bytes().all(|b| b.is_ascii_digit());
    let is_word = plain.bytes().all(|b| b.is_ascii_lowercase());
    if !(MIN_SEARCHED_LEN..=MAX_SEARCHED_LEN).contains(&plain.len())
        || (is_number && plain.len() < MIN_SEARCHED_NUMBER_LEN)
        || (is_word && plain.len() < MIN_SEARCHED_WORD_LEN)
        || COMMON_VALUES.contains(&lower.as_str())
        || plain.starts_with("-----BEGIN CERTIFICATE")
        || plain.starts_with("-----BEGIN PUBLIC")
    {
        return SearchScope::Nowhere;
    }
    if looks_random(plain) {
        return SearchScope::Anywhere;
    }
    let is_plain = is_plain_value(plain) && !is_mask(plain);
    if is_name_like(plain) || is_number || is_plain {
        // A password may look like a name; the value of another key that looks like one is one.
        let is_secret = rate_secret_name(key) >= SecretNameLevel::Likely && !is_plain;
        return if is_secret { SearchScope::WholeWords } else { SearchScope::Nowhere };
    }
    SearchScope::Anywhere
}

/// Encodings of one value.
pub(super) struct ValueEncodings {
    pub(super) plain: Vec<String>,
    pub(super) base64: Vec<String>,
}

/// Returns the encodings of a value that are searched for.
pub(super) fn encode_value(plain: &str) -> ValueEncodings {
    let trimmed = plain.trim();
    let mut texts = vec![plain.to_owned(), trimmed.to_owned(), escape_json(trimmed), encode_url(trimmed)];
    texts.push(escape_json(&escape_json(trimmed)));
    if trimmed.contains('\n') {
        texts.extend(
            trimmed
                .lines()
                .map(str::trim)
                .filter(|l| l.len() >= MIN_SEARCHED_LINE_LEN && looks_random(l))
                .map(str::to_owned),
        );
    }
    texts.retain(|text| text.len() >= MIN_SEARCHED_LEN);
    texts.sort();
    texts.dedup();
    let mut encoded: Vec<String> = [plain, trimmed]
        .iter()
        .flat_map(|text| {
            [STANDARD.encode(text), STANDARD_NO_PAD.encode(text), URL_SAFE.encode(text), URL_SAFE_NO_PAD.encode(text)]
        })
        .collect();
    // The output of `echo password | base64` has the line feed in it.
    let with_newline = format!("{trimmed}\n");
    encoded.push(STANDARD.encode(&with_newline));
    encoded.sort();
    encoded.dedup();
    ValueEncodings { plain: texts, base64: encoded }
}

fn escape_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

fn encode_url(text: &str) -> String {
    utf8_percent_encode(text, URL_ENCODED).to_string()
}
