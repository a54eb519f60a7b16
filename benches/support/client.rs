//! A client of the service.

use std::time::Duration;

use futures_util::StreamExt;
use k8sops_testing::eventually;
use serde_json::{Value, json};

/// A client of the service.
pub(crate) struct BenchClient(reqwest::Client);

impl BenchClient {
    pub(crate) fn new() -> Self {
        Self(reqwest::Client::builder().no_proxy().build().expect("a client without TLS can be built"))
    }

    /// Creates a session, and returns its URL.
    pub(crate) async fn create_session(&self, base: &str) -> String {
        let response = self.0.post(format!("{base}/v1/sessions")).send().await.expect("a response");
        let session: Value = response.json().await.expect("JSON");
        format!("{base}/v1/sessions/{}", session["session_id"].as_str().expect("an id"))
    }

    /// Sends a message, and does not follow its run.
    pub(crate) async fn send_message(&self, session: &str, content: &str) {
        let request = self.0.post(format!("{session}/messages")).json(&json!({"content": content}));
        let response = request.send().await.expect("a response");
        assert!(response.status().is_success(), "{response:?}");
    }

    /// Runs a turn over SSE, and returns the streamed text.
    pub(crate) async fn turn(&self, session: &str, content: &str) -> String {
        let request = self.0.post(format!("{session}/messages")).header("accept", "text/event-stream");
        let response = request.json(&json!({"content": content})).send().await.expect("a response");
        let mut stream = response.bytes_stream();
        let (mut text, mut buffer) = (String::new(), String::new());
        while let Some(piece) = stream.next().await {
            buffer.push_str(&String::from_utf8_lossy(&piece.expect("the stream is whole")));
            while let Some(end) = buffer.find("\n\n") {
                let message: String = buffer.drain(..end + 2).collect();
                if message.starts_with("event: token") {
                    let data = message.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
                    let token: Value = serde_json::from_str(data).expect("JSON");
                    text.push_str(token["content"].as_str().expect("text"));
                }
            }
        }
        text
    }

    /// Returns the metrics of the service in Prometheus' format.
    #[allow(dead_code, reason = "only the soak needs it")]
    pub(crate) async fn metrics(&self, base: &str) -> String {
        let response = self.0.get(format!("{base}/metrics")).send().await.expect("a response");
        response.text().await.expect("the response is complete")
    }

    /// Returns whether the service accepts requests.
    pub(crate) async fn is_ready(&self, base: &str) -> bool {
        self.0.get(format!("{base}/readyz")).send().await.is_ok_and(|response| response.status().is_success())
    }

    /// Waits until the MCP servers are connected.
    pub(crate) async fn wait_for_mcp_servers(&self, base: &str) {
        eventually("the MCP servers are connected", async || {
            let info = self.0.get(format!("{base}/v1/info")).send().await.expect("a response");
            info.json::<Value>().await.expect("JSON")["mcp_connected"] == true
        })
        .await;
    }

    /// Returns the seq of a session's newest event.
    pub(crate) async fn last_seq(&self, session: &str) -> u64 {
        let response = self.0.get(format!("{session}/events?after=0&follow=false")).send().await.expect("a response");
        let mut stream = response.bytes_stream();
        let first = stream.next().await.expect("hello").expect("hello");
        let text = String::from_utf8_lossy(&first);
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
        serde_json::from_str::<Value>(data).expect("JSON")["last_seq"].as_u64().expect("a seq")
    }

    /// Reads a session's whole log. Returns the time that it took and the number of events.
    pub(crate) async fn events(&self, session: &str) -> (Duration, usize) {
        let began = std::time::Instant::now();
        let request = self.0.get(format!("{session}/events")).header("accept", "application/x-ndjson");
        let text = request.send().await.expect("a response").text().await.expect("the stream is whole");
        (began.elapsed(), text.lines().filter(|line| line.contains("\"seq\":")).count())
    }

    /// Returns the newest `tool_end` of a session.
    pub(crate) async fn tool_end(&self, session: &str) -> Value {
        let request = self.0.get(format!("{session}/events")).header("accept", "application/x-ndjson");
        let text = request.send().await.expect("a response").text().await.expect("the stream is whole");
        let mut frames = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        frames.rfind(|frame| frame["type"] == "tool_end").unwrap_or_default()
    }
}
