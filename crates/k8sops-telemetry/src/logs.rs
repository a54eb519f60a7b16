//! The subscriber of the process: log lines to standard error, as text or JSON, and spans to a collector.

use std::{io::IsTerminal as _, sync::OnceLock};

use tracing_subscriber::{EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use crate::{
    exporter::{SpanExporterGuard, TraceExportError, export_layer},
    options::{LogFormat, LogOptions, TelemetryOptions},
};

/// Libraries whose `info` and `debug` lines are not about this service. `LOG_LEVEL=debug,hyper=debug` shows them.
const QUIET_LIBRARIES: [(&str, &str); 5] =
    [("hyper", "warn"), ("reqwest", "warn"), ("h2", "warn"), ("rustls", "warn"), ("actix_server", "warn")];

/// Libraries that are silent at every level. Warnings and errors of rmcp hold whole server URLs, which can contain credentials,
/// and repeat what `k8sops_mcp` logs. actix_http calls every malformed request of a client an error.
const SILENT_LIBRARIES: [(&str, &str); 2] = [("rmcp", "off"), ("actix_http", "off")];

/// Why the subscriber could not be installed or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `LOG_LEVEL` is not a valid filter.
    #[error("LOG_LEVEL is not a filter: {0}")]
    InvalidFilter(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber is installed in this process.
    #[error("a log subscriber is already installed: {0}")]
    AlreadyInstalled(#[from] tracing_subscriber::util::TryInitError),
    /// Traces cannot be exported.
    #[error(transparent)]
    TraceExport(#[from] TraceExportError),
    /// The filter cannot be replaced, because the subscriber is gone.
    #[error("the log filter cannot be replaced: {0}")]
    NotInstalled(#[from] reload::Error),
}

type ReplaceFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Replaces the filter in force. One per process, as the subscriber is.
static REPLACE_FILTER: OnceLock<ReplaceFilter> = OnceLock::new();

/// Installs the subscriber of this process. Spans are exported until the returned guard is shut down.
///
/// # Errors
/// `LOG_LEVEL` is not a filter (the configuration has checked it), the exporter cannot be built, or a subscriber is installed.
pub fn install_subscriber(
    config: &LogOptions,
    telemetry: Option<&TelemetryOptions>,
) -> Result<SpanExporterGuard, LogError> {
    // The filter applies to log lines only: LOG_LEVEL does not decide what is traced.
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(filter_directives(&config.level))?);
    let (spans, exporter) = export_layer(telemetry)?;
    let registry = tracing_subscriber::registry().with(spans);
    match config.format {
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry.with(lines.with_writer(std::io::stderr).with_filter(filter)).try_init()?;
        }
        LogFormat::Text => {
            let colors = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            let lines = fmt::layer().with_ansi(colors).with_writer(std::io::stderr);
            registry.with(lines.with_filter(filter)).try_init()?;
        }
    }
    // The cell is empty: a second call fails above.
    let _ = REPLACE_FILTER.set(Box::new(move |filter| handle.reload(filter)));
    Ok(exporter)
}

/// Replaces the log filter in force. Does nothing before [`install_subscriber`].
///
/// # Errors
/// `level` is not a filter.
pub fn set_log_level(level: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(filter_directives(level))?;
    if let Some(replace) = REPLACE_FILTER.get() {
        replace(filter)?;
    }
    Ok(())
}

/// Returns the operator's filter, extended by directives for noisy libraries that it does not name itself.
fn filter_directives(level: &str) -> String {
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    let has_bare_level =
        |levels: &[&str]| parts.iter().any(|part| levels.contains(&part.to_ascii_lowercase().as_str()));
    // With a level below `warn`, a `warn` for a library would show more of it, not less.
    let is_verbose = has_bare_level(&["info", "debug", "trace"]);
    let is_logging = is_verbose || has_bare_level(&["warn", "error"]);
    let silent = SILENT_LIBRARIES.into_iter().filter(|_| is_logging);
    let quieted = silent.chain(QUIET_LIBRARIES.into_iter().filter(|_| is_verbose));
    let mut directives = level.to_owned();
    for (library, max_level) in quieted {
        let names_library = |part: &str| {
            part.strip_prefix(library).is_some_and(|rest| rest.is_empty() || rest.starts_with(['=', ':', '[']))
        };
        if !parts.iter().any(|part| names_library(part)) {
            directives.extend([",", library, "=", max_level]);
        }
    }
    directives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noisy_libraries_are_quiet_unless_named() {
        assert_eq!(
            filter_directives("info"),
            "info,rmcp=off,actix_http=off,hyper=warn,reqwest=warn,h2=warn,rustls=warn,actix_server=warn"
        );
        let own = filter_directives("debug,rmcp::service=trace,h2=info");
        assert!(!own.contains("rmcp=off") && !own.contains("h2=warn") && own.contains("hyper=warn"), "{own}");
        for quiet in ["off", "k8sops=debug"] {
            assert_eq!(filter_directives(quiet), quiet);
        }
    }

    #[test]
    fn silent_libraries_are_silent_unless_named() {
        for level in ["error", "warn", "WARN", "info", "trace", "error,k8sops=debug"] {
            let all = filter_directives(level);
            assert!(all.contains(",rmcp=off,actix_http=off"), "{all}");
        }
        assert_eq!(filter_directives("warn"), "warn,rmcp=off,actix_http=off");
        for named in ["warn,rmcp=warn,actix_http=error", "error,rmcp::transport=error,actix_http::h1=error"] {
            assert_eq!(filter_directives(named), named);
        }
    }
}
