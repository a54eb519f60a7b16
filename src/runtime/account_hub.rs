//! Streams of the sessions of a user. Nothing is stored for them: the logs of the sessions have everything.
//!
//! An owner hands what it has committed to the streams of its process, and tells other replicas which events to read. A stream
//! that continues after a point in time reads the newest events of the sessions that have changed since.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use k8sops_core::{
    AccountChange, AccountTopic, DeletionReason, ExpiringRecord, MessageQueued, RecordGroup, SessionDeleted,
    SessionEvent, SessionId, SessionStore, StoreError, Timestamp, UserId,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};

/// Changes that a stream may be behind; one that is further behind has missed some.
const QUEUE: usize = 512;
/// Changes of other replicas that wait to be read.
const REMOTE_QUEUE: usize = 1024;
/// How long deletions are known. A cursor that is older has a gap.
pub(super) const MEMORY: Duration = Duration::from_hours(7 * 24);

/// Who receives a change besides the user of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChangeAudience {
    UserOnly,
    UserAndApprovers,
}

/// What a stream receives.
#[derive(Debug, Clone)]
pub enum AccountNews {
    /// A change.
    Change(Arc<AccountChange>),
    /// Changes may have been missed.
    Missed,
}

/// The streams of all accounts in this process.
pub(super) struct AccountHub {
    store: Arc<dyn SessionStore>,
    replica: String,
    // A synchronous mutex: held for a lookup, never across an await.
    topics: Mutex<HashMap<AccountTopic, broadcast::Sender<AccountNews>>>,
    remote: mpsc::Sender<RemoteChange>,
}

/// What replicas tell each other, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct RemoteChange {
    replica: String,
    #[serde(flatten)]
    news: RemoteNews,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RemoteNews {
    /// Events to read.
    Logged {
        user: UserId,
        session: SessionId,
        first: u64,
        last: u64,
    },
    Deleted(SessionDeleted),
    Queued(MessageQueued),
}

impl AccountHub {
    /// Creates a hub. Returns the task that reads what other replicas have committed.
    pub(super) fn new(
        store: Arc<dyn SessionStore>,
        replica: String,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let (remote, changes) = mpsc::channel(REMOTE_QUEUE);
        let hub = Arc::new(Self { store, replica, topics: Mutex::default(), remote });
        let reading = read_remote_changes(Arc::downgrade(&hub), changes);
        (hub, reading)
    }

    /// Hands on what was committed.
    pub(super) fn publish_events(&self, user: &UserId, events: &[Arc<SessionEvent>]) {
        let mut of_interest = events.iter().filter(|event| event.body.concerns_account());
        let Some(first) = of_interest.next() else { return };
        let last = of_interest.next_back().unwrap_or(first).seq;
        for event in events {
            self.deliver_event(user, event);
        }
        let has_approval = events.iter().any(|event| event.body.concerns_approvers());
        let audience = if has_approval { ChangeAudience::UserAndApprovers } else { ChangeAudience::UserOnly };
        let (session, first) = (first.session_id, first.seq);
        self.announce(user, audience, RemoteNews::Logged { user: user.clone(), session, first, last });
    }

    /// Hands on that a message waits.
    pub(super) fn publish_queued(&self, queued: MessageQueued) {
        self.deliver(&AccountTopic::User(queued.user_id.clone()), AccountChange::Queued(queued.clone()));
        self.announce(&queued.user_id.clone(), ChangeAudience::UserOnly, RemoteNews::Queued(queued));
    }

    /// Hands on that a session is gone, and records it for streams that begin later.
    pub(super) async fn publish_deletion(&self, deleted: SessionDeleted) {
        let user = deleted.user_id.clone();
        self.deliver(&AccountTopic::User(user.clone()), AccountChange::Deleted(deleted.clone()));
        let record = ExpiringRecord {
            id: deleted.session_id.to_string().parse().expect("a UUID is a valid id"),
            value: serde_json::to_string(&deleted).expect("a deletion has string keys and no failing Serialize"),
            expires_at: deleted.ts.saturating_add(MEMORY),
        };
        // A list that is read again has the truth.
        if let Err(error) = self.store.replace_record(&RecordGroup::deletions_of(&user), &record).await {
            tracing::debug!(session = %deleted.session_id, %error, "deletion not recorded for streams of the account");
        }
        self.announce(&user, ChangeAudience::UserOnly, RemoteNews::Deleted(deleted));
    }

    fn deliver_event(&self, user: &UserId, event: &Arc<SessionEvent>) {
        if event.body.concerns_account() {
            let logged = || AccountChange::Logged { user: user.clone(), event: event.clone() };
            self.deliver(&AccountTopic::User(user.clone()), logged());
            if event.body.concerns_approvers() {
                self.deliver(&AccountTopic::Approvers, logged());
            }
        }
    }

    fn deliver(&self, topic: &AccountTopic, change: AccountChange) {
        if let Some(streams) = self.topics.lock().get(topic) {
            // Without a stream there is nothing to do.
            let _ = streams.send(AccountNews::Change(Arc::new(change)));
        }
    }

    /// Tells other replicas. What is lost is made up for by the next look at the lists.
    fn announce(&self, user: &UserId, audience: ChangeAudience, news: RemoteNews) {
        if self.store.notifications().is_none() {
            return;
        }
        let change = RemoteChange { replica: self.replica.clone(), news };
        let payload = serde_json::to_string(&change).expect("a change has string keys and no failing Serialize");
        let (store, user) = (self.store.clone(), user.clone());
        tokio::spawn(async move {
            let Some(shared) = store.notifications() else { return };
            let topics = [
                Some(AccountTopic::User(user)),
                (audience == ChangeAudience::UserAndApprovers).then_some(AccountTopic::Approvers),
            ];
            for topic in topics.into_iter().flatten() {
                if let Err(error) = shared.publish_account_change(&topic, &payload).await {
                    tracing::debug!(%error, "change of an account not published");
                }
            }
        });
    }

    /// Receives what another replica announced.
    pub(super) fn receive(&self, payload: &str) {
        match serde_json::from_str::<RemoteChange>(payload) {
            Ok(change) if change.replica == self.replica => {}
            Ok(change) => {
                if self.remote.try_send(change).is_err() {
                    self.report_missed();
                }
            }
            Err(error) => tracing::debug!(%error, "announced change of an account not understood"),
        }
    }

    /// Tells all streams that they may have missed changes.
    pub(super) fn report_missed(&self) {
        for streams in self.topics.lock().values() {
            let _ = streams.send(AccountNews::Missed);
        }
    }

    async fn read_change(&self, news: RemoteNews) {
        match news {
            RemoteNews::Deleted(deleted) => {
                self.deliver(&AccountTopic::User(deleted.user_id.clone()), AccountChange::Deleted(deleted));
            }
            RemoteNews::Queued(queued) => {
                self.deliver(&AccountTopic::User(queued.user_id.clone()), AccountChange::Queued(queued));
            }
            RemoteNews::Logged { user, session, first, last } => {
                let count = usize::try_from(last.saturating_sub(first) + 1).unwrap_or(usize::MAX);
                match self.store.read_events(session, first.saturating_sub(1), count).await {
                    Ok(page) => page.events.iter().for_each(|event| self.deliver_event(&user, event)),
                    Err(StoreError::NotFound(_)) => {}
                    Err(error) => {
                        tracing::debug!(%session, %error, "change of an account not read");
                        self.report_missed();
                    }
                }
            }
        }
    }

    pub(super) fn subscribe(self: &Arc<Self>, topic: AccountTopic) -> AccountSubscription {
        let mut topics = self.topics.lock();
        let known = topics.get(&topic).map(broadcast::Sender::subscribe);
        let news = known.unwrap_or_else(|| {
            let (streams, news) = broadcast::channel(QUEUE);
            topics.insert(topic.clone(), streams);
            if let Some(shared) = self.store.notifications() {
                shared.subscribe_account(&topic);
            }
            news
        });
        AccountSubscription { hub: self.clone(), topic, news: Some(news) }
    }

    fn remove_unused(&self, topic: &AccountTopic) {
        let mut topics = self.topics.lock();
        if topics.get(topic).is_some_and(|streams| streams.receiver_count() == 0) {
            topics.remove(topic);
            if let Some(shared) = self.store.notifications() {
                shared.unsubscribe_account(topic);
            }
        }
    }
}

/// Reads what other replicas have announced, in its order, until the hub is gone.
async fn read_remote_changes(hub: Weak<AccountHub>, mut changes: mpsc::Receiver<RemoteChange>) {
    while let Some(change) = changes.recv().await {
        let Some(hub) = hub.upgrade() else { return };
        hub.read_change(change.news).await;
    }
}

/// Receives the changes of one topic.
pub struct AccountSubscription {
    hub: Arc<AccountHub>,
    topic: AccountTopic,
    news: Option<broadcast::Receiver<AccountNews>>,
}

impl AccountSubscription {
    /// Waits for news. Cancel safe.
    pub async fn next(&mut self) -> AccountNews {
        let Some(news) = &mut self.news else { return std::future::pending().await };
        match news.recv().await {
            Ok(news) => news,
            Err(broadcast::error::RecvError::Lagged(_)) => AccountNews::Missed,
            // The hub outlives its streams.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for AccountSubscription {
    fn drop(&mut self) {
        self.news = None;
        self.hub.remove_unused(&self.topic);
    }
}

/// Returns the end of a session.
pub(super) fn session_deleted(session: SessionId, user: &UserId, reason: DeletionReason) -> SessionDeleted {
    SessionDeleted { session_id: session, user_id: user.clone(), reason, ts: Timestamp::now() }
}
