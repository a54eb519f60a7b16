//! The writer of a session's log: commits batches of events, applies committed events to the projection, and only then publishes
//! them.

use std::{mem, sync::Arc, time::Instant};

use futures_util::future::BoxFuture;
use tracing::{Instrument as _, Span};

use super::{inner::RuntimeInner, instrumented, run_handle::SessionProjection, session_actor::CommitBatch};
use crate::audit::AuditRecord;
use k8sops_agent::run_failure_events;
use k8sops_core::{
    CommandReceipt, EventDraft, LogCommit, LogHead, LogLineage, NewCommandCommit, SessionCommand, SessionEvent,
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
    projection: Arc<SessionProjection>,
    shared: Arc<RuntimeInner>,
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

/// A commit in flight.
pub(super) struct PendingCommit {
    pub(super) commit: BoxFuture<'static, CommitResult>,
    events: Vec<Arc<SessionEvent>>,
    began: Instant,
}

/// How a commit ended. One without a message is always accepted.
pub(super) type CommitResult = Result<CommitEnd, StoreError>;

/// The end of a commit that the store did not reject.
pub(super) enum CommitEnd {
    /// With the chain value at the newest event, if the store has it, and the receipt of the message that was accepted with it.
    Committed(Option<LogLineage>, Option<CommandReceipt>),
    /// The store has not accepted the message, and has written nothing.
    Declined,
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
            since_checkpoint: replayed,
            checkpoint_weight: weight.saturating_sub(replayed),
            lineage,
            gauges,
            records: Vec::new(),
            span: Span::none(),
        }
    }

    /// The position of the newest event.
    pub(super) fn head(&self) -> LogHead {
        LogHead { seq: self.projection.read(SessionState::last_seq), lineage: self.lineage }
    }

    /// Returns whether committed events have audit records that were not taken.
    pub(super) fn has_audit_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// Takes the audit records of the events that were committed.
    pub(super) fn take_audit_records(&mut self) -> Vec<AuditRecord> {
        mem::take(&mut self.records)
    }

    /// Starts a commit, which accepts a message if there is one. No other may be in flight.
    pub(super) fn start_commit(&mut self, batch: CommitBatch, message: Option<Arc<SessionCommand>>) -> PendingCommit {
        let CommitBatch { mut drafts, consumed, failure, checkpoint, first_seq, appends: _ } = batch;
        if let Some(failure) = failure
            && let Some(run) = self.projection.read(|state| state.run.clone())
        {
            let end = run_failure_events(&run, failure);
            drafts.extend(end.into_iter().map(|body| EventDraft::in_run(run.run_id, body)));
        }
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
                let Some(message) = message else {
                    return store.commit_events(commit).await.map(|lineage| CommitEnd::Committed(lineage, None));
                };
                Ok(match store.commit_new_command(commit, &message).await? {
                    NewCommandCommit::Committed { receipt, lineage } => CommitEnd::Committed(lineage, Some(receipt)),
                    NewCommandCommit::Declined => CommitEnd::Declined,
                })
            }
            .instrument(span),
        );
        PendingCommit { commit, events, began: Instant::now() }
    }

    /// Applies and publishes the events of a commit that is durable, and returns them.
    pub(super) fn finish_commit(
        &mut self,
        pending: PendingCommit,
        lineage: Option<LogLineage>,
    ) -> Vec<Arc<SessionEvent>> {
        let PendingCommit { events, began, .. } = pending;
        let metrics = &self.shared.dependencies.metrics;
        metrics.record_commit(began.elapsed());
        self.lineage = lineage;
        self.since_checkpoint += events.iter().map(|event| event.estimated_bytes()).sum::<u64>();
        let records = self.projection.read(|before| instrumented::observe_commit(metrics, before, &events));
        if self.shared.dependencies.audit.is_enabled() {
            self.records.extend(records);
        }
        self.projection.apply_events(&events);
        self.feed.publish_events(&events, self.lineage);
        self.projection.read(|state| self.shared.accounts.publish_events(&state.summary.user_id, &events));
        self.shared.known_logs.record_commit(self.lease.session, &events, self.head());
        self.projection.read(|state| {
            self.gauges.set_contribution(usize::from(state.run.is_some()), state.pending_approvals().count());
        });
        events
    }

    /// Returns whether the next commit after these events writes a checkpoint.
    pub(super) fn needs_checkpoint(&self, committed: &[Arc<SessionEvent>]) -> bool {
        committed.iter().any(|event| event.body.ends_run())
            && self.since_checkpoint >= self.checkpoint_weight.max(CHECKPOINT_AT_LEAST)
    }
}
