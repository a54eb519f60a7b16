//! Confirmation of writes: that they survive a failure of Redis, as far as `REDIS_CONFIRM` asks for it.
//!
//! `WAIT` and `WAITAOF` wait for the last write of *their own connection*, and block it. A write is therefore not confirmed on
//! the shared connection that wrote it, but in a round on a connection of its own: a script finds the write there and writes a
//! mark behind it, and the wait covers the mark, and with it all that the server had written before. So a write that is sent
//! again and changes nothing is still confirmed truly, and a server that lost the write in a failover does not find it.
//!
//! A round serves all writes that wait for the same server, see [`node_queue`].

mod mode;
mod node_queue;
mod slot_owners;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

pub(super) use mode::ConfirmationMode;
pub(super) use node_queue::{MAX_ROUNDS, RoundParameters};

use super::{config::ConfirmationPolicy, connection::SharedConnection, scripts::MarkWrite};
use k8sops_core::{BackendError, StoreError, StoreOutage};
use mode::unconfirmed;
use node_queue::{NodeQueue, WriteOutcome};
use slot_owners::{ServerNode, SlotOwners};

/// Delay before a write that was sent to the wrong node of a cluster is sent to the right one.
const REROUTE_DELAY: Duration = Duration::from_millis(100);
/// How much longer than a round a write waits, so that the round can say why.
const GRACE: Duration = Duration::from_millis(500);

/// Confirms writes.
pub(super) struct WriteConfirmer {
    parameters: Arc<RoundParameters>,
    reads: Arc<SharedConnection>,
    /// Which node has a slot; `None` if there is one server, or it is not known.
    slot_owners: Mutex<Option<Arc<SlotOwners>>>,
    is_cluster: bool,
    // A synchronous lock: held for a lookup, never across an await.
    queues: Mutex<HashMap<ServerNode, NodeQueue>>,
}

impl WriteConfirmer {
    /// Creates a confirmer. It connects when it is first used. Must be used on a Tokio runtime.
    pub(super) fn new(parameters: RoundParameters, reads: Arc<SharedConnection>, is_cluster: bool) -> Self {
        Self {
            parameters: Arc::new(parameters),
            reads,
            slot_owners: Mutex::default(),
            is_cluster,
            queues: Mutex::default(),
        }
    }

    pub(super) fn policy(&self) -> ConfirmationPolicy {
        self.parameters.policy
    }

    /// How long a write waits for its confirmation.
    pub(super) fn limit(&self) -> Duration {
        self.parameters.limit
    }

    /// Waits until a write is confirmed.
    ///
    /// # Errors
    /// `Unavailable` with the outage `Unconfirmed`: it is not confirmed in time, or it was lost. `NotFound`, and `Unavailable`
    /// with `Misconfigured` if the server cannot do what is configured.
    pub(super) async fn confirm(&self, write: MarkWrite) -> Result<(), ConfirmationFailure> {
        if self.parameters.policy == ConfirmationPolicy::None {
            return Ok(());
        }
        let limit = self.parameters.limit;
        let deadline = Instant::now() + limit + GRACE;
        let confirmed = timeout_at(deadline, self.confirm_at_owner(write)).await;
        confirmed.unwrap_or_else(|_| Err(ConfirmationFailure::Failed(unconfirmed(limit, "it does not answer"))))
    }

    async fn confirm_at_owner(&self, write: MarkWrite) -> Result<(), ConfirmationFailure> {
        let mut write = write;
        loop {
            let node = self
                .owner_of(&write.meta_key)
                .await
                .map_err(|error| ConfirmationFailure::Failed(unconfirmed(self.parameters.limit, &error.to_string())))?;
            match self.enqueue(node, write).await {
                WriteOutcome::Confirmed => return Ok(()),
                WriteOutcome::NotFound => return Err(ConfirmationFailure::SessionNotFound),
                WriteOutcome::Lost => {
                    let problem = "Redis has lost the write since it was answered, as a failover can do";
                    let error = BackendError::new(problem).with_outage(StoreOutage::Unconfirmed);
                    return Err(ConfirmationFailure::Failed(StoreError::Unavailable(error)));
                }
                WriteOutcome::Failed(error) => return Err(ConfirmationFailure::Failed(error)),
                WriteOutcome::Misrouted(misrouted) => write = misrouted,
            }
            *self.slot_owners.lock() = None;
            sleep(REROUTE_DELAY).await;
        }
    }

    async fn enqueue(&self, node: ServerNode, write: MarkWrite) -> WriteOutcome {
        let queue = {
            let mut queues = self.queues.lock();
            let queue = queues.entry(node).or_insert_with(|| NodeQueue::spawn(self.parameters.clone()));
            queue.sender()
        };
        queue.confirm(write).await
    }

    /// Returns the server that has a key.
    async fn owner_of(&self, key: &str) -> Result<ServerNode, StoreError> {
        if !self.is_cluster {
            return Ok(ServerNode::Single);
        }
        let known = self.slot_owners.lock().clone();
        if let Some(owners) = known {
            return Ok(owners.owner_of(key));
        }
        let slots = self.reads.query(redis::cmd("CLUSTER").arg("SLOTS")).await?;
        let owners = Arc::new(SlotOwners::from_reply(slots));
        *self.slot_owners.lock() = Some(owners.clone());
        Ok(owners.owner_of(key))
    }

    /// Finds what each master does to confirm writes.
    ///
    /// # Errors
    /// `Unavailable`; with the outage `Misconfigured`, a server cannot do what is configured.
    pub(super) async fn find_modes(&self, any_key: &str) -> Result<Vec<ConfirmationMode>, StoreError> {
        let keys = if self.is_cluster {
            let slots = self.reads.query(redis::cmd("CLUSTER").arg("SLOTS")).await?;
            SlotOwners::from_reply(slots).keys_of_nodes()
        } else {
            vec![any_key.to_owned()]
        };
        let mut modes = Vec::new();
        for key in keys {
            modes.push(ConfirmationMode::find(self.parameters.policy, &self.parameters.connections, &key).await?);
        }
        Ok(modes)
    }
}

/// Why a write is not confirmed.
#[derive(Debug)]
pub(super) enum ConfirmationFailure {
    /// Its session does not exist.
    SessionNotFound,
    Failed(StoreError),
}
