//! The Redis servers of the test: shards of a primary and a replica, with a proxy in front of each server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{FromRedisValue, aio::MultiplexedConnection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use k8sops_testing::{
    eventually_within,
    redis::{RedisFlavor, RedisServer, wait_until_caught_up},
};

use crate::{
    link_proxy::{LinkPeer, LinkProxy, LinkState, LinkStates, replica_user},
    plan::{ChaosPlan, RedisTopology},
    sentinel_server::SentinelServer,
};

/// The password of all Redis users.
pub(crate) const REDIS_PASSWORD: &str = "chaos";
/// The name of the primary for the Sentinel.
pub(crate) const SENTINEL_MASTER: &str = "mymaster";
/// A change of roles takes seconds.
const ROLE_TIMEOUT: Duration = Duration::from_secs(60);

/// All Redis servers. Dropping it stops them.
pub(crate) struct RedisBed {
    pub topology: RedisTopology,
    pub links: LinkStates,
    pub shards: Vec<RedisShard>,
    sentinel: Option<SentinelServer>,
    /// The one address of a single server, or of the Sentinel.
    entry: LinkProxy,
    /// In a cluster, two of three primaries have to agree on a failover: one fails at a time.
    election: Arc<Mutex<()>>,
}

/// A primary and its replica.
pub(crate) struct RedisShard {
    nodes: [RedisNode; 2],
    primary: AtomicUsize,
}

/// A Redis server, and the proxy whose port it announces.
pub(crate) struct RedisNode {
    pub server: RedisServer,
    proxy: LinkProxy,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl RedisNode {
    async fn start(flavor: RedisFlavor, links: &LinkStates, services: usize, options: &[&str]) -> Self {
        let proxy = LinkProxy::start(links.clone()).await;
        let port = proxy.port.to_string();
        let users: Vec<String> = (0..services).map(replica_user).collect();
        let password = format!(">{REDIS_PASSWORD}");
        let mut args: Vec<&str> =
            options.iter().map(|option| if *option == "PROXY" { &port } else { *option }).collect();
        for user in &users {
            args.extend(["--user", user, "on", &password, "~*", "&*", "+@all"]);
        }
        let server = RedisServer::start_with(flavor, &args).await;
        proxy.set_target(server.port());
        Self { server, proxy, connection: Mutex::default() }
    }

    /// Sends a command to the server itself, past the proxy. `None`: the server is unavailable, or it rejects the command.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &redis::Cmd) -> Option<T> {
        let mut slot = self.connection.lock().await;
        if slot.is_none() {
            let client = redis::Client::open(self.server.url()).expect("the URL is valid");
            *slot = Some(client.get_multiplexed_async_connection().await.ok()?);
        }
        let mut connection = slot.clone()?;
        drop(slot);
        let reply = command.query_async(&mut connection).await;
        if reply.is_err() {
            *self.connection.lock().await = None;
        }
        reply.ok()
    }

    async fn is_primary(&self) -> bool {
        self.server.try_cli(&["ROLE"]).await.is_ok_and(|role| role.starts_with("master"))
    }

    async fn follows_its_primary(&self) -> bool {
        let info = self.server.try_cli(&["INFO", "replication"]).await.unwrap_or_default();
        info.contains("role:slave") && info.contains("master_link_status:up")
    }
}

impl RedisShard {
    fn new(nodes: [RedisNode; 2]) -> Self {
        Self { nodes, primary: AtomicUsize::new(0) }
    }

    /// Waits until one node follows the other. Sentinel and Cluster also promote the replica of a primary that a busy machine
    /// keeps from answering in time.
    async fn notice_promotion(&self) {
        eventually_within(ROLE_TIMEOUT, "one node of the shard follows the other", async || {
            if self.primary().follows_its_primary().await && self.replica().is_primary().await {
                self.swap_roles();
            }
            self.replica().follows_its_primary().await && self.primary().is_primary().await
        })
        .await;
    }

    fn swap_roles(&self) {
        self.primary.fetch_xor(1, Ordering::SeqCst);
    }

    pub(crate) fn nodes(&self) -> &[RedisNode; 2] {
        &self.nodes
    }

    pub(crate) fn primary(&self) -> &RedisNode {
        &self.nodes[self.primary.load(Ordering::SeqCst)]
    }

    fn replica(&self) -> &RedisNode {
        &self.nodes[1 - self.primary.load(Ordering::SeqCst)]
    }
}

impl RedisBed {
    pub(crate) async fn start(plan: &ChaosPlan) -> Self {
        // Only Redis 7.2 and newer can confirm that the append-only file is written.
        let flavor = if plan.confirm.as_deref() == Some("aof") { RedisFlavor::Redis8 } else { RedisFlavor::Debian };
        let links = LinkStates::new();
        let entry = LinkProxy::start(links.clone()).await;
        let mut shards = Vec::new();
        match plan.topology {
            RedisTopology::Cluster => {
                for _ in 0..3 {
                    let options = [
                        ["--cluster-enabled", "yes"],
                        ["--cluster-node-timeout", "2000"],
                        ["--cluster-replica-validity-factor", "0"],
                        ["--cluster-allow-replica-migration", "no"],
                        ["--cluster-announce-ip", "127.0.0.1"],
                        ["--cluster-announce-port", "PROXY"],
                    ];
                    let options = options.as_flattened();
                    let primary = RedisNode::start(flavor, &links, plan.replicas, options).await;
                    let replica = RedisNode::start(flavor, &links, plan.replicas, options).await;
                    shards.push(RedisShard::new([primary, replica]));
                }
                join_cluster(&shards).await;
            }
            RedisTopology::Single | RedisTopology::Sentinel => {
                let announce = ["--replica-announce-ip", "127.0.0.1", "--replica-announce-port", "PROXY"];
                let primary = RedisNode::start(flavor, &links, plan.replicas, &announce).await;
                let port = primary.proxy.port.to_string();
                let options = [&announce[..], &["--replicaof", "127.0.0.1", &port]].concat();
                let replica = RedisNode::start(flavor, &links, plan.replicas, &options).await;
                eventually_within(ROLE_TIMEOUT, "the replica follows", async || replica.follows_its_primary().await)
                    .await;
                shards.push(RedisShard::new([primary, replica]));
            }
        }
        let first = shards[0].primary();
        let sentinel = match plan.topology {
            RedisTopology::Sentinel => {
                let sentinel = SentinelServer::start(first.proxy.port, plan.replicas).await;
                entry.set_target(sentinel.port());
                Some(sentinel)
            }
            RedisTopology::Single | RedisTopology::Cluster => {
                entry.set_target(first.server.port());
                None
            }
        };
        Self { topology: plan.topology, links, shards, sentinel, entry, election: Arc::default() }
    }

    /// Returns the settings of a k8sops replica.
    pub(crate) fn service_env(&self, replica: usize) -> Vec<(&'static str, String)> {
        let user = replica_user(replica);
        let url = |port: u16| format!("redis://{user}:{REDIS_PASSWORD}@127.0.0.1:{port}");
        let url = match self.topology {
            RedisTopology::Cluster => {
                let nodes = self.shards.iter().flat_map(RedisShard::nodes);
                nodes.map(|node| url(node.proxy.port)).collect::<Vec<_>>().join(",")
            }
            RedisTopology::Single | RedisTopology::Sentinel => url(self.entry.port),
        };
        vec![
            ("MEMORY_BACKEND", "redis".to_owned()),
            ("REDIS_URL", url),
            ("REDIS_TOPOLOGY", self.topology.name().to_owned()),
            ("REDIS_SENTINEL_MASTER", SENTINEL_MASTER.to_owned()),
        ]
    }

    /// Returns the index of the shard that holds a session.
    pub(crate) async fn shard_of(&self, session: &str) -> usize {
        if self.shards.len() == 1 {
            return 0;
        }
        for shard in &self.shards {
            let slot = shard.primary().server.try_cli(&["CLUSTER", "KEYSLOT", session]).await;
            if let Some(slot) = slot.ok().and_then(|slot| slot.parse::<usize>().ok()) {
                return slots_of_shards().iter().rposition(|first| *first <= slot).unwrap_or_default();
            }
        }
        panic!("no primary of the cluster responds");
    }

    /// Interrupts the replication of a shard, so that its replica lags from now on, and kills the primary after `lag`.
    pub(crate) async fn kill_primary(&self, shard: &RedisShard, lag: Duration) {
        shard.notice_promotion().await;
        let primary = shard.primary();
        let replication = LinkPeer::Replication(primary.proxy.port);
        wait_until_caught_up(&primary.server, &shard.replica().server).await;
        self.links.set(replication, LinkState::Blackholed);
        tokio::time::sleep(lag).await;
        // What the link still holds must not arrive.
        self.links.set(replication, LinkState::Reset);
        primary.server.kill().await;
    }

    /// Waits until the replica of a shard is promoted.
    pub(crate) async fn wait_for_promotion(&self, shard: &RedisShard) {
        let promoted = shard.replica();
        match self.topology {
            RedisTopology::Single => {
                promoted.server.cli(&["REPLICAOF", "NO", "ONE"]).await;
                self.entry.set_target(promoted.server.port());
            }
            RedisTopology::Sentinel | RedisTopology::Cluster => {
                eventually_within(ROLE_TIMEOUT, "the replica is promoted", async || promoted.is_primary().await).await;
            }
        }
        shard.swap_roles();
    }

    /// Starts the killed primary of a shard as the replica of the promoted one, and waits until it follows.
    pub(crate) async fn restart_former_primary(&self, shard: &RedisShard) {
        let former = shard.replica();
        self.links.set(LinkPeer::Replication(former.proxy.port), LinkState::Open);
        let port = shard.primary().proxy.port.to_string();
        match self.topology {
            // The nodes of a cluster tell a former primary that it is a replica now.
            RedisTopology::Cluster => former.server.restart().await,
            RedisTopology::Single | RedisTopology::Sentinel => {
                former.server.restart_with(&["--replicaof", "127.0.0.1", &port]).await;
            }
        }
        eventually_within(ROLE_TIMEOUT, "the former primary follows", async || former.follows_its_primary().await)
            .await;
        if let Some(sentinel) = &self.sentinel {
            sentinel.wait_until_replica_is_healthy().await;
        }
    }

    /// Waits until no shard is without a primary. The guard is held until the next one has a primary again.
    pub(crate) async fn lock_election(&self) -> OwnedMutexGuard<()> {
        self.election.clone().lock_owned().await
    }
}

/// Returns the first slot of each shard.
fn slots_of_shards() -> [usize; 3] {
    [0, 5_461, 10_923]
}

async fn join_cluster(shards: &[RedisShard]) {
    let first_slots = slots_of_shards();
    let first = shards[0].primary();
    for (index, shard) in shards.iter().enumerate() {
        let last = first_slots.get(index + 1).map_or(16_383, |next| next - 1);
        let range = [first_slots[index].to_string(), last.to_string()];
        shard.nodes[0].server.cli(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).await;
        for node in &shard.nodes {
            let port = node.server.port().to_string();
            first.server.cli(&["CLUSTER", "MEET", "127.0.0.1", &port]).await;
        }
    }
    for shard in shards {
        let id = shard.nodes[0].server.cli(&["CLUSTER", "MYID"]).await;
        let replica = &shard.nodes[1];
        // A node replicates only one that it knows already.
        eventually_within(ROLE_TIMEOUT, "the replica of a shard joins it", async || {
            replica.server.try_cli(&["CLUSTER", "REPLICATE", &id]).await.is_ok()
        })
        .await;
    }
    for node in shards.iter().flat_map(|shard| &shard.nodes) {
        eventually_within(ROLE_TIMEOUT, "the cluster is complete", async || {
            let info = node.server.cli(&["CLUSTER", "INFO"]).await;
            ["cluster_state:ok", "cluster_known_nodes:6"].iter().all(|part| info.contains(part))
        })
        .await;
    }
    for shard in shards {
        let replica = &shard.nodes[1];
        eventually_within(ROLE_TIMEOUT, "the replica follows", async || replica.follows_its_primary().await).await;
    }
}
