//! The writer of a session's log: collects events while a commit is in flight (group commit), applies committed events to the
//! projection, and only then publishes them.

use std::{mem, sync::Arc, time::Instant};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::{
    inner::RuntimeInner,
    instrumented,
    run_handle::{AppendRequest, SessionProjection},
};
use crate::audit::AuditRecord;
use k8sops_core::{
    ApprovalId, EventBody, EventDraft, InputId, LogCommit, LogHead, LogLineage, LogTruncated, LostBranch, SessionEvent,
    SessionFeed, SessionLease, SessionState, SessionStore, StoreError,
};
use k8sops_telemetry::{GaugeGuard, spans};

/// A checkpoint is written when the events since the last one weigh as much as that one, and at least this many bytes. All
/// checkpoints together therefore stay below about twice the log, and the cost per turn does not grow with the conversation.
const CHECKPOINT_AT_LEAST: u64 = 64 * 1024;

/// With `MEMORY_SHALLOW`, a conversation that weighs more than twice this many bytes at a checkpoint is truncated to it. It is
/// about 100,000 tokens, so that models receive no less; truncating at twice the size keeps the beginning of the prompt
/// stable for many turns.
const SHALLOW_CONVERSATION: u64 = 400 * 1024;

pub(super) struct LogWriter {
    store: Arc<dyn SessionStore>,
    lease: SessionLease,
    feed: Arc<SessionFeed>,
    pub(super) projection: Arc<SessionProjection>,
    shared: Arc<RuntimeInner>,
    next: CommitBatch,
    in_flight: Option<PendingCommit>,
    /// Weight of the events since the newest checkpoint.
    since_checkpoint: u64,
    /// Weight of the newest checkpoint.
    checkpoint_weight: u64,
    /// The chain value at the newest event.
    lineage: Option<LogLineage>,
    /// The session's contribution to the gauges.
    gauges: GaugeGuard,
    /// Audit records of committed events.
    records: Vec<AuditRecord>,
    /// The span of the run that commits belong to.
    pub(super) span: Span,
}

/// The content of the next commit.
#[derive(Default)]
struct CommitBatch {
    drafts: Vec<EventDraft>,
    done: Vec<oneshot::Sender<()>>,
    consumed: Vec<u64>,
    checkpoint: bool,
    /// The seq of the first event, if seqs are left out before it.
    first_seq: Option<u64>,
}

struct PendingCommit {
    commit: BoxFuture<'static, Result<Option<LogLineage>, StoreError>>,
    events: Vec<Arc<SessionEvent>>,
    done: Vec<oneshot::Sender<()>>,
    began: Instant,
}

impl LogWriter {
    pub(super) fn new(
        shared: Arc<RuntimeInner>,
        lease: SessionLease,
        feed: Arc<SessionFeed>,
        projection: Arc<SessionProjection>,
        lineage: Option<LogLineage>,
        replayed: u64,
    ) -> Self {
        let weight = projection.read(SessionState::estimated_bytes);
        let mut gauges = shared.dependencies.metrics.gauge_guard();
        projection
            .read(|state| gauges.set_contribution(usize::from(state.run.is_some()), state.pending_approvals().count()));
        Self {
            store: shared.dependencies.store.clone(),
            lease,
            feed,
            projection,
            shared,
            next: CommitBatch::default(),
            in_flight: None,
            since_checkpoint: replayed,
            checkpoint_weight: weight.saturating_sub(replayed),
            lineage,
            gauges,
            records: Vec::new(),
            span: Span::none(),
        }
    }

    /// Queues the events of a run.
    pub(super) fn queue_append(&mut self, append: AppendRequest) {
        self.next.drafts.extend(append.drafts);
        self.next.done.push(append.done);
    }

    /// Queues events of the session actor.
    pub(super) fn queue_events(&mut self, drafts: impl IntoIterator<Item = EventDraft>) {
        self.next.drafts.extend(drafts);
    }

    /// Queues the event that says what the store has lost. Must be the first event that is queued.
    pub(super) fn queue_truncation(&mut self, lost: LostBranch) {
        let last_seq = self.head().seq;
        let first_seq = lost.next_seq(last_seq, getrandom::u32().unwrap_or_else(|_| std::process::id()));
        let body = LogTruncated {
            from_seq: last_seq + 1,
            lost: lost.known_seq.saturating_sub(last_seq),
            lost_calls: lost.calls,
        };
        let session = self.lease.session;
        let lost_calls = body.lost_calls.len();
        tracing::error!(%session, last_seq, lost = body.lost, lost_calls, next_seq = first_seq, "store lost acknowledged events");
        self.next.first_seq = Some(first_seq);
        self.next.drafts.push(EventDraft::new(EventBody::LogTruncated(body)));
    }

    /// Queues a checkpoint.
    pub(super) fn queue_checkpoint(&mut self) {
        self.next.checkpoint = true;
    }

    /// The position of the newest event.
    pub(super) fn head(&self) -> LogHead {
        LogHead { seq: self.projection.read(SessionState::last_seq), lineage: self.lineage }
    }

    /// Consumes an inbox entry in the same commit as the queued events.
    pub(super) fn consume_inbox_entry(&mut self, position: u64) {
        self.next.consumed.push(position);
    }

    /// Writes the audit records of committed events. Separate from [`Self::wait_for_commit`], which must be cancel safe.
    pub(super) async fn flush_audit_records(&mut self) {
        self.shared.dependencies.audit.record(mem::take(&mut self.records)).await;
    }

    /// Returns whether an answer to this approval is queued.
    pub(super) fn has_queued_answer(&self, approval: ApprovalId) -> bool {
        let mut drafts = self.next.drafts.iter();
        drafts.any(|draft| matches!(&draft.body, EventBody::ApprovalResolved(answer) if answer.approval_id == approval))
    }

    /// Returns whether an answer to this question is queued.
    pub(super) fn has_queued_input_answer(&self, input: InputId) -> bool {
        let mut drafts = self.next.drafts.iter();
        drafts.any(|draft| matches!(&draft.body, EventBody::InputResolved(answer) if answer.input_id == input))
    }

    pub(super) fn is_committing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Returns whether no commit is in flight and nothing is queued.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.next.is_empty()
    }

    /// Starts the next commit, unless one is in flight or nothing is queued.
    pub(super) fn start_commit(&mut self) {
        if self.in_flight.is_some() || self.next.is_empty() {
            return;
        }
        let CommitBatch { drafts, done, consumed, checkpoint, first_seq } = mem::take(&mut self.next);
        let session = self.lease.session;
        if checkpoint && self.shared.dependencies.shallow {
            self.projection.forget_oldest(SHALLOW_CONVERSATION);
        }
        let (mut summary, checkpoint) =
            self.projection.read(|state| (state.summary.clone(), checkpoint.then(|| state.clone())));
        let expected_seq = summary.last_seq;
        let expected_lineage = self.lineage;
        let events: Vec<Arc<SessionEvent>> = (first_seq.unwrap_or(expected_seq + 1)..)
            .zip(drafts)
            .map(|(seq, draft)| Arc::new(draft.into_event(session, seq)))
            .collect();
        for event in &events {
            summary.apply_event(event);
        }
        if let Some(state) = &checkpoint {
            self.checkpoint_weight = state.estimated_bytes();
            self.since_checkpoint = 0;
        }
        self.since_checkpoint += events.iter().map(|event| event.estimated_bytes()).sum::<u64>();
        let span = spans::commit_span(&self.span, session, events.len());
        let (store, epoch, of_commit) = (self.store.clone(), self.lease.epoch, events.clone());
        let commit = Box::pin(
            async move {
                let commit = LogCommit {
                    session,
                    epoch,
                    expected_seq,
                    expected_lineage,
                    events: &of_commit,
                    consumed: &consumed,
                    summary: &summary,
                    checkpoint: checkpoint.as_ref(),
                };
                store.commit_events(commit).await
            }
            .instrument(span),
        );
        self.in_flight = Some(PendingCommit { commit, events, done, began: Instant::now() });
    }

    /// Waits for the commit in flight and returns its events; never resolves without one. Cancel safe.
    ///
    /// # Errors
    /// The store rejected the commit. Nothing may be written under this lease any more.
    pub(super) async fn wait_for_commit(&mut self) -> Result<Vec<Arc<SessionEvent>>, StoreError> {
        let Some(in_flight) = &mut self.in_flight else { return std::future::pending().await };
        let result = (&mut in_flight.commit).await;
        let PendingCommit { events, done, began, .. } = self.in_flight.take().expect("it was there before the wait");
        let metrics = &self.shared.dependencies.metrics;
        metrics.record_commit(began.elapsed());
        self.lineage = result?;
        let records = self.projection.read(|before| instrumented::observe_commit(metrics, before, &events));
        if self.shared.dependencies.audit.is_enabled() {
            self.records.extend(records);
        }
        self.projection.apply_events(&events);
        self.feed.publish_events(&events, self.lineage);
        self.shared.known_logs.record_commit(self.lease.session, &events, self.head());
        self.projection.read(|state| {
            self.gauges.set_contribution(usize::from(state.run.is_some()), state.pending_approvals().count());
        });
        for done in done {
            // An aborted run does not wait.
            let _ = done.send(());
        }
        if events.iter().any(|event| event.body.ends_run())
            && self.since_checkpoint >= self.checkpoint_weight.max(CHECKPOINT_AT_LEAST)
        {
            self.queue_checkpoint();
        }
        Ok(events)
    }
}

impl CommitBatch {
    fn is_empty(&self) -> bool {
        self.drafts.is_empty() && self.done.is_empty() && self.consumed.is_empty() && !self.checkpoint
    }
}
