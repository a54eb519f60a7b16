//! The program as it is shipped, in a process of its own: for what a process has one of, its log and its traces.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::service::{PATIENCE, Sse};

/// Returns a command that runs the program under test, with an empty environment.
pub fn k8sops_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_k8sops"));
    command.env_clear().current_dir(std::env::temp_dir()).kill_on_drop(true);
    command
}

/// A running `k8sops serve`, on a free port, with its sessions in memory.
pub struct Program {
    pub url: String,
    /// The key or token that goes along with every request.
    pub token: Option<String>,
    /// Its folder, which its working directory is.
    pub dir: TempDir,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    http: reqwest::Client,
}

impl Program {
    pub async fn start(yaml: &str, env: &[(&str, &str)]) -> Self {
        Self::start_as(Command::new(env!("CARGO_BIN_EXE_k8sops")).arg("serve"), yaml, env).await
    }

    /// Starts a command that becomes the program.
    pub async fn start_as(command: &mut Command, yaml: &str, env: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("k8sops.yaml"), yaml).unwrap();
        let mut child = command
            .env_clear()
            .current_dir(dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([("K8SOPS_PORT", "0"), ("MEMORY_BACKEND", "memory"), ("MEMORY_FILESYSTEM_PATH", ".")])
            .envs([("K8SOPS_CONFIG", "k8sops.yaml"), ("LOG_FORMAT", "json")])
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (log, said) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        gather(child.stderr.take().unwrap(), &log);
        gather(child.stdout.take().unwrap(), &said);
        let url = until("it says where it listens", async || {
            if let Some(ended) = child.try_wait().unwrap() {
                panic!("it ended at its start, {ended}: {:?}", log.lock().unwrap());
            }
            let said = said.lock().unwrap().join("\n");
            let port = said.split_once("http://127.0.0.1:")?.1;
            Some(format!("http://127.0.0.1:{}", port.lines().next()?.trim()))
        })
        .await;
        Self { url, token: None, dir, child, log, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url)).timeout(PATIENCE);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Value {
        self.request(reqwest::Method::GET, path).send().await.unwrap().json().await.unwrap()
    }

    /// Waits until its MCP servers are connected.
    pub async fn connected(&self) {
        until("the MCP servers connect", async || (self.get("/v1/info").await["mcp_connected"] == true).then_some(()))
            .await;
    }

    /// A new session's path.
    pub async fn session(&self) -> String {
        let answer = self.request(reqwest::Method::POST, "/v1/sessions").json(&json!({})).send().await.unwrap();
        let session: Value = answer.json().await.unwrap();
        format!("/v1/sessions/{}", session["session_id"].as_str().unwrap())
    }

    /// A whole turn; its frames.
    pub async fn turn(&self, session: &str, headers: &[(&str, &str)]) -> Vec<Value> {
        self.say(session, "my question", headers).await
    }

    /// A whole turn that begins with this message; its frames.
    pub async fn say(&self, session: &str, content: &str, headers: &[(&str, &str)]) -> Vec<Value> {
        let request = self.request(reqwest::Method::POST, &format!("{session}/messages"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.header("accept", "text/event-stream").json(&json!({"content": content}));
        let text = request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// An open stream of the session's events.
    pub async fn events(&self, session: &str, query: &str) -> Sse {
        let answer = self.request(reqwest::Method::GET, &format!("{session}/events{query}")).send().await.unwrap();
        Sse::new(answer.error_for_status().unwrap())
    }

    /// The bytes of memory that it holds now.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// How many files and sockets it has open now.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    fn pid(&self) -> i32 {
        self.child.id().expect("it runs").try_into().unwrap()
    }

    /// What it has logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Stops it in order; what it has logged, and its folder.
    pub async fn stop(mut self) -> (Vec<String>, TempDir) {
        self.signal(Signal::SIGTERM);
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("it stops").unwrap();
        assert!(ended.success(), "{ended}: {:?}", self.log());
        (self.log(), self.dir)
    }
}

/// Waits for something, and gives it.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// Gathers the lines of an output.
pub fn gather(output: impl AsyncRead + Unpin + Send + 'static, into: &Arc<Mutex<Vec<String>>>) {
    let into = into.clone();
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            into.lock().unwrap().push(line);
        }
    });
}
