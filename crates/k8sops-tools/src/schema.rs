//! Schemas of arguments as providers accept them.

use serde_json::{Map, Value};

/// Keywords that providers refuse at the top of a schema. A single tool with one of them would make every call of the
/// model fail; the server checks the arguments against the whole schema anyway.
const REFUSED: &[&str] = &["$schema", "$id", "oneOf", "anyOf", "allOf", "not", "enum", "const", "if", "then", "else"];

/// The schema of an object, whatever the server gave.
pub(super) fn for_providers(schema: &Map<String, Value>) -> Map<String, Value> {
    let mut clean = schema.clone();
    clean.retain(|key, _| !REFUSED.contains(&key.as_str()));
    clean.insert("type".to_owned(), Value::from("object"));
    if !clean.get("properties").is_some_and(Value::is_object) {
        clean.insert("properties".to_owned(), Value::Object(Map::new()));
    }
    if !clean.get("required").is_none_or(Value::is_array) {
        clean.remove("required");
    }
    clean
}

/// The arguments of a call violate the schema of its tool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the arguments do not fit the tool {tool}: {}", problems.join("; "))]
pub struct ArgumentMismatch {
    /// Name under which the model calls the tool.
    pub tool: String,
    /// What does not fit, and where.
    pub problems: Vec<String>,
}

/// Returns what in a value violates a schema: at most three problems, none if it fits. A schema that is itself invalid accepts
/// everything; then the server checks the arguments.
pub(super) fn find_mismatches(schema: &Map<String, Value>, value: &Value) -> Vec<String> {
    let Ok(validator) = jsonschema::validator_for(&Value::Object(schema.clone())) else { return Vec::new() };
    let problems = validator.iter_errors(value).take(3).map(|error| {
        let path = error.instance_path().to_string();
        if path.is_empty() { error.to_string() } else { format!("{path}: {error}") }
    });
    problems.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cleaned(schema: Value) -> Value {
        let Value::Object(schema) = schema else { panic!("a schema is an object") };
        Value::Object(for_providers(&schema))
    }

    #[test]
    fn an_empty_schema_becomes_that_of_an_object() {
        assert_eq!(cleaned(json!({})), json!({"type": "object", "properties": {}}));
    }

    #[test]
    fn what_providers_refuse_is_left_out_at_the_top_only() {
        assert_eq!(
            cleaned(json!({
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": ["object", "null"],
                "required": null,
                "anyOf": [{"required": ["a"]}],
                "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
            })),
            json!({"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}})
        );
    }
}
