//! What a disturbance is: its kinds, and the trait by which each is done and undone.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;

use crate::{
    cluster::{ChaosCluster, ReplicaReservation},
    plan::RedisTopology,
    replica_disturbances::{AclLoss, ClockJump, Kill, Partition, Pause, Restart},
    store_disturbances::{Crash, DiskFull, Failover, OutOfMemory},
};

/// A way to disturb the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum DisturbanceKind {
    /// SIGKILL of a replica, at a random moment or right after a commit, and a start.
    Kill,
    /// SIGSTOP of a replica for longer than a lease, then SIGCONT.
    Stop,
    /// SIGTERM of a replica, and a start.
    Restart,
    /// A replica and Redis do not reach each other.
    Partition,
    /// The wall clock of a replica is wrong.
    Clock,
    /// The Redis user of a replica loses a right.
    Acl,
    /// The memory of Redis is full.
    Oom,
    /// Redis cannot write its snapshot, as with a full disk, and rejects writes.
    Disk,
    /// SIGKILL of Redis, and a start from its append-only file.
    Crash,
    /// A primary is killed while its replica lags, and the replica is promoted.
    Failover,
}

/// What a disturbance affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DisturbanceScope {
    /// One replica of k8sops.
    Replica,
    /// One shard of Redis.
    Store,
}

/// From when on the time to recovery counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecoveryStart {
    /// From the disturbance on, because others can continue its work.
    Applied,
    /// From its end on, because nothing can be written meanwhile.
    Undone,
}

/// The target of a disturbance, which nothing else disturbs meanwhile.
pub(crate) enum DisturbanceTarget {
    Replica(ReplicaReservation),
    Shard(usize),
}

/// A disturbance of a target.
#[async_trait(?Send)]
pub(crate) trait Disturbance {
    /// Begins it.
    async fn apply(&mut self);
    /// Ends it, and waits until what was disturbed works again.
    async fn undo(&mut self);
}

/// What disturbances have in common.
struct KindProfile {
    name: &'static str,
    title: &'static str,
    scope: DisturbanceScope,
    recovery: RecoveryStart,
    /// Milliseconds between its beginning and its end.
    duration_ms: Range<u64>,
}

impl DisturbanceKind {
    pub(crate) const ALL: [Self; 10] = [
        Self::Kill,
        Self::Stop,
        Self::Restart,
        Self::Partition,
        Self::Clock,
        Self::Acl,
        Self::Oom,
        Self::Disk,
        Self::Crash,
        Self::Failover,
    ];

    fn profile(self) -> KindProfile {
        use {
            DisturbanceScope::{Replica, Store},
            RecoveryStart::{Applied, Undone},
        };
        let profile =
            |name, title, scope, recovery, duration_ms| KindProfile { name, title, scope, recovery, duration_ms };
        match self {
            Self::Kill => profile("kill", "kill -9 of a replica", Replica, Applied, 500..2_000),
            // Longer than the lease of 4 s.
            Self::Stop => profile("stop", "SIGSTOP of a replica, then SIGCONT", Replica, Applied, 5_000..7_000),
            Self::Restart => profile("restart", "SIGTERM of a replica", Replica, Applied, 0..100),
            // Shorter and longer than the lease.
            Self::Partition => {
                profile("partition", "replica and Redis do not reach each other", Replica, Applied, 500..7_000)
            }
            Self::Clock => profile("clock", "wall clock of a replica is wrong", Replica, Undone, 1_500..5_000),
            Self::Acl => profile("acl", "Redis user of a replica loses a right", Replica, Undone, 500..4_000),
            Self::Oom => profile("oom", "memory of Redis is full", Store, Undone, 200..3_000),
            Self::Disk => profile("disk", "Redis cannot write its snapshot", Store, Undone, 200..3_000),
            Self::Crash => profile("crash", "kill -9 of Redis", Store, Undone, 100..2_000),
            Self::Failover => profile("failover", "a replica of Redis that lags is promoted", Store, Applied, 0..10),
        }
    }

    /// Returns the name on the command line.
    pub(crate) fn name(self) -> &'static str {
        self.profile().name
    }

    /// Describes it for the table.
    pub(crate) fn title(self) -> &'static str {
        self.profile().title
    }

    pub(crate) fn scope(self) -> DisturbanceScope {
        self.profile().scope
    }

    pub(crate) fn recovery(self) -> RecoveryStart {
        self.profile().recovery
    }

    pub(crate) fn duration_ms(self) -> Range<u64> {
        self.profile().duration_ms
    }

    /// Returns why the kind cannot be done on this machine, or with this topology.
    pub(crate) fn missing_requirement(self, topology: RedisTopology) -> Option<&'static str> {
        match self {
            // An empty value is a test bed without the library.
            Self::Clock if std::env::var("K8SOPS_TEST_LIBFAKETIME").unwrap_or_default().is_empty() => {
                Some("K8SOPS_TEST_LIBFAKETIME does not name libfaketime.so.1 (Debian package libfaketime)")
            }
            Self::Crash if topology != RedisTopology::Single => Some("it would be a failover"),
            _ => None,
        }
    }

    /// Prepares a disturbance of this kind.
    pub(crate) fn prepare(
        self,
        cluster: &Arc<ChaosCluster>,
        target: &DisturbanceTarget,
        random: &mut fastrand::Rng,
    ) -> Box<dyn Disturbance> {
        let cluster = cluster.clone();
        match (self, target) {
            (Self::Kill, DisturbanceTarget::Replica(target)) => Box::new(Kill(target.replica())),
            (Self::Stop, DisturbanceTarget::Replica(target)) => Box::new(Pause(target.replica())),
            (Self::Restart, DisturbanceTarget::Replica(target)) => Box::new(Restart(target.replica())),
            (Self::Partition, DisturbanceTarget::Replica(target)) => {
                Box::new(Partition::new(cluster, target.replica(), random))
            }
            (Self::Clock, DisturbanceTarget::Replica(target)) => Box::new(ClockJump::new(target.replica(), random)),
            (Self::Acl, DisturbanceTarget::Replica(target)) => {
                Box::new(AclLoss::new(cluster, &target.replica(), random))
            }
            (Self::Oom, DisturbanceTarget::Shard(shard)) => Box::new(OutOfMemory { cluster, shard: *shard }),
            (Self::Disk, DisturbanceTarget::Shard(shard)) => Box::new(DiskFull { cluster, shard: *shard }),
            (Self::Crash, DisturbanceTarget::Shard(shard)) => Box::new(Crash { cluster, shard: *shard }),
            (Self::Failover, DisturbanceTarget::Shard(shard)) => Box::new(Failover::new(cluster, *shard, random)),
            (kind, _) => unreachable!("{kind:?} does not affect this target"),
        }
    }
}
