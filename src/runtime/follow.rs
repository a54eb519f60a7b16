//! Following sessions that other replicas work on: their logs and previews are read into the local feeds, once for all
//! local watchers of a session. A doorbell says when; a look every few seconds makes good what the doorbell missed.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, MissedTickBehavior, interval},
};

use k8sops_core::{NotificationTopic, Notifications, READ_PAGE, SessionFeed, SessionId, SessionStore, StoreError};

/// How often a session is looked at that nothing was heard of.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is seen to that those looks are made, and that sessions nobody watches any more are left.
const TICK: Duration = Duration::from_millis(500);
/// Looks at the same time.
const LOOKS: usize = 64;

/// The sessions that this process follows.
pub(super) struct Followers {
    store: Arc<dyn SessionStore>,
    // A plain mutex: held for a look-up, never across an await.
    inner: Mutex<Inner>,
    work: Notify,
}

#[derive(Default)]
struct Inner {
    followed: HashMap<SessionId, Followed>,
    /// Sessions to look at now, perhaps more than once.
    due: VecDeque<SessionId>,
}

struct Followed {
    feed: Weak<SessionFeed>,
    /// Place in the preview.
    preview: u64,
    /// An owner in this process writes the feed.
    owned: bool,
    /// When to look next: now, if there is something to look at.
    next_look: Instant,
    looking: bool,
}

impl Followers {
    pub(super) fn new(store: Arc<dyn SessionStore>) -> Self {
        Self { store, inner: Mutex::default(), work: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notifications(&self) -> Option<&dyn Notifications> {
        self.store.notifications()
    }

    /// Keeps a feed up to date for as long as somebody holds it.
    pub(super) fn follow(&self, session: SessionId, feed: &Arc<SessionFeed>) {
        let Some(shared) = self.notifications() else { return };
        let mut inner = self.lock();
        let known = inner.followed.get(&session);
        if known.is_some_and(|f| std::ptr::eq(f.feed.as_ptr(), Arc::as_ptr(feed))) {
            return;
        }
        let owned = known.is_some_and(|f| f.owned);
        let new = Followed { feed: Arc::downgrade(feed), preview: 0, owned, next_look: Instant::now(), looking: false };
        inner.followed.insert(session, new);
        inner.due.push_back(session);
        drop(inner);
        if !owned {
            shared.subscribe(session, NotificationTopic::Log);
        }
        self.work.notify_one();
    }

    /// An owner in this process begins to write the session's feed, or ends.
    pub(super) fn owned(&self, session: SessionId, feed: &Arc<SessionFeed>, owned: bool) {
        let Some(shared) = self.notifications() else { return };
        self.follow(session, feed);
        let mut inner = self.lock();
        let Some(entry) = inner.followed.get_mut(&session) else { return };
        entry.owned = owned;
        entry.next_look = Instant::now();
        inner.due.push_back(session);
        drop(inner);
        if owned {
            shared.unsubscribe(session, NotificationTopic::Log);
        } else {
            shared.subscribe(session, NotificationTopic::Log);
            self.work.notify_one();
        }
    }

    /// There is something to look at.
    pub(super) fn rung(&self, session: SessionId) {
        let mut inner = self.lock();
        if let Some(followed) = inner.followed.get_mut(&session) {
            followed.next_look = Instant::now();
            inner.due.push_back(session);
            self.work.notify_one();
        }
    }

    /// There may be something to look at everywhere.
    pub(super) fn all_rung(&self) {
        let mut inner = self.lock();
        let Inner { followed, due } = &mut *inner;
        for (session, followed) in followed {
            followed.next_look = Instant::now();
            due.push_back(*session);
        }
        self.work.notify_one();
    }

    /// Looks where there is something to be seen; until it is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let looks = Arc::new(Semaphore::new(LOOKS));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.work.notified() => {}
                _ = tick.tick() => self.sweep(),
            }
            while let Some((session, feed, preview)) = self.next_due() {
                let Ok(permit) = looks.clone().acquire_owned().await else { return };
                let followers = self.clone();
                tokio::spawn(async move {
                    let looked = followers.look(session, &feed, preview).await;
                    followers.looked(session, &feed, looked);
                    drop(permit);
                });
            }
        }
    }

    /// Leaves what nobody watches, and looks again at what was not looked at for a while.
    fn sweep(&self) {
        let Some(shared) = self.notifications() else { return };
        let now = Instant::now();
        let mut inner = self.lock();
        let Inner { followed, due } = &mut *inner;
        followed.retain(|session, followed| {
            let watched = followed.feed.strong_count() > 0;
            if !watched {
                shared.unsubscribe(*session, NotificationTopic::Log);
            } else if followed.next_look <= now {
                due.push_back(*session);
            }
            watched
        });
    }

    fn next_due(&self) -> Option<(SessionId, Arc<SessionFeed>, u64)> {
        let now = Instant::now();
        let mut inner = self.lock();
        let Inner { followed, due } = &mut *inner;
        while let Some(session) = due.pop_front() {
            // One that is looked at now is due again when that is done.
            let Some(entry) = followed.get_mut(&session).filter(|f| f.next_look <= now && !f.owned && !f.looking)
            else {
                continue;
            };
            let Some(feed) = entry.feed.upgrade() else { continue };
            entry.next_look = now + LOOK;
            entry.looking = true;
            return Some((session, feed, entry.preview));
        }
        None
    }

    /// The preview before the log: what is read of an open message is then never of one that comes after what was read of
    /// the log.
    async fn look(&self, session: SessionId, feed: &SessionFeed, mut preview: u64) -> Result<u64, StoreError> {
        let Some(shared) = self.notifications() else { return Ok(preview) };
        loop {
            let seen = shared.read_preview(session, preview).await?;
            let page = match self.store.read_events(session, feed.seen(), READ_PAGE).await {
                Err(StoreError::NotFound(_)) => {
                    feed.close();
                    return Ok(preview);
                }
                page => page?,
            };
            preview = seen.position;
            if self.lock().followed.get(&session).is_none_or(|f| f.owned) {
                // An owner in this process writes the feed by now.
                return Ok(preview);
            }
            for piece in &seen.pieces {
                feed.preview(piece);
            }
            feed.publish(&page.events);
            if page.events.len() < READ_PAGE {
                return Ok(preview);
            }
        }
    }

    fn looked(&self, session: SessionId, feed: &Arc<SessionFeed>, looked: Result<u64, StoreError>) {
        let mut inner = self.lock();
        let Some(entry) = inner.followed.get_mut(&session) else { return };
        if !std::ptr::eq(entry.feed.as_ptr(), Arc::as_ptr(feed)) {
            return;
        }
        entry.looking = false;
        match looked {
            Ok(preview) => entry.preview = preview,
            Err(error) => {
                tracing::debug!(%session, %error, "the session could not be looked at; trying again");
                feed.warn_unavailable();
                entry.next_look = Instant::now() + TICK;
            }
        }
        if entry.next_look <= Instant::now() {
            inner.due.push_back(session);
            self.work.notify_one();
        }
    }
}
