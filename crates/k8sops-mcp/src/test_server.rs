//! An MCP server in this process for tests, and hubs that are connected to it. Tests can cut its connection, and make it refuse
//! connections or stop answering.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorCode, ListToolsResult,
        PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
    },
    service::{Peer, RequestContext},
};
use serde_json::{Map, Value, json};
use tokio::io::DuplexStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{CallError, CallLimits, CallOutput, InProcessConnector, McpCallContext, McpConnector, McpHub, McpOptions};

/// Longer than any step of a test takes. A test that waits this long has failed.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A server whose behavior tests control. It stays the same over all of its connections.
///
/// It answers by the name of the called tool: `echo` returns its arguments, `steps` reports progress, `hang` never answers,
/// `confirm` asks the user, `fail` returns an error of the tool, `big` returns 1 MiB, `silent` returns an empty text, and
/// `crash`, `stranger` and `late` return JSON-RPC errors.
#[derive(Default)]
pub struct TestMcpServer {
    /// The tools that it lists, one per page.
    pub tools: Mutex<Vec<Tool>>,
    /// The names of the tools that were called, in order.
    pub called_tools: Mutex<Vec<String>>,
    /// Calls of `hang` that the client cancelled.
    pub cancelled_calls: AtomicUsize,
    /// Connections that were accepted.
    pub connection_count: AtomicUsize,
    /// Connections to refuse before the next is accepted.
    pub connections_to_refuse: AtomicUsize,
    /// The instructions that it sends in the handshake.
    pub instructions: Mutex<Option<String>>,
    /// Whether `tools/list` is left unanswered.
    pub ignores_tool_listing: AtomicBool,
    /// The client of the newest connection, once its handshake is complete.
    pub client_peer: Mutex<Option<Peer<RoleServer>>>,
    newest_connection: Mutex<CancellationToken>,
}

impl TestMcpServer {
    /// Creates a server with the tools `echo`, `steps`, `hang`, `fail`, `big` and `silent`.
    pub fn new() -> Arc<Self> {
        let read_only = || ToolAnnotations::new().read_only(true);
        let tools = vec![
            tool("echo", read_only()),
            tool("steps", read_only()),
            tool("hang", ToolAnnotations::new()),
            tool("fail", read_only()),
            tool("big", read_only()),
            tool("silent", ToolAnnotations::new().idempotent(true)),
        ];
        Arc::new(Self { tools: Mutex::new(tools), ..Self::default() })
    }

    /// Breaks the newest connection, as if the server's process was killed.
    pub fn cut_connection(&self) {
        self.newest_connection.lock().cancel();
    }

    /// How often a tool was called.
    pub fn call_count(&self, name: &str) -> usize {
        self.called_tools.lock().iter().filter(|called| *called == name).count()
    }

    fn accept_connection(self: &Arc<Self>) -> io::Result<DuplexStream> {
        let refused = self.connections_to_refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if refused.is_ok() {
            return Err(io::Error::other("connection refused by the test"));
        }
        let (client, mut near) = tokio::io::duplex(64 * 1024);
        let (mut far, server) = tokio::io::duplex(64 * 1024);
        let cut = CancellationToken::new();
        *self.newest_connection.lock() = cut.clone();
        self.connection_count.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                () = cut.cancelled() => {}
            }
        });
        let state = self.clone();
        tokio::spawn(async move {
            if let Ok(service) = TestServerHandler(state.clone()).serve(server).await {
                *state.client_peer.lock() = Some(service.peer().clone());
                let _ = service.waiting().await;
            }
        });
        Ok(client)
    }
}

/// Builds a tool that accepts any object.
pub fn tool(name: &str, annotations: ToolAnnotations) -> Tool {
    let schema = Map::from_iter([("type".to_owned(), json!("object"))]);
    Tool::new(name.to_owned(), format!("The tool {name}."), schema).with_annotations(annotations)
}

struct TestServerHandler(Arc<TestMcpServer>);

impl ServerHandler for TestServerHandler {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::default();
        capabilities.tools = Some(serde_json::from_value(json!({"listChanged": true})).unwrap());
        let config = ServerConfig::new(capabilities);
        match self.0.instructions.lock().clone() {
            Some(instructions) => config.with_instructions(instructions),
            None => config,
        }
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        if self.0.ignores_tool_listing.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let index: usize = request.and_then(|request| request.cursor).map_or(0, |cursor| cursor.parse().unwrap());
        let tools = self.0.tools.lock();
        let mut page = ListToolsResult::with_all_items(tools.get(index).cloned().into_iter().collect());
        page.next_cursor = (index + 1 < tools.len()).then(|| (index + 1).to_string());
        Ok(page)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.0.called_tools.lock().push(request.name.to_string());
        let text = match &*request.name {
            "echo" => Value::Object(request.arguments.unwrap_or_default()).to_string(),
            "steps" => {
                let token = context.meta.get_progress_token().expect("the client asks for progress");
                for step in 1..=20u8 {
                    let progress = ProgressNotificationParam::new(token.clone(), f64::from(step)).with_total(20.0);
                    let _ = context.peer.notify_progress(progress).await;
                }
                "done".to_owned()
            }
            "hang" => {
                context.ct.cancelled().await;
                self.0.cancelled_calls.fetch_add(1, Ordering::SeqCst);
                "too late".to_owned()
            }
            "confirm" => request_confirmation(&context.peer).await,
            "fail" => return Ok(CallToolResult::error(vec![ContentBlock::text("no such pod")]).into()),
            "big" => "0123456789abcde\n".repeat(1024 * 1024 / 16),
            "silent" => String::new(),
            "crash" => return Err(ErrorData::internal_error("lost the cluster half-way", None)),
            "stranger" => return Err(ErrorData::new(ErrorCode(-32_001), "Session not found", None)),
            "late" => return Err(ErrorData::new(ErrorCode(-32_001), "Request timed out", None)),
            other => return Err(ErrorData::invalid_params(format!("unknown tool {other}"), None)),
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

/// Sends an elicitation to a client, and returns the client's result or error as text.
pub async fn request_confirmation(peer: &Peer<RoleServer>) -> String {
    let schema = json!({"type": "object", "required": ["sure"], "properties": {
        "sure": {"type": "boolean"},
        "reason": {"type": "string", "default": "none given"},
    }});
    let params = json!({"message": "Delete the pod?", "requestedSchema": schema});
    match peer.create_elicitation(serde_json::from_value(params).unwrap()).await {
        Ok(result) => serde_json::to_value(result).unwrap().to_string(),
        Err(error) => error.to_string(),
    }
}

/// Returns options with a short backoff.
pub fn test_options() -> McpOptions {
    McpOptions {
        servers: Vec::new(),
        call_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        max_message_bytes: 64 << 20,
        connect_timeout: Duration::from_secs(10),
        health_interval: Duration::from_secs(10),
        max_backoff: Duration::from_millis(20),
    }
}

/// Starts a hub with these servers, by name.
pub fn start_test_hub(servers: &[(&str, &Arc<TestMcpServer>)], options: &McpOptions) -> Arc<McpHub> {
    let servers = servers.iter().map(|(name, server)| {
        let server = (*server).clone();
        let connector: Arc<dyn McpConnector> = Arc::new(InProcessConnector::new(move || server.accept_connection()));
        ((*name).to_owned(), connector)
    });
    McpHub::start(servers.collect(), options, TaskTracker::new(), &CancellationToken::new())
}

/// Starts a hub with one server named `sim`, and waits until it is connected.
pub async fn connect_test_hub(server: &Arc<TestMcpServer>, options: &McpOptions) -> Arc<McpHub> {
    let hub = start_test_hub(&[("sim", server)], options);
    eventually("the server is connected", || hub.all_connected()).await;
    hub
}

/// Waits until a condition holds, and fails after [`TEST_TIMEOUT`].
///
/// # Panics
/// If the condition does not hold in time.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(TEST_TIMEOUT, holds).await.is_ok(), "not within {TEST_TIMEOUT:?}: {what}");
}

/// Returns the context of a call without a user.
pub fn test_call_context(limit: Duration) -> McpCallContext {
    McpCallContext::with_limits(CallLimits::uniform(limit))
}

/// Calls a tool of the server `sim` without arguments.
pub async fn call_sim(hub: &McpHub, tool: &str, limit: Duration) -> Result<CallOutput, CallError> {
    hub.call_tool("sim", tool, Map::new(), test_call_context(limit)).await
}
