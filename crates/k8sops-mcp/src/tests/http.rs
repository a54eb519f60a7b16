use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CallError, ConnectError, ConnectionHandler, McpHub, McpTransport, build_connector,
    test_server::{TEST_TIMEOUT, eventually, test_call_context, test_options},
};

/// What came and what to answer.
pub(super) struct Request {
    /// The method of JSON-RPC, or that of HTTP where there is no body.
    pub(super) method: String,
    pub(super) id: Value,
    pub(super) headers: String,
    pub(super) params: Value,
}

pub(super) type ElicitationAnswer = (&'static str, Value);

/// A server that answers each request as it is told.
pub(super) async fn serve(answer: impl Fn(&Request) -> ElicitationAnswer + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(exchange(stream, answer.clone()));
        }
    });
    address
}

async fn exchange(stream: TcpStream, answer: Arc<impl Fn(&Request) -> ElicitationAnswer>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut headers = String::new();
    while !headers.ends_with("\r\n\r\n") {
        if stream.read_line(&mut headers).await? == 0 {
            return Ok(());
        }
    }
    let length = headers.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let mut message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let method = message["method"].as_str().or(headers.split(' ').next()).unwrap_or_default().to_owned();
    let (id, params) = (message["id"].take(), message["params"].take());
    let (status, body) = answer(&Request { method, id, headers, params });
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n{body}").as_bytes()).await
}

pub(super) fn result(request: &Request, result: &Value) -> ElicitationAnswer {
    ("200 OK", json!({"jsonrpc": "2.0", "id": request.id, "result": result}))
}

/// A server with sessions and one tool, which knows nothing newer than the old handshake.
pub(super) fn old_server(request: &Request) -> ElicitationAnswer {
    match request.method.as_str() {
        "server/discover" => {
            let error = json!({"code": -32022, "message": "version", "data": {"supported": ["2025-11-25"]}});
            ("400 Bad Request", json!({"jsonrpc": "2.0", "id": request.id, "error": error}))
        }
        "initialize" => {
            let server = json!({"name": "old", "version": "1"});
            let (status, body) = result(
                request,
                &json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": server}),
            );
            assert_eq!(status, "200 OK");
            ("200 OK\r\nmcp-session-id: one", body)
        }
        "tools/list" => result(request, &json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})),
        "tools/call" => result(request, &json!({"content": [{"type": "text", "text": "fine"}]})),
        "GET" => ("405 Method Not Allowed", Value::Null),
        _ => ("202 Accepted", Value::Null),
    }
}

/// A server without sessions, of the era in which there is no handshake, with one tool.
pub(super) fn new_server(request: &Request) -> ElicitationAnswer {
    match request.method.as_str() {
        "server/discover" => result(
            request,
            &json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                "ttlMs": 0, "cacheScope": "private",
            }),
        ),
        "tools/list" => result(
            request,
            &json!({"resultType": "complete", "tools": [{"name": "t", "inputSchema": {"type": "object"}}]}),
        ),
        "tools/call" => {
            result(request, &json!({"resultType": "complete", "content": [{"type": "text", "text": "fine"}]}))
        }
        "GET" => ("405 Method Not Allowed", Value::Null),
        _ => ("202 Accepted", Value::Null),
    }
}

fn http(address: SocketAddr) -> McpTransport {
    let headers = BTreeMap::from([("authorization".to_owned(), SecretString::from("Bearer hunter2"))]);
    McpTransport::Http { url: format!("http://{address}/mcp?key=hunter2"), headers, ssl_verify: true }
}

pub(super) fn hub_on(address: SocketAddr) -> Arc<McpHub> {
    let servers = vec![("web".to_owned(), build_connector(&http(address)).unwrap())];
    McpHub::start(servers, &test_options(), TaskTracker::new(), &CancellationToken::new())
}

async fn refused(address: SocketAddr) -> ConnectError {
    build_connector(&http(address))
        .unwrap()
        .connect(ConnectionHandler::new("web".into()), TEST_TIMEOUT)
        .await
        .expect_err("no server")
}

#[tokio::test]
async fn a_server_that_knows_only_older_versions_is_shaken_hands_with_the_old_way() {
    let hub = hub_on(serve(old_server).await);
    eventually("the server is connected", || hub.all_connected()).await;
    let output = hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await.unwrap();
    assert_eq!(output.text, "fine");
    hub.close().await;
}

#[tokio::test]
async fn a_refusal_without_an_id_reaches_its_caller_and_has_the_server_looked_at() {
    let restarted = Arc::new(AtomicBool::new(false));
    let address = serve({
        let restarted = restarted.clone();
        move |request| {
            if restarted.load(Ordering::SeqCst) && request.headers.contains("mcp-session-id: one") {
                let error = json!({"code": -32000, "message": "no valid session"});
                return ("400 Bad Request", json!({"jsonrpc": "2.0", "id": null, "error": error}));
            }
            let (status, body) = old_server(request);
            let second = restarted.load(Ordering::SeqCst) && request.method == "initialize";
            (if second { "200 OK\r\nmcp-session-id: two" } else { status }, body)
        }
    })
    .await;
    let hub = hub_on(address);
    eventually("the server is connected", || hub.all_connected()).await;
    restarted.store(true, Ordering::SeqCst);
    let outcome = hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await;
    assert_eq!(outcome, Err(CallError::Refused("no valid session".to_owned())));
    eventually("there is a new session", || hub.version() >= 3 && hub.all_connected()).await;
    assert!(hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await.is_ok());
    hub.close().await;
}

#[tokio::test]
async fn an_error_names_neither_the_url_nor_a_header() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = refused(closed).await.to_string();
    assert!(error.starts_with("cannot connect: "), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let denied = refused(serve(|_| ("401 Unauthorized", Value::Null)).await).await.to_string();
    assert!(denied.contains("401") && !denied.contains("hunter2"), "{denied}");
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_not_followed() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let elsewhere = serve({
        let seen = seen.clone();
        move |request| {
            seen.lock().unwrap().push(request.headers.clone());
            old_server(request)
        }
    })
    .await;
    let status: &'static str = format!("307 Temporary Redirect\r\nlocation: http://{elsewhere}/mcp").leak();
    let error = refused(serve(move |_| (status, Value::Null)).await).await;
    assert!(matches!(error, ConnectError::Handshake(_)), "{error:?}");
    assert!(seen.lock().unwrap().is_empty(), "the credentials went to another origin");
}

#[test]
fn what_is_no_http_url_or_header_is_refused_without_being_quoted() {
    let http = |url: &str, name: &str, value: &str| {
        let headers = BTreeMap::from([(name.to_owned(), SecretString::from(value))]);
        build_connector(&McpTransport::Http { url: url.to_owned(), headers, ssl_verify: true }).err()
    };
    assert_eq!(http("https://mcp.example/mcp", "x-key", "v"), None);
    for error in [http("ftp://hunter2@x", "a", "v"), http("no url", "a", "v"), http("http://x", "a", "hunter2\n")] {
        let error = error.expect("it is refused").to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert!(http("http://x", "a b", "v").is_some());
}
