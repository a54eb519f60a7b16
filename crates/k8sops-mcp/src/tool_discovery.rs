//! Discovery of a server's tools. A tool that cannot be used is skipped; the others stay available.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rmcp::{
    model::{ErrorCode, PaginatedRequestParams, Tool},
    service::ServiceError,
};

use crate::{
    RemoteTool, ServerIdentity, ServerStatus, SkippedTool, active_connection::ActiveConnection,
    convert::to_remote_tool, request_error::RequestError, server_text::quote_server_text,
    tool_list_repair::is_marked_invalid,
};

/// Pages of a list of tools that are read.
const MAX_PAGES: usize = 200;
/// Tools that a server may have. It bounds how much a server can make us store.
const MAX_TOOLS: usize = 10_000;
/// Skipped tools that are published.
const MAX_SKIPPED: usize = 100;
/// Longest name of a tool, in bytes. MCP recommends at most 128 characters.
const MAX_NAME_BYTES: usize = 256;

/// Why the tools of a server could not be listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    #[error("the server did not list its tools within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("cannot list the server's tools")]
    Request(#[source] RequestError),
}

/// The tools that a server lists, and what it says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct DiscoveredTools {
    pub(crate) tools: Vec<RemoteTool>,
    /// Those that cannot be used.
    pub(crate) skipped: Vec<SkippedTool>,
    pub(crate) identity: Arc<ServerIdentity>,
}

impl From<&ServerStatus> for DiscoveredTools {
    fn from(status: &ServerStatus) -> Self {
        Self { tools: status.tools.to_vec(), skipped: status.skipped.to_vec(), identity: status.identity.clone() }
    }
}

/// Lists all tools of a server. This is also the health check of a connection.
pub(crate) async fn discover_tools(
    connection: &ActiveConnection,
    limit: Duration,
) -> Result<DiscoveredTools, DiscoveryError> {
    tokio::time::timeout(limit, list_all_pages(connection)).await.unwrap_or(Err(DiscoveryError::Timeout(limit)))
}

async fn list_all_pages(connection: &ActiveConnection) -> Result<DiscoveredTools, DiscoveryError> {
    let handler = &connection.handler;
    let identity = ServerIdentity::of_peer(&connection.peer).into();
    let mut discovered = DiscoveredTools { identity, ..DiscoveredTools::default() };
    let mut names = HashSet::new();
    let mut cursor: Option<String> = None;
    let mut seen_cursors = HashSet::new();
    for _ in 0..MAX_PAGES {
        let params = PaginatedRequestParams::default().with_cursor(cursor.take());
        let page = match connection.peer.list_tools(Some(params)).await {
            Ok(page) => page,
            // A healthy server without tools.
            Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => return Ok(discovered),
            // The server is healthy, and what it listed before can be used.
            Err(ServiceError::McpError(error)) if !discovered.tools.is_empty() => {
                tracing::warn!(server = handler.server(), reason = %error.message, "mcp tool list cut: a page failed");
                return Ok(discovered);
            }
            Err(error) => {
                let error = RequestError::from_service_error(&error, || handler.close_reason());
                return Err(DiscoveryError::Request(error));
            }
        };
        for tool in page.tools {
            let reason = match reason_to_skip(&tool) {
                Some(reason) => reason,
                None if names.len() == MAX_TOOLS => "the server has too many tools",
                None if !names.insert(tool.name.clone()) => "the server has another tool of that name",
                None => {
                    discovered.tools.push(to_remote_tool(tool));
                    continue;
                }
            };
            connection.skipped_tools.warn_once(handler.server(), &tool.name, reason);
            if discovered.skipped.len() < MAX_SKIPPED {
                let name = quote_server_text(&tool.name);
                discovered.skipped.push(SkippedTool { name, reason: reason.to_owned() });
            }
        }
        // Some servers end their list with an empty cursor, and some repeat one: what they listed counts.
        match page.next_cursor {
            Some(next) if !next.is_empty() && seen_cursors.insert(next.clone()) => cursor = Some(next),
            _ => return Ok(discovered),
        }
    }
    tracing::warn!(server = handler.server(), MAX_PAGES, "mcp tool list cut: too many pages");
    Ok(discovered)
}

/// Why a tool cannot be used; `None` if it can.
fn reason_to_skip(tool: &Tool) -> Option<&'static str> {
    if tool.name.trim().is_empty() {
        return Some("it has no name");
    }
    if tool.name.len() > MAX_NAME_BYTES || tool.name.chars().any(char::is_control) {
        return Some("its name is too long or contains control characters");
    }
    if is_marked_invalid(tool) {
        return Some("its entry in the list of tools cannot be parsed");
    }
    None
}

#[cfg(test)]
mod tests {
    use rmcp::model::JsonObject;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn tools_without_valid_name_are_skipped() {
        let reason = |name: &str, schema: Value| {
            let schema: JsonObject = serde_json::from_value(schema).unwrap();
            reason_to_skip(&Tool::new(name.to_owned(), "", schema))
        };
        assert_eq!(reason("pods", json!({"type": "object"})), None);
        assert_eq!(reason("pods/list.v1 ü", json!({})), None);
        assert!(reason(" ", json!({})).is_some());
        assert!(reason("a\nb", json!({})).is_some());
        assert!(reason(&"n".repeat(257), json!({})).is_some());
    }
}
