//! An output that consists of secret values without their names, as a template over Secrets prints it.

use std::ops::Range;

use super::{
    content_hint::ContentHint,
    encodings::decode_base64_text,
    found_secret::{SecretReach, ValueForm},
    json_secrets::find_json_strings,
    placeholder::is_only_placeholders,
    secret_values::{is_name_like, looks_random},
};

/// Shortest word that is taken as base64 if it decodes to text.
const MIN_BASE64_LEN: usize = 8;

/// A value and where it is.
pub(super) struct BareValue<'a> {
    pub(super) range: Range<usize>,
    pub(super) key: &'a str,
    pub(super) form: ValueForm,
    pub(super) reach: SecretReach,
}

/// Returns the values of an output that consists of them; none if it is another output.
pub(super) fn split_bare_values(text: &str, hint: ContentHint) -> Vec<BareValue<'_>> {
    let is_bare = match hint {
        ContentHint::Values => !is_message(text),
        // A template may print one value of what was expected to be whole objects.
        ContentHint::Objects => {
            let mut words = text.split_whitespace();
            words.next().is_some_and(|word| looks_random(word) && !word.contains([':', '{', '"']))
                && words.next().is_none()
        }
        ContentHint::Any => false,
    };
    if !is_bare {
        return Vec::new();
    }
    let trimmed = text.trim();
    if trimmed.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(trimmed).is_ok() {
        let strings = find_json_strings(text);
        return strings.into_iter().filter_map(|(key, range)| bare_value(text, range, key)).collect();
    }
    if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") {
        let start = text.len() - text.trim_start().len();
        let range = start..start + trimmed.len();
        return vec![BareValue { range, key: "private-key", form: ValueForm::Plain, reach: SecretReach::Session }];
    }
    let mut values = Vec::new();
    let mut at = 0;
    while let Some(skip) = text[at..].find(|char: char| !char.is_whitespace()) {
        let start = at + skip;
        let length = text[start..].split_whitespace().next().unwrap_or_default().len();
        at = start + length;
        // `jq` prints strings in quotes.
        let is_quoted = length > 2 && text[start..at].starts_with('"') && text[start..at].ends_with('"');
        let quote = usize::from(is_quoted);
        values.extend(bare_value(text, start + quote..at - quote, "value"));
    }
    values
}

fn bare_value<'a>(text: &'a str, range: Range<usize>, key: &'a str) -> Option<BareValue<'a>> {
    let value = &text[range.clone()];
    if value.is_empty()
        || is_only_placeholders(value.trim_matches(['"', '\'']))
        || matches!(value, "<none>" | "<nil>" | "<no" | "value>" | "null")
    {
        return None;
    }
    let is_base64 = value.len() >= MIN_BASE64_LEN
        && value.len().is_multiple_of(4)
        && decode_base64_text(value).is_some_and(|decoded| !decoded.contains(char::is_control));
    let is_ordinary = is_name_like(value) || value.bytes().all(|byte| byte.is_ascii_alphabetic());
    let reach =
        if is_base64 || looks_random(value) || !is_ordinary { SecretReach::Session } else { SecretReach::InPlace };
    let form = if is_base64 { ValueForm::Base64 } else { ValueForm::Plain };
    Some(BareValue { range, key, form, reach })
}

/// Returns whether an output is the message of a failure, and no value.
fn is_message(text: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "Error from server",
        "error:",
        "Error:",
        "Unable to connect",
        "No resources found",
        "bash:",
        "sh:",
        "/bin/sh:",
    ];
    PREFIXES.iter().any(|prefix| text.trim_start().starts_with(prefix)) && text.trim().lines().count() == 1
}
