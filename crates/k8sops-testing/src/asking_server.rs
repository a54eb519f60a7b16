//! An MCP server in the test's process whose tool `ask` asks the user something before it ends.

use parking_lot::Mutex;
use std::sync::Arc;

use k8sops_mcp::{InProcessConnector, McpConnector};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ElicitRequestParams, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

/// An MCP server that asks for a form, and keeps the answers. A clone is the same server.
#[derive(Clone)]
pub struct AskingMcpServer(Arc<AskingServerState>);

struct AskingServerState {
    request: ElicitRequestParams,
    answers: Mutex<Vec<Value>>,
}

impl AskingMcpServer {
    /// Creates a server that asks for a form.
    ///
    /// # Panics
    /// The schema is not one that MCP allows for forms.
    pub fn for_form(message: &str, schema: &Value) -> Self {
        let request = json!({"mode": "form", "message": message, "requestedSchema": schema});
        let request = serde_json::from_value(request).expect("MCP allows the schema");
        Self(Arc::new(AskingServerState { request, answers: Mutex::default() }))
    }

    /// Returns the name and connector with which the service under test uses this server.
    pub fn connector(&self) -> (String, Arc<dyn McpConnector>) {
        let asking = self.clone();
        let connect = move || {
            let (client, server) = tokio::io::duplex(64 * 1024);
            let asking = asking.clone();
            tokio::spawn(async move {
                if let Ok(running) = asking.serve(server).await {
                    let _ = running.waiting().await;
                }
            });
            Ok(client)
        };
        ("asking".into(), Arc::new(InProcessConnector::new(connect)))
    }

    /// Returns the answers: `action`, and `content` if there is one.
    pub fn answers(&self) -> Vec<Value> {
        self.0.answers.lock().clone()
    }
}

impl ServerHandler for AskingMcpServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({"type": "object", "properties": {}});
        let tool = Tool::new("ask", "Asks the user.", schema.as_object().cloned().unwrap_or_default());
        Ok(ListToolsResult::with_all_items(vec![tool]))
    }

    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let asked = context.peer.create_elicitation(self.0.request.clone()).await;
        let answer = asked.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        let answer =
            serde_json::to_value(answer).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        self.0.answers.lock().push(answer);
        Ok(CallToolResult::success(vec![ContentBlock::text("answered")]).into())
    }
}
