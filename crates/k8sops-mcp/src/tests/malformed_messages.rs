use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use k8sops_core::ErrorChain;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::http_server::{HttpRequest, listen};
use crate::{
    CallError, CallOutput, CallProgress, InProcessConnector, McpCallContext, McpConnector, McpHub, McpTransport,
    build_connector,
    test_server::{TEST_TIMEOUT, eventually, test_call_context, test_options},
};

/// Shorter than any time limit of a call.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What a server sends in response to a call of `first`, given the id of the request.
type RawResponse = fn(&Value) -> String;

type ReceivedRequests = Arc<Mutex<Vec<Value>>>;

fn success(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn text_result(id: &Value, length: usize) -> Value {
    success(id, &json!({"content": [{"type": "text", "text": "x".repeat(length)}]}))
}

/// A list of tools of which only `first` and `last` can be used.
fn tool_list() -> Value {
    let valid = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
    json!([
        valid("first"),
        {"name": "bad", "inputSchema": "no schema"},
        {"name": "text", "inputSchema": {"type": "string"}},
        {"inputSchema": {"type": "object"}},
        valid(""),
        7,
        valid("first"),
        valid("last"),
    ])
}

/// Responds to everything but notifications and calls of `first`.
fn respond(method: &str, id: &Value, params: &Value) -> Option<Value> {
    let info = json!({"name": "r", "version": "1"});
    Some(match method {
        "initialize" => {
            success(id, &json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}))
        }
        "tools/list" => success(id, &json!({"tools": tool_list()})),
        "tools/call" if params["name"] == "last" => {
            success(id, &json!({"content": [{"type": "text", "text": "fine"}]}))
        }
        _ => return None,
    })
}

/// Starts a server over a pipe that records what it receives.
fn start_pipe_server(raw_response: RawResponse, received: &ReceivedRequests) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let received = received.clone();
    tokio::spawn(async move {
        let (read, mut write) = tokio::io::split(theirs);
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let request: Value = serde_json::from_str(&line).unwrap();
            received.lock().push(request.clone());
            let method = request["method"].as_str().unwrap_or_default();
            let text = match respond(method, &request["id"], &request["params"]) {
                Some(response) => format!("{response}\n"),
                None if method == "tools/call" => raw_response(&request["id"]),
                None => continue,
            };
            if write.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    ours
}

async fn connect_over_pipe(raw_response: RawResponse, max_message_bytes: usize) -> (Arc<McpHub>, ReceivedRequests) {
    let received = ReceivedRequests::default();
    let connector = InProcessConnector::new({
        let received = received.clone();
        move || Ok(start_pipe_server(raw_response, &received))
    });
    (connect(Arc::new(connector), max_message_bytes).await, received)
}

/// Starts a server over HTTP that responds with event streams.
async fn start_http_server(raw_response: RawResponse) -> SocketAddr {
    let event_stream = |events: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}")
    };
    listen(move |mut stream| async move {
        let Some(HttpRequest { method, id, params, .. }) = HttpRequest::read_from(&mut stream).await? else {
            return Ok(());
        };
        let text = match (respond(&method, &id, &params), method.as_str()) {
            (Some(response), _) => event_stream(&format!("data: {response}\n\n")),
            (None, "GET" | "DELETE" | "server/discover") => {
                "HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n".to_owned()
            }
            (None, "tools/call") => event_stream(&raw_response(&id)),
            (None, _) => "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned(),
        };
        stream.write_all(text.as_bytes()).await
    })
    .await
}

async fn connect_over_http(raw_response: RawResponse, max_message_bytes: usize) -> Arc<McpHub> {
    let url = format!("http://{}/mcp", start_http_server(raw_response).await);
    let transport = McpTransport::Http { url, headers: Default::default(), ssl_verify: true };
    connect(build_connector(&transport).unwrap(), max_message_bytes).await
}

async fn connect(connector: Arc<dyn McpConnector>, max_message_bytes: usize) -> Arc<McpHub> {
    let mut options = test_options();
    options.max_message_bytes = max_message_bytes;
    let servers = vec![("raw".to_owned(), connector)];
    let hub = McpHub::start(servers, &options, TaskTracker::new(), &CancellationToken::new());
    eventually("the server is connected", || hub.all_connected()).await;
    hub
}

/// Calls a tool and asserts that the call ends before any time limit.
async fn call_at_once(hub: &McpHub, tool: &str) -> Result<CallOutput, CallError> {
    let started_at = Instant::now();
    let outcome = hub.call_tool("raw", tool, Map::new(), test_call_context(TEST_TIMEOUT)).await;
    assert!(started_at.elapsed() < AT_ONCE, "{outcome:?} after {:?}", started_at.elapsed());
    outcome
}

#[tokio::test]
async fn invalid_tools_are_skipped() {
    let (pipe, _) = connect_over_pipe(|_| String::new(), 100_000).await;
    let http = connect_over_http(|_| String::new(), 100_000).await;
    for hub in [pipe, http] {
        let names = hub.statuses()[0].tools.iter().map(|tool| tool.name.clone()).collect::<Vec<_>>();
        assert_eq!(names, ["first", "text", "last"]);
        assert_eq!(call_at_once(&hub, "last").await.unwrap().text, "fine");
        hub.close().await;
    }
}

#[tokio::test]
async fn oversized_answer_fails_only_its_call() {
    let (pipe, received) = connect_over_pipe(|id| format!("{}\n", text_result(id, 150_000)), 100_000).await;
    let http = connect_over_http(|id| format!("data: {}\n\n", text_result(id, 150_000)), 100_000).await;
    for hub in [&pipe, &http] {
        let outcome = call_at_once(hub, "first").await;
        let Err(CallError::Failed(reason) | CallError::Broken(reason)) = &outcome else { panic!("{outcome:?}") };
        assert!(ErrorChain(reason).to_string().contains("100000 bytes"), "{reason:?}");
        assert_eq!(call_at_once(hub, "last").await.unwrap().text, "fine");
        hub.close().await;
    }
    let connections = received.lock().iter().filter(|request| request["method"] == "initialize").count();
    assert_eq!(connections, 1, "the connection was kept");
}

#[tokio::test]
async fn answer_above_the_default_limit_of_the_sdk_arrives_whole() {
    const LENGTH: usize = 20 << 20;
    let (pipe, _) = connect_over_pipe(|id| format!("{}\n", text_result(id, LENGTH)), 2 * LENGTH).await;
    let http = connect_over_http(|id| format!("data: {}\n\n", text_result(id, LENGTH)), 2 * LENGTH).await;
    for hub in [pipe, http] {
        let output = hub.call_tool("raw", "first", Map::new(), test_call_context(TEST_TIMEOUT)).await.unwrap();
        assert_eq!(output.text.len(), LENGTH);
        hub.close().await;
    }
}

#[tokio::test]
async fn truncated_answer_fails_its_call_at_once() {
    let (pipe, _) = connect_over_pipe(|id| format!("{}\n", &text_result(id, 100).to_string()[..90]), 100_000).await;
    let http = connect_over_http(|id| format!("data: {}\n\n", &text_result(id, 100).to_string()[..90]), 100_000).await;
    for hub in [pipe, http] {
        let outcome = call_at_once(&hub, "first").await;
        assert!(matches!(outcome, Err(CallError::Failed(_) | CallError::Broken(_))), "{outcome:?}");
        assert_eq!(call_at_once(&hub, "last").await.unwrap().text, "fine");
        hub.close().await;
    }
}

#[tokio::test]
async fn stream_without_answer_fails_its_call_at_once() {
    let hub = connect_over_http(|_| ": still here\n\n".to_owned(), 100_000).await;
    let outcome = call_at_once(&hub, "first").await;
    assert!(matches!(outcome, Err(CallError::Broken(_) | CallError::Failed(_))), "{outcome:?}");
    hub.close().await;
}

#[tokio::test]
async fn garbage_and_unknown_ids_are_ignored() {
    fn raw_response(id: &Value) -> String {
        let garbage = ["Listening…", "{", "{\"jsonrpc\":\"2.0\"}", "[]", "\u{0}\u{1}", "null"];
        let unknown_ids = [json!(9_999_999), json!("no such"), json!(null), json!({}), json!(-1)];
        let unknown = unknown_ids.iter().map(|id| text_result(id, 3).to_string());
        let lines = garbage.iter().map(|line| (*line).to_owned()).chain(unknown);
        lines.chain([text_result(id, 5).to_string()]).map(|line| line + "\n").collect()
    }
    let (hub, _) = connect_over_pipe(raw_response, 100_000).await;
    assert_eq!(call_at_once(&hub, "first").await.unwrap().text, "xxxxx");
    hub.close().await;
}

#[tokio::test]
async fn flood_of_notifications_and_requests_delays_no_call() {
    fn raw_response(id: &Value) -> String {
        let mut flood = String::new();
        for n in 0..20_000u32 {
            let params = json!({"progressToken": n, "progress": n, "level": "info", "data": "x"});
            for method in ["notifications/message", "notifications/progress", "notifications/tools/list_changed"] {
                flood += &json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string();
                flood.push('\n');
            }
            flood += &json!({"jsonrpc": "2.0", "id": format!("ping {n}"), "method": "ping"}).to_string();
            flood.push('\n');
        }
        flood + &format!("{}\n", text_result(id, 5))
    }
    let (hub, received) = connect_over_pipe(raw_response, 100_000).await;
    let reported = Arc::new(Mutex::new(Vec::new()));
    let sink = reported.clone();
    let progress = Arc::new(move |progress: CallProgress| sink.lock().push(progress.progress));
    let context = McpCallContext { progress, ..test_call_context(TEST_TIMEOUT) };
    let outcome = hub.call_tool("raw", "first", Map::new(), context).await;
    assert_eq!(outcome.unwrap().text, "xxxxx");
    assert!(reported.lock().len() <= 1, "progress of other tokens was reported");
    assert_eq!(call_at_once(&hub, "last").await.unwrap().text, "fine");
    let lists = received.lock().iter().filter(|request| request["method"] == "tools/list").count();
    assert!(lists < 30, "the tools were listed {lists} times");
    hub.close().await;
}
