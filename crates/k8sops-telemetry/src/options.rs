//! Options of this crate: logs and traces.

use std::collections::BTreeMap;

use secrecy::SecretString;

/// Logs of the service.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `LOG_LEVEL`: `error`, `warn`, `info`, `debug`, `trace`, or filter directives.
    pub level: String,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Traces over OTLP.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// The collector's base URL; absent: nothing is exported.
    pub endpoint: Option<String>,
    /// Headers of every export.
    pub headers: BTreeMap<String, SecretString>,
    /// The service's name (`k8sops`).
    pub service_name: String,
    /// Which traces are kept (`parentbased_always_on`).
    pub sampler: Sampler,
    /// The share that a ratio keeps, 0 to 1.
    pub sampler_arg: f64,
    /// Whether prompts, arguments and outputs are in them (no).
    pub capture_content: bool,
}

/// Which traces are kept, in OpenTelemetry's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Whether a caller that has decided already is followed.
    pub parent_based: bool,
    /// What is decided otherwise.
    pub root: RootSampler,
}

/// What becomes of a trace that begins here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootSampler {
    /// It is kept.
    AlwaysOn,
    /// It is dropped.
    AlwaysOff,
    /// A share of them is kept.
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
