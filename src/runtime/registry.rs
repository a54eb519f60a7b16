//! Which sessions are alive in this process: their feeds and their owners.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use k8sops_core::{SessionFeed, SessionId};

/// The map is swept of feeds that nobody holds when it has grown to this, or to twice what the last sweep left.
const SWEEP_AT: usize = 1024;

/// Wakes an owner.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: AtomicBool,
    notify: Notify,
    /// The session was deleted.
    pub(super) gone: CancellationToken,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        self.notify.notify_one();
    }

    /// Forgets the rings so far: what they stand for is about to be looked at.
    pub(super) fn hush(&self) {
        self.rung.store(false, Ordering::SeqCst);
    }

    /// Waits for a ring, or returns at once if there was one since the last call.
    pub(super) async fn rung(&self) {
        loop {
            let notified = self.notify.notified();
            if self.rung.swap(false, Ordering::SeqCst) {
                return;
            }
            notified.await;
        }
    }
}

/// An owner's place in the registry.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) feed: Arc<SessionFeed>,
    pub(super) bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Live {
    feed: Weak<SessionFeed>,
    owner: Option<Arc<Bell>>,
}

impl Live {
    fn feed(&mut self) -> Arc<SessionFeed> {
        self.feed.upgrade().unwrap_or_else(|| {
            let feed = Arc::new(SessionFeed::new(0));
            self.feed = Arc::downgrade(&feed);
            feed
        })
    }

    fn in_use(&self) -> bool {
        self.owner.is_some() || self.feed.strong_count() > 0
    }
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    // A plain mutex: held for a look-up, never across an await.
    live: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    map: HashMap<SessionId, Live>,
    sweep_at: usize,
}

impl Sessions {
    fn entry(&mut self, session: SessionId) -> &mut Live {
        if self.map.len() >= self.sweep_at.max(SWEEP_AT) {
            self.map.retain(|_, live| live.in_use());
            self.map.shrink_to_fit();
            self.sweep_at = self.map.len() * 2;
        }
        self.map.entry(session).or_default()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session's feed; a new one if nobody holds it.
    pub(super) fn feed(&self, session: SessionId) -> Arc<SessionFeed> {
        self.lock().entry(session).feed()
    }

    /// Rings the session's owner. `Some`: there was none, and the caller must spawn the one that takes this place.
    pub(super) fn ring(&self, session: SessionId) -> Option<Place> {
        let mut live = self.lock();
        let entry = live.entry(session);
        if let Some(bell) = &entry.owner {
            bell.ring();
            return None;
        }
        let bell = Arc::new(Bell::default());
        entry.owner = Some(bell.clone());
        Some(Place { feed: entry.feed(), bell })
    }

    /// Rings the session's owner, if it is in this process.
    pub(super) fn ring_owner(&self, session: SessionId) {
        if let Some(bell) = self.lock().map.get(&session).and_then(|live| live.owner.as_ref()) {
            bell.ring();
        }
    }

    /// Rings every owner in this process.
    pub(super) fn ring_owners(&self) {
        self.lock().map.values().filter_map(|live| live.owner.as_ref()).for_each(|bell| bell.ring());
    }

    /// Gives an owner's place up. False when the bell has rung since the owner last looked: it must look again.
    pub(super) fn retire(&self, session: SessionId, place: &Place) -> bool {
        let mut live = self.lock();
        if place.bell.rung.load(Ordering::SeqCst) && !place.bell.gone.is_cancelled() {
            return false;
        }
        let Some(entry) = live.map.get_mut(&session) else { return true };
        if entry.owner.as_ref().is_some_and(|bell| Arc::ptr_eq(bell, &place.bell)) {
            entry.owner = None;
            // The owner's own hold on the feed is the last but for those of watchers.
            if entry.feed.strong_count() <= 1 {
                live.map.remove(&session);
            }
        }
        true
    }

    /// The session is gone: its owner and its streams end.
    pub(super) fn close(&self, session: SessionId) {
        let Some(entry) = self.lock().map.remove(&session) else { return };
        if let Some(bell) = entry.owner {
            bell.gone.cancel();
        }
        if let Some(feed) = entry.feed.upgrade() {
            feed.close();
        }
    }

    pub(super) fn owned(&self) -> usize {
        self.lock().map.values().filter(|live| live.owner.is_some()).count()
    }
}
