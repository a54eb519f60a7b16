//! An MCP server of our own, in process, whose tools a test makes up: for what no real server says on demand.

use std::sync::{Arc, Mutex};

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

type Answer = dyn Fn(&Map<String, Value>) -> Result<String, String> + Send + Sync;

/// The server. A clone is the same server.
#[derive(Clone, Default)]
pub struct FakeServer(Arc<State>);

#[derive(Default)]
struct State {
    tools: Mutex<Vec<(Tool, Arc<Answer>)>>,
    calls: Mutex<Vec<(String, Map<String, Value>)>>,
}

impl FakeServer {
    pub fn new() -> Self {
        Self::default()
    }

    /// A tool that its server says only reads.
    pub fn reads(
        self,
        name: &'static str,
        description: &str,
        answer: impl Fn(&Map<String, Value>) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.tool(name, description, Some(true), answer)
    }

    /// A tool; `read_only` is what its server says of it.
    pub fn tool(
        self,
        name: &'static str,
        description: &str,
        read_only: Option<bool>,
        answer: impl Fn(&Map<String, Value>) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        let schema = json!({"type": "object", "properties": {"replicas": {"type": "integer", "minimum": 0}}});
        let mut tool = Tool::new(name, description.to_owned(), schema.as_object().unwrap().clone());
        if let Some(read_only) = read_only {
            tool = tool.with_annotations(ToolAnnotations::new().read_only(read_only));
        }
        self.0.tools.lock().unwrap().push((tool, Arc::new(answer)));
        self
    }

    /// This, as a server of the service under test.
    pub fn server(&self, name: &str) -> (String, Arc<dyn McpConnector>) {
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

    /// The calls that came, in their order.
    pub fn calls(&self) -> Vec<(String, Map<String, Value>)> {
        self.0.calls.lock().unwrap().clone()
    }

    /// How often a tool was called.
    pub fn count(&self, name: &str) -> usize {
        self.calls().iter().filter(|(called, _)| called == name).count()
    }
}

impl ServerHandler for FakeServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.0.tools.lock().unwrap().iter().map(|(tool, _)| tool.clone()).collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        self.0.calls.lock().unwrap().push((request.name.to_string(), arguments.clone()));
        let tools = self.0.tools.lock().unwrap();
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
