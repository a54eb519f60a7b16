//! The lease of one session, for stores that one process has to itself.

use std::time::{Duration, Instant};

use k8sops_core::{LeaseEpoch, LeaseRenewal, LogCommit, SessionId, SessionLease, StoreError};

/// Who may write to a session.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeaseState {
    /// The newest epoch that was granted.
    epoch: u64,
    /// The holder, and when its lease expires.
    holder: Option<(String, Instant)>,
    /// The newest epoch was released: writes under it are rejected.
    is_released: bool,
}

impl LeaseState {
    /// The state of a session whose log was last written under `epoch`, by an owner that no longer exists.
    pub(crate) fn after_epoch(epoch: u64) -> Self {
        Self { epoch, holder: None, is_released: true }
    }

    /// Grants a lease under an epoch greater than the newest of the session, and greater than `floor`.
    pub(crate) fn acquire(
        &mut self,
        session: SessionId,
        owner: &str,
        ttl: Duration,
        floor: u64,
    ) -> Result<SessionLease, StoreError> {
        let now = Instant::now();
        if self.holder.as_ref().is_some_and(|(holder, until)| holder != owner && *until > now) {
            return Err(StoreError::Held(session));
        }
        self.epoch = self.epoch.max(floor) + 1;
        self.holder = Some((owner.to_owned(), now + ttl));
        self.is_released = false;
        Ok(SessionLease { session, epoch: LeaseEpoch(self.epoch) })
    }

    /// Extends the lease by `ttl` from now.
    pub(crate) fn renew(&mut self, lease: SessionLease, ttl: Duration) -> Result<LeaseRenewal, StoreError> {
        self.check_epoch(lease.session, lease.epoch)?;
        if let Some((_, until)) = &mut self.holder {
            *until = Instant::now() + ttl;
        }
        Ok(LeaseRenewal::WITHOUT_OTHERS)
    }

    /// Releases the lease if it is the newest one, and returns whether it is.
    pub(crate) fn release_if_newest(&mut self, lease: SessionLease) -> bool {
        let is_newest = lease.epoch.0 == self.epoch;
        if is_newest {
            self.holder = None;
            self.is_released = true;
        }
        is_newest
    }

    /// Checks that a commit may be written to a log that ends at `last_seq`.
    pub(crate) fn check_commit(&self, commit: &LogCommit<'_>, last_seq: u64) -> Result<(), StoreError> {
        let session = commit.session;
        self.check_epoch(session, commit.epoch)?;
        if commit.expected_seq != last_seq || !commit.has_valid_seqs() {
            return Err(StoreError::SeqConflict { session, expected: commit.expected_seq, found: last_seq });
        }
        Ok(())
    }

    fn check_epoch(&self, session: SessionId, epoch: LeaseEpoch) -> Result<(), StoreError> {
        if epoch.0 == self.epoch && !self.is_released {
            Ok(())
        } else {
            Err(StoreError::Fenced { session, attempted: epoch, current: LeaseEpoch(self.epoch) })
        }
    }
}
