//! An MCP server in the test's process whose tools the test defines, for results that no real server gives on demand.

use parking_lot::Mutex;
use std::sync::Arc;

use k8sops_mcp::{InProcessConnector, McpConnector};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
    },
    service::RequestContext,
};
use serde_json::{Map, Value, json};

type ToolFunction = dyn Fn(&Map<String, Value>) -> Result<String, String> + Send + Sync;

/// An MCP server with tools that a test defines. A clone is the same server.
#[derive(Clone, Default)]
pub struct FakeMcpServer(Arc<FakeServerState>);

#[derive(Default)]
struct FakeServerState {
    tools: Mutex<Vec<(Tool, Arc<ToolFunction>)>>,
    calls: Mutex<Vec<(String, Map<String, Value>)>>,
    instructions: Mutex<Option<String>>,
}

impl FakeMcpServer {
    /// Creates a server without tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tool that is declared read-only.
    #[must_use]
    pub fn read_only_tool(
        self,
        name: &'static str,
        description: &str,
        answer: impl Fn(&Map<String, Value>) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.tool(name, description, Some(true), answer)
    }

    /// Adds a tool. `read_only` is the hint that the server declares, if any. The tool returns the result of `answer`:
    /// a text, or the text of an error.
    #[must_use]
    pub fn tool(
        self,
        name: &'static str,
        description: &str,
        read_only: Option<bool>,
        answer: impl Fn(&Map<String, Value>) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        let properties = json!({"replicas": {"type": "integer", "minimum": 0}});
        self.add_tool(name, description, &properties, read_only, answer)
    }

    /// Sets the instructions that the server sends in the handshake.
    #[must_use]
    pub fn instructions(self, words: &str) -> Self {
        *self.0.instructions.lock() = Some(words.to_owned());
        self
    }

    /// Adds a tool that takes a command line.
    #[must_use]
    pub fn command_tool(
        self,
        name: &'static str,
        answer: impl Fn(&Map<String, Value>) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.add_tool(name, "Runs a command", &json!({"command": {"type": "string"}}), Some(false), answer)
    }

    fn add_tool(
        self,
        name: &'static str,
        description: &str,
        properties: &Value,
        read_only: Option<bool>,
        answer: impl Fn(&Map<String, Value>) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        let schema = json!({"type": "object", "properties": properties});
        let mut tool = Tool::new(name, description.to_owned(), schema.as_object().unwrap().clone());
        if let Some(read_only) = read_only {
            tool = tool.with_annotations(ToolAnnotations::new().read_only(read_only));
        }
        self.0.tools.lock().push((tool, Arc::new(answer)));
        self
    }

    /// Returns the name and connector with which the service under test uses this server.
    pub fn connector(&self, name: &str) -> (String, Arc<dyn McpConnector>) {
        let fake = self.clone();
        let connect = move || {
            let (client, server) = tokio::io::duplex(1 << 20);
            let fake = fake.clone();
            tokio::spawn(async move {
                if let Ok(running) = fake.serve(server).await {
                    let _ = running.waiting().await;
                }
            });
            Ok(client)
        };
        (name.to_owned(), Arc::new(InProcessConnector::new(connect)))
    }

    /// Returns the calls so far, in order: tool and arguments.
    pub fn calls(&self) -> Vec<(String, Map<String, Value>)> {
        self.0.calls.lock().clone()
    }

    /// Returns how often a tool was called.
    pub fn count_calls(&self, name: &str) -> usize {
        self.calls().iter().filter(|(called, _)| called == name).count()
    }
}

impl ServerHandler for FakeMcpServer {
    fn get_info(&self) -> ServerConfig {
        let config = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        match self.0.instructions.lock().clone() {
            Some(words) => config.with_instructions(words),
            None => config,
        }
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.0.tools.lock().iter().map(|(tool, _)| tool.clone()).collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        self.0.calls.lock().push((request.name.to_string(), arguments.clone()));
        let tools = self.0.tools.lock();
        let answer = tools.iter().find(|(tool, _)| tool.name == request.name).map(|(_, answer)| answer.clone());
        drop(tools);
        let answer = answer.ok_or_else(|| ErrorData::invalid_params("unknown tool", None))?;
        let result = match answer(&arguments) {
            Ok(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
            Err(text) => CallToolResult::error(vec![ContentBlock::text(text)]),
        };
        Ok(result.into())
    }
}
