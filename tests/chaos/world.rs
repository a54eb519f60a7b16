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

/// A replica that does not answer this long after its start is broken.
const START: Duration = Duration::from_secs(30);
/// One that does not end this long after SIGTERM is, too: the service's own limit is 20 s.
const STOP: Duration = Duration::from_secs(40);

const POLL: Duration = Duration::from_millis(20);

/// Redis, the replicas, and nginx in front of them. All end when it is dropped.
pub(crate) struct World {
    pub replicas: Vec<Arc<Replica>>,
    pub nginx: NginxProxy,
    pub redis: RedisServer,
    pub http: reqwest::Client,
    /// What the replicas write to standard error.
    _logs: TempDir,
}

impl World {
    /// Starts everything, and waits until every replica has its tools.
    pub(crate) async fn start(replicas: usize, model: &str, tools: &str) -> Self {
        let redis = RedisServer::start(RedisFlavor::Debian).await;
        let logs = TempDir::new().expect("a temporary folder");
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
                let life = Mutex::new(Life { child: None, id: String::new(), state: State::Down });
                Arc::new(Replica { index, port, env: env.to_vec(), log, http: http.clone(), life })
            })
            .collect();
        let world = Self { replicas, nginx, redis, http, _logs: logs };
        for replica in &world.replicas {
            replica.start().await;
            eventually_within(START, "the replica connects to the tools", async || {
                replica.info().await.is_some_and(|info| info["mcp_connected"] == true)
            })
            .await;
        }
        world
    }

    /// The replica that holds leases under this name.
    pub(crate) fn named(&self, id: &str) -> Option<&Arc<Replica>> {
        self.replicas.iter().find(|replica| replica.life.lock().id == id)
    }

    /// How many replicas answer requests, and how many are stopped in their tracks.
    pub(crate) fn standing(&self) -> (usize, usize) {
        let count = |state| self.replicas.iter().filter(|replica| replica.state() == state).count();
        (count(State::Up), count(State::Paused))
    }

    /// The end of what each replica has written.
    pub(crate) fn last_lines(&self) -> String {
        let mut text = String::new();
        for replica in &self.replicas {
            let log = std::fs::read(&replica.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            let _ = writeln!(text, "-- replica {} ({:?}), the end of its log:", replica.index, replica.state());
            for line in &lines[lines.len().saturating_sub(25)..] {
                let _ = writeln!(text, "   {line}");
            }
        }
        text
    }

    /// How often the replicas have written something.
    pub(crate) fn written(&self, what: &str) -> u64 {
        let log = |replica: &Arc<Replica>| std::fs::read(&replica.log).unwrap_or_default();
        self.replicas.iter().map(|r| String::from_utf8_lossy(&log(r)).matches(what).count() as u64).sum()
    }

    /// Keeps the logs of the replicas beyond the test; where they are.
    pub(crate) fn keep_logs(&self) -> PathBuf {
        let kept = std::env::temp_dir().join(format!("k8sops-chaos-{}", std::process::id()));
        std::fs::create_dir_all(&kept).expect("the folder for temporary files takes another");
        for replica in &self.replicas {
            let name = replica.log.file_name().expect("a file");
            // What is not there was never written.
            let _ = std::fs::copy(&replica.log, kept.join(name));
        }
        kept
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It answers.
    Up,
    /// Stopped by SIGSTOP.
    Paused,
    /// No process, or one that does not answer yet or not any more.
    Down,
}

/// One place of a replica: its port stays, its process comes and goes.
pub(crate) struct Replica {
    pub index: usize,
    port: u16,
    env: Vec<(&'static str, String)>,
    log: PathBuf,
    http: reqwest::Client,
    // A plain mutex: held for a look-up or a signal, never across an await. A signal is sent under it, so that the
    // process it is meant for is there.
    life: Mutex<Life>,
}

struct Life {
    child: Option<Child>,
    /// Its name in leases.
    id: String,
    state: State,
}

impl Replica {
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn state(&self) -> State {
        self.life.lock().state
    }

    pub(crate) fn id(&self) -> String {
        self.life.lock().id.clone()
    }

    async fn info(&self) -> Option<Value> {
        let answer = self.http.get(format!("{}/v1/info", self.url())).timeout(Duration::from_secs(2)).send().await;
        answer.ok()?.error_for_status().ok()?.json().await.ok()
    }

    /// Starts the process and waits until it answers. It takes part in the work as soon as it can, not only from then on.
    pub(crate) async fn start(&self) {
        let child = self.spawn();
        self.life.lock().child = Some(child);
        let deadline = Instant::now() + START;
        // Not `eventually`: its future is not `Send`, and the killer restarts replicas in tasks.
        let info = loop {
            if let Some(info) = self.info().await {
                break info;
            }
            let ended = self.life.lock().child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                panic!("replica {} ended at its start: {status}", self.index);
            }
            assert!(Instant::now() < deadline, "replica {} did not respond within {START:?}", self.index);
            sleep(POLL).await;
        };
        let mut life = self.life.lock();
        info["replica"].as_str().expect("/v1/info names the replica").clone_into(&mut life.id);
        life.state = State::Up;
    }

    fn spawn(&self) -> Child {
        let log: File = OpenOptions::new().create(true).append(true).open(&self.log).expect("the folder takes it");
        Command::new(env!("CARGO_BIN_EXE_k8sops"))
            .arg("serve")
            .env_clear()
            .env("K8SOPS_PORT", self.port.to_string())
            // No home is needed; where the path is expanded it must not fail.
            .env("MEMORY_FILESYSTEM_PATH", ".")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.log.parent().expect("a file in a folder"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("it is built")
    }

    /// Sends a signal, if the replica is in this state; it is in the state `then` afterwards.
    fn signal(&self, signal: Signal, from: State, then: State) -> bool {
        let mut life = self.life.lock();
        let pid = life.child.as_ref().and_then(Child::id);
        let Some(pid) = pid.filter(|_| life.state == from) else { return false };
        life.state = then;
        let pid = Pid::from_raw(i32::try_from(pid).expect("process ids are small"));
        signal::kill(pid, signal).expect("a child that was not waited for can be signalled");
        true
    }

    /// SIGKILL, at once. False when it is not up.
    pub(crate) fn kill(&self) -> bool {
        self.signal(Signal::SIGKILL, State::Up, State::Down)
    }

    /// SIGSTOP.
    pub(crate) fn pause(&self) -> bool {
        self.signal(Signal::SIGSTOP, State::Up, State::Paused)
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT, State::Paused, State::Up);
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) -> bool {
        self.signal(Signal::SIGTERM, State::Up, State::Down)
    }

    /// Waits until the process that was told to end has ended.
    pub(crate) async fn ended(&self) -> ExitStatus {
        let child = self.life.lock().child.take();
        let mut child = child.expect("it was started, and is waited for once");
        let ended = timeout(STOP, child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("replica {} did not end within {STOP:?}", self.index));
        ended.expect("a child can be waited for")
    }
}
