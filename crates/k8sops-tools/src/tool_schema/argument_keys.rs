//! Keys of arguments that providers do not accept: they are sent under other names and renamed in the model's calls.

use std::{borrow::Cow, collections::BTreeMap};

use data_encoding::HEXLOWER;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// The keys that a model uses in the place of the server's, by their position in the arguments.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ArgumentKeys {
    /// By the key that the model uses. Keys that stay, with nothing renamed below them, are not listed.
    properties: BTreeMap<String, RenamedKey>,
    /// Inside of the items of an array.
    items: Option<Box<ArgumentKeys>>,
    /// Inside of properties that the schema does not list.
    additional: Option<Box<ArgumentKeys>>,
}

#[derive(Debug, Clone, PartialEq)]
struct RenamedKey {
    original: String,
    inside: ArgumentKeys,
}

impl ArgumentKeys {
    fn is_empty(&self) -> bool {
        self.properties.is_empty() && self.items.is_none() && self.additional.is_none()
    }

    /// Adds the key `sent` for the server's key `original`, and the keys inside of its value.
    pub(super) fn add_property(&mut self, sent: &str, original: &str, inside: Self) {
        if sent != original || !inside.is_empty() {
            self.properties.insert(sent.to_owned(), RenamedKey { original: original.to_owned(), inside });
        }
    }

    pub(super) fn set_items(&mut self, keys: Self) {
        self.items = (!keys.is_empty()).then(|| Box::new(keys));
    }

    pub(super) fn set_additional(&mut self, keys: Self) {
        self.additional = (!keys.is_empty()).then(|| Box::new(keys));
    }

    /// Adds the keys of another alternative for the same value.
    pub(super) fn merge(&mut self, other: Self) {
        for (sent, renamed) in other.properties {
            self.properties.entry(sent).or_insert(renamed);
        }
        self.items = self.items.take().or(other.items);
        self.additional = self.additional.take().or(other.additional);
    }

    /// Returns arguments with the keys that the server expects. Other keys stay: a model may know the original ones.
    pub(crate) fn restore<'a>(&self, arguments: &'a Map<String, Value>) -> Cow<'a, Map<String, Value>> {
        if self.is_empty() {
            return Cow::Borrowed(arguments);
        }
        Cow::Owned(self.restore_object(arguments))
    }

    fn restore_object(&self, arguments: &Map<String, Value>) -> Map<String, Value> {
        let restored = arguments.iter().map(|(key, value)| match self.properties.get(key) {
            Some(renamed) if key == &renamed.original || !arguments.contains_key(&renamed.original) => {
                (renamed.original.clone(), renamed.inside.restore_value(value))
            }
            Some(renamed) => (key.clone(), renamed.inside.restore_value(value)),
            None => {
                // The original key of a renamed one.
                let known = self.properties.values().find(|renamed| renamed.original == *key);
                let inside = known.map(|renamed| &renamed.inside).or(self.additional.as_deref());
                (key.clone(), inside.map_or_else(|| value.clone(), |inside| inside.restore_value(value)))
            }
        });
        restored.collect()
    }

    fn restore_value(&self, value: &Value) -> Value {
        match value {
            _ if self.is_empty() => value.clone(),
            Value::Object(fields) => Value::Object(self.restore_object(fields)),
            Value::Array(items) => {
                let inside = self.items.as_deref();
                items
                    .iter()
                    .map(|item| inside.map_or_else(|| item.clone(), |inside| inside.restore_value(item)))
                    .collect()
            }
            other => other.clone(),
        }
    }
}

/// Returns the key under which a property is sent: its own if providers accept it, else one that is not taken. `max_bytes` is
/// the longest key that all providers accept.
pub(super) fn assign_sent_key(key: &str, max_bytes: usize, is_taken: impl Fn(&str) -> bool) -> String {
    let is_accepted = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.');
    let is_start = |char: char| char.is_ascii_alphabetic() || char == '_';
    if key.len() <= max_bytes && key.starts_with(is_start) && key.chars().all(is_accepted) {
        return key.to_owned();
    }
    let replaced: String = key.chars().map(|char| if is_accepted(char) { char } else { '_' }).collect();
    let mut plain = replaced.trim_matches('_').to_owned();
    if !plain.is_empty() && !plain.starts_with(is_start) {
        plain.insert(0, '_');
    }
    let plain = plain.as_str();
    if (1..=max_bytes).contains(&plain.len()) && !is_taken(plain) {
        return plain.to_owned();
    }
    let hash = HEXLOWER.encode(&Sha256::digest(key.as_bytes()));
    let base = if plain.is_empty() { "argument" } else { plain };
    // `base` is ASCII, so that every index is a character boundary.
    let name = |digits: usize| format!("{}_{}", &base[..base.len().min(max_bytes - digits - 1)], &hash[..digits]);
    [8, 16, 32].into_iter().map(name).find(|name| !is_taken(name)).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_keys_stay_and_others_are_renamed() {
        let sent = |key: &str| assign_sent_key(key, 64, |taken| taken == "taken");
        for key in ["name", "labelSelector", "app.kubernetes.io", "x-y_z"] {
            assert_eq!(sent(key), key);
        }
        assert_eq!(sent("$filter"), "filter");
        assert_eq!(sent("filter[x]"), "filter_x");
        assert_eq!(sent("2fa"), "_2fa");
        assert_eq!(sent("app.kubernetes.io/name"), "app.kubernetes.io_name");
        for key in ["", "$", "名前", "$taken", &"k".repeat(65), &"é".repeat(99)] {
            let sent = sent(key);
            assert!((1..=64).contains(&sent.len()) && sent.is_ascii() && sent != "taken", "{key}: {sent}");
        }
        assert_ne!(sent("名前"), sent("名"));
    }
}
