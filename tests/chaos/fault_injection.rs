//! Injects faults into replicas, and measures how long a takeover takes.
//!
//! Redis says which replica owns a session (`holder` in its meta hash), and every commit is published on the session's
//! channel. The test can therefore kill an owner right after a given commit, before the work that follows the commit.

use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    ChaosPlan,
    client::ClientSession,
    cluster::{ChaosCluster, ReplicaProcess, ReplicaState},
};

/// Within this time a session has an open run and a live owner, whatever failed before: the time of several takeovers.
const TARGET_TIMEOUT: Duration = Duration::from_secs(60);
/// Number of commits after which an owner is killed: those of an undisturbed turn, and one more. An interrupted turn
/// has more.
const COMMIT_POINTS: u32 = 12;
/// How long to wait for a session to reach a commit point before the next point is tried.
const COMMIT_POINT_TIMEOUT: Duration = Duration::from_secs(30);
/// Milliseconds between two faults.
const FAULT_INTERVAL_MS: Range<u64> = 300..3_000;
/// Milliseconds until a killed replica is started again.
const DOWNTIME_MS: Range<u64> = 1_000..3_000;
/// Milliseconds for which a replica is paused: longer than the lease of 10 s.
const PAUSE_MS: Range<u64> = 11_000..14_000;

/// A fault of a replica that owns a session with an open run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    /// SIGKILL at a random moment.
    Kill,
    /// SIGKILL right after a commit.
    KillAfterCommit,
    /// SIGSTOP, and SIGCONT after the replica's leases have expired.
    Pause,
    /// SIGTERM, as in a rolling restart.
    Restart,
}

/// Injected faults, and the takeovers that followed.
#[derive(Default, Clone)]
pub(crate) struct FaultCounts {
    pub kills: u32,
    /// Kills right after a commit, by the number of the commit in its turn.
    pub kills_after_commit: BTreeMap<u32, u32>,
    pub pauses: u32,
    pub restarts: u32,
    /// Restarted replicas whose process exited with a failure.
    pub failed_exits: u32,
    pub takeovers_after_kill: Vec<SessionTakeover>,
    pub takeovers_after_pause: Vec<SessionTakeover>,
    pub takeovers_after_restart: Vec<SessionTakeover>,
}

/// A session that changed its owner.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionTakeover {
    /// From the fault to the next commit by another owner.
    pub duration: Duration,
    pub session: String,
}

/// Observes the commits of all sessions, kills owners after commits, and measures takeovers.
pub(crate) struct CommitWatcher {
    cluster: Arc<ChaosCluster>,
    sessions: HashMap<String, Arc<ClientSession>>,
    // A synchronous mutex: held for a look-up, never across an await.
    state: Mutex<WatcherState>,
}

#[derive(Default)]
struct WatcherState {
    /// The owner of each session at its last commit.
    owners: HashMap<String, String>,
    /// Sessions whose owner has failed.
    pending_takeovers: HashMap<String, PendingTakeover>,
    pending_kill: Option<PendingKill>,
    counts: FaultCounts,
}

/// A kill that waits for a commit.
struct PendingKill {
    /// The number of the commit in its turn.
    commit_point: u32,
    killed: oneshot::Sender<KilledReplica>,
}

struct KilledReplica {
    replica: Arc<ReplicaProcess>,
    killed_at: Instant,
}

struct PendingTakeover {
    fault: FaultKind,
    failed_owner: String,
    failed_at: Instant,
}

impl CommitWatcher {
    pub(crate) fn new(cluster: Arc<ChaosCluster>, sessions: &[Arc<ClientSession>]) -> Arc<Self> {
        let sessions = sessions.iter().map(|session| (session.id.clone(), session.clone())).collect();
        Arc::new(Self { cluster, sessions, state: Mutex::default() })
    }

    pub(crate) fn fault_counts(&self) -> FaultCounts {
        self.state.lock().counts.clone()
    }

    async fn connect(&self) -> (redis::Client, MultiplexedConnection) {
        let client = redis::Client::open(self.cluster.redis.url()).expect("the URL is valid");
        let connection = client.get_multiplexed_async_connection().await.expect("Redis accepts connections");
        (client, connection)
    }

    /// Observes commits until it is dropped.
    ///
    /// # Panics
    /// Redis is unavailable.
    pub(crate) async fn watch_commits(self: Arc<Self>) {
        let (client, mut redis) = self.connect().await;
        let mut subscription = client.get_async_pubsub().await.expect("Redis accepts connections");
        subscription.psubscribe("k8sops:{*}:log").await.expect("Redis accepts the subscription");
        let mut messages = subscription.on_message();
        while let Some(message) = messages.next().await {
            let id = message.get_channel_name().strip_prefix("k8sops:{").and_then(|rest| rest.strip_suffix("}:log"));
            let Some(session) = id.and_then(|id| self.sessions.get(id)) else { continue };
            // The payload of a commit is the new last seq. Other notifications have other payloads.
            if message.get_payload::<u64>().is_err() {
                continue;
            }
            let commits = session.commits.fetch_add(1, Ordering::SeqCst) + 1;
            // Try the owner of the previous commit first: reading the current owner takes longer than the owner needs to
            // continue its work.
            self.kill_owner_if_pending(&session.id, commits);
            if let Some(owner) = read_meta_field(&mut redis, &session.id, "holder").await {
                let mut state = self.state.lock();
                state.record_commit(&session.id, &owner);
                state.owners.insert(session.id.clone(), owner);
                drop(state);
                self.kill_owner_if_pending(&session.id, commits);
            }
        }
        panic!("Redis closed the subscription to the commits");
    }

    /// Kills the owner of a session if a kill is pending for this commit.
    fn kill_owner_if_pending(&self, session: &str, commits: u32) {
        let mut state = self.state.lock();
        let Some(pending) = state.pending_kill.take_if(|pending| pending.commit_point == commits) else { return };
        let owner = state.owners.get(session).and_then(|owner| self.cluster.find_replica(owner));
        let owner = owner.filter(|_| can_kill_replica(&self.cluster));
        match owner {
            Some(replica) if replica.kill() => {
                let _ = pending.killed.send(KilledReplica { replica: replica.clone(), killed_at: Instant::now() });
            }
            _ => state.pending_kill = Some(pending),
        }
    }

    fn schedule_kill(&self, commit_point: u32) -> oneshot::Receiver<KilledReplica> {
        let (killed, receiver) = oneshot::channel();
        self.state.lock().pending_kill = Some(PendingKill { commit_point, killed });
        receiver
    }

    /// Records a pending takeover for each session with work that the failed replica owned.
    async fn expect_takeovers(
        &self,
        redis: &mut MultiplexedConnection,
        failed_owner: &str,
        fault: FaultKind,
        failed_at: Instant,
    ) {
        // Redis may still be processing the last writes of the replica.
        sleep(Duration::from_millis(5)).await;
        for session in self.sessions.keys() {
            if read_meta_field(redis, session, "holder").await.as_deref() == Some(failed_owner)
                && has_work(redis, session).await
            {
                let pending = PendingTakeover { fault, failed_owner: failed_owner.to_owned(), failed_at };
                self.state.lock().pending_takeovers.insert(session.clone(), pending);
            }
        }
    }
}

impl WatcherState {
    /// Records a commit by `owner`, which may complete a takeover.
    fn record_commit(&mut self, session: &str, owner: &str) {
        let Some(pending) = self.pending_takeovers.get(session) else { return };
        let duration = pending.failed_at.elapsed();
        if pending.failed_owner == owner {
            // A paused owner that resumed before another replica took over its session.
            if pending.fault == FaultKind::Pause && duration > Duration::from_millis(PAUSE_MS.start) {
                self.pending_takeovers.remove(session);
            }
            return;
        }
        let takeovers = match pending.fault {
            FaultKind::Kill | FaultKind::KillAfterCommit => &mut self.counts.takeovers_after_kill,
            FaultKind::Pause => &mut self.counts.takeovers_after_pause,
            FaultKind::Restart => &mut self.counts.takeovers_after_restart,
        };
        takeovers.push(SessionTakeover { duration, session: session.to_owned() });
        self.pending_takeovers.remove(session);
    }
}

/// Injects the planned faults in random order. Returns when all replicas are up again.
///
/// # Panics
/// A step exceeds its timeout.
pub(crate) async fn inject_faults(cluster: Arc<ChaosCluster>, watcher: Arc<CommitWatcher>, plan: ChaosPlan) {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut faults = Vec::new();
    for n in 0..plan.kills {
        faults.push(if n % 2 == 0 { FaultKind::KillAfterCommit } else { FaultKind::Kill });
    }
    faults.extend((0..plan.pauses).map(|_| FaultKind::Pause));
    faults.extend((0..plan.restarts).map(|_| FaultKind::Restart));
    random.shuffle(&mut faults);

    let (_client, mut redis) = watcher.connect().await;
    let mut recoveries = JoinSet::new();
    let mut commit_points = (1..=COMMIT_POINTS).cycle();
    for (done, fault) in faults.iter().enumerate() {
        sleep(Duration::from_millis(random.u64(FAULT_INTERVAL_MS))).await;
        while let Some(recovered) = recoveries.try_join_next() {
            recovered.expect("the replica starts again");
        }
        if done % 20 == 0 && done > 0 {
            println!("chaos: {done} of {} faults injected", faults.len());
        }
        match fault {
            FaultKind::Kill => {
                let replica = signal_owner(&cluster, &watcher, &mut redis, &mut random, 1, ReplicaProcess::kill).await;
                let killed = KilledReplica { replica, killed_at: Instant::now() };
                await_exit(&watcher, &mut redis, &killed, *fault).await;
                watcher.state.lock().counts.kills += 1;
                let downtime = Duration::from_millis(random.u64(DOWNTIME_MS));
                recoveries.spawn(async move { start_after(&killed.replica, downtime).await });
            }
            FaultKind::KillAfterCommit => {
                let (commit_point, killed) = kill_after_commit(&watcher, &mut commit_points).await;
                await_exit(&watcher, &mut redis, &killed, *fault).await;
                *watcher.state.lock().counts.kills_after_commit.entry(commit_point).or_default() += 1;
                let downtime = Duration::from_millis(random.u64(DOWNTIME_MS));
                recoveries.spawn(async move { start_after(&killed.replica, downtime).await });
            }
            FaultKind::Pause => {
                let replica = signal_owner(&cluster, &watcher, &mut redis, &mut random, 2, ReplicaProcess::pause).await;
                watcher.expect_takeovers(&mut redis, &replica.id(), *fault, Instant::now()).await;
                watcher.state.lock().counts.pauses += 1;
                let pause = Duration::from_millis(random.u64(PAUSE_MS));
                recoveries.spawn(async move {
                    sleep(pause).await;
                    replica.resume();
                });
            }
            FaultKind::Restart => {
                let replica =
                    signal_owner(&cluster, &watcher, &mut redis, &mut random, 2, ReplicaProcess::terminate).await;
                watcher.expect_takeovers(&mut redis, &replica.id(), *fault, Instant::now()).await;
                watcher.state.lock().counts.restarts += 1;
                let watcher = watcher.clone();
                recoveries.spawn(async move {
                    let status = replica.wait_for_exit().await;
                    watcher.state.lock().counts.failed_exits += u32::from(!status.success());
                    start_after(&replica, Duration::ZERO).await;
                });
            }
        }
    }
    while let Some(recovered) = recoveries.join_next().await {
        recovered.expect("the replica starts again");
    }
}

async fn await_exit(
    watcher: &CommitWatcher,
    redis: &mut MultiplexedConnection,
    killed: &KilledReplica,
    fault: FaultKind,
) {
    killed.replica.wait_for_exit().await;
    watcher.expect_takeovers(redis, &killed.replica.id(), fault, killed.killed_at).await;
}

async fn start_after(replica: &ReplicaProcess, downtime: Duration) {
    sleep(downtime).await;
    replica.start().await;
}

/// Whether a replica may be killed now. All may be down at once, because killed replicas start again before a lease
/// expires; but while one is paused, another must be up.
fn can_kill_replica(cluster: &ChaosCluster) -> bool {
    let paused = cluster.count_replicas(ReplicaState::Paused);
    cluster.count_replicas(ReplicaState::Up) > usize::from(paused > 0)
}

/// Sends a signal to the owner of a session with an open run, while at least `minimum_up` replicas are up.
async fn signal_owner(
    cluster: &ChaosCluster,
    watcher: &CommitWatcher,
    redis: &mut MultiplexedConnection,
    random: &mut fastrand::Rng,
    minimum_up: usize,
    send_signal: fn(&ReplicaProcess) -> bool,
) -> Arc<ReplicaProcess> {
    let started = Instant::now();
    let mut sessions: Vec<&String> = watcher.sessions.keys().collect();
    sessions.sort();
    while started.elapsed() < TARGET_TIMEOUT {
        random.shuffle(&mut sessions);
        for session in &sessions {
            if read_meta_field(redis, session, "open").await.as_deref() != Some("1") {
                continue;
            }
            let Some(owner) = read_meta_field(redis, session, "holder").await else { continue };
            if let Some(replica) = cluster.find_replica(&owner)
                && replica.state() == ReplicaState::Up
                && cluster.count_replicas(ReplicaState::Up) >= minimum_up
                && can_kill_replica(cluster)
                && send_signal(replica)
            {
                return replica.clone();
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("for {TARGET_TIMEOUT:?} no session had an open run and an owner that was up");
}

/// Kills an owner after the next commit point that a session reaches. Returns the number of the commit in its turn.
async fn kill_after_commit(
    watcher: &CommitWatcher,
    commit_points: &mut impl Iterator<Item = u32>,
) -> (u32, KilledReplica) {
    for _ in 0..COMMIT_POINTS {
        let commit_point = commit_points.next().expect("the iterator is endless");
        let mut receiver = watcher.schedule_kill(commit_point);
        if let Ok(killed) = timeout(COMMIT_POINT_TIMEOUT, &mut receiver).await {
            return (commit_point, killed.expect("a pending kill is dropped only here"));
        }
        // Cancels the pending kill, unless it is executed at this moment.
        if watcher.state.lock().pending_kill.take().is_none() {
            return (commit_point, receiver.await.expect("an executed kill is reported"));
        }
    }
    panic!("no session reached a commit point within {COMMIT_POINT_TIMEOUT:?} each");
}

async fn read_meta_field(redis: &mut MultiplexedConnection, session: &str, name: &str) -> Option<String> {
    let mut command = redis::cmd("HGET");
    command.arg(format!("k8sops:{{{session}}}:meta")).arg(name);
    command.query_async(redis).await.expect("Redis replies")
}

/// Whether the session has an open run or a command in its inbox.
async fn has_work(redis: &mut MultiplexedConnection, session: &str) -> bool {
    let mut command = redis::cmd("XLEN");
    command.arg(format!("k8sops:{{{session}}}:inbox"));
    let queued: u64 = command.query_async(redis).await.expect("Redis replies");
    queued > 0 || read_meta_field(redis, session, "open").await.as_deref() == Some("1")
}
