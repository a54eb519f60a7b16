//! Processes and clients of the benches: a scripted model provider, nginx, Redis, the service, and a client.

use std::{
    fmt::Write as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub(crate) use k8sops_testing::nginx::{NginxProxy, process_cpu_time};
use k8sops_testing::{eventually, testbed::free_port};

/// A model provider with the API of chat completions. It streams the same number of tokens for every request.
pub(crate) struct ScriptedUpstream {
    pub port: u16,
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
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // A failed connection ends with its client.
                    let _ = stream_replies(stream, tokens, gap, tool).await;
                });
            }
        });
        Self { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }
}

async fn stream_replies(stream: TcpStream, tokens: u64, gap: Duration, tool: Option<&str>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if read.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        read.read_exact(&mut body).await?;
        write
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        let request: Value = serde_json::from_slice(&body).unwrap_or_default();
        let asked = request["messages"].as_array().and_then(|all| all.last()).is_some_and(|m| m["role"] == "user");
        let offered = request["tools"].as_array().into_iter().flatten();
        let names = offered.filter_map(|t| t["function"]["name"].as_str());
        let wanted = names.into_iter().find(|name| tool.is_some_and(|tool| name.contains(tool)));
        if let Some(wanted) = wanted.filter(|_| asked) {
            let call = json!({"index": 0, "id": "call", "type": "function",
                "function": {"name": wanted, "arguments": "{\"message\": \"hello\"}"}});
            let delta = json!({"id": "c", "object": "chat.completion.chunk", "model": "bench",
                "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]});
            write_chunk(&mut write, &format!("data: {delta}\n\ndata: [DONE]\n\n")).await?;
            write.write_all(b"0\r\n\r\n").await?;
            continue;
        }
        for n in 0..tokens {
            if !gap.is_zero() {
                tokio::time::sleep(gap).await;
            }
            let delta = json!({"id": "c", "object": "chat.completion.chunk", "model": "bench",
                "choices": [{"index": 0, "delta": {"content": format!("token{n} ")}, "finish_reason": null}]});
            write_chunk(&mut write, &format!("data: {delta}\n\n")).await?;
        }
        let end = json!({"id": "c", "object": "chat.completion.chunk", "model": "bench",
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
        write_chunk(&mut write, &format!("data: {end}\n\ndata: [DONE]\n\n")).await?;
        write.write_all(b"0\r\n\r\n").await?;
    }
}

async fn write_chunk(write: &mut (impl AsyncWriteExt + Unpin), data: &str) -> std::io::Result<()> {
    let mut piece = String::with_capacity(data.len() + 16);
    write!(piece, "{:x}\r\n{data}\r\n", data.len()).expect("a string takes all");
    write.write_all(piece.as_bytes()).await
}

/// A running service with the filesystem store.
pub(crate) struct BenchProgram {
    pub url: String,
    child: Child,
    dir: TempDir,
}

impl BenchProgram {
    pub(crate) async fn start(upstream: &str, env: &[(&str, &str)]) -> Self {
        let program = Self::spawn(upstream, env);
        let address = program.url.trim_start_matches("http://");
        eventually("the service listens", async || TcpStream::connect(address).await.is_ok()).await;
        program
    }

    /// Starts the service without waiting for it.
    pub(crate) fn spawn(upstream: &str, env: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let child = Command::new(env!("CARGO_BIN_EXE_k8sops"))
            .arg("serve")
            .env_clear()
            .current_dir(dir.path())
            .env("K8SOPS_PORT", port.to_string())
            .env("MEMORY_FILESYSTEM_PATH", dir.path().join("data"))
            .env("LLM_PROVIDER", "openai")
            .env("LLM_MODEL", "bench")
            .env("OPENAI_BASE_URL", upstream)
            .env("OPENAI_API_KEY", "none")
            .env("LOG_LEVEL", "error")
            // The bench is one user with the load of many.
            .env("K8SOPS_MAX_REQUESTS_PER_MINUTE", "1000000")
            .env("K8SOPS_MAX_RUNS_PER_USER", "1000")
            .env("K8SOPS_MAX_RUNS", "1000")
            .env("K8SOPS_MAX_STREAMS_PER_USER", "2000")
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .spawn()
            .expect("k8sops is built");
        Self { url: format!("http://127.0.0.1:{port}"), child, dir }
    }

    /// Returns the CPU time so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        process_cpu_time(self.child.id())
    }

    /// Returns the size of its files in bytes. Logs only grow, so the difference is what was written.
    pub(crate) fn written_bytes(&self) -> u64 {
        folder_size(self.dir.path())
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn resident_memory(&self) -> u64 {
        self.read_memory("VmRSS:")
    }

    /// Returns the highest resident memory so far in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.read_memory("VmHWM:")
    }

    fn read_memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) * 1024
    }
}

impl Drop for BenchProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder_size(path: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => folder_size(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

/// A client of the service and of the upstream.
pub(crate) struct BenchClient(reqwest::Client);

impl BenchClient {
    pub(crate) fn new() -> Self {
        Self(reqwest::Client::builder().no_proxy().build().expect("a client without TLS can be built"))
    }

    /// Requests one reply of an upstream, and returns the number of its tokens.
    pub(crate) async fn count_upstream_tokens(&self, base: &str) -> u64 {
        let response = self.0.post(format!("{base}/chat/completions")).body("{}").send().await.expect("a response");
        let mut stream = response.bytes_stream();
        let mut tokens = 0;
        while let Some(piece) = stream.next().await {
            let piece = piece.expect("the stream is whole");
            tokens += String::from_utf8_lossy(&piece).matches("\"content\"").count() as u64;
        }
        tokens
    }

    /// Creates a session, and returns its URL.
    pub(crate) async fn create_session(&self, base: &str) -> String {
        let response = self.0.post(format!("{base}/v1/sessions")).send().await.expect("a response");
        let session: Value = response.json().await.expect("JSON");
        format!("{base}/v1/sessions/{}", session["session_id"].as_str().expect("an id"))
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

    /// Opens a WebSocket of a session.
    pub(crate) async fn open_socket(&self, session: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        let (mut socket, _) =
            connect_async(format!("{}/ws", session.replacen("http", "ws", 1))).await.expect("the WebSocket opens");
        socket.next().await.expect("hello").expect("hello");
        socket
    }
}

/// A Redis server for a bench.
pub(crate) struct BenchRedis {
    port: u16,
    child: Child,
    _dir: TempDir,
}

impl BenchRedis {
    pub(crate) async fn start() -> Self {
        Self::start_as("K8SOPS_TEST_REDIS_SERVER").await
    }

    /// Starts the server that an environment variable names.
    pub(crate) async fn start_as(variable: &str) -> Self {
        let (dir, port) = (TempDir::new().expect("a temporary folder"), free_port());
        let server = std::env::var(variable).unwrap_or_else(|_| "redis-server".into());
        let child = Command::new(server)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("Redis is installed");
        eventually("Redis listens", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        Self { port, child, _dir: dir }
    }

    /// Returns the settings of a service with this store.
    pub(crate) fn env(&self) -> [(&'static str, String); 2] {
        [("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", self.url())]
    }

    /// Returns the URL for clients.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the number of keys.
    #[allow(dead_code, reason = "only the soak needs it")]
    pub(crate) async fn count_keys(&self) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("Redis accepts connections");
        stream.write_all(b"DBSIZE\r\n").await.expect("Redis accepts connections");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.expect("a response");
        line.trim().trim_start_matches(':').parse().expect("a number")
    }

    /// Returns the CPU time of the server.
    pub(crate) fn cpu_time(&self) -> Duration {
        process_cpu_time(self.child.id())
    }

    /// Records the commands that clients send, without those that scripts call.
    pub(crate) async fn monitor(&self) -> RedisMonitor {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("Redis accepts connections");
        stream.write_all(b"MONITOR\r\n").await.expect("Redis accepts connections");
        let seen = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let noted = seen.clone();
        let task = tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if !line.contains(" lua]") && line.contains('"') {
                    noted.lock().push(line);
                }
            }
        });
        RedisMonitor { seen, task }
    }
}

impl Drop for BenchRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The commands that Redis receives, see [`BenchRedis::monitor`].
pub(crate) struct RedisMonitor {
    seen: std::sync::Arc<parking_lot::Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl RedisMonitor {
    /// Returns the commands so far, without those that belong to no turn (pings, the scan for sessions without an owner).
    pub(crate) fn stop(self) -> Vec<String> {
        self.task.abort();
        let seen = self.seen.lock().clone();
        seen.into_iter().filter(|line| line.contains('{') || line.contains("user:")).collect()
    }
}
