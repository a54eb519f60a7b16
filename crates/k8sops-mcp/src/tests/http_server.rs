//! A scripted MCP server over HTTP.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{McpHub, McpTransport, build_connector, test_server::test_options};

/// A request that a scripted server received.
pub(super) struct HttpRequest {
    /// The JSON-RPC method, or the HTTP method of a request without body.
    pub(super) method: String,
    pub(super) id: Value,
    pub(super) params: Value,
    pub(super) headers: String,
}

impl HttpRequest {
    /// Reads one request; `None` if the client closed the connection.
    pub(super) async fn read_from(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Self>> {
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") {
            if stream.read_line(&mut headers).await? == 0 {
                return Ok(None);
            }
        }
        let content_length =
            headers.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; content_length.unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        let mut message: Value = serde_json::from_slice(&body).unwrap_or_default();
        let method = message["method"].as_str().or(headers.split(' ').next()).unwrap_or_default().to_owned();
        let id = message["id"].take();
        let params = message["params"].take();
        Ok(Some(Self { method, id, params, headers }))
    }

    pub(super) fn header(&self, name: &str) -> String {
        let headers = self.headers.lines().filter_map(|line| line.split_once(": "));
        headers.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
    }
}

/// The status line (with further headers after a line break), and the body.
pub(super) type HttpResponse = (&'static str, Value);

/// Serves every connection with `serve_connection`.
pub(super) async fn listen<F>(serve_connection: impl Fn(BufReader<TcpStream>) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(BufReader::new(stream)));
        }
    });
    address
}

/// Starts a server that answers every request with `respond`.
pub(super) async fn serve(respond: impl Fn(&HttpRequest) -> HttpResponse + Send + Sync + 'static) -> SocketAddr {
    let respond = Arc::new(respond);
    listen(move |mut stream| {
        let respond = respond.clone();
        async move {
            let Some(request) = HttpRequest::read_from(&mut stream).await? else { return Ok(()) };
            let (status, body) = respond(&request);
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
            stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n{body}").as_bytes()).await
        }
    })
    .await
}

pub(super) fn success(request: &HttpRequest, result: &Value) -> HttpResponse {
    ("200 OK", json!({"jsonrpc": "2.0", "id": request.id, "result": result}))
}

/// A server with sessions and one tool, whose newest protocol version has the `initialize` handshake.
pub(super) fn initialize_server(request: &HttpRequest) -> HttpResponse {
    match request.method.as_str() {
        "server/discover" => {
            let error = json!({"code": -32022, "message": "version", "data": {"supported": ["2025-11-25"]}});
            ("400 Bad Request", json!({"jsonrpc": "2.0", "id": request.id, "error": error}))
        }
        "initialize" => {
            let info = json!({"name": "old", "version": "1"});
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info});
            ("200 OK\r\nmcp-session-id: one", success(request, &result).1)
        }
        "tools/list" => success(request, &json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})),
        "tools/call" => success(request, &json!({"content": [{"type": "text", "text": "fine"}]})),
        "GET" => ("405 Method Not Allowed", Value::Null),
        _ => ("202 Accepted", Value::Null),
    }
}

/// A server without sessions and with one tool, of the protocol version that has no handshake.
pub(super) fn discover_server(request: &HttpRequest) -> HttpResponse {
    match request.method.as_str() {
        "server/discover" => success(
            request,
            &json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                "ttlMs": 0, "cacheScope": "private",
            }),
        ),
        "tools/list" => success(
            request,
            &json!({"resultType": "complete", "tools": [{"name": "t", "inputSchema": {"type": "object"}}]}),
        ),
        "tools/call" => {
            success(request, &json!({"resultType": "complete", "content": [{"type": "text", "text": "fine"}]}))
        }
        "GET" => ("405 Method Not Allowed", Value::Null),
        _ => ("202 Accepted", Value::Null),
    }
}

/// A transport whose URL and header contain the secret `hunter2`.
pub(super) fn transport_with_secrets(address: SocketAddr) -> McpTransport {
    let headers = BTreeMap::from([("authorization".to_owned(), SecretString::from("Bearer hunter2"))]);
    McpTransport::Http { url: format!("http://{address}/mcp?key=hunter2"), headers, ssl_verify: true }
}

/// Starts a hub with one server named `web`.
pub(super) fn start_hub(transport: &McpTransport) -> Arc<McpHub> {
    let servers = vec![("web".to_owned(), build_connector(transport).unwrap())];
    McpHub::start(servers, &test_options(), TaskTracker::new(), &CancellationToken::new())
}
