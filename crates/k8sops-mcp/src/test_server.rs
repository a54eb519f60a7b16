//! A server to test against, and the wires to it, which can be cut.
#![allow(missing_docs, clippy::missing_panics_doc, reason = "a test double")]

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

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

use crate::{CallError, CallLimits, CallOutput, InProcessConnector, McpCallContext, McpHub, McpOptions};

/// Longer than anything takes; a test that waits this long has failed.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// What the server is and what happened to it; shared by all its lives.
#[derive(Default)]
pub struct TestMcpServer {
    pub tools: Mutex<Vec<Tool>>,
    /// The names of the tools called, in order.
    pub called_tools: Mutex<Vec<String>>,
    /// Calls that the client cancelled.
    pub cancelled_calls: AtomicUsize,
    /// Connections made.
    pub connection_count: AtomicUsize,
    /// Connections to refuse before the next is made.
    pub connections_to_refuse: AtomicUsize,
    /// Whether `tools/list` gets no answer.
    pub ignores_tool_listing: AtomicBool,
    pub client_peer: Mutex<Option<Peer<RoleServer>>>,
    wire: Mutex<CancellationToken>,
}

pub fn tool(name: &str, annotations: ToolAnnotations) -> Tool {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    Tool::new(name.to_owned(), format!("The tool {name}."), schema).with_annotations(annotations)
}

impl TestMcpServer {
    pub fn new() -> Arc<Self> {
        let read = || ToolAnnotations::new().read_only(true);
        let tools = vec![
            tool("echo", read()),
            tool("steps", read()),
            tool("hang", ToolAnnotations::new()),
            tool("fail", read()),
            tool("big", read()),
            tool("silent", ToolAnnotations::new().idempotent(true)),
        ];
        Arc::new(Self { tools: Mutex::new(tools), ..Self::default() })
    }

    /// Breaks the connection, as when the server's process is killed.
    pub fn cut_connection(&self) {
        self.wire.lock().unwrap().cancel();
    }

    pub fn call_count(&self, name: &str) -> usize {
        self.called_tools.lock().unwrap().iter().filter(|n| *n == name).count()
    }

    fn connect(self: &Arc<Self>) -> io::Result<DuplexStream> {
        if self.connections_to_refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(io::Error::other("no server today"));
        }
        let (client, mut near) = tokio::io::duplex(64 * 1024);
        let (mut far, server) = tokio::io::duplex(64 * 1024);
        let cut = CancellationToken::new();
        *self.wire.lock().unwrap() = cut.clone();
        self.connection_count.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                () = cut.cancelled() => {}
            }
        });
        let world = self.clone();
        tokio::spawn(async move {
            if let Ok(service) = TestServer(world.clone()).serve(server).await {
                *world.client_peer.lock().unwrap() = Some(service.peer().clone());
                let _ = service.waiting().await;
            }
        });
        Ok(client)
    }
}

struct TestServer(Arc<TestMcpServer>);

impl ServerHandler for TestServer {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::default();
        capabilities.tools = Some(serde_json::from_value(json!({"listChanged": true})).unwrap());
        ServerConfig::new(capabilities)
    }

    /// One tool on each page.
    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        if self.0.ignores_tool_listing.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let at: usize = request.and_then(|r| r.cursor).map_or(0, |cursor| cursor.parse().unwrap());
        let tools = self.0.tools.lock().unwrap();
        let mut page = ListToolsResult::with_all_items(tools.get(at).cloned().into_iter().collect());
        page.next_cursor = (at + 1 < tools.len()).then(|| (at + 1).to_string());
        Ok(page)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.0.called_tools.lock().unwrap().push(request.name.to_string());
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

/// Asks the user, and says what came of it.
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

/// Short times, so that a test sees what an operator sees in minutes.
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

/// A hub on one server.
pub fn start_test_hub(worlds: &[(&str, &Arc<TestMcpServer>)], config: &McpOptions) -> Arc<McpHub> {
    let servers = worlds.iter().map(|(name, world)| {
        let world = (*world).clone();
        let connector: Arc<dyn crate::McpConnector> = Arc::new(InProcessConnector::new(move || world.connect()));
        ((*name).to_owned(), connector)
    });
    McpHub::start(servers.collect(), config, TaskTracker::new(), &CancellationToken::new())
}

/// A hub that is connected.
pub async fn connect_test_hub(world: &Arc<TestMcpServer>, config: &McpOptions) -> Arc<McpHub> {
    let hub = start_test_hub(&[("sim", world)], config);
    eventually("the server is connected", || hub.all_connected()).await;
    hub
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let polled = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(TEST_TIMEOUT, polled).await.is_ok(), "not within {TEST_TIMEOUT:?}: {what}");
}

pub fn test_call_context(limit: Duration) -> McpCallContext {
    McpCallContext::with_limits(CallLimits::uniform(limit))
}

pub async fn call(hub: &McpHub, tool: &str, timeout: Duration) -> Result<CallOutput, CallError> {
    hub.call_tool("sim", tool, Map::new(), test_call_context(timeout)).await
}
