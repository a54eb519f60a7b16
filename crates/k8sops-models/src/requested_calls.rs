//! The tool calls of a reply: what the model wrote, without what its server added or repeated.

use k8sops_core::{StopReason, replace_lone_surrogates};
use serde_json::{Map, Value};

use crate::{RequestedCall, provider_blocks::ProviderBlockRecorder};

/// A tool call as the model wrote it. The arguments should be a JSON object, but may be any text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WrittenToolCall {
    /// What tells the call from the others of the reply, if the server names it: an id, or a position.
    pub(crate) key: Option<String>,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// Removes calls that a server sent twice, from the calls of a reply and from its blocks, which have one for each call. The
/// second one has the key and the name of the first and the same arguments, or one of the two has none: some servers
/// announce a call before its arguments.
pub(crate) fn remove_repeated_calls(calls: &mut Vec<WrittenToolCall>, recorder: &mut ProviderBlockRecorder) {
    let mut at = 1;
    while at < calls.len() {
        let (earlier, later) = calls.split_at_mut(at);
        let repeated = &mut later[0];
        let original = earlier.iter_mut().find(|call| {
            call.key.is_some()
                && call.key == repeated.key
                && call.name == repeated.name
                && (has_no_arguments(&call.arguments)
                    || has_no_arguments(&repeated.arguments)
                    || parse_arguments(call.arguments.clone()) == parse_arguments(repeated.arguments.clone()))
        });
        let Some(original) = original else {
            at += 1;
            continue;
        };
        if has_no_arguments(&original.arguments) {
            original.arguments = std::mem::take(&mut repeated.arguments);
        }
        calls.remove(at);
        recorder.remove_call(at);
    }
}

fn has_no_arguments(written: &str) -> bool {
    let written = written.trim();
    written.is_empty()
        || written
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .is_some_and(|inside| inside.trim().is_empty())
}

/// Parses the arguments of the tool calls of a reply.
///
/// Empty arguments belong to a tool without parameters, with one exception: if the reply was truncated at its token
/// limit, the last call is incomplete and its arguments may be missing.
pub(crate) fn parse_requested_calls(written: Vec<WrittenToolCall>, end: StopReason) -> Vec<RequestedCall> {
    let last = written.len().saturating_sub(1);
    let calls = written.into_iter().enumerate().map(|(at, WrittenToolCall { name, arguments: written, .. })| {
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
    let repaired = replace_lone_surrogates(without_code_fence(&written));
    match serde_json::from_str::<Value>(&repaired) {
        Ok(arguments @ Value::Object(_)) => arguments,
        Ok(Value::Null) => Value::Object(Map::new()),
        // Some servers encode the object twice.
        Ok(Value::String(inner)) => match serde_json::from_str::<Value>(&inner) {
            Ok(arguments @ Value::Object(_)) => arguments,
            _ => Value::String(written),
        },
        Ok(_) => Value::String(written),
        Err(_) => parse_repeated_object(&repaired).unwrap_or(Value::String(written)),
    }
}

/// Returns arguments without the fence of a code block, in which some models write them.
fn without_code_fence(written: &str) -> &str {
    let inside = written.trim().strip_prefix("```").and_then(|inside| inside.strip_suffix("```"));
    inside.map_or(written, |inside| inside.trim_start_matches(|c: char| c.is_ascii_alphabetic()).trim())
}

/// Parses arguments that a gateway sent twice, or after the empty object with which Anthropic's streams begin.
fn parse_repeated_object(written: &str) -> Option<Value> {
    let objects = serde_json::Deserializer::from_str(written).into_iter::<Map<String, Value>>();
    let mut objects = objects.collect::<Result<Vec<_>, _>>().ok()?.into_iter().filter(|object| !object.is_empty());
    let first = objects.next().unwrap_or_default();
    objects.all(|object| object == first).then_some(Value::Object(first))
}

/// Returns the offered tool that a name means. Servers that parse a model's reply incompletely leave its marks in the name
/// (`look<|channel|>commentary`, `functions.look:0`). A name that means no tool, or several, is returned as it is.
pub(crate) fn resolve_tool_name(written: &str, tools: &[String]) -> String {
    let find_tool = |name: &str| tools.iter().find(|tool| *tool == name);
    if find_tool(written).is_some() {
        return written.to_owned();
    }
    let mut found: Vec<&String> = Vec::new();
    for segment in split_control_tokens(written) {
        if let Some(tool) = name_candidates(segment).into_iter().find_map(find_tool)
            && !found.contains(&tool)
        {
            found.push(tool);
        }
    }
    match found.as_slice() {
        [tool] => (*tool).clone(),
        _ => written.to_owned(),
    }
}

/// The maximum number of parts of a name that are tried in all their combinations.
const MAX_NAME_PARTS: usize = 8;

/// Returns the parts of a name, and the texts from one part to another, the longest first: a tool's name may contain a
/// separator itself.
fn name_candidates(name: &str) -> Vec<&str> {
    const SEPARATORS: [char; 16] = ['.', ':', '/', '=', ' ', '\t', '\n', '"', '\'', '`', '(', ')', '<', '>', '[', ']'];
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, separator) in name.match_indices(SEPARATORS).chain([(name.len(), "")]) {
        if at > start && parts.len() < MAX_NAME_PARTS {
            parts.push((start, at));
        }
        start = at + separator.len();
    }
    let mut candidates: Vec<_> = (0..parts.len())
        .flat_map(|from| (from..parts.len()).map(move |to| (from, to)))
        .map(|(from, to)| &name[parts[from].0..parts[to].1])
        .collect();
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.len()));
    candidates
}

/// Splits a name at control tokens (`<|channel|>`), one of which may be incomplete.
fn split_control_tokens(name: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("<|") {
        segments.push(before);
        rest = after.split_once("|>").map_or("", |(_, after)| after);
    }
    segments.push(rest);
    segments
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_an_object_or_the_original_text() {
        let parse = |s: &str| parse_arguments(s.to_owned());
        for (written, arguments) in [
            ("", json!({})),
            ("null", json!({})),
            (r#"{"a":1}"#, json!({"a": 1})),
            (r#""{\"a\":1}""#, json!({"a": 1})),
            (r#"{}{"a":1}"#, json!({"a": 1})),
            (r#"{"a":1}{"a": 1}"#, json!({"a": 1})),
            ("{}{}", json!({})),
            ("```json\n{\"a\": 1}\n```", json!({"a": 1})),
            ("```{\"a\": 1}```", json!({"a": 1})),
            (r#"{"a":"\ud83d"}"#, json!({"a": "\u{fffd}"})),
        ] {
            assert_eq!(parse(written), arguments, "{written}");
        }
        for text in [r#"{"a":"#, "[1]", r#"{"a":1}{"a":2}"#, r#"{"a":1} and more"#] {
            assert_eq!(parse(text), json!(text));
        }
    }

    #[test]
    fn repeated_calls_are_removed_with_their_blocks() {
        let call = |key: &str, name: &str, arguments: &str| WrittenToolCall {
            key: Some(key.to_owned()).filter(|key| !key.is_empty()),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        let distinct = |mut calls: Vec<WrittenToolCall>| {
            let mut recorder = ProviderBlockRecorder::default();
            for _ in &calls {
                recorder.record_call(Map::new());
            }
            remove_repeated_calls(&mut calls, &mut recorder);
            assert_eq!(recorder.call_count(), calls.len());
            calls.into_iter().map(|call| format!("{}{}", call.name, call.arguments)).collect::<Vec<_>>()
        };
        let scale = || call("1", "scale", r#"{"x":1}"#);
        assert_eq!(distinct(vec![scale(), scale(), scale()]), [r#"scale{"x":1}"#]);
        assert_eq!(distinct(vec![call("1", "scale", r#"{"x": 1}"#), scale()]), [r#"scale{"x": 1}"#]);
        assert_eq!(distinct(vec![call("1", "scale", "{ }"), scale()]), [r#"scale{"x":1}"#]);
        for other in
            [call("2", "scale", r#"{"x":1}"#), call("1", "get", r#"{"x":1}"#), call("1", "scale", r#"{"x":2}"#)]
        {
            assert_eq!(distinct(vec![scale(), other]).len(), 2);
        }
        assert_eq!(distinct(vec![call("", "a", "{}"), call("", "a", "{}")]).len(), 2, "without a key, both are meant");
    }

    #[test]
    fn marks_around_a_tool_name_are_removed() {
        let tools = ["look", "scale", "scale_down", "pods.list"].map(str::to_owned);
        for (written, tool) in [
            ("look", "look"),
            ("look ", "look"),
            ("look<|channel|>commentary", "look"),
            ("assistant<|channel|>look", "look"),
            ("look<|constrain|>json", "look"),
            ("look<|chan", "look"),
            ("functions.look", "look"),
            ("functions.look:0", "look"),
            ("default_api:scale_down", "scale_down"),
            ("commentary to=functions.look", "look"),
            ("`look`", "look"),
            ("look()", "look"),
            ("functions.pods.list", "pods.list"),
            ("pods.list", "pods.list"),
            ("look<|channel|>scale", "look<|channel|>scale"),
            ("lookup", "lookup"),
            ("", ""),
        ] {
            assert_eq!(resolve_tool_name(written, &tools), tool, "{written}");
        }
    }
}
