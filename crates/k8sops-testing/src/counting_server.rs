//! An MCP server in the test's process with two tools, `look` (read-only) and `change`, which count their calls.

use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};

use k8sops_mcp::{InProcessConnector, McpConnector};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
    },
    service::RequestContext,
};

use crate::scripted_model::TestGate;

/// An MCP server that counts the calls of its tools, and holds them if told to. A clone is the same server.
#[derive(Clone, Default)]
pub struct CountingMcpServer(Arc<CountingServerState>);

#[derive(Default)]
struct CountingServerState {
    calls: Mutex<HashMap<String, usize>>,
    held: Mutex<HashMap<String, TestGate>>,
}

impl CountingMcpServer {
    /// Creates a server that holds no call.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the name and connector with which the service under test uses this server.
    pub fn connector(&self) -> (String, Arc<dyn McpConnector>) {
        let gate = TestGate::new();
        gate.open();
        self.connector_behind(gate)
    }

    /// Returns a name and connector as [`Self::connector`]. The server responds after the gate is opened.
    pub fn connector_behind(&self, gate: TestGate) -> (String, Arc<dyn McpConnector>) {
        let tools = self.clone();
        let connect = move || {
            let (client, server) = tokio::io::duplex(64 * 1024);
            let (tools, gate) = (tools.clone(), gate.clone());
            tokio::spawn(async move {
                gate.pass().await;
                if let Ok(running) = tools.serve(server).await {
                    let _ = running.waiting().await;
                }
            });
            Ok(client)
        };
        ("counting".into(), Arc::new(InProcessConnector::new(connect)))
    }

    /// Returns how often a tool was called.
    pub fn count_calls(&self, name: &str) -> usize {
        self.0.calls.lock().get(name).copied().unwrap_or_default()
    }

    /// Holds the calls of a tool from now on, until the gate is opened for each.
    pub fn hold_calls(&self, name: &str) -> TestGate {
        let gate = TestGate::new();
        self.0.held.lock().insert(name.into(), gate.clone());
        gate
    }
}

impl ServerHandler for CountingMcpServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tool = |name: &'static str, read_only| {
            let schema = serde_json::json!({"type": "object", "properties": {}});
            let tool = Tool::new(name, format!("Does {name}."), schema.as_object().unwrap().clone());
            tool.with_annotations(ToolAnnotations::new().read_only(read_only))
        };
        Ok(ListToolsResult::with_all_items(vec![tool("look", true), tool("change", false)]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.to_string();
        *self.0.calls.lock().entry(name.clone()).or_default() += 1;
        let held = self.0.held.lock().get(&name).cloned();
        if let Some(gate) = held {
            gate.pass().await;
        }
        Ok(CallToolResult::success(vec![ContentBlock::text(format!("{name} done"))]).into())
    }
}
