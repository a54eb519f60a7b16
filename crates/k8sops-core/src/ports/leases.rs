//! The port [`Leases`]: which process owns a session.

use std::time::Duration;

use async_trait::async_trait;

use super::{SessionLease, StoreError};
use crate::ids::SessionId;

/// Whether a session that was released has work left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemainingWork {
    /// An open run, commands in the inbox, or messages to extract memories from: another owner has to take it.
    Unfinished,
    /// No work is left, or another owner holds the session and answers for it.
    None,
}

/// Ownership of sessions: one owner at a time, for as long as its lease is renewed.
#[async_trait]
pub trait Leases: Send + Sync + 'static {
    /// Takes the ownership under a new epoch. Fails with `Held` while another owner's lease has not expired.
    async fn acquire_lease(&self, session: SessionId, owner: &str, ttl: Duration) -> Result<SessionLease, StoreError>;

    /// Extends the ownership by another `ttl` from now. Fails with `Fenced` if it is lost.
    async fn renew_lease(&self, lease: SessionLease, ttl: Duration) -> Result<(), StoreError>;

    /// Gives the ownership up and reports, as of the same instant, whether work is left. A lease that is lost already is
    /// no error.
    async fn release_lease(&self, lease: SessionLease) -> Result<RemainingWork, StoreError>;
}
