//! A lease: the right to write to a session.

use serde::{Deserialize, Serialize};

use crate::ids::SessionId;

/// The number of an ownership of a session (a fencing token). It grows with every new owner, and writes under an older
/// epoch are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseEpoch(pub u64);

/// The right to write to a session until the lease expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLease {
    /// The session that is owned.
    pub session: SessionId,
    /// The epoch that all writes under this lease carry.
    pub epoch: LeaseEpoch,
}
