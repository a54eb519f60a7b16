//! Instruments runs: the spans of the run, its model calls, tool calls and commits, and the audit records. The agent receives
//! instrumented models and tools, and does not know about it.

mod finished_runs;
mod model;
mod tools;

use tracing::Span;

use crate::audit::AuditRecord;
use k8sops_core::{EventBody, RunId, SessionEvent, SessionState, UserId};
use k8sops_telemetry::{Metrics, spans, spans::SpanContext};

pub(super) use model::instrument_model;
pub(super) use tools::InstrumentedTools;

/// The span of the open run of a session, and that of a run whose message was declined and may come again.
#[derive(Debug, Default)]
pub(super) struct RunSpan {
    open: Option<(RunId, Span)>,
    declined: Option<(RunId, Span)>,
}

impl RunSpan {
    /// Starts the span of a run that starts with the next commit, with `open_span` unless its message was declined before.
    pub(super) fn start(&mut self, run: RunId, open_span: impl FnOnce() -> Span) {
        if self.is_of(run) {
            return;
        }
        let declined = self.declined.take_if(|(of, _)| *of == run);
        self.open = Some(declined.unwrap_or_else(|| (run, open_span())));
    }

    /// Records that the message of the run was declined. The span stays open, because the run starts once its message has passed the
    /// inbox, unless it was accepted before.
    pub(super) fn decline(&mut self) {
        self.close_declined();
        self.declined = self.open.take();
    }

    fn close_declined(&mut self) {
        if let Some((_, span)) = self.declined.take() {
            spans::record_run_outcome(&span, "declined");
        }
    }

    /// Returns whether the span is the one of a run.
    fn is_of(&self, run: RunId) -> bool {
        self.open.as_ref().is_some_and(|(of, _)| *of == run)
    }

    /// Returns the span; a disabled one outside runs.
    pub(super) fn current(&self) -> Span {
        self.open.as_ref().map_or_else(Span::none, |(_, span)| span.clone())
    }

    /// Records how the run ended, and closes the span.
    pub(super) fn finish(&mut self, event: &SessionEvent) {
        let Some((_, span)) = self.open.take_if(|(run, _)| event.run_id == Some(*run)) else { return };
        match &event.body {
            EventBody::RunFinished(e) => {
                spans::record_usage(&span, &e.usage);
                spans::record_run_outcome(&span, e.outcome.as_str());
            }
            EventBody::RunFailed(e) => {
                spans::record_usage(&span, &e.usage);
                spans::record_run_outcome(&span, "failed");
                spans::record_failure(&span, &e.code);
            }
            _ => {}
        }
    }
}

impl Drop for RunSpan {
    fn drop(&mut self) {
        self.close_declined();
    }
}

/// Returns the ids that spans of the session share.
pub(super) fn span_context(state: &SessionState) -> SpanContext {
    let run = state.run.as_ref();
    let request = run.and_then(|run| run.cause.request_id.as_deref()).unwrap_or_default().into();
    SpanContext { session: state.summary.session_id, run: run.map(|run| run.run_id), request }
}

/// Counts committed events, logs the ends of runs, and returns the audit records of the events. `before` is the state without these events.
pub(super) fn observe_commit(
    metrics: &Metrics,
    before: &SessionState,
    events: &[std::sync::Arc<SessionEvent>],
) -> Vec<AuditRecord> {
    let user: &UserId = &before.summary.user_id;
    finished_runs::log_finished_runs(before, events);
    for event in events {
        metrics.count_event(event, before);
    }
    events.iter().filter_map(|event| AuditRecord::from_event(event, user)).collect()
}
