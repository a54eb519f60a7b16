//! What is counted and logged of failures to own a session.

use std::sync::Arc;

use k8sops_core::{SessionId, StoreError};
use k8sops_telemetry::{EndedOutage, OutageLog, OutageObserver, OutageStage};

use crate::runtime::{
    inner::RuntimeInner, known_logs::DamageFinding, session_registry::OwnerSlot, store_watch::StoreWatch,
};

/// What an actor sees of failures while it tries to own its session.
pub(super) struct OwnershipFailures {
    store_watch: StoreWatch,
    /// Failures that are those of this session alone.
    conflicts: OutageObserver,
}

impl OwnershipFailures {
    pub(super) fn new(shared: &RuntimeInner) -> Self {
        Self {
            store_watch: StoreWatch::new(shared.store_outages.observer()),
            conflicts: Arc::new(OutageLog::default()).observer(),
        }
    }

    /// Records what stopped an actor.
    pub(super) fn record_failure(
        &mut self,
        shared: &RuntimeInner,
        session: SessionId,
        slot: &OwnerSlot,
        error: &StoreError,
    ) {
        count_store_error(shared, error);
        match error {
            // The session was deleted, or is owned by another process.
            StoreError::NotFound(_) | StoreError::Held(_) => {}
            StoreError::Corrupt(_) => match shared.known_logs.record_damage(session) {
                DamageFinding::New => tracing::error!(%session, %error, "session cannot be owned"),
                DamageFinding::Known => tracing::debug!(%session, %error, "session cannot be owned"),
            },
            StoreError::Unavailable(_) => {
                self.store_watch.record_failure(error);
                slot.feed.warn_store_unavailable();
            }
            _ => {
                if self.conflicts.count_failure() == OutageStage::Begun {
                    tracing::warn!(%session, %error, "session cannot be owned now, retrying");
                }
            }
        }
    }

    /// Records that the session is owned.
    pub(super) fn record_success(&mut self, session: SessionId) {
        self.store_watch.record_success();
        if let Some(EndedOutage { failures, .. }) = self.conflicts.count_success() {
            tracing::info!(%session, failures, "session owned again");
        }
    }
}

/// Counts the store error that stopped an actor.
fn count_store_error(shared: &RuntimeInner, error: &StoreError) {
    let metrics = &shared.dependencies.metrics;
    match error {
        StoreError::Unavailable(_) => metrics.count_store_error("unavailable"),
        StoreError::Corrupt(_) | StoreError::FileDamaged(_) => metrics.count_store_error("corrupt"),
        StoreError::SeqConflict { .. } => metrics.count_store_error("seq_conflict"),
        StoreError::Forked { .. } => metrics.count_store_error("forked"),
        StoreError::Fenced { .. } => {
            metrics.count_lease_loss();
            metrics.count_store_error("fenced");
        }
        _ => {}
    }
}
