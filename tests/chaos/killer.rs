//! Kills replicas, and measures how long a takeover takes.
//!
//! Redis says who owns a session (`holder` in its meta), and every commit is published on the session's channel. So an
//! owner can be killed at a commit point: right after a commit, before what it was made for is done.

use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
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
    Plan,
    client::Session,
    world::{Replica, State, World},
};

/// A session has an owner and work within this, whatever was killed before: the time of several take-overs.
const VICTIM: Duration = Duration::from_secs(60);
/// Commit points in a turn: what a turn without any trouble has, and one more. A turn that is interrupted has more.
const POINTS: u32 = 12;
/// How long a commit point is waited for before another is.
const POINT: Duration = Duration::from_secs(30);
/// The pause between two acts, in milliseconds.
const BETWEEN: std::ops::Range<u64> = 300..3_000;
/// How long a killed replica stays away, in milliseconds.
const AWAY: std::ops::Range<u64> = 1_000..3_000;
/// How long one is stopped in its tracks: longer than the lease of 10 s.
const PAUSED: std::ops::Range<u64> = 11_000..14_000;

/// One thing that is done to a replica that owns a session with an open run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// SIGKILL at a random moment.
    Kill,
    /// SIGKILL at a commit point.
    KillAtCommit,
    /// SIGSTOP, and SIGCONT when its leases have run out.
    Pause,
    /// SIGTERM, as in a rolling restart.
    Restart,
}

/// What was done, and what came of it.
#[derive(Default, Clone)]
pub(crate) struct Deeds {
    pub kills: u32,
    /// Kills by commit point.
    pub kills_at: BTreeMap<u32, u32>,
    pub pauses: u32,
    pub restarts: u32,
    /// Restarted replicas whose process did not end with success.
    pub bad_exits: u32,
    /// From a kill to the session's next commit by another owner; with the session.
    pub takeovers: Vec<(Duration, String)>,
    pub takeovers_after_pause: Vec<(Duration, String)>,
    pub takeovers_after_stop: Vec<(Duration, String)>,
}

/// The one who watches the commits, kills at commit points, and measures.
pub(crate) struct Watcher {
    world: Arc<World>,
    sessions: HashMap<String, Arc<Session>>,
    // A plain mutex: held for a look-up, never across an await.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Who owned a session at its last commit.
    holders: HashMap<String, String>,
    /// Sessions whose owner is gone.
    awaited: HashMap<String, Awaited>,
    /// At which commit of a turn the owner is to be killed, and who is to be told.
    armed: Option<(u32, oneshot::Sender<Struck>)>,
    deeds: Deeds,
}

/// A replica that was just killed.
struct Struck {
    replica: Arc<Replica>,
    at: Instant,
}

struct Awaited {
    act: Act,
    gone: String,
    since: Instant,
}

impl Watcher {
    pub(crate) fn new(world: Arc<World>, sessions: &[Arc<Session>]) -> Arc<Self> {
        let sessions = sessions.iter().map(|session| (session.id.clone(), session.clone())).collect();
        Arc::new(Self { world, sessions, inner: Mutex::default() })
    }

    pub(crate) fn deeds(&self) -> Deeds {
        self.inner.lock().deeds.clone()
    }

    async fn ask(&self) -> (redis::Client, MultiplexedConnection) {
        let client = redis::Client::open(self.world.redis.url()).expect("a URL");
        let ask = client.get_multiplexed_async_connection().await.expect("Redis is there");
        (client, ask)
    }

    /// Watches, until it is dropped.
    ///
    /// # Panics
    /// When Redis does not answer.
    pub(crate) async fn watch(self: Arc<Self>) {
        let (client, mut ask) = self.ask().await;
        let mut subscription = client.get_async_pubsub().await.expect("Redis is there");
        subscription.psubscribe("k8sops:{*}:log").await.expect("Redis is there");
        let mut messages = subscription.on_message();
        while let Some(message) = messages.next().await {
            let id = message.get_channel_name().strip_prefix("k8sops:{").and_then(|rest| rest.strip_suffix("}:log"));
            let Some(session) = id.and_then(|id| self.sessions.get(id)) else { continue };
            // A commit says the new head; anything else that is rung for is no commit.
            if message.get_payload::<u64>().is_err() {
                continue;
            }
            let commits = session.commits.fetch_add(1, Ordering::SeqCst) + 1;
            // By the owner of the commit before first: to ask takes longer than the owner needs to go on.
            self.strike(&session.id, commits);
            if let Some(holder) = field(&mut ask, &session.id, "holder").await {
                let mut inner = self.inner.lock();
                inner.committed(&session.id, &holder);
                inner.holders.insert(session.id.clone(), holder);
                drop(inner);
                self.strike(&session.id, commits);
            }
        }
        panic!("Redis ended the subscription to the commits");
    }

    /// Kills the owner, if that is to be done at this commit.
    fn strike(&self, session: &str, commits: u32) {
        let mut inner = self.inner.lock();
        if inner.armed.as_ref().is_none_or(|(point, _)| *point != commits) {
            return;
        }
        let owner = inner.holders.get(session).and_then(|holder| self.world.named(holder));
        let Some(replica) = owner.filter(|_| may_kill(&self.world)) else { return };
        if replica.kill() {
            let (_, told) = inner.armed.take().expect("it was there a line above");
            let _ = told.send(Struck { replica: replica.clone(), at: Instant::now() });
        }
    }

    fn arm(&self, point: u32) -> oneshot::Receiver<Struck> {
        let (tell, told) = oneshot::channel();
        self.inner.lock().armed = Some((point, tell));
        told
    }

    /// Registers that another replica has to take over what this replica worked on.
    async fn gone(&self, ask: &mut MultiplexedConnection, replica: &str, act: Act, since: Instant) {
        // What it sent last may yet be read.
        sleep(Duration::from_millis(5)).await;
        for session in self.sessions.keys() {
            if field(ask, session, "holder").await.as_deref() == Some(replica) && has_work(ask, session).await {
                let awaited = Awaited { act, gone: replica.to_owned(), since };
                self.inner.lock().awaited.insert(session.clone(), awaited);
            }
        }
    }
}

impl Inner {
    /// A commit was made, by this owner.
    fn committed(&mut self, session: &str, holder: &str) {
        let Some(awaited) = self.awaited.get(session) else { return };
        let took = awaited.since.elapsed();
        if awaited.gone == holder {
            // One that was paused, and came back before another took its session.
            if awaited.act == Act::Pause && took > Duration::from_millis(PAUSED.start) {
                self.awaited.remove(session);
            }
            return;
        }
        let takeovers = match awaited.act {
            Act::Kill | Act::KillAtCommit => &mut self.deeds.takeovers,
            Act::Pause => &mut self.deeds.takeovers_after_pause,
            Act::Restart => &mut self.deeds.takeovers_after_stop,
        };
        takeovers.push((took, session.to_owned()));
        self.awaited.remove(session);
    }
}

/// Does what was planned; returns when every replica is up again.
///
/// # Panics
/// When something does not happen for too long.
pub(crate) async fn torment(world: Arc<World>, watcher: Arc<Watcher>, plan: Plan) {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut deck = Vec::new();
    for n in 0..plan.kills {
        deck.push(if n % 2 == 0 { Act::KillAtCommit } else { Act::Kill });
    }
    deck.extend((0..plan.pauses).map(|_| Act::Pause));
    deck.extend((0..plan.restarts).map(|_| Act::Restart));
    random.shuffle(&mut deck);

    let (_client, mut ask) = watcher.ask().await;
    let mut recovering = JoinSet::new();
    let mut points = (1..=POINTS).cycle();
    for (done, act) in deck.iter().enumerate() {
        sleep(Duration::from_millis(random.u64(BETWEEN))).await;
        while let Some(recovered) = recovering.try_join_next() {
            recovered.expect("a replica comes back");
        }
        if done % 20 == 0 && done > 0 {
            println!("chaos: {done} of {} done", deck.len());
        }
        match act {
            Act::Kill => {
                let replica = victim(&world, &watcher, &mut ask, &mut random, (1, Replica::kill)).await;
                killed(&watcher, &mut ask, &replica, Instant::now(), *act).await;
                watcher.inner.lock().deeds.kills += 1;
                let away = Duration::from_millis(random.u64(AWAY));
                recovering.spawn(async move { come_back(&replica, away).await });
            }
            Act::KillAtCommit => {
                let (point, struck) = at_commit(&watcher, &mut points).await;
                killed(&watcher, &mut ask, &struck.replica, struck.at, *act).await;
                *watcher.inner.lock().deeds.kills_at.entry(point).or_default() += 1;
                let away = Duration::from_millis(random.u64(AWAY));
                recovering.spawn(async move { come_back(&struck.replica, away).await });
            }
            Act::Pause => {
                let replica = victim(&world, &watcher, &mut ask, &mut random, (2, Replica::pause)).await;
                watcher.gone(&mut ask, &replica.id(), *act, Instant::now()).await;
                watcher.inner.lock().deeds.pauses += 1;
                let paused = Duration::from_millis(random.u64(PAUSED));
                recovering.spawn(async move {
                    sleep(paused).await;
                    replica.resume();
                });
            }
            Act::Restart => {
                let replica = victim(&world, &watcher, &mut ask, &mut random, (2, Replica::terminate)).await;
                watcher.gone(&mut ask, &replica.id(), *act, Instant::now()).await;
                watcher.inner.lock().deeds.restarts += 1;
                let watcher = watcher.clone();
                recovering.spawn(async move {
                    let status = replica.ended().await;
                    watcher.inner.lock().deeds.bad_exits += u32::from(!status.success());
                    come_back(&replica, Duration::ZERO).await;
                });
            }
        }
    }
    while let Some(recovered) = recovering.join_next().await {
        recovered.expect("a replica comes back");
    }
}

async fn killed(watcher: &Watcher, ask: &mut MultiplexedConnection, replica: &Replica, at: Instant, act: Act) {
    replica.ended().await;
    watcher.gone(ask, &replica.id(), act, at).await;
}

async fn come_back(replica: &Replica, away: Duration) {
    sleep(away).await;
    replica.start().await;
}

/// All may be away at once, as those that were killed come back before any lease runs out; but not while one is stopped.
fn may_kill(world: &World) -> bool {
    let (up, paused) = world.standing();
    up > usize::from(paused > 0)
}

/// Does something to the owner of a session with an open run, while at least so many replicas are up, it among them.
async fn victim(
    world: &World,
    watcher: &Watcher,
    ask: &mut MultiplexedConnection,
    random: &mut fastrand::Rng,
    (least, deed): (usize, fn(&Replica) -> bool),
) -> Arc<Replica> {
    let began = Instant::now();
    let mut sessions: Vec<&String> = watcher.sessions.keys().collect();
    sessions.sort();
    while began.elapsed() < VICTIM {
        random.shuffle(&mut sessions);
        for session in &sessions {
            if field(ask, session, "open").await.as_deref() != Some("1") {
                continue;
            }
            let Some(holder) = field(ask, session, "holder").await else { continue };
            if let Some(replica) = world.named(&holder)
                && replica.state() == State::Up
                && world.standing().0 >= least
                && may_kill(world)
                && deed(replica)
            {
                return replica.clone();
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("no session had an open run and an owner that is up, for {VICTIM:?}");
}

/// Kills an owner at the next commit point that comes up.
async fn at_commit(watcher: &Watcher, points: &mut impl Iterator<Item = u32>) -> (u32, Struck) {
    for _ in 0..POINTS {
        let point = points.next().expect("it is a cycle");
        let mut told = watcher.arm(point);
        if let Ok(struck) = timeout(POINT, &mut told).await {
            return (point, struck.expect("who is armed strikes"));
        }
        // Disarmed, unless it strikes right now.
        if watcher.inner.lock().armed.take().is_none() {
            return (point, told.await.expect("it has struck"));
        }
    }
    panic!("no session came to any commit point, {POINT:?} for each");
}

async fn field(ask: &mut MultiplexedConnection, session: &str, name: &str) -> Option<String> {
    let mut command = redis::cmd("HGET");
    command.arg(format!("k8sops:{{{session}}}:meta")).arg(name);
    command.query_async(ask).await.expect("Redis answers")
}

/// Whether the session has an open run, or a command that waits.
async fn has_work(ask: &mut MultiplexedConnection, session: &str) -> bool {
    let mut command = redis::cmd("XLEN");
    command.arg(format!("k8sops:{{{session}}}:inbox"));
    let waiting: u64 = command.query_async(ask).await.expect("Redis answers");
    waiting > 0 || field(ask, session, "open").await.as_deref() == Some("1")
}
