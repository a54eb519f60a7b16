use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream},
    net::TcpListener,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CallError, CallOutput, InProcessConnector, McpCallContext, McpHub, build_connector,
    test_server::{TEST_TIMEOUT, eventually, test_call_context, test_options},
};

/// Sooner than any time limit.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What a server says to a call, given its id.
type Words = fn(&Value) -> String;

fn answer(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn tools() -> Value {
    let good = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
    json!([
        good("first"),
        {"name": "bad", "inputSchema": "no schema"},
        {"name": "text", "inputSchema": {"type": "string"}},
        {"inputSchema": {"type": "object"}},
        good(""),
        7,
        good("first"),
        good("last"),
    ])
}

fn reply(request: &Value) -> Option<Value> {
    let id = &request["id"];
    Some(match request["method"].as_str()? {
        "initialize" => answer(
            id,
            &json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "r", "version": "1"}}),
        ),
        "tools/list" => answer(id, &json!({"tools": tools()})),
        "tools/call" if request["params"]["name"] == "last" => {
            answer(id, &json!({"content": [{"type": "text", "text": "fine"}]}))
        }
        _ => return None,
    })
}

/// A server over a pipe that answers the tool `first` with these words, and what it was sent.
fn rough(words: Words, seen: &Arc<Mutex<Vec<Value>>>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let seen = seen.clone();
    tokio::spawn(async move {
        let (read, mut write) = tokio::io::split(theirs);
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let request: Value = serde_json::from_str(&line).unwrap();
            seen.lock().unwrap().push(request.clone());
            let text = match reply(&request) {
                Some(reply) => format!("{reply}\n"),
                None if request["method"] == "tools/call" => words(&request["id"]),
                None => continue,
            };
            if write.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    ours
}

async fn hub_on_a_pipe(words: Words) -> (Arc<McpHub>, Arc<Mutex<Vec<Value>>>) {
    hub_with_limit(words, 100_000).await
}

async fn hub_with_limit(words: Words, limit: usize) -> (Arc<McpHub>, Arc<Mutex<Vec<Value>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let connector = InProcessConnector::new({
        let seen = seen.clone();
        move || Ok(rough(words, &seen))
    });
    let mut config = test_options();
    config.max_message_bytes = limit;
    let servers = vec![("rough".to_owned(), Arc::new(connector) as Arc<dyn crate::McpConnector>)];
    let hub = McpHub::start(servers, &config, TaskTracker::new(), &CancellationToken::new());
    eventually("the server is connected", || hub.all_connected()).await;
    (hub, seen)
}

/// A server over HTTP that answers `tools/list` and the tool `first` as a stream of events.
async fn events(words: Words) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.is_ok_and(|n| n > 0) {}
                let length = head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                let _ = stream.read_exact(&mut body).await;
                let request: Value = serde_json::from_slice(&body).unwrap_or_default();
                let text = match (reply(&request), request["method"].as_str()) {
                    (_, None | Some("server/discover")) => {
                        "HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n".to_owned()
                    }
                    (None, Some("tools/call")) => stream_of(&words(&request["id"])),
                    (None, _) => "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    (Some(reply), _) => stream_of(&format!("data: {reply}\n\n")),
                };
                let _ = stream.write_all(text.as_bytes()).await;
            });
        }
    });
    address
}

fn stream_of(events: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}")
}

async fn hub_on_events(words: Words, limit: usize) -> Arc<McpHub> {
    let url = format!("http://{}/mcp", events(words).await);
    let transport = crate::McpTransport::Http { url, headers: Default::default(), ssl_verify: true };
    let mut config = test_options();
    config.max_message_bytes = limit;
    let servers = vec![("rough".to_owned(), build_connector(&transport).unwrap())];
    let hub = McpHub::start(servers, &config, TaskTracker::new(), &CancellationToken::new());
    eventually("the server is connected", || hub.all_connected()).await;
    hub
}

async fn call(hub: &McpHub, tool: &str) -> Result<CallOutput, CallError> {
    let started = Instant::now();
    let outcome = hub.call_tool("rough", tool, Map::new(), test_call_context(TEST_TIMEOUT)).await;
    assert!(started.elapsed() < AT_ONCE, "{outcome:?} came after {:?}", started.elapsed());
    outcome
}

fn names(hub: &McpHub) -> Vec<String> {
    hub.statuses()[0].tools.iter().map(|tool| tool.name.clone()).collect()
}

fn result_of(id: &Value, size: usize) -> Value {
    answer(id, &json!({"content": [{"type": "text", "text": "x".repeat(size)}]}))
}

#[tokio::test]
async fn tools_that_are_no_good_cost_the_server_no_others() {
    let (pipe, _) = hub_on_a_pipe(|_| String::new()).await;
    let web = hub_on_events(|_| String::new(), 100_000).await;
    for hub in [pipe, web] {
        assert_eq!(names(&hub), ["first", "last"]);
        assert_eq!(call(&hub, "last").await.unwrap().text, "fine");
        hub.close().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_an_error_at_once_and_harms_no_other_call() {
    let (pipe, seen) = hub_on_a_pipe(|id| format!("{}\n", result_of(id, 150_000))).await;
    let web = hub_on_events(|id| format!("data: {}\n\n", result_of(id, 150_000)), 100_000).await;
    for hub in [&pipe, &web] {
        let outcome = call(hub, "first").await;
        let Err(CallError::Failed(why) | CallError::Broken(why)) = &outcome else { panic!("{outcome:?}") };
        assert!(why.contains("100000 bytes"), "{why}");
        assert_eq!(call(hub, "last").await.unwrap().text, "fine");
        hub.close().await;
    }
    let starts = seen.lock().unwrap().iter().filter(|request| request["method"] == "initialize").count();
    assert_eq!(starts, 1, "the connection was kept");
}

#[tokio::test]
async fn an_answer_that_is_larger_than_the_sdk_takes_by_itself_arrives_whole() {
    const SIZE: usize = 20 << 20;
    let (pipe, _) = hub_with_limit(|id| format!("{}\n", result_of(id, SIZE)), 2 * SIZE).await;
    let web = hub_on_events(|id| format!("data: {}\n\n", result_of(id, SIZE)), 2 * SIZE).await;
    for hub in [pipe, web] {
        let output = hub.call_tool("rough", "first", Map::new(), test_call_context(TEST_TIMEOUT)).await.unwrap();
        assert_eq!(output.text.len(), SIZE);
        hub.close().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_an_error_at_once() {
    let (pipe, _) = hub_on_a_pipe(|id| format!("{}\n", &result_of(id, 100).to_string()[..90])).await;
    let web = hub_on_events(|id| format!("data: {}\n\n", &result_of(id, 100).to_string()[..90]), 100_000).await;
    for hub in [pipe, web] {
        let outcome = call(&hub, "first").await;
        assert!(matches!(outcome, Err(CallError::Failed(_) | CallError::Broken(_))), "{outcome:?}");
        assert_eq!(call(&hub, "last").await.unwrap().text, "fine");
        hub.close().await;
    }
}

#[tokio::test]
async fn a_stream_that_ends_without_an_answer_is_an_error_at_once() {
    let hub = hub_on_events(|_| ": still here\n\n".to_owned(), 100_000).await;
    let outcome = call(&hub, "first").await;
    assert!(matches!(outcome, Err(CallError::Broken(_) | CallError::Failed(_))), "{outcome:?}");
    hub.close().await;
}

#[tokio::test]
async fn garbage_and_wrong_ids_before_an_answer_change_nothing() {
    fn words(id: &Value) -> String {
        let garbage = ["Listening…", "{", "{\"jsonrpc\":\"2.0\"}", "[]", "\u{0}\u{1}", "null"];
        let wrong = [json!(9_999_999), json!("no such"), json!(null), json!({}), json!(-1)];
        let wrong = wrong.iter().map(|id| result_of(id, 3).to_string());
        let lines = garbage.iter().map(|line| (*line).to_owned()).chain(wrong);
        lines.chain([result_of(id, 5).to_string()]).map(|line| line + "\n").collect()
    }
    let (hub, _) = hub_on_a_pipe(words).await;
    assert_eq!(call(&hub, "first").await.unwrap().text, "xxxxx");
    hub.close().await;
}

#[tokio::test]
async fn a_flood_of_notifications_and_requests_holds_up_nothing() {
    fn words(id: &Value) -> String {
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
        flood + &format!("{}\n", result_of(id, 5))
    }
    let (hub, seen) = hub_on_a_pipe(words).await;
    let steps = Arc::new(Mutex::new(Vec::new()));
    let sink = steps.clone();
    let progress = Arc::new(move |p: crate::CallProgress| sink.lock().unwrap().push(p.progress));
    let context = McpCallContext { progress, ..test_call_context(TEST_TIMEOUT) };
    let outcome = hub.call_tool("rough", "first", Map::new(), context).await;
    assert_eq!(outcome.unwrap().text, "xxxxx");
    assert!(steps.lock().unwrap().len() <= 1, "the progress of others is not taken for the call's");
    assert_eq!(call(&hub, "last").await.unwrap().text, "fine");
    let lists = seen.lock().unwrap().iter().filter(|request| request["method"] == "tools/list").count();
    assert!(lists < 30, "the tools were looked at {lists} times");
    hub.close().await;
}
