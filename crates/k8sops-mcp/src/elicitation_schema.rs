//! Forms of elicitations: JSON Schemas of flat objects, their defaults, and the validation of answers.
//!
//! MCP allows strings, numbers, booleans and choices in a form, so this is not a general validator. Keywords that it does not
//! know (a `format`, a `pattern`) are left to the server.

use serde_json::{Map, Value};

/// Why an answer does not conform to its form.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct ElicitationMismatch {
    /// The name of the field.
    pub field: String,
    /// What is wrong with the field. It does not quote the value.
    pub problem: FieldProblem,
}

/// What is wrong with a field of an answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FieldProblem {
    /// The form requires the field, and the answer lacks it.
    #[error("is missing")]
    Missing,
    /// The form has no such field.
    #[error("is not a field of the form")]
    NotInForm,
    /// The value has the wrong type.
    #[error("must be {expected}")]
    WrongType {
        /// The accepted type, as text for the user.
        expected: &'static str,
    },
    /// The number is too small.
    #[error("must be at least {0}")]
    BelowMinimum(f64),
    /// The number is too large.
    #[error("must be at most {0}")]
    AboveMaximum(f64),
    /// The text or the list is too short.
    #[error("must have at least {minimum} {unit}")]
    TooShort {
        /// The smallest accepted length.
        minimum: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// The text or the list is too long.
    #[error("must have at most {maximum} {unit}")]
    TooLong {
        /// The largest accepted length.
        maximum: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// The form lists the accepted values, and the value is not one of them.
    #[error("is not one of the choices")]
    NotAChoice,
}

/// Adds the defaults of a form for the fields that an answer leaves out.
pub fn fill_elicitation_defaults(schema: &Map<String, Value>, values: &mut Map<String, Value>) {
    let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, field) in fields {
        if !values.contains_key(name)
            && let Some(default) = field.get("default")
        {
            values.insert(name.clone(), default.clone());
        }
    }
}

/// Checks that an answer conforms to its form.
///
/// # Errors
/// The first field that does not conform.
pub fn validate_elicitation_answer(
    schema: &Map<String, Value>,
    values: &Map<String, Value>,
) -> Result<(), ElicitationMismatch> {
    let mismatch = |field: &str, problem| ElicitationMismatch { field: field.to_owned(), problem };
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if !values.contains_key(name) {
            return Err(mismatch(name, FieldProblem::Missing));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, value) in values {
        let Some(field) = properties.and_then(|properties| properties.get(name)) else {
            return Err(mismatch(name, FieldProblem::NotInForm));
        };
        validate_field(field, value).map_err(|problem| mismatch(name, problem))?;
    }
    Ok(())
}

fn validate_field(field: &Value, value: &Value) -> Result<(), FieldProblem> {
    let wrong_type = |expected| FieldProblem::WrongType { expected };
    match field.get("type").and_then(Value::as_str) {
        Some("string") => {
            let text = value.as_str().ok_or(wrong_type("text"))?;
            validate_length(field, ["minLength", "maxLength"], text.chars().count(), "characters")?;
        }
        Some("integer") if !is_integer(value) => return Err(wrong_type("a whole number")),
        Some("integer" | "number") => {
            let number = value.as_f64().ok_or(wrong_type("a number"))?;
            let bound = |key| field.get(key).and_then(Value::as_f64);
            if let Some(minimum) = bound("minimum").filter(|minimum| number < *minimum) {
                return Err(FieldProblem::BelowMinimum(minimum));
            }
            if let Some(maximum) = bound("maximum").filter(|maximum| number > *maximum) {
                return Err(FieldProblem::AboveMaximum(maximum));
            }
        }
        Some("boolean") if !value.is_boolean() => return Err(wrong_type("true or false")),
        Some("array") => {
            let items = value.as_array().ok_or(wrong_type("a list"))?;
            validate_length(field, ["minItems", "maxItems"], items.len(), "choices")?;
            let allowed = field.get("items").unwrap_or(&Value::Null);
            return items.iter().try_for_each(|item| validate_choice(allowed, item));
        }
        _ => {}
    }
    validate_choice(field, value)
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

/// Checks a value against the choices of a field, if it has any: `enum`, or `oneOf` and `anyOf` of constants.
fn validate_choice(field: &Value, value: &Value) -> Result<(), FieldProblem> {
    let list = |key| field.get(key).and_then(Value::as_array);
    let is_allowed = match (list("enum"), list("oneOf").or_else(|| list("anyOf"))) {
        (Some(choices), _) => choices.contains(value),
        (None, Some(choices)) => choices.iter().any(|choice| choice.get("const") == Some(value)),
        (None, None) => true,
    };
    if is_allowed { Ok(()) } else { Err(FieldProblem::NotAChoice) }
}

fn validate_length(field: &Value, keys: [&str; 2], length: usize, unit: &'static str) -> Result<(), FieldProblem> {
    let bound = |key| field.get(key).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
    let [minimum, maximum] = keys.map(bound);
    if let Some(minimum) = minimum.filter(|minimum| length < *minimum) {
        return Err(FieldProblem::TooShort { minimum, unit });
    }
    if let Some(maximum) = maximum.filter(|maximum| length > *maximum) {
        return Err(FieldProblem::TooLong { maximum, unit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    fn form() -> Map<String, Value> {
        object(json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": 4},
            "age": {"type": "integer", "minimum": 0, "maximum": 150, "default": 30},
            "score": {"type": "number", "default": 95.5},
            "sure": {"type": "boolean", "default": false},
            "status": {"type": "string", "enum": ["on", "off"], "default": "on"},
            "size": {"type": "string", "oneOf": [{"const": "s", "title": "Small"}]},
            "zones": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"anyOf": [{"const": "a"}, {"const": "b"}]}},
        }}))
    }

    #[test]
    fn defaults_fill_only_missing_fields() {
        let mut values = object(json!({"name": "web", "age": 7}));
        fill_elicitation_defaults(&form(), &mut values);
        assert_eq!(
            Value::Object(values),
            json!({"name": "web", "age": 7, "score": 95.5, "sure": false, "status": "on"})
        );
    }

    #[test]
    fn answers_are_validated_against_the_form() {
        for (answer, mismatch) in [
            (json!({"name": "web", "age": 7, "sure": true, "size": "s", "zones": ["a", "b"]}), None),
            (json!({"name": "wéb!"}), None),
            (json!({"name": "web", "age": 7.0}), None),
            (json!({}), Some("name is missing")),
            (json!({"name": 7}), Some("name must be text")),
            (json!({"name": "x"}), Some("name must have at least 2 characters")),
            (json!({"name": "xxxxx"}), Some("name must have at most 4 characters")),
            (json!({"name": "web", "age": 7.5}), Some("age must be a whole number")),
            (json!({"name": "web", "age": "7"}), Some("age must be a whole number")),
            (json!({"name": "web", "age": -1}), Some("age must be at least 0")),
            (json!({"name": "web", "age": 151}), Some("age must be at most 150")),
            (json!({"name": "web", "score": true}), Some("score must be a number")),
            (json!({"name": "web", "sure": "yes"}), Some("sure must be true or false")),
            (json!({"name": "web", "status": "of"}), Some("status is not one of the choices")),
            (json!({"name": "web", "size": "Small"}), Some("size is not one of the choices")),
            (json!({"name": "web", "zones": []}), Some("zones must have at least 1 choices")),
            (json!({"name": "web", "zones": ["c"]}), Some("zones is not one of the choices")),
            (json!({"name": "web", "zones": "a"}), Some("zones must be a list")),
            (json!({"name": "web", "token": "t"}), Some("token is not a field of the form")),
        ] {
            let found = validate_elicitation_answer(&form(), &object(answer.clone())).err();
            assert_eq!(found.map(|found| found.to_string()).as_deref(), mismatch, "{answer}");
        }
    }

    #[test]
    fn form_without_fields_accepts_an_empty_answer() {
        assert_eq!(validate_elicitation_answer(&Map::new(), &Map::new()), Ok(()));
    }
}
