//! Values of Secret objects in JSON: the fields of `data` and `stringData`.
//!
//! This is a scan with a stack and not a parser, because the JSON may begin anywhere in the text and may be cut off.

use std::ops::Range;

use super::{
    content_hint::ContentHint,
    found_secret::{FoundSecret, ValueForm},
};

/// Deepest nesting that is scanned. No Kubernetes object has more.
const MAX_DEPTH: usize = 64;
/// Levels of JSON in a string of other JSON: the `last-applied-configuration` annotation, and one more.
const MAX_ESCAPES: usize = 2;

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
    scan_json(text, hint, MAX_ESCAPES, found);
}

fn scan_json(text: &str, hint: ContentHint, escapes: usize, found: &mut Vec<FoundSecret>) {
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
            b'"' if !open.is_empty() => {
                let (content, end) = read_string(bytes, at + 1);
                if !may_follow_string(&bytes[end.min(bytes.len())..]) {
                    // The quote belongs to the surrounding text, so what follows it is scanned.
                    at += 1;
                    continue;
                }
                add_string(text, content.clone(), &bytes[end.min(bytes.len())..], &mut open);
                if escapes > 0 && text[content.clone()].contains("\\\"") && text[content.clone()].contains("ata\\\"") {
                    scan_escaped_json(&text[content], hint, escapes, found);
                }
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

/// Returns the content of the string that begins at `start`, and the index behind the string.
fn read_string(bytes: &[u8], start: usize) -> (Range<usize>, usize) {
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return (start..at, at + 1),
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
        parent.values.extend(values.map(|(key, range)| FoundSecret { range: range.clone(), key: key.clone(), form }));
    }
    close_object(object, hint, found);
}

fn close_object(object: OpenObject, hint: ContentHint, found: &mut Vec<FoundSecret>) {
    if object.is_secret.unwrap_or(hint == ContentHint::Objects) {
        found.extend(object.values);
    }
}

/// Scans JSON that is a string of other JSON. The escaped text has other positions, so the values are returned without one:
/// the vault learns them and finds them in the escaped text, where base64 looks the same.
fn scan_escaped_json(quoted: &str, hint: ContentHint, escapes: usize, found: &mut Vec<FoundSecret>) {
    let Ok(inner) = serde_json::from_str::<String>(&format!("\"{quoted}\"")) else { return };
    let mut inner_secrets = Vec::new();
    scan_json(&inner, hint, escapes - 1, &mut inner_secrets);
    found.extend(inner_secrets.into_iter().map(|secret| {
        let FoundSecret { range, key, form } = secret;
        let key = if range.is_empty() { key } else { format!("{key}\0{}", &inner[range]) };
        FoundSecret { range: 0..0, key, form }
    }));
}
