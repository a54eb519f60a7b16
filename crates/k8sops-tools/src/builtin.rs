//! Tools of our own: the model reads what was cut off an output, and finds lines in it.

use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::output::{self, Budget};
use k8sops_core::{ChatMessage, OutputStore, SessionId, SessionLog, ToolCallId, load_state};
use k8sops_mcp::{RemoteTool, ToolHints};

/// The name under which they stand beside the MCP servers.
pub(super) const SERVER: &str = "k8sops";
const READ: &str = "read_output";
const SEARCH: &str = "search_output";
/// Bytes that are asked of the store at once.
const PART: usize = 4 << 20;

/// The tools, as a server would describe them.
pub(super) static TOOLS: LazyLock<Vec<RemoteTool>> = LazyLock::new(|| {
    let call = json!({"type": "string", "description": "The id of the tool call, as the shortened output names it"});
    let number = |what: &str| json!({"type": "integer", "minimum": 0, "description": what});
    vec![
        tool(
            READ,
            "Reads lines of the whole output of an earlier tool call that was shortened or left out.",
            &json!({"call": call, "from_line": number("The first line, from 1 on"), "lines": number("How many; 200 by default")}),
            &["call"],
        ),
        tool(
            SEARCH,
            "Finds the lines that match a regular expression in the whole output of an earlier tool call.",
            &json!({"call": call, "pattern": {"type": "string", "description": "A regular expression; all in lower case it ignores case"},
                "context": number("Lines around each match; 2 by default"),
                "max_matches": number("How many matches are shown; 20 by default")}),
            &["call", "pattern"],
        ),
    ]
});

fn tool(name: &str, description: &str, properties: &Value, required: &[&str]) -> RemoteTool {
    let schema =
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    RemoteTool {
        name: name.to_owned(),
        description: description.to_owned(),
        input_schema: schema.as_object().cloned().unwrap_or_default(),
        hints: ToolHints { read_only: Some(true), ..ToolHints::default() },
    }
}

/// What a shortened output says of how the rest is read.
pub(super) fn advice(call: &ToolCallId) -> String {
    format!("{READ}(call={:?}, from_line=N) shows more, {SEARCH}(call={0:?}, pattern=…) finds lines", call.as_str())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    call: String,
    from_line: Option<u64>,
    lines: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    call: String,
    pattern: String,
    context: Option<usize>,
    max_matches: Option<usize>,
}

/// Makes a call. The error is what to tell the model.
pub(super) async fn call(
    outputs: &dyn OutputStore,
    log: &dyn SessionLog,
    session: SessionId,
    name: &str,
    arguments: &Map<String, Value>,
    budget: Budget,
) -> Result<String, String> {
    let arguments = Value::Object(arguments.clone());
    let wrong = |error: serde_json::Error| format!("the arguments are wrong: {error}");
    match name {
        READ => {
            let Read { call, from_line, lines } = serde_json::from_value(arguments).map_err(wrong)?;
            let text = whole(outputs, log, session, &call).await?;
            let page = output::range(&text, from_line.unwrap_or(1).max(1), lines.unwrap_or(200).max(1), budget);
            Ok(page)
        }
        SEARCH => {
            let Search { call, pattern, context, max_matches } = serde_json::from_value(arguments).map_err(wrong)?;
            let text = whole(outputs, log, session, &call).await?;
            let (context, most) = (context.unwrap_or(2), max_matches.unwrap_or(20).max(1));
            let found = move || output::search(&text, &pattern, context, most, budget);
            tokio::task::spawn_blocking(found).await.map_err(|error| error.to_string())
        }
        other => Err(format!("there is no tool {other}")),
    }
}

/// The whole output of a call: what was kept, else what the log has.
async fn whole(
    outputs: &dyn OutputStore,
    log: &dyn SessionLog,
    session: SessionId,
    call: &str,
) -> Result<Arc<str>, String> {
    let none = || format!("there is no output of a call {call:?}; use the id that the shortened output names");
    let call: ToolCallId = call.parse().map_err(|_| none())?;
    let mut bytes = Vec::new();
    loop {
        let part = outputs.read_output(session, &call, bytes.len() as u64, PART).await;
        let Some(part) = part.map_err(|error| error.to_string())? else { break };
        bytes.extend(part.bytes);
        if bytes.len() as u64 >= part.total {
            return Ok(String::from_utf8(bytes).map_err(|error| error.to_string())?.into());
        }
    }
    let state = load_state(log, session).await.map_err(|error| error.to_string())?.state;
    let of_call = |message: &Arc<ChatMessage>| match message.as_ref() {
        ChatMessage::Tool(tool) if tool.tool_call_id == call => Some(tool.content.as_str().into()),
        _ => None,
    };
    state.messages.iter().rev().find_map(of_call).ok_or_else(none)
}
