use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Notify,
};

use super::http_server::{HttpRequest, listen, start_hub, transport_with_secrets};
use crate::test_server::eventually;

/// A server without handshake that gets another tool on demand, and announces it to its subscribers.
struct GrowingServer {
    tool_count: AtomicUsize,
    subscriber_count: AtomicUsize,
    add_tool: Notify,
}

impl GrowingServer {
    fn result_for(&self, method: &str) -> Option<Value> {
        Some(match method {
            "server/discover" => json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {"listChanged": true}}, "ttlMs": 0, "cacheScope": "private",
            }),
            "tools/list" => {
                let tool = |n: usize| json!({"name": format!("tool {n}"), "inputSchema": {"type": "object"}});
                let tools = (0..self.tool_count.load(Ordering::SeqCst)).map(tool).collect::<Vec<_>>();
                json!({"resultType": "complete", "tools": tools})
            }
            _ => return None,
        })
    }

    async fn serve_connection(&self, mut stream: BufReader<TcpStream>) -> std::io::Result<()> {
        let Some(request) = HttpRequest::read_from(&mut stream).await? else { return Ok(()) };
        if request.method == "subscriptions/listen" {
            return self.serve_subscription(stream, &request.id).await;
        }
        let Some(result) = self.result_for(&request.method) else {
            return stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        };
        let body = json!({"jsonrpc": "2.0", "id": request.id, "result": result}).to_string();
        let head = format!("content-type: application/json\r\ncontent-length: {}\r\nconnection: close", body.len());
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").as_bytes()).await
    }

    async fn serve_subscription(&self, mut stream: BufReader<TcpStream>, id: &Value) -> std::io::Result<()> {
        let event = |method: &str, mut params: Value| {
            params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": id});
            format!("data: {}\n\n", json!({"jsonrpc": "2.0", "method": method, "params": params}))
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let acknowledged = json!({"notifications": {"toolsListChanged": true}});
        let first = event("notifications/subscriptions/acknowledged", acknowledged);
        stream.write_all(format!("{head}{first}").as_bytes()).await?;
        self.subscriber_count.fetch_add(1, Ordering::SeqCst);
        loop {
            self.add_tool.notified().await;
            self.tool_count.fetch_add(1, Ordering::SeqCst);
            stream.write_all(event("notifications/tools/list_changed", json!({})).as_bytes()).await?;
        }
    }
}

#[tokio::test]
async fn subscription_reports_changed_tools() {
    let server = Arc::new(GrowingServer {
        tool_count: AtomicUsize::new(1),
        subscriber_count: AtomicUsize::new(0),
        add_tool: Notify::new(),
    });
    let address = listen({
        let server = server.clone();
        move |stream| {
            let server = server.clone();
            async move { server.serve_connection(stream).await }
        }
    })
    .await;
    let hub = start_hub(&transport_with_secrets(address));
    eventually("the client has subscribed", || server.subscriber_count.load(Ordering::SeqCst) == 1).await;
    for tool_count in [2, 3] {
        server.add_tool.notify_one();
        eventually("the new tool is listed", || hub.statuses()[0].tools.len() == tool_count).await;
    }
    hub.close().await;
}
