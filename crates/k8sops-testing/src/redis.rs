//! Redis and its relatives, each as a process of a test's own: alone, with TLS, as a cluster, behind a Sentinel. They
//! can be killed, stopped and started again, which is what a store has to live with.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::Mutex,
    time::timeout,
};

use super::testbed::path;

#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/sentinel.rs"]
mod sentinel;
#[path = "redis/tls.rs"]
mod tls;

pub use cluster::RedisCluster;
pub use sentinel::Sentinel;

/// A server starts within a tenth of a second; what takes this long is broken.
const PATIENCE: Duration = Duration::from_secs(30);
/// A command on the loopback interface answers at once, or its server hangs.
const ANSWER: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// How often a server is started anew because others took its port.
const ATTEMPTS: usize = 10;
const PORT_TAKEN: &str = "Address already in use";

/// Whose server it is. What k8sops asks of a store is not the same in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Redis as Debian has it (7.0 in Debian 12): the oldest that is supported, and the only one here built with TLS.
    Debian,
    /// Redis 8, with vector sets.
    Redis8,
    /// Valkey, the fork before Redis' change of licence: without vector sets.
    Valkey,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Debian, Self::Redis8, Self::Valkey];

    /// The program to start.
    fn program(self) -> String {
        path(match self {
            Self::Debian => "K8SOPS_TEST_REDIS_SERVER",
            Self::Redis8 => "K8SOPS_TEST_REDIS8_SERVER",
            Self::Valkey => "K8SOPS_TEST_VALKEY_SERVER",
        })
    }
}

/// A server that runs as long as this lives, however it was left: killing works on a stopped process too.
pub struct RedisServer {
    kind: Kind,
    port: u16,
    /// The CA's certificate, if it speaks TLS only.
    ca: Option<PathBuf>,
    args: Vec<String>,
    /// `None` after a kill. The lock is async as a kill is waited for; it keeps a restart from overtaking it.
    child: Mutex<Option<Child>>,
    /// Data and log. After the process, so that it is dropped when nothing writes there any more.
    dir: TempDir,
}

impl RedisServer {
    /// Starts a server that logs every write to its disk, and waits until it answers.
    pub async fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[]).await
    }

    /// Starts Debian's server with a certificate of a CA of its own, and without a port for plain connections.
    pub async fn start_tls() -> Self {
        let dir = TempDir::new().unwrap();
        let (ca, options) = tls::certificates(dir.path()).await;
        Self::launch(Kind::Debian, dir, Some(ca), |port, dir| {
            let mut args = data_args(0, dir);
            args.extend(["--tls-port".into(), port.to_string()]);
            args.extend(options.iter().cloned());
            args
        })
        .await
    }

    /// Starts a server with options beside the usual ones.
    async fn start_with(kind: Kind, options: &[&str]) -> Self {
        Self::launch(kind, TempDir::new().unwrap(), None, |port, dir| {
            let mut args = data_args(port, dir);
            args.extend(options.iter().map(ToString::to_string));
            args
        })
        .await
    }

    /// Starts a server with just these arguments, on another port as long as the one it got is taken by others.
    async fn launch(kind: Kind, dir: TempDir, ca: Option<PathBuf>, args: impl Fn(u16, &Path) -> Vec<String>) -> Self {
        let port = next_port();
        let mut server = Self { kind, port, ca, args: args(port, dir.path()), child: Mutex::new(None), dir };
        for _ in 0..ATTEMPTS {
            if server.run().await {
                return server;
            }
            server.port = next_port();
            server.args = args(server.port, server.dir.path());
        }
        panic!("{kind:?} found each of {ATTEMPTS} ports taken; its log ends with:\n{}", server.log());
    }

    /// Starts the process and waits until it answers. Whether it does: `false` if its port is taken.
    async fn run(&self) -> bool {
        let mut child = self.child.lock().await;
        let log = std::fs::File::create(self.log_file()).unwrap();
        let program = self.kind.program();
        let mut command = Command::new(&program);
        command.args(&self.args).current_dir(&self.dir).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut started = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        // Somebody else's server may answer on the port, if ours has lost the race for it and not said so yet.
        let ours = format!("process_id:{}", started.id().expect("it was not waited for yet"));
        let answers = async {
            while !(self.try_cli(&["PING"]).await.is_ok_and(|answer| answer == "PONG")
                && self.try_cli(&["INFO", "server"]).await.is_ok_and(|info| info.lines().any(|line| line == ours)))
            {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::select! {
            () = answers => {}
            status = started.wait() => {
                let log = self.log();
                assert!(log.contains(PORT_TAKEN), "{program} ended at its start ({status:?}):\n{log}");
                return false;
            }
            () = tokio::time::sleep(PATIENCE) => {
                panic!("{program} did not answer PING within {PATIENCE:?}; its log ends with:\n{}", self.log())
            }
        }
        *child = Some(started);
        true
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How a client is told to connect.
    pub fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The certificate that a client of [`RedisServer::start_tls`] has to trust.
    pub fn ca_file(&self) -> &Path {
        self.ca.as_deref().expect("only a server started with TLS has a CA")
    }

    /// Stops the process where it is. Connections stay open and are still accepted (by the kernel); nothing answers.
    pub async fn pause(&self) {
        self.signal("STOP").await;
    }

    /// Lets a paused process go on.
    pub async fn resume(&self) {
        self.signal("CONT").await;
    }

    /// Ends the process as a crash would, and waits until it is gone. What it had not written is lost; see
    /// [`RedisServer::written`].
    pub async fn kill(&self) {
        let mut child = self.child.lock().await;
        let mut child = child.take().unwrap_or_else(|| panic!("the {:?} on {} does not run", self.kind, self.port));
        child.kill().await.unwrap();
    }

    /// Starts the process again after a kill (or kills it first): same port, same data. Waits until it answers.
    pub async fn restart(&self) {
        if self.child.lock().await.is_some() {
            self.kill().await;
        }
        let running = async {
            while !self.run().await {
                tokio::time::sleep(POLL).await;
            }
        };
        let back = timeout(PATIENCE, running).await;
        back.unwrap_or_else(|_| panic!("{:?} did not come back on {}; its log:\n{}", self.kind, self.port, self.log()));
    }

    /// Waits until all writes so far have left the process, so that a kill does not lose them. With `everysec` a write
    /// may be answered before, while the disk is busy.
    pub async fn written(&self) {
        let written = "the log of writes is written";
        wait(written, || async { self.cli(&["INFO", "persistence"]).await.contains("aof_buffer_length:0\r") }).await;
    }

    /// Runs a command with redis-cli; its answer, raw (an array has an element a line). Must succeed.
    pub async fn cli(&self, args: &[&str]) -> String {
        self.try_cli(args)
            .await
            .unwrap_or_else(|error| panic!("redis-cli {args:?} with the {:?} on {}: {error}", self.kind, self.port))
    }

    /// Runs a command with redis-cli; what went wrong, if it did.
    pub async fn try_cli(&self, args: &[&str]) -> Result<String, String> {
        let mut command = redis_cli();
        command.args(["-e", "-h", "127.0.0.1", "-p"]).arg(self.port.to_string());
        if let Some(ca) = &self.ca {
            command.args(["--tls", "--cacert"]).arg(ca);
        }
        output(command.args(args), ANSWER).await
    }

    async fn signal(&self, name: &str) {
        let child = self.child.lock().await;
        let pid = child.as_ref().and_then(Child::id);
        let pid = pid.unwrap_or_else(|| panic!("the {:?} on {} does not run", self.kind, self.port));
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()]);
        output(&mut kill, ANSWER).await.unwrap_or_else(|error| panic!("kill -s {name} {pid}: {error}"));
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The last lines of what the process had to say.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// The arguments of a server with data.
fn data_args(port: u16, dir: &Path) -> Vec<String> {
    let (port, dir) = (port.to_string(), dir.to_str().unwrap());
    // The delay makes a first replica wait for others, which do not come.
    let args = ["--bind", "127.0.0.1", "--port", &port, "--dir", dir, "--repl-diskless-sync-delay", "0"];
    let durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"];
    args.iter().chain(&durable).map(ToString::to_string).collect()
}

/// redis-cli, with nothing of the environment's.
fn redis_cli() -> Command {
    let mut command = Command::new(path("K8SOPS_TEST_REDIS_CLI"));
    command.env_remove("REDISCLI_AUTH");
    command
}

/// Runs a program to its end; what it wrote, or what went wrong.
async fn output(command: &mut Command, limit: Duration) -> Result<String, String> {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(limit, running).await {
        Ok(output) => output.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no answer within {limit:?}")),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{} {}", text(&output.stdout), text(&output.stderr)).trim().to_owned()),
    }
}

/// Polls until a condition holds; panics with its words if it never does.
async fn wait<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let polled = async {
        while !holds().await {
            tokio::time::sleep(POLL).await;
        }
    };
    timeout(PATIENCE, polled).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain until {what}"));
}

/// A free port whose cluster bus port (10000 above) is free as well.
///
/// Both are below what systems hand out for port 0 and for outgoing connections: a server that was killed must find
/// its port free when it comes back. Every call gives another, as tests run at the same time.
pub fn next_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 10_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Two test processes start at different places.
    let next = NEXT.get_or_init(|| AtomicU16::new(fastrand::u16(0..COUNT)));
    let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..COUNT)
        .map(|_| FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT)
        .find(|&port| free(port) && free(port + 10_000))
        .unwrap_or_else(|| panic!("no port from {FIRST} on is free"))
}
