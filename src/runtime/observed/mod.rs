//! What is seen of a run from outside: its span, those of its model calls, tool calls and commits, and its place in the audit
//! trail. The agent is given models and tools that are watched, and knows nothing of it.

mod model;
mod tools;

use tracing::Span;

use crate::audit::AuditRecord;
use k8sops_core::{EventBody, OpenRun, RunId, SessionEvent, SessionId, SessionState, UserId};
use k8sops_telemetry::{Metrics, spans, spans::SpanContext};

pub(super) use model::watched;
pub(super) use tools::WatchedTools;

/// The span of the run that a session has now.
#[derive(Debug, Default)]
pub(super) struct RunSpan(Option<(RunId, Span)>);

impl RunSpan {
    /// The span of an open run; the one that was begun with it, or a new one in the same trace.
    pub(super) fn of(&mut self, session: SessionId, run: &OpenRun) -> Span {
        match &self.0 {
            Some((id, span)) if *id == run.run_id => span.clone(),
            _ => {
                let span = spans::run_span(&run.cause, session, run.run_id, &run.provider, &run.model, run.attempt);
                self.0 = Some((run.run_id, span.clone()));
                span
            }
        }
    }

    /// Begins the span of a run that the next commit begins.
    pub(super) fn begin(&mut self, run: RunId, span: Span) {
        self.0 = Some((run, span));
    }

    /// The span itself; none outside runs.
    pub(super) fn current(&self) -> Span {
        self.0.as_ref().map_or_else(Span::none, |(_, span)| span.clone())
    }

    /// Notes how the run ended, and ends the span.
    pub(super) fn end(&mut self, event: &SessionEvent) {
        let Some((_, span)) = self.0.take_if(|(run, _)| event.run_id == Some(*run)) else { return };
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

/// Where a session is now.
pub(super) fn place(state: &SessionState) -> SpanContext {
    let run = state.run.as_ref();
    let request = run.and_then(|run| run.cause.request_id.as_deref()).unwrap_or_default().into();
    SpanContext { session: state.summary.session_id, run: run.map(|run| run.run_id), request }
}

/// Counts what was committed, and gives the records of it. `before` is the session without these events.
pub(super) fn note(
    metrics: &Metrics,
    before: &SessionState,
    events: &[std::sync::Arc<SessionEvent>],
) -> Vec<AuditRecord> {
    let user: &UserId = &before.summary.user_id;
    for event in events {
        metrics.count_event(event, before);
    }
    events.iter().filter_map(|event| AuditRecord::from_event(event, user)).collect()
}
