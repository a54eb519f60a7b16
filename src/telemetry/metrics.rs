//! Prometheus metrics. Labels are bounded: words of the contract, never ids.

use prometheus::{
    CounterVec, Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};

use crate::session::{Event, EventBody, Usage};

/// The metrics of one service. Each service has its own registry, so that several can live in one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Runs that ended, by outcome (`completed`, `cancelled`, `limit`, `failed`).
    pub runs: IntCounterVec,
    /// Tool calls that ended, by status.
    pub tool_calls: IntCounterVec,
    /// Tokens by direction (`input`, `output`; `cached` and `cache_write` are part of the input, `reasoning` of the output).
    pub tokens: IntCounterVec,
    /// Money by provider, in US dollars.
    pub cost: CounterVec,
    /// Replies of models by provider.
    pub replies: IntCounterVec,
    /// Waits before a model was asked again, by the word for what went wrong.
    pub retries: IntCounterVec,
    /// Turns, or parts of one, that went on with another model because one was down.
    pub fallbacks: IntCounter,
    /// Summaries of the oldest turns of a conversation.
    pub compactions: IntCounter,
    /// Models that have failed and are left alone for a while: 1, by provider and model.
    pub broken: IntGaugeVec,
    /// Events committed.
    pub events: IntCounter,
    /// From the start of a commit to its end, in seconds.
    pub commit_seconds: Histogram,
    /// SSE, NDJSON and WebSocket streams that are open.
    pub streams: IntGauge,
    /// HTTP requests by class of status (`2xx`, …).
    pub requests: IntCounterVec,
}

impl Metrics {
    /// A new set.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter_vec = |name: &str, help: &str, label: &str| {
            let metric = IntCounterVec::new(Opts::new(name, help), &[label]).expect("a valid constant name");
            register(&registry, metric)
        };
        Self {
            runs: counter_vec("k8sops_runs_total", "Runs that ended, by outcome.", "outcome"),
            tool_calls: counter_vec("k8sops_tool_calls_total", "Tool calls that ended, by status.", "status"),
            tokens: counter_vec(
                "k8sops_model_tokens_total",
                "Tokens that model calls used, by direction.",
                "direction",
            ),
            cost: register(
                &registry,
                CounterVec::new(
                    Opts::new(
                        "k8sops_model_cost_usd_total",
                        "What model calls cost by the catalog's prices, in US dollars.",
                    ),
                    &["provider"],
                )
                .expect("a valid constant name"),
            ),
            replies: counter_vec("k8sops_model_replies_total", "Complete replies of models, by provider.", "provider"),
            retries: counter_vec(
                "k8sops_model_retries_total",
                "Waits before a model was asked again, by what went wrong.",
                "code",
            ),
            fallbacks: register(
                &registry,
                IntCounter::new(
                    "k8sops_model_fallbacks_total",
                    "Times that a turn went on with another model because one was down.",
                )
                .expect("a valid constant name"),
            ),
            compactions: register(
                &registry,
                IntCounter::new("k8sops_context_compactions_total", "Times that the oldest turns were summarised.")
                    .expect("a valid constant name"),
            ),
            broken: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("k8sops_model_circuit_open", "Models that have failed and are left alone for a while."),
                    &["provider", "model"],
                )
                .expect("a valid constant name"),
            ),
            requests: counter_vec(
                "k8sops_http_requests_total",
                "HTTP requests answered, by class of status.",
                "status",
            ),
            events: register(
                &registry,
                IntCounter::new("k8sops_events_total", "Events committed.").expect("a valid constant name"),
            ),
            commit_seconds: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new("k8sops_commit_duration_seconds", "Time of one commit to the store.")
                        .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]),
                )
                .expect("valid constants"),
            ),
            streams: register(
                &registry,
                IntGauge::new("k8sops_streams_open", "Event streams that are open.").expect("a valid constant name"),
            ),
            registry,
        }
    }

    /// Counts what a committed event says.
    pub fn count_event(&self, event: &Event) {
        self.events.inc();
        match &event.body {
            EventBody::RunFinished(e) => self.runs.with_label_values(&[e.outcome.as_str()]).inc(),
            EventBody::RunFailed(_) => self.runs.with_label_values(&["failed"]).inc(),
            EventBody::ToolEnd(e) => self.tool_calls.with_label_values(&[e.status.as_str()]).inc(),
            EventBody::AssistantMessage(e) => {
                let provider = e.provider.as_deref().unwrap_or("unknown");
                self.replies.with_label_values(&[provider]).inc();
                self.count_usage(provider, e.usage);
            }
            EventBody::ContextCompacted(e) => {
                self.compactions.inc();
                self.count_usage(e.provider.as_deref().unwrap_or("unknown"), e.usage);
            }
            EventBody::Warning(e) if e.wait_seconds.is_some() => self.retries.with_label_values(&[&e.code]).inc(),
            EventBody::Warning(e) if e.code == "fallback" => self.fallbacks.inc(),
            _ => {}
        }
    }

    fn count_usage(&self, provider: &str, usage: Usage) {
        for (direction, tokens) in [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached", usage.cached_tokens),
            ("cache_write", usage.cache_write_tokens),
            ("reasoning", usage.reasoning_tokens),
        ] {
            self.tokens.with_label_values(&[direction]).inc_by(tokens);
        }
        self.cost.with_label_values(&[provider]).inc_by(usage.cost_usd.dollars());
    }

    /// Says which models are left alone just now, as provider and model.
    pub fn set_broken(&self, models: &[(String, String)]) {
        self.broken.reset();
        for (provider, model) in models {
            self.broken.with_label_values(&[provider, model]).set(1);
        }
    }

    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
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

fn register<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> M {
    registry.register(Box::new(metric.clone())).expect("each name is registered once");
    metric
}
