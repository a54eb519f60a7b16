//! The two ways in which a run is stopped from outside.

use tokio_util::sync::CancellationToken;

/// Resolves when the user cancels the run or the service stops.
pub(crate) async fn wait_until_stopped(cancel: &CancellationToken, halt: &CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = halt.cancelled() => {}
    }
}
