//! Logs: one line each to standard error, for people or for machines.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogConfig, LogFormat};

/// Libraries that say at `info` and `debug` what an operator of this service does not ask for with `LOG_LEVEL=debug`.
/// Who wants it names them: `LOG_LEVEL=debug,rmcp=debug`. rmcp's warnings hold whole addresses of servers, with what is
/// secret in them, and repeat what `mcp` reports: it says nothing at all.
const QUIET: [(&str, &str); 6] = [
    ("rmcp", "off"),
    ("hyper", "warn"),
    ("reqwest", "warn"),
    ("h2", "warn"),
    ("rustls", "warn"),
    ("actix_server", "warn"),
];

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `LOG_LEVEL` is no filter.
    #[error("LOG_LEVEL is not a filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in this process receives the logs already.
    #[error("logs are set up already: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the logs of this process to standard error from now on.
///
/// # Errors
/// `LOG_LEVEL` is no filter (the configuration has checked it), or it was done before.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(directives(&config.level))?;
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry.with(lines.with_writer(std::io::stderr)).try_init()?;
        }
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            registry.with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr)).try_init()?;
        }
    }
    Ok(())
}

/// The user's filter, with the chatty libraries held down unless it speaks of them.
fn directives(level: &str) -> String {
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    // Where the rest of the program says less than warnings, a `warn` for a library would say more, not less.
    let talkative = parts.iter().any(|part| ["info", "debug", "trace"].contains(&part.to_ascii_lowercase().as_str()));
    let mut all = level.to_owned();
    for (library, most) in QUIET.iter().filter(|_| talkative) {
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
        for quiet in ["warn", "error", "off", "k8sops=debug"] {
            assert_eq!(directives(quiet), quiet);
        }
    }
}
