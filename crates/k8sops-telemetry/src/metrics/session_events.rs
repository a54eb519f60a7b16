//! What committed events of sessions count.

use std::time::Duration;

use k8sops_core::{EventBody, SessionEvent, SessionState, SessionWarning, TokenUsage, ToolCallId};

use super::{Metrics, OTHER};

impl Metrics {
    /// Returns the labels of the model that an event names.
    fn event_labels<'a>(&self, provider: Option<&'a str>, model: Option<&'a str>) -> [&'a str; 2] {
        self.model_labels(provider.unwrap_or(OTHER), model.unwrap_or(OTHER))
    }

    /// Counts a committed event. `before` is the state of the session before the event.
    pub fn count_event(&self, event: &SessionEvent, before: &SessionState) {
        self.events_committed.inc();
        match &event.body {
            EventBody::RunFinished(e) => self.record_run_end(e.outcome.as_str(), Some(e.duration_ms)),
            EventBody::RunFailed(_) => {
                let began =
                    before.run.as_ref().map(|run| event.ts.saturating_duration_since(run.started_at).as_millis());
                self.record_run_end("failed", began.and_then(|ms| u64::try_from(ms).ok()));
            }
            EventBody::ToolEnd(e) => {
                let sent = sent_call_labels(before, &e.tool_call_id);
                let (server, effect) = sent.unwrap_or(("none", "none"));
                self.tool_calls.with_label_values(&[server, effect, e.status.as_str()]).inc();
                if sent.is_some() {
                    let took = Duration::from_millis(e.duration_ms).as_secs_f64();
                    self.tool_seconds.with_label_values(&[server, effect]).observe(took);
                }
            }
            EventBody::AssistantMessage(e) => {
                let labels = self.event_labels(e.provider.as_deref(), e.model.as_deref());
                self.model_replies.with_label_values(&labels).inc();
                self.count_usage(labels, e.usage);
            }
            EventBody::ContextCompacted(e) => {
                self.context_compactions.inc();
                self.count_usage(self.event_labels(e.provider.as_deref(), e.model.as_deref()), e.usage);
            }
            EventBody::MemorySaved(e) if e.provider.is_some() => {
                self.count_usage(self.event_labels(e.provider.as_deref(), e.model.as_deref()), e.usage);
            }
            EventBody::Warning(e) => self.count_warning(e),
            EventBody::MessageFeedback(e) => self.count_message_feedback(e.rating.as_str()),
            _ => {}
        }
    }

    fn count_warning(&self, warning: &SessionWarning) {
        match warning.code.as_str() {
            code if warning.wait_seconds.is_some() => self.model_retries.with_label_values(&[code]).inc(),
            "fallback" => self.model_fallbacks.inc(),
            _ => {}
        }
        if let Some(simplified) = &warning.simplified {
            let [provider, model] = self.model_labels(&simplified.provider, &simplified.model);
            self.requests_simplified.with_label_values(&[provider, model, simplified.step.as_str()]).inc();
        }
        if let Some(call) = &warning.dropped_call {
            self.count_usage(self.model_labels(&call.provider, &call.model), call.usage);
        }
    }

    fn record_run_end(&self, outcome: &str, took_ms: Option<u64>) {
        self.runs.with_label_values(&[outcome]).inc();
        if let Some(ms) = took_ms {
            self.run_seconds.with_label_values(&[outcome]).observe(Duration::from_millis(ms).as_secs_f64());
        }
    }

    fn count_usage(&self, [provider, model]: [&str; 2], usage: TokenUsage) {
        for (direction, tokens) in [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached", usage.cached_tokens),
            ("cache_write", usage.cache_write_tokens),
            ("reasoning", usage.reasoning_tokens),
        ] {
            self.model_tokens.with_label_values(&[provider, model, direction]).inc_by(tokens);
        }
        self.model_cost_usd.with_label_values(&[provider, model]).inc_by(usage.cost_usd.as_dollars());
    }
}

/// Returns the server and the effect of a call that was sent; `None` for a call that was not.
fn sent_call_labels<'a>(state: &'a SessionState, call: &ToolCallId) -> Option<(&'a str, &'static str)> {
    let open = state.run.as_ref()?.calls.iter().find(|open| &open.call.id == call)?;
    let started = open.started.as_ref()?;
    Some((&started.server, started.effect.as_str()))
}
