//! The owner of a session: the one task that takes commands out of the inbox, drives the run, and writes to the log.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument as _;

use super::{
    Shared,
    asking::{self, UserSpending},
    learning::{self, Begun, UserRecall},
    lease::HeldLease,
    next_message,
    observed::{self, RunSpan, WatchedTools},
    previews::Previews,
    registry::Place,
    run_log::{Append, FirstEvent, OwnedLog, Projection},
    writer::Writer,
};
use crate::{
    agent::{LogClosed, Recall, Run, RunEnd, failing},
    session::{
        Actor, ApprovalResolved, CommandBody, Decision, EventBody, EventDraft, Feed, InboxEntry, InputAction,
        InputResolved, MemorySaved, MessageId, OnBusy, OpenRun, Preview, RunFailed, RunId, RunRecovered, RunStarted,
        SessionId, SettingsChanged, StoreError, Timestamp, TitleChanged, Topic, Usage, UserMessageEvent, load_state,
        title_from,
    },
    telemetry::traces,
    tools::ToolExecutor,
};

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
        StoreError::Unavailable(_) => metrics.store_failed("unavailable"),
        StoreError::Corrupt(_) => metrics.store_failed("corrupt"),
        StoreError::SeqConflict { .. } => metrics.store_failed("seq_conflict"),
        StoreError::Fenced { .. } => {
            metrics.lease_lost();
            metrics.store_failed("fenced");
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
    match store.release(held.lease).await {
        // Something came in that the owner did not hear of.
        Ok(true) if matches!(result, Ok(LetGo::Idle)) => place.bell.ring(),
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
    feed: &'a Arc<Feed>,
}

impl<'a> Heard<'a> {
    fn new(shared: &'a Shared, session: SessionId, feed: &'a Arc<Feed>) -> Self {
        if let Some(store) = shared.parts.store.shared() {
            store.listen(session, Topic::Inbox);
        }
        shared.followers.owned(session, feed, true);
        Self { shared, session, feed }
    }
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.shared.parts.store.shared() {
            store.leave(self.session, Topic::Inbox);
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
    learning: Option<AbortOnDropHandle<MemorySaved>>,
    /// The run that was cancelled last.
    cancelled: Option<RunId>,
    /// The inbox may hold something new.
    look: bool,
    /// Until when approvals wait, as it is noted for those who may answer.
    noted: Option<Timestamp>,
}

struct RunTask {
    cancel: CancellationToken,
    task: AbortOnDropHandle<Result<RunEnd, LogClosed>>,
}

impl<'a> Owner<'a> {
    async fn open(shared: &'a Arc<Shared>, held: &'a HeldLease, place: &'a Place) -> Result<Self, StoreError> {
        let lease = held.lease;
        let loaded = load_state(shared.parts.store.as_ref(), lease.session).await?;
        let open_run = loaded.state.run.clone();
        let inner = shared.parts.tools.open(lease.session, &loaded.state.summary.user_id);
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
            shared.parts.metrics.took_over();
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
        let previews = store.shared().is_some().then(|| {
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
            learning: None,
            cancelled: None,
            look: true,
            noted: None,
        })
    }

    async fn work(&mut self) -> Result<LetGo, StoreError> {
        let alone = self.shared.parts.store.shared().is_none();
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
            let resting = quiet_since.filter(|_| self.learning.is_none());
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
                        self.fail_run(RunFailed {
                            code: "internal".into(),
                            message: "the run broke off because of a fault in k8sops; see its log".into(),
                            retryable: true,
                            usage: Usage::default(),
                        });
                        tracing::error!(session = %self.held.lease.session, %panic, "a run panicked");
                    }
                }
                saved = learned(&mut self.learning) => {
                    self.learning = None;
                    let saved = saved.unwrap_or_else(|panic| {
                        tracing::error!(session = %self.held.lease.session, %panic, "a look for memories panicked");
                        let up_to_seq = self.projection.read(|state| state.learned_up_to);
                        MemorySaved { up_to_seq, ..MemorySaved::default() }
                    });
                    self.writer.push([EventDraft::new(EventBody::MemorySaved(saved))]);
                }
                () = at(learn_at) => self.start_learning(),
                () = self.place.bell.rung() => self.look = true,
                () = at(expiry) => self.expire_questions(),
                lost = self.held.lost() => return Err(lost),
                _ = look.tick(), if !alone => self.look = true,
                () = at(let_go_at) => return Ok(LetGo::Idle),
                () = self.shared.halt.cancelled(), if !halting => {}
            }
        }
    }

    /// Notes whether approvals wait, when that has changed.
    async fn note_waiting(&mut self) {
        let until = self.projection.read(|state| state.pending_approvals().map(|a| a.expires_at).max());
        if until != self.noted {
            let (store, session) = (self.shared.parts.store.as_ref(), self.held.lease.session);
            if self.shared.waiting.note(store, session, until).await {
                self.noted = until;
            }
        }
    }

    /// Takes out of the inbox what can be done now. A message waits there while a run is in progress.
    async fn take_commands(&mut self) -> Result<(), StoreError> {
        let entries = self.shared.parts.store.inbox(self.held.lease.session).await?;
        let open = self.projection.read(|state| state.summary.open_run);
        let next = if open.is_some() || self.run.is_some() { None } else { next_message(&entries) };
        let mut titled = self.projection.read(|state| !state.summary.title.is_empty());
        let mut settings = self.projection.read(|state| state.summary.settings.clone());
        for InboxEntry { position, command, .. } in &entries {
            let by = || Actor::User(command.by.clone());
            let command_id = Some(command.command_id.clone());
            let done = match &command.body {
                CommandBody::Message { on_busy, .. } => {
                    if *on_busy == OnBusy::Interrupt
                        && let Some(open) = open
                    {
                        self.cancel_run(open);
                    }
                    continue;
                }
                // It stays until its run has ended: an owner after this one must find it.
                CommandBody::Cancel { run_id: Some(run_id) } if entries.iter().any(|e| e.begins(*run_id)) => continue,
                CommandBody::Cancel { run_id: Some(run_id) } if open == Some(*run_id) => {
                    self.cancel_run(*run_id);
                    continue;
                }
                CommandBody::Cancel { .. } => None,
                CommandBody::Resolve { approval_id, decision, arguments, comment, .. } => {
                    let run = self.projection.read(|state| {
                        // Whatever let it in: nobody says yes to what is another's to allow.
                        if !self.shared.may_answer(command, &state.summary.user_id) {
                            return None;
                        }
                        // The first answer counts; the next may be in the same look.
                        let pending = state.pending_approvals().any(|a| a.approval_id == *approval_id)
                            && !self.writer.answers(*approval_id);
                        state.run.as_ref().filter(|_| pending).map(|run| run.run_id)
                    });
                    run.map(|run_id| {
                        EventDraft::in_run(
                            run_id,
                            EventBody::ApprovalResolved(ApprovalResolved {
                                approval_id: *approval_id,
                                decision: *decision,
                                arguments: arguments.clone(),
                                by: by(),
                                comment: comment.clone(),
                                command_id,
                            }),
                        )
                    })
                }
                CommandBody::Answer { input_id, action, content } => {
                    let run = self.projection.read(|state| {
                        let pending = state.pending_inputs().any(|i| i.input_id == *input_id)
                            && !self.writer.answers_input(*input_id);
                        state.run.as_ref().filter(|_| pending).map(|run| run.run_id)
                    });
                    run.map(|run_id| {
                        let (action, content) = (*action, content.clone());
                        let answer = InputResolved { input_id: *input_id, action, content, by: by(), command_id };
                        EventDraft::in_run(run_id, EventBody::InputResolved(answer))
                    })
                }
                CommandBody::Settings(patch) => {
                    settings = patch.apply(&settings);
                    let body = SettingsChanged { settings: settings.clone(), by: by(), command_id };
                    Some(EventDraft::new(EventBody::SettingsChanged(body)))
                }
                CommandBody::Title { title } => {
                    titled = true;
                    let body = TitleChanged { title: title.clone(), by: by(), command_id };
                    Some(EventDraft::new(EventBody::TitleChanged(body)))
                }
            };
            self.writer.push(done);
            self.writer.consume(*position);
        }
        if let Some(entry) = next {
            self.begin_run(entry, &settings, titled);
        }
        Ok(())
    }

    /// Puts a message and the start of its run into the next commit.
    fn begin_run(&mut self, entry: &InboxEntry, settings: &crate::session::Settings, titled: bool) {
        let CommandBody::Message { message_id, run_id, content, cause, .. } = &entry.command.body else { return };
        let span = traces::run(cause, self.held.lease.session, *run_id, &settings.provider, &settings.model, 1);
        self.span.begin(*run_id, span);
        self.writer.span = self.span.current();
        let title = title_from(content);
        if !titled && !title.is_empty() {
            let body = TitleChanged { title, by: Actor::System, command_id: None };
            self.writer.push([EventDraft::new(EventBody::TitleChanged(body))]);
        }
        let message = UserMessageEvent {
            message_id: *message_id,
            content: content.clone(),
            command_id: Some(entry.command.command_id.clone()),
        };
        let memory = self.shared.parts.memory.as_ref().filter(|_| settings.memory);
        if let Some(memory) = memory {
            // Beside the commit of the message.
            self.recalling =
                Some((*run_id, learning::begin(memory, &self.shared.parts.metrics, &entry.command.by, content)));
        }
        let started = RunStarted {
            provider: settings.provider.clone(),
            model: settings.model.clone(),
            attempt: 1,
            cause: cause.clone(),
            memory: memory.is_some(),
        };
        self.writer.push([
            EventDraft::in_run(*run_id, EventBody::UserMessage(message)),
            EventDraft::in_run(*run_id, EventBody::RunStarted(started)),
        ]);
        self.writer.consume(entry.position);
    }

    fn cancel_run(&mut self, run_id: RunId) {
        // Its task may not be made yet.
        self.cancelled = Some(run_id);
        if let Some(run) = &self.run {
            run.cancel.cancel();
        }
    }

    /// Starts the task of the run that the log says is open, if it has none.
    fn start_run(&mut self) {
        if self.run.is_some() || !self.writer.idle() || self.shared.halt.is_cancelled() {
            return;
        }
        let session = self.held.lease.session;
        let open = self.projection.read(|state| {
            let run = state.run.as_ref()?;
            let span = self.span.of(session, run);
            Some((run.run_id, run.provider.clone(), run.model.clone(), state.summary.settings.clone(), span))
        });
        let Some((run_id, provider, model_id, mut settings, span)) = open else { return };
        self.writer.span = span.clone();
        let parts = &self.shared.parts;
        let mut lineup = asking::lineup(parts, &provider, &model_id);
        let at = self.projection.read(observed::place);
        for candidate in &mut lineup {
            candidate.chat = observed::watched(candidate.chat.clone(), &parts.metrics, at.clone());
        }
        if lineup.is_empty() {
            self.fail_run(RunFailed {
                code: "provider_unknown".into(),
                message: format!("provider {provider:?} is not configured any more; choose another in the settings"),
                retryable: false,
                usage: Usage::default(),
            });
            return;
        }
        settings.provider = provider;
        settings.model = model_id;
        let user = self.projection.read(|state| state.summary.user_id.clone());
        self.shared.load.begin(self.held.lease.session, &user);
        let cancel = CancellationToken::new();
        if self.cancelled == Some(run_id) {
            cancel.cancel();
        }
        let run = Run {
            log: Arc::new(OwnedLog {
                run_id,
                appends: self.to_appends.clone(),
                projection: self.projection.clone(),
                feed: self.place.feed.clone(),
                previews: self.previews.as_ref().map(|(previews, _)| previews.clone()),
                term: self.held.term(),
                first: FirstEvent::new(parts.metrics.clone()),
            }),
            lineup,
            spending: Arc::new(UserSpending { shared: self.shared.clone(), projection: self.projection.clone() }),
            memory: self.recall(run_id),
            tools: self.tools.clone(),
            settings,
            system: parts.system.clone(),
            limits: parts.limits.load().as_ref().clone(),
            cancel: cancel.clone(),
            halt: self.shared.halt.clone(),
        };
        let task = async move {
            tokio::select! {
                () = run.tools.ready() => {}
                () = run.cancel.cancelled() => {}
                () = run.halt.cancelled() => {}
            }
            run.drive().await
        };
        let task = tokio::spawn(task.instrument(span));
        let task = AbortOnDropHandle::new(task);
        self.run = Some(RunTask { cancel, task });
        // What waits may be meant for it: a cancel, or a message that interrupts.
        self.look = true;
    }

    /// What a run has of what is remembered of its user.
    fn recall(&mut self, run_id: RunId) -> Option<Arc<dyn Recall>> {
        let memory = self.shared.parts.memory.clone()?;
        let user = self.projection.read(|state| state.summary.user_id.clone());
        let begun = self.recalling.take().filter(|(of, _)| *of == run_id).map(|(_, begun)| begun);
        Some(Arc::new(UserRecall::new(memory, self.shared.parts.metrics.clone(), user, begun)))
    }

    fn start_learning(&mut self) {
        let (shared, tools) = (self.shared.clone(), self.tools.clone());
        let state = self.projection.read(Clone::clone);
        let learning = tokio::spawn(async move { learning::learn(&shared, state, tools.as_ref()).await });
        self.learning = Some(AbortOnDropHandle::new(learning));
    }

    /// Closes the open run, if there is one, for a reason that the run could not name itself.
    fn fail_run(&mut self, failure: RunFailed) {
        let Some(run) = self.projection.read(|state| state.run.clone()) else { return };
        self.writer.push(failing(&run, failure).into_iter().map(|body| EventDraft::in_run(run.run_id, body)));
    }

    fn next_expiry(&self) -> Option<Instant> {
        // While a commit is in flight it may be the one that answers.
        if self.writer.in_flight() {
            return None;
        }
        let expires_at = self.projection.read(|state| {
            let inputs = state.pending_inputs().map(|i| i.expires_at);
            state.pending_approvals().map(|a| a.expires_at).chain(inputs).min()
        })?;
        Some(Instant::now() + expires_at.since(Timestamp::now()))
    }

    fn expire_questions(&mut self) {
        let now = Timestamp::now();
        let expired = self.projection.read(|state| {
            let run: &OpenRun = state.run.as_ref()?;
            let over = state.pending_approvals().filter(|a| a.expires_at <= now && !self.writer.answers(a.approval_id));
            let inputs =
                state.pending_inputs().filter(|i| i.expires_at <= now && !self.writer.answers_input(i.input_id));
            let inputs = inputs.map(|i| i.input_id).collect::<Vec<_>>();
            Some((run.run_id, over.map(|a| a.approval_id).collect::<Vec<_>>(), inputs))
        });
        let Some((run_id, approvals, inputs)) = expired else { return };
        self.writer.push(inputs.into_iter().map(|input_id| {
            let (action, by) = (InputAction::Cancel, Actor::System);
            let answer = InputResolved { input_id, action, content: None, by, command_id: None };
            EventDraft::in_run(run_id, EventBody::InputResolved(answer))
        }));
        self.writer.push(approvals.into_iter().map(|approval_id| {
            EventDraft::in_run(
                run_id,
                EventBody::ApprovalResolved(ApprovalResolved {
                    approval_id,
                    decision: Decision::Expired,
                    arguments: None,
                    by: Actor::System,
                    comment: None,
                    command_id: None,
                }),
            )
        }));
    }
}

/// The message that an owner before this one was in the middle of: what was seen of it is void.
async fn superseded(shared: &Shared, session: SessionId, place: &Place) -> Result<Vec<MessageId>, StoreError> {
    let mut open = place.feed.open_message();
    if let Some(store) = shared.parts.store.shared() {
        let seen = store.read_preview(session, 0).await?;
        open = open.or(seen.pieces.last().map(Preview::message_id));
    }
    Ok(open.into_iter().collect())
}

/// Waits until a point in time; for ever when there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits for the look for memories; for ever when there is none.
async fn learned(learning: &mut Option<AbortOnDropHandle<MemorySaved>>) -> Result<MemorySaved, tokio::task::JoinError> {
    match learning {
        Some(learning) => learning.await,
        None => std::future::pending().await,
    }
}

/// Waits for the run's task; for ever when there is none.
async fn run_ended(run: &mut Option<RunTask>) -> Result<(), tokio::task::JoinError> {
    match run {
        // How it ended stands in the log.
        Some(run) => (&mut run.task).await.map(|_| ()),
        None => std::future::pending().await,
    }
}
