//! Sessions, commands, events, memories and a writer for tests of stores.

use std::{sync::Arc, time::Duration};

use k8sops_core::{
    CommandBody, CommandId, CommandReceipt, EventAuthor, EventBody, EventDraft, LogCommit, LogLineage, MemoryId,
    MemoryKind, MessageId, NewCommandCommit, OnBusy, RequestContext, RunFinished, RunId, RunOutcome, RunStarted,
    SessionCommand, SessionCreated, SessionEvent, SessionId, SessionLease, SessionOrigin, SessionSettings,
    SessionState, SessionStore, SessionWarning, StoreError, Timestamp, TokenUsage, UserId, UserMemory,
    UserMessageEvent, load_state,
};

/// A user.
#[must_use]
pub fn test_user(name: &str) -> UserId {
    name.parse().expect("a valid user id")
}

/// A `session_created` at a number of milliseconds since the epoch.
#[must_use]
pub fn session_created_at(session: SessionId, user: &UserId, millis: i64) -> SessionEvent {
    let body = SessionCreated {
        user_id: user.clone(),
        title: None,
        settings: SessionSettings::for_model("p", "m"),
        by: EventAuthor::System,
        origin: SessionOrigin::User,
    };
    let draft = EventDraft { ts: Timestamp::from_millis(millis), run_id: None, body: EventBody::SessionCreated(body) };
    draft.into_event(session, 1)
}

/// Creates a session of the user `anna`.
pub async fn create_test_session(store: &dyn SessionStore) -> SessionId {
    let session = SessionId::new();
    let created = session_created_at(session, &test_user("anna"), 1_000);
    store.create_session(&created).await.expect("the session is created");
    session
}

/// The events of `drafts` after `state`, and the state after them.
#[must_use]
pub fn fold_drafts(state: &SessionState, drafts: Vec<EventDraft>) -> (Vec<Arc<SessionEvent>>, SessionState) {
    let mut after = state.clone();
    let mut events = Vec::new();
    for draft in drafts {
        let event = draft.into_event(state.summary.session_id, after.last_seq() + 1);
        after.apply_event(&event);
        events.push(Arc::new(event));
    }
    (events, after)
}

/// A small event.
#[must_use]
pub fn warning_draft(message: &str) -> EventDraft {
    EventDraft::new(EventBody::Warning(SessionWarning::new("note", message)))
}

/// The first two events of a run.
#[must_use]
pub fn run_start_drafts(run: RunId, message_id: MessageId, content: &str) -> Vec<EventDraft> {
    let message = UserMessageEvent { message_id, content: content.into(), attachments: Vec::new(), command_id: None };
    let started = RunStarted {
        provider: "p".into(),
        model: "m".into(),
        attempt: 1,
        memory: false,
        cause: RequestContext::default(),
    };
    vec![
        EventDraft::in_run(run, EventBody::UserMessage(message)),
        EventDraft::in_run(run, EventBody::RunStarted(started)),
    ]
}

/// The three events of a run.
#[must_use]
pub fn run_drafts(content: &str) -> Vec<EventDraft> {
    let run = RunId::new();
    let finished = RunFinished { outcome: RunOutcome::Completed, usage: TokenUsage::default(), duration_ms: 1 };
    let mut drafts = run_start_drafts(run, MessageId::new(), content);
    drafts.push(EventDraft::in_run(run, EventBody::RunFinished(finished)));
    drafts
}

/// A command of the user `anna`. Commands with the same body have the same fingerprint.
#[must_use]
pub fn test_command(id: &str, body: CommandBody) -> SessionCommand {
    let command_id: CommandId = id.parse().expect("a valid command id");
    let fingerprint = serde_json::to_string(&body).expect("commands serialize");
    SessionCommand { command_id, fingerprint, by: test_user("anna"), body }
}

/// A message.
#[must_use]
pub fn message_body(content: &str) -> CommandBody {
    message_body_with(content, OnBusy::Enqueue)
}

/// A message that is rejected if the session is busy.
#[must_use]
pub fn message_body_if_idle(content: &str) -> CommandBody {
    message_body_with(content, OnBusy::Reject)
}

fn message_body_with(content: &str, on_busy: OnBusy) -> CommandBody {
    CommandBody::Message {
        message_id: MessageId::new(),
        run_id: RunId::new(),
        content: content.into(),
        attachments: Vec::new(),
        on_busy,
        cause: RequestContext::default(),
    }
}

/// Whether a commit writes a checkpoint of the state before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointWrite {
    /// The commit writes a checkpoint.
    Write,
    /// The commit writes no checkpoint.
    Skip,
}

impl CheckpointWrite {
    /// `Write` if the condition holds.
    #[must_use]
    pub fn when(condition: bool) -> Self {
        if condition { Self::Write } else { Self::Skip }
    }
}

/// The owner of a session, who knows its state.
pub struct SessionWriter<'a> {
    /// The store that it writes to.
    pub store: &'a dyn SessionStore,
    /// The lease under which it writes.
    pub lease: SessionLease,
    /// The state as it believes it to be.
    pub state: SessionState,
    /// The chain value there.
    pub lineage: Option<LogLineage>,
}

impl<'a> SessionWriter<'a> {
    /// Acquires the lease of a session, and loads its state.
    pub async fn acquire(store: &'a dyn SessionStore, session: SessionId, owner: &str) -> Self {
        let lease = store.acquire_lease(session, owner, Duration::from_secs(60)).await.expect("the session is free");
        let loaded = load_state(store, session).await.expect("the session can be read");
        Self { store, lease, state: loaded.state, lineage: loaded.head.lineage }
    }

    /// Commits events.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn append(&mut self, drafts: Vec<EventDraft>) -> Result<(), StoreError> {
        self.commit(drafts, &[], CheckpointWrite::Skip).await
    }

    /// Commits events, consumes commands and writes a checkpoint.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn commit(
        &mut self,
        drafts: Vec<EventDraft>,
        consumed: &[u64],
        checkpoint: CheckpointWrite,
    ) -> Result<(), StoreError> {
        let (events, after) = fold_drafts(&self.state, drafts);
        let commit = LogCommit {
            consumed,
            checkpoint: (checkpoint == CheckpointWrite::Write).then_some(&self.state),
            ..self.next_commit(&events, &after)
        };
        self.lineage = self.store.commit_events(commit).await?;
        self.state = after;
        Ok(())
    }

    /// Accepts a command and commits events with it. Returns its receipt; `None` if it was declined.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn commit_new_command(
        &mut self,
        command: &SessionCommand,
        drafts: Vec<EventDraft>,
    ) -> Result<Option<CommandReceipt>, StoreError> {
        let (events, after) = fold_drafts(&self.state, drafts);
        match self.store.commit_new_command(self.next_commit(&events, &after), command).await? {
            NewCommandCommit::Declined => Ok(None),
            NewCommandCommit::Committed { receipt, lineage } => {
                (self.lineage, self.state) = (lineage, after);
                Ok(Some(receipt))
            }
        }
    }

    /// Returns the commit of events, after which the state is `after`.
    pub(super) fn next_commit<'b>(&self, events: &'b [Arc<SessionEvent>], after: &'b SessionState) -> LogCommit<'b> {
        LogCommit {
            session: self.lease.session,
            epoch: self.lease.epoch,
            expected_seq: self.state.last_seq(),
            expected_lineage: self.lineage,
            events,
            consumed: &[],
            summary: &after.summary,
            checkpoint: None,
        }
    }
}

/// Reads a log from after `after` to its end, in pages of `limit`.
pub async fn read_log(
    store: &dyn SessionStore,
    session: SessionId,
    mut after: u64,
    limit: usize,
) -> Vec<Arc<SessionEvent>> {
    let mut all = Vec::new();
    loop {
        let page = store.read_events(session, after, limit).await.expect("the log can be read");
        assert!(page.events.len() <= limit.max(1), "a page has at most {limit} events");
        let Some(last) = page.events.last() else { return all };
        after = last.seq;
        all.extend(page.events);
    }
}

/// Acquires the lease of a session as soon as the lease of its owner has expired.
pub(super) async fn acquire_when_free(
    store: &dyn SessionStore,
    session: SessionId,
    owner: &str,
    ttl: Duration,
) -> SessionLease {
    loop {
        match store.acquire_lease(session, owner, ttl).await {
            Ok(lease) => break lease,
            Err(StoreError::Held(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Returns a memory that says `content`.
#[must_use]
pub fn test_memory(content: &str) -> UserMemory {
    let now = Timestamp::now();
    UserMemory {
        id: MemoryId::new(),
        kind: MemoryKind::Semantic,
        content: content.into(),
        tags: vec!["shop".into()],
        confidence: 0.75,
        source: None,
        created_at: now,
        updated_at: now,
        expires_at: None,
        superseded_by: None,
    }
}
