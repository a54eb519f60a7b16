//! Forms of questions: JSON Schemas of flat objects, the defaults in them, and whether an answer fits.
//!
//! MCP allows strings, numbers, booleans and choices in them, so this is no general validator. What it does not know in a
//! schema (a `format`, a `pattern`) is left for the server to check.

use serde_json::{Map, Value};

/// Puts the defaults of a form in the place of what an answer leaves out.
pub fn complete(schema: &Map<String, Value>, values: &mut Map<String, Value>) {
    for (name, field) in fields(schema) {
        if !values.contains_key(name)
            && let Some(default) = field.get("default")
        {
            values.insert(name.clone(), default.clone());
        }
    }
}

/// Checks an answer against its form.
///
/// # Errors
/// The first thing that is wrong, for the user; it names the field and does not quote its value.
pub fn check(schema: &Map<String, Value>, values: &Map<String, Value>) -> Result<(), String> {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if !values.contains_key(name) {
            return Err(format!("{name} is missing"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, value) in values {
        let Some(field) = properties.and_then(|p| p.get(name)) else {
            return Err(format!("{name} is not asked for"));
        };
        fits(field, value).map_err(|why| format!("{name} {why}"))?;
    }
    Ok(())
}

fn fields(schema: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn fits(field: &Value, value: &Value) -> Result<(), String> {
    match field.get("type").and_then(Value::as_str) {
        Some("string") => {
            let text = value.as_str().ok_or("must be text")?;
            between(field, "minLength", "maxLength", || text.chars().count(), "characters")?;
        }
        Some("integer") if !value.is_i64() && !value.is_u64() && value.as_f64().is_none_or(|n| n.fract() != 0.0) => {
            return Err("must be a whole number".to_owned());
        }
        Some("integer" | "number") => {
            let number = value.as_f64().ok_or("must be a number")?;
            let bound = |key| field.get(key).and_then(Value::as_f64);
            if let Some(least) = bound("minimum").filter(|least| number < *least) {
                return Err(format!("must be at least {least}"));
            }
            if let Some(most) = bound("maximum").filter(|most| number > *most) {
                return Err(format!("must be at most {most}"));
            }
        }
        Some("boolean") if !value.is_boolean() => return Err("must be true or false".to_owned()),
        Some("array") => {
            let items = value.as_array().ok_or("must be a list")?;
            between(field, "minItems", "maxItems", || items.len(), "choices")?;
            let allowed = field.get("items").unwrap_or(&Value::Null);
            return items.iter().try_for_each(|item| chosen(allowed, item));
        }
        _ => {}
    }
    chosen(field, value)
}

/// Whether a value is one of the choices, where there are some: `enum`, or `oneOf` and `anyOf` of constants.
fn chosen(field: &Value, value: &Value) -> Result<(), String> {
    let list = |key| field.get(key).and_then(Value::as_array);
    let known = match (list("enum"), list("oneOf").or_else(|| list("anyOf"))) {
        (Some(choices), _) => choices.contains(value),
        (None, Some(choices)) => choices.iter().any(|choice| choice.get("const") == Some(value)),
        (None, None) => true,
    };
    if known { Ok(()) } else { Err("is none of the choices".to_owned()) }
}

fn between(field: &Value, least: &str, most: &str, count: impl FnOnce() -> usize, what: &str) -> Result<(), String> {
    let bound = |key| field.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let (least, most) = (bound(least).unwrap_or(0), bound(most).unwrap_or(usize::MAX));
    let count = count();
    if count < least {
        return Err(format!("must have at least {least} {what}"));
    }
    if count > most {
        return Err(format!("must have at most {most} {what}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    fn form() -> Map<String, Value> {
        map(json!({"type": "object", "required": ["name"], "properties": {
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
    fn defaults_stand_for_what_is_left_out_and_for_nothing_else() {
        let mut values = map(json!({"name": "web", "age": 7}));
        complete(&form(), &mut values);
        assert_eq!(
            Value::Object(values),
            json!({"name": "web", "age": 7, "score": 95.5, "sure": false, "status": "on"})
        );
    }

    #[test]
    fn an_answer_must_fit_its_form() {
        for (answer, wrong) in [
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
            (json!({"name": "web", "status": "of"}), Some("status is none of the choices")),
            (json!({"name": "web", "size": "Small"}), Some("size is none of the choices")),
            (json!({"name": "web", "zones": []}), Some("zones must have at least 1 choices")),
            (json!({"name": "web", "zones": ["c"]}), Some("zones is none of the choices")),
            (json!({"name": "web", "zones": "a"}), Some("zones must be a list")),
            (json!({"name": "web", "token": "t"}), Some("token is not asked for")),
        ] {
            assert_eq!(check(&form(), &map(answer.clone())).err().as_deref(), wrong, "{answer}");
        }
    }

    #[test]
    fn a_form_without_fields_takes_an_empty_answer() {
        assert_eq!(check(&Map::new(), &Map::new()), Ok(()));
    }
}
