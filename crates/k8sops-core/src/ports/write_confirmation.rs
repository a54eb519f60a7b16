//! The port [`WriteConfirmation`]: whether a write survives a failure of the store.

use async_trait::async_trait;

use super::StoreError;
use crate::{
    ids::{CommandId, SessionId, UserId},
    lineage::LogHead,
};

/// A write whose confirmation is asked for. It names what was written and not when, so that a store that has lost the write
/// finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfirmableWrite<'a> {
    /// The creation of the session.
    Creation,
    /// All events up to a position of the log.
    Events(LogHead),
    /// A command, whether it is still in the inbox or was handled since.
    Command {
        /// The sender.
        by: &'a UserId,
        /// The id of the command.
        command_id: &'a CommandId,
    },
}

/// Whether a write survives a failure of the store.
///
/// A store may answer a write before it is on a disk, or on another server. What must not be lost waits for this: a call that
/// may change something, before it is sent, and a command, before it is acknowledged.
#[async_trait]
pub trait WriteConfirmation: Send + Sync + 'static {
    /// Waits until a write that has returned is as safe as the store is configured to make it. A confirmed write also
    /// confirms all earlier writes to its session.
    ///
    /// The default is right for a store whose writes are as safe as they ever become when they return.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], mostly with [`StoreOutage::Unconfirmed`](super::StoreOutage::Unconfirmed): the write was
    /// not confirmed in time, or the store has lost it since. It may be there later, or not.
    async fn confirm_write(&self, _session: SessionId, _write: ConfirmableWrite<'_>) -> Result<(), StoreError> {
        Ok(())
    }
}
