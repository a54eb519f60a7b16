//! Access to the fields of a frame.

use serde_json::Value;

/// Returns a text field; empty if it is absent.
pub(super) fn text_field<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Returns the elements of a list field; none if it is absent.
pub(super) fn list_field<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}
