//! Options of this crate: logs and traces.

use std::collections::BTreeMap;

use secrecy::SecretString;

/// Options of the log lines.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `LOG_LEVEL`: `error`, `warn`, `info`, `debug`, `trace`, or filter directives.
    pub level: String,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Options of the trace export over OTLP.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// The collector's base URL; `None` exports nothing.
    pub endpoint: Option<String>,
    /// Headers of every export request.
    pub headers: BTreeMap<String, SecretString>,
    /// `service.name` of the exported spans (default `k8sops`).
    pub service_name: String,
    /// Which traces are exported (default `parentbased_always_on`).
    pub sampler: Sampler,
    /// The ratio of traces that [`RootSampler::Ratio`] keeps, 0 to 1.
    pub sampler_arg: f64,
    /// Whether prompts, arguments and outputs are recorded (default false).
    pub capture_content: bool,
}

/// Which traces are exported, in the terms of `OTEL_TRACES_SAMPLER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Whether the caller's sampling decision is followed.
    pub parent_based: bool,
    /// The decision for traces without a sampled parent.
    pub root: RootSampler,
}

/// The sampling decision for a trace that starts here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootSampler {
    /// Every trace is exported.
    AlwaysOn,
    /// No trace is exported.
    AlwaysOff,
    /// A ratio of the traces is exported.
    Ratio,
}

impl Sampler {
    /// Parses a name of `OTEL_TRACES_SAMPLER`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (parent_based, root) = match text.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, text),
        };
        let root = match root {
            "always_on" => RootSampler::AlwaysOn,
            "always_off" => RootSampler::AlwaysOff,
            "traceidratio" => RootSampler::Ratio,
            _ => return None,
        };
        Some(Self { parent_based, root })
    }
}
