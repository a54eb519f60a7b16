//! The vault of a session: the secret values that it has seen, and their placeholders.

use std::borrow::Cow;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use sha2::Sha256;

use super::{
    bare_values::{BareValue, split_bare_values},
    content_hint::ContentHint,
    detection::find_secrets,
    encodings::{decode_base64_text, encode_base64},
    found_secret::{FoundSecret, Replacement, SecretReach, ValueForm},
    known_values::KnownValues,
    placeholder::{find_placeholders, format_placeholder, rename_placeholder},
    replacements::apply_replacements,
};

/// Deepest JSON that is redacted. No output of a tool is deeper.
const MAX_DEPTH: usize = 120;
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

impl RedactionVault {
    /// Creates an empty vault. A value has the same placeholder in all vaults of a session, and another one in each other
    /// session.
    pub(crate) fn new(deployment_key: &[u8; 32], session: &str) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(deployment_key).expect("HMAC accepts keys of any length");
        mac.update(session.as_bytes());
        mac.update(&[0]);
        Self { mac, known: Mutex::default() }
    }

    /// Returns the text with placeholders in the place of all secrets. What is valid JSON or YAML stays valid.
    pub(crate) fn redact_text<'a>(&self, text: &'a str, hint: ContentHint) -> Cow<'a, str> {
        if text.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut replacements = Vec::new();
        let bare_values = split_bare_values(text, hint);
        if bare_values.is_empty() {
            let found = find_secrets(text, hint);
            self.learn_continued_values(text, &found);
            for FoundSecret { range, key, form, reach } in found {
                let placeholder = self.learn_value(&key, &text[range.clone()], form, reach);
                replacements.push((range, placeholder));
            }
        }
        for BareValue { range, key, form, reach } in bare_values {
            let placeholder = self.learn_value(key, &text[range.clone()], form, reach);
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
            if matcher.contains_value(placeholder)
                && let Some(renamed) = rename_placeholder(placeholder, "value")
            {
                *placeholder = renamed;
            }
        }
    }

    /// Redacts a JSON value as its text would be.
    pub(crate) fn redact_json(&self, value: &mut Value, hint: ContentHint) {
        remove_deep_values(value, MAX_DEPTH);
        if let Cow::Owned(redacted) = self.redact_text(&value.to_string(), hint) {
            *value = serde_json::from_str(&redacted).unwrap_or_else(|error| {
                // What cannot be redacted is not shown.
                tracing::error!(%error, "redacted JSON is invalid");
                Value::Null
            });
        }
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
    fn learn_value(&self, key: &str, written: &str, form: ValueForm, reach: SecretReach) -> String {
        let decoded = match form {
            ValueForm::Base64 => decode_base64_text(written),
            ValueForm::Plain => None,
        };
        // What is no valid base64 of a text is treated as plain.
        let form = if decoded.is_some() { ValueForm::Base64 } else { ValueForm::Plain };
        let plain = decoded.unwrap_or_else(|| written.to_owned());
        let digest = self.compute_digest(&plain);
        let is_newly_searched = {
            let mut known = self.known.lock();
            known.keep_value(&digest, &plain);
            reach == SecretReach::Session && known.search_value(key, &digest, &plain)
        };
        // A file in a Secret has secrets in it, which occur elsewhere without the rest of the file.
        if is_newly_searched && plain.trim().contains(['\n', '=', '{', '/']) {
            for inner in find_secrets(&plain, ContentHint::Any) {
                let value = &plain[inner.range];
                if value.len() < plain.trim().len() {
                    let digest = self.compute_digest(value);
                    let mut known = self.known.lock();
                    known.keep_value(&digest, value);
                    known.search_value(&inner.key, &digest, value);
                }
            }
        }
        format_placeholder(key, &digest, form)
    }

    /// Learns values that are written over several lines, each of which was found by itself.
    fn learn_continued_values(&self, text: &str, found: &[FoundSecret]) {
        let is_continued = |a: &FoundSecret, b: &FoundSecret| {
            let between = text.get(a.range.end..b.range.start).unwrap_or("-");
            a.key == b.key && a.form == b.form && between.contains('\n') && between.trim().is_empty()
        };
        for lines in found.chunk_by(is_continued).filter(|lines| lines.len() > 1) {
            let separator = if lines[0].form == ValueForm::Base64 { "" } else { "\n" };
            let lines_of_value: Vec<&str> = lines.iter().map(|line| &text[line.range.clone()]).collect();
            self.learn_value(&lines[0].key, &lines_of_value.join(separator), lines[0].form, SecretReach::Session);
        }
    }

    fn compute_digest(&self, plain: &str) -> String {
        let mut mac = self.mac.clone();
        // A value is the same secret with and without the line feed that many tools append.
        mac.update(plain.trim().as_bytes());
        HEXLOWER.encode(&mac.finalize().into_bytes()[..DIGEST_BYTES])
    }

    /// Returns where known values are in a text.
    fn find_known_values(&self, text: &str) -> Vec<Replacement> {
        let matcher = self.known.lock().matcher();
        matcher.map(|matcher| matcher.find_values(text)).unwrap_or_default()
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
            match (known.value(found.digest), found.form) {
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

/// Removes what is too deep to be redacted.
fn remove_deep_values(value: &mut Value, depth: usize) {
    match value {
        Value::Array(_) | Value::Object(_) if depth == 0 => *value = Value::Null,
        Value::Array(items) => items.iter_mut().for_each(|item| remove_deep_values(item, depth - 1)),
        Value::Object(fields) => fields.values_mut().for_each(|field| remove_deep_values(field, depth - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
