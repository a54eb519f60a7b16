use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::http::hub_on;
use crate::test_server::eventually;

/// A server of 2026 that gets a second tool when told to, and tells those who listen.
struct Growing {
    tools: AtomicUsize,
    listeners: AtomicUsize,
    grow: Notify,
}

impl Growing {
    fn answer(&self, method: &str) -> Option<Value> {
        Some(match method {
            "server/discover" => json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {"listChanged": true}}, "ttlMs": 0, "cacheScope": "private",
            }),
            "tools/list" => {
                let tool = |n: usize| json!({"name": format!("tool {n}"), "inputSchema": {"type": "object"}});
                let tools = (0..self.tools.load(Ordering::SeqCst)).map(tool).collect::<Vec<_>>();
                json!({"resultType": "complete", "tools": tools})
            }
            _ => return None,
        })
    }

    async fn exchange(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let length = head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        let request: Value = serde_json::from_slice(&body).unwrap_or_default();
        let method = request["method"].as_str().unwrap_or_default();
        if method == "subscriptions/listen" {
            return self.tell(stream, &request["id"]).await;
        }
        let Some(result) = self.answer(method) else {
            return stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        };
        let body = json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string();
        let head = format!("content-type: application/json\r\ncontent-length: {}\r\nconnection: close", body.len());
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").as_bytes()).await
    }

    async fn tell(&self, mut stream: BufReader<TcpStream>, id: &Value) -> std::io::Result<()> {
        let said = |method: &str, mut params: Value| {
            params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": id});
            format!("data: {}\n\n", json!({"jsonrpc": "2.0", "method": method, "params": params}))
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let acknowledged = json!({"notifications": {"toolsListChanged": true}});
        let first = said("notifications/subscriptions/acknowledged", acknowledged);
        stream.write_all(format!("{head}{first}").as_bytes()).await?;
        self.listeners.fetch_add(1, Ordering::SeqCst);
        loop {
            self.grow.notified().await;
            self.tools.fetch_add(1, Ordering::SeqCst);
            stream.write_all(said("notifications/tools/list_changed", json!({})).as_bytes()).await?;
        }
    }
}

#[tokio::test]
async fn changed_tools_of_a_server_of_the_new_era_are_noticed_through_a_subscription() {
    let server = Arc::new(Growing { tools: AtomicUsize::new(1), listeners: AtomicUsize::new(0), grow: Notify::new() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn({
        let server = server.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.exchange(stream).await });
            }
        }
    });
    let hub = hub_on(address);
    eventually("somebody listens", || server.listeners.load(Ordering::SeqCst) == 1).await;
    for tools in [2, 3] {
        server.grow.notify_one();
        eventually("the new tool is there", || hub.statuses()[0].tools.len() == tools).await;
    }
    hub.close().await;
}
