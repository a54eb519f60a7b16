//! One line in the service's log per finished run.

use std::sync::Arc;

use k8sops_core::{EventBody, OpenRun, RunFailed, RunFinished, SessionEvent, SessionState, Timestamp};

/// What a line says of a run besides its end.
struct RunFacts {
    provider: String,
    model: String,
    steps: u32,
    attempt: u32,
    started_at: Timestamp,
}

impl RunFacts {
    fn from_open_run(run: &OpenRun) -> Self {
        Self {
            provider: run.provider.clone(),
            model: run.model.clone(),
            steps: run.steps,
            attempt: run.attempt,
            started_at: run.started_at,
        }
    }

    /// Applies an event that was committed with the end of the run.
    fn apply_event(&mut self, body: &EventBody) {
        if let EventBody::AssistantMessage(reply) = body {
            self.steps += 1;
            // A fallback may have replied.
            if let (Some(provider), Some(model)) = (&reply.provider, &reply.model) {
                self.provider.clone_from(provider);
                self.model.clone_from(model);
            }
        }
    }
}

/// Logs the runs that end with these events. `before` is the state without them.
pub(super) fn log_finished_runs(before: &SessionState, events: &[Arc<SessionEvent>]) {
    if !events.iter().any(|event| event.body.ends_run()) {
        return;
    }
    let mut facts = before.run.as_ref().map(RunFacts::from_open_run);
    for event in events {
        match (&event.body, &mut facts) {
            (EventBody::RunStarted(started), facts) => {
                let (provider, model) = (started.provider.clone(), started.model.clone());
                let attempt = started.attempt;
                *facts = Some(RunFacts { provider, model, steps: 0, attempt, started_at: event.ts });
            }
            (EventBody::RunFinished(end), Some(facts)) => log_finished(before, event, facts, end),
            (EventBody::RunFailed(end), Some(facts)) => log_failed(before, event, facts, end),
            (body, Some(facts)) => facts.apply_event(body),
            (_, None) => {}
        }
    }
}

fn log_finished(before: &SessionState, event: &SessionEvent, facts: &RunFacts, end: &RunFinished) {
    tracing::info!(
        outcome = end.outcome.as_str(),
        provider = facts.provider,
        model = facts.model,
        steps = facts.steps,
        attempt = facts.attempt,
        input_tokens = end.usage.input_tokens,
        output_tokens = end.usage.output_tokens,
        cost_usd = end.usage.cost_usd.as_dollars(),
        duration_ms = end.duration_ms,
        session = %event.session_id,
        run = event.run_id.map(tracing::field::display),
        user = %before.summary.user_id,
        "run finished"
    );
}

/// The message of the failure is not logged: it may quote what a provider or a server said.
fn log_failed(before: &SessionState, event: &SessionEvent, facts: &RunFacts, end: &RunFailed) {
    let duration = event.ts.saturating_duration_since(facts.started_at);
    tracing::warn!(
        code = end.code,
        provider_request_id = end.provider_request_id,
        retryable = end.retryable,
        provider = facts.provider,
        model = facts.model,
        steps = facts.steps,
        attempt = facts.attempt,
        input_tokens = end.usage.input_tokens,
        output_tokens = end.usage.output_tokens,
        cost_usd = end.usage.cost_usd.as_dollars(),
        duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        session = %event.session_id,
        run = event.run_id.map(tracing::field::display),
        user = %before.summary.user_id,
        "run failed"
    );
}
