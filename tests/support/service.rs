//! A service in the process of the test, and a client for it.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::web;
use futures_util::StreamExt;
use k8sops::{
    api::ApiState,
    app::{Application, BuildOverrides},
    config::{AppConfig, SettingSources},
};
use k8sops_mcp::McpConnector;
use k8sops_models::{ChatModel, ModelCatalog, ModelInfo, ProviderInfo};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use k8sops_testing::{
    TEST_TIMEOUT,
    counting_server::CountingMcpServer,
    eventually,
    scripted_model::{ReplyStep, ScriptedModel},
};

/// How long Redis may take to write to the disk of a machine that runs many tests.
pub(crate) const SLOW_DISK_TIMEOUT: &str = "30s";

/// How the service of a test differs from the default.
#[derive(Default)]
pub(crate) struct ServiceSetup {
    pub env: Vec<(&'static str, String)>,
    pub yaml: Option<String>,
    pub model: Option<Arc<dyn ChatModel>>,
    pub servers: Vec<(String, Arc<dyn McpConnector>)>,
    /// The data folder of an earlier service.
    pub data: Option<TempDir>,
}

/// A running service. Dropping it aborts it; [`TestService::stop`] shuts it down.
pub(crate) struct TestService {
    pub base: String,
    /// The key or token that every request contains.
    pub token: Option<String>,
    /// Whether reads are repeated while the store is away, as clients do: with a server that fails over, any first read can
    /// find its connection broken.
    pub repeats_reads: bool,
    http: Client,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    data: TempDir,
    state: web::Data<ApiState>,
}

impl TestService {
    /// Starts a service with this model and the filesystem store.
    pub(crate) async fn with(model: &Arc<ScriptedModel>) -> Self {
        Self::start(ServiceSetup { model: Some(model.clone()), ..ServiceSetup::default() }).await
    }

    /// Starts a service whose model gives these replies, with the tools of a server, once they are there.
    pub(crate) async fn with_tools(replies: Vec<Vec<ReplyStep>>, tools: &CountingMcpServer) -> Self {
        let model: Arc<ScriptedModel> = ScriptedModel::new(replies);
        let setup = ServiceSetup { model: Some(model), servers: vec![tools.connector()], ..ServiceSetup::default() };
        let service = Self::start(setup).await;
        service.wait_for_mcp_servers().await;
        service
    }

    pub(crate) async fn start(setup: ServiceSetup) -> Self {
        Self::try_start(setup).await.unwrap()
    }

    /// Starts a service, or returns why it does not start.
    pub(crate) async fn try_start(setup: ServiceSetup) -> anyhow::Result<Self> {
        let data = setup.data.unwrap_or_else(|| TempDir::new().unwrap());
        let mut env: BTreeMap<String, String> = BTreeMap::from([
            ("K8SOPS_PORT".into(), "0".into()),
            ("MEMORY_BACKEND".into(), "filesystem".into()),
            ("MEMORY_FILESYSTEM_PATH".into(), data.path().to_str().unwrap().into()),
            ("REDIS_CONFIRM_TIMEOUT".into(), SLOW_DISK_TIMEOUT.into()),
        ]);
        env.extend(setup.env.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let yaml = setup.yaml.map(|text| ("test.yaml".into(), text));
        let loaded = AppConfig::load(SettingSources { env, dotenv: None, yaml }).unwrap();
        let scripted = setup.model.map(|model| {
            let mut catalog = ModelCatalog::new(&loaded.config.providers);
            let (provider, model_id) = (&loaded.config.llm.provider, &loaded.config.llm.model);
            catalog.register_provider(info(provider, model_id), model);
            catalog
        });
        let overrides = BuildOverrides { catalog: scripted, servers: setup.servers, demo: false };
        let app = Application::build_with(&loaded.config, overrides).await?;
        Ok(Self::run(app, data))
    }

    pub(crate) fn run(app: Application, data: TempDir) -> Self {
        let base = format!("http://127.0.0.1:{}", app.port());
        let stop = CancellationToken::new();
        let state = app.state();
        let task = tokio::spawn(app.run_until_stopped(stop.clone()));
        // A stream may take long in total, as with a model on a busy machine.
        let http = Client::builder().no_proxy().read_timeout(TEST_TIMEOUT).build().unwrap();
        Self { base, token: None, repeats_reads: false, http, stop, task, data, state }
    }

    /// Shuts the service down, and returns its data folder for the next service.
    pub(crate) async fn stop(self) -> TempDir {
        self.stop.cancel();
        tokio::time::timeout(TEST_TIMEOUT, self.task).await.expect("the service stops").unwrap().unwrap();
        self.data
    }

    /// Returns for how long each kind of task has held a worker at most.
    #[cfg(any(debug_assertions, feature = "worker-watch"))]
    pub(crate) fn longest_holds(&self) -> BTreeMap<String, std::time::Duration> {
        self.state.sessions.longest_holds()
    }

    /// Starts the shutdown without waiting for its end.
    pub(crate) fn request_stop(&self) {
        self.stop.cancel();
    }

    /// Waits until all MCP servers are connected.
    pub(crate) async fn wait_for_mcp_servers(&self) {
        eventually("the MCP servers are connected", async || self.get("/v1/info").await["mcp_connected"] == true).await;
    }

    pub(crate) fn data_folder(&self) -> &std::path::Path {
        self.data.path()
    }

    /// Returns a copy of the data folder as it is now.
    pub(crate) fn copy_data(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        copy_dir(self.data.path(), copy.path());
        copy
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        ok(self.read(self.request(Method::GET, path)).await).await
    }

    /// Sends a request that can be repeated.
    async fn read(&self, request: RequestBuilder) -> Response {
        let send = async || request.try_clone().unwrap().send().await.unwrap();
        let is_away = |response: &Response| response.status() == StatusCode::SERVICE_UNAVAILABLE;
        let response = send().await;
        if !(self.repeats_reads && is_away(&response)) {
            return response;
        }
        let again = async || Some(send().await).filter(|response| !is_away(response));
        eventually("the store is back", again).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        ok(self.request(Method::POST, path).json(&body).send().await.unwrap()).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Value {
        ok(self.request(Method::PATCH, path).json(&body).send().await.unwrap()).await
    }

    /// Sends a request that must fail, and returns the status and the problem document.
    pub(crate) async fn refused(&self, request: RequestBuilder) -> (u16, Value) {
        problem(request.send().await.unwrap()).await
    }

    /// Creates a session, and returns its path.
    pub(crate) async fn create_session(&self) -> String {
        let session = self.post("/v1/sessions", json!({})).await;
        format!("/v1/sessions/{}", session["session_id"].as_str().unwrap())
    }

    /// Sends a message, waits for the end of its run, and returns the frames of the run.
    pub(crate) async fn turn(&self, session: &str, content: &str) -> Vec<Value> {
        let response = self
            .request(Method::POST, &format!("{session}/messages"))
            .header("accept", "text/event-stream")
            .json(&json!({"content": content}))
            .send()
            .await
            .unwrap();
        EventStream::new(accepted(response).await).rest().await
    }

    /// Returns the events of a session so far.
    pub(crate) async fn log(&self, session: &str) -> Vec<Value> {
        let request = self
            .request(Method::GET, &format!("{session}/events?follow=false"))
            .header("accept", "application/x-ndjson");
        let text = accepted(self.read(request).await).await.text().await.unwrap();
        let frames = text.lines().filter(|l| !l.is_empty()).map(|line| serde_json::from_str(line).unwrap());
        frames.filter(|frame: &Value| frame["seq"].is_u64()).collect()
    }

    /// Opens a stream of the session's events.
    pub(crate) async fn events(&self, session: &str, query: &str) -> EventStream {
        let response = self.read(self.request(Method::GET, &format!("{session}/events{query}"))).await;
        EventStream::new(accepted(response).await)
    }
}

pub(crate) fn info(provider: &str, model: &str) -> ProviderInfo {
    let model = ModelInfo {
        id: model.into(),
        name: model.into(),
        description: String::new(),
        context_window: None,
        max_output_tokens: Some(1000),
        features: Vec::new(),
        prices: None,
    };
    ProviderInfo { id: provider.into(), name: provider.into(), configured: true, models: vec![model] }
}

async fn ok(response: Response) -> Value {
    let response = accepted(response).await;
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// Returns the response, or fails with what it says of the refusal.
async fn accepted(response: Response) -> Response {
    let status = response.status();
    assert!(status.is_success(), "{status}: {}", response.text().await.unwrap());
    response
}

pub(crate) async fn problem(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let content_type =
        response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let text = response.text().await.unwrap();
    assert_eq!(content_type, "application/problem+json", "{status}: {text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["status"], status);
    (status, problem)
}

/// A stream of server-sent events.
pub(crate) struct EventStream {
    body: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: String,
}

impl EventStream {
    pub(crate) fn new(response: Response) -> Self {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.bytes_stream().boxed(), buffer: String::new() }
    }

    /// Returns the data of the next message, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.buffer.find("\n\n") {
                let message: String = self.buffer.drain(..end + 2).collect();
                let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
                let Some(data) = field("data: ") else { continue };
                let frame: Value = serde_json::from_str(data).unwrap();
                assert_eq!(field("event: "), frame["type"].as_str());
                assert_eq!(field("id: ").map(str::to_owned), frame["seq"].as_u64().map(|seq| seq.to_string()));
                return Some(frame);
            }
            let piece = tokio::time::timeout(TEST_TIMEOUT, self.body.next()).await.expect("the stream goes on")?;
            self.buffer.push_str(std::str::from_utf8(&piece.ok()?).unwrap());
        }
    }

    /// Reads all messages until the stream ends.
    pub(crate) async fn rest(mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// Reads messages up to the first of this type, inclusive.
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await.unwrap_or_else(|| panic!("the stream ended before {kind}: {frames:?}"));
            let found = frame["type"] == kind;
            frames.push(frame);
            if found {
                return frames;
            }
        }
    }
}

/// Returns the types of frames, in order.
pub(crate) fn frame_types(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter_map(|frame| frame["type"].as_str()).collect()
}

/// Returns the text that a simple client shows: `offset` 0 starts a new text, any other value appends.
pub(crate) fn shown_text(frames: &[Value]) -> String {
    let mut text = String::new();
    for token in frames.iter().filter(|frame| frame["type"] == "token") {
        if token["offset"] == 0 {
            text.clear();
        }
        assert_eq!(token["offset"], text.len(), "deltas are gapless");
        text.push_str(token["content"].as_str().unwrap());
    }
    text
}

/// Asserts that the sequence numbers of logged events have no gap, beginning with `first`.
pub(crate) fn assert_gapless(frames: &[Value], first: u64) {
    let seqs: Vec<u64> = frames.iter().filter_map(|frame| frame["seq"].as_u64()).collect();
    assert_eq!(seqs, (first..first + seqs.len() as u64).collect::<Vec<_>>());
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
