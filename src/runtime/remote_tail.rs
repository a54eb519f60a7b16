//! Tails sessions that other replicas own: reads their logs and previews into the local feeds, once for all local watchers of
//! a session. Notifications say when; a poll every few seconds catches up with notifications that were lost. Owners write
//! previews for those who have announced that they read them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt as _, future, stream};
use parking_lot::{Mutex, MutexGuard};

use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, MissedTickBehavior, interval},
};

use super::known_logs::{DamageFinding, KnownLogs};
use k8sops_core::{
    LogContinuity, LogHead, MessagePreview, NotificationTopic, Notifications, REPLAY_PAGE_SIZE, SMALL_PAGE_SIZE,
    SessionFeed, SessionId, SessionStore, StoreError, WATCHER_TTL,
};

/// Interval of polling a session without notifications.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Interval of announcing watchers to the owner. A failed announcement can be repeated before the last one expires.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(WATCHER_TTL.as_secs() / 3);
/// Interval of scheduling polls and of dropping sessions without watchers.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// Upper bound of concurrent polls.
const MAX_CONCURRENT_POLLS: usize = 64;

/// The sessions that this process tails.
pub(super) struct RemoteTails {
    store: Arc<dyn SessionStore>,
    known_logs: Arc<KnownLogs>,
    /// The name of this process in leases.
    replica: String,
    // A synchronous mutex: held for a lookup, never across an await.
    inner: Mutex<TailState>,
    work: Notify,
}

#[derive(Default)]
struct TailState {
    followed: HashMap<SessionId, RemoteTail>,
    /// Sessions to poll now; a session can be listed more than once.
    due: VecDeque<SessionId>,
}

impl TailState {
    /// Whether the feed of a session is written from the store, and not by an owner in this process.
    fn is_tailed(&self, session: SessionId) -> bool {
        self.followed.get(&session).is_some_and(|tail| !tail.owned)
    }
}

struct RemoteTail {
    feed: Weak<SessionFeed>,
    /// Read position in the preview.
    preview: u64,
    /// An owner in this process writes the feed.
    owned: bool,
    /// When to poll next.
    next_poll: Instant,
    /// When to announce the watchers next; `None` before the first time.
    next_announcement: Option<Instant>,
    is_polling: bool,
}

/// A session to poll.
struct DuePoll {
    session: SessionId,
    feed: Arc<SessionFeed>,
    /// Read position in the preview.
    preview: u64,
    /// Whether the watchers are to be announced.
    announces: bool,
}

impl RemoteTails {
    pub(super) fn new(store: Arc<dyn SessionStore>, known_logs: Arc<KnownLogs>, replica: String) -> Self {
        Self { store, known_logs, replica, inner: Mutex::default(), work: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, TailState> {
        self.inner.lock()
    }

    fn notifications(&self) -> Option<&dyn Notifications> {
        self.store.notifications()
    }

    /// Keeps a feed up to date for as long as it is in use.
    pub(super) fn follow(&self, session: SessionId, feed: &Arc<SessionFeed>) {
        let Some(shared) = self.notifications() else { return };
        let mut inner = self.lock();
        let known = inner.followed.get(&session);
        if known.is_some_and(|f| std::ptr::eq(f.feed.as_ptr(), Arc::as_ptr(feed))) {
            return;
        }
        let owned = known.is_some_and(|f| f.owned);
        let new = RemoteTail {
            feed: Arc::downgrade(feed),
            preview: 0,
            owned,
            next_poll: Instant::now(),
            next_announcement: None,
            is_polling: false,
        };
        inner.followed.insert(session, new);
        inner.due.push_back(session);
        drop(inner);
        if !owned {
            shared.subscribe(session, NotificationTopic::Log);
        }
        self.work.notify_one();
    }

    /// Sets whether an owner in this process writes the session's feed.
    pub(super) fn set_owned(&self, session: SessionId, feed: &Arc<SessionFeed>, owned: bool) {
        let Some(shared) = self.notifications() else { return };
        self.follow(session, feed);
        let mut inner = self.lock();
        let Some(entry) = inner.followed.get_mut(&session) else { return };
        entry.owned = owned;
        entry.next_announcement = None;
        entry.next_poll = Instant::now();
        inner.due.push_back(session);
        drop(inner);
        if owned {
            shared.unsubscribe(session, NotificationTopic::Log);
        } else {
            shared.subscribe(session, NotificationTopic::Log);
            self.work.notify_one();
        }
    }

    /// Schedules a poll of a session.
    pub(super) fn mark_due(&self, session: SessionId) {
        let mut inner = self.lock();
        if let Some(followed) = inner.followed.get_mut(&session) {
            followed.next_poll = Instant::now();
            inner.due.push_back(session);
            self.work.notify_one();
        }
    }

    /// Schedules a poll of every session.
    pub(super) fn mark_all_due(&self) {
        let mut inner = self.lock();
        let TailState { followed, due } = &mut *inner;
        for (session, followed) in followed {
            followed.next_poll = Instant::now();
            // The store may have lost the announcement.
            followed.next_announcement = None;
            due.push_back(*session);
        }
        self.work.notify_one();
    }

    /// Polls scheduled sessions until the future is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let permits = Arc::new(Semaphore::new(MAX_CONCURRENT_POLLS));
        let mut tick = interval(SWEEP_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.work.notified() => {}
                _ = tick.tick() => self.sweep(),
            }
            while let Some(poll) = self.next_due() {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let remote_tails = self.clone();
                tokio::spawn(async move {
                    let result = remote_tails.poll_session(&poll).await;
                    remote_tails.finish_poll(&poll, result);
                    drop(permit);
                });
            }
        }
    }

    /// Drops sessions without watchers and schedules overdue polls.
    fn sweep(self: &Arc<Self>) {
        let Some(shared) = self.notifications() else { return };
        let now = Instant::now();
        let mut inner = self.lock();
        let TailState { followed, due } = &mut *inner;
        followed.retain(|session, followed| {
            let watched = followed.feed.strong_count() > 0;
            if !watched {
                shared.unsubscribe(*session, NotificationTopic::Log);
                if followed.next_announcement.is_some() {
                    tokio::spawn(self.clone().withdraw_watcher(*session));
                }
            } else if followed.next_poll <= now {
                due.push_back(*session);
            }
            watched
        });
    }

    /// Spares the owner the previews that no watcher reads any more. If this fails, the announcement expires.
    async fn withdraw_watcher(self: Arc<Self>, session: SessionId) {
        let Some(shared) = self.notifications() else { return };
        if self.lock().followed.contains_key(&session) {
            return;
        }
        if let Err(error) = shared.withdraw_watcher(session, &self.replica).await {
            tracing::debug!(%session, %error, "withdrawing the announcement of watchers failed");
        }
    }

    fn next_due(&self) -> Option<DuePoll> {
        let now = Instant::now();
        let mut inner = self.lock();
        let TailState { followed, due } = &mut *inner;
        while let Some(session) = due.pop_front() {
            // A session that is being polled is scheduled again afterwards.
            let Some(entry) = followed.get_mut(&session).filter(|f| f.next_poll <= now && !f.owned && !f.is_polling)
            else {
                continue;
            };
            let Some(feed) = entry.feed.upgrade() else { continue };
            entry.next_poll = now + POLL_INTERVAL;
            entry.is_polling = true;
            let announces = entry.next_announcement.is_none_or(|next| next <= now);
            if announces {
                entry.next_announcement = Some(now + ANNOUNCE_INTERVAL);
            }
            return Some(DuePoll { session, feed, preview: entry.preview, announces });
        }
        None
    }

    /// Reads the preview before the log, so that the preview never belongs to a message after the log that was read.
    async fn poll_session(&self, poll: &DuePoll) -> Result<u64, StoreError> {
        let DuePoll { session, feed, .. } = poll;
        let session = *session;
        let mut preview = poll.preview;
        let Some(shared) = self.notifications() else { return Ok(preview) };
        if poll.announces
            && let Err(error) = shared.announce_watcher(session, &self.replica).await
        {
            // A store that is full or read-only can still be read.
            tracing::debug!(%session, %error, "announcing watchers failed");
            if let Some(entry) = self.lock().followed.get_mut(&session) {
                entry.next_announcement = None;
            }
        }
        // Nearly always, this is all.
        let mut limit = SMALL_PAGE_SIZE;
        loop {
            let held = feed.held_position();
            let seen = shared.read_preview(session, preview).await?;
            let page = match self.store.read_events(session, held.published.seq, limit).await {
                Err(StoreError::NotFound(_)) => {
                    feed.close();
                    return Ok(preview);
                }
                page => page?,
            };
            if !self.lock().is_tailed(session) {
                return Ok(preview);
            }
            let continuity = held.compare(&page);
            if continuity == LogContinuity::Forked || self.known_logs.must_compare(session, held.published, page.head())
            {
                self.report_loss(session, page.head()).await?;
            }
            // An owner in this process writes the feed from its registration on, which waits for this lock.
            let inner = self.lock();
            if !inner.is_tailed(session) {
                return Ok(preview);
            }
            if continuity == LogContinuity::Forked {
                feed.start_over(&held, page.head());
                preview = 0;
                continue;
            }
            let is_last = page.events.len() < limit;
            // What follows a page that is not the last one is read again, because the events in between may end it.
            let previews: &[MessagePreview] = if is_last { &seen.pieces } else { &[] };
            feed.publish_read(&page.events, page.lineage_after, previews);
            self.known_logs.record_read(session, &page.events, page.end());
            if is_last {
                return Ok(seen.position);
            }
            limit = REPLAY_PAGE_SIZE;
        }
    }

    /// Compares the logs that were used lately with what the store has, because a lost connection may mean that it has failed
    /// over. Until a loss is reported, an owner on a replica that does not know of it would use the seqs again.
    pub(super) async fn verify_recent_logs(self: Arc<Self>) {
        let verify = |(session, known): (SessionId, LogHead)| {
            let this = &self;
            async move {
                let page = this.store.read_events(session, known.seq, 1).await?;
                let is_whole = page.continues(known) && !this.known_logs.has_report(session);
                if is_whole { Ok(()) } else { this.report_loss(session, page.head()).await }
            }
        };
        let verified = stream::iter(self.known_logs.recent_logs()).map(verify).buffer_unordered(MAX_CONCURRENT_POLLS);
        let failed = verified.filter(|result| future::ready(result.is_err())).count().await;
        if failed > 0 {
            // Their sessions were deleted, or a stream or an owner compares again.
            tracing::debug!(failed, "some logs could not be compared with the store");
        }
    }

    /// Tells the next owner if the store has lost events that this process knows of.
    async fn report_loss(&self, session: SessionId, head: LogHead) -> Result<(), StoreError> {
        if let Some(lost) = self.known_logs.find_lost_branch(self.store.as_ref(), session, head).await? {
            if !self.known_logs.is_reported(session, &lost) {
                let lost_calls = lost.calls.len();
                tracing::warn!(%session, last_seq = head.seq, known_seq = lost.known_seq, lost_calls, "log went backwards");
            }
            self.store.report_lost_branch(session, &lost).await?;
            self.known_logs.record_loss(session, head, lost);
        }
        Ok(())
    }

    fn finish_poll(&self, poll: &DuePoll, result: Result<u64, StoreError>) {
        let DuePoll { session, feed, .. } = poll;
        let session = *session;
        let mut inner = self.lock();
        let Some(entry) = inner.followed.get_mut(&session) else { return };
        if !std::ptr::eq(entry.feed.as_ptr(), Arc::as_ptr(feed)) {
            return;
        }
        entry.is_polling = false;
        match result {
            Ok(preview) => entry.preview = preview,
            Err(error @ StoreError::Corrupt(_)) => {
                if self.known_logs.record_damage(session) == DamageFinding::New {
                    tracing::error!(%session, %error, "session cannot be read");
                }
                feed.close_damaged();
            }
            Err(error) => {
                tracing::debug!(%session, %error, "tailing a session failed, retrying");
                feed.warn_store_unavailable();
                entry.next_poll = Instant::now() + SWEEP_INTERVAL;
            }
        }
        if entry.next_poll <= Instant::now() {
            inner.due.push_back(session);
            self.work.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use async_trait::async_trait;
    use k8sops_core::{
        EventBody, EventDraft, MessageId, MessagePreview, PreviewPage, RunId, RunRecovered, SessionLog as _, TextDelta,
    };
    use k8sops_store::{
        InMemoryStore,
        contract::{SessionWriter, create_test_session, warning_draft},
    };
    use k8sops_testing::{
        hooked_store::{HookedStore, StoreHooks, StoreWrite},
        quiet_notifications::QuietNotifications,
    };

    use super::*;

    /// A shared store. While a loss is reported, this process becomes the owner of the session, and its model begins to write.
    #[derive(Default)]
    struct SharedStore {
        notifications: QuietNotifications,
        new_owner: OnceLock<NewOwner>,
    }

    struct NewOwner {
        tails: Arc<RemoteTails>,
        session: SessionId,
        feed: Arc<SessionFeed>,
        message: MessageId,
    }

    #[async_trait]
    impl StoreHooks for SharedStore {
        fn notifications(&self) -> Option<&dyn Notifications> {
            Some(&self.notifications)
        }

        async fn before_write(&self, write: StoreWrite<'_>) -> Result<(), StoreError> {
            if let (StoreWrite::ReportLoss, Some(owner)) = (write, self.new_owner.get()) {
                owner.tails.set_owned(owner.session, &owner.feed, true);
                owner.feed.reset_for_owner(LogHead::at_seq(3));
                owner.feed.append_text(RunId::new(), owner.message, "of the owner");
            }
            Ok(())
        }
    }

    struct Fixture {
        store: Arc<HookedStore<InMemoryStore, SharedStore>>,
        tails: Arc<RemoteTails>,
        feed: Arc<SessionFeed>,
        session: SessionId,
    }

    impl Fixture {
        /// A session with these events after its first one, and these previews, of which a new feed knows nothing.
        async fn new(drafts: Vec<EventDraft>, pieces: Vec<MessagePreview>) -> Self {
            let position = pieces.len() as u64;
            let preview = PreviewPage { pieces, position };
            let shared = SharedStore { notifications: QuietNotifications { preview }, ..SharedStore::default() };
            let store = HookedStore::new(InMemoryStore::default(), shared);
            let session = create_test_session(store.inner()).await;
            SessionWriter::acquire(store.inner(), session, "another process").await.append(drafts).await.unwrap();
            let known_logs = Arc::new(KnownLogs::default());
            let tails = Arc::new(RemoteTails::new(store.clone(), known_logs, "this process".into()));
            let feed = Arc::new(SessionFeed::new(0));
            tails.follow(session, &feed);
            Self { store, tails, feed, session }
        }

        async fn poll(&self) {
            let poll = DuePoll { session: self.session, feed: self.feed.clone(), preview: 0, announces: false };
            self.tails.poll_session(&poll).await.unwrap();
        }
    }

    #[tokio::test]
    async fn owner_of_this_process_writes_the_feed_alone() {
        let fixture = Fixture::new((0..4).map(|n| warning_draft(&n.to_string())).collect(), Vec::new()).await;
        fixture.poll().await;
        let Fixture { store, tails, feed, session } = &fixture;
        store.inner().lose_events_after(*session, 3);
        let message = MessageId::new();
        let owner = NewOwner { tails: tails.clone(), session: *session, feed: feed.clone(), message };
        assert!(store.new_owner.set(owner).is_ok());
        fixture.poll().await;
        assert_eq!(feed.open_message_id(), Some(message), "its text is not dropped");
    }

    #[tokio::test]
    async fn preview_after_a_takeover_is_kept() {
        let (run_id, message_id) = (RunId::new(), MessageId::new());
        let recovered =
            RunRecovered { attempt: 2, superseded: vec![MessageId::new()], reason: "its owner was killed".into() };
        // More than a small page has.
        let events = (0..SMALL_PAGE_SIZE).map(|n| warning_draft(&n.to_string()));
        let events = events.chain([EventDraft::in_run(run_id, EventBody::RunRecovered(recovered))]);
        let delta = TextDelta { message_id, run_id, offset: 0, content: "of the next attempt".into() };
        let fixture = Fixture::new(events.collect(), vec![MessagePreview::Token(delta)]).await;
        fixture.poll().await;
        assert_eq!(fixture.feed.open_message_id(), Some(message_id));
        let newest = fixture.store.read_events(fixture.session, 0, 1).await.unwrap().last_seq;
        assert_eq!(fixture.feed.last_seq(), newest);
    }
}
