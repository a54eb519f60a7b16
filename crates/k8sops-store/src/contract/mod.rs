//! What every store promises, as a suite. Each rule takes an empty store and fails by a panic that says which part of the
//! promise is broken.
//!
//! ```text
//! for rule in contract::RULES { (rule.check)(Arc::new(my_store())).await }
//! ```

mod inbox;
mod index;
mod memories;
mod outputs;
mod usage;
mod writes;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use k8sops_core::{
    CommandBody, CommandId, EventAuthor, EventBody, EventDraft, LogCommit, MessageId, OnBusy, RequestContext,
    RunFinished, RunId, RunOutcome, RunStarted, SessionCommand, SessionCreated, SessionEvent, SessionId, SessionLease,
    SessionSettings, SessionState, SessionStore, SessionWarning, StoreError, Timestamp, TokenUsage, UserId,
    UserMessageEvent, load_state,
};

/// A rule at work.
type Checking = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A rule and its name.
pub struct Rule {
    /// As a sentence.
    pub name: &'static str,
    /// Panics when the store breaks it.
    pub check: fn(Arc<dyn SessionStore>) -> Checking,
}

macro_rules! rules {
    ($($room:ident::$name:ident),+ $(,)?) => {
        /// All rules.
        pub const RULES: &[Rule] =
            &[$(Rule { name: stringify!($name), check: |store| Box::pin($room::$name(store)) }),+];
    };
}

rules![
    writes::what_is_committed_is_read_back_from_every_cursor,
    writes::an_old_epoch_writes_nothing,
    writes::a_released_lease_writes_nothing,
    writes::a_wrong_expected_seq_writes_nothing,
    writes::events_that_do_not_follow_the_head_are_refused,
    writes::of_two_writers_at_the_same_seq_one_wins,
    writes::a_lease_is_held_until_it_runs_out,
    writes::the_checkpoint_and_what_follows_is_the_fold_of_the_log,
    inbox::the_inbox_keeps_its_order_and_is_consumed_with_the_commit,
    inbox::a_command_is_taken_once_and_its_receipt_is_kept,
    inbox::a_summary_says_whether_a_message_waits,
    inbox::a_busy_session_refuses_a_message_that_asks_for_it,
    inbox::a_full_inbox_refuses_more,
    index::a_deleted_session_is_gone_from_everywhere,
    index::only_a_session_without_work_is_deleted_when_that_is_asked_for,
    index::an_id_is_taken_once,
    index::the_list_has_the_newest_activity_first,
    index::sessions_with_work_are_found_and_others_are_not,
    index::a_session_that_never_was_is_not_found,
    memories::memories_belong_to_their_user_and_outlive_their_session,
    memories::of_two_who_write_memories_at_once_one_has_to_read_again,
    memories::the_nearest_memories_are_found_and_only_those_that_hold,
    memories::vectors_of_two_spaces_are_never_mixed_and_go_with_their_memories,
    memories::the_care_for_vectors_is_claimed_and_given_back,
    usage::what_is_used_is_kept_by_user_and_day_and_outlives_its_session,
    outputs::whole_outputs_are_read_in_parts_and_gone_with_their_session,
    outputs::the_newest_outputs_take_the_room_of_the_oldest,
    outputs::the_key_of_a_deployment_stays_the_same,
];

/// The settings of sessions in tests.
#[must_use]
pub fn settings() -> SessionSettings {
    SessionSettings::for_model("p", "m")
}

/// A user in tests.
#[must_use]
pub fn user(name: &str) -> UserId {
    name.parse().expect("a valid user id")
}

/// A `session_created` at a point in time.
#[must_use]
pub fn created(session: SessionId, user: &UserId, at: i64) -> SessionEvent {
    let body = SessionCreated { user_id: user.clone(), title: None, settings: settings(), by: EventAuthor::System };
    EventDraft { ts: Timestamp::from_millis(at), run_id: None, body: EventBody::SessionCreated(body) }
        .into_event(session, 1)
}

/// A new session of the user `anna`.
pub async fn new_session(store: &dyn SessionStore) -> SessionId {
    let session = SessionId::new();
    store.create_session(&created(session, &user("anna"), 1_000)).await.expect("a new session");
    session
}

/// The events of `bodies` after the head of `state`, and the state after them.
#[must_use]
pub fn follow(state: &SessionState, drafts: Vec<EventDraft>) -> (Vec<Arc<SessionEvent>>, SessionState) {
    let mut after = state.clone();
    let mut events = Vec::new();
    for draft in drafts {
        let event = draft.into_event(state.summary.session_id, after.last_seq() + 1);
        after.apply_event(&event);
        events.push(Arc::new(event));
    }
    (events, after)
}

/// Something small to log.
#[must_use]
pub fn note(message: &str) -> EventDraft {
    EventDraft::new(EventBody::Warning(SessionWarning::new("note", message)))
}

/// The events of a whole run.
#[must_use]
pub fn run(content: &str) -> Vec<EventDraft> {
    let run = RunId::new();
    let message = UserMessageEvent { message_id: MessageId::new(), content: content.into(), command_id: None };
    let started = RunStarted {
        provider: "p".into(),
        model: "m".into(),
        attempt: 1,
        memory: false,
        cause: RequestContext::default(),
    };
    let finished = RunFinished { outcome: RunOutcome::Completed, usage: TokenUsage::default(), duration_ms: 1 };
    vec![
        EventDraft::in_run(run, EventBody::UserMessage(message)),
        EventDraft::in_run(run, EventBody::RunStarted(started)),
        EventDraft::in_run(run, EventBody::RunFinished(finished)),
    ]
}

/// A writer that knows the state of its session.
pub struct Pen<'a> {
    store: &'a dyn SessionStore,
    /// The lease that it writes under.
    pub lease: SessionLease,
    /// The state as it believes it to be.
    pub state: SessionState,
}

impl<'a> Pen<'a> {
    /// Takes the session.
    pub async fn take(store: &'a dyn SessionStore, session: SessionId, owner: &str) -> Self {
        let lease = store.acquire_lease(session, owner, Duration::from_secs(60)).await.expect("the session is free");
        let state = load_state(store, session).await.expect("the session can be read").state;
        Self { store, lease, state }
    }

    /// Commits, and moves on if that succeeds.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn write(
        &mut self,
        drafts: Vec<EventDraft>,
        consumed: &[u64],
        checkpoint: bool,
    ) -> Result<(), StoreError> {
        let (events, after) = follow(&self.state, drafts);
        let commit = LogCommit {
            session: self.lease.session,
            epoch: self.lease.epoch,
            expected_seq: self.state.last_seq(),
            events: &events,
            consumed,
            summary: &after.summary,
            checkpoint: checkpoint.then_some(&self.state),
        };
        self.store.commit_events(commit).await?;
        self.state = after;
        Ok(())
    }
}

/// A command.
#[must_use]
pub fn command(id: &str, body: CommandBody) -> SessionCommand {
    let command_id: CommandId = id.parse().expect("a valid command id");
    let fingerprint = serde_json::to_string(&body).expect("commands serialise");
    SessionCommand { command_id, fingerprint, by: user("anna"), body }
}

/// A message.
#[must_use]
pub fn message(content: &str) -> CommandBody {
    CommandBody::Message {
        message_id: MessageId::new(),
        run_id: RunId::new(),
        content: content.into(),
        on_busy: OnBusy::Enqueue,
        cause: RequestContext::default(),
    }
}

/// A message that is refused when the session is busy.
#[must_use]
pub fn message_if_idle(content: &str) -> CommandBody {
    let (message_id, run_id) = (MessageId::new(), RunId::new());
    CommandBody::Message {
        message_id,
        run_id,
        content: content.into(),
        on_busy: OnBusy::Reject,
        cause: Default::default(),
    }
}

/// The whole log, read in pages of `limit`.
pub async fn log(store: &dyn SessionStore, session: SessionId, mut after: u64, limit: usize) -> Vec<Arc<SessionEvent>> {
    let mut all = Vec::new();
    loop {
        let page = store.read_events(session, after, limit).await.expect("the log can be read");
        assert!(page.events.len() <= limit.max(1), "a page has at most {limit} events");
        let Some(last) = page.events.last() else { return all };
        after = last.seq;
        all.extend(page.events);
    }
}

/// Takes the session when its lease has run out.
async fn acquire_in_a_while(store: &dyn SessionStore, session: SessionId, owner: &str, ttl: Duration) -> SessionLease {
    loop {
        match store.acquire_lease(session, owner, ttl).await {
            Ok(lease) => break lease,
            Err(StoreError::Held(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(other) => panic!("{other}"),
        }
    }
}
