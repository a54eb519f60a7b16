//! The one writer of a session's log: gathers what is to be written while a commit is in flight (group commit), folds what
//! was committed, and only then shows it.

use std::{mem, sync::Arc, time::Instant};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::{
    Shared, observed,
    run_log::{Append, Projection},
};
use crate::audit::AuditRecord;
use k8sops_core::{
    ApprovalId, EventBody, EventDraft, InputId, LogCommit, SessionEvent, SessionFeed, SessionLease, SessionStore,
    StoreError,
};
use k8sops_telemetry::{GaugeGuard, spans};

/// A checkpoint is written when the events since the last one weigh as much as that one did, and at least this much. So
/// all checkpoints together are never more than about twice the log, and a turn's share of them does not grow with the
/// conversation.
const CHECKPOINT_AT_LEAST: u64 = 64 * 1024;

/// With `MEMORY_SHALLOW`, a conversation that weighs more than twice this at a checkpoint is cut back to it. It is about
/// what 100,000 tokens take, so that a model is not sent less because of it; and twice, so that the beginning of what it is
/// sent stays the same for many turns.
const SHALLOW_CONVERSATION: u64 = 400 * 1024;

pub(super) struct Writer {
    store: Arc<dyn SessionStore>,
    lease: SessionLease,
    feed: Arc<SessionFeed>,
    pub(super) projection: Arc<Projection>,
    shared: Arc<Shared>,
    next: Batch,
    in_flight: Option<InFlight>,
    /// Weight of the events since the newest checkpoint.
    since_checkpoint: u64,
    /// Weight of the newest checkpoint.
    checkpoint_weight: u64,
    /// What the session adds to the gauges.
    gauges: GaugeGuard,
    /// What was committed and is to go into the audit trail.
    records: Vec<AuditRecord>,
    /// The span of the run that commits belong to.
    pub(super) span: Span,
}

/// What goes into one commit.
#[derive(Default)]
struct Batch {
    drafts: Vec<EventDraft>,
    done: Vec<oneshot::Sender<()>>,
    consumed: Vec<u64>,
    checkpoint: bool,
}

struct InFlight {
    commit: BoxFuture<'static, Result<(), StoreError>>,
    events: Vec<Arc<SessionEvent>>,
    done: Vec<oneshot::Sender<()>>,
    began: Instant,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        lease: SessionLease,
        feed: Arc<SessionFeed>,
        projection: Arc<Projection>,
        replayed: u64,
    ) -> Self {
        let weight = projection.read(k8sops_core::SessionState::weight);
        let mut gauges = shared.parts.metrics.gauge_guard();
        projection
            .read(|state| gauges.set_contribution(usize::from(state.run.is_some()), state.pending_approvals().count()));
        Self {
            store: shared.parts.store.clone(),
            lease,
            feed,
            projection,
            shared,
            next: Batch::default(),
            in_flight: None,
            since_checkpoint: replayed,
            checkpoint_weight: weight.saturating_sub(replayed),
            gauges,
            records: Vec::new(),
            span: Span::none(),
        }
    }

    /// Adds what a run wants committed.
    pub(super) fn append(&mut self, append: Append) {
        self.next.drafts.extend(append.drafts);
        self.next.done.push(append.done);
    }

    /// Adds events of the owner's own.
    pub(super) fn push(&mut self, drafts: impl IntoIterator<Item = EventDraft>) {
        self.next.drafts.extend(drafts);
    }

    /// Takes a place of the inbox out of it, in the same commit as what is pushed.
    pub(super) fn consume(&mut self, position: u64) {
        self.next.consumed.push(position);
    }

    /// Hands what was committed over to the audit trail. Not part of [`Self::committed`], which must be cancel safe.
    pub(super) async fn record(&mut self) {
        self.shared.parts.audit.record(mem::take(&mut self.records)).await;
    }

    /// Whether an answer to this approval is waiting to be written.
    pub(super) fn answers(&self, approval: ApprovalId) -> bool {
        let mut drafts = self.next.drafts.iter();
        drafts.any(|draft| matches!(&draft.body, EventBody::ApprovalResolved(answer) if answer.approval_id == approval))
    }

    /// The same for a question.
    pub(super) fn answers_input(&self, input: InputId) -> bool {
        let mut drafts = self.next.drafts.iter();
        drafts.any(|draft| matches!(&draft.body, EventBody::InputResolved(answer) if answer.input_id == input))
    }

    pub(super) fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Nothing in flight, nothing waiting.
    pub(super) fn idle(&self) -> bool {
        self.in_flight.is_none() && self.next.is_empty()
    }

    /// Begins the next commit, if none is in flight and there is something to write.
    pub(super) fn start(&mut self) {
        if self.in_flight.is_some() || self.next.is_empty() {
            return;
        }
        let Batch { drafts, done, consumed, checkpoint } = mem::take(&mut self.next);
        let session = self.lease.session;
        if checkpoint && self.shared.parts.shallow {
            self.projection.forget_oldest(SHALLOW_CONVERSATION);
        }
        let (mut summary, checkpoint) =
            self.projection.read(|state| (state.summary.clone(), checkpoint.then(|| state.clone())));
        let expected_seq = summary.last_seq;
        let events: Vec<Arc<SessionEvent>> =
            (expected_seq + 1..).zip(drafts).map(|(seq, draft)| Arc::new(draft.at(session, seq))).collect();
        for event in &events {
            summary.apply(event);
        }
        if let Some(state) = &checkpoint {
            self.checkpoint_weight = state.weight();
            self.since_checkpoint = 0;
        }
        self.since_checkpoint += events.iter().map(|event| event.weight()).sum::<u64>();
        let span = spans::commit_span(&self.span, session, events.len());
        let (store, epoch, of_commit) = (self.store.clone(), self.lease.epoch, events.clone());
        let commit = Box::pin(
            async move {
                let commit = LogCommit {
                    session,
                    epoch,
                    expected_seq,
                    events: &of_commit,
                    consumed: &consumed,
                    summary: &summary,
                    checkpoint: checkpoint.as_ref(),
                };
                store.commit_events(commit).await
            }
            .instrument(span),
        );
        self.in_flight = Some(InFlight { commit, events, done, began: Instant::now() });
    }

    /// Waits for the commit in flight, and gives its events; for ever when there is none. Cancel safe.
    ///
    /// # Errors
    /// The store refused. Nothing more may be written under this lease.
    pub(super) async fn committed(&mut self) -> Result<Vec<Arc<SessionEvent>>, StoreError> {
        let Some(in_flight) = &mut self.in_flight else { return std::future::pending().await };
        let result = (&mut in_flight.commit).await;
        let InFlight { events, done, began, .. } = self.in_flight.take().expect("it was there before the wait");
        let metrics = &self.shared.parts.metrics;
        metrics.record_commit(began.elapsed());
        result?;
        let records = self.projection.read(|before| observed::note(metrics, before, &events));
        if self.shared.parts.audit.is_enabled() {
            self.records.extend(records);
        }
        self.projection.fold(&events);
        self.feed.publish(&events);
        self.projection.read(|state| {
            self.gauges.set_contribution(usize::from(state.run.is_some()), state.pending_approvals().count())
        });
        for done in done {
            // A run that was broken off does not wait any more.
            let _ = done.send(());
        }
        if events.iter().any(|event| event.body.ends_run())
            && self.since_checkpoint >= self.checkpoint_weight.max(CHECKPOINT_AT_LEAST)
        {
            self.next.checkpoint = true;
        }
        Ok(events)
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.drafts.is_empty() && self.done.is_empty() && self.consumed.is_empty() && !self.checkpoint
    }
}
