//! Discovery of a server's tools. One that is no good costs the server that tool and not the others.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rmcp::{
    model::{ErrorCode, ListToolsResult, PaginatedRequestParams, ServerResult, SubscriptionFilter, Tool},
    service::ServiceError,
};
use serde_json::{Value, json};

use crate::{
    RemoteTool,
    convert::remote_tool,
    supervisor::{Live, service_error},
    transport::handshake::{ConnectError, quote},
};

/// More pages of tools than this is a server that goes in circles.
const MAX_PAGES: usize = 200;
/// More tools than this no model is told of; it bounds what a server can make us keep.
const MAX_TOOLS: usize = 10_000;
/// The longest name of a tool; MCP recommends at most 128 characters.
const MAX_NAME: usize = 256;
/// In the place of what a tool's arguments are, when the tool cannot be read.
const UNREADABLE: &str = "unreadable";
/// How long after a subscription has ended, or was refused, the next is tried.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(30);

/// Why the tools of a server could not be listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the server does not answer")]
    Silent,
    #[error("the tools of the server cannot be listed: {0}")]
    Failed(String),
}

impl Fault {
    pub(crate) fn into_connect_error(self, limit: Duration) -> ConnectError {
        match self {
            Self::Silent => {
                ConnectError::Timeout(format!("the server did not list its tools within {} s", limit.as_secs_f32()))
            }
            Self::Failed(_) => ConnectError::Handshake(self.to_string()),
        }
    }
}

/// The tools of one connection that were warned about: a list is read again and again.
#[derive(Debug, Default)]
pub(crate) struct Dropped(Mutex<HashSet<String>>);

impl Dropped {
    fn warn(&self, server: &str, tool: &str, why: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_TOOLS && known.insert(format!("{tool}: {why}")) {
            tracing::warn!(server, tool = quote(tool), why, "a tool of an MCP server is left out");
        }
    }
}

/// Lists all tools; this is also how a server is asked whether it is there.
pub(crate) async fn discover(live: &Live, limit: Duration) -> Result<Vec<RemoteTool>, Fault> {
    tokio::time::timeout(limit, list(live)).await.unwrap_or(Err(Fault::Silent))
}

async fn list(live: &Live) -> Result<Vec<RemoteTool>, Fault> {
    let mut tools = Vec::new();
    let mut names = HashSet::new();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let page = match live.peer.list_tools(Some(params)).await {
            Ok(page) => page,
            // A server without tools, and one that answers.
            Err(ServiceError::McpError(e)) if e.code == ErrorCode::METHOD_NOT_FOUND => return Ok(tools),
            Err(error) => return Err(Fault::Failed(service_error(&error, live))),
        };
        for tool in page.tools {
            let why = match fault_of(&tool) {
                Some(why) => why,
                None if names.len() == MAX_TOOLS => "the server has too many",
                None if !names.insert(tool.name.clone()) => "the server has another of that name",
                None => {
                    tools.push(remote_tool(tool));
                    continue;
                }
            };
            live.dropped.warn(live.handler.server(), &tool.name, why);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(tools);
        }
    }
    Err(Fault::Failed(format!("more than {MAX_PAGES} pages")))
}

/// What makes a tool unusable, whatever it does.
fn fault_of(tool: &Tool) -> Option<&'static str> {
    if tool.name.trim().is_empty() {
        return Some("it has no name");
    }
    if tool.name.len() > MAX_NAME || tool.name.chars().any(char::is_control) {
        return Some("its name is too long or has control characters");
    }
    match tool.input_schema.get("type") {
        None => None,
        Some(Value::String(kind)) if kind == "object" => None,
        Some(Value::String(kind)) if kind == UNREADABLE => Some("its description cannot be read"),
        Some(_) => Some("its arguments are not an object"),
    }
}

/// Makes a list of tools of an answer that the SDK could not read as one; the tools that are to blame are marked, to be left
/// out by [`list`]. Any other answer stays as it is.
pub(crate) fn mend(result: &mut ServerResult) -> bool {
    let ServerResult::CustomResult(custom) = result else { return false };
    let Value::Object(answer) = &mut custom.0 else { return false };
    let Some(Value::Array(tools)) = answer.get_mut("tools") else { return false };
    for tool in tools {
        if serde_json::from_value::<Tool>(tool.clone()).is_err() {
            let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
            *tool = json!({"name": name, "inputSchema": {"type": UNREADABLE}});
        }
    }
    let Ok(list) = serde_json::from_value::<ListToolsResult>(custom.0.take()) else { return false };
    *result = ServerResult::ListToolsResult(list);
    true
}

/// Listens for changes of the tools, on a server of the era in which that must be asked for. Never ends.
pub(crate) async fn listen(live: &Live) -> std::convert::Infallible {
    let subscribes = live.peer.peer_info().is_some_and(|info| {
        !info.protocol_version.has_initialize()
            && info.capabilities.tools.as_ref().is_some_and(|tools| tools.list_changed == Some(true))
    });
    if !subscribes {
        std::future::pending::<()>().await;
    }
    loop {
        match live.peer.listen(SubscriptionFilter::builder().tools_list_changed().build()).await {
            Ok(mut subscription) => {
                // What changed before the server listened to us was not told.
                live.handler.note_tools_changed();
                while let Ok(Some(_)) = subscription.next().await {
                    live.handler.note_tools_changed();
                }
            }
            Err(error) => {
                let error = service_error(&error, live);
                tracing::debug!(server = live.handler.server(), error, "an MCP server does not tell of changed tools");
            }
        }
        tokio::time::sleep(SUBSCRIBE_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(result: &ServerResult) -> Vec<&str> {
        let ServerResult::ListToolsResult(list) = result else { panic!("{result:?}") };
        list.tools.iter().filter(|tool| fault_of(tool).is_none()).map(|tool| &*tool.name).collect()
    }

    #[test]
    fn a_tool_that_cannot_be_read_costs_no_other() {
        for kind in [json!(null), json!("complete")] {
            let mut answer = json!({"nextCursor": "2", "tools": [
                {"name": "good", "inputSchema": {"type": "object"}},
                {"name": "bad", "inputSchema": "no schema"},
                {"inputSchema": {"type": "object"}},
                "no tool",
                {"name": "hints", "inputSchema": {}, "annotations": {"readOnlyHint": "yes"}},
                {"name": "last", "inputSchema": {}},
            ]});
            if kind.is_string() {
                answer["resultType"] = kind;
            }
            let mut result: ServerResult = serde_json::from_value(answer).unwrap();
            assert!(mend(&mut result));
            assert_eq!(names(&result), ["good", "last"]);
            let ServerResult::ListToolsResult(list) = result else { unreachable!() };
            assert_eq!(list.next_cursor.as_deref(), Some("2"));
        }
    }

    #[test]
    fn an_answer_that_is_no_list_of_tools_stays_as_it_is() {
        for answer in [json!({"tools": 5}), json!({"anything": 1}), json!({"content": []})] {
            let mut result: ServerResult = serde_json::from_value(answer).unwrap();
            let before = result.clone();
            assert!(!mend(&mut result));
            assert_eq!(serde_json::to_value(result).unwrap(), serde_json::to_value(before).unwrap());
        }
    }

    #[test]
    fn a_tool_without_a_name_or_with_arguments_that_are_no_object_is_no_good() {
        let fault = |name: &str, schema: Value| {
            fault_of(&Tool::new(
                name.to_owned(),
                "",
                serde_json::from_value::<rmcp::model::JsonObject>(schema).unwrap(),
            ))
        };
        assert_eq!(fault("pods", json!({"type": "object"})), None);
        assert_eq!(fault("pods/list.v1 ü", json!({})), None);
        assert!(fault(" ", json!({})).is_some());
        assert!(fault("a\nb", json!({})).is_some());
        assert!(fault(&"n".repeat(257), json!({})).is_some());
        assert!(fault("pods", json!({"type": "string"})).is_some());
    }
}
