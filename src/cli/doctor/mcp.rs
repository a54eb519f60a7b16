//! The check of an MCP server.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    mcp_probe::{CALL_TIMEOUT, ProbeOutcome, probe_tool},
    report::{HealthCheck, ReportLine},
};
use k8sops_core::{ErrorChain, mask_url};
use k8sops_mcp::{McpHub, McpOptions, McpServerConfig, McpTransport, ServerStatus, WAITS_FOR_TOKEN, build_connector};

/// How long closing a server may take after the call.
const CLOSE_TIME: Duration = Duration::from_secs(30);

/// Checks the connection to an MCP server.
pub(super) struct McpServerCheck {
    pub(super) config: McpServerConfig,
    /// How long the server may take to start.
    pub(super) connect_timeout: Duration,
    /// What was found at the server; `None` if the hub does not know it.
    pub(super) probed: BoxFuture<'static, Option<ProbedServer>>,
}

/// What was found at a server.
pub(super) struct ProbedServer {
    /// The status after the first attempt to connect.
    status: Arc<ServerStatus>,
    /// What a harmless call found, if the server is connected.
    outcome: Option<ProbeOutcome>,
}

#[async_trait]
impl HealthCheck for McpServerCheck {
    fn subject(&self) -> String {
        subject(&self.config)
    }

    /// A slow start and a hanging call are reported as what they are, and not as a check without an answer.
    fn time_limit(&self) -> Duration {
        self.connect_timeout + CALL_TIMEOUT + CLOSE_TIME
    }

    async fn run(self: Box<Self>) -> Vec<ReportLine> {
        let probed = self.probed.await;
        let outcome = probed.as_ref().and_then(|probed| probed.outcome.as_ref());
        vec![status_line(&self.config, probed.as_ref().map(|probed| &*probed.status), outcome)]
    }
}

fn subject(config: &McpServerConfig) -> String {
    format!("mcp {}", config.name)
}

/// Returns the report line for the status of an MCP server.
fn status_line(config: &McpServerConfig, status: Option<&ServerStatus>, outcome: Option<&ProbeOutcome>) -> ReportLine {
    let subject = subject(config);
    let from_environment = config.name == "default";
    let (location, advice) = match &config.transport {
        McpTransport::Http { url, .. } => {
            let setting = if from_environment { "MCP_SERVER_URL" } else { "its url in your YAML" };
            (mask_url(url), format!("start the server or set {setting}"))
        }
        McpTransport::Stdio { command, .. } => {
            let setting = if from_environment { "MCP_SERVER_COMMAND" } else { "its command in your YAML" };
            (command.clone(), format!("run the command by hand to see its output, or set {setting}"))
        }
    };
    match status {
        Some(status) if status.connected && status.tools.is_empty() => {
            ReportLine::notice(subject, format!("connected to {location}, which offers no tools"))
        }
        Some(status) if status.connected => {
            let tools = format!("{} tools at {location}", status.tools.len());
            match outcome {
                Some(ProbeOutcome::Answered { tool }) => {
                    ReportLine::passed(subject, format!("{tools}, and {tool} answers"))
                }
                Some(ProbeOutcome::Failed { tool, error }) => {
                    let advice = "check that the server reaches its cluster, and with which credentials".to_owned();
                    ReportLine::failed(subject, format!("{tools}, but {tool} fails: {error}"), advice)
                }
                Some(ProbeOutcome::NothingToCall) => {
                    ReportLine::passed(subject, format!("{tools}; none is known to be harmless, so none was called"))
                }
                None => ReportLine::passed(subject, tools),
            }
        }
        Some(status) if status.error.as_deref() == Some(WAITS_FOR_TOKEN) => {
            ReportLine::notice(subject, format!("not checked: {WAITS_FOR_TOKEN} ({location})"))
        }
        Some(status) => {
            let error = status.error.as_deref().unwrap_or("no connection yet");
            // Many errors name the location themselves.
            let found = if error.contains(&location) { error.to_owned() } else { format!("{error} at {location}") };
            ReportLine::failed(subject, found, advice)
        }
        None => ReportLine::failed(subject, format!("not started ({location})"), advice),
    }
}

/// Reports that no MCP server is configured.
pub(super) struct NoMcpServersCheck;

#[async_trait]
impl HealthCheck for NoMcpServersCheck {
    fn subject(&self) -> String {
        "mcp".to_owned()
    }

    async fn run(self: Box<Self>) -> Vec<ReportLine> {
        let found = "no server is configured, so the agent has no tools: set MCP_SERVER_URL or MCP_SERVER_COMMAND";
        vec![ReportLine::notice(self.subject(), found)]
    }
}

/// Tries to connect to an MCP server once, and makes one harmless call.
pub(super) async fn probe_mcp_server(server: McpServerConfig, config: McpOptions) -> Option<ProbedServer> {
    let tasks = TaskTracker::new();
    let connector = match build_connector(&server.transport) {
        Ok(connector) => connector,
        Err(error) => {
            let status = ServerStatus {
                name: server.name,
                transport: "",
                connected: false,
                starting: false,
                error: Some(ErrorChain(&error).to_string()),
                identity: Arc::default(),
                tools: Arc::new([]),
                skipped: Arc::new([]),
            };
            return Some(ProbedServer { status: Arc::new(status), outcome: None });
        }
    };
    let hub = McpHub::start(vec![(server.name, connector)], &config, tasks.clone(), &CancellationToken::new());
    hub.wait_until_started().await;
    let status = hub.statuses().pop();
    let probed = match status {
        Some(status) if status.connected => {
            let outcome = Some(probe_tool(&hub, &status).await);
            Some(ProbedServer { status, outcome })
        }
        status => status.map(|status| ProbedServer { status, outcome: None }),
    };
    hub.close().await;
    tasks.close();
    tasks.wait().await;
    probed
}

#[cfg(test)]
mod tests {
    use super::{super::testing::load_config, *};
    use k8sops_mcp::{RemoteTool, ToolHints};

    fn disconnected() -> ServerStatus {
        ServerStatus {
            name: "default".into(),
            transport: "http",
            connected: false,
            starting: false,
            error: Some("connection refused".into()),
            identity: Arc::default(),
            tools: Arc::new([]),
            skipped: Arc::new([]),
        }
    }

    fn server_at(url: &str) -> McpServerConfig {
        load_config(&[("MCP_SERVER_URL", url)]).config.mcp.servers.remove(0)
    }

    fn connected_with_tools(count: usize) -> ServerStatus {
        let tool = RemoteTool {
            name: "t".into(),
            title: None,
            description: String::new(),
            input_schema: serde_json::Map::new(),
            hints: ToolHints::default(),
        };
        ServerStatus { connected: true, error: None, tools: vec![tool; count].into(), ..disconnected() }
    }

    #[test]
    fn server_that_starts_slowly_is_waited_for() {
        let loaded = load_config(&[("MCP_SERVER_URL", "http://127.0.0.1:9/mcp")]).config.mcp;
        let connect_timeout = loaded.connect_timeout;
        let config = loaded.servers.into_iter().next().unwrap();
        let check = McpServerCheck { config, connect_timeout, probed: Box::pin(async { None }) };
        assert!(check.time_limit() > connect_timeout + CALL_TIMEOUT);
    }

    #[test]
    fn server_status_becomes_a_report_line() {
        let server = server_at("http://127.0.0.1:9/mcp");
        let waiting = ServerStatus { error: Some(WAITS_FOR_TOKEN.to_owned()), ..disconnected() };
        let statuses = [
            Some(&connected_with_tools(2)),
            Some(&connected_with_tools(0)),
            Some(&waiting),
            Some(&disconnected()),
            None,
        ];
        let lines: Vec<String> =
            statuses.into_iter().map(|status| status_line(&server, status, None).render()).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        ok    mcp default: 2 tools at http://127.0.0.1:9/mcp
        note  mcp default: connected to http://127.0.0.1:9/mcp, which offers no tools
        note  mcp default: not checked: waits for a user's token (http://127.0.0.1:9/mcp)
        FAIL  mcp default: connection refused at http://127.0.0.1:9/mcp — start the server or set MCP_SERVER_URL
        FAIL  mcp default: not started (http://127.0.0.1:9/mcp) — start the server or set MCP_SERVER_URL
        ");
    }

    #[test]
    fn server_whose_cluster_is_gone_fails() {
        let server = server_at("http://127.0.0.1:9/mcp");
        let line =
            |outcome: ProbeOutcome| status_line(&server, Some(&connected_with_tools(2)), Some(&outcome)).render();
        let tool = || "namespaces_list".to_owned();
        let failed = line(ProbeOutcome::Failed { tool: tool(), error: "connection refused".to_owned() });
        assert!(
            failed.starts_with(
                "FAIL  mcp default: 2 tools at http://127.0.0.1:9/mcp, but namespaces_list fails: connection refused"
            ),
            "{failed}"
        );
        let answered = line(ProbeOutcome::Answered { tool: tool() });
        assert_eq!(answered, "ok    mcp default: 2 tools at http://127.0.0.1:9/mcp, and namespaces_list answers");
    }

    #[test]
    fn secrets_in_the_url_are_masked() {
        let server = server_at("http://me:secret@127.0.0.1:9/mcp?token=secret");
        for status in [Some(&connected_with_tools(0)), Some(&disconnected()), Some(&connected_with_tools(1)), None] {
            let line = status_line(&server, status, None).render();
            assert!(line.contains("127.0.0.1:9/mcp") && !line.contains("secret"), "{line}");
        }
    }
}
