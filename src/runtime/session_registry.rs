//! The sessions that are alive in this process: their feeds and their owners.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};

use tokio::{
    runtime::Id,
    sync::{Notify, mpsc},
};
use tokio_util::sync::CancellationToken;

use super::{
    message_offer::{MessageOffer, message_offers},
    preview_writer::RemoteWatchers,
};
use k8sops_core::{SessionFeed, SessionId};

/// Unused entries are removed when the map has this size, or twice the size that the last sweep left.
const SWEEP_AT: usize = 1024;

/// Wakes a session actor.
#[derive(Debug)]
pub(super) struct Wakeup {
    is_notified: AtomicBool,
    notify: Notify,
    /// The session was deleted.
    pub(super) deleted: CancellationToken,
    /// Watchers on other replicas.
    pub(super) remote_watchers: Arc<RemoteWatchers>,
    holds_lease: AtomicBool,
    offers: mpsc::Sender<MessageOffer>,
}

impl Wakeup {
    fn new(offers: mpsc::Sender<MessageOffer>) -> Self {
        Self {
            is_notified: AtomicBool::new(false),
            notify: Notify::new(),
            deleted: CancellationToken::new(),
            remote_watchers: Arc::default(),
            holds_lease: AtomicBool::new(false),
            offers,
        }
    }

    /// Offers a message to the actor. It is declined if the actor has ended, or has another one.
    pub(super) fn offer_message(&self, offer: MessageOffer) {
        let _ = self.offers.try_send(offer);
    }

    pub(super) fn notify(&self) {
        self.is_notified.store(true, Ordering::SeqCst);
        self.notify.notify_one();
    }

    /// Records whether the actor holds the lease of its session.
    pub(super) fn set_lease_held(&self, held: bool) {
        self.holds_lease.store(held, Ordering::Relaxed);
    }

    /// Clears earlier notifications, before the actor reads what they announced.
    pub(super) fn clear(&self) {
        self.is_notified.store(false, Ordering::SeqCst);
    }

    /// Waits for a notification; returns immediately if there was one since the last call.
    pub(super) async fn notified(&self) {
        loop {
            let notified = self.notify.notified();
            if self.is_notified.swap(false, Ordering::SeqCst) {
                return;
            }
            notified.await;
        }
    }
}

/// An owner's slot in the registry.
#[derive(Debug, Clone)]
pub(super) struct OwnerSlot {
    pub(super) feed: Arc<SessionFeed>,
    pub(super) wakeup: Arc<Wakeup>,
}

/// What the actor of a slot that was reserved is started with.
#[derive(Debug)]
pub(super) struct ReservedOwner {
    pub(super) slot: OwnerSlot,
    /// The messages that the actor is offered. If it is dropped, they are declined.
    pub(super) offers: mpsc::Receiver<MessageOffer>,
}

#[derive(Debug, Default)]
struct LiveSession {
    feed: Weak<SessionFeed>,
    owner: Option<Arc<Wakeup>>,
    /// The thread of the stream that was opened last.
    watcher: Option<Id>,
}

impl LiveSession {
    fn get_or_create_feed(&mut self) -> Arc<SessionFeed> {
        self.feed.upgrade().unwrap_or_else(|| {
            let feed = Arc::new(SessionFeed::new(0));
            self.feed = Arc::downgrade(&feed);
            feed
        })
    }

    fn reserve_owner(&mut self) -> ReservedOwner {
        let (to_owner, offers) = message_offers();
        let wakeup = Arc::new(Wakeup::new(to_owner));
        self.owner = Some(wakeup.clone());
        ReservedOwner { slot: OwnerSlot { feed: self.get_or_create_feed(), wakeup }, offers }
    }

    /// Returns whether this process holds the lease.
    fn holds_lease(&self) -> bool {
        self.owner.as_ref().is_some_and(|wakeup| wakeup.holds_lease.load(Ordering::Relaxed))
    }

    fn in_use(&self) -> bool {
        self.owner.is_some() || self.feed.strong_count() > 0
    }
}

#[derive(Debug, Default)]
pub(super) struct SessionRegistry {
    // A synchronous mutex: held for a lookup, never across an await.
    sessions: Mutex<LiveSessions>,
}

#[derive(Debug, Default)]
struct LiveSessions {
    map: HashMap<SessionId, LiveSession>,
    sweep_at: usize,
}

impl LiveSessions {
    fn entry(&mut self, session: SessionId) -> &mut LiveSession {
        if self.map.len() >= self.sweep_at.max(SWEEP_AT) {
            self.map.retain(|_, live| live.in_use());
            self.map.shrink_to_fit();
            self.sweep_at = self.map.len() * 2;
        }
        self.map.entry(session).or_default()
    }
}

impl SessionRegistry {
    fn lock(&self) -> MutexGuard<'_, LiveSessions> {
        self.sessions.lock()
    }

    /// Returns the session's feed; creates it if it is not in use.
    pub(super) fn get_or_create_feed(&self, session: SessionId) -> Arc<SessionFeed> {
        self.lock().entry(session).get_or_create_feed()
    }

    /// Records the async runtime of a stream of the session, if it is alive here.
    pub(super) fn record_watcher(&self, session: SessionId, runtime: Id) {
        if let Some(live) = self.lock().map.get_mut(&session) {
            live.watcher = Some(runtime);
        }
    }

    /// Returns the async runtime of the stream that was opened last.
    pub(super) fn last_watcher(&self, session: SessionId) -> Option<Id> {
        self.lock().map.get(&session)?.watcher
    }

    /// Wakes the session's owner. Returns a slot if there is none: the caller must start an actor for it.
    pub(super) fn wake_or_reserve_owner(&self, session: SessionId) -> Option<ReservedOwner> {
        let mut live = self.lock();
        let entry = live.entry(session);
        if let Some(wakeup) = &entry.owner {
            wakeup.notify();
            return None;
        }
        Some(entry.reserve_owner())
    }

    /// Offers a message to the session's owner. Returns a slot if there is none: the caller must start an actor for it.
    pub(super) fn offer_or_reserve_owner(&self, session: SessionId, offer: MessageOffer) -> Option<ReservedOwner> {
        let mut live = self.lock();
        let entry = live.entry(session);
        let reserved = if entry.owner.is_none() { Some(entry.reserve_owner()) } else { None };
        if let Some(wakeup) = &entry.owner {
            wakeup.offer_message(offer);
        }
        reserved
    }

    /// Returns the session's owner, if this process holds the lease.
    pub(super) fn lease_holder(&self, session: SessionId) -> Option<Arc<Wakeup>> {
        self.lock().map.get(&session).filter(|live| live.holds_lease())?.owner.clone()
    }

    /// Wakes the session's owner, if it is in this process.
    pub(super) fn wake_owner(&self, session: SessionId) {
        if let Some(wakeup) = self.lock().map.get(&session).and_then(|live| live.owner.as_ref()) {
            wakeup.notify();
        }
    }

    /// Wakes every owner in this process. What it has written of previews may be lost.
    pub(super) fn wake_all_owners(&self) {
        for wakeup in self.lock().map.values().filter_map(|live| live.owner.as_ref()) {
            wakeup.notify();
            wakeup.remote_watchers.announce();
        }
    }

    /// Tells the session's owner, if it is in this process, that another replica has watchers from now on.
    pub(super) fn announce_remote_watchers(&self, session: SessionId) {
        if let Some(wakeup) = self.lock().map.get(&session).and_then(|live| live.owner.as_ref()) {
            wakeup.remote_watchers.announce();
        }
    }

    /// The sessions whose leases this process holds.
    pub(super) fn leased_sessions(&self) -> Vec<SessionId> {
        self.lock().map.iter().filter(|(_, live)| live.holds_lease()).map(|(session, _)| *session).collect()
    }

    /// Releases an owner's slot. Returns false if the owner was notified since it last looked: it must look again.
    pub(super) fn release_owner(&self, session: SessionId, slot: &OwnerSlot) -> bool {
        let mut live = self.lock();
        if slot.wakeup.is_notified.load(Ordering::SeqCst) && !slot.wakeup.deleted.is_cancelled() {
            return false;
        }
        let Some(entry) = live.map.get_mut(&session) else { return true };
        if entry.owner.as_ref().is_some_and(|wakeup| Arc::ptr_eq(wakeup, &slot.wakeup)) {
            entry.owner = None;
            // Only the owner and watchers hold the feed.
            if entry.feed.strong_count() <= 1 {
                live.map.remove(&session);
            }
        }
        true
    }

    /// Ends the owner and the streams of a deleted session.
    pub(super) fn close_session(&self, session: SessionId) {
        let Some(entry) = self.lock().map.remove(&session) else { return };
        if let Some(wakeup) = entry.owner {
            wakeup.deleted.cancel();
        }
        if let Some(feed) = entry.feed.upgrade() {
            feed.close();
        }
    }

    pub(super) fn count_owned(&self) -> usize {
        self.lock().map.values().filter(|live| live.owner.is_some()).count()
    }
}
