//! Sessions alive: who works on which session in this process, and the doors through which clients reach them.
//!
//! This room joins `session`, `store` and `agent`. A session that nobody works on and nobody watches takes no memory here.
//! A command goes into the store's inbox first; then the session's owner is woken, or made. The owner ([`owner`]) is the
//! one task that writes to the session's log; it ends when there is nothing left to do.

mod asking;
mod follow;
mod learning;
mod lease;
mod load;
mod observed;
mod owner;
mod previews;
mod registry;
mod replicas;
mod run_log;
#[cfg(test)]
mod tests;
mod waiting;
mod writer;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::Mutex};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agent::Limits,
    audit::{Action, Audit, Entry},
    config::{ApprovalBy, ModelChoice},
    memory::LongTermMemory,
    models::{Catalog, InvalidSettings},
    session::{
        Actor, ApprovalId, ApprovalRequested, Command, CommandBody, Cursor, Event, EventBody, EventDraft, Frame,
        InboxEntry, InputAction, InputId, ListCursor, Message, OnBusy, OutputPart, Receipt, RunId, SessionCreated,
        SessionId, SessionState, SessionStore, SessionSummary, Settings, StoreError, ToolCallId, UserId, load_state,
    },
    telemetry::Metrics,
    tools::{self, Toolbox},
};

use follow::Followers;
use load::Load;
use registry::Registry;
use waiting::Waiting;

/// How long a caller waits for a command to take effect before it is told to look again.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// What sessions are made of.
pub struct Parts {
    /// Where they are kept.
    pub store: Arc<dyn SessionStore>,
    /// Who answers.
    pub catalog: Arc<Catalog>,
    /// What the agent may call.
    pub tools: Arc<dyn Toolbox>,
    /// The system prompt.
    pub system: Arc<str>,
    /// What bounds a run that begins now; one in progress keeps what it began with.
    pub limits: ArcSwap<Limits>,
    /// Who is asked when a session's own model is down, in this order.
    pub fallback: Vec<ModelChoice>,
    /// What is remembered of users; `None`: nothing is.
    pub memory: Option<Arc<LongTermMemory>>,
    /// `MAX_SESSIONS` of one user.
    pub max_sessions: usize,
    /// `MEMORY_SHALLOW`: what a session takes to store has a bound, and old turns are forgotten for it.
    pub shallow: bool,
    /// `K8SOPS_MAX_RUNS`: runs in this process at a time.
    pub max_runs: usize,
    /// `K8SOPS_MAX_RUNS_PER_USER`: of them, those of one user.
    pub max_runs_of_user: usize,
    /// `TOOL_APPROVAL_BY`: who answers requests for approval.
    pub approval_by: ApprovalBy,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The audit trail.
    pub audit: Audit,
    /// Names this process in leases and in the audit trail.
    pub replica: String,
}

/// An approval that waits for an answer.
#[derive(Debug, Clone)]
pub struct WaitingApproval {
    /// The session.
    pub session: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// The run that waits.
    pub run: RunId,
    /// What is asked.
    pub asked: ApprovalRequested,
}

/// Why a request to a session was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionsError {
    /// The user has no such session.
    #[error("there is no session {0}")]
    NotFound(SessionId),
    /// The user has as many sessions as allowed, and all are busy.
    #[error("all {0} sessions have a run in progress; cancel one or delete one, or raise MAX_SESSIONS")]
    TooMany(usize),
    /// The settings would be of no use.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// No approval of this id belongs to the run in progress.
    #[error("the session's run has no approval {0}; its run has ended, or it never was")]
    ApprovalNotFound(ApprovalId),
    /// The approval waits for no answer any more.
    #[error("approval {0} was answered before, or has expired; see its approval_resolved event")]
    ApprovalClosed(ApprovalId),
    /// Approvals are somebody else's to give.
    #[error(
        "approvals are given by somebody else with the role approver, not by the session's own user; who has it finds \
         what waits in GET /v1/approvals"
    )]
    ApproverRequired,
    /// The user has as many runs as one may have.
    #[error("{0} of your runs are in progress on this replica, which is the limit; try again when one has ended")]
    TooManyRuns(usize),
    /// The process has as many runs as it may have.
    #[error("{0} runs are in progress on this replica, which is the limit; try again in a moment")]
    Overloaded(usize),
    /// The edited arguments do not fit the tool, or the values do not fit the question.
    #[error("{0}")]
    DoesNotFit(String),
    /// No question of this id belongs to the run in progress.
    #[error("the session's run has no question {0}; its run has ended, or it never was")]
    InputNotFound(InputId),
    /// The question waits for no answer any more.
    #[error("question {0} was answered before, has expired, or its call has ended; see its input_resolved event")]
    InputClosed(InputId),
    /// No output of such a call is kept.
    #[error("no output of the tool call {0} is kept: there is no such call, or newer outputs have taken its room")]
    OutputNotFound(ToolCallId),
    /// The command is durable and will be done, but was not within the time that a caller waits.
    #[error("the command was accepted and is not done yet; look at the session again in a moment")]
    Pending,
    /// The service is stopping.
    #[error("the service is stopping; try again in a moment")]
    Stopping,
    /// The store said no.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for SessionsError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(session) => Self::NotFound(session),
            error => Self::Store(error),
        }
    }
}

/// All sessions, as this process sees them. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) parts: Parts,
    registry: Registry,
    followers: Arc<Followers>,
    load: Load,
    waiting: Waiting,
    /// Ends what keeps up with other replicas.
    closed: CancellationToken,
    /// Held while a session is created, so that the limit of sessions is looked at by one at a time.
    creating: Mutex<()>,
    /// Owners live on the runtime that built this, not on the HTTP worker that happened to wake them.
    runtime: Handle,
    tasks: TaskTracker,
    halt: CancellationToken,
    /// Names this process in leases.
    replica: String,
}

impl Sessions {
    /// Sessions made of `parts`. Must be called on the runtime that is to run them.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let followers = Arc::new(Followers::new(parts.store.clone()));
        let replica = parts.replica.clone();
        Self(Arc::new(Shared {
            load: Load::new(parts.max_runs, parts.max_runs_of_user),
            waiting: Waiting::default(),
            parts,
            followers,
            closed: CancellationToken::new(),
            registry: Registry::default(),
            creating: Mutex::new(()),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            halt: CancellationToken::new(),
            replica,
        }))
    }

    /// Bounds the runs that begin from now on by other limits.
    pub fn set_limits(&self, limits: Limits) {
        self.0.parts.limits.store(Arc::new(limits));
    }

    /// Wakes every session that an earlier process left with work to do, and, when the store is shared, attends from now on
    /// to what other processes do. Called once, before the service is ready.
    ///
    /// # Errors
    /// Those of a store that is not shared. One that is may be away now, and is asked again.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        if self.0.parts.store.shared().is_none() {
            return self.0.take_over().await;
        }
        let (closed, runtime) = (&self.0.closed, &self.0.runtime);
        runtime.spawn(closed.clone().run_until_cancelled_owned(self.0.followers.clone().run()));
        runtime.spawn(closed.clone().run_until_cancelled_owned(replicas::attend(self.0.clone())));
        Ok(0)
    }

    /// Begins a session. When the user has `MAX_SESSIONS` already, the one with the oldest activity is deleted, never one
    /// with a run in progress.
    ///
    /// # Errors
    /// `TooMany`, and those of the store.
    pub async fn create(
        &self,
        user: &UserId,
        title: Option<String>,
        settings: Settings,
    ) -> Result<SessionSummary, SessionsError> {
        self.refuse_when_stopping()?;
        let _one_at_a_time = self.0.creating.lock().await;
        self.make_room(user).await?;
        let created = SessionCreated { user_id: user.clone(), title, settings, by: Actor::User(user.clone()) };
        let event = EventDraft::new(EventBody::SessionCreated(created)).at(SessionId::new(), 1);
        self.0.parts.store.create(&event).await?;
        self.0.parts.audit.record(Entry::of_event(&event, user).into_iter().collect()).await;
        Ok(SessionSummary::begin(&event).expect("a session_created begins a summary"))
    }

    async fn make_room(&self, user: &UserId) -> Result<(), SessionsError> {
        let (store, max) = (&self.0.parts.store, self.0.parts.max_sessions);
        if store.count(user).await? < max {
            return Ok(());
        }
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = store.list(user, after, 256).await?;
            let Some(last) = page.last() else { break };
            after = Some(ListCursor { updated_at: last.updated_at, session_id: last.session_id });
            all.extend(page);
        }
        let mut over = (all.len() + 1).saturating_sub(max);
        for old in all.iter().rev().map(|summary| summary.session_id) {
            if over == 0 {
                break;
            }
            let to_learn = self.0.to_learn(old).await;
            match store.delete_idle(old).await {
                Ok(true) => {
                    self.0.registry.close(old);
                    self.note_deleted("system".to_owned(), old).await;
                    self.0.learn_of_gone(to_learn);
                    over -= 1;
                }
                // One that cannot be read may yet be repaired: only its user deletes it.
                Ok(false) | Err(StoreError::Corrupt(_)) => {}
                // Somebody else deleted it.
                Err(StoreError::NotFound(_)) => over -= 1,
                Err(error) => return Err(error.into()),
            }
        }
        if over == 0 { Ok(()) } else { Err(SessionsError::TooMany(max)) }
    }

    /// A user's sessions, newest activity first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, SessionsError> {
        Ok(self.0.parts.store.list(user, after, limit).await?)
    }

    /// One session. Somebody else's does not exist.
    ///
    /// # Errors
    /// `NotFound`, and those of the store.
    pub async fn get(&self, user: &UserId, session: SessionId) -> Result<SessionSummary, SessionsError> {
        let summary = match self.0.parts.store.summary(session).await {
            // What is wrong with it is for its user to know.
            Err(StoreError::Corrupt(_)) if !self.lists(user, session).await? => None,
            summary => summary?,
        };
        summary.filter(|s| &s.user_id == user).ok_or(SessionsError::NotFound(session))
    }

    /// Whether a session is in the user's list: how it is known whose it is when it cannot be read.
    async fn lists(&self, user: &UserId, session: SessionId) -> Result<bool, SessionsError> {
        let mut after = None;
        loop {
            let page = self.list(user, after, 256).await?;
            if page.iter().any(|listed| listed.session_id == session) {
                return Ok(true);
            }
            let Some(last) = page.last() else { return Ok(false) };
            after = Some(ListCursor { updated_at: last.updated_at, session_id: last.session_id });
        }
    }

    /// The whole projection of a session.
    ///
    /// # Errors
    /// `NotFound`, and those of the store.
    pub async fn state(&self, user: &UserId, session: SessionId) -> Result<SessionState, SessionsError> {
        self.get(user, session).await?;
        Ok(load_state(self.0.parts.store.as_ref(), session).await?.state)
    }

    /// Takes a command in. It is durable when this returns, and done as soon as its turn comes.
    ///
    /// # Errors
    /// `NotFound`, `Stopping`, `Settings`, `ApprovalNotFound`, `ApprovalClosed`, `ApproverRequired`, `TooManyRuns`,
    /// `Overloaded`, and those of the store: `Busy`, `CommandIdReused`, `InboxFull`. A command that was taken before is not refused for what has happened since.
    pub async fn submit(&self, session: SessionId, mut command: Command) -> Result<Receipt, SessionsError> {
        self.refuse_when_stopping()?;
        let store = &self.0.parts.store;
        let mut summary = self.addressed(session, &command).await?;
        if let CommandBody::Cancel { run_id } = &mut command.body {
            // What waits before what runs: a message that is taken up in between is then seen in one of the two.
            let waiting = store.inbox(session).await?;
            summary = self.get(&command.by, session).await?;
            *run_id = summary.open_run.or_else(|| next_message(&waiting)?.command.run_id());
        }
        let claimed = match self.admit(&summary, &command).await {
            Ok(claimed) => claimed,
            // What was taken once stays taken, whatever has become since of what it was about.
            Err(refused) => {
                return match store.receipt(session, &command.command_id).await? {
                    Some(first) if first.fingerprint == command.fingerprint => Ok(Receipt { duplicate: true, ..first }),
                    Some(_) => Err(StoreError::CommandIdReused.into()),
                    None => Err(refused),
                };
            }
        };
        let taken = store.submit(session, command).await;
        if taken.is_err() && claimed {
            self.0.load.end(session);
        }
        let receipt = taken?;
        self.0.ring(session);
        Ok(receipt)
    }

    /// The session that a command is for: the sender's own or, where approvals are given by others, one that waits for them.
    async fn addressed(&self, session: SessionId, command: &Command) -> Result<SessionSummary, SessionsError> {
        let of_others = self.0.parts.approval_by == ApprovalBy::Approver
            && matches!(command.body, CommandBody::Resolve { approver: true, .. });
        if !of_others {
            return self.get(&command.by, session).await;
        }
        match self.0.parts.store.summary(session).await {
            Ok(Some(summary)) => Ok(summary),
            Ok(None) | Err(StoreError::Corrupt(_)) => Err(SessionsError::NotFound(session)),
            Err(error) => Err(error.into()),
        }
    }

    /// The approvals that a user may answer and that wait, those that run out first coming first: of their own sessions or,
    /// where they are given by others, of all others' sessions to somebody with the role `approver`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn approvals(&self, user: &UserId, approver: bool) -> Result<Vec<WaitingApproval>, SessionsError> {
        let store = self.0.parts.store.as_ref();
        let mut found = Vec::new();
        if self.0.parts.approval_by == ApprovalBy::Approver && !approver {
            return Ok(found);
        }
        for session in self.0.waiting.sessions(store).await? {
            // One that cannot be read keeps nobody from the others.
            let Ok(Some(summary)) = store.summary(session).await else { continue };
            let theirs = summary.user_id == *user;
            if theirs != (self.0.parts.approval_by == ApprovalBy::Owner) {
                continue;
            }
            let Ok(loaded) = load_state(store, session).await else { continue };
            let Some(run) = loaded.state.run.as_ref().map(|run| run.run_id) else { continue };
            let pending = loaded.state.pending_approvals().cloned();
            found.extend(pending.map(|asked| WaitingApproval { session, user: summary.user_id.clone(), run, asked }));
        }
        found.sort_by_key(|approval| approval.asked.expires_at);
        Ok(found)
    }

    /// Whether a command makes sense as the session stands. True: room was made for a run that it will cause.
    async fn admit(&self, summary: &SessionSummary, command: &Command) -> Result<bool, SessionsError> {
        if let CommandBody::Message { .. } = &command.body {
            // A session that is busy takes messages into its inbox, by the rules of `on_busy`.
            let idle = !summary.is_processing();
            return if idle { self.0.load.claim(summary.session_id, &summary.user_id) } else { Ok(false) };
        }
        self.check(summary, command).await.map(|()| false)
    }

    async fn check(&self, summary: &SessionSummary, command: &Command) -> Result<(), SessionsError> {
        match &command.body {
            CommandBody::Settings(patch) => Ok(self.0.parts.catalog.validate(&patch.apply(&summary.settings))?),
            CommandBody::Resolve { approval_id, arguments, .. } => {
                let state = load_state(self.0.parts.store.as_ref(), summary.session_id).await?.state;
                match state.run.as_ref().and_then(|run| run.is_answered(*approval_id)) {
                    Some(false) => {}
                    Some(true) => return Err(SessionsError::ApprovalClosed(*approval_id)),
                    None if summary.user_id == command.by => {
                        return Err(SessionsError::ApprovalNotFound(*approval_id));
                    }
                    // Nothing is said of a session of others that does not wait for them.
                    None => return Err(SessionsError::NotFound(summary.session_id)),
                }
                if !self.0.may_answer(command, &summary.user_id) {
                    return Err(SessionsError::ApproverRequired);
                }
                let asked = state.pending_approvals().find(|asked| asked.approval_id == *approval_id);
                match (asked, arguments.as_ref().and_then(|arguments| arguments.as_object())) {
                    (Some(asked), Some(edited)) => {
                        self.0.parts.tools.check(&asked.name, edited).map_err(SessionsError::DoesNotFit)
                    }
                    _ => Ok(()),
                }
            }
            CommandBody::Answer { input_id, action, content } => {
                let state = load_state(self.0.parts.store.as_ref(), summary.session_id).await?.state;
                match state.run.as_ref().and_then(|run| run.is_input_answered(*input_id)) {
                    Some(false) => {}
                    Some(true) => return Err(SessionsError::InputClosed(*input_id)),
                    None => return Err(SessionsError::InputNotFound(*input_id)),
                }
                let asked = state.pending_inputs().find(|asked| asked.input_id == *input_id);
                match (action, asked.and_then(|asked| asked.schema.as_ref())) {
                    (InputAction::Accept, Some(schema)) => {
                        let mut content = content.clone().unwrap_or_default();
                        tools::complete_answer(schema, &mut content);
                        tools::check_answer(schema, &content).map_err(SessionsError::DoesNotFit)
                    }
                    _ => Ok(()),
                }
            }
            CommandBody::Message { .. } | CommandBody::Cancel { .. } | CommandBody::Title { .. } => Ok(()),
        }
    }

    /// Takes a command in and waits until `done` says that an event shows it done.
    ///
    /// # Errors
    /// As [`Self::submit`], and `Pending`.
    pub async fn apply(
        &self,
        session: SessionId,
        command: Command,
        done: impl Fn(&Event) -> bool,
    ) -> Result<Arc<Event>, SessionsError> {
        let receipt = self.submit(session, command).await?;
        // Who could submit may see what comes of it.
        let mut cursor = self.cursor(None, session, receipt.seq).await?;
        let event = tokio::time::timeout(APPLY_TIMEOUT, async {
            while let Some(frame) = cursor.next().await? {
                if let Frame::Event(event) = frame
                    && done(&event)
                {
                    return Ok(event);
                }
            }
            Err(SessionsError::NotFound(session))
        });
        event.await.unwrap_or(Err(SessionsError::Pending))
    }

    /// A reader of the session's log, from after the event `after` on.
    ///
    /// # Errors
    /// `NotFound`, and those of the store.
    pub async fn watch(&self, user: &UserId, session: SessionId, after: u64) -> Result<Cursor, SessionsError> {
        self.cursor(Some(user), session, after).await
    }

    /// A reader for a user, or for whoever has sent a command to the session.
    async fn cursor(&self, user: Option<&UserId>, session: SessionId, after: u64) -> Result<Cursor, SessionsError> {
        // The feed before the summary: what is committed in between rings the feed.
        let feed = self.0.registry.feed(session);
        self.0.followers.follow(session, &feed);
        let summary = match user {
            Some(user) => self.get(user, session).await?,
            None => self.0.parts.store.summary(session).await?.ok_or(SessionsError::NotFound(session))?,
        };
        feed.observe(summary.last_seq);
        Ok(Cursor::new(self.0.parts.store.clone(), session, feed, after))
    }

    /// Deletes a session with all that belongs to it. A run in progress is broken off.
    ///
    /// # Errors
    /// `NotFound`, and those of the store.
    pub async fn delete(&self, user: &UserId, session: SessionId) -> Result<(), SessionsError> {
        match self.get(user, session).await {
            // The user's own, or it would not be found.
            Ok(_) | Err(SessionsError::Store(StoreError::Corrupt(_))) => {}
            Err(error) => return Err(error),
        }
        let store = &self.0.parts.store;
        let to_learn = self.0.to_learn(session).await;
        let deleted = store.delete(session).await;
        // It may be gone though that could not be made sure of: whoever watches it must not wait for ever.
        if deleted.is_ok() || matches!(store.summary(session).await, Ok(None)) {
            self.0.registry.close(session);
            self.note_deleted(format!("user:{user}"), session).await;
            self.0.learn_of_gone(to_learn);
        }
        Ok(deleted?)
    }

    async fn note_deleted(&self, by: String, session: SessionId) {
        let entry = Entry::new(Action::SessionDeleted).by(by).in_session(session);
        self.0.parts.audit.record(vec![entry]).await;
    }

    /// At most `limit` bytes of the whole output of a tool call, from `offset` on.
    ///
    /// # Errors
    /// `NotFound`, `OutputNotFound`, and those of the store.
    pub async fn output(
        &self,
        user: &UserId,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<OutputPart, SessionsError> {
        self.get(user, session).await?;
        let store = self.0.parts.store.as_ref();
        if let Some(part) = store.read_output(session, call, offset, limit).await? {
            return Ok(part);
        }
        // What was not shortened is in the log whole.
        let state = load_state(store, session).await?.state;
        let of_call = |message: &Arc<Message>| match message.as_ref() {
            Message::Tool(tool) if &tool.tool_call_id == call => Some(tool.content.clone()),
            _ => None,
        };
        let output = state.messages.iter().rev().find_map(of_call);
        let output = output.ok_or_else(|| SessionsError::OutputNotFound(call.clone()))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(output.len());
        let end = start.saturating_add(limit).min(output.len());
        Ok(OutputPart { bytes: output.as_bytes()[start..end].to_vec(), total: output.len() as u64 })
    }

    /// The seq of the oldest event that is kept.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn oldest_seq(&self, session: SessionId) -> Result<u64, SessionsError> {
        Ok(self.0.parts.store.read(session, 0, 1).await?.oldest_seq)
    }

    /// The name of this process in the leases of sessions.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.0.replica
    }

    /// Tasks of the runtime that sessions live on.
    #[must_use]
    pub fn tasks_alive(&self) -> usize {
        self.0.runtime.metrics().num_alive_tasks()
    }

    /// Whether something is remembered beyond sessions.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.0.parts.memory.is_some()
    }

    /// Sessions that this process works on now.
    #[must_use]
    pub fn owned(&self) -> usize {
        self.0.registry.owned()
    }

    /// Stops: no new commands and runs; runs in progress leave off at the next place where nothing is half done, and are
    /// gone on with by the next process. Returns when all owners have ended, or `grace` is over.
    pub async fn stop(&self, grace: Duration) {
        self.0.halt.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(
                "sessions did not come to rest in time; what was in progress is recovered at the next start"
            );
        }
    }

    /// Keeps up with other replicas no more. Called last, when nobody watches any session.
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    /// Whether [`Self::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.halt.is_cancelled()
    }

    fn refuse_when_stopping(&self) -> Result<(), SessionsError> {
        if self.is_stopping() { Err(SessionsError::Stopping) } else { Ok(()) }
    }
}

/// The message whose run is next: the first that interrupts, else the first.
fn next_message(entries: &[InboxEntry]) -> Option<&InboxEntry> {
    let mut messages = entries.iter().filter(|entry| entry.command.is_message());
    let first = messages.clone().next();
    let interrupts =
        messages.find(|e| matches!(e.command.body, CommandBody::Message { on_busy: OnBusy::Interrupt, .. }));
    interrupts.or(first)
}

impl Shared {
    /// Whether who sent an answer to an approval may give it. Asked at the door and again before it is logged.
    fn may_answer(&self, command: &Command, owner: &UserId) -> bool {
        let CommandBody::Resolve { approver, .. } = &command.body else { return false };
        match self.parts.approval_by {
            ApprovalBy::Owner => command.by == *owner,
            ApprovalBy::Approver => *approver && command.by != *owner,
        }
    }

    /// A session that is about to be deleted, if there is something in it that was not looked at for memories.
    async fn to_learn(&self, session: SessionId) -> Option<SessionState> {
        self.parts.memory.as_ref()?;
        let summary = self.parts.store.summary(session).await.ok().flatten();
        summary.filter(|summary| summary.to_learn)?;
        Some(load_state(self.parts.store.as_ref(), session).await.ok()?.state)
    }

    fn learn_of_gone(self: &Arc<Self>, state: Option<SessionState>) {
        if let Some(state) = state {
            self.tasks.spawn_on(learning::learn_of_gone(self.clone(), state), &self.runtime);
        }
    }

    /// Wakes the session's owner; makes one if there is none.
    fn ring(self: &Arc<Self>, session: SessionId) {
        if let Some(place) = self.registry.ring(session)
            && !self.halt.is_cancelled()
        {
            self.tasks.spawn_on(owner::own(self.clone(), session, place), &self.runtime);
        }
    }
}
