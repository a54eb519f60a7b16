//! The owner of a session: the one task that takes commands out of the inbox, drives the run, and writes to the log.

mod inbox;
mod questions;
mod run;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Shared, asking,
    learning::{Begun, Learning},
    lease::HeldLease,
    observed::{RunSpan, WatchedTools},
    previews::Previews,
    registry::Place,
    run_log::{Append, Projection},
    writer::Writer,
};
use k8sops_core::{
    EventBody, EventDraft, NotificationTopic, OpenRun, RemainingWork, RunId, RunRecovered, SessionFeed, SessionId,
    StoreError, Timestamp, load_state,
};
use k8sops_tools::ToolExecutor;

use run::{RunTask, run_ended, superseded};

/// How often an owner looks into an inbox that other processes fill too, should it not hear of it.
const LOOK: Duration = Duration::from_secs(3);
/// How long an owner without work keeps the session at hand for the next message.
const LINGER: Duration = Duration::from_secs(10);
/// How long a session must be at rest before it is looked at for memories: what comes one after another is looked at together.
const SETTLE: Duration = Duration::from_secs(2);
/// The waits before a session is tried again whose lease is held, or whose store is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Why an owner let go of its session.
enum LetGo {
    /// There is nothing to do.
    Idle,
    /// The service stops.
    Halted,
    /// The session was deleted.
    Gone,
}

/// Owns a session for as long as there is something to do.
pub(super) async fn own(shared: Arc<Shared>, session: SessionId, place: Place) {
    own_while_needed(&shared, session, &place).await;
    shared.load.end(session);
}

async fn own_while_needed(shared: &Arc<Shared>, session: SessionId, place: &Place) {
    let mut wait = RETRY.0;
    loop {
        // The inbox is looked into when the session is held.
        place.bell.hush();
        let outcome = tokio::select! {
            outcome = hold(shared, session, place) => outcome,
            () = place.bell.gone.cancelled() => Ok(LetGo::Gone),
        };
        if let Err(error) = &outcome {
            count(shared, error);
        }
        match outcome {
            Ok(LetGo::Idle) => {
                if shared.registry.retire(session, place) {
                    return;
                }
                wait = RETRY.0;
            }
            Ok(LetGo::Halted) => break,
            Ok(LetGo::Gone) | Err(StoreError::NotFound(_)) => {
                place.feed.close();
                place.bell.gone.cancel();
                break;
            }
            Err(StoreError::Held(_)) => {
                // Another process works on it, and hears of what is new. Should it die, the store says so.
                if shared.registry.retire(session, place) {
                    return;
                }
            }
            Err(error @ (StoreError::Corrupt(_) | StoreError::SeqConflict { .. })) => {
                // Trying again would find the same. The next command wakes a new owner, which looks again.
                tracing::error!(%session, %error, "the session cannot be worked on");
                place.bell.gone.cancel();
                break;
            }
            Err(error) => {
                tracing::warn!(%session, %error, "the session cannot be worked on now; trying again");
                if matches!(error, StoreError::Unavailable(_)) {
                    place.feed.warn_unavailable();
                }
                tokio::select! {
                    () = sleep(wait) => {}
                    () = shared.halt.cancelled() => break,
                    () = place.bell.gone.cancelled() => {}
                }
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
    shared.registry.retire(session, place);
}

/// Counts what stopped the work on a session, where it is a failure.
fn count(shared: &Shared, error: &StoreError) {
    let metrics = &shared.parts.metrics;
    match error {
        StoreError::Unavailable(_) => metrics.count_store_error("unavailable"),
        StoreError::Corrupt(_) => metrics.count_store_error("corrupt"),
        StoreError::SeqConflict { .. } => metrics.count_store_error("seq_conflict"),
        StoreError::Fenced { .. } => {
            metrics.count_lease_loss();
            metrics.count_store_error("fenced");
        }
        _ => {}
    }
}

async fn hold(shared: &Arc<Shared>, session: SessionId, place: &Place) -> Result<LetGo, StoreError> {
    let store = &shared.parts.store;
    let held = HeldLease::acquire(store, session, &shared.replica).await?;
    let _heard = Heard::new(shared, session, &place.feed);
    let result = match Owner::open(shared, &held, place).await {
        Ok(mut owner) => owner.work().await,
        Err(error) => Err(error),
    };
    shared.waiting.forget(session);
    match store.release_lease(held.lease).await {
        // Something came in that the owner did not hear of.
        Ok(RemainingWork::Unfinished) if matches!(result, Ok(LetGo::Idle)) => place.bell.ring(),
        Ok(_) => {}
        // It runs out by itself.
        Err(error) => tracing::debug!(%session, %error, "the lease could not be given back"),
    }
    result
}

/// While it lives, the session's inbox is listened to, and its feed is the owner's to write.
struct Heard<'a> {
    shared: &'a Shared,
    session: SessionId,
    feed: &'a Arc<SessionFeed>,
}

impl<'a> Heard<'a> {
    fn new(shared: &'a Shared, session: SessionId, feed: &'a Arc<SessionFeed>) -> Self {
        if let Some(store) = shared.parts.store.notifications() {
            store.subscribe(session, NotificationTopic::Inbox);
        }
        shared.followers.owned(session, feed, true);
        Self { shared, session, feed }
    }
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.shared.parts.store.notifications() {
            store.unsubscribe(self.session, NotificationTopic::Inbox);
        }
        self.shared.followers.owned(self.session, self.feed, false);
    }
}

struct Owner<'a> {
    shared: &'a Arc<Shared>,
    held: &'a HeldLease,
    place: &'a Place,
    projection: Arc<Projection>,
    writer: Writer,
    appends: mpsc::Receiver<Append>,
    to_appends: mpsc::Sender<Append>,
    /// For watchers on other replicas, and the task that writes them.
    previews: Option<(Arc<Previews>, AbortOnDropHandle<()>)>,
    tools: Arc<dyn ToolExecutor>,
    /// Of the run in progress.
    span: RunSpan,
    run: Option<RunTask>,
    /// What speaks to the message of the run that is about to start.
    recalling: Option<(RunId, Begun)>,
    /// The look for what is worth remembering.
    learning: Learning,
    /// The run that was cancelled last.
    cancelled: Option<RunId>,
    /// The inbox may hold something new.
    look: bool,
    /// Until when approvals wait, as it is noted for those who may answer.
    noted: Option<Timestamp>,
}

impl<'a> Owner<'a> {
    async fn open(shared: &'a Arc<Shared>, held: &'a HeldLease, place: &'a Place) -> Result<Self, StoreError> {
        let lease = held.lease;
        let loaded = load_state(shared.parts.store.as_ref(), lease.session).await?;
        let open_run = loaded.state.run.clone();
        let inner = shared.parts.tools.create_executor(lease.session, &loaded.state.summary.user_id);
        let last_seq = loaded.state.last_seq();
        let projection = Arc::new(Projection::new(loaded.state));
        let tools = Arc::new(WatchedTools {
            inner,
            projection: projection.clone(),
            audit: shared.parts.audit.clone(),
            term: held.term(),
        });
        let mut writer = Writer::new(shared.clone(), lease, place.feed.clone(), projection.clone(), loaded.replayed);
        let mut span = RunSpan::default();
        if let Some(run) = open_run {
            shared.parts.metrics.count_takeover();
            let run = OpenRun { attempt: run.attempt + 1, ..run };
            writer.span = span.of(lease.session, &run);
            let recovered = RunRecovered {
                attempt: run.attempt,
                superseded: superseded(shared, lease.session, place).await?,
                reason: "the process that worked on it went away, or lost its store".into(),
            };
            writer.push([EventDraft::in_run(run.run_id, EventBody::RunRecovered(recovered))]);
        }
        place.feed.take_over(last_seq);
        // As many as a reply has parallel calls, give or take; more wait in the run, which is theirs to do anyway.
        let (to_appends, appends) = mpsc::channel(16);
        let store = &shared.parts.store;
        let previews = store.notifications().is_some().then(|| {
            let previews = Arc::new(Previews::default());
            let writing = tokio::spawn(previews.clone().write(store.clone(), lease));
            (previews, AbortOnDropHandle::new(writing))
        });
        Ok(Self {
            shared,
            held,
            place,
            previews,
            projection,
            writer,
            appends,
            to_appends,
            tools,
            span,
            run: None,
            recalling: None,
            learning: Learning::default(),
            cancelled: None,
            look: true,
            noted: None,
        })
    }

    async fn work(&mut self) -> Result<LetGo, StoreError> {
        let alone = self.shared.parts.store.notifications().is_none();
        let mut look = interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A point in time and not a wait: a renewal in between does not begin it anew.
        let mut quiet_since = None;
        loop {
            let halting = self.shared.halt.is_cancelled();
            if !self.writer.in_flight() {
                if self.look && !halting {
                    self.look = false;
                    self.take_commands().await?;
                }
                self.writer.start();
                self.note_waiting().await;
            }
            let quiet = self.run.is_none() && self.writer.idle() && !self.look;
            if quiet && quiet_since.is_none() {
                self.shared.load.end(self.held.lease.session);
            }
            quiet_since = if quiet { quiet_since.or_else(|| Some(Instant::now())) } else { None };
            let resting = quiet_since.filter(|_| !self.learning.is_under_way());
            let to_learn = self.projection.read(|state| state.summary.to_learn);
            let learn_at = resting.filter(|_| to_learn && !halting).map(|since| since + SETTLE);
            let let_go_at = resting.filter(|_| !to_learn).map(|since| since + LINGER);
            if halting && self.run.is_none() && self.writer.idle() {
                return Ok(LetGo::Halted);
            }
            let expiry = self.next_expiry();
            tokio::select! {
                biased;
                committed = self.writer.committed() => {
                    // What waits for the end of a run has its turn.
                    let committed = committed?;
                    self.writer.record().await;
                    for end in committed.iter().filter(|event| event.body.ends_run()) {
                        self.look = true;
                        self.span.end(end);
                        self.writer.span = self.span.current();
                    }
                    if committed.iter().any(|event| event.body.usage().is_some()) {
                        asking::note_usage(self.shared, &self.projection).await;
                    }
                    self.start_run();
                }
                Some(append) = self.appends.recv() => {
                    self.writer.append(append);
                    while let Ok(append) = self.appends.try_recv() {
                        self.writer.append(append);
                    }
                }
                ended = run_ended(&mut self.run) => {
                    self.run = None;
                    self.look = true;
                    if let Err(panic) = ended {
                        self.run_panicked(&panic);
                    }
                }
                saved = self.learning.ended() => {
                    self.writer.push([EventDraft::new(EventBody::MemorySaved(saved))]);
                }
                () = at(learn_at) => self.learning.begin(self.shared, &self.projection, &self.tools),
                () = self.place.bell.rung() => self.look = true,
                () = at(expiry) => self.expire_questions(),
                lost = self.held.lost() => return Err(lost),
                _ = look.tick(), if !alone => self.look = true,
                () = at(let_go_at) => return Ok(LetGo::Idle),
                () = self.shared.halt.cancelled(), if !halting => {}
            }
        }
    }
}

/// Waits until a point in time; for ever when there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
