//! Logs and checkpoints of sessions.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use backon::{ConstantBuilder, Retryable};
use tokio::time::Instant;

use super::{
    encoding::{StreamEntry, parse_json, to_json},
    scripts::{CommitEvents, CommitReply, CreateReply, CreateSession, OpenWork},
    store::RedisStore,
};
use k8sops_core::{
    EventBody, EventPage, LeaseEpoch, LogCommit, NotificationTopic, SessionEvent, SessionId, SessionLog, SessionState,
    SessionSummary, StoreError,
};

/// How long a commit is retried whose reply is lost. Less than the duration of a lease.
const COMMIT_RETRY_LIMIT: Duration = Duration::from_secs(4);
const COMMIT_RETRY_DELAY: Duration = Duration::from_millis(100);

#[async_trait]
impl SessionLog for RedisStore {
    async fn create_session(&self, created: &SessionEvent) -> Result<(), StoreError> {
        let session = created.session_id;
        let summary = SessionSummary::from_first_event(created)
            .ok_or_else(|| StoreError::Corrupt("the first event of a session must be session_created".into()))?;
        // The list comes first: a session that no list has could never be found and deleted.
        self.registry.add_session(&summary).await?;
        let create = CreateSession {
            meta_key: self.keys.meta(session),
            log_key: self.keys.log(session),
            user: summary.user_id.to_string(),
            summary: to_json(&summary),
            first_event: to_json(created),
            session_ttl_ms: self.session_ttl,
        };
        match self.writes.run_script(&create).await? {
            CreateReply::Created => Ok(()),
            CreateReply::Exists => {
                if let Some(existing) = self.registry.session_summary(session).await? {
                    // The existing session may belong to another user: puts the lists right.
                    self.registry.remove_session(&summary.user_id, session).await?;
                    self.registry.add_session(&existing).await?;
                }
                Err(StoreError::Exists(session))
            }
        }
    }

    async fn commit_events(&self, commit: LogCommit<'_>) -> Result<(), StoreError> {
        let session = commit.session;
        let expected = commit.expected_seq;
        let gapless = commit.events.iter().zip(expected + 1..).all(|(event, seq)| event.seq == seq);
        let checkpoint_fits = commit.checkpoint.is_none_or(|state| state.last_seq() == expected);
        if !gapless || !checkpoint_fits {
            return Err(StoreError::SeqConflict { session, expected, found: expected });
        }
        let script = self.commit_script(&commit);
        // Both are sent together. If the list falls behind, the next commit puts it right.
        let (reply, touched) = tokio::join!(self.send_commit(&script), self.registry.touch_session(commit.summary));
        if let Err(error) = touched {
            tracing::debug!(%session, %error, "session list not updated");
        }
        match reply? {
            CommitReply::Committed => Ok(()),
            CommitReply::NotFound => Err(StoreError::NotFound(session)),
            CommitReply::Fenced { current_epoch } => {
                let current = LeaseEpoch(current_epoch);
                Err(StoreError::Fenced { session, attempted: commit.epoch, current })
            }
            CommitReply::SeqConflict { last_seq } => {
                Err(StoreError::SeqConflict { session, expected, found: last_seq })
            }
        }
    }

    async fn read_events(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        let mut read = redis::pipe();
        read.atomic().cmd("HMGET").arg(self.keys.meta(session)).arg("last_seq").arg("oldest_seq");
        read.cmd("XRANGE").arg(self.keys.log(session)).arg(format!("({after}-0")).arg("+");
        read.arg("COUNT").arg(limit.max(1));
        let (seqs, entries): ((Option<u64>, Option<u64>), Vec<StreamEntry>) = self.reads.query(&read).await?;
        let (Some(last_seq), Some(oldest_seq)) = seqs else { return Err(StoreError::NotFound(session)) };
        let events: Result<Vec<Arc<SessionEvent>>, StoreError> =
            entries.iter().map(|entry| parse_json("a session event", entry.field("e")?).map(Arc::new)).collect();
        Ok(EventPage { events: events?, last_seq, oldest_seq })
    }

    async fn read_checkpoint(&self, session: SessionId) -> Result<Option<SessionState>, StoreError> {
        let mut read = redis::pipe();
        read.cmd("EXISTS").arg(self.keys.meta(session)).cmd("GET").arg(self.keys.checkpoint(session));
        let (exists, checkpoint): (bool, Option<String>) = self.reads.query(&read).await?;
        if !exists {
            return Err(StoreError::NotFound(session));
        }
        checkpoint.map(|json| parse_json("a session checkpoint", &json)).transpose()
    }
}

impl RedisStore {
    fn commit_script(&self, commit: &LogCommit<'_>) -> CommitEvents {
        let session = commit.session;
        let closed_message = commit.events.iter().rev().find_map(|event| match &event.body {
            EventBody::AssistantMessage(message) => Some(message.message_id.to_string()),
            _ => None,
        });
        let discard_preview =
            commit.events.iter().any(|e| e.body.ends_run() || matches!(e.body, EventBody::RunRecovered(_)));
        CommitEvents {
            meta_key: self.keys.meta(session),
            log_key: self.keys.log(session),
            checkpoint_key: self.keys.checkpoint(session),
            inbox_key: self.keys.inbox(session),
            preview_key: self.keys.preview(session),
            receipts_key: self.keys.receipts(session),
            receipt_order_key: self.keys.receipt_order(session),
            outputs_key: self.keys.outputs(session),
            epoch: commit.epoch.0,
            expected_seq: commit.expected_seq,
            commit_id: uuid::Uuid::now_v7().to_string(),
            summary: to_json(commit.summary),
            open_work: open_work(commit.summary),
            checkpoint: commit.checkpoint.map(to_json),
            trim_log: self.shallow,
            closed_message,
            discard_preview,
            session_ttl_ms: self.session_ttl,
            log_channel: self.keys.session_channel(session, NotificationTopic::Log),
            consumed: commit.consumed.to_vec(),
            events: commit.events.iter().map(|event| to_json(event.as_ref())).collect(),
        }
    }

    /// Sends a commit, and sends it again with the same id if the reply is lost: the script writes it once.
    async fn send_commit(&self, script: &CommitEvents) -> Result<CommitReply, StoreError> {
        let started = Instant::now();
        let delays = ConstantBuilder::new().with_delay(COMMIT_RETRY_DELAY).with_jitter().without_max_times();
        (|| self.writes.run_script(script))
            .retry(delays)
            .when(|error| {
                let next_attempt = started.elapsed() + COMMIT_RETRY_DELAY;
                matches!(error, StoreError::Unavailable(_)) && next_attempt < COMMIT_RETRY_LIMIT
            })
            .await
    }
}

fn open_work(summary: &SessionSummary) -> OpenWork {
    match (summary.open_run, summary.has_work()) {
        (Some(_), _) => OpenWork::Run,
        (None, true) => OpenWork::Memories,
        (None, false) => OpenWork::None,
    }
}
