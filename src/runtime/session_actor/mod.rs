//! The session actor: the one task that processes the inbox of a session, drives its run, and writes to its log.

mod inbox;
mod pending_interactions;
mod run;
mod run_task;
mod slot_guard;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    inner::RuntimeInner,
    instrumented::{InstrumentedTools, RunSpan},
    known_logs::DamageFinding,
    lease::HeldLease,
    log_writer::LogWriter,
    memory_extraction::{MemoryExtraction, RetrievalTask},
    preview_writer::PreviewWriter,
    run_handle::{AppendRequest, SessionProjection},
    session_registry::OwnerSlot,
    store_watch::StoreWatch,
    usage_recorder,
};
use k8sops_core::{
    BackendError, EventBody, EventDraft, LogHead, NotificationTopic, OpenRun, RemainingWork, RunId, RunRecovered,
    SessionFeed, SessionId, StoreError, Timestamp, load_state,
};
use k8sops_telemetry::{EndedOutage, OutageLog, OutageObserver, OutageStage};
use k8sops_tools::ToolExecutor;

use run_task::{RunTask, superseded_messages, wait_for_run};
use slot_guard::SlotGuard;

/// Interval of reading an inbox that other processes write to, in case a notification is lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// How long an owner without work keeps the session for the next message.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a session must be idle before memories are extracted, so that messages in a row are extracted together.
const EXTRACTION_DELAY: Duration = Duration::from_secs(2);
/// Bounds of the backoff while the store is unavailable.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Why an actor released its session.
enum ReleaseReason {
    /// No work is left.
    Idle,
    /// The service shuts down.
    Halted,
    /// The session was deleted.
    Gone,
}

/// Owns a session for as long as it has work.
pub(super) async fn run_session_actor(shared: Arc<RuntimeInner>, session: SessionId, slot: OwnerSlot) {
    let mut guard = SlotGuard { shared, session, slot, is_released: false };
    own_until_released(&guard.shared, session, &guard.slot).await;
    guard.is_released = true;
}

async fn own_until_released(shared: &Arc<RuntimeInner>, session: SessionId, slot: &OwnerSlot) {
    let mut wait = RETRY.0;
    let mut attempts = OwnershipAttempts {
        store_watch: StoreWatch::new(shared.store_outages.observer()),
        conflicts: Arc::new(OutageLog::default()).observer(),
    };
    loop {
        // The actor reads the inbox once it holds the lease.
        slot.wakeup.clear();
        let outcome = tokio::select! {
            outcome = own_once(shared, session, slot, &mut attempts) => outcome,
            () = slot.wakeup.deleted.cancelled() => Ok(ReleaseReason::Gone),
        };
        if let Err(error) = &outcome {
            count_store_error(shared, error);
        }
        match outcome {
            Ok(ReleaseReason::Idle) => {
                if shared.registry.release_owner(session, slot) {
                    return;
                }
                wait = RETRY.0;
            }
            Ok(ReleaseReason::Halted) => break,
            Ok(ReleaseReason::Gone) | Err(StoreError::NotFound(_)) => {
                slot.feed.close();
                slot.wakeup.deleted.cancel();
                break;
            }
            Err(StoreError::Held(_)) => {
                // Another process owns it and is notified. If that owner dies, lease expiry reveals it.
                if shared.registry.release_owner(session, slot) {
                    return;
                }
            }
            Err(error @ StoreError::Corrupt(_)) => {
                // A retry would fail again. The next command starts a new actor, and so does every look for sessions with work.
                match shared.known_logs.record_damage(session) {
                    DamageFinding::New => tracing::error!(%session, %error, "session cannot be owned"),
                    DamageFinding::Known => tracing::debug!(%session, %error, "session cannot be owned"),
                }
                slot.feed.close_damaged();
                slot.wakeup.deleted.cancel();
                break;
            }
            Err(error) => {
                attempts.record_failure(session, &error);
                if matches!(error, StoreError::Unavailable(_)) {
                    slot.feed.warn_store_unavailable();
                }
                tokio::select! {
                    () = sleep(wait) => {}
                    () = shared.halt.cancelled() => break,
                    () = slot.wakeup.deleted.cancelled() => {}
                }
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
    shared.registry.release_owner(session, slot);
}

/// What an actor sees of failures while it tries to own its session.
struct OwnershipAttempts {
    store_watch: StoreWatch,
    /// Failures that are those of this session alone.
    conflicts: OutageObserver,
}

impl OwnershipAttempts {
    fn record_failure(&mut self, session: SessionId, error: &StoreError) {
        if matches!(error, StoreError::Unavailable(_)) {
            self.store_watch.record_failure(error);
        } else if self.conflicts.count_failure() == OutageStage::Begun {
            tracing::warn!(%session, %error, "session cannot be owned now, retrying");
        }
    }

    fn record_success(&mut self, session: SessionId) {
        self.store_watch.record_success();
        if let Some(EndedOutage { failures, .. }) = self.conflicts.count_success() {
            tracing::info!(%session, failures, "session owned again");
        }
    }
}

/// Reports a checkpoint without which a session was loaded, once.
fn report_damaged_checkpoint(shared: &RuntimeInner, session: SessionId, error: &BackendError) {
    const MESSAGE: &str = "checkpoint damaged, log replayed without it, writing another one";
    match shared.known_logs.record_damage(session) {
        DamageFinding::New => tracing::warn!(%session, %error, "{MESSAGE}"),
        DamageFinding::Known => tracing::debug!(%session, %error, "{MESSAGE}"),
    }
}

/// Counts the store error that stopped an actor.
fn count_store_error(shared: &RuntimeInner, error: &StoreError) {
    let metrics = &shared.dependencies.metrics;
    match error {
        StoreError::Unavailable(_) => metrics.count_store_error("unavailable"),
        StoreError::Corrupt(_) | StoreError::FileDamaged(_) => metrics.count_store_error("corrupt"),
        StoreError::SeqConflict { .. } => metrics.count_store_error("seq_conflict"),
        StoreError::Forked { .. } => metrics.count_store_error("forked"),
        StoreError::Fenced { .. } => {
            metrics.count_lease_loss();
            metrics.count_store_error("fenced");
        }
        _ => {}
    }
}

async fn own_once(
    shared: &Arc<RuntimeInner>,
    session: SessionId,
    slot: &OwnerSlot,
    attempts: &mut OwnershipAttempts,
) -> Result<ReleaseReason, StoreError> {
    let store = &shared.dependencies.store;
    let held = HeldLease::acquire(store, session, &shared.replica).await?;
    let _subscription = Subscription::new(shared, session, &slot.feed);
    let result = match SessionActor::open(shared, &held, slot).await {
        Ok(mut actor) => {
            attempts.record_success(session);
            actor.run_until_released().await
        }
        Err(error) => Err(error),
    };
    shared.pending_approvals.forget_session(session);
    match store.release_lease(held.lease).await {
        // A command arrived without a notification.
        Ok(RemainingWork::Unfinished) if matches!(result, Ok(ReleaseReason::Idle)) => slot.wakeup.notify(),
        Ok(_) => {}
        // The lease expires.
        Err(error) => tracing::debug!(%session, %error, "lease release failed"),
    }
    result
}

/// Subscribes to the inbox and marks the feed as written by this owner, until it is dropped.
struct Subscription<'a> {
    shared: &'a RuntimeInner,
    session: SessionId,
    feed: &'a Arc<SessionFeed>,
}

impl<'a> Subscription<'a> {
    fn new(shared: &'a RuntimeInner, session: SessionId, feed: &'a Arc<SessionFeed>) -> Self {
        if let Some(store) = shared.dependencies.store.notifications() {
            store.subscribe(session, NotificationTopic::Inbox);
        }
        shared.remote_tails.set_owned(session, feed, true);
        Self { shared, session, feed }
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.shared.dependencies.store.notifications() {
            store.unsubscribe(self.session, NotificationTopic::Inbox);
        }
        self.shared.remote_tails.set_owned(self.session, self.feed, false);
    }
}

struct SessionActor<'a> {
    shared: &'a Arc<RuntimeInner>,
    held: &'a HeldLease,
    slot: &'a OwnerSlot,
    projection: Arc<SessionProjection>,
    writer: LogWriter,
    appends: mpsc::Receiver<AppendRequest>,
    to_appends: mpsc::Sender<AppendRequest>,
    /// Previews for watchers on other replicas, and the task that writes them.
    previews: Option<(Arc<PreviewWriter>, AbortOnDropHandle<()>)>,
    tools: Arc<dyn ToolExecutor>,
    /// The span of the open run.
    span: RunSpan,
    run: Option<RunTask>,
    /// The memory retrieval for the run that is about to start.
    retrieval: Option<(RunId, RetrievalTask)>,
    /// The memory extraction.
    extraction: MemoryExtraction,
    /// The newest cancelled run.
    cancelled: Option<RunId>,
    /// Whether the inbox may hold new commands.
    inbox_may_have_news: bool,
    /// Until when approvals are pending, as recorded in the index.
    recorded_deadline: Option<Timestamp>,
}

impl<'a> SessionActor<'a> {
    async fn open(shared: &'a Arc<RuntimeInner>, held: &'a HeldLease, slot: &'a OwnerSlot) -> Result<Self, StoreError> {
        let lease = held.lease;
        let store = shared.dependencies.store.as_ref();
        let loaded = load_state(store, lease.session).await?;
        let loaded_head = loaded.head;
        let known = shared.known_logs.find_lost_branch(store, lease.session, loaded_head).await?;
        let lost_branch = known.into_iter().chain(loaded.lost_branch).reduce(|mut lost, reported| {
            lost.merge(reported);
            lost
        });
        let open_run = loaded.state.run.clone();
        let inner = shared.dependencies.tools.create_executor(lease.session, &loaded.state.summary.user_id);
        let projection = Arc::new(SessionProjection::new(loaded.state));
        let tools = Arc::new(InstrumentedTools {
            inner,
            projection: projection.clone(),
            audit: shared.dependencies.audit.clone(),
            lease_validity: held.validity(),
        });
        let mut writer = LogWriter::new(
            shared.clone(),
            lease,
            slot.feed.clone(),
            projection.clone(),
            loaded_head.lineage,
            loaded.replayed_bytes,
        );
        if let Some(error) = loaded.damaged_checkpoint {
            report_damaged_checkpoint(shared, lease.session, &error);
            writer.queue_checkpoint();
        }
        match lost_branch {
            Some(lost) => writer.queue_truncation(lost),
            None => shared.known_logs.record_read(lease.session, &loaded.tool_starts, loaded_head),
        }
        let mut span = RunSpan::default();
        if let Some(run) = open_run {
            shared.dependencies.metrics.count_takeover();
            let run = OpenRun { attempt: run.attempt + 1, ..run };
            writer.span = span.get_or_start(lease.session, &run);
            let recovered = RunRecovered {
                attempt: run.attempt,
                superseded: superseded_messages(shared, lease.session, slot).await?,
                reason: "the process that owned it ended, or lost the connection to its store".into(),
            };
            writer.queue_events([EventDraft::in_run(run.run_id, EventBody::RunRecovered(recovered))]);
        }
        slot.feed.reset_for_owner(loaded_head);
        // About as many as a reply has parallel calls; further appends wait in the run.
        let (to_appends, appends) = mpsc::channel(16);
        let store = &shared.dependencies.store;
        let previews = store.notifications().is_some().then(|| {
            let previews = Arc::new(PreviewWriter::default());
            let writing = tokio::spawn(previews.clone().run(store.clone(), lease));
            (previews, AbortOnDropHandle::new(writing))
        });
        Ok(Self {
            shared,
            held,
            slot,
            previews,
            projection,
            writer,
            appends,
            to_appends,
            tools,
            span,
            run: None,
            retrieval: None,
            extraction: MemoryExtraction::default(),
            cancelled: None,
            inbox_may_have_news: true,
            recorded_deadline: None,
        })
    }

    async fn run_until_released(&mut self) -> Result<ReleaseReason, StoreError> {
        let alone = self.shared.dependencies.store.notifications().is_none();
        let mut look = interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // An instant and not a sleep, so that events in between do not restart it.
        let mut quiet_since = None;
        // The log was checked when it was loaded; the inbox was not.
        self.announce_lost_messages().await?;
        let mut must_check_log = false;
        loop {
            let halting = self.shared.halt.is_cancelled();
            if !self.writer.is_committing() {
                if std::mem::take(&mut must_check_log) {
                    check_log(self.shared, self.held.lease.session, self.writer.head()).await?;
                    self.announce_lost_messages().await?;
                    self.record_approvals_again();
                }
                if self.inbox_may_have_news && !halting {
                    self.inbox_may_have_news = false;
                    self.process_inbox().await?;
                }
                self.writer.start_commit();
                self.record_pending_approvals().await;
            }
            let quiet = self.run.is_none() && self.writer.is_idle() && !self.inbox_may_have_news;
            if quiet && quiet_since.is_none() {
                self.shared.admission.release(self.held.lease.session);
            }
            quiet_since = if quiet { quiet_since.or_else(|| Some(Instant::now())) } else { None };
            let resting = quiet_since.filter(|_| !self.extraction.is_running());
            let to_learn = self.projection.read(|state| state.summary.to_learn);
            let extract_at = resting.filter(|_| to_learn && !halting).map(|since| since + EXTRACTION_DELAY);
            let release_at = resting.filter(|_| !to_learn).map(|since| since + IDLE_TIMEOUT);
            if halting && self.run.is_none() && self.writer.is_idle() {
                return Ok(ReleaseReason::Halted);
            }
            let expiry = self.next_expiry();
            tokio::select! {
                biased;
                committed = self.writer.wait_for_commit() => {
                    // Messages may wait for the end of a run.
                    let committed = committed?;
                    self.writer.flush_audit_records().await;
                    for end in committed.iter().filter(|event| event.body.ends_run()) {
                        self.inbox_may_have_news = true;
                        self.span.finish(end);
                        self.writer.span = self.span.current();
                    }
                    if committed.iter().any(|event| event.body.model_usage().is_some()) {
                        usage_recorder::record_session_usage(self.shared, &self.projection).await;
                    }
                    self.start_run();
                }
                Some(append) = self.appends.recv() => {
                    self.writer.queue_append(append);
                    while let Ok(append) = self.appends.try_recv() {
                        self.writer.queue_append(append);
                    }
                }
                ended = wait_for_run(&mut self.run) => {
                    self.run = None;
                    self.inbox_may_have_news = true;
                    if let Err(panic) = ended {
                        self.run_panicked(&panic);
                    }
                }
                saved = self.extraction.wait_until_done() => {
                    self.writer.queue_events([EventDraft::new(EventBody::MemorySaved(saved))]);
                }
                () = sleep_until_deadline(extract_at) => self.extraction.start(self.shared, &self.projection, &self.tools),
                () = self.slot.wakeup.notified() => self.inbox_may_have_news = true,
                () = sleep_until_deadline(expiry) => self.expire_interactions(),
                lost = self.held.wait_until_lost() => return Err(lost),
                _ = look.tick(), if !alone => {
                    self.inbox_may_have_news = true;
                    must_check_log = true;
                }
                () = sleep_until_deadline(release_at) => return Ok(ReleaseReason::Idle),
                () = self.shared.halt.cancelled(), if !halting => {}
            }
        }
    }
}

/// Fails if a log is not the one that its owner has written up to `head`: the store has lost events, or another process
/// reported that it did.
async fn check_log(shared: &RuntimeInner, session: SessionId, head: LogHead) -> Result<(), StoreError> {
    let page = shared.dependencies.store.read_events(session, head.seq, 1).await?;
    if page.continues(head) && page.lost_branch.is_none() {
        Ok(())
    } else {
        Err(StoreError::Forked { session, seq: head.seq })
    }
}

/// Sleeps until `deadline`; never resolves if it is `None`.
async fn sleep_until_deadline(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl RuntimeInner {
    /// Wakes the session's owner; starts one if there is none.
    pub(in crate::runtime) fn wake_owner(self: &Arc<Self>, session: SessionId) {
        if let Some(slot) = self.registry.wake_or_reserve_owner(session)
            && !self.halt.is_cancelled()
        {
            self.tasks.spawn_on(run_session_actor(self.clone(), session, slot), &self.threads.choose_worker());
        }
    }
}
