//! Disturbances of one replica of k8sops.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    cluster::{ChaosCluster, ReplicaProcess},
    disturbance::Disturbance,
    link_proxy::{LinkPeer, LinkState, replica_user},
    redis_bed::RedisShard,
};

/// SIGKILL. A replica that is dead already (killed right after a commit) stays dead.
pub(crate) struct Kill(pub Arc<ReplicaProcess>);

#[async_trait(?Send)]
impl Disturbance for Kill {
    async fn apply(&mut self) {
        self.0.kill();
        self.0.wait_for_exit().await;
    }

    async fn undo(&mut self) {
        self.0.start().await;
    }
}

/// SIGSTOP and SIGCONT.
pub(crate) struct Pause(pub Arc<ReplicaProcess>);

#[async_trait(?Send)]
impl Disturbance for Pause {
    async fn apply(&mut self) {
        self.0.pause();
    }

    async fn undo(&mut self) {
        self.0.resume();
    }
}

/// SIGTERM, as in a rolling restart.
pub(crate) struct Restart(pub Arc<ReplicaProcess>);

#[async_trait(?Send)]
impl Disturbance for Restart {
    async fn apply(&mut self) {
        self.0.terminate();
    }

    async fn undo(&mut self) {
        let status = self.0.wait_for_exit().await;
        self.0.record_exit(status);
        self.0.start().await;
    }
}

/// Nothing passes between the replica and Redis, or all connections are reset.
pub(crate) struct Partition {
    cluster: Arc<ChaosCluster>,
    replica: Arc<ReplicaProcess>,
    state: LinkState,
}

impl Partition {
    pub(crate) fn new(cluster: Arc<ChaosCluster>, replica: Arc<ReplicaProcess>, random: &mut fastrand::Rng) -> Self {
        let state = if random.bool() { LinkState::Blackholed } else { LinkState::Reset };
        Self { cluster, replica, state }
    }
}

#[async_trait(?Send)]
impl Disturbance for Partition {
    async fn apply(&mut self) {
        self.cluster.redis.links.set(LinkPeer::Service(self.replica.index), self.state);
    }

    async fn undo(&mut self) {
        self.cluster.redis.links.set(LinkPeer::Service(self.replica.index), LinkState::Open);
    }
}

/// The wall clock of the replica jumps, and jumps back.
pub(crate) struct ClockJump {
    replica: Arc<ReplicaProcess>,
    offset_s: i64,
}

impl ClockJump {
    pub(crate) fn new(replica: Arc<ReplicaProcess>, random: &mut fastrand::Rng) -> Self {
        // Up to two hours in both directions, as often by seconds as by hours. Approval requests are open for a day.
        let offset_s = 1_i64 << random.u32(1..13);
        Self { replica, offset_s: if random.bool() { offset_s } else { -offset_s } }
    }
}

#[async_trait(?Send)]
impl Disturbance for ClockJump {
    async fn apply(&mut self) {
        self.replica.set_clock_offset(self.offset_s);
    }

    async fn undo(&mut self) {
        self.replica.set_clock_offset(0);
    }
}

/// The rules that take a right away. `-@all` is not among them: redis 1.8.1 overflows in debug builds if MULTI is refused.
const ACL_RULES: [&str; 6] = ["-@write", "-evalsha -eval", "-xadd", "-hset -hget", "resetchannels", "resetkeys"];

/// The Redis user of the replica loses a right on all nodes, and gets it back.
pub(crate) struct AclLoss {
    cluster: Arc<ChaosCluster>,
    user: String,
    rule: &'static str,
}

impl AclLoss {
    pub(crate) fn new(cluster: Arc<ChaosCluster>, replica: &ReplicaProcess, random: &mut fastrand::Rng) -> Self {
        let rule = random.choice(ACL_RULES).expect("there are rules");
        Self { cluster, user: replica_user(replica.index), rule }
    }

    async fn set_rules(&self, rules: &[&str]) {
        let nodes = self.cluster.redis.shards.iter().flat_map(RedisShard::nodes);
        let args = [&["ACL", "SETUSER", &self.user], rules].concat();
        for node in nodes {
            // A node that a failover has stopped starts with all rights.
            for _ in 0..3 {
                if node.server.try_cli(&args).await.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[async_trait(?Send)]
impl Disturbance for AclLoss {
    async fn apply(&mut self) {
        let rules: Vec<&str> = self.rule.split(' ').collect();
        self.set_rules(&rules).await;
    }

    async fn undo(&mut self) {
        self.set_rules(&["~*", "&*", "+@all"]).await;
    }
}
