//! What is never worth its tokens: who changed which field when (`managedFields`), and the copy of an object that kubectl
//! keeps in it (`last-applied-configuration`). Dropped line by line, or key by key, without reading the whole as a tree.

use std::borrow::Cow;

use serde_json::Value;

const MANAGED: &str = "managedFields";
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Larger JSON is not read as a tree only to drop noise from it.
const MAX_TREE: usize = 8 << 20;

/// The text without noise; `None` when there is none in it.
pub(super) fn dropped(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(MANAGED) && !text.contains(APPLIED) {
        return None;
    }
    if text.trim_start().starts_with(['{', '[']) {
        if text.len() > MAX_TREE {
            return None;
        }
        let mut value: Value = serde_json::from_str(text).ok()?;
        drop_from(&mut value, 64);
        // As it was written: in one line, or in many.
        let pretty = text.trim_start().get(1..2).is_some_and(|c| c == "\n");
        let clean = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        return clean.ok().map(Cow::Owned);
    }
    Some(Cow::Owned(yaml(text)))
}

fn drop_from(value: &mut Value, depth: usize) {
    match value {
        Value::Array(items) if depth > 0 => items.iter_mut().for_each(|item| drop_from(item, depth - 1)),
        Value::Object(fields) if depth > 0 => {
            fields.remove(MANAGED);
            fields.remove(APPLIED);
            fields.values_mut().for_each(|field| drop_from(field, depth - 1));
        }
        _ => {}
    }
}

/// YAML as kubectl prints it: a key and the deeper lines below it, among them list items at the key's own column.
fn yaml(text: &str) -> String {
    let mut clean = String::with_capacity(text.len() / 2);
    let mut inside = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start_matches(' ');
        let indent = line.len() - bare.len();
        if let Some(column) = inside {
            let item = indent == column && bare.starts_with("- ");
            if indent > column || item || bare.trim().is_empty() {
                continue;
            }
            inside = None;
        }
        let key = bare.trim_start_matches("- ");
        let is = |name: &str| key.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
        if is(MANAGED) || is(APPLIED) {
            inside = Some(indent);
            // A list item that begins with it goes on with its other keys.
            if key.len() < bare.len() {
                clean.push_str(&line[..line.len() - key.len()]);
                clean.push('\n');
            }
            continue;
        }
        clean.push_str(line);
    }
    clean
}
