//! The rules of the providers, to check mended schemas against.

use serde_json::{Map, Value};

const TYPES: &[&str] = &["string", "number", "integer", "boolean", "object", "array", "null"];
/// The keywords that Gemini's `Schema` has; the others' dialects have all of them, too.
const KEYWORDS: &[&str] = &[
    "type",
    "description",
    "properties",
    "required",
    "items",
    "enum",
    "anyOf",
    "additionalProperties",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
];

/// Returns the first rule that a tool's schema violates.
pub(super) fn find_violation(schema: &Map<String, Value>) -> Option<String> {
    if schema.get("type") != Some(&Value::from("object")) || !schema.get("properties").is_some_and(Value::is_object) {
        return Some("the top is no object with properties".to_owned());
    }
    if ["anyOf", "oneOf", "allOf", "enum", "not"].iter().any(|key| schema.contains_key(*key)) {
        return Some("alternatives at the top".to_owned());
    }
    check_schema(&Value::Object(schema.clone()), "").err()
}

fn check_schema(schema: &Value, path: &str) -> Result<(), String> {
    let fail = |what: &str| Err(format!("{path}: {what}: {schema}"));
    let Some(fields) = schema.as_object() else { return fail("no object") };
    if let Some(key) = fields.keys().find(|key| !KEYWORDS.contains(&key.as_str())) {
        return fail(&format!("keyword {key}"));
    }
    let types: Vec<&str> = match fields.get("type") {
        None => Vec::new(),
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(_) => return fail("type"),
    };
    if types.iter().any(|name| !TYPES.contains(name)) || fields.contains_key("type") && types.is_empty() {
        return fail("type");
    }
    if types.contains(&"array") && !fields.contains_key("items") {
        return fail("array without items");
    }
    if types.contains(&"object") && !fields.contains_key("properties") {
        return fail("object without properties");
    }
    if let Some(values) = fields.get("enum") {
        let Some(values) = values.as_array() else { return fail("enum") };
        let are_texts =
            values.iter().all(|value| value.is_null() || value.as_str().is_some_and(|text| !text.is_empty()));
        let are_unique = values.iter().enumerate().all(|(at, value)| !values[..at].contains(value));
        if values.is_empty() || !are_texts || !are_unique || !types.contains(&"string") {
            return fail("enum");
        }
    }
    if fields.get("description").is_some_and(|text| !text.is_string()) {
        return fail("description");
    }
    for key in ["minimum", "maximum"] {
        if fields.get(key).is_some_and(|bound| !bound.is_number()) {
            return fail(key);
        }
    }
    for key in ["minLength", "maxLength", "minItems", "maxItems"] {
        if fields.get(key).is_some_and(|bound| !bound.is_u64()) {
            return fail(key);
        }
    }
    let properties = match fields.get("properties") {
        None => Map::new(),
        Some(Value::Object(properties)) => properties.clone(),
        Some(_) => return fail("properties"),
    };
    if let Some(required) = fields.get("required") {
        let Some(required) = required.as_array() else { return fail("required") };
        let is_known = |key: &Value| key.as_str().is_some_and(|key| properties.contains_key(key));
        let are_unique = required.iter().enumerate().all(|(at, key)| !required[..at].contains(key));
        if required.is_empty() || !required.iter().all(is_known) || !are_unique {
            return fail("required");
        }
    }
    for (key, property) in &properties {
        let is_accepted = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let has_start = key.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_');
        if !has_start || key.len() > 64 || !key.bytes().all(is_accepted) {
            return fail(&format!("key {key:?}"));
        }
        check_schema(property, &format!("{path}.{key}"))?;
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get(key) {
            check_schema(inner, &format!("{path}.{key}"))?;
        }
    }
    if let Some(branches) = fields.get("anyOf") {
        let Some(branches) = branches.as_array().filter(|branches| branches.len() > 1) else { return fail("anyOf") };
        for branch in branches {
            check_schema(branch, &format!("{path}.anyOf"))?;
        }
    }
    Ok(())
}
