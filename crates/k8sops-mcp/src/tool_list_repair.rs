//! Repair of tool lists that contain invalid tools. The SDK rejects such a list as a whole.

use rmcp::model::{ListToolsResult, ServerResult, Tool};
use serde_json::{Map, Value, json};

/// The `type` of the input schema that takes the place of an invalid tool.
const INVALID_TOOL_TYPE: &str = "invalid";

/// Turns an answer that the SDK could not parse into a list of tools, if it looks like one. A tool keeps what can be parsed;
/// one without name or schema is replaced by one that [`is_marked_invalid`] recognizes. Any other answer stays unchanged.
pub(crate) fn repair_tool_list(result: &mut ServerResult) {
    let ServerResult::CustomResult(custom) = result else { return };
    let Value::Object(answer) = &mut custom.0 else { return };
    // No tools, as several languages write it.
    if answer.get("tools").is_some_and(Value::is_null) {
        answer.insert("tools".to_owned(), json!([]));
    }
    let Some(Value::Array(tools)) = answer.get_mut("tools") else { return };
    for tool in tools {
        if serde_json::from_value::<Tool>(tool.clone()).is_err() {
            *tool = repair_tool(tool);
        }
    }
    // A cursor is a text. What follows another value cannot be asked for.
    if !answer.get("nextCursor").is_none_or(Value::is_string) {
        answer.remove("nextCursor");
    }
    if let Ok(list) = serde_json::from_value::<ListToolsResult>(custom.0.take()) {
        *result = ServerResult::ListToolsResult(list);
    }
}

/// Returns a tool with only those of its parts that can be parsed.
fn repair_tool(tool: &Value) -> Value {
    let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
    let schema = match tool.get("inputSchema").or_else(|| tool.get("input_schema")) {
        _ if !tool.is_object() => json!({"type": INVALID_TOOL_TYPE}),
        Some(schema @ Value::Object(_)) => schema.clone(),
        // No arguments, as several languages write it.
        None | Some(Value::Null | Value::Bool(true)) => json!({}),
        Some(Value::Array(items)) if items.is_empty() => json!({}),
        Some(_) => json!({"type": INVALID_TOOL_TYPE}),
    };
    let mut repaired = json!({"name": name, "inputSchema": schema});
    for key in ["title", "description"] {
        if let Some(text) = tool.get(key).and_then(Value::as_str) {
            repaired[key] = text.into();
        }
    }
    if let Some(hints) = tool.get("annotations").and_then(Value::as_object) {
        let hints = hints.iter().filter(|(_, hint)| hint.is_boolean());
        repaired["annotations"] = hints.map(|(key, hint)| (key.clone(), hint.clone())).collect::<Map<_, _>>().into();
    }
    repaired
}

/// Whether a tool takes the place of one that could not be parsed.
pub(crate) fn is_marked_invalid(tool: &Tool) -> bool {
    tool.input_schema.get("type").and_then(Value::as_str) == Some(INVALID_TOOL_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_tools_are_marked_and_others_kept() {
        for result_type in [json!(null), json!("complete")] {
            let mut answer = json!({"nextCursor": "2", "tools": [
                {"name": "good", "inputSchema": {"type": "object"}},
                {"name": "bad", "inputSchema": "no schema"},
                {"inputSchema": {"type": "object"}},
                "no tool",
                {"name": "hints", "inputSchema": {}, "annotations": {"readOnlyHint": "yes", "destructiveHint": true}},
                {"name": "php", "inputSchema": [], "description": 5},
                {"name": "none", "title": "None"},
                {"name": "last", "inputSchema": {}},
            ]});
            if result_type.is_string() {
                answer["resultType"] = result_type;
            }
            let mut result: ServerResult = serde_json::from_value(answer).unwrap();
            repair_tool_list(&mut result);
            let ServerResult::ListToolsResult(list) = result else { panic!("{result:?}") };
            let valid = list.tools.iter().filter(|tool| !is_marked_invalid(tool)).map(|tool| &*tool.name);
            assert_eq!(valid.collect::<Vec<_>>(), ["good", "", "hints", "php", "none", "last"]);
            let hints = list.tools.iter().find(|tool| tool.name == "hints").and_then(|tool| tool.annotations.as_ref());
            assert_eq!(hints.map(|hints| (hints.read_only_hint, hints.destructive_hint)), Some((None, Some(true))));
            assert_eq!(list.next_cursor.as_deref(), Some("2"));
        }
    }

    #[test]
    fn null_is_an_empty_list() {
        let mut result: ServerResult = serde_json::from_value(json!({"tools": null})).unwrap();
        repair_tool_list(&mut result);
        assert!(matches!(result, ServerResult::ListToolsResult(list) if list.tools.is_empty()));
    }

    #[test]
    fn other_answers_stay_unchanged() {
        for answer in [json!({"tools": 5}), json!({"anything": 1}), json!({"content": []})] {
            let mut result: ServerResult = serde_json::from_value(answer).unwrap();
            let before = serde_json::to_value(result.clone()).unwrap();
            repair_tool_list(&mut result);
            assert_eq!(serde_json::to_value(result).unwrap(), before);
        }
    }
}
