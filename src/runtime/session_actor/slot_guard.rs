//! What is left of a session actor that did not end by itself.

use std::{sync::Arc, time::Duration};

use k8sops_core::SessionId;
use tokio::time::sleep;

use crate::runtime::{inner::RuntimeInner, session_registry::OwnerSlot};

/// Delay before another actor is started, so that one that always panics does not occupy a thread.
const RESTART_DELAY: Duration = Duration::from_secs(2);

/// Releases the slot of a session when its actor is dropped: because it has ended, has panicked, or because its thread ends.
pub(super) struct SlotGuard {
    pub(super) shared: Arc<RuntimeInner>,
    pub(super) session: SessionId,
    pub(super) slot: OwnerSlot,
    /// Whether the actor has released its slot.
    pub(super) is_released: bool,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let (shared, session) = (&self.shared, self.session);
        shared.admission.release(session);
        if self.is_released {
            return;
        }
        shared.pending_approvals.forget_session(session);
        self.slot.wakeup.clear();
        shared.registry.release_owner(session, &self.slot);
        if shared.halt.is_cancelled() {
            return;
        }
        tracing::error!(%session, "session actor ended early, starting another");
        let shared = shared.clone();
        self.shared.threads.base().spawn(async move {
            sleep(RESTART_DELAY).await;
            shared.wake_owner(session);
        });
    }
}
