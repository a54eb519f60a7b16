//! The program as it is shipped, in a process of its own: for tests of its signals, log, traces and use of resources.

use k8sops_testing::{TEST_TIMEOUT, child_program::ChildProgram, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::service::{EventStream, SLOW_DISK_TIMEOUT};

/// Returns a command that runs the program under test, with an empty environment.
pub(crate) fn k8sops_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_k8sops"));
    command.env_clear().current_dir(std::env::temp_dir()).kill_on_drop(true);
    command
}

/// A running `k8sops serve`, on a free port, with its sessions in memory.
pub(crate) struct TestProgram {
    pub process: ChildProgram,
    /// The key or token that every request contains.
    pub token: Option<String>,
    /// The working directory.
    pub dir: TempDir,
    http: reqwest::Client,
}

impl TestProgram {
    /// Starts the program with these settings.
    pub(crate) async fn start(yaml: &str, env: &[(&str, &str)]) -> Self {
        Self::start_as(k8sops_command().arg("serve"), yaml, env).await
    }

    /// Starts a command that becomes the program.
    pub(crate) async fn start_as(command: &mut Command, yaml: &str, env: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("k8sops.yaml"), yaml).unwrap();
        command
            .env_clear()
            .current_dir(dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([("K8SOPS_PORT", "0"), ("MEMORY_BACKEND", "memory"), ("MEMORY_FILESYSTEM_PATH", ".")])
            .envs([("K8SOPS_CONFIG", "k8sops.yaml"), ("LOG_FORMAT", "json")])
            .env("REDIS_CONFIRM_TIMEOUT", SLOW_DISK_TIMEOUT)
            .envs(env.iter().copied());
        let process = ChildProgram::start(command).await;
        Self { process, token: None, dir, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    /// Returns a request with the token.
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.process.url)).timeout(TEST_TIMEOUT);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a GET request, and returns the JSON of the response.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.request(reqwest::Method::GET, path).send().await.unwrap().json().await.unwrap()
    }

    /// Waits until the MCP servers are connected.
    pub(crate) async fn wait_for_mcp_servers(&self) {
        eventually("the MCP servers are connected", async || self.get("/v1/info").await["mcp_connected"] == true).await;
    }

    /// Creates a session, and returns its path.
    pub(crate) async fn create_session(&self) -> String {
        let answer = self.request(reqwest::Method::POST, "/v1/sessions").json(&json!({})).send().await.unwrap();
        let session: Value = answer.json().await.unwrap();
        format!("/v1/sessions/{}", session["session_id"].as_str().unwrap())
    }

    /// Runs a turn, and returns its frames.
    pub(crate) async fn turn(&self, session: &str, headers: &[(&str, &str)]) -> Vec<Value> {
        self.say(session, "my question", headers).await
    }

    /// Runs a turn for this message, and returns its frames.
    pub(crate) async fn say(&self, session: &str, content: &str, headers: &[(&str, &str)]) -> Vec<Value> {
        let request = self.request(reqwest::Method::POST, &format!("{session}/messages"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.header("accept", "text/event-stream").json(&json!({"content": content}));
        let text = request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Opens a stream of the session's events.
    pub(crate) async fn events(&self, session: &str, query: &str) -> EventStream {
        let answer = self.request(reqwest::Method::GET, &format!("{session}/events{query}")).send().await.unwrap();
        EventStream::new(answer.error_for_status().unwrap())
    }

    /// Returns the lines of the log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.stderr.lines()
    }

    /// Stops the program. Returns the lines of its log, and its working directory.
    pub(crate) async fn stop(mut self) -> (Vec<String>, TempDir) {
        let status = self.process.stop().await;
        assert!(status.success(), "{status}: {:?}", self.log());
        (self.log(), self.dir)
    }
}
