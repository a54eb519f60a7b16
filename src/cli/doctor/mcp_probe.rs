//! One harmless call of an MCP server: a server can list its tools although its cluster is gone.

use std::time::Duration;

use k8sops_core::{ErrorChain, printable_excerpt};
use k8sops_mcp::{CallLimits, McpCallContext, McpHub, RemoteTool, ServerStatus};
use serde_json::{Map, Value};

/// Longest time that the call may take.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Values for required arguments, which make a call a look at something that every cluster has.
const ARGUMENTS: &[(&str, &str)] = &[
    ("resourceType", "namespaces"),
    ("resource_type", "namespaces"),
    ("resource", "namespaces"),
    ("kind", "Namespace"),
    ("apiVersion", "v1"),
    ("api_version", "v1"),
    ("namespace", "default"),
];
/// Parts of the names of tools that look at the cluster, the best first.
const PREFERRED: &[&str] = &["namespace", "list", "version", "get", "status"];
/// Parts of the names of tools that read no cluster, or much of it.
const AVOIDED: &[&str] = &["config", "context", "ping", "log", "secret", "doc", "explain", "help", "env"];

/// What the call found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProbeOutcome {
    /// The tool answered.
    Answered { tool: String },
    /// The tool failed, and what it said.
    Failed { tool: String, error: String },
    /// No tool is known to be harmless, so none was called.
    NothingToCall,
}

/// Calls a tool that only reads, by the server's own word, and that needs no arguments that have to be guessed.
pub(super) async fn probe_tool(hub: &McpHub, status: &ServerStatus) -> ProbeOutcome {
    let Some((tool, arguments)) = choose_call(&status.tools) else { return ProbeOutcome::NothingToCall };
    let context = McpCallContext::with_limits(CallLimits::uniform(CALL_TIMEOUT));
    let tool = tool.name.clone();
    match hub.call_tool(&status.name, &tool, arguments, context).await {
        Ok(output) if output.is_error => ProbeOutcome::Failed { tool, error: printable_excerpt(output.text.trim()) },
        Ok(_) => ProbeOutcome::Answered { tool },
        Err(error) => ProbeOutcome::Failed { tool, error: ErrorChain(&error).to_string() },
    }
}

/// Chooses the call that says most about the cluster behind a server.
fn choose_call(tools: &[RemoteTool]) -> Option<(&RemoteTool, Map<String, Value>)> {
    let calls = tools.iter().filter(|tool| tool.hints.read_only == Some(true)).filter_map(|tool| {
        let name = tool.name.to_ascii_lowercase();
        let rank = PREFERRED.iter().position(|part| name.contains(part))?;
        let is_avoided = AVOIDED.iter().any(|part| name.contains(part));
        let arguments = required_arguments(&tool.input_schema)?;
        (!is_avoided).then_some(((rank, arguments.len()), tool, arguments))
    });
    calls.min_by_key(|(rank, ..)| *rank).map(|(_, tool, arguments)| (tool, arguments))
}

/// Returns values for all required arguments; `None` if one is not known.
fn required_arguments(schema: &Map<String, Value>) -> Option<Map<String, Value>> {
    let required = schema.get("required").and_then(Value::as_array);
    let value = |key: &Value| {
        let (name, value) = ARGUMENTS.iter().find(|(name, _)| key == *name)?;
        Some(((*name).to_owned(), Value::from(*value)))
    };
    required.into_iter().flatten().map(value).collect()
}

#[cfg(test)]
mod tests {
    use k8sops_mcp::ToolHints;
    use serde_json::json;

    use super::*;

    fn tool(name: &str, read_only: Option<bool>, required: &[&str]) -> RemoteTool {
        RemoteTool {
            name: name.to_owned(),
            title: None,
            description: String::new(),
            input_schema: json!({"required": required}).as_object().cloned().unwrap_or_default(),
            hints: ToolHints { read_only, ..ToolHints::default() },
        }
    }

    #[test]
    fn call_that_looks_at_the_cluster_is_chosen() {
        let chosen = |tools: &[RemoteTool]| {
            choose_call(tools).map(|(tool, arguments)| format!("{} {}", tool.name, Value::Object(arguments)))
        };
        let kubernetes = [
            tool("configuration_view", Some(true), &[]),
            tool("pods_list", Some(true), &[]),
            tool("namespaces_list", Some(true), &[]),
            tool("pods_delete", Some(false), &["name"]),
        ];
        assert_eq!(chosen(&kubernetes).as_deref(), Some("namespaces_list {}"));
        let kubectl = [tool("ping", Some(true), &[]), tool("kubectl_get", Some(true), &["resourceType"])];
        assert_eq!(chosen(&kubectl).as_deref(), Some("kubectl_get {\"resourceType\":\"namespaces\"}"));
        let unknown = [tool("list_applications", None, &[]), tool("get_pod", Some(true), &["name"])];
        assert_eq!(chosen(&unknown), None);
    }
}
