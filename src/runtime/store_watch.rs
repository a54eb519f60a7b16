//! What tasks that retry see of the store: its outages are logged once for the whole process.

use k8sops_core::{ErrorChain, StoreError};
use k8sops_telemetry::{OutageObserver, OutageStage};

/// What one task that retries sees of the store.
#[derive(Debug)]
pub struct StoreWatch(OutageObserver);

impl StoreWatch {
    pub(super) fn new(observer: OutageObserver) -> Self {
        Self(observer)
    }

    /// Records that the store did not do what it was asked to, and is asked again.
    pub fn record_failure(&mut self, error: &StoreError) {
        let error = ErrorChain(error);
        match self.0.count_failure() {
            OutageStage::Begun => tracing::warn!(%error, "store unavailable, retrying"),
            OutageStage::Lasting => tracing::debug!(%error, "store unavailable, retrying"),
        }
    }

    /// Records that the store did what it was asked to.
    pub fn record_success(&mut self) {
        if let Some(ended) = self.0.count_success() {
            let seconds = ended.duration.as_secs();
            tracing::info!(seconds, failures = ended.failures, "store available again");
        }
    }
}
