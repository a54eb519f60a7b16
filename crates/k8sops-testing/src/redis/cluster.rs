//! A Redis cluster.

use super::{
    flavor::RedisFlavor,
    redis_cli::{redis_cli, run_command},
    server::{RedisServer, START_TIMEOUT},
};
use crate::eventually_within;

/// A cluster of three masters. Without replicas, a third of the keys is unavailable while one is down.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three masters without replicas, joins them, and waits until each sees all slots served.
    pub async fn start(flavor: RedisFlavor) -> Self {
        Self::start_with(flavor, 0).await
    }

    /// Starts a cluster like [`start`](Self::start), with this many replicas of each master.
    pub async fn start_with(flavor: RedisFlavor, replicas: usize) -> Self {
        // A node counts as failed after two seconds of silence. The default of fifteen would make tests slow.
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let starting = (0..3 * (1 + replicas)).map(|_| RedisServer::start_with(flavor, &options));
        let cluster = Self { nodes: futures_util::future::join_all(starting).await };
        let mut create = redis_cli();
        create.args(["--cluster", "create"]);
        create.args(cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())));
        create.args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"]);
        run_command(&mut create, START_TIMEOUT)
            .await
            .unwrap_or_else(|error| panic!("{flavor:?} created no cluster: {error}"));
        cluster.wait_until_ok().await;
        if replicas > 0 {
            cluster.wait_until_replicated().await;
        }
        cluster
    }

    /// Waits until each replica follows its master.
    async fn wait_until_replicated(&self) {
        for node in &self.nodes {
            eventually_within(START_TIMEOUT, "a replica follows its master", async || {
                let info = node.cli(&["INFO", "replication"]).await;
                info.contains("role:master") || info.contains("master_link_status:up")
            })
            .await;
        }
    }

    /// Waits until each node sees all slots served, for example after a restart.
    pub async fn wait_until_ok(&self) {
        for node in &self.nodes {
            eventually_within(START_TIMEOUT, "the cluster state is ok on each node", async || {
                let info = node.cli(&["CLUSTER", "INFO"]).await;
                let known_nodes = format!("cluster_known_nodes:{}\r", self.nodes.len());
                ["cluster_state:ok", "cluster_slots_ok:16384", &known_nodes].iter().all(|s| info.contains(s))
            })
            .await;
        }
    }

    /// Returns the URLs of the nodes. Clients may connect to any of them.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// Returns a node by its index.
    pub fn node(&self, index: usize) -> &RedisServer {
        &self.nodes[index]
    }

    /// Runs a command on the node that holds its key.
    pub async fn cli(&self, args: &[&str]) -> String {
        self.nodes[0].cli(&[&["-c"], args].concat()).await
    }

    /// Returns the index of the master that serves a key, if one does.
    pub async fn find_owner(&self, key: &str) -> Option<usize> {
        for (index, node) in self.nodes.iter().enumerate() {
            if node.try_cli(&["EXISTS", key]).await.is_ok() {
                return Some(index);
            }
        }
        None
    }

    /// Moves the slot of a key, with all of its keys, to another master.
    pub async fn move_slot(&self, key: &str, target: usize) {
        let source = &self.nodes[self.find_owner(key).await.expect("the slot is served")];
        let target = &self.nodes[target];
        let slot = source.cli(&["CLUSTER", "KEYSLOT", key]).await;
        let set_slot = async |node: &RedisServer, state: &str, other: &RedisServer| {
            let id = other.cli(&["CLUSTER", "MYID"]).await;
            node.cli(&["CLUSTER", "SETSLOT", &slot, state, &id]).await;
        };
        set_slot(target, "IMPORTING", source).await;
        set_slot(source, "MIGRATING", target).await;
        let keys = source.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).await;
        let port = target.port().to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys.lines());
        if !keys.is_empty() {
            source.cli(&migrate).await;
        }
        set_slot(target, "NODE", target).await;
        set_slot(source, "NODE", target).await;
    }
}
