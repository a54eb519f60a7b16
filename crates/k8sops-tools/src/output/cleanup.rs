//! Removes what is never worth its tokens: `managedFields`, which say who changed which field, and the copy of an object in
//! the annotation `last-applied-configuration`.

use std::borrow::Cow;

use serde_json::Value;

const MANAGED_FIELDS: &str = "managedFields";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Largest JSON that is parsed only to remove noise from it.
const MAX_PARSED_BYTES: usize = 8 << 20;
/// Deepest JSON from which noise is removed.
const MAX_DEPTH: usize = 64;

/// Returns the text without noise; `None` if it has none.
pub(super) fn remove_noise(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(MANAGED_FIELDS) && !text.contains(LAST_APPLIED) {
        return None;
    }
    if text.trim_start().starts_with(['{', '[']) {
        if text.len() > MAX_PARSED_BYTES {
            return None;
        }
        let mut value: Value = serde_json::from_str(text).ok()?;
        remove_from_json(&mut value, MAX_DEPTH);
        // The layout stays: one line, or many.
        let is_pretty = text.trim_start().get(1..2).is_some_and(|char| char == "\n");
        let cleaned = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        return cleaned.ok().map(Cow::Owned);
    }
    Some(Cow::Owned(remove_from_yaml(text)))
}

fn remove_from_json(value: &mut Value, depth: usize) {
    match value {
        Value::Array(items) if depth > 0 => items.iter_mut().for_each(|item| remove_from_json(item, depth - 1)),
        Value::Object(fields) if depth > 0 => {
            fields.remove(MANAGED_FIELDS);
            fields.remove(LAST_APPLIED);
            fields.values_mut().for_each(|field| remove_from_json(field, depth - 1));
        }
        _ => {}
    }
}

/// Removes the keys and their values from YAML as kubectl prints it: a value is on the lines with more indentation, or in list
/// items with the indentation of the key.
fn remove_from_yaml(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len() / 2);
    let mut removed_indent = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start_matches(' ');
        let indent = line.len() - bare.len();
        if let Some(column) = removed_indent {
            let is_list_item = indent == column && bare.starts_with("- ");
            if indent > column || is_list_item || bare.trim().is_empty() {
                continue;
            }
            removed_indent = None;
        }
        let key = bare.trim_start_matches("- ");
        let has_key = |name: &str| key.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
        if has_key(MANAGED_FIELDS) || has_key(LAST_APPLIED) {
            removed_indent = Some(indent);
            // A list item that begins with the key continues with its other keys.
            if key.len() < bare.len() {
                cleaned.push_str(&line[..line.len() - key.len()]);
                cleaned.push('\n');
            }
            continue;
        }
        cleaned.push_str(line);
    }
    cleaned
}
