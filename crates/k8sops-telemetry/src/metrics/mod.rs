//! The Prometheus metrics of one service.
//!
//! Labels are bounded: words of the contract and of the configuration, never ids. A model that is not in the catalog is
//! `other`.

mod guards;
mod register;
mod session_events;

use std::{collections::BTreeSet, sync::OnceLock, time::Duration};

use prometheus::{
    CounterVec, Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

pub use guards::{GaugeGuard, OpenStreamGuard, StreamKind};
use register::{LONG_BUCKETS, MetricRegistrar, SHORT_BUCKETS};

/// The label in place of a name that is not in the catalog.
const OTHER: &str = "other";

/// The metrics of one service. Each service has its own registry, so that several can run in one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The models that may be labels, as pairs of provider and model.
    known_models: OnceLock<BTreeSet<(String, String)>>,
    runs: IntCounterVec,
    run_seconds: HistogramVec,
    open_runs: IntGauge,
    first_event_seconds: Histogram,
    pending_approvals: IntGauge,
    takeovers: IntCounter,
    lease_losses: IntCounter,
    tool_calls: IntCounterVec,
    tool_seconds: HistogramVec,
    model_requests: IntCounterVec,
    model_seconds: HistogramVec,
    first_token_seconds: HistogramVec,
    model_tokens: IntCounterVec,
    model_cost_usd: CounterVec,
    model_replies: IntCounterVec,
    model_retries: IntCounterVec,
    model_fallbacks: IntCounter,
    requests_simplified: IntCounterVec,
    context_compactions: IntCounter,
    open_circuits: IntGaugeVec,
    events_committed: IntCounter,
    commit_seconds: Histogram,
    confirmation_seconds: Histogram,
    store_errors: IntCounterVec,
    open_streams: IntGaugeVec,
    websocket_floods: IntCounter,
    http_requests: IntCounterVec,
    http_request_seconds: HistogramVec,
    door_requests: IntCounterVec,
    door_turns: IntCounterVec,
    notifications: IntCounterVec,
    message_feedback: IntCounterVec,
    memory_recalls: IntCounterVec,
    memory_recall_seconds: Histogram,
    mcp_servers_connected: IntGaugeVec,
    audit_records: IntCounter,
    audit_errors: IntCounter,
    owned_sessions: IntGauge,
    alive_tasks: IntGauge,
}

/// How a memory search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecallOutcome {
    /// At least one memory was relevant.
    Found,
    /// No memory was relevant.
    Nothing,
    /// The search failed.
    Failed,
}

impl RecallOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Nothing => "nothing",
            Self::Failed => "failed",
        }
    }
}

impl Metrics {
    /// Creates the metrics in a registry of their own.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let register = MetricRegistrar(&registry);
        let build = register.gauge_vec("k8sops_build_info", "The running version; always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        register.process_metrics();
        let metrics = Self {
            known_models: OnceLock::new(),
            runs: register.counter_vec("k8sops_runs_total", "Runs that ended, by outcome.", &["outcome"]),
            run_seconds: register.histogram_vec(
                "k8sops_run_duration_seconds",
                "Duration of runs.",
                &["outcome"],
                LONG_BUCKETS,
            ),
            open_runs: register
                .gauge("k8sops_runs_open", "Open runs of this replica, including those that wait for an approval."),
            first_event_seconds: register.histogram(
                "k8sops_time_to_first_event_seconds",
                "Time from the start of a run to the first token of its first reply.",
                LONG_BUCKETS,
            ),
            pending_approvals: register
                .gauge("k8sops_approvals_waiting", "Tool calls of this replica that wait for an approval."),
            takeovers: register.counter(
                "k8sops_takeovers_total",
                "Runs that this replica resumed after another owner or an earlier process left them.",
            ),
            lease_losses: register.counter("k8sops_lease_losses_total", "Sessions whose lease this replica lost."),
            tool_calls: register.counter_vec(
                "k8sops_tool_calls_total",
                "Tool calls that ended. Server and effect are none for calls that were not sent.",
                &["server", "effect", "status"],
            ),
            tool_seconds: register.histogram_vec(
                "k8sops_tool_call_duration_seconds",
                "Time from sending a tool call to its end.",
                &["server", "effect"],
                LONG_BUCKETS,
            ),
            model_requests: register.counter_vec(
                "k8sops_model_requests_total",
                "Model calls by outcome: ok, cancelled, or the error code.",
                &["provider", "model", "outcome"],
            ),
            model_seconds: register.histogram_vec(
                "k8sops_model_request_duration_seconds",
                "Time from a model call to the end of its reply.",
                &["provider", "model"],
                LONG_BUCKETS,
            ),
            first_token_seconds: register.histogram_vec(
                "k8sops_model_time_to_first_token_seconds",
                "Time from a model call to the first token of its reply.",
                &["provider", "model"],
                LONG_BUCKETS,
            ),
            model_tokens: register.counter_vec(
                "k8sops_model_tokens_total",
                "Tokens by direction: input (including cached and cache_write) and output (including reasoning).",
                &["provider", "model", "direction"],
            ),
            model_cost_usd: register.float_counter_vec(
                "k8sops_model_cost_usd_total",
                "Cost of model calls by the catalog's prices, in US dollars.",
                &["provider", "model"],
            ),
            model_replies: register.counter_vec(
                "k8sops_model_replies_total",
                "Complete model replies.",
                &["provider", "model"],
            ),
            model_retries: register.counter_vec(
                "k8sops_model_retries_total",
                "Retries of model calls, by error code.",
                &["code"],
            ),
            model_fallbacks: register
                .counter("k8sops_model_fallbacks_total", "Runs that switched to a fallback model."),
            requests_simplified: register.counter_vec(
                "k8sops_model_requests_simplified_total",
                "Conversations that were simplified because a model rejected them, by the step that helped.",
                &["provider", "model", "step"],
            ),
            context_compactions: register.counter(
                "k8sops_context_compactions_total",
                "Times that the oldest turns of a conversation were summarized.",
            ),
            open_circuits: register.gauge_vec(
                "k8sops_model_circuit_open",
                "Whether the circuit breaker of a model is open.",
                &["provider", "model"],
            ),
            events_committed: register.counter("k8sops_events_total", "Events committed."),
            commit_seconds: register.histogram(
                "k8sops_commit_duration_seconds",
                "Duration of commits to the store.",
                SHORT_BUCKETS,
            ),
            confirmation_seconds: register.histogram(
                "k8sops_store_confirmation_duration_seconds",
                "Time until the store has confirmed that a write survives a failure, or has not.",
                SHORT_BUCKETS,
            ),
            store_errors: register.counter_vec(
                "k8sops_store_errors_total",
                "Store errors that stopped a session or failed a request.",
                &["code"],
            ),
            open_streams: register.gauge_vec("k8sops_streams_open", "Open event streams by kind.", &["kind"]),
            websocket_floods: register.counter(
                "k8sops_websocket_floods_total",
                "WebSockets that were closed because their client sent too many frames that do nothing.",
            ),
            http_requests: register.counter_vec(
                "k8sops_http_requests_total",
                "HTTP requests by route, method and status class.",
                &["route", "method", "status"],
            ),
            http_request_seconds: register.histogram_vec(
                "k8sops_http_request_duration_seconds",
                "Time from an HTTP request to the head of its answer.",
                &["route", "method"],
                SHORT_BUCKETS,
            ),
            door_requests: register.counter_vec(
                "k8sops_door_requests_total",
                "HTTP requests by the protocol of the client and status class.",
                &["door", "status"],
            ),
            door_turns: register.counter_vec(
                "k8sops_door_turns_total",
                "Turns over other protocols than the native API, by where they ended.",
                &["door", "end"],
            ),
            notifications: register.counter_vec(
                "k8sops_notifications_total",
                "Push notifications: accepted by their receivers, attempts that failed, and receivers that were given up.",
                &["outcome"],
            ),
            message_feedback: register.counter_vec(
                "k8sops_message_feedback_total",
                "Ratings of replies by their users: up or down.",
                &["rating"],
            ),
            memory_recalls: register.counter_vec(
                "k8sops_memory_recalls_total",
                "Memory searches by outcome: found, nothing or failed.",
                &["outcome"],
            ),
            memory_recall_seconds: register.histogram(
                "k8sops_memory_recall_duration_seconds",
                "Duration of memory searches.",
                SHORT_BUCKETS,
            ),
            mcp_servers_connected: register.gauge_vec(
                "k8sops_mcp_server_connected",
                "Whether a configured MCP server is connected.",
                &["server"],
            ),
            audit_records: register.counter("k8sops_audit_records_total", "Records written to the audit trail."),
            audit_errors: register
                .counter("k8sops_audit_errors_total", "Records that could not be written to the audit trail."),
            owned_sessions: register.gauge("k8sops_sessions_owned", "Sessions that this replica owns."),
            alive_tasks: register
                .gauge("k8sops_tasks_alive", "Tasks of the async runtime, without those of HTTP workers."),
            registry: registry.clone(),
        };
        // An alert on an absent series never fires: these exist from the start.
        for kind in StreamKind::ALL {
            metrics.open_streams.with_label_values(&[kind.as_str()]).set(0);
        }
        for outcome in ["completed", "cancelled", "limit", "failed"] {
            metrics.runs.with_label_values(&[outcome]).reset();
        }
        for code in ["unavailable", "unconfirmed", "corrupt", "fenced", "seq_conflict"] {
            metrics.store_errors.with_label_values(&[code]).reset();
        }
        metrics
    }

    /// Sets the models that may be labels, as pairs of provider and model. Only the first call has an effect.
    pub fn set_known_models(&self, models: impl IntoIterator<Item = (String, String)>) {
        let _ = self.known_models.set(models.into_iter().collect());
    }

    /// Returns the labels of a model; `other` in place of names that are not in the catalog.
    fn model_labels<'a>(&self, provider: &'a str, model: &'a str) -> [&'a str; 2] {
        let Some(models) = self.known_models.get() else { return [OTHER, OTHER] };
        if models.contains(&(provider.to_owned(), model.to_owned())) {
            return [provider, model];
        }
        if models.iter().any(|(known, _)| known == provider) { [provider, OTHER] } else { [OTHER, OTHER] }
    }

    /// Records a model call that ended. `outcome` is `ok`, `cancelled` or an error code.
    pub fn record_model_call(&self, provider: &str, model: &str, outcome: &str, took: Duration) {
        let [provider, model] = self.model_labels(provider, model);
        self.model_requests.with_label_values(&[provider, model, outcome]).inc();
        self.model_seconds.with_label_values(&[provider, model]).observe(took.as_secs_f64());
    }

    /// Records the time from a model call to the first token of its reply.
    pub fn record_first_token(&self, provider: &str, model: &str, took: Duration) {
        self.first_token_seconds.with_label_values(&self.model_labels(provider, model)).observe(took.as_secs_f64());
    }

    /// Records the time from the start of a run to its first token.
    pub fn record_first_event(&self, took: Duration) {
        self.first_event_seconds.observe(took.as_secs_f64());
    }

    /// Records the duration of a commit.
    pub fn record_commit(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Records how long a confirmation took.
    pub fn record_confirmation(&self, took: Duration) {
        self.confirmation_seconds.observe(took.as_secs_f64());
    }

    /// Counts a rating of a reply.
    pub fn count_message_feedback(&self, rating: &str) {
        self.message_feedback.with_label_values(&[rating]).inc();
    }

    /// Counts a store error by its code.
    pub fn count_store_error(&self, code: &'static str) {
        self.store_errors.with_label_values(&[code]).inc();
    }

    /// Counts a session whose lease was lost.
    pub fn count_lease_loss(&self) {
        self.lease_losses.inc();
    }

    /// Counts a run that this replica resumes.
    pub fn count_takeover(&self) {
        self.takeovers.inc();
    }

    /// Records an answered HTTP request. `route` is the pattern, not the path.
    pub fn record_http_request(&self, route: &str, method: &str, status: u16, took: Duration) {
        let class = status_class(status);
        let method = match method {
            known @ ("GET" | "POST" | "PATCH" | "DELETE" | "PUT" | "HEAD" | "OPTIONS") => known,
            _ => OTHER,
        };
        self.http_requests.with_label_values(&[route, method, class]).inc();
        self.http_request_seconds.with_label_values(&[route, method]).observe(took.as_secs_f64());
    }

    /// Counts an HTTP request by the protocol of its client.
    pub fn count_door_request(&self, door: &str, status: u16) {
        self.door_requests.with_label_values(&[door, status_class(status)]).inc();
    }

    /// Counts a turn over a door that ended for its client: at the end of the run, where it waits, or by a disconnect.
    pub fn count_door_turn(&self, door: &str, end: &str) {
        self.door_turns.with_label_values(&[door, end]).inc();
    }

    /// Counts an attempt to send a push notification, or a receiver that was given up.
    pub fn count_notification(&self, outcome: &str) {
        self.notifications.with_label_values(&[outcome]).inc();
    }

    /// Records a memory search.
    pub fn record_memory_recall(&self, outcome: RecallOutcome, took: Duration) {
        self.memory_recalls.with_label_values(&[outcome.as_str()]).inc();
        self.memory_recall_seconds.observe(took.as_secs_f64());
    }

    /// Counts a record that was written to the audit trail.
    pub fn count_audit_record(&self) {
        self.audit_records.inc();
    }

    /// Counts a record that could not be written to the audit trail.
    pub fn count_audit_error(&self) {
        self.audit_errors.inc();
    }

    /// Counts a WebSocket that is closed because of too many frames that do nothing.
    pub fn count_websocket_flood(&self) {
        self.websocket_floods.inc();
    }

    /// Counts a stream as open for as long as the guard lives.
    #[must_use]
    pub fn track_stream(&self, kind: StreamKind) -> OpenStreamGuard {
        let gauge = self.open_streams.with_label_values(&[kind.as_str()]);
        gauge.inc();
        OpenStreamGuard(gauge)
    }

    /// Returns one session's contribution to the gauges of open runs and pending approvals.
    #[must_use]
    pub fn gauge_guard(&self) -> GaugeGuard {
        GaugeGuard {
            open_runs_gauge: self.open_runs.clone(),
            pending_approvals_gauge: self.pending_approvals.clone(),
            open_runs: 0,
            pending_approvals: 0,
        }
    }

    /// Sets the models whose circuit breaker is open, as pairs of provider and model.
    pub fn set_open_circuits(&self, models: &[(String, String)]) {
        self.open_circuits.reset();
        for (provider, model) in models {
            self.open_circuits.with_label_values(&self.model_labels(provider, model)).set(1);
        }
    }

    /// Sets which MCP servers are connected.
    pub fn set_mcp_connections<'a>(&self, servers: impl IntoIterator<Item = (&'a str, bool)>) {
        for (server, connected) in servers {
            self.mcp_servers_connected.with_label_values(&[server]).set(connected.into());
        }
    }

    /// Sets the number of owned sessions and of alive tasks.
    pub fn set_replica_load(&self, sessions: usize, tasks: usize) {
        self.owned_sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        self.alive_tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    }

    /// Renders all metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory does not fail; a family that cannot be encoded is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn status_class(status: u16) -> &'static str {
    match status {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_outside_the_catalog_are_labelled_other() {
        let metrics = Metrics::new();
        metrics.set_known_models([("openai".to_owned(), "known".to_owned())]);
        for (provider, model) in [("openai", "known"), ("openai", "private"), ("private", "private")] {
            metrics.record_model_call(provider, model, "ok", Duration::from_millis(10));
            metrics.set_open_circuits(&[(provider.to_owned(), model.to_owned())]);
        }
        let text = metrics.render();
        assert!(text.contains("k8sops_model_requests_total{model=\"known\",outcome=\"ok\",provider=\"openai\"} 1"));
        assert!(text.contains("k8sops_model_requests_total{model=\"other\",outcome=\"ok\",provider=\"openai\"} 1"));
        assert!(!text.contains("private"), "{text}");
    }

    #[test]
    fn dropped_guards_leave_the_gauges() {
        let metrics = Metrics::new();
        let mut a = metrics.gauge_guard();
        let mut b = metrics.gauge_guard();
        a.set_contribution(1, 2);
        b.set_contribution(1, 0);
        a.set_contribution(1, 1);
        assert_eq!((metrics.open_runs.get(), metrics.pending_approvals.get()), (2, 1));
        drop(a);
        assert_eq!((metrics.open_runs.get(), metrics.pending_approvals.get()), (1, 0));
        let stream = metrics.track_stream(StreamKind::Sse);
        assert!(metrics.render().contains("k8sops_streams_open{kind=\"sse\"} 1"));
        drop(stream);
        assert!(metrics.render().contains("k8sops_streams_open{kind=\"sse\"} 0"));
    }
}
