//! Secrets: their values are replaced by placeholders in everything that a tool returns, and put back into the arguments of
//! the next call.
//!
//! ```text
//! text ─▶ detect (by look, by name, Secret objects) ─▶ learn ─▶ every form of what is known ─▶ placeholders
//! ```
//!
//! What is learned is held in memory, for one session, and is written nowhere.

mod detect;
mod forms;
mod json;
mod placeholder;
#[cfg(test)]
mod tests;
mod yaml;

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::{self, Write},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aho_corasick::{AhoCorasick, MatchKind};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;

use detect::Found;

/// Forms of values that are looked for in one session; a value has about eight. What is beyond is masked where it is seen to
/// be a secret, and nowhere else.
const MAX_FORMS: usize = 160_000;
/// Deeper JSON than this is not a tool's output.
const MAX_DEPTH: usize = 128;

/// What is known of a text before it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// Nothing.
    Any,
    /// Secret objects, or a kubeconfig: `data` counts even where the kind was cut off.
    Objects,
    /// Bare values and nothing else.
    Values,
}

/// Placeholders whose values are not held here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown(Vec<String>);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "The value of {} is not held any more (it is kept in memory only). Read its Secret again, then repeat the call.",
            self.0.join(", ")
        )
    }
}

/// Whether a text has something in it that looks like a secret, or a placeholder of one.
#[must_use]
pub fn contains_secret(text: &str) -> bool {
    // However a model has copied the rest of it.
    text.contains(placeholder::BEGINS) || !detect::all(text, false).is_empty()
}

/// What one session knows of secrets.
pub(super) struct Vault {
    mac: Hmac<Sha256>,
    // A plain mutex: held for look-ups and additions, never across an await.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The values by their digest.
    values: HashMap<String, String>,
    /// What to look for, and what to put there.
    forms: HashMap<String, String>,
    /// Finds all forms; made anew when there are more.
    matcher: Option<Arc<Matcher>>,
    /// There are more than are looked for.
    full: bool,
}

struct Matcher {
    find: AhoCorasick,
    placeholders: Vec<String>,
}

impl Vault {
    /// An empty one. The same value has the same placeholder in all vaults of a session, and another in other sessions.
    pub(super) fn new(deployment_key: &[u8; 32], session: &str) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(deployment_key).expect("a key of any length will do");
        mac.update(session.as_bytes());
        mac.update(&[0]);
        Self { mac, known: Mutex::default() }
    }

    /// The text with placeholders in place of all secrets.
    pub(super) fn mask<'a>(&self, text: &'a str, expect: Expect) -> Cow<'a, str> {
        if text.is_empty() {
            return Cow::Borrowed(text);
        }
        if expect == Expect::Values {
            return self.mask_values(text);
        }
        let mut edits = Vec::new();
        for Found { range, key, is_base64 } in detect::all(text, expect == Expect::Objects) {
            if range.is_empty() {
                // A value that stands escaped in a string: it is known now, and found there like everywhere.
                if let Some((key, value)) = key.split_once('\0') {
                    self.learn(key, value, is_base64);
                }
                continue;
            }
            let placeholder = self.learn(&key, &text[range.clone()], is_base64);
            edits.push((range, placeholder));
        }
        edits.extend(self.known_in(text));
        replaced(text, edits)
    }

    /// The same for all texts in a value. Objects are looked at as such, too.
    pub(super) fn mask_json(&self, value: &mut Value, expect: Expect) {
        self.learn_objects(value, expect == Expect::Objects, MAX_DEPTH);
        self.mask_texts(value, expect, MAX_DEPTH);
    }

    /// The arguments with values in place of placeholders.
    pub(super) fn reveal(&self, arguments: &Map<String, Value>) -> Result<Map<String, Value>, Unknown> {
        let mut unknown = Vec::new();
        let mut revealed = Value::Object(arguments.clone());
        self.reveal_in(&mut revealed, &mut unknown, MAX_DEPTH);
        match revealed {
            Value::Object(revealed) if unknown.is_empty() => Ok(revealed),
            _ => Err(Unknown(unknown)),
        }
    }

    /// Whether a text has a placeholder.
    pub(super) fn holds_any(text: &str) -> bool {
        placeholder::is_in(text)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a value; its placeholder.
    fn learn(&self, key: &str, seen: &str, is_base64: bool) -> String {
        let decoded = if is_base64 { forms::decoded(seen) } else { None };
        let is_base64 = decoded.is_some();
        let plain = decoded.unwrap_or_else(|| seen.to_owned());
        let digest = self.digest(&plain);
        let placeholder = placeholder::of(key, &digest, is_base64);
        let mut known = self.known();
        if !known.values.contains_key(&digest) {
            known.values.insert(digest.clone(), plain.clone());
            if forms::is_worth_looking_for(key, &plain) {
                if known.forms.len() >= MAX_FORMS {
                    if !std::mem::replace(&mut known.full, true) {
                        tracing::warn!(
                            "a session has more secrets than are looked for; the others are masked only where they are seen to be"
                        );
                    }
                } else {
                    let (texts, encoded) = forms::of(&plain);
                    let (text_mark, base64_mark) =
                        (placeholder::of(key, &digest, false), placeholder::of(key, &digest, true));
                    known.forms.extend(encoded.into_iter().map(|form| (form, base64_mark.clone())));
                    known.forms.extend(texts.into_iter().map(|form| (form, text_mark.clone())));
                    known.matcher = None;
                }
            }
        }
        placeholder
    }

    fn digest(&self, plain: &str) -> String {
        let mut mac = self.mac.clone();
        // With and without the line's end that many tools add, it is one secret.
        mac.update(plain.trim().as_bytes());
        mac.finalize().into_bytes().iter().take(8).fold(String::with_capacity(16), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Where known values stand in a text.
    fn known_in(&self, text: &str) -> Vec<(Range<usize>, String)> {
        let matcher = {
            let mut known = self.known();
            if known.forms.is_empty() {
                return Vec::new();
            }
            if known.matcher.is_none() {
                let (forms, placeholders): (Vec<_>, Vec<_>) =
                    known.forms.iter().map(|(form, placeholder)| (form.clone(), placeholder.clone())).unzip();
                match AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&forms) {
                    Ok(find) => known.matcher = Some(Arc::new(Matcher { find, placeholders })),
                    Err(error) => {
                        tracing::error!(%error, "known secrets cannot be looked for");
                        return Vec::new();
                    }
                }
            }
            known.matcher.clone()
        };
        let Some(matcher) = matcher else { return Vec::new() };
        let found = matcher.find.find_iter(text);
        found.map(|found| (found.range(), matcher.placeholders[found.pattern().as_usize()].clone())).collect()
    }

    /// A text that is made of bare values: of JSON, or one to a word.
    fn mask_values<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if let Ok(mut value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str::<Value>(text.trim()) {
            self.mask_all(&mut value, "value", MAX_DEPTH);
            return Cow::Owned(value.to_string());
        }
        let bare = |at: usize| -> Range<usize> {
            let word = text[at..].split_whitespace().next().unwrap_or_default();
            at..at + word.len()
        };
        if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") {
            return Cow::Owned(self.learn("private-key", text, false));
        }
        let mut edits = Vec::new();
        let mut at = 0;
        while let Some(skip) = text[at..].find(|c: char| !c.is_whitespace()) {
            let word = bare(at + skip);
            at = word.end;
            let value = &text[word.clone()];
            if !placeholder::is_all_of(value) {
                // A bare value may be either form; what decodes to text is taken for base64, if it is long enough to tell.
                let is_base64 = value.len() >= 8
                    && value.len().is_multiple_of(4)
                    && forms::decoded(value).is_some_and(|d| !d.contains('\u{0}'));
                edits.push((word, self.learn("value", value, is_base64)));
            }
        }
        replaced(text, edits)
    }

    /// Masks every text in a value.
    fn mask_all(&self, value: &mut Value, key: &str, depth: usize) {
        match value {
            Value::String(text) if !text.is_empty() && !placeholder::is_all_of(text) => {
                let is_base64 = text.len() >= 4 && forms::decoded(text).is_some();
                *text = self.learn(key, text, is_base64);
            }
            Value::Array(items) if depth > 0 => items.iter_mut().for_each(|item| self.mask_all(item, key, depth - 1)),
            Value::Object(fields) if depth > 0 => {
                fields.iter_mut().for_each(|(key, value)| self.mask_all(value, &key.clone(), depth - 1));
            }
            _ => {}
        }
    }

    /// Masks what objects say of themselves: Secrets, variables, fields with the name of something secret.
    fn learn_objects(&self, value: &mut Value, expected: bool, depth: usize) {
        if depth == 0 {
            return;
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.learn_objects(item, expected, depth - 1)),
            Value::Object(fields) => {
                let kind = fields.get("kind").and_then(Value::as_str);
                let is_secret = kind.map_or(expected, |kind| kind == "Secret");
                let named = fields.get("name").and_then(Value::as_str).filter(|name| detect::is_secret_name(name));
                let named = named.map(str::to_owned);
                for (key, value) in fields.iter_mut() {
                    match (key.as_str(), &mut *value) {
                        ("data" | "stringData", Value::Object(entries)) if is_secret => {
                            for (name, entry) in entries {
                                if let Value::String(text) = entry
                                    && !text.is_empty()
                                    && !placeholder::is_all_of(text)
                                {
                                    *text = self.learn(name, text, key == "data");
                                }
                            }
                        }
                        ("value", Value::String(text)) if named.is_some() && detect::is_secret_value(text) => {
                            *text = self.learn(named.as_deref().unwrap_or_default(), text, false);
                        }
                        (name, Value::String(text))
                            if detect::is_secret_name(name) && detect::is_secret_value(text) =>
                        {
                            *text = self.learn(name, text, false);
                        }
                        _ => self.learn_objects(value, expected, depth - 1),
                    }
                }
            }
            _ => {}
        }
    }

    fn mask_texts(&self, value: &mut Value, expect: Expect, depth: usize) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(masked) = self.mask(text, expect) {
                    *text = masked;
                }
            }
            // What is deeper than anything that a tool returns is not shown, for it cannot be looked through.
            Value::Array(_) | Value::Object(_) if depth == 0 => *value = Value::Null,
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_texts(item, expect, depth - 1)),
            Value::Object(fields) => {
                let masked = std::mem::take(fields).into_iter().map(|(key, mut value)| {
                    self.mask_texts(&mut value, expect, depth - 1);
                    let edits = self.known_in(&key);
                    (replaced(&key, edits).into_owned(), value)
                });
                *fields = masked.collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn reveal_in(&self, value: &mut Value, unknown: &mut Vec<String>, depth: usize) {
        match value {
            Value::String(text) => self.reveal_text(text, unknown),
            Value::Array(items) if depth > 0 => {
                for item in items {
                    self.reveal_in(item, unknown, depth - 1);
                }
            }
            Value::Object(fields) if depth > 0 => {
                let revealed = std::mem::take(fields).into_iter().map(|(mut key, mut value)| {
                    self.reveal_text(&mut key, unknown);
                    self.reveal_in(&mut value, unknown, depth - 1);
                    (key, value)
                });
                *fields = revealed.collect();
            }
            _ => {}
        }
    }

    fn reveal_text(&self, text: &mut String, unknown: &mut Vec<String>) {
        let known = self.known();
        let mut edits = Vec::new();
        for found in placeholder::all(text) {
            match known.values.get(found.digest) {
                Some(plain) if found.is_base64 => edits.push((found.range, forms::encoded(plain))),
                Some(plain) => edits.push((found.range, plain.clone())),
                None => unknown.push(text[found.range].to_owned()),
            }
        }
        drop(known);
        for (range, value) in edits.into_iter().rev() {
            text.replace_range(range, &value);
        }
    }
}

/// A text with some places replaced. Where two overlap, the one that begins first counts, and of two that begin together the
/// longer; what is left of the other is covered by it too, so that no end of a secret stays.
fn replaced(text: &str, mut edits: Vec<(Range<usize>, String)>) -> Cow<'_, str> {
    if edits.is_empty() {
        return Cow::Borrowed(text);
    }
    edits.sort_by(|(a, _), (b, _)| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
    let kept: Vec<Range<usize>> = placeholder::all(text).map(|found| found.range).collect();
    let mut next_kept = kept.iter().peekable();
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for (range, with) in edits {
        // A placeholder that stands there already is no secret.
        while next_kept.peek().is_some_and(|kept| kept.end <= range.start) {
            next_kept.next();
        }
        if next_kept
            .peek()
            .is_some_and(|kept| kept.start < range.end && (kept.start <= range.start && kept.end >= range.end))
        {
            continue;
        }
        if range.start < done {
            done = done.max(range.end);
            continue;
        }
        masked.push_str(&text[done..range.start]);
        masked.push_str(&with);
        done = range.end;
    }
    masked.push_str(&text[done..]);
    Cow::Owned(masked)
}
