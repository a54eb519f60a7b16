//! Logs: one line each to standard error, for people or for machines.

use std::{io::IsTerminal as _, sync::OnceLock};

use tracing_subscriber::{EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use super::traces::{self, Exporter, TraceError};
use crate::{LogFormat, LogOptions, TelemetryOptions};

/// Libraries that say at `info` and `debug` what an operator of this service does not ask for with `LOG_LEVEL=debug`.
/// Who wants it names them: `LOG_LEVEL=debug,hyper=debug`.
const QUIET: [(&str, &str); 5] =
    [("hyper", "warn"), ("reqwest", "warn"), ("h2", "warn"), ("rustls", "warn"), ("actix_server", "warn")];

/// What a library says that is not to be heard at any level: the warnings and errors of rmcp hold whole addresses of
/// servers, with what is secret in them, and repeat what `mcp` reports.
const SILENT: (&str, &str) = ("rmcp", "off");

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `LOG_LEVEL` is no filter.
    #[error("LOG_LEVEL is not a filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in this process receives the logs already.
    #[error("logs are set up already: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] TraceError),
    /// The filter cannot be replaced: logs were not set up here.
    #[error("logs are not set up: {0}")]
    NotThere(#[from] reload::Error),
}

type Replace = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Replaces the filter in force. One for the process, as the logs are.
static FILTER: OnceLock<Replace> = OnceLock::new();

/// Sends the logs of this process to standard error from now on, and its traces to a collector, if one is named. Traces end
/// when what is returned is dropped.
///
/// # Errors
/// `LOG_LEVEL` is no filter (the configuration has checked it), there is no way to the collector, or it was done before.
pub fn init(config: &LogOptions, telemetry: Option<&TelemetryOptions>) -> Result<Exporter, LogError> {
    // Of the lines alone: what is traced does not depend on what is logged.
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(directives(&config.level))?);
    let (spans, exporter) = traces::layer(telemetry)?;
    let registry = tracing_subscriber::registry().with(spans);
    match config.format {
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry.with(lines.with_writer(std::io::stderr).with_filter(filter)).try_init()?;
        }
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            let lines = fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
            registry.with(lines.with_filter(filter)).try_init()?;
        }
    }
    // It is empty: whoever comes second has been refused above.
    let _ = FILTER.set(Box::new(move |filter| handle.reload(filter)));
    Ok(exporter)
}

/// Logs as much as `level` says from now on.
///
/// # Errors
/// It is no filter. Without [`init`] nothing happens.
pub fn set_level(level: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(directives(level))?;
    if let Some(replace) = FILTER.get() {
        replace(filter)?;
    }
    Ok(())
}

/// The user's filter, with the chatty libraries held down unless it speaks of them.
fn directives(level: &str) -> String {
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    let bare = |levels: &[&str]| parts.iter().any(|part| levels.contains(&part.to_ascii_lowercase().as_str()));
    // Where the rest of the program says less than warnings, a `warn` for a library would say more, not less.
    let talkative = bare(&["info", "debug", "trace"]);
    let speaks = talkative || bare(&["warn", "error"]);
    let held = speaks.then_some(SILENT).into_iter().chain(QUIET.into_iter().filter(|_| talkative));
    let mut all = level.to_owned();
    for (library, most) in held {
        let named = |part: &str| {
            part.strip_prefix(library).is_some_and(|rest| rest.is_empty() || rest.starts_with(['=', ':', '[']))
        };
        if !parts.iter().any(|part| named(part)) {
            all.extend([",", library, "=", most]);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_they_are_named() {
        assert_eq!(directives("info"), "info,rmcp=off,hyper=warn,reqwest=warn,h2=warn,rustls=warn,actix_server=warn");
        let own = directives("debug,rmcp::service=trace,h2=info");
        assert!(!own.contains("rmcp=off") && !own.contains("h2=warn") && own.contains("hyper=warn"), "{own}");
        for quiet in ["off", "k8sops=debug"] {
            assert_eq!(directives(quiet), quiet);
        }
    }

    #[test]
    fn rmcp_is_silent_at_every_level_unless_it_is_named() {
        for level in ["error", "warn", "WARN", "info", "trace", "error,k8sops=debug"] {
            let all = directives(level);
            assert!(all.ends_with(",rmcp=off") || all.contains(",rmcp=off,"), "{all}");
        }
        assert_eq!(directives("warn"), "warn,rmcp=off");
        for named in ["warn,rmcp=warn", "error,rmcp::transport=error"] {
            assert_eq!(directives(named), named);
        }
    }
}
