//! All ports together, as a storage backend offers them.

use async_trait::async_trait;

use super::{
    Inbox, Leases, MemoryStore, Notifications, OutputStore, RecordStore, SessionIndex, SessionLog, StoreError,
    UsageStore, WriteConfirmation,
};

/// A storage backend. Every method of its ports may be called at any time from any task.
///
/// An `Arc<dyn SessionStore>` coerces to an `Arc` of each single port.
#[async_trait]
pub trait SessionStore:
    SessionLog + Inbox + Leases + SessionIndex + OutputStore + UsageStore + MemoryStore + RecordStore + WriteConfirmation
{
    /// The name of the backend, as `MEMORY_BACKEND` spells it.
    fn backend_name(&self) -> &'static str;

    /// Checks that the backend can be used now.
    async fn ping(&self) -> Result<(), StoreError>;

    /// What an operator should know about how the backend is set up. Nothing of it keeps the store from working.
    async fn describe_setup(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the store offers to several processes that share it; `None` if one process has it to itself.
    fn notifications(&self) -> Option<&dyn Notifications> {
        None
    }

    /// Finishes what is written later than it is acknowledged. Called at the end of the process, which does not wait for
    /// everything that holds the store.
    ///
    /// # Errors
    /// Nothing is lost: the next process finishes it.
    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
