//! The system under test: replicas as processes on one Redis, behind nginx.

use parking_lot::Mutex;
use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use k8sops_testing::{
    eventually_within,
    nginx::NginxProxy,
    redis::{RedisFlavor, RedisServer, next_port},
};

/// A replica that does not respond within this time after its start has failed.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A replica that does not exit within this time after a signal has failed; the service's own limit is 20 s.
const EXIT_TIMEOUT: Duration = Duration::from_secs(40);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Redis, the replicas, and nginx in front of them. Dropping it stops all of them.
pub(crate) struct ChaosCluster {
    pub replicas: Vec<Arc<ReplicaProcess>>,
    pub nginx: NginxProxy,
    pub redis: RedisServer,
    pub http: reqwest::Client,
    /// Holds the standard error of the replicas.
    _logs: TempDir,
}

impl ChaosCluster {
    /// Starts all processes, and waits until every replica is connected to the tools.
    pub(crate) async fn start(replicas: usize, model: &str, tools: &str) -> Self {
        let redis = RedisServer::start(RedisFlavor::Debian).await;
        let logs = TempDir::new().expect("a temporary folder can be created");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client without TLS can be built");
        let ports: Vec<u16> = (0..replicas).map(|_| next_port()).collect();
        let nginx = NginxProxy::start(&ports).await;
        let env = [
            ("MEMORY_BACKEND", "redis".to_owned()),
            ("REDIS_URL", redis.url()),
            ("LLM_PROVIDER", "openai".to_owned()),
            ("LLM_MODEL", "chaos".to_owned()),
            ("OPENAI_BASE_URL", model.to_owned()),
            ("OPENAI_API_KEY", "none".to_owned()),
            ("MCP_TRANSPORT", "http".to_owned()),
            ("MCP_SERVER_URL", tools.to_owned()),
            ("TOOL_APPROVAL", "auto".to_owned()),
            ("MAX_SESSIONS", "10000".to_owned()),
            ("LOG_LEVEL", "info".to_owned()),
        ];
        let replicas: Vec<_> = ports
            .iter()
            .enumerate()
            .map(|(index, &port)| {
                let log = logs.path().join(format!("replica-{index}.log"));
                let slot = Mutex::new(ProcessSlot { child: None, id: String::new(), state: ReplicaState::Down });
                Arc::new(ReplicaProcess { index, port, env: env.to_vec(), log, http: http.clone(), slot })
            })
            .collect();
        let cluster = Self { replicas, nginx, redis, http, _logs: logs };
        for replica in &cluster.replicas {
            replica.start().await;
            eventually_within(START_TIMEOUT, "the replica connects to the tools", async || {
                replica.read_info().await.is_some_and(|info| info["mcp_connected"] == true)
            })
            .await;
        }
        cluster
    }

    /// Finds the replica that holds leases under this id.
    pub(crate) fn find_replica(&self, id: &str) -> Option<&Arc<ReplicaProcess>> {
        self.replicas.iter().find(|replica| replica.slot.lock().id == id)
    }

    pub(crate) fn count_replicas(&self, state: ReplicaState) -> usize {
        self.replicas.iter().filter(|replica| replica.state() == state).count()
    }

    /// Returns the last lines of each replica's log.
    pub(crate) fn last_log_lines(&self) -> String {
        let mut text = String::new();
        for replica in &self.replicas {
            let log = std::fs::read(&replica.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            let _ = writeln!(text, "-- replica {} ({:?}), last lines of its log:", replica.index, replica.state());
            for line in &lines[lines.len().saturating_sub(25)..] {
                let _ = writeln!(text, "   {line}");
            }
        }
        text
    }

    /// Counts the occurrences of a text in the logs of all replicas.
    pub(crate) fn count_in_logs(&self, text: &str) -> u64 {
        let log = |replica: &Arc<ReplicaProcess>| std::fs::read(&replica.log).unwrap_or_default();
        self.replicas.iter().map(|r| String::from_utf8_lossy(&log(r)).matches(text).count() as u64).sum()
    }

    /// Copies the logs of the replicas to a folder that outlives the test, and returns its path.
    pub(crate) fn keep_logs(&self) -> PathBuf {
        let kept = std::env::temp_dir().join(format!("k8sops-chaos-{}", std::process::id()));
        std::fs::create_dir_all(&kept).expect("a folder can be created");
        for replica in &self.replicas {
            let name = replica.log.file_name().expect("the path names a file");
            // A replica that never started has no log.
            let _ = std::fs::copy(&replica.log, kept.join(name));
        }
        kept
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplicaState {
    /// Responds to requests.
    Up,
    /// Stopped by SIGSTOP.
    Paused,
    /// Not running, starting or shutting down.
    Down,
}

/// A replica: it keeps its port when its process is restarted.
pub(crate) struct ReplicaProcess {
    pub index: usize,
    port: u16,
    env: Vec<(&'static str, String)>,
    log: PathBuf,
    http: reqwest::Client,
    // A synchronous mutex: held for a look-up or a signal, never across an await. Signals are sent while it is held, so
    // that the process still exists.
    slot: Mutex<ProcessSlot>,
}

struct ProcessSlot {
    child: Option<Child>,
    /// The replica's id in leases.
    id: String,
    state: ReplicaState,
}

impl ReplicaProcess {
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn state(&self) -> ReplicaState {
        self.slot.lock().state
    }

    pub(crate) fn id(&self) -> String {
        self.slot.lock().id.clone()
    }

    async fn read_info(&self) -> Option<Value> {
        let response = self.http.get(format!("{}/v1/info", self.url())).timeout(Duration::from_secs(2)).send().await;
        response.ok()?.error_for_status().ok()?.json().await.ok()
    }

    /// Starts the process and waits until it responds. The process may take over sessions before that.
    pub(crate) async fn start(&self) {
        let child = self.spawn();
        self.slot.lock().child = Some(child);
        let deadline = Instant::now() + START_TIMEOUT;
        // Not `eventually`: its future is not `Send`, and faults are repaired in tasks.
        let info = loop {
            if let Some(info) = self.read_info().await {
                break info;
            }
            let exited = self.slot.lock().child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = exited {
                panic!("replica {} exited during its start: {status}", self.index);
            }
            assert!(Instant::now() < deadline, "replica {} did not respond within {START_TIMEOUT:?}", self.index);
            sleep(POLL_INTERVAL).await;
        };
        let mut slot = self.slot.lock();
        info["replica"].as_str().expect("/v1/info names the replica").clone_into(&mut slot.id);
        slot.state = ReplicaState::Up;
    }

    fn spawn(&self) -> Child {
        let log: File = OpenOptions::new().create(true).append(true).open(&self.log).expect("the log can be opened");
        Command::new(env!("CARGO_BIN_EXE_k8sops"))
            .arg("serve")
            .env_clear()
            .env("K8SOPS_PORT", self.port.to_string())
            // The environment has no HOME, to which the default path would be relative.
            .env("MEMORY_FILESYSTEM_PATH", ".")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.log.parent().expect("the log is in a folder"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the program can be started")
    }

    /// Sends a signal and sets the state to `to`, if the state is `from`. Returns whether the signal was sent.
    fn send_signal(&self, signal: Signal, from: ReplicaState, to: ReplicaState) -> bool {
        let mut slot = self.slot.lock();
        let pid = slot.child.as_ref().and_then(Child::id);
        let Some(pid) = pid.filter(|_| slot.state == from) else { return false };
        slot.state = to;
        let pid = Pid::from_raw(i32::try_from(pid).expect("process ids are small"));
        signal::kill(pid, signal).expect("a child that was not waited for accepts signals");
        true
    }

    /// Sends SIGKILL. Returns false if the replica is not up.
    pub(crate) fn kill(&self) -> bool {
        self.send_signal(Signal::SIGKILL, ReplicaState::Up, ReplicaState::Down)
    }

    /// Sends SIGSTOP. Returns false if the replica is not up.
    pub(crate) fn pause(&self) -> bool {
        self.send_signal(Signal::SIGSTOP, ReplicaState::Up, ReplicaState::Paused)
    }

    /// Sends SIGCONT if the replica is paused.
    pub(crate) fn resume(&self) {
        self.send_signal(Signal::SIGCONT, ReplicaState::Paused, ReplicaState::Up);
    }

    /// Sends SIGTERM. Returns false if the replica is not up.
    pub(crate) fn terminate(&self) -> bool {
        self.send_signal(Signal::SIGTERM, ReplicaState::Up, ReplicaState::Down)
    }

    /// Waits until the process exits after a signal.
    pub(crate) async fn wait_for_exit(&self) -> ExitStatus {
        let child = self.slot.lock().child.take();
        let mut child = child.expect("the process was started, and is waited for once");
        let exited = timeout(EXIT_TIMEOUT, child.wait()).await;
        let status = exited.unwrap_or_else(|_| panic!("replica {} did not exit within {EXIT_TIMEOUT:?}", self.index));
        status.expect("a child can be waited for")
    }
}
