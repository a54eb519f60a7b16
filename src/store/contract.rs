//! What every store promises, as a suite. Each rule takes an empty store and fails by a panic that says which part of the
//! promise is broken.
//!
//! ```text
//! for rule in contract::RULES { (rule.check)(Arc::new(my_store())).await }
//! ```

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::session::{
    Actor, Command, CommandBody, CommandId, Commit, Epoch, Event, EventBody, EventDraft, INBOX_LIMIT, INBOX_LIMIT_ALL,
    Lease, ListCursor, MessageId, OnBusy, Outcome, Receipt, RunFinished, RunId, RunStarted, SessionCreated, SessionId,
    SessionState, SessionStore, Settings, StoreError, Timestamp, Usage, UserId, UserMessageEvent, Warning, load_state,
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
    ($($name:ident),+ $(,)?) => {
        /// All rules.
        pub const RULES: &[Rule] =
            &[$(Rule { name: stringify!($name), check: |store| Box::pin($name(store)) }),+];
    };
}

rules![
    what_is_committed_is_read_back_from_every_cursor,
    an_old_epoch_writes_nothing,
    a_released_lease_writes_nothing,
    a_wrong_expected_seq_writes_nothing,
    events_that_do_not_follow_the_head_are_refused,
    of_two_writers_at_the_same_seq_one_wins,
    a_lease_is_held_until_it_runs_out,
    the_checkpoint_and_what_follows_is_the_fold_of_the_log,
    the_inbox_keeps_its_order_and_is_consumed_with_the_commit,
    a_command_is_taken_once_and_its_receipt_is_kept,
    a_summary_says_whether_a_message_waits,
    a_busy_session_refuses_a_message_that_asks_for_it,
    a_full_inbox_refuses_more,
    a_deleted_session_is_gone_from_everywhere,
    only_a_session_without_work_is_deleted_when_that_is_asked_for,
    an_id_is_taken_once,
    the_list_has_the_newest_activity_first,
    sessions_with_work_are_found_and_others_are_not,
    a_session_that_never_was_is_not_found,
];

/// The settings of sessions in tests.
#[must_use]
pub fn settings() -> Settings {
    Settings { provider: "p".into(), model: "m".into(), temperature: None, max_tokens: None }
}

/// A user in tests.
#[must_use]
pub fn user(name: &str) -> UserId {
    name.parse().expect("a valid user id")
}

/// A `session_created` at a point in time.
#[must_use]
pub fn created(session: SessionId, user: &UserId, at: i64) -> Event {
    let body = SessionCreated { user_id: user.clone(), title: None, settings: settings(), by: Actor::System };
    EventDraft { ts: Timestamp::from_millis(at), run_id: None, body: EventBody::SessionCreated(body) }.at(session, 1)
}

/// A new session of the user `anna`.
pub async fn new_session(store: &dyn SessionStore) -> SessionId {
    let session = SessionId::new();
    store.create(&created(session, &user("anna"), 1_000)).await.expect("a new session");
    session
}

/// The events of `bodies` after the head of `state`, and the state after them.
#[must_use]
pub fn follow(state: &SessionState, drafts: Vec<EventDraft>) -> (Vec<Arc<Event>>, SessionState) {
    let mut after = state.clone();
    let mut events = Vec::new();
    for draft in drafts {
        let event = draft.at(state.summary.session_id, after.last_seq() + 1);
        after.apply(&event);
        events.push(Arc::new(event));
    }
    (events, after)
}

/// Something small to log.
#[must_use]
pub fn note(message: &str) -> EventDraft {
    EventDraft::new(EventBody::Warning(Warning { code: "note".into(), message: message.into() }))
}

/// The events of a whole run.
#[must_use]
pub fn run(content: &str) -> Vec<EventDraft> {
    let run = RunId::new();
    let message = UserMessageEvent { message_id: MessageId::new(), content: content.into(), command_id: None };
    let started = RunStarted { provider: "p".into(), model: "m".into(), attempt: 1 };
    let finished = RunFinished { outcome: Outcome::Completed, usage: Usage::default(), duration_ms: 1 };
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
    pub lease: Lease,
    /// The state as it believes it to be.
    pub state: SessionState,
}

impl<'a> Pen<'a> {
    /// Takes the session.
    pub async fn take(store: &'a dyn SessionStore, session: SessionId, owner: &str) -> Self {
        let lease = store.acquire(session, owner, Duration::from_secs(60)).await.expect("the session is free");
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
        let commit = Commit {
            session: self.lease.session,
            epoch: self.lease.epoch,
            expected_seq: self.state.last_seq(),
            events: &events,
            consumed,
            summary: &after.summary,
            checkpoint: checkpoint.then_some(&self.state),
        };
        self.store.commit(commit).await?;
        self.state = after;
        Ok(())
    }
}

/// A command.
#[must_use]
pub fn command(id: &str, body: CommandBody) -> Command {
    let command_id: CommandId = id.parse().expect("a valid command id");
    let fingerprint = serde_json::to_string(&body).expect("commands serialise");
    Command { command_id, fingerprint, by: user("anna"), body }
}

/// A message.
#[must_use]
pub fn message(content: &str) -> CommandBody {
    CommandBody::Message {
        message_id: MessageId::new(),
        run_id: RunId::new(),
        content: content.into(),
        on_busy: OnBusy::Enqueue,
    }
}

/// A message that is refused when the session is busy.
#[must_use]
pub fn message_if_idle(content: &str) -> CommandBody {
    let (message_id, run_id) = (MessageId::new(), RunId::new());
    CommandBody::Message { message_id, run_id, content: content.into(), on_busy: OnBusy::Reject }
}

/// The whole log, read in pages of `limit`.
pub async fn log(store: &dyn SessionStore, session: SessionId, mut after: u64, limit: usize) -> Vec<Arc<Event>> {
    let mut all = Vec::new();
    loop {
        let page = store.read(session, after, limit).await.expect("the log can be read");
        assert!(page.events.len() <= limit.max(1), "a page has at most {limit} events");
        let Some(last) = page.events.last() else { return all };
        after = last.seq;
        all.extend(page.events);
    }
}

async fn what_is_committed_is_read_back_from_every_cursor(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    for n in 0..20 {
        let drafts = (0..n % 4).map(|m| note(&format!("{n}.{m} ä\n\"{}", "x".repeat(n * 200)))).collect();
        pen.write(drafts, &[], n % 7 == 6).await.expect("a commit");
    }
    let all = log(store, session, 0, 1000).await;
    assert_eq!(all.len() as u64, pen.state.last_seq());
    for after in 0..=all.len() {
        let rest = &all[after..];
        for limit in [1, 2, 3, 7, 1000] {
            assert_eq!(log(store, session, after as u64, limit).await, rest, "after {after} in pages of {limit}");
        }
    }
    let beyond = store.read(session, 10_000, 10).await.expect("a cursor beyond the head is no error");
    assert!(beyond.events.is_empty());
    assert_eq!((beyond.last_seq, beyond.oldest_seq), (pen.state.last_seq(), 1));
    assert_eq!(store.summary(session).await.expect("the index"), Some(pen.state.summary));
}

async fn an_old_epoch_writes_nothing(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut late = Pen::take(store, session, "a").await;
    store.release(late.lease).await.expect("released");
    let mut new = Pen::take(store, session, "b").await;
    assert!(new.lease.epoch > late.lease.epoch, "an epoch only grows");
    let refused = late.write(vec![note("late")], &[], true).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    let refused = store.renew(late.lease, Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    // Giving up what is lost is no error, and takes nothing from the one who has it.
    store.release(late.lease).await.expect("no error");
    new.write(vec![note("new")], &[], false).await.expect("the owner writes");
    assert_eq!(log(store, session, 1, 10).await.len(), 1);
}

async fn a_released_lease_writes_nothing(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    store.release(pen.lease).await.expect("released");
    let refused = pen.write(vec![note("late")], &[], false).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    let never = Lease { session, epoch: Epoch(999) };
    let refused = store.renew(never, Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
}

async fn a_wrong_expected_seq_writes_nothing(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    let before = pen.state.clone();
    pen.write(vec![note("one")], &[], false).await.expect("a commit");
    let after = std::mem::replace(&mut pen.state, before);
    let refused = pen.write(vec![note("again")], &[], false).await;
    assert!(matches!(refused, Err(StoreError::SeqConflict { expected: 1, found: 2, .. })), "{refused:?}");
    assert_eq!(load_state(store, session).await.expect("the state").state, after);
}

async fn events_that_do_not_follow_the_head_are_refused(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let pen = Pen::take(store, session, "a").await;
    for seqs in [&[1][..], &[3], &[2, 4], &[2, 2]] {
        let events: Vec<_> = seqs.iter().map(|seq| Arc::new(note("x").at(session, *seq))).collect();
        let commit = Commit {
            session,
            epoch: pen.lease.epoch,
            expected_seq: 1,
            events: &events,
            consumed: &[],
            summary: &pen.state.summary,
            checkpoint: None,
        };
        let refused = store.commit(commit).await;
        assert!(matches!(refused, Err(StoreError::SeqConflict { .. })), "{seqs:?}: {refused:?}");
    }
    assert_eq!(log(store, session, 0, 10).await.len(), 1);
}

async fn of_two_writers_at_the_same_seq_one_wins(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut one = Pen::take(store, session, "a").await;
    for n in 0..10 {
        let mut other = Pen { store, lease: one.lease, state: one.state.clone() };
        let (first, second) =
            tokio::join!(one.write(vec![note("one")], &[], false), other.write(vec![note("other")], &[], false));
        assert!(first.is_ok() != second.is_ok(), "round {n}: {first:?} {second:?}");
        one.state = load_state(store, session).await.expect("the state").state;
    }
    assert_eq!(log(store, session, 0, 100).await.len(), 11);
}

async fn a_lease_is_held_until_it_runs_out(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let long = Duration::from_secs(60);
    let lease = store.acquire(session, "a", Duration::from_millis(50)).await.expect("free");
    store.renew(lease, long).await.expect("renewed");
    let held = store.acquire(session, "b", long).await;
    assert!(matches!(held, Err(StoreError::Held(_))), "{held:?}");
    store.renew(lease, Duration::from_millis(1)).await.expect("renewed");
    let taken = acquire_in_a_while(store, session, "b", long).await;
    assert!(taken.epoch > lease.epoch);
    assert!(matches!(store.renew(lease, long).await, Err(StoreError::Fenced { .. })));
}

async fn the_checkpoint_and_what_follows_is_the_fold_of_the_log(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    assert_eq!(store.checkpoint(session).await.expect("no checkpoint"), None);
    for n in 0..12 {
        let before = pen.state.clone();
        let checkpoint = n % 3 == 2;
        pen.write(run(&format!("turn {n}")), &[], checkpoint).await.expect("a commit");
        if checkpoint {
            assert_eq!(store.checkpoint(session).await.expect("a checkpoint"), Some(before));
        }
        assert_eq!(load_state(store, session).await.expect("the state").state, pen.state, "after turn {n}");
    }
    let mut empty = Pen { store, lease: pen.lease, state: pen.state.clone() };
    empty.write(Vec::new(), &[], true).await.expect("a checkpoint alone");
    assert_eq!(store.checkpoint(session).await.expect("a checkpoint"), Some(pen.state));
}

async fn the_inbox_keeps_its_order_and_is_consumed_with_the_commit(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    for n in 0..5 {
        let receipt = store.submit(session, command(&format!("c{n}"), message("hi"))).await.expect("taken");
        assert_eq!((receipt.seq, receipt.duplicate), (1, false));
    }
    let entries = store.inbox(session).await.expect("the inbox");
    let ids: Vec<_> = entries.iter().map(|entry| entry.command.command_id.as_str()).collect();
    assert_eq!(ids, ["c0", "c1", "c2", "c3", "c4"]);
    assert!(entries.is_sorted_by_key(|entry| entry.position));
    // A commit that is refused consumes nothing.
    let head = std::mem::replace(&mut pen.state.summary.last_seq, 7);
    assert!(pen.write(vec![note("x")], &[entries[0].position], false).await.is_err());
    pen.state.summary.last_seq = head;
    assert_eq!(store.inbox(session).await.expect("the inbox").len(), 5);
    pen.write(vec![note("x")], &[entries[1].position, entries[3].position], true).await.expect("a commit");
    let left: Vec<_> = store.inbox(session).await.expect("the inbox");
    assert_eq!(left, [entries[0].clone(), entries[2].clone(), entries[4].clone()]);
    // Without an event too.
    pen.write(Vec::new(), &[entries[0].position], false).await.expect("a commit");
    store.submit(session, command("c5", message("hi"))).await.expect("taken");
    let left = store.inbox(session).await.expect("the inbox");
    assert!(left.last().is_some_and(|new| new.position > entries[4].position), "positions are not used again");
    assert_eq!(left.last().map(|new| new.accepted_seq), Some(2));
}

async fn a_command_is_taken_once_and_its_receipt_is_kept(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    let first = command("c1", message("hi"));
    let receipt = store.submit(session, first.clone()).await.expect("taken");
    let position = store.inbox(session).await.expect("the inbox")[0].position;
    let again = |receipt: &Receipt| Receipt { duplicate: true, ..receipt.clone() };
    // While it waits, and after it was consumed; with ids of its own the second time, as a new request has.
    for _ in 0..2 {
        let CommandBody::Message { content, .. } = &first.body else { unreachable!("it is a message") };
        let second = Command { body: message(content), ..first.clone() };
        assert_eq!(store.submit(session, second).await.expect("known"), again(&receipt));
        let other = command("c1", CommandBody::Cancel { run_id: None });
        let refused = store.submit(session, other).await;
        assert!(matches!(refused, Err(StoreError::CommandIdReused)), "{refused:?}");
        let kept = store.receipt(session, &first.command_id).await.expect("receipts");
        assert_eq!(kept.as_ref(), Some(&receipt));
        pen.write(run("hi"), &[position], true).await.expect("a commit");
    }
    assert!(store.inbox(session).await.expect("the inbox").is_empty());
}

async fn a_summary_says_whether_a_message_waits(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let waits = async |expected: bool, when: &str| {
        let summary = store.summary(session).await.expect("the index").expect("a summary");
        assert_eq!(summary.waiting, expected, "{when}");
        assert_eq!(store.list(&user("anna"), None, 10).await.expect("the index"), [summary], "listed: {when}");
    };
    waits(false, "a new session").await;
    store.submit(session, command("cancel", CommandBody::Cancel { run_id: None })).await.expect("taken");
    waits(false, "a cancel is no message").await;
    store.submit(session, command("c1", message("hi"))).await.expect("taken");
    waits(true, "before anybody holds the session").await;
    let mut pen = Pen::take(store, session, "a").await;
    waits(true, "held, not taken up").await;
    store.release(pen.lease).await.expect("released");
    waits(true, "given up again").await;
    pen = Pen::take(store, session, "b").await;
    let positions: Vec<u64> = store.inbox(session).await.expect("the inbox").iter().map(|e| e.position).collect();
    pen.write(vec![note("x")], &positions[..1], false).await.expect("a commit");
    waits(true, "the cancel was taken up").await;
    // A writer may have begun from a summary that was told of the message.
    pen.state.summary.waiting = true;
    pen.write(run("hi"), &positions[1..], true).await.expect("a commit");
    waits(false, "taken up").await;
    store.submit(session, command("c2", message("again"))).await.expect("taken");
    waits(true, "the next").await;
}

async fn a_busy_session_refuses_a_message_that_asks_for_it(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    store.submit(session, command("cancel", CommandBody::Cancel { run_id: None })).await.expect("taken");
    store.submit(session, command("c1", message_if_idle("hi"))).await.expect("idle: a cancel is no run");
    let refused = store.submit(session, command("c2", message_if_idle("hi"))).await;
    assert!(matches!(refused, Err(StoreError::Busy(_))), "a message waits: {refused:?}");
    let positions: Vec<u64> = store.inbox(session).await.expect("the inbox").iter().map(|e| e.position).collect();
    let mut events = run("hi");
    let finished = events.pop().expect("three events");
    pen.write(events, &positions, false).await.expect("a commit");
    let refused = store.submit(session, command("c2", message_if_idle("hi"))).await;
    assert!(matches!(refused, Err(StoreError::Busy(_))), "a run is open: {refused:?}");
    pen.write(vec![finished], &[], false).await.expect("a commit");
    store.submit(session, command("c2", message_if_idle("hi"))).await.expect("idle again");
}

async fn a_full_inbox_refuses_more(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    for n in 0..INBOX_LIMIT {
        store.submit(session, command(&format!("c{n}"), message("hi"))).await.expect("taken");
    }
    let refused = store.submit(session, command("one-more", message("hi"))).await;
    assert!(matches!(refused, Err(StoreError::InboxFull(INBOX_LIMIT))), "{refused:?}");
    assert_eq!(store.receipt(session, &command("one-more", message("hi")).command_id).await.expect("receipts"), None);
    // However many messages wait, a cancel finds room; even that has an end.
    for n in INBOX_LIMIT..INBOX_LIMIT_ALL {
        store.submit(session, command(&format!("c{n}"), CommandBody::Cancel { run_id: None })).await.expect("taken");
    }
    let refused = store.submit(session, command("too-many", CommandBody::Cancel { run_id: None })).await;
    assert!(matches!(refused, Err(StoreError::InboxFull(INBOX_LIMIT_ALL))), "{refused:?}");
    store.submit(session, command("c0", message("hi"))).await.expect_err("other ids, other fingerprint");
}

async fn a_deleted_session_is_gone_from_everywhere(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let (session, other) = (new_session(store).await, new_session(store).await);
    let mut pen = Pen::take(store, session, "a").await;
    store.submit(session, command("c1", message("hi"))).await.expect("taken");
    store.delete(session).await.expect("deleted");
    let gone = |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    gone(pen.write(vec![note("x")], &[], false).await);
    gone(store.read(session, 0, 1).await.map(drop));
    gone(store.inbox(session).await.map(drop));
    gone(store.checkpoint(session).await.map(drop));
    gone(store.submit(session, command("c2", message("hi"))).await.map(drop));
    gone(store.acquire(session, "b", Duration::from_secs(1)).await.map(drop));
    gone(store.delete(session).await);
    store.release(pen.lease).await.expect("giving up what is gone is no error");
    assert_eq!(store.summary(session).await.expect("the index"), None);
    assert_eq!(store.count(&user("anna")).await.expect("the index"), 1);
    assert!(store.unfinished().await.expect("the index").is_empty());
    let left = store.list(&user("anna"), None, 10).await.expect("the index");
    assert_eq!(left.iter().map(|s| s.session_id).collect::<Vec<_>>(), [other]);
}

async fn only_a_session_without_work_is_deleted_when_that_is_asked_for(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    store.submit(session, command("c", message("hi"))).await.expect("taken");
    assert!(!store.delete_idle(session).await.expect("asked"), "a message waits");
    let waiting = store.inbox(session).await.expect("the inbox")[0].position;
    let mut pen = Pen::take(store, session, "a").await;
    let mut events = run("hi");
    let finished = events.pop().expect("three events");
    pen.write(events, &[waiting], false).await.expect("a commit");
    assert!(!store.delete_idle(session).await.expect("asked"), "a run is open");
    pen.write(vec![finished], &[], false).await.expect("a commit");
    assert!(store.delete_idle(session).await.expect("asked"), "it has no work");
    assert_eq!(store.summary(session).await.expect("the index"), None);
    assert!(matches!(store.delete_idle(session).await, Err(StoreError::NotFound(_))));
}

async fn an_id_is_taken_once(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    for name in ["anna", "bert"] {
        let again = store.create(&created(session, &user(name), 5)).await;
        assert!(matches!(again, Err(StoreError::Exists(_))), "{again:?}");
    }
    assert_eq!(store.count(&user("bert")).await.expect("the index"), 0);
}

async fn the_list_has_the_newest_activity_first(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let (anna, bert) = (user("anna"), user("bert"));
    let mut sessions = Vec::new();
    for n in 0..7 {
        let session = SessionId::new();
        // Two at the same time: then the greater id comes first.
        store.create(&created(session, &anna, 1_000 + n / 2)).await.expect("a new session");
        sessions.push((Timestamp::from_millis(1_000 + n / 2), session));
    }
    store.create(&created(SessionId::new(), &bert, 9_000)).await.expect("a new session");
    let mut pen = Pen::take(store, sessions[2].1, "a").await;
    let active = EventDraft { ts: Timestamp::from_millis(5_000), ..note("x") };
    pen.write(vec![active], &[], false).await.expect("a commit");
    sessions[2].0 = Timestamp::from_millis(5_000);
    sessions.sort();
    sessions.reverse();
    let expected: Vec<SessionId> = sessions.into_iter().map(|(_, session)| session).collect();
    for limit in [1, 2, 3, 10] {
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let page = store.list(&anna, after, limit).await.expect("the index");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(ListCursor { updated_at: last.updated_at, session_id: last.session_id });
            listed.extend(page.into_iter().map(|summary| summary.session_id));
        }
        assert_eq!(listed, expected, "in pages of {limit}");
    }
    assert_eq!(store.count(&anna).await.expect("the index"), 7);
    assert_eq!(store.count(&user("nobody")).await.expect("the index"), 0);
}

async fn sessions_with_work_are_found_and_others_are_not(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let (idle, asked, running) = (new_session(store).await, new_session(store).await, new_session(store).await);
    store.submit(asked, command("c", message("hi"))).await.expect("taken");
    found(store, asked, idle).await;
    // An open run whose owner gives it up.
    store.submit(running, command("c", message("hi"))).await.expect("taken");
    let mut pen = Pen::take(store, running, "a").await;
    let waiting = store.inbox(running).await.expect("the inbox")[0].position;
    let mut events = run("hi");
    let finished = events.pop().expect("three events");
    pen.write(events, &[waiting], false).await.expect("a commit");
    assert!(store.release(pen.lease).await.expect("released"), "an open run is work that is left");
    found(store, running, idle).await;
    // One whose owner is gone without a word.
    let late = store.acquire(running, "b", Duration::from_millis(300)).await.expect("free");
    found(store, running, idle).await;
    // One whose owner is gone without a word, after the owner before it came late and let go.
    acquire_in_a_while(store, running, "c", Duration::from_millis(300)).await;
    assert!(!store.release(late).await.expect("there is nothing to release"), "what is left is not its own to say");
    found(store, running, idle).await;
    let lease = acquire_in_a_while(store, running, "b", Duration::from_secs(60)).await;
    let mut pen = Pen { lease, ..pen };
    pen.write(vec![finished], &[], false).await.expect("a commit");
    assert!(!store.release(pen.lease).await.expect("released"), "nothing is left");
    for _ in 0..3 {
        assert!(!store.unfinished().await.expect("the index").contains(&running), "it has no work");
    }
}

/// Waits until `session` is among those that have work and nobody who does it; `idle` never is.
/// Takes the session when its lease has run out.
async fn acquire_in_a_while(store: &dyn SessionStore, session: SessionId, owner: &str, ttl: Duration) -> Lease {
    loop {
        match store.acquire(session, owner, ttl).await {
            Ok(lease) => break lease,
            Err(StoreError::Held(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(other) => panic!("{other}"),
        }
    }
}

async fn found(store: &dyn SessionStore, session: SessionId, idle: SessionId) {
    let looking = async {
        loop {
            let unfinished = store.unfinished().await.expect("the index");
            assert!(!unfinished.contains(&idle), "it has no work");
            if unfinished.contains(&session) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), looking).await.expect("a session with work is found in a while");
}

async fn a_session_that_never_was_is_not_found(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = SessionId::new();
    assert_eq!(store.summary(session).await.expect("the index"), None);
    assert!(matches!(store.read(session, 0, 1).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.acquire(session, "a", Duration::from_secs(1)).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.delete(session).await, Err(StoreError::NotFound(_))));
}
