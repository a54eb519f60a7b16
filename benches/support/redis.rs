//! A Redis server of a bench, and the commands that it receives.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    time::Duration,
};

use k8sops_testing::{eventually, nginx::process_cpu_time, testbed::free_port};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

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
    #[allow(dead_code, reason = "only the soak needs it")]
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

    /// Returns how often each command was called so far, from clients and from scripts, and the microseconds of all calls.
    pub(crate) async fn command_stats(&self) -> BTreeMap<String, CommandStats> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("Redis accepts connections");
        stream.write_all(b"INFO commandstats\r\nQUIT\r\n").await.expect("Redis accepts connections");
        let mut text = String::new();
        BufReader::new(stream).read_to_string(&mut text).await.expect("a response");
        text.lines().filter_map(parse_command_stats).collect()
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

/// How often a command was called.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CommandStats {
    pub calls: u64,
    pub micros: u64,
}

/// Reads a line such as `cmdstat_get:calls=21,usec=175,usec_per_call=8.33`.
fn parse_command_stats(line: &str) -> Option<(String, CommandStats)> {
    let (name, values) = line.strip_prefix("cmdstat_")?.split_once(':')?;
    let value = |key: &str| values.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse().ok());
    Some((name.to_owned(), CommandStats { calls: value("calls")?, micros: value("usec")? }))
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
