//! Built-in tools with which the model reads the part of an output that was truncated.

use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinError;

use k8sops_core::{ChatMessage, OutputStore, SessionId, SessionLog, StoreError, ToolCallId, find_tool_end, load_state};
use k8sops_mcp::{RemoteTool, ToolHints};

use crate::output::{OutputBudget, page_lines, search_lines};

/// Server name of the built-in tools.
pub(crate) const SERVER: &str = "k8sops";
const READ_OUTPUT: &str = "read_output";
const SEARCH_OUTPUT: &str = "search_output";
/// Bytes that are read from the store at once.
const READ_CHUNK_BYTES: usize = 4 << 20;

/// The built-in tools, as a server would list them.
pub(crate) static TOOLS: LazyLock<Vec<RemoteTool>> = LazyLock::new(|| {
    let (call, integer) = (json!({"type": "string"}), json!({"type": "integer"}));
    vec![
        built_in_tool(
            READ_OUTPUT,
            "Reads lines of an earlier output that was truncated or left out; `call` as that output names it.",
            &json!({"call": call, "from_line": integer, "from_byte": integer, "lines": {"type": "integer", "default": 200}}),
            &["call"],
        ),
        built_in_tool(
            SEARCH_OUTPUT,
            "Finds lines in an earlier output that was truncated or left out.",
            &json!({"call": call, "pattern": {"type": "string", "description": "A regular expression"},
                "context": integer, "max_matches": {"type": "integer", "default": 20}}),
            &["call", "pattern"],
        ),
    ]
});

fn built_in_tool(name: &str, description: &str, properties: &Value, required: &[&str]) -> RemoteTool {
    let schema =
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    RemoteTool {
        name: name.to_owned(),
        title: None,
        description: description.to_owned(),
        input_schema: schema.as_object().cloned().unwrap_or_default(),
        hints: ToolHints { read_only: Some(true), ..ToolHints::default() },
    }
}

/// Returns what a truncated output says about reading the rest.
pub(crate) fn reading_advice(call: &ToolCallId) -> String {
    format!(
        "{READ_OUTPUT}(call={:?}, from_line=N) shows more, {SEARCH_OUTPUT}(call={0:?}, pattern=…) finds lines",
        call.as_str()
    )
}

/// A call of a built-in tool failed. The message is for the model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputToolError {
    #[error("there is no tool {0}")]
    UnknownTool(String),
    #[error("the arguments are invalid: {0}")]
    InvalidArguments(#[source] serde_json::Error),
    #[error("there is no output of a call {0:?}; use the id that the truncated output names")]
    UnknownCall(String),
    #[error("the output cannot be read: {0}")]
    Store(#[from] StoreError),
    #[error("the stored output is not valid text: {0}")]
    NotText(#[from] std::string::FromUtf8Error),
    #[error("the search failed: {0}")]
    SearchFailed(#[from] JoinError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadOutputArguments {
    call: String,
    from_line: Option<u64>,
    from_byte: Option<u64>,
    lines: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchOutputArguments {
    call: String,
    pattern: String,
    context: Option<usize>,
    max_matches: Option<usize>,
}

/// What is kept of the output of a call.
struct KeptOutput {
    text: Arc<str>,
    /// Which part of the output is missing, in words.
    missing: Option<String>,
}

/// Runs a built-in tool. `keep_bytes` is how much of an output is stored at most.
pub(crate) async fn run_output_tool(
    outputs: &dyn OutputStore,
    log: &dyn SessionLog,
    session: SessionId,
    name: &str,
    arguments: &Map<String, Value>,
    budget: OutputBudget,
    keep_bytes: usize,
) -> Result<String, OutputToolError> {
    let arguments = Value::Object(arguments.clone());
    let (kept, shown) = match name {
        READ_OUTPUT => {
            let ReadOutputArguments { call, from_line, from_byte, lines } =
                serde_json::from_value(arguments).map_err(OutputToolError::InvalidArguments)?;
            let kept = load_kept_output(outputs, log, session, &call, keep_bytes).await?;
            let budget = budget_beside(budget, &kept);
            let first = from_line.unwrap_or(1).max(1);
            let shown = page_lines(&kept.text, first, from_byte, lines.unwrap_or(200).max(1), budget);
            (kept, shown)
        }
        SEARCH_OUTPUT => {
            let SearchOutputArguments { call, pattern, context, max_matches } =
                serde_json::from_value(arguments).map_err(OutputToolError::InvalidArguments)?;
            let kept = load_kept_output(outputs, log, session, &call, keep_bytes).await?;
            let context = context.unwrap_or(2);
            let max_matches = max_matches.unwrap_or(20).max(1);
            let budget = budget_beside(budget, &kept);
            let text = kept.text.clone();
            let search = move || search_lines(&text, &pattern, context, max_matches, budget);
            (kept, tokio::task::spawn_blocking(search).await?)
        }
        other => return Err(OutputToolError::UnknownTool(other.to_owned())),
    };
    Ok(kept.missing.map_or_else(|| shown.clone(), |missing| format!("{shown}\n[{missing}]")))
}

/// Returns what the note on the missing part leaves of the budget.
fn budget_beside(budget: OutputBudget, kept: &KeptOutput) -> OutputBudget {
    kept.missing.as_deref().map_or(budget, |missing| budget.minus(missing))
}

/// Returns the note on an output whose whole is lost.
fn no_longer_kept(bytes: u64) -> String {
    format!(
        "the whole output of {bytes} bytes is no longer kept; this is its shortened form, and parts of it are missing"
    )
}

/// Returns what is kept of the output of a call: the stored output, or the one in the log, which is whole if it was not
/// truncated.
async fn load_kept_output(
    outputs: &dyn OutputStore,
    log: &dyn SessionLog,
    session: SessionId,
    call: &str,
    keep_bytes: usize,
) -> Result<KeptOutput, OutputToolError> {
    let unknown_call = || OutputToolError::UnknownCall(call.to_owned());
    let id: ToolCallId = call.parse().map_err(|_| unknown_call())?;
    let mut bytes = Vec::new();
    while let Some(part) = outputs.read_output(session, &id, bytes.len() as u64, READ_CHUNK_BYTES).await? {
        bytes.extend(part.bytes);
        if bytes.len() as u64 >= part.total {
            let kept = bytes.len();
            let is_cut = match find_tool_end(log, session, &id).await? {
                Some(end) => (kept as u64) < end.bytes,
                // The store cuts an output at a character, which has at most four bytes.
                None => kept + 4 > keep_bytes,
            };
            let missing =
                is_cut.then(|| format!("the end of this output is missing: its first {kept} bytes were kept"));
            return Ok(KeptOutput { text: String::from_utf8(bytes)?.into(), missing });
        }
    }
    if let Some(end) = find_tool_end(log, session, &id).await? {
        let missing = end.truncated.then(|| no_longer_kept(end.bytes));
        return Ok(KeptOutput { text: end.content.into(), missing });
    }
    // The log of a `MEMORY_SHALLOW` session has lost the event, and an attachment is in its message.
    let state = load_state(log, session).await?.state;
    let logged_output = state.messages.iter().rev().find_map(|message| match message.as_ref() {
        ChatMessage::Tool(tool) if tool.tool_call_id == id => {
            Some(KeptOutput { text: tool.content.as_str().into(), missing: None })
        }
        ChatMessage::User(user) => {
            let attachment = user.attachments.iter().find(|attachment| attachment.attachment_id == id)?;
            let missing = attachment.truncated.then(|| no_longer_kept(attachment.bytes));
            Some(KeptOutput { text: attachment.text.as_str().into(), missing })
        }
        _ => None,
    });
    logged_output.ok_or_else(unknown_call)
}
