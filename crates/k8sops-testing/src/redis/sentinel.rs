//! A master and its replica behind a Sentinel, which promotes the replica if the master fails.

use super::{
    flavor::RedisFlavor,
    server::{RedisServer, START_TIMEOUT},
};
use crate::eventually_within;

/// One Sentinel over two servers. Several Sentinels would have to elect a leader for the failover, which sometimes takes a
/// second round.
pub struct RedisSentinel {
    service: &'static str,
    sentinel: RedisServer,
    /// The initial master and the initial replica.
    servers: [RedisServer; 2],
}

impl RedisSentinel {
    /// Starts the three and waits until the Sentinel could promote the replica.
    pub async fn start(flavor: RedisFlavor) -> Self {
        let service = "k8sops-test";
        let master = RedisServer::start(flavor).await;
        let port = master.port().to_string();
        // A Sentinel checks a replica every ten seconds only, so the first check should succeed.
        let replica = start_replica(flavor, &master).await;
        let config = format!(
            "sentinel monitor {service} 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds {service} 1000\n\
             sentinel failover-timeout {service} 5000\n"
        );
        let sentinel = RedisServer::start_sentinel(flavor, &config).await;
        let started = Self { service, sentinel, servers: [master, replica] };
        eventually_within(START_TIMEOUT, "the Sentinel knows a healthy replica", async || {
            let replicas = started.sentinel.cli(&["SENTINEL", "REPLICAS", service]).await;
            ["flags\nslave\n", "master-link-status\nok\n"].iter().all(|part| replicas.contains(part))
        })
        .await;
        started
    }

    /// Returns the URLs at which clients look up the master.
    pub fn urls(&self) -> Vec<String> {
        vec![self.sentinel.url()]
    }

    /// Returns the name under which clients look up the master.
    pub fn service_name(&self) -> &'static str {
        self.service
    }

    /// Returns the port of the current master according to the Sentinel.
    pub async fn master_port(&self) -> u16 {
        let address = self.sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service]).await;
        let port = address.lines().nth(1).and_then(|port| port.parse().ok());
        port.unwrap_or_else(|| panic!("not an address of a master: {address:?}"))
    }

    /// Returns the current master according to the Sentinel.
    pub async fn master(&self) -> &RedisServer {
        let port = self.master_port().await;
        self.servers.iter().find(|server| server.port() == port).expect("the Sentinel knows only these two")
    }

    /// Waits until the replica has all writes so far, so that a failover does not lose them. (The command WAIT covers only
    /// the writes of its own connection, and each call of redis-cli opens one.)
    pub async fn wait_until_replicated(&self) {
        let master = self.master().await;
        let replica =
            self.servers.iter().find(|server| server.port() != master.port()).expect("the group has two servers");
        wait_until_caught_up(master, replica).await;
    }

    /// Kills the master. The Sentinel promotes the replica some seconds later, see [`Self::wait_for_failover`].
    pub async fn kill_master(&self) {
        self.master().await.kill().await;
    }

    /// Waits until a server other than the one on `old_port` is the master.
    pub async fn wait_for_failover(&self, old_port: u16) {
        let what = format!("a server other than the one on {old_port} is the master");
        eventually_within(START_TIMEOUT, &what, async || {
            let master = self.master().await;
            master.port() != old_port && master.cli(&["ROLE"]).await.starts_with("master")
        })
        .await;
    }
}

/// Starts a replica of a server, and waits until it follows.
pub(super) async fn start_replica(flavor: RedisFlavor, master: &RedisServer) -> RedisServer {
    let port = master.port().to_string();
    let replica = RedisServer::start_with(flavor, &["--replicaof", "127.0.0.1", &port]).await;
    eventually_within(START_TIMEOUT, "the replica follows its master", async || {
        replica.cli(&["INFO", "replication"]).await.contains("master_link_status:up")
    })
    .await;
    // Replication begins up to a second after the link is up. PUBLISH shows when, and leaves no key.
    master.cli(&["PUBLISH", "k8sops-test", "hello"]).await;
    wait_until_caught_up(master, &replica).await;
    replica
}

/// Waits until a replica has all current writes of its master.
pub async fn wait_until_caught_up(master: &RedisServer, replica: &RedisServer) {
    let target = replication_offset(master, "master_repl_offset:").await;
    eventually_within(START_TIMEOUT, "the replica has the master's writes", async || {
        replication_offset(replica, "slave_repl_offset:").await >= target
    })
    .await;
}

/// Returns the position of a server in the replication stream.
async fn replication_offset(server: &RedisServer, field: &str) -> u64 {
    let info = server.cli(&["INFO", "replication"]).await;
    let value = info.lines().find_map(|line| line.trim_end().strip_prefix(field)?.parse().ok());
    value.unwrap_or_else(|| panic!("no {field} in: {info}"))
}
