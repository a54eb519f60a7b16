//! The vault of a session: the secret values that it has seen, and their placeholders.

use std::{borrow::Cow, collections::HashMap, ops::Range, sync::Arc};

use aho_corasick::{AhoCorasick, MatchKind};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use sha2::Sha256;

use super::{
    content_hint::ContentHint,
    detection::{find_secrets, is_secret_name, is_secret_value},
    encodings::{ValueEncodings, decode_base64_text, encode_base64, encode_value, is_searchable},
    found_secret::{FoundSecret, ValueForm},
    placeholder::{find_placeholders, format_placeholder, is_only_placeholders, rename_placeholder},
};

/// Most encodings that are searched for in one session; a value has about eight. Further values are redacted only where they
/// are found as secrets.
const MAX_ENCODINGS: usize = 160_000;
/// Deepest JSON that is redacted. No output of a tool is deeper.
const MAX_DEPTH: usize = 128;
/// Bytes of the digest in a placeholder.
const DIGEST_BYTES: usize = 8;

/// Placeholders whose values the vault does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The value of {} is not available any more, because it is held in memory only. Read its Secret again, then repeat the \
     call.", .0.join(", ")
)]
pub(crate) struct UnresolvedPlaceholders(Vec<String>);

/// The secret values that one session has seen.
pub(crate) struct RedactionVault {
    mac: Hmac<Sha256>,
    // Held for lookups and insertions, never across an await.
    known: Mutex<KnownValues>,
}

#[derive(Default)]
struct KnownValues {
    /// The values by their digest.
    values: HashMap<String, String>,
    /// What is searched for, with its placeholder.
    encodings: HashMap<String, String>,
    /// Finds all encodings; built again when there are more of them.
    matcher: Option<Arc<ValueMatcher>>,
    /// There are more encodings than are searched for.
    is_full: bool,
}

struct ValueMatcher {
    automaton: AhoCorasick,
    placeholders: Vec<String>,
}

/// A range of a text and what replaces it.
type Replacement = (Range<usize>, String);

impl RedactionVault {
    /// Creates an empty vault. A value has the same placeholder in all vaults of a session, and another one in each other
    /// session.
    pub(crate) fn new(deployment_key: &[u8; 32], session: &str) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(deployment_key).expect("HMAC accepts keys of any length");
        mac.update(session.as_bytes());
        mac.update(&[0]);
        Self { mac, known: Mutex::default() }
    }

    /// Returns the text with placeholders in the place of all secrets.
    pub(crate) fn redact_text<'a>(&self, text: &'a str, hint: ContentHint) -> Cow<'a, str> {
        if text.is_empty() {
            return Cow::Borrowed(text);
        }
        if hint == ContentHint::Values {
            return self.redact_bare_values(text);
        }
        let mut replacements = Vec::new();
        for FoundSecret { range, key, form } in find_secrets(text, hint) {
            if range.is_empty() {
                // The value is escaped in a string of JSON. Once it is learned, it is found like any known value.
                if let Some((key, value)) = key.split_once('\0') {
                    self.learn_value(key, value, form);
                }
                continue;
            }
            let placeholder = self.learn_value(&key, &text[range.clone()], form);
            replacements.push((range, placeholder));
        }
        replacements.extend(self.find_known_values(text));
        self.rename_placeholders_with_values(&mut replacements);
        apply_replacements(text, replacements)
    }

    /// Names a placeholder `value` if its key contains a known value, which would be readable in the placeholder.
    fn rename_placeholders_with_values(&self, replacements: &mut [Replacement]) {
        if replacements.is_empty() {
            return;
        }
        let Some(matcher) = self.known.lock().matcher() else { return };
        for (_, placeholder) in replacements {
            if matcher.automaton.is_match(placeholder.as_str())
                && let Some(renamed) = rename_placeholder(placeholder, "value")
            {
                *placeholder = renamed;
            }
        }
    }

    /// Redacts all texts in a JSON value, and the fields of objects whose names say that they are secrets.
    pub(crate) fn redact_json(&self, value: &mut Value, hint: ContentHint) {
        self.redact_secret_fields(value, hint, MAX_DEPTH);
        self.redact_json_texts(value, hint, MAX_DEPTH);
    }

    /// Returns the arguments with values in the place of placeholders.
    pub(crate) fn reveal_placeholders(
        &self,
        arguments: &Map<String, Value>,
    ) -> Result<Map<String, Value>, UnresolvedPlaceholders> {
        let mut unresolved = Vec::new();
        let mut revealed = Value::Object(arguments.clone());
        self.reveal_in_json(&mut revealed, &mut unresolved, MAX_DEPTH);
        match revealed {
            Value::Object(revealed) if unresolved.is_empty() => Ok(revealed),
            _ => Err(UnresolvedPlaceholders(unresolved)),
        }
    }

    /// Stores a value, and returns its placeholder.
    fn learn_value(&self, key: &str, written: &str, form: ValueForm) -> String {
        let decoded = match form {
            ValueForm::Base64 => decode_base64_text(written),
            ValueForm::Plain => None,
        };
        // What is no valid base64 of a text is treated as plain.
        let form = if decoded.is_some() { ValueForm::Base64 } else { ValueForm::Plain };
        let plain = decoded.unwrap_or_else(|| written.to_owned());
        let digest = self.compute_digest(&plain);
        let placeholder = format_placeholder(key, &digest, form);
        let mut known = self.known.lock();
        if !known.values.contains_key(&digest) {
            known.values.insert(digest.clone(), plain.clone());
            if is_searchable(key, &plain) {
                known.add_encodings(key, &digest, &plain);
            }
        }
        placeholder
    }

    fn compute_digest(&self, plain: &str) -> String {
        let mut mac = self.mac.clone();
        // A value is the same secret with and without the line feed that many tools append.
        mac.update(plain.trim().as_bytes());
        HEXLOWER.encode(&mac.finalize().into_bytes()[..DIGEST_BYTES])
    }

    /// Returns where known values are in a text.
    fn find_known_values(&self, text: &str) -> Vec<Replacement> {
        let Some(matcher) = self.known.lock().matcher() else { return Vec::new() };
        let found = matcher.automaton.find_iter(text);
        found.map(|found| (found.range(), matcher.placeholders[found.pattern().as_usize()].clone())).collect()
    }

    /// Redacts a text that consists of bare values: JSON, or words.
    fn redact_bare_values<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if let Ok(mut value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str::<Value>(text.trim()) {
            self.redact_all_texts(&mut value, "value", MAX_DEPTH);
            return Cow::Owned(value.to_string());
        }
        if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") {
            return Cow::Owned(self.learn_value("private-key", text, ValueForm::Plain));
        }
        let mut replacements = Vec::new();
        let mut at = 0;
        while let Some(skip) = text[at..].find(|char: char| !char.is_whitespace()) {
            let start = at + skip;
            let value = text[start..].split_whitespace().next().unwrap_or_default();
            at = start + value.len();
            if !is_only_placeholders(value) {
                // A word of some length that decodes to text is treated as base64.
                let is_base64 = value.len() >= 8
                    && value.len().is_multiple_of(4)
                    && decode_base64_text(value).is_some_and(|decoded| !decoded.contains('\u{0}'));
                let form = if is_base64 { ValueForm::Base64 } else { ValueForm::Plain };
                replacements.push((start..at, self.learn_value("value", value, form)));
            }
        }
        apply_replacements(text, replacements)
    }

    /// Replaces every text in a JSON value by its placeholder.
    fn redact_all_texts(&self, value: &mut Value, key: &str, depth: usize) {
        match value {
            Value::String(text) if !text.is_empty() && !is_only_placeholders(text) => {
                let is_base64 = text.len() >= 4 && decode_base64_text(text).is_some();
                let form = if is_base64 { ValueForm::Base64 } else { ValueForm::Plain };
                *text = self.learn_value(key, text, form);
            }
            Value::Array(items) if depth > 0 => {
                for item in items {
                    self.redact_all_texts(item, key, depth - 1);
                }
            }
            Value::Object(fields) if depth > 0 => {
                fields.iter_mut().for_each(|(key, value)| self.redact_all_texts(value, &key.clone(), depth - 1));
            }
            _ => {}
        }
    }

    /// Redacts the fields of Secret objects, variables with the name of a secret, and fields with the name of a secret.
    fn redact_secret_fields(&self, value: &mut Value, hint: ContentHint, depth: usize) {
        if depth == 0 {
            return;
        }
        match value {
            Value::Array(items) => {
                for item in items {
                    self.redact_secret_fields(item, hint, depth - 1);
                }
            }
            Value::Object(fields) => {
                let kind = fields.get("kind").and_then(Value::as_str);
                let is_secret = kind.map_or(hint == ContentHint::Objects, |kind| kind == "Secret");
                let secret_variable = fields.get("name").and_then(Value::as_str).filter(|name| is_secret_name(name));
                let secret_variable = secret_variable.map(str::to_owned);
                for (key, value) in fields.iter_mut() {
                    match (key.as_str(), &mut *value) {
                        (mapping @ ("data" | "stringData"), Value::Object(entries)) if is_secret => {
                            let form = ValueForm::of_secret_mapping(mapping);
                            for (name, entry) in entries {
                                if let Value::String(text) = entry
                                    && !text.is_empty()
                                    && !is_only_placeholders(text)
                                {
                                    *text = self.learn_value(name, text, form);
                                }
                            }
                        }
                        ("value", Value::String(text)) if secret_variable.is_some() && is_secret_value(text) => {
                            let name = secret_variable.as_deref().unwrap_or_default();
                            *text = self.learn_value(name, text, ValueForm::Plain);
                        }
                        (name, Value::String(text)) if is_secret_name(name) && is_secret_value(text) => {
                            *text = self.learn_value(name, text, ValueForm::Plain);
                        }
                        _ => self.redact_secret_fields(value, hint, depth - 1),
                    }
                }
            }
            _ => {}
        }
    }

    fn redact_json_texts(&self, value: &mut Value, hint: ContentHint, depth: usize) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(redacted) = self.redact_text(text, hint) {
                    *text = redacted;
                }
            }
            // What is too deep to be redacted is removed.
            Value::Array(_) | Value::Object(_) if depth == 0 => *value = Value::Null,
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_json_texts(item, hint, depth - 1)),
            Value::Object(fields) => {
                let redacted = std::mem::take(fields).into_iter().map(|(key, mut value)| {
                    self.redact_json_texts(&mut value, hint, depth - 1);
                    let replacements = self.find_known_values(&key);
                    (apply_replacements(&key, replacements).into_owned(), value)
                });
                *fields = redacted.collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn reveal_in_json(&self, value: &mut Value, unresolved: &mut Vec<String>, depth: usize) {
        match value {
            Value::String(text) => self.reveal_in_text(text, unresolved),
            Value::Array(items) if depth > 0 => {
                for item in items {
                    self.reveal_in_json(item, unresolved, depth - 1);
                }
            }
            Value::Object(fields) if depth > 0 => {
                let revealed = std::mem::take(fields).into_iter().map(|(mut key, mut value)| {
                    self.reveal_in_text(&mut key, unresolved);
                    self.reveal_in_json(&mut value, unresolved, depth - 1);
                    (key, value)
                });
                *fields = revealed.collect();
            }
            _ => {}
        }
    }

    fn reveal_in_text(&self, text: &mut String, unresolved: &mut Vec<String>) {
        let known = self.known.lock();
        let mut replacements: Vec<Replacement> = Vec::new();
        for found in find_placeholders(text) {
            match (known.values.get(found.digest), found.form) {
                (Some(plain), ValueForm::Base64) => replacements.push((found.range, encode_base64(plain))),
                (Some(plain), ValueForm::Plain) => replacements.push((found.range, plain.clone())),
                (None, _) => unresolved.push(text[found.range].to_owned()),
            }
        }
        drop(known);
        for (range, value) in replacements.into_iter().rev() {
            text.replace_range(range, &value);
        }
    }
}

impl KnownValues {
    /// Adds the encodings of a value to what is searched for.
    fn add_encodings(&mut self, key: &str, digest: &str, plain: &str) {
        if self.encodings.len() >= MAX_ENCODINGS {
            if !std::mem::replace(&mut self.is_full, true) {
                tracing::warn!(
                    limit = MAX_ENCODINGS,
                    "redaction vault full: further secrets are redacted only where found"
                );
            }
            return;
        }
        let encodings: ValueEncodings = encode_value(plain);
        let plain_placeholder = format_placeholder(key, digest, ValueForm::Plain);
        let base64_placeholder = format_placeholder(key, digest, ValueForm::Base64);
        self.encodings.extend(encodings.base64.into_iter().map(|encoding| (encoding, base64_placeholder.clone())));
        self.encodings.extend(encodings.plain.into_iter().map(|encoding| (encoding, plain_placeholder.clone())));
        self.matcher = None;
    }

    /// Returns the matcher of all encodings; `None` if there are none, or if it cannot be built.
    fn matcher(&mut self) -> Option<Arc<ValueMatcher>> {
        if self.encodings.is_empty() {
            return None;
        }
        if self.matcher.is_none() {
            let (encodings, placeholders): (Vec<_>, Vec<_>) =
                self.encodings.iter().map(|(encoding, placeholder)| (encoding.clone(), placeholder.clone())).unzip();
            match AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&encodings) {
                Ok(automaton) => self.matcher = Some(Arc::new(ValueMatcher { automaton, placeholders })),
                Err(error) => tracing::error!(%error, "search for known secrets failed"),
            }
        }
        self.matcher.clone()
    }
}

/// Replaces ranges of a text.
///
/// Where two ranges overlap, the one that begins first counts, and of two that begin together the longer one. The rest of the
/// other range is removed, too, so that no end of a secret remains. Placeholders that the text already has stay as they are.
fn apply_replacements(text: &str, mut replacements: Vec<Replacement>) -> Cow<'_, str> {
    if replacements.is_empty() {
        return Cow::Borrowed(text);
    }
    replacements.sort_by(|(a, _), (b, _)| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
    let placeholders: Vec<Range<usize>> = find_placeholders(text).map(|found| found.range).collect();
    let mut next_placeholders = placeholders.iter().peekable();
    let mut redacted = String::with_capacity(text.len());
    let mut done = 0;
    for (range, replacement) in replacements {
        while next_placeholders.peek().is_some_and(|placeholder| placeholder.end <= range.start) {
            next_placeholders.next();
        }
        let is_in_placeholder = next_placeholders
            .peek()
            .is_some_and(|placeholder| placeholder.start <= range.start && placeholder.end >= range.end);
        if is_in_placeholder {
            continue;
        }
        if range.start < done {
            done = done.max(range.end);
            continue;
        }
        redacted.push_str(&text[done..range.start]);
        redacted.push_str(&replacement);
        done = range.end;
    }
    redacted.push_str(&text[done..]);
    Cow::Owned(redacted)
}
