//! The port [`Leases`]: which process owns a session.

use std::time::Duration;

use async_trait::async_trait;

use super::{RemoteAudience, SessionLease, StoreError};
use crate::ids::SessionId;

/// Whether a session that was released has work left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemainingWork {
    /// An open run, commands in the inbox, or messages to extract memories from: another owner has to take it.
    Unfinished,
    /// No work is left, or another owner holds the session and answers for it.
    None,
}

/// What a store says of a session when its ownership is extended: what a notification would have said that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRenewal {
    /// The position of the newest command that was accepted; it changes with each.
    pub inbox_position: u64,
    /// Whether other processes have streams of the session.
    pub audience: RemoteAudience,
}

impl LeaseRenewal {
    /// The renewal of a store that one process has to itself, in which no notification is lost.
    pub const WITHOUT_OTHERS: Self = Self { inbox_position: 0, audience: RemoteAudience::Absent };
}

/// Ownership of sessions: one owner at a time, for as long as its lease is renewed.
#[async_trait]
pub trait Leases: Send + Sync + 'static {
    /// Takes the ownership under a new epoch. Fails with `Held` while another owner's lease has not expired.
    async fn acquire_lease(&self, session: SessionId, owner: &str, ttl: Duration) -> Result<SessionLease, StoreError>;

    /// Extends the ownership by another `ttl` from now. Fails with `Fenced` if it is lost.
    async fn renew_lease(&self, lease: SessionLease, ttl: Duration) -> Result<LeaseRenewal, StoreError>;

    /// Gives the ownership up and reports, as of the same instant, whether work is left. A lease that is lost already is
    /// no error.
    async fn release_lease(&self, lease: SessionLease) -> Result<RemainingWork, StoreError>;
}
