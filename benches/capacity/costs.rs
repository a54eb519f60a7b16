//! What the parts of a turn cost.

use std::time::Duration;

/// CPU times in microseconds on one core of a replica and in the one thread of Redis, and the limits of a takeover.
///
/// They are measured by the tables `tokens`, `short-turn`, `watchers` and `redis` of the benches.
pub(super) struct CapacityCosts {
    pub name: &'static str,
    /// A turn of two model calls and one tool call, without its tokens.
    pub replica_turn: f64,
    /// A token that the owner's replica streams to a client.
    pub replica_token: f64,
    /// A token that another replica streams to a client.
    pub replica_remote_token: f64,
    /// A second of a session that is idle and that a client follows.
    pub replica_followed: f64,
    /// A turn as above.
    pub redis_turn: f64,
    /// A token, if all clients are on the owner's replica.
    pub redis_token: f64,
    /// A token, if a client is on another replica.
    pub redis_remote_token: f64,
    /// A second of a run: renewals of the lease.
    pub redis_run: f64,
    /// A second of a session that is idle and that a client follows.
    pub redis_followed: f64,
    /// A second of a replica without sessions.
    pub redis_replica: f64,
    /// A session that is resumed by another replica.
    pub redis_takeover: f64,
    pub lease: Duration,
    /// How often an owner renews its lease.
    pub renewal: Duration,
    /// Sessions that a replica claims at once.
    pub claim_limit: usize,
    /// From a claim to the next.
    pub claim_interval: Duration,
    /// From a claim that was full to the next.
    pub full_claim_interval: Duration,
}

/// Version 0.2.0.
pub(super) const BEFORE: CapacityCosts = CapacityCosts {
    name: "version 0.2.0",
    replica_turn: 2_200.0,
    replica_token: 60.0,
    replica_remote_token: 40.0,
    replica_followed: 6.0,
    redis_turn: 480.0,
    redis_token: 25.0,
    redis_remote_token: 28.0,
    redis_run: 40.0,
    redis_followed: 3.7,
    redis_replica: 500.0,
    redis_takeover: 200.0,
    lease: Duration::from_secs(10),
    renewal: Duration::from_secs(3),
    claim_limit: 100,
    claim_interval: Duration::from_secs(1),
    full_claim_interval: Duration::from_secs(1),
};

/// With sessions on the HTTP workers, and with previews only while another replica watches.
pub(super) const AFTER: CapacityCosts = CapacityCosts {
    name: "sessions on the HTTP workers, previews while another replica watches",
    replica_turn: 2_000.0,
    replica_token: 43.0,
    replica_remote_token: 40.0,
    replica_followed: 6.0,
    redis_turn: 400.0,
    redis_token: 1.0,
    redis_remote_token: 25.0,
    redis_run: 60.0,
    redis_followed: 3.7,
    redis_replica: 400.0,
    redis_takeover: 200.0,
    lease: Duration::from_secs(4),
    renewal: Duration::from_millis(1_500),
    claim_limit: 100,
    claim_interval: Duration::from_secs(2),
    full_claim_interval: Duration::ZERO,
};
