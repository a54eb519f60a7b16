//! Typed arguments of a call.

use serde_json::{Map, Value};

use crate::ambiguity::contains_embedded_flag;

/// Returns whether a table row lists the argument, and whether its value has the form that the row accepts.
pub(super) fn is_known_argument(key: &str, value: &Value, keys: &[&str]) -> bool {
    if is_blank(value) {
        return true;
    }
    keys.iter().flat_map(|group| group.split_ascii_whitespace()).any(|known| match known.strip_suffix('*') {
        Some(known) => known == key,
        None => known == key && is_single_word(value),
    })
}

/// Arguments that choose what a reading tool shows, under the names that servers use. They change no effect: a tool that only
/// reads does so in any namespace.
const READING_ARGUMENTS: &[&str] = &[
    "namespace namespaces allNamespaces all_namespaces labelSelector label_selector fieldSelector field_selector selector",
    "context kube_context name names kind apiVersion api_version group version resource resourceType resource_type",
    "pod podName pod_name container container_name deployment node nodeName node_name",
    "limit offset page pageSize page_size continue tail tailLines tail_lines lines since sinceSeconds since_seconds",
    "sinceTime since_time previous timestamps sortBy sort_by minified includeEvents include_events showLabels show_labels",
];

/// Formats of an output, which name no file.
const OUTPUT_FORMATS: &[&str] = &["json", "yaml", "wide", "name", "table", "text", "custom"];

/// Returns whether an argument only chooses what a tool shows.
pub(super) fn is_reading_argument(key: &str, value: &Value) -> bool {
    match key {
        "output" | "format" | "outputFormat" | "output_format" => {
            value.as_str().is_some_and(|format| OUTPUT_FORMATS.contains(&format))
        }
        _ => is_known_argument(key, value, READING_ARGUMENTS),
    }
}

/// Returns whether a value says nothing. Models fill in arguments that they do not mean, and so do schemas with defaults.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Returns whether a value is one word for every reader, a shell included: older servers gave their arguments to a shell.
fn is_single_word(value: &Value) -> bool {
    match value {
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => is_single_word_text(text),
        Value::Array(items) => {
            items.iter().all(|item| item.as_str().is_some_and(is_single_word_text) || item.is_number())
        }
        _ => false,
    }
}

fn is_single_word_text(text: &str) -> bool {
    let is_plain = |char: char| match char {
        ';' | '&' | '|' | '`' | '$' | '<' | '>' | '\\' | '\'' | '"' | '#' => false,
        ' ' => true,
        _ => char.is_ascii_graphic() || char.is_alphanumeric(),
    };
    !text.starts_with('-') && !contains_embedded_flag(text) && !text.contains("..") && text.chars().all(is_plain)
}

/// Returns an argument as text; empty if it is missing or not a text.
pub(super) fn text_argument<'a>(arguments: &'a Map<String, Value>, key: &str) -> &'a str {
    arguments.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Returns whether an argument is missing or says nothing.
pub(super) fn is_argument_blank(arguments: &Map<String, Value>, key: &str) -> bool {
    arguments.get(key).is_none_or(is_blank)
}

/// Returns whether an argument is the boolean `true`, and not a text or number like it.
pub(super) fn is_argument_true(arguments: &Map<String, Value>, key: &str) -> bool {
    arguments.get(key) == Some(&Value::Bool(true))
}
