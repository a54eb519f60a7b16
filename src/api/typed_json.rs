//! Reads JSON into types. Errors are in the words of JSON, for clients who know no Rust: the field, which type of JSON is expected,
//! and which was found.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The longest value of a client that an error repeats, in bytes.
const MAX_REPEATED_BYTES: usize = 100;
/// The path of the whole value in errors.
const ROOT_PATH: &str = ".";

/// Why JSON is not what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JsonMismatch {
    field: Option<String>,
    message: String,
}

impl JsonMismatch {
    /// Returns the path of the field that is wrong, such as `message.parts[0].text`; `None` for the whole.
    pub(super) fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

impl fmt::Display for JsonMismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// Reads a value. `whole` names it in errors: `the body`.
pub(super) fn read_json_value<T: DeserializeOwned>(value: Value, whole: &str) -> Result<T, JsonMismatch> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = Some(path).filter(|path| path != ROOT_PATH);
        describe_mismatch(field, &error.into_inner().to_string(), whole)
    })
}

/// Reads a text. `whole` names it in errors.
pub(super) fn read_json_text<T: DeserializeOwned>(text: &[u8], whole: &str) -> Result<T, JsonMismatch> {
    serde_json::from_slice(text).map_err(|error| {
        // Only once more for the path: it costs nothing as long as nothing is wrong.
        let value = serde_json::from_slice::<Value>(text).ok();
        let mismatch = value.and_then(|value| read_json_value::<T>(value, whole).err());
        mismatch.unwrap_or_else(|| describe_mismatch(None, &error.to_string(), whole))
    })
}

fn describe_mismatch(field: Option<String>, error: &str, whole: &str) -> JsonMismatch {
    let name = field.as_ref().map_or_else(|| whole.to_owned(), |path| format!("`{path}`"));
    let split =
        |rest: &str| rest.rsplit_once(", expected ").map(|(found, expected)| (found.to_owned(), expected.to_owned()));
    if let Some((found, expected)) = error.strip_prefix("invalid type: ").and_then(split) {
        let message = format!("{name} must be {}, not {}", name_expected(&expected), name_type(&found));
        return JsonMismatch { field, message };
    }
    if let Some((_, expected)) = error.strip_prefix("invalid length ").and_then(split) {
        return JsonMismatch { field, message: format!("{name} must be {}, not an array", name_expected(&expected)) };
    }
    if let Some((found, expected)) = error.strip_prefix("invalid value: ").and_then(split) {
        let found = if found.len() > MAX_REPEATED_BYTES { name_type(&found).to_owned() } else { found };
        return JsonMismatch { field, message: format!("{name} must be {}, not {found}", name_expected(&expected)) };
    }
    if let Some(rest) = error.strip_prefix("unknown variant ").filter(|rest| rest.len() <= 10 * MAX_REPEATED_BYTES) {
        return JsonMismatch { field, message: format!("{name} is {rest}") };
    }
    if let Some(missing) = error.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let path = field.map_or_else(|| missing.to_owned(), |path| format!("{path}.{missing}"));
        return JsonMismatch { message: format!("`{path}` is missing"), field: Some(path) };
    }
    let message = match (error.contains("untagged enum"), &field) {
        (true, _) => format!("{name} has none of the forms that are accepted"),
        (false, Some(_)) => format!("{name}: {error}"),
        (false, None) => error.to_owned(),
    };
    JsonMismatch { field, message }
}

/// Returns the type of JSON that a type of serde's data model is written as.
fn name_expected(expected: &str) -> &str {
    let is_one_of = |starts: &[&str]| starts.iter().any(|start| expected.starts_with(start));
    if is_one_of(&["struct ", "a map", "map", "internally tagged enum", "adjacently tagged enum"]) {
        "an object"
    } else if is_one_of(&["a sequence", "a tuple", "tuple ", "an array"]) {
        "an array"
    } else if is_one_of(&["a string", "a borrowed string", "string or map", "enum ", "variant identifier", "a char"]) {
        "a string"
    } else if is_one_of(&["u8", "u16", "u32", "u64", "usize", "a nonzero"]) {
        "an integer of 0 or more"
    } else if is_one_of(&["i8", "i16", "i32", "i64", "isize"]) {
        "an integer"
    } else if is_one_of(&["f32", "f64"]) {
        "a number"
    } else if is_one_of(&["unit"]) {
        "null"
    } else {
        expected
    }
}

/// Returns the type of JSON that was found.
fn name_type(found: &str) -> &str {
    let word = found.split([' ', '`', '"']).next().unwrap_or_default();
    match word {
        "string" | "character" | "byte" => "a string",
        "integer" | "floating" | "number" => "a number",
        "boolean" => "a boolean",
        "sequence" | "tuple" => "an array",
        "map" | "struct" | "newtype" => "an object",
        "null" | "unit" | "Option" => "null",
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Sample {
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        parts: Vec<Part>,
        #[serde(default)]
        count: Option<u32>,
        #[serde(default)]
        offset: i64,
        #[serde(default)]
        kind: Option<Kind>,
        #[serde(default)]
        choice: Option<Choice>,
        #[serde(default)]
        rest: serde_json::Map<String, Value>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Part {
        text: String,
        is_last: bool,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        One,
        Two,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    #[allow(dead_code, reason = "only read")]
    enum Choice {
        Named { name: String },
    }

    #[test]
    fn errors_name_the_field_and_the_type_of_json() {
        for (value, field, message) in [
            (json!(5), None, "the body must be an object, not a number"),
            (json!("x"), None, "the body must be an object, not a string"),
            (json!({"name": 5}), Some("name"), "`name` must be a string, not a number"),
            (json!({"name": [1]}), Some("name"), "`name` must be a string, not an array"),
            (json!({"parts": {}}), Some("parts"), "`parts` must be an array, not an object"),
            (json!({"parts": "x"}), Some("parts"), "`parts` must be an array, not a string"),
            (json!({"parts": [true]}), Some("parts[0]"), "`parts[0]` must be an object, not a boolean"),
            (json!({"parts": [["x"]]}), Some("parts[0]"), "`parts[0]` must be an object, not an array"),
            (json!({"parts": [{"text": null}]}), Some("parts[0].text"), "`parts[0].text` must be a string, not null"),
            (json!({"parts": [{"text": "x"}]}), Some("parts[0].is_last"), "`parts[0].is_last` is missing"),
            (json!({"count": "3"}), Some("count"), "`count` must be an integer of 0 or more, not a string"),
            (json!({"count": 1.5}), Some("count"), "`count` must be an integer of 0 or more, not a number"),
            (json!({"count": -1}), Some("count"), "`count` must be an integer of 0 or more, not integer `-1`"),
            (json!({"offset": {}}), Some("offset"), "`offset` must be an integer, not an object"),
            (json!({"kind": 5}), Some("kind"), "`kind` must be a string, not a number"),
            (json!({"kind": "three"}), Some("kind"), "`kind` is `three`, expected `one` or `two`"),
            (json!({"choice": "x"}), Some("choice"), "`choice` must be an object, not a string"),
            (json!({"choice": {}}), Some("choice.type"), "`choice.type` is missing"),
            (json!({"rest": []}), Some("rest"), "`rest` must be an object, not an array"),
        ] {
            let mismatch = read_json_value::<Sample>(value.clone(), "the body").unwrap_err();
            assert_eq!((mismatch.field(), mismatch.to_string().as_str()), (field, message), "{value}");
            let text = value.to_string();
            assert_eq!(read_json_text::<Sample>(text.as_bytes(), "the body").unwrap_err(), mismatch, "{value}");
        }
    }

    #[test]
    fn text_that_is_no_json_has_a_position() {
        let mismatch = read_json_text::<Sample>(br#"{"name": }"#, "the body").unwrap_err();
        assert_eq!((mismatch.field(), mismatch.to_string().as_str()), (None, "expected value at line 1 column 10"));
        assert!(read_json_text::<Sample>(br#"{"name": "x", "unknown": 1}"#, "the body").is_ok());
    }
}
