//! Three masters that share the keys among them.

use super::{Kind, PATIENCE, RedisServer, output, redis_cli, wait};

/// A cluster of three masters without replicas: when one is down, so is its third of the keys.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes, joins them, and waits until each finds all slots served.
    pub async fn start(kind: Kind) -> Self {
        // A node counts as failed after two seconds without a word; the usual fifteen would make tests slow.
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let start = || RedisServer::start_with(kind, &options);
        let (first, second, third) = tokio::join!(start(), start(), start());
        let cluster = Self { nodes: vec![first, second, third] };
        let mut create = redis_cli();
        create.args(["--cluster", "create"]);
        create.args(cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())));
        create.args(["--cluster-replicas", "0", "--cluster-yes"]);
        output(&mut create, PATIENCE).await.unwrap_or_else(|error| panic!("{kind:?} made no cluster: {error}"));
        cluster.ok().await;
        cluster
    }

    /// Waits until each node finds all slots served, as after the restart of one.
    pub async fn ok(&self) {
        for node in &self.nodes {
            wait("the cluster's state is ok on each node", || async {
                let info = node.cli(&["CLUSTER", "INFO"]).await;
                ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"].iter().all(|s| info.contains(s))
            })
            .await;
        }
    }

    /// How a client is told to connect: to any of these.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// The `i`th of the three.
    pub fn node(&self, i: usize) -> &RedisServer {
        &self.nodes[i]
    }

    /// Runs a command on the node that has its key.
    pub async fn cli(&self, args: &[&str]) -> String {
        self.nodes[0].cli(&[&["-c"], args].concat()).await
    }
}
