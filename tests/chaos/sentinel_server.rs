//! A Sentinel that looks often, so that a failover takes seconds.

use std::time::Duration;

use k8sops_testing::{
    eventually_within,
    redis::{RedisFlavor, RedisServer},
};

use crate::{
    link_proxy::replica_user,
    redis_bed::{REDIS_PASSWORD, SENTINEL_MASTER},
};

const REPLICA_TIMEOUT: Duration = Duration::from_secs(60);

/// One Sentinel. Several would have to elect a leader, which sometimes takes a second round.
pub(crate) struct SentinelServer {
    server: RedisServer,
}

impl SentinelServer {
    /// Starts it, and waits until it could promote the replica. `services` is the number of k8sops replicas.
    pub(crate) async fn start(primary_port: u16, services: usize) -> Self {
        let mut config = format!(
            "sentinel monitor {SENTINEL_MASTER} 127.0.0.1 {primary_port} 1\n\
             sentinel down-after-milliseconds {SENTINEL_MASTER} 800\n\
             sentinel failover-timeout {SENTINEL_MASTER} 1500\n"
        );
        for service in 0..services {
            config += &format!("user {} on >{REDIS_PASSWORD} ~* &* +@all\n", replica_user(service));
        }
        let server = RedisServer::start_sentinel(RedisFlavor::Debian, &config).await;
        // By default it asks its servers every ten seconds, and has to know the replica before it can promote it.
        server.cli(&["SENTINEL", "DEBUG", "info-period", "500", "ping-period", "200"]).await;
        let started = Self { server };
        started.wait_until_replica_is_healthy().await;
        started
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    /// Waits until the next failover can succeed.
    pub(crate) async fn wait_until_replica_is_healthy(&self) {
        eventually_within(REPLICA_TIMEOUT, "the Sentinel knows a healthy replica", async || {
            let replicas = self.server.cli(&["SENTINEL", "REPLICAS", SENTINEL_MASTER]).await;
            ["flags\nslave\n", "master-link-status\nok\n"].iter().all(|part| replicas.contains(part))
        })
        .await;
    }
}
