//! Repair of tool lists that contain invalid tools. The SDK rejects such a list as a whole.

use rmcp::model::{ListToolsResult, ServerResult, Tool};
use serde_json::{Value, json};

/// The `type` of the input schema that takes the place of an invalid tool.
const INVALID_TOOL_TYPE: &str = "invalid";

/// Turns an answer that the SDK could not parse into a list of tools, if it looks like one. Each invalid tool is replaced by
/// one that [`is_marked_invalid`] recognizes. Any other answer stays unchanged.
pub(crate) fn repair_tool_list(result: &mut ServerResult) {
    let ServerResult::CustomResult(custom) = result else { return };
    let Value::Object(answer) = &mut custom.0 else { return };
    let Some(Value::Array(tools)) = answer.get_mut("tools") else { return };
    for tool in tools {
        if serde_json::from_value::<Tool>(tool.clone()).is_err() {
            let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
            *tool = json!({"name": name, "inputSchema": {"type": INVALID_TOOL_TYPE}});
        }
    }
    if let Ok(list) = serde_json::from_value::<ListToolsResult>(custom.0.take()) {
        *result = ServerResult::ListToolsResult(list);
    }
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
                {"name": "hints", "inputSchema": {}, "annotations": {"readOnlyHint": "yes"}},
                {"name": "last", "inputSchema": {}},
            ]});
            if result_type.is_string() {
                answer["resultType"] = result_type;
            }
            let mut result: ServerResult = serde_json::from_value(answer).unwrap();
            repair_tool_list(&mut result);
            let ServerResult::ListToolsResult(list) = result else { panic!("{result:?}") };
            let valid = list.tools.iter().filter(|tool| !is_marked_invalid(tool)).map(|tool| &*tool.name);
            assert_eq!(valid.collect::<Vec<_>>(), ["good", "last"]);
            assert_eq!(list.next_cursor.as_deref(), Some("2"));
        }
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
