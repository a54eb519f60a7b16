//! A model provider that streams scripted replies.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

/// The part of a gap by which each reply starts later than the one before: the golden ratio, which spreads any number of
/// replies evenly.
const PHASE_STEP: f64 = 0.618_034;

/// A model provider with the API of chat completions. It streams a number of tokens for every request: as many as the last
/// message names (`500 tokens`), or else always the same number.
pub(crate) struct ScriptedUpstream {
    pub port: u16,
}

/// How an upstream replies.
struct ReplyScript {
    tokens: u64,
    gap: Duration,
    /// Part of the name of the tool that is called before the reply to a message.
    tool: Option<&'static str>,
    replies: AtomicU64,
}

impl ScriptedUpstream {
    pub(crate) async fn start(tokens: u64, gap: Duration) -> Self {
        Self::start_as(tokens, gap, None).await
    }

    /// Starts an upstream that calls a tool before it replies to a message.
    pub(crate) async fn start_with_tool_call(tool: &'static str, tokens: u64) -> Self {
        Self::start_as(tokens, Duration::ZERO, Some(tool)).await
    }

    async fn start_as(tokens: u64, gap: Duration, tool: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("the listener is bound").port();
        let script = Arc::new(ReplyScript { tokens, gap, tool, replies: AtomicU64::new(0) });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let script = Arc::clone(&script);
                tokio::spawn(async move {
                    // A failed connection ends with its client.
                    let _ = script.serve(stream).await;
                });
            }
        });
        Self { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }
}

impl ReplyScript {
    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        while let Some(body) = read_request(&mut read).await? {
            write
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            let request: Value = serde_json::from_slice(&body).unwrap_or_default();
            match self.tool_to_call(&request) {
                Some(name) => write_tool_call(&mut write, name).await?,
                None => self.write_tokens(&mut write, requested_tokens(&request).unwrap_or(self.tokens)).await?,
            }
            write.write_all(b"0\r\n\r\n").await?;
        }
        Ok(())
    }

    /// Returns the name of the tool to call, if the request ends with a message of the user and offers the tool.
    fn tool_to_call<'a>(&self, request: &'a Value) -> Option<&'a str> {
        let part = self.tool?;
        let last = request["messages"].as_array()?.last()?;
        let names = request["tools"].as_array()?.iter().filter_map(|tool| tool["function"]["name"].as_str());
        (last["role"] == "user").then_some(names)?.find(|name| name.contains(part))
    }

    async fn write_tokens(&self, write: &mut (impl AsyncWriteExt + Unpin), tokens: u64) -> std::io::Result<()> {
        let number = self.replies.fetch_add(1, Ordering::Relaxed);
        let mut next = Instant::now() + self.gap.mul_f64((number as f64 * PHASE_STEP).fract());
        for n in 0..tokens {
            if !self.gap.is_zero() {
                sleep_until(next).await;
                // A late token delays all after it. Tokens that follow each other faster than at the rate would be read
                // together, and cost less.
                next = Instant::now().max(next + self.gap);
            }
            let delta = format!(r#"{{"index":0,"delta":{{"content":"token{n} "}},"finish_reason":null}}"#);
            write_chunk(write, &delta, "").await?;
        }
        let end = r#"{"index":0,"delta":{},"finish_reason":"stop"}"#;
        write_chunk(write, end, "data: [DONE]\n\n").await
    }
}

/// Reads a request, and returns its body, or `None` at the end of the connection.
async fn read_request(read: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if read.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    read.read_exact(&mut body).await?;
    Ok(Some(body))
}

/// Returns the number of tokens that the last message asks for.
fn requested_tokens(request: &Value) -> Option<u64> {
    let content = request["messages"].as_array()?.last()?["content"].as_str()?;
    // The service puts the time in front of the text.
    content.lines().last()?.strip_suffix(" tokens")?.parse().ok()
}

async fn write_tool_call(write: &mut (impl AsyncWriteExt + Unpin), name: &str) -> std::io::Result<()> {
    let call = json!({"index": 0, "id": "call", "type": "function",
        "function": {"name": name, "arguments": "{\"message\": \"hello\"}"}});
    let choice = json!({"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"});
    write_chunk(write, &choice.to_string(), "data: [DONE]\n\n").await
}

async fn write_chunk(write: &mut (impl AsyncWriteExt + Unpin), choice: &str, end: &str) -> std::io::Result<()> {
    let data = format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"bench\",\"choices\":[{choice}]}}\n\n{end}"
    );
    let mut piece = String::with_capacity(data.len() + 16);
    write!(piece, "{:x}\r\n{data}\r\n", data.len()).expect("a string takes all");
    write.write_all(piece.as_bytes()).await
}
