//! Options of this crate: logs and traces.

use std::collections::BTreeMap;

use k8sops_settings::{
    ValueFormat,
    declaration::{optional, or_empty, required},
    formats::{BOOLEAN, HEADER_PAIRS, HTTP_URL, TEXT, number_in},
    options, words,
};
use secrecy::SecretString;
use tracing_subscriber::filter::Targets;

options! {
    /// Logs, written to standard error.
    #[derive(Debug, Clone)]
    pub struct LogOptions at "log" {
        /// How much is logged.
        pub level: String = required(LOG_FILTER, "info").variable("LOG_LEVEL").live(),
        /// Format of a log line: `text` for people, `json` for machines.
        pub format: LogFormat = required(LOG_FORMAT, "text").variable("LOG_FORMAT"),
    }
}

options! {
    /// Traces over OTLP (HTTP with protobuf).
    #[derive(Debug, Clone)]
    pub struct TelemetryOptions at "telemetry" {
        /// Base URL of the collector, without /v1/traces; empty: nothing is exported.
        pub otlp_endpoint: Option<String> =
            optional(HTTP_URL).variable("OTEL_EXPORTER_OTLP_ENDPOINT").example("http://127.0.0.1:4318"),
        /// Headers of every export, percent-encoded.
        pub otlp_headers: BTreeMap<String, SecretString> =
            or_empty(HEADER_PAIRS).variable("OTEL_EXPORTER_OTLP_HEADERS").example("authorization=Bearer%20..."),
        /// Name of the service in traces.
        pub service_name: String = required(TEXT, "k8sops").variable("OTEL_SERVICE_NAME"),
        /// Which traces are kept.
        pub sampler: TraceSampler = required(TRACE_SAMPLER, "parentbased_always_on").variable("OTEL_TRACES_SAMPLER"),
        /// Share of traces that a `traceidratio` sampler keeps.
        pub sampler_arg: f64 = required(number_in(0.0, 1.0), "1").variable("OTEL_TRACES_SAMPLER_ARG"),
        /// Whether traces contain prompts, arguments and outputs.
        pub capture_content: bool =
            required(BOOLEAN, "false").variable("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"),
    }
}

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

const LOG_FORMAT: ValueFormat<LogFormat> = words! { "text" => LogFormat::Text, "json" => LogFormat::Json };

const LOG_FILTER: ValueFormat<String> = ValueFormat::described(
    "error, warn, info, debug, trace, off, or directives like info,k8sops=debug",
    parse_log_filter,
);

/// Which traces are kept, in OpenTelemetry's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceSampler {
    /// Whether the decision of the caller's span is followed, if it made one.
    pub parent_based: bool,
    /// What is decided otherwise.
    pub root: RootSampler,
}

/// What is decided for a trace that begins here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootSampler {
    /// Every trace is kept.
    AlwaysOn,
    /// Every trace is dropped.
    AlwaysOff,
    /// A share of the traces is kept.
    Ratio,
}

const TRACE_SAMPLER: ValueFormat<TraceSampler> = words! {
    "always_on" => TraceSampler { parent_based: false, root: RootSampler::AlwaysOn },
    "always_off" => TraceSampler { parent_based: false, root: RootSampler::AlwaysOff },
    "traceidratio" => TraceSampler { parent_based: false, root: RootSampler::Ratio },
    "parentbased_always_on" => TraceSampler { parent_based: true, root: RootSampler::AlwaysOn },
    "parentbased_always_off" => TraceSampler { parent_based: true, root: RootSampler::AlwaysOff },
    "parentbased_traceidratio" => TraceSampler { parent_based: true, root: RootSampler::Ratio },
};

/// Reads a filter in `tracing`'s form.
fn parse_log_filter(text: &str) -> Option<String> {
    let parse_level = |text: &str| match text.to_ascii_lowercase().as_str() {
        "warning" => Some("warn".to_owned()),
        level @ ("error" | "warn" | "info" | "debug" | "trace" | "off") => Some(level.to_owned()),
        _ => None,
    };
    if let Some(level) = parse_level(text) {
        return Some(level);
    }
    // A bare word that is not a level would be read as the name of a module, and nothing would be logged.
    let are_directives = text.split(',').all(|part| part.contains('=') || parse_level(part.trim()).is_some());
    (are_directives && text.parse::<Targets>().is_ok()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_filter_is_a_level_or_directives() {
        assert_eq!(LOG_FILTER.parse("WARNING").as_deref(), Some("warn"));
        assert!(LOG_FILTER.parse("info,rmcp=debug").is_some());
        for text in ["", "verbose", "info,loud", "k8sops=loud"] {
            assert_eq!(LOG_FILTER.parse(text), None, "{text}");
        }
    }
}
