//! The session actor: the one task that processes the inbox of a session, drives its run, and writes to its log.
//!
//! It is a state machine. [`step`] is a function of the [state](state), an [input](inputs) and the time, and returns the next
//! state and the [effects](effects). The [driver](driver) waits for inputs and performs effects, and decides nothing.
//!
//! | module | holds |
//! |---|---|
//! | `state`, `inputs`, `effects` | the states, each with the data that is valid in it, and what goes in and out |
//! | `step`, `owned`, `inbox`, `pending_interactions` | the transitions, without I/O |
//! | `driver`, `opening`, `operations`, `run_task` | store, lease, tasks and clocks |
//! | `resources`, `ownership_failures` | what is held while the session is owned, and what is logged of failures |
//! | `slot_guard` | what happens if the actor panics, or its thread ends |

mod driver;
mod effects;
mod inbox;
mod inputs;
mod opening;
mod operations;
mod owned;
mod ownership_failures;
mod pending_interactions;
mod resources;
mod run_task;
mod slot_guard;
mod state;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8sops_core::{SessionCommand, SessionId};

use super::{
    inner::RuntimeInner,
    message_offer::{MessageOffer, OfferOutcome},
    session_registry::ReservedOwner,
};
use driver::ActorDriver;
use slot_guard::SlotGuard;

pub(super) use effects::CommitBatch;
pub(super) use inputs::RunEnding;

/// Owns a session for as long as it has work.
pub(super) async fn run_session_actor(shared: Arc<RuntimeInner>, session: SessionId, owner: ReservedOwner) {
    let ReservedOwner { slot, offers } = owner;
    let mut guard = SlotGuard { shared, session, slot, is_released: false };
    let owning = ActorDriver::new(&guard.shared, session, &guard.slot, offers).run_until_ended();
    guard.shared.worker_watch.watch_task("session actor", owning).await;
    guard.shared.registry.release_owner(session, &guard.slot);
    guard.is_released = true;
}

impl RuntimeInner {
    /// Wakes the session's owner; starts one if there is none.
    pub(in crate::runtime) fn wake_owner(self: &Arc<Self>, session: SessionId) {
        if let Some(owner) = self.registry.wake_or_reserve_owner(session) {
            self.start_owner(session, owner);
        }
    }

    /// Starts the owner of a slot, unless the service shuts down.
    pub(in crate::runtime) fn start_owner(self: &Arc<Self>, session: SessionId, owner: ReservedOwner) {
        if !self.halt.is_cancelled() {
            // A run then wakes the stream on its own thread.
            let worker = self.threads.choose_worker(self.registry.last_watcher(session));
            self.tasks.spawn_on(run_session_actor(self.clone(), session, owner), &worker);
        }
    }

    /// Offers a message to the owner of its session in this process. If no other process can own the session, an owner is started
    /// for it.
    pub(in crate::runtime) async fn offer_message(
        self: &Arc<Self>,
        session: SessionId,
        message: &Arc<SessionCommand>,
    ) -> OfferOutcome {
        let (offer, answer) = MessageOffer::new(message.clone());
        if self.dependencies.store.notifications().is_some() {
            let Some(owner) = self.registry.lease_holder(session) else { return OfferOutcome::NotOffered };
            owner.offer_message(offer);
        } else if let Some(owner) = self.registry.offer_or_reserve_owner(session, offer) {
            self.start_owner(session, owner);
        }
        answer.wait().await
    }
}
