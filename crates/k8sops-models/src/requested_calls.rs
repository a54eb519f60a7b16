//! The arguments that a model wrote for its tool calls, read as JSON.

use k8sops_core::StopReason;
use serde_json::{Map, Value};

use crate::RequestedCall;

/// A tool call as the model wrote it: the arguments are text that should be a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenToolCall {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// The calls of a reply, given as names and arguments as they were written.
///
/// No arguments are those of a tool without parameters, except where the reply was cut at the limit of its tokens: there
/// they may be arguments that had not begun, and the last call is no whole one.
pub(crate) fn parse_requested_calls(written: Vec<WrittenToolCall>, end: StopReason) -> Vec<RequestedCall> {
    let last = written.len().saturating_sub(1);
    let calls = written.into_iter().enumerate().map(|(at, WrittenToolCall { name, arguments: written })| {
        let cut = end == StopReason::MaxTokens && at == last && written.trim().is_empty();
        let arguments = if cut { Value::String(written) } else { parse_arguments(written) };
        RequestedCall { name, arguments }
    });
    calls.collect()
}

/// The arguments that a model wrote, as [`RequestedCall::arguments`] has them.
fn parse_arguments(written: String) -> Value {
    if written.trim().is_empty() {
        // A tool without parameters: most models then write nothing.
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
