//! What this process knows of logs: how far they went, and which changes were sent. A store that has lost acknowledged writes
//! (a failover to a replica that lagged) cannot tell; the processes that saw the writes can.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc, time::Duration};

use lru::LruCache;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use k8sops_core::{
    EventBody, LogHead, LostBranch, LostToolCall, RunId, SessionEvent, SessionId, SessionLog, StoreError, ToolCallId,
    ToolEffect, ToolStart,
};

/// Upper bound of logs that are known. The loss of a failover is at most some seconds old, so the newest are enough.
const MAX_LOGS: NonZeroUsize = NonZeroUsize::new(4096).expect("the constant is not zero");
/// Upper bound of calls that are known of a log.
const MAX_CALLS: usize = 32;
/// How old the newest use of a log is at most for the loss of its newest events to be likely: far more than replicas lag.
const RECENT: Duration = Duration::from_mins(5);
/// How long a damaged session is left alone: it may be repaired.
const DAMAGE_RETRY: Duration = Duration::from_secs(10);
/// Longer arguments of a call are not kept: the call is then known by its id only.
const MAX_ARGUMENT_BYTES: usize = 4096;

/// Whether damage of a session was found before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DamageFinding {
    New,
    Known,
}

/// The logs that this process has read or written lately.
pub(super) struct KnownLogs {
    // A synchronous mutex: held for a lookup, never across an await.
    logs: Mutex<LruCache<SessionId, KnownLog>>,
}

#[derive(Debug, Clone, Default)]
struct KnownLog {
    /// The newest event that is known to have been committed.
    head: LogHead,
    /// The newest calls that may have changed something.
    sent_calls: VecDeque<SentToolCall>,
    /// What the store was told that it has lost, until an owner has written that into the log: a second failover can lose
    /// the report as well.
    reported: Option<LostBranch>,
    /// When `head` was recorded.
    recorded_at: Option<Instant>,
    /// When the stored data was last found to be damaged, if it has not been read since.
    damaged_at: Option<Instant>,
}

impl KnownLog {
    /// Adds the calls that events start or say to be lost, and forgets the oldest ones.
    fn record_sent_calls(&mut self, events: &[Arc<SessionEvent>]) {
        for event in events {
            if let EventBody::LogTruncated(truncated) = &event.body {
                self.sent_calls.retain(|sent| sent.seq < truncated.from_seq);
            }
            for sent in SentToolCall::from_event(event) {
                let is_known = |known: &SentToolCall| known.seq == sent.seq && known.call == sent.call;
                if !self.sent_calls.iter().any(is_known) {
                    self.sent_calls.push_back(sent);
                }
            }
        }
        let excess = self.sent_calls.len().saturating_sub(MAX_CALLS);
        self.sent_calls.drain(..excess);
    }
}

/// A call that may have been sent.
#[derive(Debug, Clone)]
struct SentToolCall {
    /// The seq of the event that says so: its `tool_start`, or the `log_truncated` after its loss. Another failover can lose that
    /// event as well.
    seq: u64,
    call: LostToolCall,
}

impl SentToolCall {
    /// Returns the calls that an event says to have been sent, without those that change nothing.
    fn from_event(event: &SessionEvent) -> Vec<Self> {
        let started = match (&event.body, event.run_id) {
            (EventBody::ToolStart(start), Some(run_id)) if start.effect != ToolEffect::Read && start.sent => {
                Some(Self::started_call(start, run_id))
            }
            _ => None,
        };
        let lost = if let EventBody::LogTruncated(truncated) = &event.body { &truncated.lost_calls[..] } else { &[] };
        started.into_iter().chain(lost.iter().cloned()).map(|call| Self { seq: event.seq, call }).collect()
    }

    fn started_call(start: &ToolStart, run_id: RunId) -> LostToolCall {
        let is_short = start.arguments.to_string().len() <= MAX_ARGUMENT_BYTES;
        LostToolCall {
            run_id,
            tool_call_id: start.tool_call_id.clone(),
            name: start.name.clone(),
            server: start.server.clone(),
            arguments: if is_short { start.arguments.clone() } else { Value::Null },
        }
    }

    /// Whether the log has the event that says that the call was sent.
    async fn is_logged(&self, log: &dyn SessionLog, session: SessionId) -> Result<bool, StoreError> {
        let page = log.read_events(session, self.seq - 1, 1).await?;
        let is_call = |call: &LostToolCall| call.tool_call_id == self.call.tool_call_id;
        Ok(page.events.first().is_some_and(|event| match &event.body {
            EventBody::ToolStart(start) => start.tool_call_id == self.call.tool_call_id,
            EventBody::LogTruncated(truncated) => truncated.lost_calls.iter().any(is_call),
            _ => false,
        }))
    }
}

impl Default for KnownLogs {
    fn default() -> Self {
        Self { logs: Mutex::new(LruCache::new(MAX_LOGS)) }
    }
}

impl KnownLogs {
    fn update(&self, session: SessionId, change: impl FnOnce(&mut KnownLog)) {
        change(self.logs.lock().get_or_insert_mut(session, KnownLog::default));
    }

    /// Forgets a log: the session was deleted, and another one may be created with its id.
    pub(super) fn forget_log(&self, session: SessionId) {
        self.logs.lock().pop(&session);
    }

    /// Records a commit of this process.
    pub(super) fn record_commit(&self, session: SessionId, events: &[Arc<SessionEvent>], head: LogHead) {
        self.update(session, |known| {
            known.head = head;
            known.recorded_at = Some(Instant::now());
            known.damaged_at = None;
            if says_lost(events) {
                known.reported = None;
            }
            known.record_sent_calls(events);
        });
    }

    /// Records that a call is not sent although its `tool_start` was committed.
    pub(super) fn record_unsent_call(&self, session: SessionId, call: &ToolCallId) {
        self.update(session, |known| known.sent_calls.retain(|sent| sent.call.tool_call_id != *call));
    }

    /// Records events of a log that was found to continue the known one, and where it ends. A process that has read of a call
    /// knows as well as the one that sent it.
    pub(super) fn record_read(&self, session: SessionId, events: &[Arc<SessionEvent>], head: LogHead) {
        self.update(session, |known| {
            if known.head.seq > 0 && head.seq > known.head.seq {
                // An owner has loaded the session and written to it.
                known.damaged_at = None;
            }
            if head.seq > known.head.seq || (head.seq == known.head.seq && known.head.lineage.is_none()) {
                known.head = head;
                known.recorded_at = Some(Instant::now());
            }
            if says_lost(events) {
                known.reported = None;
            }
            known.record_sent_calls(events);
        });
    }

    /// The logs that were recorded lately, and where they ended.
    pub(super) fn recent_logs(&self) -> Vec<(SessionId, LogHead)> {
        let logs = self.logs.lock();
        let is_recent = |known: &KnownLog| known.recorded_at.is_some_and(|at| at.elapsed() < RECENT);
        logs.iter().filter(|(_, known)| is_recent(known)).map(|(session, known)| (*session, known.head)).collect()
    }

    /// Whether a log that is at `held` or later, and ends at `found`, has to be compared with the known one by
    /// [`Self::find_lost_branch`].
    pub(super) fn must_compare(&self, session: SessionId, held: LogHead, found: LogHead) -> bool {
        let logs = self.logs.lock();
        let Some(known) = logs.peek(&session).map(|known| known.head) else { return false };
        found.contradicts(known) || (found.seq > known.seq && held.seq != known.seq)
    }

    /// Records that the loss of all events after `head` was reported.
    pub(super) fn record_loss(&self, session: SessionId, head: LogHead, reported: LostBranch) {
        let (reported, recorded_at) = (Some(reported), Some(Instant::now()));
        self.update(session, |known| *known = KnownLog { head, reported, recorded_at, ..KnownLog::default() });
    }

    /// Whether a loss was reported, and no owner is known to have written it into the log.
    pub(super) fn has_report(&self, session: SessionId) -> bool {
        self.logs.lock().peek(&session).is_some_and(|known| known.reported.is_some())
    }

    /// Whether this loss was reported, and no owner is known to have written it into the log.
    pub(super) fn is_reported(&self, session: SessionId, lost: &LostBranch) -> bool {
        self.logs.lock().peek(&session).is_some_and(|known| known.reported.as_ref() == Some(lost))
    }

    /// Records that the stored data of a session is damaged.
    pub(super) fn record_damage(&self, session: SessionId) -> DamageFinding {
        let mut finding = DamageFinding::Known;
        self.update(session, |known| {
            if known.damaged_at.replace(Instant::now()).is_none() {
                finding = DamageFinding::New;
            }
        });
        finding
    }

    /// Records that all that an owner needs of a session could be read. The log alone does not show that.
    pub(super) fn record_repair(&self, session: SessionId) {
        if let Some(known) = self.logs.lock().peek_mut(&session) {
            known.damaged_at = None;
        }
    }

    /// Whether the stored data of a session was damaged when it was last read.
    pub(super) fn is_damaged(&self, session: SessionId) -> bool {
        self.logs.lock().peek(&session).is_some_and(|known| known.damaged_at.is_some())
    }

    /// Whether it is too early to try again to own a session that is damaged.
    pub(super) fn was_damaged_lately(&self, session: SessionId) -> bool {
        let logs = self.logs.lock();
        let damaged_at = logs.peek(&session).and_then(|known| known.damaged_at);
        damaged_at.is_some_and(|at| at.elapsed() < DAMAGE_RETRY)
    }

    /// Compares what is known with where the log was found to end; returns what was lost, if anything was.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn find_lost_branch(
        &self,
        log: &dyn SessionLog,
        session: SessionId,
        found: LogHead,
    ) -> Result<Option<LostBranch>, StoreError> {
        let Some(known) = self.logs.lock().peek(&session).cloned() else { return Ok(None) };
        let has_grown = found.seq > known.head.seq;
        let mut is_forked = found.contradicts(known.head);
        let mut reported = known.reported;
        if has_grown && known.head.seq > 0 {
            let page = log.read_events(session, known.head.seq, 1).await?;
            is_forked = !page.continues(known.head);
            // The owner that has read the report begins with this event.
            reported = reported.filter(|_| is_forked || !says_lost(&page.events));
        }
        if !is_forked {
            return Ok(reported);
        }
        let mut lost = LostBranch { known_seq: known.head.seq, calls: Vec::new() };
        for sent in known.sent_calls {
            if !sent.is_logged(log, session).await? {
                lost.calls.push(sent.call);
            }
        }
        if let Some(reported) = reported {
            lost.merge(reported);
        }
        Ok(Some(lost))
    }
}

/// Whether events say what the store has lost.
fn says_lost(events: &[Arc<SessionEvent>]) -> bool {
    events.iter().any(|event| event.body.is_log_truncated())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8sops_core::{EventDraft, LogTruncated, load_state};
    use k8sops_store::{
        InMemoryStore,
        contract::{SessionWriter, create_test_session, warning_draft},
    };
    use serde_json::json;

    fn tool_start(id: &str, effect: ToolEffect, arguments: Value) -> EventDraft {
        let start = ToolStart {
            tool_call_id: id.parse().unwrap(),
            name: "scale".into(),
            server: "k8s".into(),
            arguments,
            effect,
            attempt: 1,
            sent: true,
        };
        EventDraft::in_run(RunId::new(), EventBody::ToolStart(start))
    }

    async fn commit(known: &KnownLogs, writer: &mut SessionWriter<'_>, store: &dyn SessionLog, draft: EventDraft) {
        let session = writer.lease.session;
        let before = writer.state.last_seq();
        writer.append(vec![draft]).await.unwrap();
        let page = store.read_events(session, before, 10).await.unwrap();
        known.record_commit(session, &page.events, page.end());
    }

    #[tokio::test]
    async fn lost_calls_are_those_that_the_log_does_not_have() {
        let store = InMemoryStore::default();
        let session = create_test_session(&store).await;
        let known = KnownLogs::default();
        let mut writer = SessionWriter::acquire(&store, session, "a").await;
        let found = async || store.read_events(session, 0, 1).await.unwrap().head();
        assert_eq!(known.find_lost_branch(&store, session, found().await).await.unwrap(), None);
        let long = json!({"manifest": "x".repeat(MAX_ARGUMENT_BYTES)});
        for (id, effect, arguments) in [
            ("kept", ToolEffect::Mutating, json!({})),
            ("lost", ToolEffect::Mutating, json!({"replicas": 0})),
            ("read", ToolEffect::Read, json!({})),
            ("long", ToolEffect::Idempotent, long),
        ] {
            commit(&known, &mut writer, &store, tool_start(id, effect, arguments)).await;
        }
        assert_eq!(known.find_lost_branch(&store, session, found().await).await.unwrap(), None);
        store.lose_events_after(session, 2);
        let lost = known.find_lost_branch(&store, session, found().await).await.unwrap().unwrap();
        let calls: Vec<_> = lost.calls.iter().map(|call| (call.tool_call_id.to_string(), &call.arguments)).collect();
        assert_eq!(lost.known_seq, 5);
        assert_eq!(calls, [("lost".to_owned(), &json!({"replicas": 0})), ("long".to_owned(), &Value::Null)]);
        // Another process has written since, and did not know.
        let mut other = SessionWriter::acquire(&store, session, "a").await;
        for n in 0..9 {
            other.append(vec![warning_draft(&n.to_string())]).await.unwrap();
        }
        assert_eq!(known.find_lost_branch(&store, session, found().await).await.unwrap(), Some(lost.clone()));
        known.record_loss(session, found().await, lost.clone());
        // Until an owner has written it into the log, another failover can lose the report.
        assert!(known.is_reported(session, &lost));
        assert_eq!(known.find_lost_branch(&store, session, found().await).await.unwrap(), Some(lost.clone()));
        store.lose_events_after(session, 4);
        let again = known.find_lost_branch(&store, session, found().await).await.unwrap().unwrap();
        assert_eq!((again.known_seq, again.calls), (11, lost.calls.clone()));
        known.record_loss(session, found().await, lost.clone());
        let body = LogTruncated { from_seq: 5, lost: 6, lost_calls: lost.calls };
        let mut owner = SessionWriter::acquire(&store, session, "a").await;
        owner.append(vec![EventDraft::new(EventBody::LogTruncated(body))]).await.unwrap();
        assert_eq!(known.find_lost_branch(&store, session, found().await).await.unwrap(), None);
    }

    #[tokio::test]
    async fn lost_call_is_known_when_the_event_that_names_it_is_lost_as_well() {
        let store = InMemoryStore::default();
        let session = create_test_session(&store).await;
        let (owner, watcher) = (KnownLogs::default(), KnownLogs::default());
        let mut writer = SessionWriter::acquire(&store, session, "a").await;
        commit(&owner, &mut writer, &store, tool_start("kept", ToolEffect::Mutating, json!({}))).await;
        commit(&owner, &mut writer, &store, tool_start("lost", ToolEffect::Mutating, json!({}))).await;
        store.lose_events_after(session, 2);
        let find = async |known: &KnownLogs| {
            let head = store.read_events(session, 0, 1).await.unwrap().head();
            known.find_lost_branch(&store, session, head).await.unwrap()
        };
        let lost_calls = find(&owner).await.unwrap().calls;
        let mut writer = SessionWriter::acquire(&store, session, "a").await;
        let truncated = LogTruncated { from_seq: 3, lost: 1, lost_calls: lost_calls.clone() };
        commit(&owner, &mut writer, &store, EventDraft::new(EventBody::LogTruncated(truncated))).await;
        let page = store.read_events(session, 0, 10).await.unwrap();
        watcher.record_read(session, &page.events, page.end());
        assert_eq!((find(&owner).await, find(&watcher).await), (None, None));
        store.lose_events_after(session, 2);
        for known in [&owner, &watcher] {
            assert_eq!(find(known).await.unwrap().calls, lost_calls);
        }
    }

    #[tokio::test]
    async fn a_call_that_was_only_read_is_known() {
        let store = InMemoryStore::default();
        let session = create_test_session(&store).await;
        let mut writer = SessionWriter::acquire(&store, session, "a").await;
        writer.append(vec![tool_start("sent", ToolEffect::Mutating, json!({}))]).await.unwrap();
        let loaded = load_state(&store, session).await.unwrap();
        let page = store.read_events(session, 0, 10).await.unwrap();
        let (owner, watcher) = (KnownLogs::default(), KnownLogs::default());
        owner.record_read(session, &loaded.tool_starts, loaded.head);
        for _ in 0..2 {
            watcher.record_read(session, &page.events, page.end());
        }
        store.lose_events_after(session, 1);
        let found = store.read_events(session, 0, 1).await.unwrap().head();
        for known in [owner, watcher] {
            let lost = known.find_lost_branch(&store, session, found).await.unwrap().unwrap();
            let calls: Vec<_> = lost.calls.iter().map(|call| call.tool_call_id.to_string()).collect();
            assert_eq!((lost.known_seq, calls), (2, vec!["sent".to_owned()]));
        }
    }

    #[test]
    fn damage_is_new_once() {
        let (known, session) = (KnownLogs::default(), SessionId::new());
        assert_eq!(
            [known.record_damage(session), known.record_damage(session)],
            [DamageFinding::New, DamageFinding::Known]
        );
        known.record_read(session, &[], LogHead::at_seq(1));
        assert!(known.is_damaged(session), "a log that can be read is not all that an owner needs");
        known.record_read(session, &[], LogHead::at_seq(2));
        assert_eq!(known.record_damage(session), DamageFinding::New, "the log has grown");
        known.record_repair(session);
        assert_eq!(known.record_damage(session), DamageFinding::New);
    }
}
