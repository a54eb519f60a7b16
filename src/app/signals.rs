//! SIGTERM and SIGINT.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long an immediate stop may take before the process exits anyway.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The signals by which the process is told to stop.
pub(super) struct ShutdownSignals {
    /// Canceled by the first signal: shut down gracefully.
    pub(super) stop: CancellationToken,
    /// Canceled by the second signal: stop immediately, but leave no child processes behind.
    pub(super) stop_now: CancellationToken,
}

impl ShutdownSignals {
    /// Listens for signals. The third signal exits the process.
    pub(super) fn listen() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // By default, a write beyond the limit of a file's size (ulimit -f) ends the process. With a handler it fails.
        drop(signal(SignalKind::from_raw(nix::libc::SIGXFSZ))?);
        let signals = Self { stop: CancellationToken::new(), stop_now: CancellationToken::new() };
        let stop = signals.stop.clone();
        let stop_now = signals.stop_now.clone();
        tokio::spawn(async move {
            let mut next_signal = async || {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            next_signal().await;
            stop.cancel();
            next_signal().await;
            stop_now.cancel();
            let _ = tokio::time::timeout(EXIT_TIMEOUT, next_signal()).await;
            std::process::exit(130);
        });
        Ok(signals)
    }
}
