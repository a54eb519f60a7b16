//! Disturbances of one shard of Redis.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;

use k8sops_testing::eventually_within;

use crate::{cluster::ChaosCluster, disturbance::Disturbance};

/// Milliseconds for which a replica of Redis lags before the failover.
const LAG_MS: std::ops::Range<u64> = 0..1_200;
/// A snapshot takes milliseconds.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// `maxmemory` is below what is used, and nothing may be evicted.
pub(crate) struct OutOfMemory {
    pub cluster: Arc<ChaosCluster>,
    pub shard: usize,
}

#[async_trait(?Send)]
impl Disturbance for OutOfMemory {
    async fn apply(&mut self) {
        self.cluster.redis.shards[self.shard].primary().server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;
    }

    async fn undo(&mut self) {
        self.cluster.redis.shards[self.shard].primary().server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
    }
}

/// Snapshots fail, which makes Redis reject writes (`MISCONF`), as on a full disk. A folder has the name of the file, so that
/// the file cannot be written, not even by root.
pub(crate) struct DiskFull {
    pub cluster: Arc<ChaosCluster>,
    pub shard: usize,
}

impl DiskFull {
    fn obstacle(&self) -> PathBuf {
        self.cluster.redis.shards[self.shard].primary().server.data_dir().join("dump.rdb")
    }

    /// Writes a snapshot, and waits for its outcome.
    async fn write_snapshot(&self, outcome: &str) {
        let server = &self.cluster.redis.shards[self.shard].primary().server;
        let expected = format!("rdb_last_bgsave_status:{outcome}");
        eventually_within(SNAPSHOT_TIMEOUT, &expected, async || {
            let info = server.cli(&["INFO", "persistence"]).await;
            if info.contains("rdb_bgsave_in_progress:1") {
                return false;
            }
            if !info.contains(&expected) {
                // Fails while the append-only file is being rewritten.
                let _ = server.try_cli(&["BGSAVE"]).await;
            }
            info.contains(&expected)
        })
        .await;
    }
}

#[async_trait(?Send)]
impl Disturbance for DiskFull {
    async fn apply(&mut self) {
        // The snapshot of a former replication.
        let _ = std::fs::remove_file(self.obstacle());
        std::fs::create_dir_all(self.obstacle().join("obstacle")).expect("the folder of the server is writable");
        // Redis rejects writes after a failed snapshot only if it is to write snapshots by itself.
        let server = &self.cluster.redis.shards[self.shard].primary().server;
        server.cli(&["CONFIG", "SET", "save", "86400 1000000"]).await;
        self.write_snapshot("err").await;
    }

    async fn undo(&mut self) {
        std::fs::remove_dir_all(self.obstacle()).expect("the folder can be removed");
        self.write_snapshot("ok").await;
    }
}

/// The primary is killed, and started again from what it has written.
pub(crate) struct Crash {
    pub cluster: Arc<ChaosCluster>,
    pub shard: usize,
}

#[async_trait(?Send)]
impl Disturbance for Crash {
    async fn apply(&mut self) {
        self.cluster.redis.shards[self.shard].primary().server.kill().await;
    }

    async fn undo(&mut self) {
        // One that was promoted was first started as a replica.
        let server = &self.cluster.redis.shards[self.shard].primary().server;
        server.restart_with(&["--replicaof", "no", "one"]).await;
    }
}

/// The primary is killed while its replica lags.
pub(crate) struct Failover {
    cluster: Arc<ChaosCluster>,
    shard: usize,
    lag: Duration,
    election: Option<OwnedMutexGuard<()>>,
}

impl Failover {
    pub(crate) fn new(cluster: Arc<ChaosCluster>, shard: usize, random: &mut fastrand::Rng) -> Self {
        Self { cluster, shard, lag: Duration::from_millis(random.u64(LAG_MS)), election: None }
    }
}

#[async_trait(?Send)]
impl Disturbance for Failover {
    async fn apply(&mut self) {
        let redis = &self.cluster.redis;
        self.election = Some(redis.lock_election().await);
        redis.kill_primary(&self.cluster.redis.shards[self.shard], self.lag).await;
    }

    async fn undo(&mut self) {
        let shard = &self.cluster.redis.shards[self.shard];
        self.cluster.redis.wait_for_promotion(shard).await;
        self.election = None;
        self.cluster.redis.restart_former_primary(shard).await;
    }
}
