//! Values of Secret objects in JSON: the fields of `data` and `stringData`.
//!
//! This is a scan with a stack and not a parser, because the JSON may begin anywhere in the text and may be cut off.

use std::ops::Range;

use super::{
    content_hint::ContentHint,
    found_secret::{FoundSecret, SecretReach, ValueForm},
    secret_object::has_secret_type,
};

/// Deepest nesting that is scanned. No Kubernetes object has more.
const MAX_DEPTH: usize = 64;

/// An object whose end was not read yet.
#[derive(Default)]
struct OpenObject {
    /// The last key, until its value is read.
    key: Option<String>,
    /// Whether its `kind` is `Secret`, if it has a `kind`.
    is_secret: Option<bool>,
    /// Key of this object in its parent.
    parent_key: Option<String>,
    /// Values of its `data` and `stringData`.
    values: Vec<FoundSecret>,
    /// Its fields that are texts, in case it is the `data` of its parent.
    texts: Vec<(String, Range<usize>)>,
}

/// Adds the values of all Secret objects to `found`.
pub(super) fn find_json_secrets(text: &str, hint: ContentHint, found: &mut Vec<FoundSecret>) {
    let bytes = text.as_bytes();
    let mut open: Vec<OpenObject> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' => {
                if open.len() >= MAX_DEPTH {
                    // The outer objects are given up; what was found in them counts.
                    open.drain(..).for_each(|object| close_object(object, hint, found));
                }
                let parent_key = open.last_mut().and_then(|object| object.key.take());
                open.push(OpenObject { parent_key, ..OpenObject::default() });
            }
            b'}' => {
                if let Some(object) = open.pop() {
                    end_object(object, open.last_mut(), hint, found);
                }
            }
            b',' => {
                if let Some(object) = open.last_mut() {
                    object.key = None;
                }
            }
            // Python prints its dictionaries with apostrophes.
            quote @ (b'"' | b'\'') if !open.is_empty() => {
                let (content, end) = read_string(bytes, at + 1, quote);
                if !may_follow_string(&bytes[end.min(bytes.len())..]) {
                    // The quote belongs to the surrounding text, so what follows it is scanned.
                    at += 1;
                    continue;
                }
                add_string(text, content, &bytes[end.min(bytes.len())..], &mut open);
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    // The text is cut off inside of these objects.
    while let Some(object) = open.pop() {
        end_object(object, open.last_mut(), hint, found);
    }
}

/// Adds the values of a Secret object whose first brace is missing, as in a part of a diff.
pub(super) fn find_json_fragment_secrets(text: &str, hint: ContentHint, found: &mut Vec<FoundSecret>) {
    if !text.contains("\"data\"") && !text.contains("\"stringData\"") {
        return;
    }
    let mut inner = Vec::new();
    find_json_secrets(&format!("{{{text}"), hint, &mut inner);
    found.extend(inner.into_iter().map(|secret| {
        let range = secret.range.start - 1..secret.range.end - 1;
        FoundSecret { range, ..secret }
    }));
}

/// Returns the content of the string that begins at `start`, and the index behind the string.
fn read_string(bytes: &[u8], start: usize, quote: u8) -> (Range<usize>, usize) {
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            byte if byte == quote => return (start..at, at + 1),
            // A string of JSON has no line feed: it is not a string, or it is cut off.
            b'\n' => return (start..at, at),
            b'\\' if bytes.get(at + 1) != Some(&b'\n') => at += 2,
            _ => at += 1,
        }
    }
    (start..bytes.len(), bytes.len())
}

/// Returns whether the bytes may follow a string of JSON.
fn may_follow_string(behind: &[u8]) -> bool {
    behind
        .iter()
        .find(|b| !matches!(b, b' ' | b'\t'))
        .is_none_or(|b| matches!(b, b':' | b',' | b'}' | b']' | b'\n' | b'\r'))
}

/// Adds a string to the innermost object, as a key or as a value.
fn add_string(text: &str, content: Range<usize>, behind: &[u8], open: &mut [OpenObject]) {
    let Some(object) = open.last_mut() else { return };
    let is_key = behind.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':');
    let Some(word) = text.get(content.clone()) else { return };
    if is_key && object.key.is_none() {
        object.key = Some(word.to_owned());
        return;
    }
    let Some(key) = object.key.take() else { return };
    if key == "kind" {
        object.is_secret = Some(word == "Secret");
    } else if key == "type" && object.is_secret.is_none() && has_secret_type(word) {
        object.is_secret = Some(true);
    }
    object.texts.push((key, content));
}

/// Ends an object. If it is the `data` of its parent, its texts are values of the parent.
fn end_object(object: OpenObject, parent: Option<&mut OpenObject>, hint: ContentHint, found: &mut Vec<FoundSecret>) {
    if let Some(parent) = parent
        && let Some(mapping @ ("data" | "stringData")) = object.parent_key.as_deref()
    {
        let form = ValueForm::of_secret_mapping(mapping);
        let values = object.texts.iter().filter(|(_, range)| !range.is_empty());
        parent.values.extend(values.map(|(key, range)| FoundSecret {
            range: range.clone(),
            key: key.clone(),
            form,
            reach: SecretReach::Session,
        }));
    }
    close_object(object, hint, found);
}

fn close_object(object: OpenObject, hint: ContentHint, found: &mut Vec<FoundSecret>) {
    if object.is_secret.unwrap_or(hint == ContentHint::Objects) {
        found.extend(object.values);
    }
}

/// Returns the strings of valid JSON that are no keys, each with the key before it.
pub(super) fn find_json_strings(text: &str) -> Vec<(&str, Range<usize>)> {
    let bytes = text.as_bytes();
    let mut strings = Vec::new();
    let mut key = "value";
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'"' {
            at += 1;
            continue;
        }
        let (content, end) = read_string(bytes, at + 1, b'"');
        let is_key = bytes[end.min(bytes.len())..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':');
        if is_key {
            key = &text[content];
        } else {
            strings.push((key, content));
        }
        at = end;
    }
    strings
}
