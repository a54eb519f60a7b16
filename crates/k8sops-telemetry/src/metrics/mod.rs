//! Prometheus metrics. Labels are bounded: words of the contract and of the configuration, never ids. A model that the
//! catalog does not have is `other`.

mod make;
mod process;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus::{
    CounterVec, Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

use k8sops_core::{EventBody, SessionEvent, SessionState, TokenUsage, ToolCallId};
use make::Maker;

/// The label of what is not known by name.
const OTHER: &str = "other";

/// The metrics of one service. Each service has its own registry, so that several can live in one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The models that are labels, as provider and model.
    models: OnceLock<BTreeSet<(String, String)>>,
    runs: IntCounterVec,
    run_seconds: HistogramVec,
    runs_open: IntGauge,
    first_event_seconds: Histogram,
    approvals_waiting: IntGauge,
    takeovers: IntCounter,
    lease_losses: IntCounter,
    tool_calls: IntCounterVec,
    tool_seconds: HistogramVec,
    model_requests: IntCounterVec,
    model_seconds: HistogramVec,
    first_token_seconds: HistogramVec,
    tokens: IntCounterVec,
    cost: CounterVec,
    replies: IntCounterVec,
    retries: IntCounterVec,
    fallbacks: IntCounter,
    compactions: IntCounter,
    broken: IntGaugeVec,
    events: IntCounter,
    commit_seconds: Histogram,
    store_errors: IntCounterVec,
    streams: IntGaugeVec,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    recalls: IntCounterVec,
    recall_seconds: Histogram,
    mcp_connected: IntGaugeVec,
    audit_records: IntCounter,
    audit_errors: IntCounter,
    process: process::Process,
}

/// What came of looking for memories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// Some fit.
    Found,
    /// None does.
    Nothing,
    /// They could not be looked for.
    Failed,
}

impl Metrics {
    /// A new set.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        let build = make.gauges("k8sops_build_info", "The version that runs; always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            models: OnceLock::new(),
            runs: make.counters("k8sops_runs_total", "Runs that ended, by outcome.", &["outcome"]),
            run_seconds: make.times(
                "k8sops_run_duration_seconds",
                "From the start of a run to its end.",
                &["outcome"],
                make::LONG,
            ),
            runs_open: make.gauge("k8sops_runs_open", "Runs that this replica works on, waiting ones included."),
            first_event_seconds: make.time(
                "k8sops_time_to_first_event_seconds",
                "From the start of a run to the first piece of its first reply.",
                make::LONG,
            ),
            approvals_waiting: make
                .gauge("k8sops_approvals_waiting", "Tool calls of this replica's runs that wait for a user's approval."),
            takeovers: make.counter(
                "k8sops_takeovers_total",
                "Runs that were gone on with after another owner, or an earlier process, had left them.",
            ),
            lease_losses: make.counter("k8sops_lease_losses_total", "Sessions that this replica lost its lease on."),
            tool_calls: make.counters(
                "k8sops_tool_calls_total",
                "Tool calls that ended; server and effect are none for those that were not sent.",
                &["server", "effect", "status"],
            ),
            tool_seconds: make.times(
                "k8sops_tool_call_duration_seconds",
                "From sending a tool call to its end.",
                &["server", "effect"],
                make::LONG,
            ),
            model_requests: make.counters(
                "k8sops_model_requests_total",
                "Calls of models, by outcome: ok, cancelled, or what went wrong.",
                &["provider", "model", "outcome"],
            ),
            model_seconds: make.times(
                "k8sops_model_request_duration_seconds",
                "From a call of a model to the end of its reply.",
                &["provider", "model"],
                make::LONG,
            ),
            first_token_seconds: make.times(
                "k8sops_model_time_to_first_token_seconds",
                "From a call of a model to the first piece of its reply.",
                &["provider", "model"],
                make::LONG,
            ),
            tokens: make.counters(
                "k8sops_model_tokens_total",
                "Tokens by direction: input (cached and cache_write are parts of it) and output (reasoning is a part of it).",
                &["provider", "model", "direction"],
            ),
            cost: make.amounts(
                "k8sops_model_cost_usd_total",
                "What model calls cost by the catalog's prices, in US dollars.",
                &["provider", "model"],
            ),
            replies: make.counters(
                "k8sops_model_replies_total",
                "Complete replies of models.",
                &["provider", "model"],
            ),
            retries: make.counters(
                "k8sops_model_retries_total",
                "Waits before a model was asked again, by what went wrong.",
                &["code"],
            ),
            fallbacks: make.counter(
                "k8sops_model_fallbacks_total",
                "Times that a turn went on with another model because one was down.",
            ),
            compactions: make
                .counter("k8sops_context_compactions_total", "Times that the oldest turns were summarised."),
            broken: make.gauges(
                "k8sops_model_circuit_open",
                "Models that have failed and are left alone for a while.",
                &["provider", "model"],
            ),
            events: make.counter("k8sops_events_total", "Events committed."),
            commit_seconds: make.time("k8sops_commit_duration_seconds", "Time of one commit to the store.", make::SHORT),
            store_errors: make.counters(
                "k8sops_store_errors_total",
                "Failures of the store that stopped work on a session or failed a request.",
                &["code"],
            ),
            streams: make.gauges("k8sops_streams_open", "Event streams that are open, by kind.", &["kind"]),
            requests: make.counters(
                "k8sops_http_requests_total",
                "HTTP requests answered, by route, method and class of status.",
                &["route", "method", "status"],
            ),
            request_seconds: make.times(
                "k8sops_http_request_duration_seconds",
                "From a request to the head of its answer.",
                &["route", "method"],
                make::SHORT,
            ),
            recalls: make.counters(
                "k8sops_memory_recalls_total",
                "Searches for memories, by outcome: found, nothing or failed.",
                &["outcome"],
            ),
            recall_seconds: make.time(
                "k8sops_memory_recall_duration_seconds",
                "Time of one search for memories.",
                make::SHORT,
            ),
            mcp_connected: make.gauges(
                "k8sops_mcp_server_connected",
                "Whether calls of a configured MCP server can be made now.",
                &["server"],
            ),
            audit_records: make.counter("k8sops_audit_records_total", "Records written to the audit trail."),
            audit_errors: make
                .counter("k8sops_audit_errors_total", "Records that could not be written to the audit trail."),
            process: process::Process::new(&make),
            registry: registry.clone(),
        };
        // What is looked at for its absence must be there from the start.
        for kind in [Stream::WebSocket, Stream::Sse, Stream::Ndjson] {
            metrics.streams.with_label_values(&[kind.word()]).set(0);
        }
        for outcome in ["completed", "cancelled", "limit", "failed"] {
            metrics.runs.with_label_values(&[outcome]).reset();
        }
        for code in ["unavailable", "corrupt", "fenced", "seq_conflict"] {
            metrics.store_errors.with_label_values(&[code]).reset();
        }
        metrics
    }

    /// Says which models are labels, as provider and model. The first call counts.
    pub fn know_models(&self, models: impl IntoIterator<Item = (String, String)>) {
        let _ = self.models.set(models.into_iter().collect());
    }

    /// The labels of a model: its own names if it is one of the catalog, else those of no model.
    fn labels<'a>(&self, provider: &'a str, model: &'a str) -> [&'a str; 2] {
        let Some(models) = self.models.get() else { return [OTHER, OTHER] };
        // By provider first, so that the other models of one stay with it.
        if models.contains(&(provider.to_owned(), model.to_owned())) {
            return [provider, model];
        }
        if models.iter().any(|(known, _)| known == provider) { [provider, OTHER] } else { [OTHER, OTHER] }
    }

    /// Counts what a committed event says; `before` is the session without it.
    pub fn count_event(&self, event: &SessionEvent, before: &SessionState) {
        self.events.inc();
        match &event.body {
            EventBody::RunFinished(e) => self.run_ended(e.outcome.as_str(), Some(e.duration_ms)),
            EventBody::RunFailed(_) => {
                let began = before.run.as_ref().map(|run| event.ts.since(run.started_at).as_millis());
                self.run_ended("failed", began.and_then(|ms| u64::try_from(ms).ok()));
            }
            EventBody::ToolEnd(e) => {
                let sent = sent(before, &e.tool_call_id);
                let (server, effect) = sent.unwrap_or(("none", "none"));
                self.tool_calls.with_label_values(&[server, effect, e.status.as_str()]).inc();
                if sent.is_some() {
                    let took = Duration::from_millis(e.duration_ms).as_secs_f64();
                    self.tool_seconds.with_label_values(&[server, effect]).observe(took);
                }
            }
            EventBody::AssistantMessage(e) => {
                let labels = self.labels(e.provider.as_deref().unwrap_or(OTHER), e.model.as_deref().unwrap_or(OTHER));
                self.replies.with_label_values(&labels).inc();
                self.count_usage(labels, e.usage);
            }
            EventBody::ContextCompacted(e) => {
                self.compactions.inc();
                let labels = self.labels(e.provider.as_deref().unwrap_or(OTHER), e.model.as_deref().unwrap_or(OTHER));
                self.count_usage(labels, e.usage);
            }
            EventBody::MemorySaved(e) if e.provider.is_some() => {
                let labels = self.labels(e.provider.as_deref().unwrap_or(OTHER), e.model.as_deref().unwrap_or(OTHER));
                self.count_usage(labels, e.usage);
            }
            EventBody::Warning(e) if e.wait_seconds.is_some() => self.retries.with_label_values(&[&e.code]).inc(),
            EventBody::Warning(e) if e.code == "fallback" => self.fallbacks.inc(),
            _ => {}
        }
    }

    fn run_ended(&self, outcome: &str, took_ms: Option<u64>) {
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
            self.tokens.with_label_values(&[provider, model, direction]).inc_by(tokens);
        }
        self.cost.with_label_values(&[provider, model]).inc_by(usage.cost_usd.dollars());
    }

    /// Counts a call of a model that has ended, in one word.
    pub fn model_called(&self, provider: &str, model: &str, outcome: &str, took: Duration) {
        let [provider, model] = self.labels(provider, model);
        self.model_requests.with_label_values(&[provider, model, outcome]).inc();
        self.model_seconds.with_label_values(&[provider, model]).observe(took.as_secs_f64());
    }

    /// Notes how long a model took to begin its reply.
    pub fn model_began(&self, provider: &str, model: &str, took: Duration) {
        self.first_token_seconds.with_label_values(&self.labels(provider, model)).observe(took.as_secs_f64());
    }

    /// Notes how long a run took to show something.
    pub fn first_event(&self, took: Duration) {
        self.first_event_seconds.observe(took.as_secs_f64());
    }

    /// Notes how long a commit took.
    pub fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts a failure of the store, by a stable word.
    pub fn store_failed(&self, code: &'static str) {
        self.store_errors.with_label_values(&[code]).inc();
    }

    /// Counts a session that was lost to another owner, or might have been.
    pub fn lease_lost(&self) {
        self.lease_losses.inc();
    }

    /// Counts a run that is gone on with.
    pub fn took_over(&self) {
        self.takeovers.inc();
    }

    /// Counts an answer of the API. `route` is the pattern, not the path.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let class = match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        let method = match method {
            known @ ("GET" | "POST" | "PATCH" | "DELETE" | "PUT" | "HEAD" | "OPTIONS") => known,
            _ => OTHER,
        };
        self.requests.with_label_values(&[route, method, class]).inc();
        self.request_seconds.with_label_values(&[route, method]).observe(took.as_secs_f64());
    }

    /// Counts a search for memories.
    pub fn recalled(&self, outcome: Recall, took: Duration) {
        let word = match outcome {
            Recall::Found => "found",
            Recall::Nothing => "nothing",
            Recall::Failed => "failed",
        };
        self.recalls.with_label_values(&[word]).inc();
        self.recall_seconds.observe(took.as_secs_f64());
    }

    /// Counts a record of the audit trail, or one that could not be written.
    pub fn audited(&self, written: bool) {
        if written { &self.audit_records } else { &self.audit_errors }.inc();
    }

    /// Counts a stream as open for as long as what is returned lives.
    #[must_use]
    pub fn stream(&self, kind: Stream) -> OpenStream {
        let gauge = self.streams.with_label_values(&[kind.word()]);
        gauge.inc();
        OpenStream(gauge)
    }

    /// What one session adds to the gauges, until it is dropped.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Share {
        Share { metrics: self.clone(), runs: 0, approvals: 0 }
    }

    /// Says which models are left alone just now, as provider and model.
    pub fn set_broken(&self, models: &[(String, String)]) {
        self.broken.reset();
        for (provider, model) in models {
            self.broken.with_label_values(&self.labels(provider, model)).set(1);
        }
    }

    /// Says which MCP servers are connected just now.
    pub fn set_servers<'a>(&self, servers: impl IntoIterator<Item = (&'a str, bool)>) {
        for (server, connected) in servers {
            self.mcp_connected.with_label_values(&[server]).set(connected.into());
        }
    }

    /// Says what there is of the work of this process, for as many of its sessions as it owns.
    pub fn set_work(&self, sessions: usize, tasks: usize) {
        self.process.set_work(sessions, tasks);
    }

    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.look();
        let mut text = Vec::new();
        // Writing to memory does not fail; a family that cannot be written is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Server and effect of a call that was sent.
fn sent<'a>(state: &'a SessionState, call: &ToolCallId) -> Option<(&'a str, &'static str)> {
    let open = state.run.as_ref()?.calls.iter().find(|open| &open.call.id == call)?;
    let started = open.started.as_ref()?;
    Some((&started.server, started.effect.as_str()))
}

/// The kind of a stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// A WebSocket.
    WebSocket,
    /// Server-sent events.
    Sse,
    /// JSON in lines.
    Ndjson,
}

impl Stream {
    fn word(self) -> &'static str {
        match self {
            Self::WebSocket => "ws",
            Self::Sse => "sse",
            Self::Ndjson => "ndjson",
        }
    }
}

/// A stream that counts as open as long as this lives.
#[derive(Debug)]
pub struct OpenStream(IntGauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What one session adds to the gauges of open runs and waiting approvals; nothing any more when it is dropped.
#[derive(Debug)]
pub struct Share {
    metrics: Arc<Metrics>,
    runs: i64,
    approvals: i64,
}

impl Share {
    /// Says what it adds now.
    pub fn set(&mut self, run_open: bool, approvals: usize) {
        let (runs, approvals) = (i64::from(run_open), i64::try_from(approvals).unwrap_or(i64::MAX));
        self.metrics.runs_open.add(runs - self.runs);
        self.metrics.approvals_waiting.add(approvals - self.approvals);
        (self.runs, self.approvals) = (runs, approvals);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(false, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_the_catalog_does_not_have_is_no_label() {
        let metrics = Metrics::new();
        metrics.know_models([("openai".to_owned(), "known".to_owned())]);
        for (provider, model) in [("openai", "known"), ("openai", "somebody's"), ("somebody's", "somebody's")] {
            metrics.model_called(provider, model, "ok", Duration::from_millis(10));
            metrics.set_broken(&[(provider.to_owned(), model.to_owned())]);
        }
        let text = metrics.render();
        assert!(text.contains("k8sops_model_requests_total{model=\"known\",outcome=\"ok\",provider=\"openai\"} 1"));
        assert!(text.contains("k8sops_model_requests_total{model=\"other\",outcome=\"ok\",provider=\"openai\"} 1"));
        assert!(!text.contains("somebody"), "{text}");
    }

    #[test]
    fn what_a_session_adds_to_the_gauges_goes_with_it() {
        let metrics = Arc::new(Metrics::new());
        let (mut a, mut b) = (metrics.share(), metrics.share());
        a.set(true, 2);
        b.set(true, 0);
        a.set(true, 1);
        assert_eq!((metrics.runs_open.get(), metrics.approvals_waiting.get()), (2, 1));
        drop(a);
        assert_eq!((metrics.runs_open.get(), metrics.approvals_waiting.get()), (1, 0));
        let stream = metrics.stream(Stream::Sse);
        assert!(metrics.render().contains("k8sops_streams_open{kind=\"sse\"} 1"));
        drop(stream);
        assert!(metrics.render().contains("k8sops_streams_open{kind=\"sse\"} 0"));
    }
}
