//! JSON Schemas of tool arguments.

use serde_json::{Map, Value};

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
