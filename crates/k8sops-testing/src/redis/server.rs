//! A Redis server in a process of its own.

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
};

use super::{
    flavor::RedisFlavor,
    redis_cli::{COMMAND_TIMEOUT, redis_cli, run_command},
    tls,
};
use crate::eventually_within;

/// Upper bound of a start. Servers start within a tenth of a second.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of starts if other programs take the port.
const MAX_START_ATTEMPTS: usize = 10;
const PORT_TAKEN: &str = "Address already in use";

/// Result of one start of a process.
#[derive(Debug, PartialEq, Eq)]
enum StartOutcome {
    Running,
    PortTaken,
}

/// A running server. It is killed when this is dropped, even if it is paused.
pub struct RedisServer {
    flavor: RedisFlavor,
    port: u16,
    /// Certificate of the CA, if the server accepts TLS only.
    ca: Option<PathBuf>,
    args: Vec<String>,
    /// `None` after a kill. The async lock is held until the process has ended, so that a restart does not overtake the
    /// kill.
    child: Mutex<Option<Child>>,
    /// Data and log. Declared after the process, so that it is dropped after the process has ended.
    dir: TempDir,
}

impl RedisServer {
    /// Starts a server that appends every write to a file, and waits until it responds.
    pub async fn start(flavor: RedisFlavor) -> Self {
        Self::start_with(flavor, &[]).await
    }

    /// Starts Debian's server with a certificate of a new CA, and without a port for plain connections.
    pub async fn start_tls() -> Self {
        let dir = TempDir::new().unwrap();
        let (ca, options) = tls::create_certificates(dir.path()).await;
        Self::start_with_arguments(RedisFlavor::Debian, dir, Some(ca), |port, dir| {
            let mut args = data_args(0, dir);
            args.extend(["--tls-port".into(), port.to_string()]);
            args.extend(options.iter().cloned());
            args
        })
        .await
    }

    /// Starts a server with additional options.
    pub async fn start_with(flavor: RedisFlavor, options: &[&str]) -> Self {
        Self::start_with_arguments(flavor, TempDir::new().unwrap(), None, |port, dir| {
            let mut args = data_args(port, dir);
            args.extend(options.iter().map(ToString::to_string));
            args
        })
        .await
    }

    /// Starts a Sentinel with this configuration, which says what it watches.
    pub async fn start_sentinel(flavor: RedisFlavor, config: &str) -> Self {
        Self::start_with_arguments(flavor, TempDir::new().unwrap(), None, |port, dir| {
            // A Sentinel needs a configuration file, because it rewrites it.
            let file = dir.join("sentinel.conf");
            std::fs::write(&file, format!("bind 127.0.0.1\nport {port}\ndir {}\n{config}", dir.display())).unwrap();
            vec![file.to_str().unwrap().into(), "--sentinel".into()]
        })
        .await
    }

    /// Starts a server with exactly these arguments. Takes another port while other programs take the chosen one.
    pub(super) async fn start_with_arguments(
        flavor: RedisFlavor,
        dir: TempDir,
        ca: Option<PathBuf>,
        args: impl Fn(u16, &Path) -> Vec<String>,
    ) -> Self {
        let port = next_port();
        let mut server = Self { flavor, port, ca, args: args(port, dir.path()), child: Mutex::new(None), dir };
        for _ in 0..MAX_START_ATTEMPTS {
            if server.try_start(&[]).await == StartOutcome::Running {
                return server;
            }
            server.port = next_port();
            server.args = args(server.port, server.dir.path());
        }
        panic!("{flavor:?} found each of {MAX_START_ATTEMPTS} ports taken; its log ends with:\n{}", server.log_tail());
    }

    /// Starts the process with its arguments and these options, and waits until it responds.
    async fn try_start(&self, options: &[&str]) -> StartOutcome {
        let mut child = self.child.lock().await;
        let log = std::fs::File::create(self.log_file()).unwrap();
        let program = self.flavor.program();
        let mut command = Command::new(&program);
        command.args(&self.args).args(options).current_dir(&self.dir).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut started = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        // The server of another test may respond on the port, if this one has lost the race for it.
        let process_id = format!("process_id:{}", started.id().expect("the process was not waited for"));
        let is_this_process = |info: String| info.lines().any(|line| line == process_id);
        let responds = eventually_within(START_TIMEOUT, "the server responds to PING", async || {
            self.try_cli(&["PING"]).await.is_ok_and(|reply| reply == "PONG")
                && self.try_cli(&["INFO", "server"]).await.is_ok_and(is_this_process)
        });
        tokio::select! {
            () = responds => {}
            status = started.wait() => {
                let log = self.log_tail();
                assert!(log.contains(PORT_TAKEN), "{program} ended at its start ({status:?}):\n{log}");
                return StartOutcome::PortTaken;
            }
        }
        *child = Some(started);
        StartOutcome::Running
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL for clients.
    pub fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Returns the certificate that clients of [`RedisServer::start_tls`] have to trust.
    ///
    /// # Panics
    /// If the server was started without TLS.
    pub fn ca_file(&self) -> &Path {
        self.ca.as_deref().expect("only a server started with TLS has a CA")
    }

    /// Pauses the process. Connections stay open and the kernel accepts new ones, but nothing responds.
    pub async fn pause(&self) {
        self.send_signal("STOP").await;
    }

    /// Resumes a paused process.
    pub async fn resume(&self) {
        self.send_signal("CONT").await;
    }

    /// Kills the process, and waits until it has ended. Unwritten data is lost; see [`RedisServer::wait_until_written`].
    pub async fn kill(&self) {
        let mut child = self.child.lock().await;
        let mut child =
            child.take().unwrap_or_else(|| panic!("the {:?} on port {} does not run", self.flavor, self.port));
        child.kill().await.unwrap();
    }

    /// Restarts the process with the same port and data, and waits until it responds. Kills it before if it runs.
    pub async fn restart(&self) {
        self.restart_with(&[]).await;
    }

    /// Restarts the process like [`RedisServer::restart`]. These options take precedence over those of its first start.
    pub async fn restart_with(&self, options: &[&str]) {
        if self.child.lock().await.is_some() {
            self.kill().await;
        }
        eventually_within(START_TIMEOUT, "the server restarts on its port", async || {
            self.try_start(options).await == StartOutcome::Running
        })
        .await;
    }

    /// Returns the folder of the data.
    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until all writes so far have left the process, so that a kill does not lose them. With `everysec` Redis may
    /// acknowledge a write earlier, while the disk is busy.
    pub async fn wait_until_written(&self) {
        eventually_within(START_TIMEOUT, "all writes are in the append-only file", async || {
            self.cli(&["INFO", "persistence"]).await.contains("aof_buffer_length:0\r")
        })
        .await;
    }

    /// Runs a command with redis-cli, and returns the raw reply: one line for each element of an array.
    ///
    /// # Panics
    /// If the command fails.
    pub async fn cli(&self, args: &[&str]) -> String {
        self.try_cli(args)
            .await
            .unwrap_or_else(|error| panic!("redis-cli {args:?} with the {:?} on {}: {error}", self.flavor, self.port))
    }

    /// Runs a command with redis-cli, and returns the raw reply. The error is what redis-cli printed.
    pub async fn try_cli(&self, args: &[&str]) -> Result<String, String> {
        let mut command = redis_cli();
        command.args(["-e", "-h", "127.0.0.1", "-p"]).arg(self.port.to_string());
        if let Some(ca) = &self.ca {
            command.args(["--tls", "--cacert"]).arg(ca);
        }
        run_command(command.args(args), COMMAND_TIMEOUT).await
    }

    async fn send_signal(&self, name: &str) {
        let child = self.child.lock().await;
        let pid = child.as_ref().and_then(Child::id);
        let pid = pid.unwrap_or_else(|| panic!("the {:?} on port {} does not run", self.flavor, self.port));
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()]);
        run_command(&mut kill, COMMAND_TIMEOUT).await.unwrap_or_else(|error| panic!("kill -s {name} {pid}: {error}"));
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Returns the last lines of the log.
    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Returns the arguments of a server with data.
fn data_args(port: u16, dir: &Path) -> Vec<String> {
    let (port, dir) = (port.to_string(), dir.to_str().unwrap());
    // Without this, the first replica waits for others, which do not come.
    let args = ["--bind", "127.0.0.1", "--port", &port, "--dir", dir, "--repl-diskless-sync-delay", "0"];
    let durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"];
    args.iter().chain(&durable).map(ToString::to_string).collect()
}

/// Returns a free port whose cluster bus port (10000 above) is free as well.
///
/// Both are below the range for port 0 and for outgoing connections, so that a killed server finds its port free after a
/// restart. Every call returns another port, because tests run at the same time.
pub fn next_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 10_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Each test process starts at a random port.
    let next = NEXT.get_or_init(|| AtomicU16::new(fastrand::u16(0..COUNT)));
    let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..COUNT)
        .map(|_| FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT)
        .find(|&port| free(port) && free(port + 10_000))
        .unwrap_or_else(|| panic!("no port from {FIRST} on is free"))
}
