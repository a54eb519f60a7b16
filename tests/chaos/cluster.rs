//! The system under test: replicas as processes, behind nginx.

use parking_lot::Mutex;
use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
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

use k8sops_testing::{eventually_within, nginx::NginxProxy, redis::next_port};

use crate::{
    disturbance::DisturbanceKind,
    plan::ChaosPlan,
    redis_bed::{RedisBed, RedisShard},
};

/// A replica that does not respond within this time after its start has failed.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Time until a replica that exited at its start is started again.
const RESTART_DELAY: Duration = Duration::from_millis(200);
/// A replica that does not exit within this time after a signal has failed; the service's own limit is 20 s.
const EXIT_TIMEOUT: Duration = Duration::from_secs(40);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Redis, the replicas, and nginx in front of them. Dropping it stops all of them.
pub(crate) struct ChaosCluster {
    pub replicas: Vec<Arc<ReplicaProcess>>,
    pub nginx: NginxProxy,
    pub redis: RedisBed,
    pub http: reqwest::Client,
    /// Holds the standard error of the replicas.
    _logs: TempDir,
}

impl ChaosCluster {
    /// Starts all processes, and waits until every replica is connected to the tools. The URL of the tools gets the index of
    /// the replica, so that they know who calls.
    pub(crate) async fn start(plan: &ChaosPlan, model: &str, tools: &str) -> Self {
        let redis = RedisBed::start(plan).await;
        let logs = TempDir::new().expect("a temporary folder can be created");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client without TLS can be built");
        let ports: Vec<u16> = (0..plan.replicas).map(|_| next_port()).collect();
        let nginx = NginxProxy::start(&ports).await;
        let replicas = ports.iter().enumerate().map(|(index, &port)| {
            let mut env = vec![
                ("LLM_PROVIDER", "openai".to_owned()),
                ("LLM_MODEL", "chaos".to_owned()),
                ("OPENAI_BASE_URL", model.to_owned()),
                ("OPENAI_API_KEY", "none".to_owned()),
                ("MCP_TRANSPORT", "http".to_owned()),
                ("MCP_SERVER_URL", format!("{tools}/{index}")),
                ("TOOL_APPROVAL", "ask".to_owned()),
                // Longer than a clock jumps.
                ("K8SOPS_APPROVAL_TTL", "24h".to_owned()),
                ("MAX_SESSIONS", "1000000".to_owned()),
                ("LOG_LEVEL", "info".to_owned()),
            ];
            env.extend(redis.service_env(index));
            env.extend(plan.confirm.clone().map(|confirm| ("REDIS_CONFIRM", confirm)));
            let clock_file = logs.path().join(format!("clock-{index}"));
            if let Ok(library) = std::env::var("K8SOPS_TEST_LIBFAKETIME")
                && plan.kinds.contains(&DisturbanceKind::Clock)
            {
                env.extend([
                    ("LD_PRELOAD", library),
                    ("FAKETIME_TIMESTAMP_FILE", clock_file.display().to_string()),
                    ("FAKETIME_CACHE_DURATION", "1".to_owned()),
                    ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
                ]);
            }
            Arc::new(ReplicaProcess {
                index,
                port,
                env,
                log: logs.path().join(format!("replica-{index}.log")),
                clock_file,
                http: http.clone(),
                slot: Mutex::new(ProcessSlot { child: None, id: String::new(), state: ReplicaState::Down }),
                disturbances: Mutex::default(),
                failed_exits: AtomicU64::new(0),
            })
        });
        let replicas: Vec<_> = replicas.collect();
        let cluster = Self { replicas, nginx, redis, http, _logs: logs };
        for replica in &cluster.replicas {
            replica.set_clock_offset(0);
            replica.start().await;
            eventually_within(START_TIMEOUT, "the replica connects to the tools", async || {
                replica.read_info().await.is_some_and(|info| info["mcp_connected"] == true)
            })
            .await;
        }
        cluster
    }

    /// Reserves the replica for a disturbance, if nothing else disturbs it and `minimum_undisturbed` others are undisturbed.
    pub(crate) fn reserve_replica(&self, index: usize, minimum_undisturbed: usize) -> Option<ReplicaReservation> {
        // Several workers reserve on one thread.
        let undisturbed = self.replicas.iter().filter(|replica| !replica.is_disturbed()).count();
        let replica = self.replicas[index].clone();
        if undisturbed <= minimum_undisturbed || replica.is_disturbed() {
            return None;
        }
        replica.disturbances.lock().push((Instant::now(), None));
        Some(ReplicaReservation(replica))
    }

    /// Finds the replica that holds leases under this id.
    pub(crate) fn find_replica(&self, id: &str) -> Option<&Arc<ReplicaProcess>> {
        self.replicas.iter().find(|replica| replica.slot.lock().id == id)
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

    fn create_kept_folder() -> PathBuf {
        let kept = std::env::temp_dir().join(format!("k8sops-chaos-{}", std::process::id()));
        std::fs::create_dir_all(&kept).expect("a folder can be created");
        kept
    }

    /// Writes the log of a session to the folder of [`Self::keep_logs`].
    pub(crate) fn keep_session_log(session: &str, log: &[Value]) {
        let lines: Vec<String> = log.iter().map(|event| format!("{event}\n")).collect();
        let file = Self::create_kept_folder().join(format!("session-{session}.jsonl"));
        std::fs::write(file, lines.concat()).expect("the folder is writable");
    }

    /// Copies the logs of the replicas and the files of Redis to a folder that outlives the test, and returns its path.
    pub(crate) fn keep_logs(&self) -> PathBuf {
        let kept = Self::create_kept_folder();
        for replica in &self.replicas {
            let name = replica.log.file_name().expect("the path names a file");
            // A replica that never started has no log.
            let _ = std::fs::copy(&replica.log, kept.join(name));
        }
        for node in self.redis.shards.iter().flat_map(RedisShard::nodes) {
            let folder = kept.join(format!("redis-{}", node.server.port()));
            // Its append-only file has all that was written, but for what it is not synced of.
            let _ = std::process::Command::new("cp").arg("-r").arg(node.server.data_dir()).arg(folder).status();
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

/// A replica that only the holder of this disturbs.
pub(crate) struct ReplicaReservation(Arc<ReplicaProcess>);

impl ReplicaReservation {
    pub(crate) fn replica(&self) -> Arc<ReplicaProcess> {
        self.0.clone()
    }
}

impl Drop for ReplicaReservation {
    fn drop(&mut self) {
        if let Some((_, end)) = self.0.disturbances.lock().last_mut() {
            *end = Some(Instant::now());
        }
    }
}

/// A replica: it keeps its port when its process is restarted.
pub(crate) struct ReplicaProcess {
    pub index: usize,
    port: u16,
    env: Vec<(&'static str, String)>,
    log: PathBuf,
    /// Holds the offset of the wall clock.
    clock_file: PathBuf,
    http: reqwest::Client,
    /// Beginning and end of each disturbance.
    disturbances: Mutex<Vec<(Instant, Option<Instant>)>>,
    /// Processes that exited with a failure after SIGTERM.
    failed_exits: AtomicU64,
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

    fn is_disturbed(&self) -> bool {
        self.disturbances.lock().last().is_some_and(|(_, end)| end.is_none())
    }

    /// Whether the replica was disturbed at some time between these two.
    pub(crate) fn was_disturbed_between(&self, begin: Instant, end: Instant) -> bool {
        self.disturbances.lock().iter().any(|(from, until)| *from <= end && until.is_none_or(|until| until >= begin))
    }

    pub(crate) fn record_exit(&self, status: ExitStatus) {
        self.failed_exits.fetch_add(u64::from(!status.success()), Ordering::Relaxed);
    }

    pub(crate) fn failed_exits(&self) -> u64 {
        self.failed_exits.load(Ordering::Relaxed)
    }

    /// Sets the wall clock of the process by this many seconds forward, or back. It takes effect within a second.
    pub(crate) fn set_clock_offset(&self, seconds: i64) {
        let partial = self.clock_file.with_extension("new");
        std::fs::write(&partial, format!("{seconds:+}")).expect("the folder is writable");
        // The process never reads half of a number.
        std::fs::rename(&partial, &self.clock_file).expect("the folder is writable");
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

    /// Starts the process and waits until it responds. The process may take over sessions before that. One that exits, for
    /// example because Redis is out of memory, is started again.
    pub(crate) async fn start(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut child = self.spawn();
        let info = loop {
            if let Some(info) = self.read_info().await {
                break info;
            }
            if child.try_wait().expect("a child can be waited for").is_some() {
                sleep(RESTART_DELAY).await;
                child = self.spawn();
            }
            assert!(Instant::now() < deadline, "replica {} did not respond within {START_TIMEOUT:?}", self.index);
            sleep(POLL_INTERVAL).await;
        };
        let mut slot = self.slot.lock();
        slot.child = Some(child);
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
