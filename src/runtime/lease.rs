//! A lease as its holder keeps it: renewed on a task of its own, so that a busy owner does not lose it, and known to be
//! over by this process's own clock, so that one that was paused does not act on a lease that others have taken.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use k8sops_core::{SessionId, SessionLease, SessionStore, StoreError};

/// How long an ownership holds without being renewed (DESIGN section 6).
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed.
pub(super) const RENEW: Duration = Duration::from_secs(3);
/// The wait before a renewal that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// A lease that is renewed as long as this lives.
pub(super) struct HeldLease {
    pub(super) lease: SessionLease,
    term: Arc<Term>,
    _renewing: Option<AbortOnDropHandle<()>>,
}

/// How long a lease holds.
#[derive(Debug)]
pub(super) struct Term {
    /// `None`: for ever.
    until: Mutex<Option<Instant>>,
    lost: CancellationToken,
    why: Mutex<Option<StoreError>>,
}

impl HeldLease {
    /// Takes a session.
    ///
    /// # Errors
    /// Those of [`SessionStore::acquire`].
    pub(super) async fn acquire(
        store: &Arc<dyn SessionStore>,
        session: SessionId,
        owner: &str,
    ) -> Result<Self, StoreError> {
        // From before it was asked for: it must not last longer here than where it is kept.
        let from = Instant::now();
        let lease = store.acquire_lease(session, owner, LEASE).await?;
        // Of a store that one process has for itself nobody can take it, however long this one sleeps.
        let until = store.notifications().map(|_| from + LEASE);
        let term = Arc::new(Term { until: Mutex::new(until), lost: CancellationToken::new(), why: Mutex::default() });
        let renewing = until.map(|_| {
            let renewing = tokio::spawn(renew(store.clone(), lease, term.clone()));
            AbortOnDropHandle::new(renewing)
        });
        Ok(Self { lease, term, _renewing: renewing })
    }

    /// Whether the lease surely holds now.
    pub(super) fn term(&self) -> Arc<Term> {
        self.term.clone()
    }

    /// Waits until the lease is lost; why.
    pub(super) async fn lost(&self) -> StoreError {
        self.term.lost.cancelled().await;
        let why = self.term.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
        why.unwrap_or_else(|| StoreError::Unavailable("the lease could not be renewed in time".into()))
    }
}

impl Term {
    /// Whether the lease surely holds now.
    pub(super) fn holds(&self) -> bool {
        !self.lost.is_cancelled() && self.until().is_none_or(|until| Instant::now() < until)
    }

    fn until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, why: StoreError) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.lost.cancel();
    }
}

async fn renew(store: Arc<dyn SessionStore>, lease: SessionLease, term: Arc<Term>) {
    let mut wait = RENEW;
    loop {
        sleep(wait).await;
        let from = Instant::now();
        let Some(until) = term.until() else { return };
        let left = until.saturating_duration_since(from);
        match timeout(left, store.renew_lease(lease, LEASE)).await {
            Ok(Ok(())) => {
                *term.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(from + LEASE);
                wait = RENEW;
            }
            Ok(Err(error @ StoreError::Unavailable(_))) if Instant::now() < until => {
                tracing::debug!(session = %lease.session, %error, "the lease could not be renewed; trying again");
                wait = RETRY;
            }
            Ok(Err(error)) => return term.lose(error),
            Err(_) => {
                return term.lose(StoreError::Unavailable("the lease could not be renewed in time".into()));
            }
        }
    }
}
