//! A Redis cluster.

use super::{
    flavor::RedisFlavor,
    redis_cli::{redis_cli, run_command},
    server::{RedisServer, START_TIMEOUT},
};
use crate::eventually_within;

/// A cluster of three masters without replicas: while one is down, a third of the keys is unavailable.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes, joins them, and waits until each sees all slots served.
    pub async fn start(flavor: RedisFlavor) -> Self {
        // A node counts as failed after two seconds of silence. The default of fifteen would make tests slow.
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let start = || RedisServer::start_with(flavor, &options);
        let (first, second, third) = tokio::join!(start(), start(), start());
        let cluster = Self { nodes: vec![first, second, third] };
        let mut create = redis_cli();
        create.args(["--cluster", "create"]);
        create.args(cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())));
        create.args(["--cluster-replicas", "0", "--cluster-yes"]);
        run_command(&mut create, START_TIMEOUT)
            .await
            .unwrap_or_else(|error| panic!("{flavor:?} created no cluster: {error}"));
        cluster.wait_until_ok().await;
        cluster
    }

    /// Waits until each node sees all slots served, for example after a restart.
    pub async fn wait_until_ok(&self) {
        for node in &self.nodes {
            eventually_within(START_TIMEOUT, "the cluster state is ok on each node", async || {
                let info = node.cli(&["CLUSTER", "INFO"]).await;
                ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"].iter().all(|s| info.contains(s))
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
}
