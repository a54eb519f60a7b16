//! Drives the state machine of a session actor: waits for its inputs and performs its effects.

use std::{
    future::{pending, ready},
    sync::Arc,
};

use k8sops_core::{SessionId, StoreError};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    effects::{ActorEffect, ClosedSession, StateRetention},
    inputs::{ActorInput, ActorTime},
    opening::{self, OpenedResources},
    operations::{OperationEnd, OperationInProgress, wait_for_operation},
    ownership_failures::OwnershipFailures,
    resources::SessionResources,
    state::{SessionActorState, ShutdownNotice},
    step::{first_state, step},
};
use crate::runtime::{
    inner::RuntimeInner, lease::HeldLease, message_offer::MessageOffer, run_handle::TaskMessage,
    session_registry::OwnerSlot,
};

/// Upper bound of task messages that are taken at once. Their events join one commit.
const MAX_MESSAGES: usize = 64;

/// An actor and its surroundings.
pub(super) struct ActorDriver<'a> {
    shared: &'a Arc<RuntimeInner>,
    session: SessionId,
    slot: &'a OwnerSlot,
    started: Instant,
    failures: OwnershipFailures,
    operation: Option<OperationInProgress>,
    /// What is held from `Opened` to `ReleaseLease`.
    resources: Option<Box<SessionResources>>,
    messages: Vec<TaskMessage>,
    offers: mpsc::Receiver<MessageOffer>,
    /// The message that the state machine was offered and has not answered. Whatever ends that drops it, which declines it.
    offer: Option<MessageOffer>,
}

/// What ended the wait for an input.
enum DriverEvent {
    OperationEnded(OperationEnd),
    MessagesReceived,
    Offered(MessageOffer),
    Input(ActorInput),
}

impl<'a> ActorDriver<'a> {
    pub(super) fn new(
        shared: &'a Arc<RuntimeInner>,
        session: SessionId,
        slot: &'a OwnerSlot,
        offers: mpsc::Receiver<MessageOffer>,
    ) -> Self {
        Self {
            shared,
            session,
            slot,
            started: Instant::now(),
            failures: OwnershipFailures::new(shared),
            operation: None,
            resources: None,
            messages: Vec::new(),
            offers,
            offer: None,
        }
    }

    /// Owns the session for as long as it has work.
    pub(super) async fn run_until_ended(mut self) {
        let (mut state, mut effects) = first_state();
        loop {
            for effect in effects {
                self.perform(effect);
            }
            if matches!(state, SessionActorState::Ended) {
                return;
            }
            let input = self.next_input(&state).await;
            (state, effects) = step(state, input, self.now());
        }
    }

    fn now(&self) -> ActorTime {
        ActorTime { elapsed: self.started.elapsed(), wall: self.shared.dependencies.clock.now() }
    }

    async fn next_input(&mut self, state: &SessionActorState) -> ActorInput {
        let deadline = state.next_deadline(self.now()).map(|at| self.started + at);
        let awaits_shutdown = state.shutdown() == ShutdownNotice::None;
        let Self { shared, slot, operation, resources, messages, offers, offer, .. } = &mut *self;
        let is_interruptible = !matches!(operation, Some(OperationInProgress::Record(_)));
        let (held, mailbox) = match resources {
            Some(resources) => {
                let SessionResources { held, mailbox, .. } = &mut **resources;
                (Some(&*held), Some(mailbox))
            }
            None => (None, None),
        };
        let is_owned = held.is_some();
        // While the session is being opened, messages wait. An actor without a lease takes them to decline them.
        let takes_offer = is_interruptible && offer.is_none() && !matches!(state, SessionActorState::Opening { .. });
        let event = tokio::select! {
            biased;
            // First, so that nothing is started after a shutdown.
            () = shared.halt.cancelled(), if is_interruptible && awaits_shutdown => {
                DriverEvent::Input(ActorInput::ShutdownRequested)
            }
            end = wait_for_operation(operation) => DriverEvent::OperationEnded(end),
            () = receive_messages(mailbox, messages), if is_interruptible => DriverEvent::MessagesReceived,
            () = slot.wakeup.deleted.cancelled(), if is_interruptible => DriverEvent::Input(ActorInput::SessionDeleted),
            error = wait_for_lease_loss(held), if is_interruptible => DriverEvent::Input(ActorInput::LeaseLost(error)),
            () = slot.wakeup.notified(), if is_interruptible && is_owned => {
                DriverEvent::Input(ActorInput::InboxNotified)
            }
            Some(offer) = offers.recv(), if takes_offer => DriverEvent::Offered(offer),
            () = sleep_until_deadline(deadline), if is_interruptible => DriverEvent::Input(ActorInput::DeadlineReached),
        };
        match (event, &mut self.resources) {
            (DriverEvent::Input(input) | DriverEvent::OperationEnded(OperationEnd::Answered(input)), _) => input,
            (DriverEvent::OperationEnded(OperationEnd::Opened(opened)), _) => self.finish_opening(opened),
            (DriverEvent::OperationEnded(OperationEnd::Committed(pending, start, result)), Some(resources)) => {
                let is_of_offer = start.is_some();
                let (input, receipt) = resources.finish_commit(*pending, start, result);
                if let Some(offer) = self.offer.take_if(|_| is_of_offer)
                    && let Some(receipt) = receipt
                {
                    offer.accept(receipt);
                }
                input
            }
            (DriverEvent::MessagesReceived, Some(resources)) => {
                ActorInput::Reported(resources.read_messages(self.messages.drain(..)))
            }
            (DriverEvent::Offered(offer), Some(_)) => {
                let message = offer.message.clone();
                self.offer = Some(offer);
                ActorInput::MessageOffered(message)
            }
            // Only an owner accepts messages. The others come only with a lease.
            (
                DriverEvent::Offered(_)
                | DriverEvent::OperationEnded(OperationEnd::Committed(..))
                | DriverEvent::MessagesReceived,
                None,
            ) => ActorInput::DeadlineReached,
        }
    }

    fn finish_opening(&mut self, opened: Result<OpenedResources, StoreError>) -> ActorInput {
        match opened {
            Ok((resources, opened)) => {
                self.failures.record_success(self.session);
                self.resources = Some(resources);
                ActorInput::Opened(opened)
            }
            Err(error) => ActorInput::OpenFailed(error),
        }
    }

    fn perform(&mut self, effect: ActorEffect) {
        match effect {
            ActorEffect::OpenSession => {
                // The inbox is read once the lease is held.
                self.slot.wakeup.clear();
                let opening = opening::open_session(self.shared.clone(), self.session, self.slot.clone());
                self.operation = Some(OperationInProgress::Open(Box::pin(opening)));
            }
            ActorEffect::ReleaseLease(state) => self.release_lease(state),
            ActorEffect::LeaveRegistry => {
                let is_released = self.shared.registry.release_owner(self.session, self.slot);
                let answer = if is_released { ActorInput::RegistryLeft } else { ActorInput::RegistryKept };
                self.operation = Some(OperationInProgress::Other(Box::pin(ready(answer))));
            }
            ActorEffect::DeclineMessage => self.offer = None,
            ActorEffect::CommitMessage(..) => {
                if self.offer.as_mut().is_some_and(|offer| offer.begin_commit().is_ok()) {
                    self.perform_owned(effect);
                } else {
                    self.offer = None;
                    self.operation = Some(OperationInProgress::Other(Box::pin(ready(ActorInput::MessageDeclined))));
                }
            }
            ActorEffect::ReleaseCapacity => {
                // The capacity of a message that is offered is reserved.
                if self.offer.is_none() && self.offers.is_empty() {
                    self.shared.admission.release(self.session);
                }
            }
            ActorEffect::ReportFailure(error) => {
                self.failures.record_failure(self.shared, self.session, self.slot, &error);
            }
            ActorEffect::CloseFeed(why) => {
                match why {
                    ClosedSession::Deleted => self.slot.feed.close(),
                    ClosedSession::Damaged => self.slot.feed.close_damaged(),
                }
                self.slot.wakeup.deleted.cancel();
            }
            effect => self.perform_owned(effect),
        }
    }

    /// Performs an effect on the session that is owned.
    fn perform_owned(&mut self, effect: ActorEffect) {
        let operation = self.resources.as_mut().and_then(|resources| resources.perform(effect));
        self.operation = operation.or(self.operation.take());
    }

    /// Stops the tasks of the session, and releases its lease.
    fn release_lease(&mut self, state: StateRetention) {
        // A commit in progress is dropped with the lease: nothing may be written under it any more.
        self.operation = None;
        self.offer = None;
        if let Some(resources) = self.resources.take() {
            self.operation = Some(resources.release_lease(state));
        }
    }
}

/// Receives what the tasks of the session send; never resolves without a lease.
async fn receive_messages(mailbox: Option<&mut mpsc::Receiver<TaskMessage>>, messages: &mut Vec<TaskMessage>) {
    match mailbox {
        // The actor has a sender, so that this waits if no task has one.
        Some(mailbox) => drop(mailbox.recv_many(messages, MAX_MESSAGES).await),
        None => pending().await,
    }
}

/// Waits until the lease is lost, and returns the reason; never resolves without one.
async fn wait_for_lease_loss(held: Option<&HeldLease>) -> StoreError {
    match held {
        Some(held) => held.wait_until_lost().await,
        None => pending().await,
    }
}

/// Sleeps until `deadline`; never resolves if it is `None`.
async fn sleep_until_deadline(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
