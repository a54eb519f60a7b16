//! The subscriber: one connection for all channels that this process listens to, opened again after it broke. In a cluster, it is
//! one to each node.

use std::{collections::HashSet, sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use redis::{Msg, RedisResult};
use tokio::{
    sync::{Mutex, mpsc},
    time::{interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use super::{connection::SharedConnection, keys::RedisKeys, subscriber_connection::SubscriberConnection};
use k8sops_core::{AccountTopic, NotificationTopic, SessionId, StoreNotification};

/// How often the connection is checked.
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// The delays before connecting again.
const RECONNECT_DELAYS: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(Duration::from_secs(2))
    .without_max_times()
    .with_jitter();
/// How many channels one command subscribes to.
const SUBSCRIBE_BATCH: usize = 500;
/// How many notifications are queued for the reader. If there are more, the reader gets one that stands for all.
const QUEUE_LIMIT: usize = 4096;

/// What `announce_watcher.lua` publishes.
const WATCHED_PAYLOAD: &[u8] = b"watched";

/// Receives the notifications of other processes.
pub(super) struct NotificationSubscriber {
    changes: mpsc::UnboundedSender<SubscriptionChange>,
    notifications: Mutex<mpsc::Receiver<StoreNotification>>,
    _task: AbortOnDropHandle<()>,
}

/// What a channel is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum SubscribedChannel {
    Session(SessionId, NotificationTopic),
    Account(AccountTopic),
}

enum SubscriptionChange {
    Subscribe(SubscribedChannel),
    Unsubscribe(SubscribedChannel),
}

impl NotificationSubscriber {
    /// Starts the task that listens. Must be called on a Tokio runtime.
    pub(super) fn spawn(connection: Arc<SharedConnection>, keys: RedisKeys) -> Self {
        // Two changes for each open cursor at most, sent where nothing can wait, such as in `drop`.
        #[expect(clippy::disallowed_methods, reason = "bounded by the cursors that are open")]
        let (changes, pending_changes) = mpsc::unbounded_channel();
        let (queue, notifications) = mpsc::channel(QUEUE_LIMIT);
        let task =
            SubscriberTask { connection, keys, channels: HashSet::new(), pending_changes, queue, overflowed: false };
        Self {
            changes,
            notifications: Mutex::new(notifications),
            _task: AbortOnDropHandle::new(tokio::spawn(task.run())),
        }
    }

    pub(super) fn subscribe(&self, channel: SubscribedChannel) {
        // The task runs as long as `self` lives, so sending cannot fail.
        let _ = self.changes.send(SubscriptionChange::Subscribe(channel));
    }

    pub(super) fn unsubscribe(&self, channel: SubscribedChannel) {
        let _ = self.changes.send(SubscriptionChange::Unsubscribe(channel));
    }

    pub(super) async fn next_notification(&self) -> StoreNotification {
        match self.notifications.lock().await.recv().await {
            Some(notification) => notification,
            None => std::future::pending().await,
        }
    }
}

struct SubscriberTask {
    connection: Arc<SharedConnection>,
    keys: RedisKeys,
    /// All subscriptions except the work channel, which is always subscribed to.
    channels: HashSet<SubscribedChannel>,
    pending_changes: mpsc::UnboundedReceiver<SubscriptionChange>,
    queue: mpsc::Sender<StoreNotification>,
    /// A notification did not fit into the queue.
    overflowed: bool,
}

enum SubscriberInput {
    Message(Msg),
    Changes(Vec<SubscriptionChange>),
    Tick,
}

impl SubscriberTask {
    async fn run(mut self) {
        loop {
            let connecting = (|| self.open_subscribed())
                .retry(RECONNECT_DELAYS)
                .notify(|error, delay| tracing::debug!(%error, ?delay, "notification connection failed, retrying"));
            let Ok(mut connection) = connecting.await else { continue };
            // Notifications may have been lost while there was no connection.
            self.enqueue(StoreNotification::All);
            match self.forward_notifications(&mut connection).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "notification connection broken, reconnecting"),
            }
            let delay = connection.reopening_delay();
            drop(connection);
            sleep(delay).await;
        }
    }

    /// Opens a connection with all subscriptions.
    async fn open_subscribed(&self) -> RedisResult<SubscriberConnection> {
        let mut connection = self.connection.connect_subscriber().await?;
        let mut channels = vec![self.keys.work_channel()];
        channels.extend(self.channels.iter().map(|channel| self.channel_name(channel)));
        for batch in channels.chunks(SUBSCRIBE_BATCH) {
            connection.subscribe(batch).await?;
        }
        Ok(connection)
    }

    /// Forwards notifications until the connection breaks. Returns `Ok` when the subscriber was dropped.
    async fn forward_notifications(&mut self, connection: &mut SubscriberConnection) -> RedisResult<()> {
        let mut ping = interval(PING_INTERVAL);
        ping.reset();
        loop {
            let mut changes = Vec::new();
            let input = tokio::select! {
                message = connection.next_message() => SubscriberInput::Message(message?),
                count = self.pending_changes.recv_many(&mut changes, SUBSCRIBE_BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                    SubscriberInput::Changes(changes)
                }
                _ = ping.tick() => SubscriberInput::Tick,
            };
            match input {
                SubscriberInput::Message(message) => self.forward_message(&message),
                SubscriberInput::Changes(changes) => self.apply_changes(connection, changes).await?,
                SubscriberInput::Tick => {
                    if self.overflowed {
                        self.overflowed = false;
                        self.enqueue(StoreNotification::All);
                    }
                    connection.ping().await?;
                }
            }
        }
    }

    async fn apply_changes(
        &mut self,
        connection: &mut SubscriberConnection,
        changes: Vec<SubscriptionChange>,
    ) -> RedisResult<()> {
        let mut added = Vec::new();
        let mut removed = Vec::new();
        for change in changes {
            // `channels` changes first, because a new connection subscribes to what it holds.
            match change {
                SubscriptionChange::Subscribe(channel) => {
                    if self.channels.insert(channel.clone()) {
                        added.push(channel);
                    }
                }
                SubscriptionChange::Unsubscribe(channel) => {
                    if self.channels.remove(&channel) {
                        removed.push(channel);
                    }
                }
            }
        }
        // If one batch both adds and removes a channel, the last change wins.
        removed.retain(|channel| !self.channels.contains(channel));
        if !removed.is_empty() {
            connection.unsubscribe(&self.channel_names(&removed)).await?;
        }
        added.retain(|channel| self.channels.contains(channel));
        if !added.is_empty() {
            connection.subscribe(&self.channel_names(&added)).await?;
            for channel in added {
                if let SubscribedChannel::Session(session, topic) = channel {
                    self.enqueue(StoreNotification::Session(session, topic));
                }
            }
        }
        Ok(())
    }

    fn channel_names(&self, channels: &[SubscribedChannel]) -> Vec<String> {
        channels.iter().map(|channel| self.channel_name(channel)).collect()
    }

    fn channel_name(&self, channel: &SubscribedChannel) -> String {
        match channel {
            SubscribedChannel::Session(session, topic) => self.keys.session_channel(*session, *topic),
            SubscribedChannel::Account(topic) => self.keys.account_channel(topic),
        }
    }

    fn forward_message(&mut self, message: &Msg) {
        let channel = message.get_channel_name();
        if channel == self.keys.work_channel() {
            self.enqueue(StoreNotification::Unfinished);
        } else if channel.starts_with(&self.keys.account_channels()) {
            let payload = String::from_utf8_lossy(message.get_payload_bytes());
            self.enqueue(StoreNotification::Account(payload.as_ref().into()));
        } else if let Some((session, topic)) = self.keys.parse_session_channel(channel) {
            self.enqueue(match message.get_payload_bytes() {
                WATCHED_PAYLOAD => StoreNotification::Watched(session),
                _ => StoreNotification::Session(session, topic),
            });
        }
    }

    fn enqueue(&mut self, notification: StoreNotification) {
        self.overflowed |= self.queue.try_send(notification).is_err();
    }
}
