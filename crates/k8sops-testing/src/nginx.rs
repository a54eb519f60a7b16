//! nginx as a load balancer, in a process of its own.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{eventually, testbed::free_port};

/// An nginx that forwards requests to servers on the loopback interface, round robin. A server that refuses the connection
/// is skipped for this request, and tried again with the next.
pub struct NginxProxy {
    /// Scheme, host and port that nginx listens on.
    pub url: String,
    child: Child,
    _dir: TempDir,
}

impl NginxProxy {
    /// Starts nginx in front of the servers on these ports.
    pub async fn start(servers: &[u16]) -> Self {
        let program = std::env::var("K8SOPS_TEST_NGINX").unwrap_or_else(|_| "/usr/sbin/nginx".into());
        Self::start_program(&program, servers).await
    }

    /// Starts this nginx in front of the servers on these ports.
    pub async fn start_program(program: &str, servers: &[u16]) -> Self {
        let upstream: Vec<_> = servers.iter().map(|port| format!("server 127.0.0.1:{port} max_fails=0;")).collect();
        let upstream = upstream.join(" ");
        Self::start_with(program, |port| {
            format!(
                "upstream servers {{ {upstream} }}
                 server {{ listen 127.0.0.1:{port};
                   location / {{ proxy_pass http://servers; proxy_set_header Host $http_host;
                     proxy_buffering off; proxy_http_version 1.1; }} }}"
            )
        })
        .await
    }

    /// Starts this nginx with a configuration of its own, and waits until it listens. `configure` returns what belongs into
    /// the `http` block of an nginx that listens on a port.
    pub async fn start_with(program: &str, configure: impl FnOnce(u16) -> String) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let folder = dir.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|kind| format!("{kind}_temp_path {folder}/{kind};\n")).concat();
        let http = configure(port);
        let config = format!(
            "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
             events {{ worker_connections 1024; }}
             http {{ access_log off; {temporary} {http} }}"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config).expect("the folder is writable");
        let child = Command::new(program).arg("-c").arg(&file).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{program}: {error}"));
        let nginx = Self { url: format!("http://127.0.0.1:{port}"), child, _dir: dir };
        eventually("nginx listens", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        nginx
    }

    /// Returns the id of its only process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the CPU time of its process.
    pub fn cpu_time(&self) -> Duration {
        process_cpu_time(self.pid())
    }
}

impl Drop for NginxProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the CPU time of a process, user and system, with that of its threads that have ended; zero without such a process.
#[cfg(target_os = "linux")]
pub fn process_cpu_time(pid: u32) -> Duration {
    use nix::{time::ClockId, unistd::Pid};

    let pid = Pid::from_raw(pid.cast_signed());
    ClockId::pid_cpu_clock_id(pid).and_then(ClockId::now).map_or(Duration::ZERO, Duration::from)
}

/// Returns zero: only Linux tells the CPU time of another process.
#[cfg(not(target_os = "linux"))]
pub fn process_cpu_time(_pid: u32) -> Duration {
    Duration::ZERO
}
