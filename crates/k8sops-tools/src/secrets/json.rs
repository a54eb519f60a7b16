//! Secret objects in JSON, wherever it stands in a text and however it is cut off: the values of `data` and `stringData`.
//!
//! A scan with a stack, not a parser: what is in a text need not be JSON from its beginning, nor whole.

use std::ops::Range;

use super::detect::Found;

/// Deeper nesting is not looked into: no object of Kubernetes has it.
const MAX_DEPTH: usize = 64;
/// JSON within a string within JSON: `last-applied-configuration`, and one more.
const MAX_ESCAPES: usize = 2;

/// An object that is open.
#[derive(Default)]
struct Object {
    /// The newest key, until its value has come.
    key: Option<String>,
    kind: Option<bool>,
    /// What the object stands under in the one around it.
    under: Option<String>,
    /// Values of `data` (base64) and `stringData` (plain) of this object.
    values: Vec<Found>,
    /// The text values of this object, in case it is the `data` of one.
    texts: Vec<(String, Range<usize>)>,
}

/// Adds the values of all Secret objects. With `expected`, `data` counts even where the kind was cut off.
pub(super) fn secrets(text: &str, expected: bool, found: &mut Vec<Found>) {
    scan(text, expected, MAX_ESCAPES, found);
}

fn scan(text: &str, expected: bool, escapes: usize, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    let mut open: Vec<Object> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' => {
                if open.len() >= MAX_DEPTH {
                    // What is in it is not known any more; what was found stays.
                    open.drain(..).for_each(|object| close(object, expected, found));
                }
                let under = open.last_mut().and_then(|object| object.key.take());
                open.push(Object { under, ..Object::default() });
            }
            b'}' => {
                if let Some(object) = open.pop() {
                    hand_on(object, open.last_mut(), expected, found);
                }
            }
            b',' => {
                if let Some(object) = open.last_mut() {
                    object.key = None;
                }
            }
            b'"' if !open.is_empty() => {
                let (content, end) = string(bytes, at + 1);
                if !ends_a_string(&bytes[end.min(bytes.len())..]) {
                    // The quote was one of the text around: what it would have swallowed is looked at by itself.
                    at += 1;
                    continue;
                }
                take(text, content.clone(), &bytes[end.min(bytes.len())..], &mut open);
                if escapes > 0 && text[content.clone()].contains("\\\"") && text[content.clone()].contains("ata\\\"") {
                    nested(&text[content], expected, escapes, found);
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    // The text was cut off here.
    while let Some(object) = open.pop() {
        hand_on(object, open.last_mut(), expected, found);
    }
}

/// The content of the string that begins at a place, and where what follows it begins.
fn string(bytes: &[u8], start: usize) -> (Range<usize>, usize) {
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return (start..at, at + 1),
            // No string goes over a line: it was none, or it was cut off.
            b'\n' => return (start..at, at),
            b'\\' if bytes.get(at + 1) != Some(&b'\n') => at += 2,
            _ => at += 1,
        }
    }
    (start..bytes.len(), bytes.len())
}

/// Whether what stands behind a string is what may stand there.
fn ends_a_string(behind: &[u8]) -> bool {
    behind
        .iter()
        .find(|b| !matches!(b, b' ' | b'\t'))
        .is_none_or(|b| matches!(b, b':' | b',' | b'}' | b']' | b'\n' | b'\r'))
}

fn take(text: &str, content: Range<usize>, behind: &[u8], open: &mut [Object]) {
    let Some(object) = open.last_mut() else { return };
    let is_key = behind.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':');
    let Some(word) = text.get(content.clone()) else { return };
    if is_key && object.key.is_none() {
        object.key = Some(word.to_owned());
        return;
    }
    let Some(key) = object.key.take() else { return };
    if key == "kind" {
        object.kind = Some(word == "Secret");
    }
    object.texts.push((key, content));
}

/// An object has ended: its texts are values of the one around it, if it is that one's `data`.
fn hand_on(object: Object, around: Option<&mut Object>, expected: bool, found: &mut Vec<Found>) {
    if let Some(around) = around
        && let Some(under @ ("data" | "stringData")) = object.under.as_deref()
    {
        let is_base64 = under == "data";
        let values = object.texts.iter().filter(|(_, range)| !range.is_empty());
        around.values.extend(values.map(|(key, range)| Found { range: range.clone(), key: key.clone(), is_base64 }));
    }
    close(object, expected, found);
}

fn close(object: Object, expected: bool, found: &mut Vec<Found>) {
    if object.kind.unwrap_or(expected) {
        found.extend(object.values);
    }
}

/// JSON that stands escaped in a string. Its values are what matters: they are found again in the escaped text, where base64
/// looks the same, so that they are given with an empty place.
fn nested(quoted: &str, expected: bool, escapes: usize, found: &mut Vec<Found>) {
    let Ok(inner) = serde_json::from_str::<String>(&format!("\"{quoted}\"")) else { return };
    let mut within = Vec::new();
    scan(&inner, expected, escapes - 1, &mut within);
    let at = 0..0;
    found.extend(within.into_iter().map(|f| {
        // The key carries the value out: there is no place in the outer text to point to.
        let value = if f.range.is_empty() { f.key.clone() } else { format!("{}\0{}", f.key, &inner[f.range.clone()]) };
        Found { range: at.clone(), key: value, is_base64: f.is_base64 }
    }));
}
