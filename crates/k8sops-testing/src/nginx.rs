//! nginx in front of servers, as a process of one's own.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

/// It starts within a tenth of a second; what takes this long is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// nginx, passing everything on to servers on the loopback interface, one after another. One that does not take the
/// connection is passed over for this request, and asked again with the next.
pub struct Nginx {
    /// Where it listens: scheme, host and port.
    pub url: String,
    child: Child,
    _dir: TempDir,
}

impl Nginx {
    pub async fn start(servers: &[u16]) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let folder = dir.path().display();
        let servers: Vec<_> = servers.iter().map(|port| format!("server 127.0.0.1:{port} max_fails=0;")).collect();
        let servers = servers.join(" ");
        let config = format!(
            "daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
             events {{ worker_connections 1024; }}
             http {{ access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
               uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
               upstream servers {{ {servers} }}
               server {{ listen 127.0.0.1:{port};
                 location / {{ proxy_pass http://servers; proxy_set_header Host $http_host;
                   proxy_buffering off; proxy_http_version 1.1; }} }} }}"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config).expect("the folder takes it");
        let nginx = std::env::var("K8SOPS_TEST_NGINX").unwrap_or_else(|_| "/usr/sbin/nginx".into());
        let child = Command::new(nginx).arg("-c").arg(&file).stderr(Stdio::null()).spawn().expect("nginx is installed");
        let nginx = Self { url: format!("http://127.0.0.1:{port}"), child, _dir: dir };
        let answers = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.expect("nginx listens");
        nginx
    }

    /// CPU time of its processes.
    pub fn cpu(&self) -> Duration {
        let master = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(cpu).sum::<Duration>() + cpu(master)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it, on TERM; on KILL they would stay.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// CPU time of a process, user and system, from `/proc/PID/stat` (fields 14 and 15, in ticks of 10 ms).
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// A free port on the loopback interface. Another program may take it first; who needs it says so at its start.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
