//! The effects on an owned session, and the operation in progress.

use std::{future::pending, mem, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use k8sops_core::{CommandReceipt, LogHead, LostMessages, RemainingWork, SessionId, StoreError};
use k8sops_telemetry::spans;
use tokio::sync::oneshot;

use super::{
    effects::{ActorEffect, RunStart, StateRetention},
    inputs::{ActorInput, CheckpointNeed, CommitOutcome, InboxContents, IndexWrite, SessionFacts, TaskReport},
    opening::{OpenedResources, find_lost_messages},
    resources::SessionResources,
    run_task::{RunContext, RunTask},
};
use crate::runtime::{
    inner::RuntimeInner,
    log_writer::{CommitEnd, CommitResult, PendingCommit},
    memory_extraction::start_extraction,
    run_handle::TaskMessage,
    usage_recorder,
};

/// An operation in progress.
pub(super) enum OperationInProgress {
    Open(BoxFuture<'static, Result<OpenedResources, StoreError>>),
    /// A commit, and the run that starts with it if it accepts a message.
    Commit(Box<PendingCommit>, Option<Box<RunStart>>),
    /// Recording a commit. It is waited for alone: audit records of committed events must not be dropped with it.
    Record(BoxFuture<'static, ()>),
    Other(BoxFuture<'static, ActorInput>),
}

/// The end of an operation.
pub(super) enum OperationEnd {
    Opened(Result<OpenedResources, StoreError>),
    Committed(Box<PendingCommit>, Option<Box<RunStart>>, CommitResult),
    Answered(ActorInput),
}

/// Waits for the end of the operation; never resolves without one. Cancel safe.
pub(super) async fn wait_for_operation(operation: &mut Option<OperationInProgress>) -> OperationEnd {
    let end = match operation {
        Some(OperationInProgress::Open(opening)) => OperationEnd::Opened(opening.await),
        Some(OperationInProgress::Record(recording)) => {
            recording.await;
            OperationEnd::Answered(ActorInput::CommitRecorded)
        }
        Some(OperationInProgress::Other(other)) => OperationEnd::Answered(other.await),
        Some(OperationInProgress::Commit(commit, _)) => {
            let result = (&mut commit.commit).await;
            let Some(OperationInProgress::Commit(commit, start)) = operation.take() else { return pending().await };
            return OperationEnd::Committed(commit, start, result);
        }
        None => pending().await,
    };
    *operation = None;
    end
}

impl SessionResources {
    /// Performs an effect; returns the operation that it starts.
    pub(super) fn perform(&mut self, effect: ActorEffect) -> Option<OperationInProgress> {
        match effect {
            ActorEffect::Commit(batch) => {
                return Some(OperationInProgress::Commit(Box::new(self.writer.start_commit(batch, None)), None));
            }
            ActorEffect::CommitMessage(message, batch, start) => {
                self.open_run_span(&start);
                let user = self.projection.read(|state| state.summary.user_id.clone());
                self.shared.admission.mark_running(self.session, &user);
                let commit = self.writer.start_commit(batch, Some(message));
                return Some(OperationInProgress::Commit(Box::new(commit), Some(start)));
            }
            ActorEffect::RecordCommit => return Some(self.record_commit()),
            ActorEffect::RecordApprovals(until) => {
                let (shared, session) = (self.shared.clone(), self.session);
                return Some(OperationInProgress::Other(Box::pin(async move {
                    let store = shared.dependencies.store.as_ref();
                    let recorded = shared.pending_approvals.record_deadline(store, session, until).await;
                    ActorInput::ApprovalsRecorded(if recorded { IndexWrite::Done } else { IndexWrite::Failed })
                })));
            }
            ActorEffect::CheckLog => {
                let check = check_log(self.shared.clone(), self.session, self.writer.head());
                return Some(OperationInProgress::Other(Box::pin(
                    check.map(|checked| checked.map_or_else(ActorInput::OperationFailed, ActorInput::LogChecked)),
                )));
            }
            ActorEffect::ReadInbox => {
                let (store, session) = (self.shared.dependencies.store.clone(), self.session);
                let projection = self.projection.clone();
                return Some(OperationInProgress::Other(Box::pin(async move {
                    match store.list_inbox(session).await {
                        Ok(entries) => {
                            ActorInput::InboxRead(projection.read(|state| InboxContents::new(entries, state)))
                        }
                        Err(error) => ActorInput::OperationFailed(error),
                    }
                })));
            }
            ActorEffect::StartRun(start) => self.start_run(start),
            ActorEffect::CancelRun => self.run.iter().for_each(RunTask::cancel),
            ActorEffect::StartExtraction => {
                let state = self.projection.read(Clone::clone);
                let extraction = start_extraction(&self.shared, state, &self.tools, self.to_mailbox.clone());
                self.extraction = Some(extraction);
            }
            ActorEffect::AcknowledgeAppends(count) => {
                for done in self.waiting_appends.drain(..count.min(self.waiting_appends.len())) {
                    // An aborted run does not wait.
                    let _ = done.send(());
                }
            }
            // Those that need no lease.
            ActorEffect::OpenSession
            | ActorEffect::ReleaseLease(_)
            | ActorEffect::LeaveRegistry
            | ActorEffect::ReleaseCapacity
            | ActorEffect::DeclineMessage
            | ActorEffect::ReportFailure(_)
            | ActorEffect::CloseFeed(_) => {}
        }
        None
    }

    fn start_run(&mut self, start: RunStart) {
        let session = self.session;
        self.open_run_span(&start);
        let span = self.span.current();
        let user = self.projection.read(|state| state.summary.user_id.clone());
        self.shared.admission.mark_running(session, &user);
        let (done, is_committed) = oneshot::channel();
        self.waiting_appends.push_back(done);
        let context = RunContext {
            shared: self.shared.clone(),
            session,
            projection: self.projection.clone(),
            feed: self.feed.clone(),
            previews: self.previews.as_ref().map(|(previews, _)| previews.clone()),
            tools: self.tools.clone(),
            lease_validity: self.held.validity(),
            actor: self.to_mailbox.clone(),
        };
        self.run = Some(RunTask::start(context, start, is_committed, span));
    }

    /// Opens the span of a run, before the commit of its start.
    fn open_run_span(&mut self, start: &RunStart) {
        let RunStart { run_id, cause, provider, model, attempt, .. } = start;
        self.span.start(*run_id, || spans::run_span(cause, self.session, *run_id, provider, model, *attempt));
        self.writer.span = self.span.current();
    }

    fn record_commit(&mut self) -> OperationInProgress {
        let records = self.writer.take_audit_records();
        let has_usage = mem::take(&mut self.has_unrecorded_usage);
        let (shared, projection) = (self.shared.clone(), self.projection.clone());
        OperationInProgress::Record(Box::pin(async move {
            shared.dependencies.audit.record(records).await;
            if has_usage {
                usage_recorder::record_session_usage(&shared, &projection).await;
            }
        }))
    }

    /// Applies the end of a commit, which accepts a message if a run starts with it. Returns the receipt of that.
    pub(super) fn finish_commit(
        &mut self,
        pending: PendingCommit,
        start: Option<Box<RunStart>>,
        result: CommitResult,
    ) -> (ActorInput, Option<CommandReceipt>) {
        let (events, receipt) = match result {
            Ok(CommitEnd::Committed(lineage, receipt)) => (self.writer.finish_commit(pending, lineage), receipt),
            Ok(CommitEnd::Declined) => {
                self.span.decline();
                self.writer.span = self.span.current();
                return (ActorInput::MessageDeclined, None);
            }
            Err(error) => return (ActorInput::OperationFailed(error), None),
        };
        for end in events.iter().filter(|event| event.body.ends_run()) {
            self.span.finish(end);
            self.writer.span = self.span.current();
        }
        self.has_unrecorded_usage |= events.iter().any(|event| event.body.model_usage().is_some());
        let needs_checkpoint = self.writer.needs_checkpoint(&events);
        let outcome = CommitOutcome {
            facts: self.projection.read(SessionFacts::from_state),
            has_run_end: events.iter().any(|event| event.body.ends_run()),
            has_records: self.has_unrecorded_usage || self.writer.has_audit_records(),
            checkpoint: if needs_checkpoint { CheckpointNeed::Due } else { CheckpointNeed::None },
        };
        let input = match start {
            Some(start) => ActorInput::MessageCommitted(outcome, start),
            None => ActorInput::Committed(outcome),
        };
        (input, receipt)
    }

    /// Returns what the tasks of the session report.
    pub(super) fn read_messages(&mut self, messages: impl Iterator<Item = TaskMessage>) -> Vec<TaskReport> {
        let reports = messages.map(|message| match message {
            TaskMessage::Append { drafts, done } => {
                self.waiting_appends.push_back(done);
                TaskReport::Appended(drafts)
            }
            TaskMessage::RunEnded(ending) => {
                self.run = None;
                TaskReport::RunEnded(ending)
            }
            TaskMessage::MemoriesExtracted(saved) => {
                self.extraction = None;
                TaskReport::MemoriesExtracted(saved)
            }
        });
        reports.collect()
    }

    /// Stops the tasks of the session, and releases its lease.
    pub(super) fn release_lease(self: Box<Self>, state: StateRetention) -> OperationInProgress {
        let Self { shared, session, held, registration, projection, .. } = *self;
        OperationInProgress::Other(Box::pin(async move {
            let store = &shared.dependencies.store;
            if state == StateRetention::Keep
                && let Err(error) = store.keep_state(held.lease, projection.read(Clone::clone)).await
            {
                tracing::debug!(%session, %error, "state of a released session is not kept");
            }
            let released = store.release_lease(held.lease).await;
            drop(registration);
            ActorInput::LeaseReleased(released.unwrap_or_else(|error| {
                // The lease expires.
                tracing::debug!(%session, %error, "lease release failed");
                RemainingWork::None
            }))
        }))
    }
}

/// Fails if a log is not the one that its owner has written up to `head`: the store has lost events, or another process
/// reported that it did. Returns the messages that were lost.
async fn check_log(shared: Arc<RuntimeInner>, session: SessionId, head: LogHead) -> Result<LostMessages, StoreError> {
    // A request has found what a look at the newest event does not show.
    if shared.known_logs.is_damaged(session) {
        shared.verify_repair(session).await?;
    }
    let page = shared.dependencies.store.read_events(session, head.seq, 1).await?;
    if page.continues(head) && page.lost_branch.is_none() {
        find_lost_messages(&shared, session).await
    } else {
        Err(StoreError::Forked { session, seq: head.seq })
    }
}
