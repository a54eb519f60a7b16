//! Observes the commits of all sessions: which replica owns them, and how long they wait for the first commit after a
//! disturbance. Kills replicas right after a commit.
//!
//! Redis says which replica owns a session (`holder` in its meta hash), and every commit is published on the session's
//! channel, which `MONITOR` shows on any topology: what is published to a shard cannot be subscribed to by a pattern. A replica can
//! therefore be killed right after a given commit, before the work that follows the commit.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::sleep};

use crate::{
    cluster::{ChaosCluster, ReplicaReservation},
    disturbance::{DisturbanceKind, RecoveryStart},
    redis_bed::RedisNode,
    sessions::SessionRegistry,
};

/// Time until a lost connection is opened again.
const RECONNECT_DELAY: Duration = Duration::from_millis(50);

/// A session that made its first commit after a disturbance.
#[derive(Clone)]
pub(crate) struct SessionRecovery {
    pub kind: DisturbanceKind,
    pub duration: Duration,
}

pub(crate) struct CommitWatcher {
    cluster: Arc<ChaosCluster>,
    registry: Arc<SessionRegistry>,
    // A synchronous mutex: held for a look-up, never across an await.
    state: Mutex<WatcherState>,
}

#[derive(Default)]
struct WatcherState {
    /// The owner of each session at its last commit, and the newest seq of that commit.
    owners: HashMap<String, (String, u64)>,
    pending: HashMap<String, PendingRecovery>,
    pending_kill: Option<PendingKill>,
    recoveries: Vec<SessionRecovery>,
}

struct PendingRecovery {
    kind: DisturbanceKind,
    since: Instant,
    /// Commits of this owner do not count.
    failed_owner: Option<String>,
}

/// A kill that waits for a commit.
struct PendingKill {
    /// The number of the commit in its turn.
    commit_point: u32,
    killed: oneshot::Sender<ReplicaReservation>,
}

/// Parses a line of `MONITOR` by which a commit is published: `1700000000.1 [0 lua] "PUBLISH" "k8sops:{SESSION}:log" "12"`. The
/// payload is the new last seq. Other notifications have other payloads.
fn parse_commit(command: &str) -> Option<(&str, u64)> {
    let mut words = command.split('"').skip(1).step_by(2);
    if !["PUBLISH", "SPUBLISH"].contains(&words.next()?) {
        return None;
    }
    let id = words.next()?.strip_prefix("k8sops:{")?.strip_suffix("}:log")?;
    Some((id, words.next()?.parse().ok()?))
}

impl CommitWatcher {
    pub(crate) fn new(cluster: Arc<ChaosCluster>, registry: Arc<SessionRegistry>) -> Arc<Self> {
        Arc::new(Self { cluster, registry, state: Mutex::default() })
    }

    pub(crate) fn recoveries(&self) -> Vec<SessionRecovery> {
        self.state.lock().recoveries.clone()
    }

    /// Observes the commits that a node publishes until it is dropped. Every commit arrives from several nodes.
    pub(crate) async fn watch_node(&self, node: &RedisNode) {
        loop {
            let _: Option<()> = self.watch_connection(node).await;
            sleep(RECONNECT_DELAY).await;
        }
    }

    async fn watch_connection(&self, node: &RedisNode) -> Option<()> {
        let client = redis::Client::open(node.server.url()).expect("the URL is valid");
        let mut commands = client.get_async_monitor().await.ok()?.into_on_message::<String>();
        while let Some(command) = commands.next().await {
            if let Some((id, seq)) = parse_commit(&command) {
                self.record_commit(id, seq).await;
            }
        }
        None
    }

    async fn record_commit(&self, id: &str, seq: u64) {
        let Some(session) = self.registry.get(id) else { return };
        {
            let mut state = self.state.lock();
            let (_, newest) = state.owners.entry(id.to_owned()).or_default();
            if *newest >= seq {
                return;
            }
            *newest = seq;
        }
        let commits = session.commits.fetch_add(1, Ordering::SeqCst) + 1;
        // Try the owner of the previous commit first: reading the current owner takes longer than the owner needs to
        // continue its work.
        self.kill_owner_if_pending(id, commits);
        let mut command = redis::cmd("HGET");
        command.arg(format!("k8sops:{{{id}}}:meta")).arg("holder");
        let primary = self.cluster.redis.shards[session.shard].primary();
        let Some(Some(owner)) = primary.query::<Option<String>>(&command).await else { return };
        {
            let mut state = self.state.lock();
            state.complete_recovery(id, &owner);
            state.owners.insert(id.to_owned(), (owner, seq));
        }
        self.kill_owner_if_pending(id, commits);
    }

    /// Returns the index of the replica that owns a session.
    pub(crate) fn owner_of(&self, session: &str) -> Option<usize> {
        let state = self.state.lock();
        let (owner, _) = state.owners.get(session)?;
        self.cluster.find_replica(owner).map(|replica| replica.index)
    }

    /// Expects a commit of each session with work that a replica owns: by another replica, if `is_failed`.
    pub(crate) fn expect_commits_of_owner(&self, kind: DisturbanceKind, owner: &str, since: Instant) {
        let failed_owner = (kind.recovery() == RecoveryStart::Applied).then(|| owner.to_owned());
        let mut state = self.state.lock();
        for session in self.registry.all() {
            if state.owners.get(&session.id).is_some_and(|(of_session, _)| of_session == owner) {
                let failed_owner = failed_owner.clone();
                state.expect_commit(&session, PendingRecovery { kind, since, failed_owner });
            }
        }
    }

    /// Expects a commit of each session with work on a shard.
    pub(crate) fn expect_commits_of_shard(&self, kind: DisturbanceKind, shard: usize, since: Instant) {
        let mut state = self.state.lock();
        for session in self.registry.all() {
            if session.shard == shard {
                state.expect_commit(&session, PendingRecovery { kind, since, failed_owner: None });
            }
        }
    }

    /// From now on commits of the replica count as well.
    pub(crate) fn accept_commits_of_owner(&self, owner: &str) {
        for pending in self.state.lock().pending.values_mut() {
            pending.failed_owner.take_if(|failed| failed == owner);
        }
    }

    /// Kills the owner of the next session that makes this commit of a turn. `None`: a session reached it, and its owner could
    /// not be killed; or the time is over.
    pub(crate) async fn kill_after_commit(&self, commit_point: u32, limit: Duration) -> Option<ReplicaReservation> {
        let (killed, mut receiver) = oneshot::channel();
        self.state.lock().pending_kill = Some(PendingKill { commit_point, killed });
        if let Ok(reservation) = tokio::time::timeout(limit, &mut receiver).await {
            return reservation.ok();
        }
        // Cancels the pending kill, unless it is executed at this moment.
        match self.state.lock().pending_kill.take() {
            Some(_) => None,
            None => receiver.try_recv().ok(),
        }
    }

    fn kill_owner_if_pending(&self, session: &str, commits: u32) {
        let mut state = self.state.lock();
        let Some(pending) = state.pending_kill.take_if(|pending| pending.commit_point == commits) else { return };
        let owner = state.owners.get(session).and_then(|(owner, _)| self.cluster.find_replica(owner));
        match owner.and_then(|replica| self.cluster.reserve_replica(replica.index, 0)) {
            Some(reservation) => {
                reservation.replica().kill();
                let _ = pending.killed.send(reservation);
            }
            None => state.pending_kill = Some(pending),
        }
    }
}

impl WatcherState {
    fn expect_commit(&mut self, session: &crate::client::ClientSession, pending: PendingRecovery) {
        if session.has_work.load(Ordering::SeqCst) {
            // An earlier disturbance that the session has not recovered from counts from its beginning.
            self.pending.entry(session.id.clone()).or_insert(pending);
        }
    }

    fn complete_recovery(&mut self, session: &str, owner: &str) {
        if self.pending.get(session).is_some_and(|pending| pending.failed_owner.as_deref() != Some(owner))
            && let Some(pending) = self.pending.remove(session)
        {
            self.recoveries.push(SessionRecovery { kind: pending.kind, duration: pending.since.elapsed() });
        }
    }
}
