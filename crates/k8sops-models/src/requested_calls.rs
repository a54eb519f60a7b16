//! The tool calls of a reply, with their arguments parsed as JSON.

use k8sops_core::StopReason;
use serde_json::{Map, Value};

use crate::RequestedCall;

/// A tool call as the model wrote it. The arguments should be a JSON object, but may be any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenToolCall {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// Parses the arguments of the tool calls of a reply.
///
/// Empty arguments belong to a tool without parameters, with one exception: if the reply was truncated at its token
/// limit, the last call is incomplete and its arguments may be missing.
pub(crate) fn parse_requested_calls(written: Vec<WrittenToolCall>, end: StopReason) -> Vec<RequestedCall> {
    let last = written.len().saturating_sub(1);
    let calls = written.into_iter().enumerate().map(|(at, WrittenToolCall { name, arguments: written })| {
        let cut = end == StopReason::MaxTokens && at == last && written.trim().is_empty();
        let arguments = if cut { Value::String(written) } else { parse_arguments(written) };
        RequestedCall { name, arguments }
    });
    calls.collect()
}

/// Parses arguments into the form of [`RequestedCall::arguments`].
fn parse_arguments(written: String) -> Value {
    if written.trim().is_empty() {
        // Most models write nothing for a tool without parameters.
        return Value::Object(Map::new());
    }
    match serde_json::from_str::<Value>(&written) {
        Ok(arguments @ Value::Object(_)) => arguments,
        Ok(Value::Null) => Value::Object(Map::new()),
        // Some servers encode the object twice.
        Ok(Value::String(inner)) => match serde_json::from_str::<Value>(&inner) {
            Ok(arguments @ Value::Object(_)) => arguments,
            _ => Value::String(written),
        },
        _ => Value::String(written),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_an_object_or_the_original_text() {
        let parse = |s: &str| parse_arguments(s.to_owned());
        assert_eq!(parse(""), json!({}));
        assert_eq!(parse("null"), json!({}));
        assert_eq!(parse(r#"{"a":1}"#), json!({"a": 1}));
        assert_eq!(parse(r#""{\"a\":1}""#), json!({"a": 1}));
        assert_eq!(parse(r#"{"a":"#), json!(r#"{"a":"#));
        assert_eq!(parse("[1]"), json!("[1]"));
    }
}
