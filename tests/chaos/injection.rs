//! Injects disturbances: workers for the replicas and one worker per shard of Redis take them from two queues, so that what
//! has to wait for one disturbance overlaps with others.

use std::{
    cell::RefCell,
    collections::VecDeque,
    ops::Range,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use tokio::{
    task::{LocalSet, spawn_local},
    time::sleep,
};

use crate::{
    cluster::{ChaosCluster, ReplicaReservation},
    commit_watcher::CommitWatcher,
    disturbance::{DisturbanceKind, DisturbanceScope, DisturbanceTarget, RecoveryStart},
    panics::panic_text,
    plan::ChaosPlan,
    sessions::SessionRegistry,
};

/// Within this time there is a session with work and an owner that nothing else disturbs.
const TARGET_TIMEOUT: Duration = Duration::from_secs(120);
/// Number of commits after which an owner is killed: those of an undisturbed turn, and more of a disturbed one.
const COMMIT_POINTS: u32 = 16;
/// How long to wait for a session to reach a commit point before any owner is killed.
const COMMIT_POINT_TIMEOUT: Duration = Duration::from_secs(10);
/// Milliseconds between two disturbances of a worker.
const INTERVAL_MS: Range<u64> = 50..800;

/// A disturbance that was done and undone.
#[derive(Debug, Clone)]
pub(crate) struct DisturbanceRecord {
    pub kind: DisturbanceKind,
    pub begin: Instant,
    pub end: Instant,
}

/// Injects disturbances of one queue.
struct DisturbanceWorker {
    cluster: Arc<ChaosCluster>,
    registry: Arc<SessionRegistry>,
    watcher: Arc<CommitWatcher>,
    queue: Rc<RefCell<VecDeque<DisturbanceKind>>>,
    records: Rc<RefCell<Vec<DisturbanceRecord>>>,
    planned: usize,
    /// `None`: it disturbs replicas.
    shard: Option<usize>,
    random: fastrand::Rng,
    next_commit_point: u32,
}

/// Injects the planned disturbances. Returns when all of them are undone.
///
/// # Errors
/// A step panicked: it exceeded its timeout.
pub(crate) async fn inject_disturbances(
    plan: &ChaosPlan,
    cluster: &Arc<ChaosCluster>,
    registry: &Arc<SessionRegistry>,
    watcher: &Arc<CommitWatcher>,
) -> Result<Vec<DisturbanceRecord>, String> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let disturbances = plan.shuffled_disturbances(&mut random);
    let planned = disturbances.len();
    let queue_of = |scope| {
        let queue = disturbances.iter().copied().filter(|kind| kind.scope() == scope);
        Rc::new(RefCell::new(queue.collect::<VecDeque<_>>()))
    };
    let replica_queue = queue_of(DisturbanceScope::Replica);
    let store_queue = queue_of(DisturbanceScope::Store);
    let records = Rc::new(RefCell::new(Vec::new()));
    let replica_workers = (1..plan.replicas).map(|_| None);
    let store_workers = (0..cluster.redis.shards.len()).map(Some);
    let workers: Vec<_> = replica_workers
        .chain(store_workers)
        .map(|shard| DisturbanceWorker {
            cluster: cluster.clone(),
            registry: registry.clone(),
            watcher: watcher.clone(),
            queue: if shard.is_some() { store_queue.clone() } else { replica_queue.clone() },
            records: records.clone(),
            planned,
            shard,
            random: random.fork(),
            next_commit_point: random.u32(1..=COMMIT_POINTS),
        })
        .collect();
    // Spawned, so that a panic is an error.
    let running = async { try_join_all(workers.into_iter().map(|worker| spawn_local(worker.run()))).await };
    LocalSet::new().run_until(running).await.map_err(panic_text)?;
    Ok(records.take())
}

impl DisturbanceWorker {
    async fn run(mut self) {
        loop {
            let next = self.queue.borrow_mut().pop_front();
            let Some(kind) = next else { return };
            sleep(Duration::from_millis(self.random.u64(INTERVAL_MS))).await;
            let target = match self.shard {
                Some(shard) => DisturbanceTarget::Shard(shard),
                None => DisturbanceTarget::Replica(self.find_replica(kind).await),
            };
            let record = self.disturb(kind, target).await;
            let mut records = self.records.borrow_mut();
            records.push(record);
            if records.len().is_multiple_of(20) {
                println!("chaos: {} of {} disturbances done", records.len(), self.planned);
            }
        }
    }

    async fn disturb(&mut self, kind: DisturbanceKind, target: DisturbanceTarget) -> DisturbanceRecord {
        let begin = Instant::now();
        let mut disturbance = kind.prepare(&self.cluster, &target, &mut self.random);
        let owner = match &target {
            DisturbanceTarget::Replica(reservation) => reservation.replica().id(),
            DisturbanceTarget::Shard(_) => String::new(),
        };
        let expect_commits = |watcher: &CommitWatcher| match &target {
            DisturbanceTarget::Replica(_) => watcher.expect_commits_of_owner(kind, &owner, Instant::now()),
            DisturbanceTarget::Shard(shard) => watcher.expect_commits_of_shard(kind, *shard, Instant::now()),
        };
        disturbance.apply().await;
        if kind.recovery() == RecoveryStart::Applied {
            expect_commits(&self.watcher);
        }
        sleep(Duration::from_millis(self.random.u64(kind.duration_ms()))).await;
        disturbance.undo().await;
        match kind.recovery() {
            RecoveryStart::Applied => self.watcher.accept_commits_of_owner(&owner),
            RecoveryStart::Undone => expect_commits(&self.watcher),
        }
        DisturbanceRecord { kind, begin, end: Instant::now() }
    }

    /// Reserves the owner of a session with work. For every second kill, the owner is killed right after a commit.
    async fn find_replica(&mut self, kind: DisturbanceKind) -> ReplicaReservation {
        if kind == DisturbanceKind::Kill && self.random.bool() {
            let commit_point = self.next_commit_point;
            self.next_commit_point = commit_point % COMMIT_POINTS + 1;
            if let Some(killed) = self.watcher.kill_after_commit(commit_point, COMMIT_POINT_TIMEOUT).await {
                return killed;
            }
        }
        // All replicas may be killed at once. Whatever lasts longer leaves one.
        let minimum_undisturbed = usize::from(kind != DisturbanceKind::Kill);
        let started = Instant::now();
        while started.elapsed() < TARGET_TIMEOUT {
            let mut sessions = self.registry.all();
            self.random.shuffle(&mut sessions);
            let busy = sessions.iter().filter(|session| session.has_work.load(Ordering::SeqCst));
            for session in busy {
                if let Some(owner) = self.watcher.owner_of(&session.id)
                    && let Some(reservation) = self.cluster.reserve_replica(owner, minimum_undisturbed)
                {
                    return reservation;
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("for {TARGET_TIMEOUT:?} no session had work and an owner that was undisturbed");
    }
}
