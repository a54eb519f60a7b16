//! JSON Schemas of tool arguments.

use serde_json::{Map, Value};

/// Keywords that model providers reject at the top of a schema. One tool with one of them would make every model call fail.
/// The server still checks the arguments against its whole schema.
const REJECTED_KEYWORDS: &[&str] =
    &["$schema", "$id", "oneOf", "anyOf", "allOf", "not", "enum", "const", "if", "then", "else"];

/// Returns the schema of a tool in the form that all model providers accept: an object with properties.
pub(crate) fn schema_for_providers(schema: &Map<String, Value>) -> Map<String, Value> {
    let mut accepted = schema.clone();
    accepted.retain(|key, _| !REJECTED_KEYWORDS.contains(&key.as_str()));
    accepted.insert("type".to_owned(), Value::from("object"));
    if !accepted.get("properties").is_some_and(Value::is_object) {
        accepted.insert("properties".to_owned(), Value::Object(Map::new()));
    }
    if !accepted.get("required").is_none_or(Value::is_array) {
        accepted.remove("required");
    }
    accepted
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

/// Returns how a value violates a schema: at most three problems, and none if it fits. A schema that is itself invalid
/// accepts everything; then the server checks the arguments.
pub(crate) fn find_mismatches(schema: &Map<String, Value>, value: &Value) -> Vec<String> {
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

    fn accepted(schema: Value) -> Value {
        let Value::Object(schema) = schema else { panic!("a schema is an object") };
        Value::Object(schema_for_providers(&schema))
    }

    #[test]
    fn empty_schema_becomes_an_object() {
        assert_eq!(accepted(json!({})), json!({"type": "object", "properties": {}}));
    }

    #[test]
    fn rejected_keywords_are_removed_at_the_top_only() {
        assert_eq!(
            accepted(json!({
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
