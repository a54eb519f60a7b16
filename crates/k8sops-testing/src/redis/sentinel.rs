//! A master and its replica, watched by a Sentinel that promotes the replica when the master is gone.

use tempfile::TempDir;

use super::{Kind, PATIENCE, RedisServer, wait};

/// One Sentinel over two servers. More of them would have to agree on who leads a failover, and at times do so only in
/// the second round.
pub struct Sentinel {
    service: &'static str,
    sentinel: RedisServer,
    /// The first master, and the first replica.
    servers: [RedisServer; 2],
}

impl Sentinel {
    /// Starts the three and waits until the Sentinel could promote the replica.
    pub async fn start(kind: Kind) -> Self {
        let service = "k8sops-test";
        let master = RedisServer::start(kind).await;
        let port = master.port().to_string();
        let replica = RedisServer::start_with(kind, &["--replicaof", "127.0.0.1", &port]).await;
        // A Sentinel looks at what a replica says of itself every ten seconds only, so it should like the first look.
        wait("the replica follows its master", || async {
            replica.cli(&["INFO", "replication"]).await.contains("master_link_status:up")
        })
        .await;
        // The stream of writes begins up to a second after the link is up. Something that leaves no trace tells when.
        master.cli(&["PUBLISH", service, "hello"]).await;
        caught_up(&master, &replica).await;

        let sentinel = RedisServer::launch(kind, TempDir::new().unwrap(), None, |sentinel_port, dir| {
            let config = format!(
                "bind 127.0.0.1\nport {sentinel_port}\ndir {}\n\
                 sentinel monitor {service} 127.0.0.1 {port} 1\n\
                 sentinel down-after-milliseconds {service} 1000\n\
                 sentinel failover-timeout {service} 5000\n",
                dir.display()
            );
            // Not an option on the command line: a Sentinel writes down what it learns.
            let file = dir.join("sentinel.conf");
            std::fs::write(&file, config).unwrap();
            vec![file.to_str().unwrap().into(), "--sentinel".into()]
        })
        .await;
        let started = Self { service, sentinel, servers: [master, replica] };
        wait("the Sentinel knows a healthy replica", || async {
            let replicas = started.sentinel.cli(&["SENTINEL", "REPLICAS", service]).await;
            ["flags\nslave\n", "master-link-status\nok\n"].iter().all(|part| replicas.contains(part))
        })
        .await;
        started
    }

    /// Where a client asks for the master.
    pub fn urls(&self) -> Vec<String> {
        vec![self.sentinel.url()]
    }

    /// The name by which a client asks for the master.
    pub fn service_name(&self) -> &'static str {
        self.service
    }

    /// The port of the server that is the master now, by the Sentinel's word.
    pub async fn master_port(&self) -> u16 {
        let address = self.sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service]).await;
        let port = address.lines().nth(1).and_then(|port| port.parse().ok());
        port.unwrap_or_else(|| panic!("not an address of a master: {address:?}"))
    }

    /// The server that is the master now, by the Sentinel's word.
    pub async fn master(&self) -> &RedisServer {
        let port = self.master_port().await;
        self.servers.iter().find(|server| server.port() == port).expect("the Sentinel knows only these two")
    }

    /// Waits until the replica has what was written so far, so that a failover does not lose it. (WAIT does not tell: it
    /// waits for the writes of its own connection, and each call of redis-cli is one.)
    pub async fn replicated(&self) {
        let master = self.master().await;
        let replica = self.servers.iter().find(|server| server.port() != master.port()).expect("there are two");
        caught_up(master, replica).await;
    }

    /// Kills the master. The Sentinel needs some seconds to promote the replica; [`Sentinel::promoted`] waits for it.
    pub async fn kill_master(&self) {
        self.master().await.kill().await;
    }

    /// Waits until a server other than the one on `old_port` is the master and knows it.
    pub async fn promoted(&self, old_port: u16) {
        let what = format!("another server than the one on {old_port} is the master (within {PATIENCE:?})");
        wait(&what, || async {
            let master = self.master().await;
            master.port() != old_port && master.cli(&["ROLE"]).await.starts_with("master")
        })
        .await;
    }
}

/// Waits until a replica has come to where its master is now.
async fn caught_up(master: &RedisServer, replica: &RedisServer) {
    let target = offset(master, "master_repl_offset:").await;
    wait("the replica has the master's writes", || async { offset(replica, "slave_repl_offset:").await >= target })
        .await;
}

/// How far a server is in the stream of writes.
async fn offset(server: &RedisServer, field: &str) -> u64 {
    let info = server.cli(&["INFO", "replication"]).await;
    let value = info.lines().find_map(|line| line.trim_end().strip_prefix(field)?.parse().ok());
    value.unwrap_or_else(|| panic!("no {field} in: {info}"))
}
