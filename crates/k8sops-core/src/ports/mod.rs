//! The ports: what sessions need of a storage backend, one trait per concern.
//!
//! | port | holds |
//! |---|---|
//! | [`SessionLog`] | the events of a session, and its checkpoint |
//! | [`Inbox`] | commands that were accepted and not yet handled, and their receipts |
//! | [`Leases`] | which process owns a session |
//! | [`SessionIndex`] | what spans sessions: lists, counts, unfinished work, deletion |
//! | [`OutputStore`] | whole outputs of tool calls |
//! | [`UsageStore`] | what users used, by day |
//! | [`MemoryStore`] | what is remembered of users, with embedding vectors |
//! | [`RecordStore`] | small records that expire: tickets, links, requests that are executed once |
//! | [`WriteConfirmation`] | whether a write survives a failure of the store |
//! | [`Notifications`] | what several processes see of each other's work |
//!
//! A function takes the port that it needs (`&dyn SessionLog`), so that a test double implements three methods and not
//! forty. [`SessionStore`] is all of them together, as a backend offers them. What each promises is checked by one
//! contract suite, which every backend of `k8sops-store` passes.

mod inbox;
mod lease;
mod leases;
mod memory_store;
mod notifications;
mod output_store;
mod record_store;
mod session_index;
mod session_log;
mod session_store;
mod store_error;
mod usage_store;
mod write_confirmation;

pub use inbox::{INBOX_LIMIT, INBOX_LIMIT_ALL, Inbox, LostMessages};
pub use lease::{LeaseEpoch, SessionLease};
pub use leases::{LeaseRenewal, Leases, RemainingWork};
pub use memory_store::{MemoryStore, MemoryWrite, UpkeepClaim};
pub use notifications::{
    NotificationTopic, Notifications, PreviewPage, RemoteAudience, StoreNotification, WATCHER_TTL,
};
pub use output_store::{OutputPart, OutputStore, random_key};
pub use record_store::{ExpiringRecord, RecordGroup, RecordId, RecordInsertion, RecordStore};
pub use session_index::{ClaimedSessions, DamagedSession, IdleDeletion, ListCursor, OwnSessions, SessionIndex};
pub use session_log::{EventPage, LogCommit, NewCommandCommit, ReplayStart, SessionLog};
pub use session_store::SessionStore;
pub use store_error::{BackendError, StoreError, StoreOutage};
pub use usage_store::UsageStore;
pub use write_confirmation::{ConfirmableWrite, WriteConfirmation};
