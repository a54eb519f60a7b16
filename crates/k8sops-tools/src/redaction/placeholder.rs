//! Placeholders of secret values.
//!
//! `[secret:KEY:DIGEST]` stands for the value itself, `[secret:KEY:DIGEST:b64]` for its base64 encoding. The key is for the
//! reader; the digest identifies the value.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;
use serde_json::{Map, Value};

use super::found_secret::ValueForm;

/// Longest key in characters.
const MAX_KEY_CHARS: usize = 40;

/// Longest placeholder in bytes.
const MAX_PLACEHOLDER_LEN: usize = 80;

/// The beginning of every placeholder.
pub(super) const PLACEHOLDER_PREFIX: &str = "[secret:";

static PATTERN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\[secret:[A-Za-z0-9._-]{1,40}:([0-9a-f]{16})(:b64)?\]").expect("a constant pattern"));

/// A placeholder in a text.
pub(super) struct PlaceholderMatch<'a> {
    pub(super) range: Range<usize>,
    pub(super) digest: &'a str,
    pub(super) form: ValueForm,
}

/// Returns the placeholder of a value.
pub(super) fn format_placeholder(key: &str, digest: &str, form: ValueForm) -> String {
    let is_accepted = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-');
    let mut name: String =
        key.chars().map(|char| if is_accepted(char) { char } else { '_' }).take(MAX_KEY_CHARS).collect();
    if name.is_empty() {
        name.push_str("value");
    }
    let suffix = match form {
        ValueForm::Plain => "",
        ValueForm::Base64 => ":b64",
    };
    format!("[secret:{name}:{digest}{suffix}]")
}

/// Returns the placeholder of the same value with another key; `None` if the text is no placeholder.
pub(super) fn rename_placeholder(placeholder: &str, key: &str) -> Option<String> {
    find_placeholders(placeholder).next().map(|found| format_placeholder(key, found.digest, found.form))
}

/// Returns the placeholders in a text, in their order.
pub(super) fn find_placeholders(text: &str) -> impl Iterator<Item = PlaceholderMatch<'_>> {
    PATTERN.captures_iter(text).filter_map(|captures| {
        let range = captures.get(0)?.range();
        let digest = captures.get(1)?.as_str();
        let form = if captures.get(2).is_some() { ValueForm::Base64 } else { ValueForm::Plain };
        Some(PlaceholderMatch { range, digest, form })
    })
}

/// Returns whether a text contains a placeholder.
fn contains_placeholder(text: &str) -> bool {
    PATTERN.is_match(text)
}

/// Returns whether any text or key of the arguments of a call contains a placeholder.
pub(crate) fn arguments_contain_placeholder(arguments: &Map<String, Value>) -> bool {
    arguments.iter().any(|(key, value)| contains_placeholder(key) || json_contains_placeholder(value))
}

fn json_contains_placeholder(value: &Value) -> bool {
    match value {
        Value::String(text) => contains_placeholder(text),
        Value::Array(items) => items.iter().any(json_contains_placeholder),
        Value::Object(fields) => arguments_contain_placeholder(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Returns whether a placeholder begins at a position.
pub(super) fn is_placeholder_at(text: &str, at: usize) -> bool {
    let rest = text.get(at..).filter(|rest| rest.starts_with(PLACEHOLDER_PREFIX)).unwrap_or_default();
    let rest = &rest[..rest.floor_char_boundary(rest.len().min(MAX_PLACEHOLDER_LEN))];
    find_placeholders(rest).next().is_some_and(|found| found.range.start == 0)
}

/// Returns whether a text consists of placeholders only.
pub(crate) fn is_only_placeholders(text: &str) -> bool {
    let mut end = 0;
    for found in find_placeholders(text) {
        if found.range.start != end {
            return false;
        }
        end = found.range.end;
    }
    end == text.len() && end > 0
}
