//! The service as a process.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use k8sops_testing::{eventually, nginx::process_cpu_time, testbed::free_port};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// How the service is started.
#[derive(Default)]
pub(crate) struct ProgramOptions<'a> {
    /// Settings besides those of all benches.
    pub env: &'a [(&'a str, &'a str)],
    /// A program to start in place of the service, which starts it.
    pub wrapper: Option<&'a Path>,
}

/// A running service with the filesystem store.
pub(crate) struct BenchProgram {
    pub url: String,
    child: Child,
    dir: TempDir,
}

impl BenchProgram {
    /// Path of the program: that of `K8SOPS_BENCH_PROGRAM`, or the one that cargo has built with the bench.
    pub(crate) fn path() -> PathBuf {
        std::env::var_os("K8SOPS_BENCH_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_k8sops").into(), PathBuf::from)
    }

    pub(crate) async fn start(upstream: &str, env: &[(&str, &str)]) -> Self {
        Self::start_with(upstream, &ProgramOptions { env, wrapper: None }).await
    }

    pub(crate) async fn start_with(upstream: &str, options: &ProgramOptions<'_>) -> Self {
        let program = Self::spawn(upstream, options);
        let address = program.url.trim_start_matches("http://");
        eventually("the service listens", async || TcpStream::connect(address).await.is_ok()).await;
        program
    }

    /// Starts the service without waiting for it.
    pub(crate) fn spawn(upstream: &str, options: &ProgramOptions<'_>) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let child = Command::new(options.wrapper.map_or_else(Self::path, Path::to_owned))
            .arg("serve")
            .env_clear()
            // A wrapper finds its programs.
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(dir.path())
            .env("K8SOPS_PORT", port.to_string())
            .env("MEMORY_FILESYSTEM_PATH", dir.path().join("data"))
            .env("LLM_PROVIDER", "openai")
            .env("LLM_MODEL", "bench")
            .env("OPENAI_BASE_URL", upstream)
            .env("OPENAI_API_KEY", "none")
            .env("LOG_LEVEL", "error")
            // The bench is one user with the load of many.
            .env("MAX_SESSIONS", "100000")
            .env("K8SOPS_MAX_REQUESTS_PER_MINUTE", "1000000")
            .env("K8SOPS_MAX_RUNS_PER_USER", "1000")
            .env("K8SOPS_MAX_RUNS", "1000")
            .env("K8SOPS_MAX_STREAMS_PER_USER", "20000")
            .envs(options.env.iter().copied())
            .stdout(Stdio::null())
            .spawn()
            .expect("k8sops is built");
        Self { url: format!("http://127.0.0.1:{port}"), child, dir }
    }

    /// Returns the id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
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

fn folder_size(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => folder_size(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}
