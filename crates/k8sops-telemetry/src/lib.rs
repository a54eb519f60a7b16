//! Logs, metrics and traces of k8sops.
//!
//! | module | holds |
//! |---|---|
//! | [`logs`] | the subscriber of the process: log lines to standard error, spans to a collector |
//! | [`Metrics`] | the Prometheus metrics of one service |
//! | [`OutageLog`] | one line when a failure begins, one when it ends |
//! | [`request_id`] | the id of the request that is being handled |
//! | [`trace_context`] | W3C trace context: read from requests, sent along to models and tools |
//! | [`spans`] | one constructor for each kind of span, and what is recorded on it |
//!
//! Labels of metrics are bounded, and nothing that a user or a tool wrote gets into a log line. There is no span, no lock and
//! no attribute per streamed token.

mod exporter;
pub mod logs;
mod metrics;
mod options;
mod outage_log;
pub mod request_id;
pub mod spans;
pub mod trace_context;

pub use exporter::{SpanExporterGuard, TraceExportError};
pub use metrics::{GaugeGuard, Metrics, OpenStreamGuard, RecallOutcome, StreamKind};
pub use options::{LogFormat, LogOptions, RootSampler, TelemetryOptions, TraceSampler};
pub use outage_log::{EndedOutage, OutageLog, OutageObserver, OutageStage};
