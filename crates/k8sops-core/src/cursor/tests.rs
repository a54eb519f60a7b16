//! A cursor over a log that loses events.

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::{
    event::{
        AssistantMessageEvent, EventAuthor, EventBody, EventDraft, LogTruncated, SessionCreated, SessionOrigin,
        SessionWarning,
    },
    ids::{MessageId, RunId},
    lineage::{LogHead, LogLineage},
    message::StopReason,
    ports::{EventPage, LogCommit},
    preview::{MessagePreview, TextDelta},
    settings::SessionSettings,
    state::SessionState,
};

/// A log in memory that can lose its newest events.
#[derive(Default)]
struct LossyLog {
    /// The events, each with the chain value before it.
    events: Mutex<Vec<(Arc<SessionEvent>, Option<LogLineage>)>>,
    /// How many events each read asked for.
    limits: Mutex<Vec<usize>>,
}

impl LossyLog {
    fn append(&self, session: SessionId, seq: u64, body: EventBody) -> Arc<SessionEvent> {
        let event = Arc::new(EventDraft::new(body).into_event(session, seq));
        let mut events = self.events.lock();
        let before = events.last().map(lineage_after);
        events.push((event.clone(), before));
        event
    }

    fn head(&self) -> LogHead {
        let events = self.events.lock();
        let last = events.last().unwrap();
        LogHead { seq: last.0.seq, lineage: Some(lineage_after(last)) }
    }
}

fn lineage_after((event, before): &(Arc<SessionEvent>, Option<LogLineage>)) -> LogLineage {
    LogLineage::extend(*before, &serde_json::to_vec(event).unwrap())
}

#[async_trait]
impl SessionLog for LossyLog {
    async fn create_session(&self, _: &SessionEvent) -> Result<(), StoreError> {
        unreachable!("tests append")
    }

    async fn commit_events(&self, _: LogCommit<'_>) -> Result<Option<LogLineage>, StoreError> {
        unreachable!("tests append")
    }

    async fn read_events(&self, _: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        self.limits.lock().push(limit);
        let head = self.head();
        let events = self.events.lock();
        let page: Vec<_> = events.iter().filter(|(event, _)| event.seq > after).take(limit).collect();
        Ok(EventPage {
            events: page.iter().map(|(event, _)| event.clone()).collect(),
            lineage_before: page.first().and_then(|(_, before)| *before),
            lineage_after: page.last().map(|last| lineage_after(last)),
            head_lineage: head.lineage,
            last_seq: head.seq,
            oldest_seq: 1,
            lost_branch: None,
        })
    }

    async fn read_checkpoint(&self, _: SessionId) -> Result<Option<SessionState>, StoreError> {
        Ok(None)
    }
}

struct Fixture {
    log: Arc<LossyLog>,
    feed: Arc<SessionFeed>,
    session: SessionId,
}

impl Fixture {
    /// A log of five events that are published in a feed.
    fn new() -> Self {
        let (log, session) = (Arc::new(LossyLog::default()), SessionId::new());
        let created = SessionCreated {
            user_id: "anna".parse().unwrap(),
            title: None,
            settings: SessionSettings::for_model("p", "m"),
            by: EventAuthor::System,
            origin: SessionOrigin::User,
        };
        log.append(session, 1, EventBody::SessionCreated(created));
        let fixture = Self { log, feed: Arc::new(SessionFeed::new(1)), session };
        for n in 2..=5 {
            fixture.commit(n, "first branch");
        }
        fixture
    }

    fn append(&self, seq: u64, message: &str) -> Arc<SessionEvent> {
        self.log.append(self.session, seq, EventBody::Warning(SessionWarning::new("note", message)))
    }

    fn commit(&self, seq: u64, message: &str) {
        let event = self.append(seq, message);
        self.feed.publish_events(&[event], self.log.head().lineage);
    }

    /// Loses all events but the first three.
    fn lose_events(&self) {
        self.log.events.lock().truncate(3);
    }

    fn append_truncation(&self) -> Arc<SessionEvent> {
        let body = LogTruncated { from_seq: 4, lost: 2, lost_calls: Vec::new() };
        self.log.append(self.session, 2000, EventBody::LogTruncated(body))
    }

    fn cursor(&self, after: u64) -> EventCursor {
        EventCursor::new(self.log.clone(), self.session, self.feed.clone(), after)
    }
}

/// The frames that a cursor has ready: seq or type, and what gap and snapshot say.
async fn drain(cursor: &mut EventCursor) -> Vec<Value> {
    let mut frames = Vec::new();
    while let Some(frame) = cursor.next_logged().await.unwrap() {
        let frame: Value = serde_json::from_str(&frame.to_json()).unwrap();
        frames.push(match frame["type"].as_str().unwrap() {
            "gap" => json!(["gap", frame["requested"], frame["reason"]]),
            "snapshot" => json!(["snapshot", frame["as_of_seq"]]),
            _ => frame["seq"].clone(),
        });
    }
    frames
}

#[tokio::test]
async fn open_cursors_start_over_when_the_log_is_shorter() {
    let fixture = Fixture::new();
    let mut cursors = [fixture.cursor(0), fixture.cursor(5)];
    assert_eq!(drain(&mut cursors[0]).await, [json!(1), json!(2), json!(3), json!(4), json!(5)]);
    let held = fixture.feed.held_position();
    fixture.lose_events();
    assert_eq!(fixture.feed.observe_head(&held, fixture.log.head()), LogContinuity::Forked);
    // A second look that began before is not a second fork.
    assert_eq!(fixture.feed.observe_head(&held, fixture.log.head()), LogContinuity::Continued);
    for cursor in &mut cursors {
        assert_eq!(drain(cursor).await, [json!(["gap", 5, "log_truncated"]), json!(["snapshot", 3])]);
    }
    fixture.append_truncation();
    fixture.commit(2001, "second branch");
    for cursor in &mut cursors {
        assert_eq!(drain(cursor).await, [json!(2000), json!(2001)]);
    }
}

#[tokio::test]
async fn snapshot_ends_before_the_truncation() {
    let fixture = Fixture::new();
    let mut cursor = fixture.cursor(5);
    fixture.lose_events();
    let loaded = fixture.log.head();
    fixture.append_truncation();
    fixture.append(2001, "second branch");
    fixture.feed.reset_for_owner(loaded);
    let held = fixture.feed.held_position();
    fixture.feed.observe_head(&held, fixture.log.head());
    let expected = [json!(["gap", 5, "log_truncated"]), json!(["snapshot", 3]), json!(2000), json!(2001)];
    assert_eq!(drain(&mut cursor).await, expected);
    // A client that comes back with a seq of the lost branch gets the same, and one from before the loss misses nothing.
    for lost in [4, 5, 1999] {
        let mut expected = expected.clone();
        expected[0][1] = json!(lost);
        assert_eq!(drain(&mut fixture.cursor(lost)).await, expected);
    }
    assert_eq!(drain(&mut fixture.cursor(3)).await, [json!(2000), json!(2001)]);
    // Beyond the newest event.
    let mut beyond = fixture.cursor(9000);
    beyond.start_after_truncation().await.unwrap();
    assert_eq!(drain(&mut beyond).await, [json!(["gap", 9000, "log_truncated"]), json!(["snapshot", 2001])]);
}

#[tokio::test]
async fn branch_that_has_grown_beyond_the_lost_one_is_noticed() {
    let fixture = Fixture::new();
    let mut cursor = fixture.cursor(5);
    let held = fixture.feed.held_position();
    fixture.lose_events();
    for seq in 4..=7 {
        fixture.append(seq, "written by a process that did not know");
    }
    let page = fixture.log.read_events(fixture.session, held.published.seq, 10).await.unwrap();
    assert_eq!(held.compare(&page), LogContinuity::Forked);
    fixture.feed.start_over(&held, page.head());
    assert_eq!(drain(&mut cursor).await, [json!(["gap", 5, "log_truncated"]), json!(["snapshot", 7])]);
}

#[tokio::test]
async fn growth_and_late_looks_are_no_fork() {
    let fixture = Fixture::new();
    let mut cursor = fixture.cursor(5);
    let held = fixture.feed.held_position();
    let earlier = fixture.log.head();
    fixture.commit(6, "next");
    // The look began before the commit.
    assert_eq!(fixture.feed.observe_head(&held, earlier), LogContinuity::Continued);
    assert_eq!(drain(&mut cursor).await, [json!(6)]);
    let held = fixture.feed.held_position();
    fixture.append(7, "by another process");
    let page = fixture.log.read_events(fixture.session, held.published.seq, 10).await.unwrap();
    assert_eq!(held.compare(&page), LogContinuity::Continued);
    // An older version writes no chain values.
    fixture.log.events.lock().last_mut().unwrap().1 = None;
    let mut page = fixture.log.read_events(fixture.session, held.published.seq, 10).await.unwrap();
    page.head_lineage = None;
    assert_eq!(held.compare(&page), LogContinuity::Continued);
}

/// A log whose events are gone, while its seqs are still stored.
struct MissingLog;

#[async_trait]
impl SessionLog for MissingLog {
    async fn create_session(&self, _: &SessionEvent) -> Result<(), StoreError> {
        unreachable!("nothing is written")
    }

    async fn commit_events(&self, _: LogCommit<'_>) -> Result<Option<LogLineage>, StoreError> {
        unreachable!("nothing is written")
    }

    async fn read_events(&self, _: SessionId, _: u64, _: usize) -> Result<EventPage, StoreError> {
        Ok(EventPage { last_seq: 9, oldest_seq: 1, ..EventPage::default() })
    }

    async fn read_checkpoint(&self, _: SessionId) -> Result<Option<SessionState>, StoreError> {
        Ok(None)
    }
}

#[tokio::test]
async fn log_without_its_events_is_damaged() {
    let mut cursor = EventCursor::new(Arc::new(MissingLog), SessionId::new(), Arc::new(SessionFeed::new(9)), 0);
    let error = cursor.next_logged().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
}

#[tokio::test]
async fn damage_that_another_reader_found_ends_waiting_cursors() {
    let fixture = Fixture::new();
    let mut cursor = fixture.cursor(5);
    assert!(drain(&mut cursor).await.is_empty());
    fixture.feed.close_damaged();
    let error = cursor.next().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
}

#[tokio::test]
async fn cursor_that_is_close_behind_reads_a_small_page() {
    let fixture = Fixture::new();
    // As after a take-over: the owner knows where the log ends, and holds none of its events.
    let feed = Arc::new(SessionFeed::new(5));
    let mut cursor = EventCursor::new(fixture.log.clone(), fixture.session, feed, 2);
    assert_eq!(drain(&mut cursor).await, [json!(3), json!(4), json!(5)]);
    assert_eq!(*fixture.log.limits.lock(), [3]);
}

#[tokio::test]
async fn preview_follows_the_events_that_were_read_with_it() {
    let fixture = Fixture::new();
    let mut cursor = fixture.cursor(5);
    let (run_id, ended, open) = (RunId::new(), MessageId::new(), MessageId::new());
    let piece = |message_id, content: &str| {
        MessagePreview::Token(TextDelta { message_id, run_id, offset: 0, content: content.into() })
    };
    let message = AssistantMessageEvent {
        message_id: ended,
        content: "first".into(),
        reasoning: None,
        tool_calls: Vec::new(),
        citations: Vec::new(),
        usage: Default::default(),
        stop_reason: StopReason::EndTurn,
        provider: None,
        model: None,
        provider_data: None,
    };
    let event =
        Arc::new(EventDraft::in_run(run_id, EventBody::AssistantMessage(message)).into_event(fixture.session, 6));
    fixture.feed.publish_read(&[event], None, &[piece(ended, "fir"), piece(open, "second")]);
    let mut frames = Vec::new();
    for _ in 0..3 {
        let frame: Value = serde_json::from_str(&cursor.next().await.unwrap().unwrap().to_json()).unwrap();
        frames.push(json!([frame["type"], frame["message_id"], frame["offset"]]));
    }
    let expected = [json!(["token", ended, 0]), json!(["assistant_message", ended, null]), json!(["token", open, 0])];
    assert_eq!(frames, expected);
}
