//! The owner of a session: the one task that takes commands out of the inbox, drives the run, and writes to the log.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Shared,
    registry::Place,
    run_log::{Append, OwnedLog, Projection},
    writer::Writer,
};
use crate::{
    agent::{LogClosed, Run, RunEnd, failing},
    session::{
        Actor, ApprovalResolved, CommandBody, Decision, EventBody, EventDraft, InboxEntry, Lease, OnBusy, OpenRun,
        RunFailed, RunRecovered, RunStarted, SessionId, SettingsChanged, StoreError, Timestamp, TitleChanged,
        UserMessageEvent, load_state, title_from,
    },
};

/// How long an ownership holds without being renewed (DESIGN section 6).
const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(3);
/// How long an owner without work keeps the session at hand for the next message.
const LINGER: Duration = Duration::from_secs(10);
/// The waits before a session is tried again whose lease is held, or whose store is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

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
    let mut wait = RETRY.0;
    loop {
        let outcome = tokio::select! {
            outcome = hold(&shared, session, &place) => outcome,
            () = place.bell.gone.cancelled() => Ok(LetGo::Gone),
        };
        match outcome {
            Ok(LetGo::Idle) => {
                if shared.registry.retire(session, &place) {
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
            Err(error @ (StoreError::Corrupt(_) | StoreError::SeqConflict { .. })) => {
                // Trying again would find the same. The next command wakes a new owner, which looks again.
                tracing::error!(%session, %error, "the session cannot be worked on");
                place.bell.gone.cancel();
                break;
            }
            Err(error) => {
                tracing::warn!(%session, %error, "the session cannot be worked on now; trying again");
                tokio::select! {
                    () = sleep(wait) => {}
                    () = shared.halt.cancelled() => break,
                    () = place.bell.gone.cancelled() => {}
                }
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
    shared.registry.retire(session, &place);
}

async fn hold(shared: &Arc<Shared>, session: SessionId, place: &Place) -> Result<LetGo, StoreError> {
    let store = &shared.parts.store;
    let lease = store.acquire(session, &shared.replica, LEASE).await?;
    let result = match Owner::open(shared, lease, place).await {
        Ok(mut owner) => owner.work().await,
        Err(error) => Err(error),
    };
    if let Err(error) = store.release(lease).await {
        // It runs out by itself.
        tracing::debug!(%session, %error, "the lease could not be given back");
    }
    result
}

struct Owner<'a> {
    shared: &'a Arc<Shared>,
    lease: Lease,
    place: &'a Place,
    projection: Arc<Projection>,
    writer: Writer,
    appends: mpsc::Receiver<Append>,
    to_appends: mpsc::Sender<Append>,
    run: Option<RunTask>,
    /// The run that is about to start was cancelled before it did.
    cancel_next: bool,
    /// The inbox may hold something new.
    look: bool,
}

struct RunTask {
    cancel: CancellationToken,
    task: AbortOnDropHandle<Result<RunEnd, LogClosed>>,
}

impl<'a> Owner<'a> {
    async fn open(shared: &'a Arc<Shared>, lease: Lease, place: &'a Place) -> Result<Self, StoreError> {
        let loaded = load_state(shared.parts.store.as_ref(), lease.session).await?;
        place.feed.observe(loaded.state.last_seq());
        let open_run = loaded.state.run.clone();
        let projection = Arc::new(Projection::new(loaded.state));
        let mut writer = Writer::new(shared.clone(), lease, place.feed.clone(), projection.clone(), loaded.replayed);
        if let Some(run) = open_run {
            let recovered = RunRecovered {
                attempt: run.attempt + 1,
                superseded: Vec::new(),
                reason: "the process that worked on it went away".into(),
            };
            place.feed.void();
            writer.push([EventDraft::in_run(run.run_id, EventBody::RunRecovered(recovered))]);
        }
        // As many as a reply has parallel calls, give or take; more wait in the run, which is theirs to do anyway.
        let (to_appends, appends) = mpsc::channel(16);
        Ok(Self {
            shared,
            lease,
            place,
            projection,
            writer,
            appends,
            to_appends,
            run: None,
            cancel_next: false,
            look: true,
        })
    }

    async fn work(&mut self) -> Result<LetGo, StoreError> {
        let mut renew = interval_at(Instant::now() + RENEW, RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A point in time and not a wait: a renewal in between does not begin it anew.
        let mut let_go_at = None;
        loop {
            let halting = self.shared.halt.is_cancelled();
            if !self.writer.in_flight() {
                if self.look && !halting {
                    self.look = false;
                    self.take_commands().await?;
                }
                self.writer.start();
            }
            let resting = self.run.is_none() && self.writer.idle() && !self.look;
            let_go_at = if resting { let_go_at.or_else(|| Some(Instant::now() + LINGER)) } else { None };
            if halting && self.run.is_none() && self.writer.idle() {
                return Ok(LetGo::Halted);
            }
            let expiry = self.next_expiry();
            tokio::select! {
                biased;
                committed = self.writer.committed() => {
                    committed?;
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
                        });
                        tracing::error!(session = %self.lease.session, %panic, "a run panicked");
                    }
                }
                () = self.place.bell.rung() => self.look = true,
                () = at(expiry) => self.expire_approvals(),
                _ = renew.tick() => self.shared.parts.store.renew(self.lease, LEASE).await?,
                () = at(let_go_at) => return Ok(LetGo::Idle),
                () = self.shared.halt.cancelled(), if !halting => {}
            }
        }
    }

    /// Takes out of the inbox what can be done now. A message waits there while a run is in progress.
    async fn take_commands(&mut self) -> Result<(), StoreError> {
        let entries = self.shared.parts.store.inbox(self.lease.session).await?;
        let busy = self.run.is_some() || self.projection.read(|state| state.run.is_some());
        let next = if busy { None } else { next_message(&entries) };
        let mut settings = self.projection.read(|state| state.summary.settings.clone());
        for InboxEntry { position, command, .. } in &entries {
            let by = || Actor::User(command.by.clone());
            let command_id = Some(command.command_id.clone());
            let done = match &command.body {
                CommandBody::Message { on_busy, .. } => {
                    if busy && *on_busy == OnBusy::Interrupt {
                        self.cancel_run();
                    }
                    continue;
                }
                CommandBody::Cancel if busy => {
                    self.cancel_run();
                    None
                }
                CommandBody::Cancel => {
                    self.cancel_next |= next.is_some_and(|message| message.position < *position);
                    None
                }
                CommandBody::Resolve { approval_id, decision, arguments, comment } => {
                    let run = self.projection.read(|state| {
                        let pending = state.pending_approvals().any(|a| a.approval_id == *approval_id);
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
                CommandBody::Settings(patch) => {
                    settings = patch.apply(&settings);
                    let body = SettingsChanged { settings: settings.clone(), by: by(), command_id };
                    Some(EventDraft::new(EventBody::SettingsChanged(body)))
                }
                CommandBody::Title { title } => {
                    let body = TitleChanged { title: title.clone(), by: by(), command_id };
                    Some(EventDraft::new(EventBody::TitleChanged(body)))
                }
            };
            self.writer.push(done);
            self.writer.consume(*position);
        }
        if let Some(entry) = next {
            self.begin_run(entry, &settings);
        }
        Ok(())
    }

    /// Puts a message and the start of its run into the next commit.
    fn begin_run(&mut self, entry: &InboxEntry, settings: &crate::session::Settings) {
        let CommandBody::Message { message_id, run_id, content, .. } = &entry.command.body else { return };
        let untitled = self.projection.read(|state| state.summary.title.is_empty());
        let title = title_from(content);
        if untitled && !title.is_empty() {
            let body = TitleChanged { title, by: Actor::System, command_id: None };
            self.writer.push([EventDraft::new(EventBody::TitleChanged(body))]);
        }
        let message = UserMessageEvent {
            message_id: *message_id,
            content: content.clone(),
            command_id: Some(entry.command.command_id.clone()),
        };
        let started = RunStarted { provider: settings.provider.clone(), model: settings.model.clone(), attempt: 1 };
        self.writer.push([
            EventDraft::in_run(*run_id, EventBody::UserMessage(message)),
            EventDraft::in_run(*run_id, EventBody::RunStarted(started)),
        ]);
        self.writer.consume(entry.position);
    }

    fn cancel_run(&mut self) {
        match &self.run {
            Some(run) => run.cancel.cancel(),
            // Open in the log, and its task not yet made: it was recovered just now.
            None => self.cancel_next = true,
        }
    }

    /// Starts the task of the run that the log says is open, if it has none.
    fn start_run(&mut self) {
        if self.run.is_some() || !self.writer.idle() || self.shared.halt.is_cancelled() {
            return;
        }
        let open = self.projection.read(|state| {
            state
                .run
                .as_ref()
                .map(|run| (run.run_id, run.provider.clone(), run.model.clone(), state.summary.settings.clone()))
        });
        let Some((run_id, provider, model_id, mut settings)) = open else { return };
        let parts = &self.shared.parts;
        let Some(model) = parts.catalog.model(&provider) else {
            self.fail_run(RunFailed {
                code: "provider_unknown".into(),
                message: format!("provider {provider:?} is not configured any more; choose another in the settings"),
                retryable: false,
            });
            return;
        };
        settings.max_tokens = settings.max_tokens.or_else(|| parts.catalog.default_max_tokens(&provider, &model_id));
        settings.provider = provider;
        settings.model = model_id;
        let cancel = CancellationToken::new();
        if std::mem::take(&mut self.cancel_next) {
            cancel.cancel();
        }
        let run = Run {
            log: Arc::new(OwnedLog {
                run_id,
                appends: self.to_appends.clone(),
                projection: self.projection.clone(),
                feed: self.place.feed.clone(),
            }),
            model,
            tools: parts.tools.clone(),
            settings,
            system: parts.system.clone(),
            limits: parts.limits.clone(),
            cancel: cancel.clone(),
            halt: self.shared.halt.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(async move { run.drive().await }));
        self.run = Some(RunTask { cancel, task });
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
        let expires_at = self.projection.read(|state| state.pending_approvals().map(|a| a.expires_at).min())?;
        Some(Instant::now() + expires_at.since(Timestamp::now()))
    }

    fn expire_approvals(&mut self) {
        let now = Timestamp::now();
        let expired = self.projection.read(|state| {
            let run: &OpenRun = state.run.as_ref()?;
            let over = state.pending_approvals().filter(|a| a.expires_at <= now);
            Some((run.run_id, over.map(|a| a.approval_id).collect::<Vec<_>>()))
        });
        let Some((run_id, approvals)) = expired else { return };
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

/// The message whose run is next: the first that interrupts, else the first.
fn next_message(entries: &[InboxEntry]) -> Option<&InboxEntry> {
    let mut messages = entries.iter().filter(|e| matches!(e.command.body, CommandBody::Message { .. }));
    let first = messages.clone().next();
    let interrupts =
        messages.find(|e| matches!(e.command.body, CommandBody::Message { on_busy: OnBusy::Interrupt, .. }));
    interrupts.or(first)
}

/// Waits until a point in time; for ever when there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
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
