//! The check of an MCP server.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Check, Line};
use k8sops_core::{ErrorChain, mask_url};
use k8sops_mcp::{McpConfig, McpHub, McpServerConfig, McpTransport, ServerStatus, WAITS_FOR_TOKEN, build_connector};

/// An MCP server.
pub struct McpCheck {
    /// Its configuration.
    pub config: McpServerConfig,
    /// Its status once it is connected or the attempt has failed; `None` when the hub does not know it.
    pub status: BoxFuture<'static, Option<Arc<ServerStatus>>>,
}

#[async_trait]
impl Check for McpCheck {
    fn what(&self) -> String {
        format!("mcp {}", self.config.name)
    }

    async fn run(self: Box<Self>) -> Vec<Line> {
        let status = self.status.await;
        vec![mcp_line(&self.config, status.as_deref())]
    }
}

/// What the status of an MCP server comes to.
#[must_use]
pub fn mcp_line(config: &McpServerConfig, status: Option<&ServerStatus>) -> Line {
    let what = format!("mcp {}", config.name);
    let single = config.name == "default";
    let (place, advice) = match &config.transport {
        McpTransport::Http { url, .. } => {
            let variable = if single { "MCP_SERVER_URL" } else { "its url in your YAML" };
            (mask_url(url), format!("start the server or set {variable}"))
        }
        McpTransport::Stdio { command, .. } => {
            let variable = if single { "MCP_SERVER_COMMAND" } else { "its command in your YAML" };
            (command.clone(), format!("run the command by hand to see what it says, or set {variable}"))
        }
    };
    match status {
        Some(status) if status.connected && status.tools.is_empty() => {
            Line::note(what, format!("connected to {place}, and it offers no tools"))
        }
        Some(status) if status.connected => Line::ok(what, format!("{} tools at {place}", status.tools.len())),
        Some(status) if status.error.as_deref() == Some(WAITS_FOR_TOKEN) => {
            Line::note(what, format!("{WAITS_FOR_TOKEN}, so it was not tried ({place})"))
        }
        Some(status) => {
            let error = status.error.as_deref().unwrap_or("no connection yet");
            // Many errors name the place themselves.
            let found = if error.contains(&place) { error.to_owned() } else { format!("{error} at {place}") };
            Line::fail(what, found, advice)
        }
        None => Line::fail(what, format!("it was not started ({place})"), advice),
    }
}

/// What is said when no MCP server is configured.
pub struct NoMcpServers;

#[async_trait]
impl Check for NoMcpServers {
    fn what(&self) -> String {
        "mcp".to_owned()
    }

    async fn run(self: Box<Self>) -> Vec<Line> {
        vec![Line::note(
            "mcp",
            "no server is configured, so the agent has no tools: set MCP_SERVER_URL or MCP_SERVER_COMMAND",
        )]
    }
}

/// An MCP server as it stands once it is connected, or the first attempt has failed.
pub(super) async fn connected_once(server: McpServerConfig, config: McpConfig) -> Option<Arc<ServerStatus>> {
    let tasks = TaskTracker::new();
    let connector = match build_connector(&server.transport) {
        Ok(connector) => connector,
        Err(error) => {
            return Some(Arc::new(ServerStatus {
                name: server.name,
                transport: "",
                connected: false,
                error: Some(ErrorChain(&error).to_string()),
                tools: Arc::new([]),
            }));
        }
    };
    let hub = McpHub::start(vec![(server.name, connector)], &config, tasks.clone(), &CancellationToken::new());
    hub.refresh_tools().await;
    let status = hub.statuses().pop();
    hub.close().await;
    tasks.close();
    tasks.wait().await;
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::tests::config;

    #[test]
    fn an_mcp_server_is_judged_by_its_status() {
        let config = config(&[("MCP_SERVER_URL", "http://127.0.0.1:9/mcp")]).config.mcp.servers.remove(0);
        let down = ServerStatus {
            name: "default".into(),
            transport: "http",
            connected: false,
            error: Some("connection refused".into()),
            tools: Arc::new([]),
        };
        assert_eq!(
            mcp_line(&config, Some(&down)).render(),
            "FAIL  mcp default: connection refused at http://127.0.0.1:9/mcp — start the server or set MCP_SERVER_URL"
        );
        let up = ServerStatus { connected: true, error: None, ..down };
        assert!(mcp_line(&config, Some(&up)).render().starts_with("note  mcp default: connected"));
        assert!(mcp_line(&config, None).render().starts_with("FAIL  mcp default: it was not started"));
    }

    #[test]
    fn no_line_shows_the_secrets_of_a_url() {
        let url = "http://me:secret@127.0.0.1:9/mcp?token=secret";
        let server = config(&[("MCP_SERVER_URL", url)]).config.mcp.servers.remove(0);
        let up = ServerStatus {
            name: "default".into(),
            transport: "http",
            connected: true,
            error: None,
            tools: Arc::new([]),
        };
        let down = ServerStatus { connected: false, error: Some("connection refused".into()), ..up.clone() };
        let tool = k8sops_mcp::RemoteTool {
            name: "t".into(),
            description: String::new(),
            input_schema: serde_json::Map::new(),
            hints: k8sops_mcp::ToolHints::default(),
        };
        let with_tools = ServerStatus { tools: Arc::new([tool]), ..up.clone() };
        for status in [Some(&up), Some(&down), Some(&with_tools), None] {
            let line = mcp_line(&server, status).render();
            assert!(line.contains("127.0.0.1:9/mcp") && !line.contains("secret"), "{line}");
        }
    }
}
