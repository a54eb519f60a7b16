//! Leases: which process owns a session.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    scripts::{AcquireLease, AcquireReply, ReleaseLease, ReleaseReply, RenewLease, RenewReply},
    store::RedisStore,
};
use k8sops_core::{
    LeaseEpoch, LeaseRenewal, Leases, RemainingWork, RemoteAudience, SessionId, SessionLease, StoreError,
};

#[async_trait]
impl Leases for RedisStore {
    async fn acquire_lease(&self, session: SessionId, owner: &str, ttl: Duration) -> Result<SessionLease, StoreError> {
        let acquire = AcquireLease {
            meta_key: self.keys.meta(session),
            owner: owner.to_owned(),
            holds_log: self.held_logs.contains(session),
            ttl_ms: ttl,
        };
        match self.writes.run_script(&acquire).await? {
            AcquireReply::Acquired { epoch } => {
                self.held_logs.insert(session);
                Ok(SessionLease { session, epoch: LeaseEpoch(epoch) })
            }
            AcquireReply::Held { remaining_ms } => {
                // The caller knows of work for this session, so the session is due when the lease expires.
                self.registry.schedule_session(session, Duration::from_millis(remaining_ms)).await?;
                Err(StoreError::Held(session))
            }
            AcquireReply::NotFound => {
                self.registry.unschedule_session(session).await?;
                Err(self.registry.missing_session(session).await)
            }
        }
    }

    async fn renew_lease(&self, lease: SessionLease, ttl: Duration) -> Result<LeaseRenewal, StoreError> {
        let session = lease.session;
        let renew = RenewLease {
            meta_key: self.keys.meta(session),
            watchers_key: self.keys.watchers(session),
            epoch: lease.epoch.0,
            ttl_ms: ttl,
        };
        match self.writes.run_script(&renew).await? {
            RenewReply::Renewed { inbox_position, is_watched } => {
                let audience = if is_watched { RemoteAudience::Present } else { RemoteAudience::Absent };
                Ok(LeaseRenewal { inbox_position, audience })
            }
            RenewReply::NotFound => Err(self.registry.missing_session(session).await),
            RenewReply::Fenced { current_epoch } => {
                self.held_logs.remove(session);
                let current = LeaseEpoch(current_epoch);
                Err(StoreError::Fenced { session, attempted: lease.epoch, current })
            }
        }
    }

    async fn release_lease(&self, lease: SessionLease) -> Result<RemainingWork, StoreError> {
        let session = lease.session;
        self.held_logs.remove(session);
        // Read before the lease is released: work that arrives later changes the time, and then stays scheduled.
        let scheduled_at = self.registry.scheduled_time(session).await?;
        let release = ReleaseLease {
            meta_key: self.keys.meta(session),
            inbox_key: self.keys.inbox(session),
            epoch: lease.epoch.0,
        };
        match self.writes.run_script(&release).await? {
            ReleaseReply::Idle => {
                if let Some(scheduled_at) = scheduled_at {
                    self.registry.unschedule_if_unchanged(session, scheduled_at).await?;
                }
                Ok(RemainingWork::None)
            }
            ReleaseReply::Unfinished => {
                self.registry.offer_session(session).await?;
                Ok(RemainingWork::Unfinished)
            }
            // The session stays scheduled, so that it is claimed if its current owner crashes.
            ReleaseReply::Superseded => Ok(RemainingWork::None),
        }
    }
}
