//! Receives what is published to the shards of a cluster.
//!
//! A shard channel belongs to the node that has its slot, and what is published to it reaches no other shard. Only that node
//! accepts the subscription, and ends it when the slot moves to another node.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use redis::{
    ErrorKind, Msg, PushInfo, PushKind, RedisError, RedisResult,
    aio::{AsyncPushSender, SendError},
    cluster_async::ClusterConnection,
    from_redis_value_ref,
};
use tokio::sync::{mpsc, watch};

use super::outage::classify_error;
use k8sops_core::StoreOutage;

/// How many messages are queued for the reader.
const QUEUE_LIMIT: usize = 4096;
/// How many subscriptions are sent before the first one is confirmed. Each is a command of its own, because one command cannot
/// name channels of several slots.
const CONCURRENT_SUBSCRIPTIONS: usize = 64;

/// Subscriptions to shard channels, over the connections to all masters of a cluster.
///
/// The library moves subscriptions by itself when slots move, but a node that ends a subscription unasked sends what the library
/// takes for the reply to its next command. So a connection on which anything happened that was not asked for is not used again:
/// [`next_message`](Self::next_message) fails, and the caller opens another one.
pub(super) struct ShardSubscriber {
    connection: ClusterConnection,
    messages: mpsc::Receiver<Msg>,
    pushes: Arc<ShardPushes>,
    lost: watch::Receiver<Option<&'static str>>,
    /// Channels of a shard that was unavailable.
    has_missing_channels: bool,
}

/// What the nodes send unasked, and their confirmations.
pub(super) struct ShardPushes {
    messages: mpsc::Sender<Msg>,
    /// The confirmations that are due, by kind and channel.
    expected: Mutex<HashSet<(ConfirmationKind, Vec<u8>)>>,
    /// Why the connection must not be used any longer.
    lost: watch::Sender<Option<&'static str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ConfirmationKind {
    Subscribed,
    Unsubscribed,
}

/// The other end of [`ShardPushes`], before there is a connection.
pub(super) struct ShardPushReceiver {
    messages: mpsc::Receiver<Msg>,
    pushes: Arc<ShardPushes>,
    lost: watch::Receiver<Option<&'static str>>,
}

impl ShardPushReceiver {
    pub(super) fn new() -> Self {
        let (sender, messages) = mpsc::channel(QUEUE_LIMIT);
        let (lost_sender, lost) = watch::channel(None);
        let pushes = ShardPushes { messages: sender, expected: Mutex::default(), lost: lost_sender };
        Self { messages, pushes: Arc::new(pushes), lost }
    }

    /// Returns what the connection hands its pushes to.
    pub(super) fn sender(&self) -> Arc<ShardPushes> {
        self.pushes.clone()
    }

    pub(super) fn with_connection(self, connection: ClusterConnection) -> ShardSubscriber {
        let Self { messages, pushes, lost } = self;
        ShardSubscriber { connection, messages, pushes, lost, has_missing_channels: false }
    }
}

impl AsyncPushSender for ShardPushes {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        let reason = match push.kind {
            PushKind::SMessage => {
                let Some(message) = Msg::from_push_info(push) else { return Ok(()) };
                if self.messages.try_send(message).is_ok() {
                    return Ok(());
                }
                // The reader is so far behind that it has to look at everything.
                "its messages were not read in time"
            }
            PushKind::SSubscribe if self.was_expected(ConfirmationKind::Subscribed, &push) => return Ok(()),
            PushKind::SSubscribe => "the slots of the cluster were read again",
            PushKind::SUnsubscribe if self.was_expected(ConfirmationKind::Unsubscribed, &push) => return Ok(()),
            PushKind::SUnsubscribe => "a slot has moved to another node",
            PushKind::Disconnection => "a node closed its connection",
            _ => return Ok(()),
        };
        self.lost.send_if_modified(|lost| {
            let is_first = lost.is_none();
            lost.get_or_insert(reason);
            is_first
        });
        Ok(())
    }
}

impl ShardPushes {
    fn was_expected(&self, kind: ConfirmationKind, push: &PushInfo) -> bool {
        let channel = push.data.first().and_then(|channel| from_redis_value_ref(channel).ok());
        channel.is_some_and(|channel| self.expected.lock().remove(&(kind, channel)))
    }

    fn expect(&self, kind: ConfirmationKind, channel: &str) {
        self.expected.lock().insert((kind, channel.as_bytes().to_vec()));
    }
}

impl ShardSubscriber {
    /// Subscribes to channels. Those of a shard that is unavailable are left to the next connection, which the caller opens
    /// because [`ping`](Self::ping) fails.
    pub(super) async fn subscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        let confirmed = self.send_each(ConfirmationKind::Subscribed, channels).await;
        for error in confirmed.into_iter().filter_map(Result::err) {
            if !is_outage_of_shard(&error) {
                return Err(error);
            }
            tracing::debug!(%error, "shard channel not subscribed to");
            self.has_missing_channels = true;
        }
        Ok(())
    }

    pub(super) async fn unsubscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        let confirmed = self.send_each(ConfirmationKind::Unsubscribed, channels).await;
        confirmed.into_iter().filter(|result| !result.as_ref().is_err_and(is_outage_of_shard)).collect()
    }

    /// Sends a command for each channel, and waits until all are confirmed or rejected.
    async fn send_each(&self, kind: ConfirmationKind, channels: &[String]) -> Vec<RedisResult<()>> {
        let mut requests = Vec::new();
        for channel in channels.iter().cloned() {
            self.pushes.expect(kind, &channel);
            let mut connection = self.connection.clone();
            requests.push(async move {
                match kind {
                    ConfirmationKind::Subscribed => connection.ssubscribe(channel).await,
                    ConfirmationKind::Unsubscribed => connection.sunsubscribe(channel).await,
                }
            });
        }
        stream::iter(requests).buffer_unordered(CONCURRENT_SUBSCRIPTIONS).collect().await
    }

    /// Returns the next message. Safe to cancel.
    ///
    /// # Errors
    /// Messages may have been lost.
    pub(super) async fn next_message(&mut self) -> RedisResult<Msg> {
        tokio::select! {
            message = self.messages.recv() => message.ok_or_else(|| connection_lost("closed")),
            lost = self.lost.wait_for(Option::is_some) => {
                Err(connection_lost(lost.ok().and_then(|reason| *reason).unwrap_or("closed")))
            }
        }
    }

    /// Fails unless all masters respond and all channels are subscribed to.
    pub(super) async fn ping(&mut self) -> RedisResult<()> {
        if self.has_missing_channels {
            return Err(connection_lost("a shard was unavailable"));
        }
        redis::cmd("PING").query_async(&mut self.connection).await
    }
}

/// Whether other shards may work. A missing right, or a server without shard channels, fails everywhere.
fn is_outage_of_shard(error: &RedisError) -> bool {
    let outage = classify_error(error).0;
    outage == StoreOutage::Unreachable && error.kind() != ErrorKind::Parse
        || matches!(outage, StoreOutage::Loading | StoreOutage::ReadOnly)
}

pub(super) fn connection_lost(reason: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::ConnectionReset, reason).into()
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn push(kind: PushKind, channel: &str) -> PushInfo {
        PushInfo { kind, data: vec![Value::BulkString(channel.into()), Value::BulkString(b"1".to_vec())] }
    }

    fn lost_after(sent: impl IntoIterator<Item = PushInfo>, expected: &[(ConfirmationKind, &str)]) -> bool {
        let receiver = ShardPushReceiver::new();
        let pushes = receiver.sender();
        for (kind, channel) in expected {
            pushes.expect(*kind, channel);
        }
        for push in sent {
            pushes.send(push).unwrap();
        }
        receiver.lost.borrow().is_some()
    }

    #[test]
    fn connection_is_lost_by_what_was_not_asked_for() {
        use ConfirmationKind::{Subscribed, Unsubscribed};
        assert!(!lost_after([push(PushKind::SMessage, "a"), push(PushKind::Other("x".into()), "a")], &[]));
        let asked = [push(PushKind::SSubscribe, "a"), push(PushKind::SUnsubscribe, "a")];
        assert!(!lost_after(asked.clone(), &[(Subscribed, "a"), (Unsubscribed, "a")]));
        assert!(lost_after(asked, &[(Subscribed, "a"), (Unsubscribed, "b")]), "the slot has moved");
        let twice = [push(PushKind::SSubscribe, "a"), push(PushKind::SSubscribe, "a")];
        assert!(lost_after(twice, &[(Subscribed, "a")]), "the library has subscribed again");
        assert!(lost_after([push(PushKind::Disconnection, "")], &[]));
    }

    #[test]
    fn connection_is_lost_when_its_messages_are_not_read() {
        let messages = |count| (0..count).map(|_| push(PushKind::SMessage, "a"));
        assert!(!lost_after(messages(QUEUE_LIMIT), &[]));
        assert!(lost_after(messages(QUEUE_LIMIT + 1), &[]));
    }

    #[test]
    fn first_reason_of_a_loss_is_kept() {
        let receiver = ShardPushReceiver::new();
        receiver.sender().send(push(PushKind::Disconnection, "")).unwrap();
        receiver.sender().send(push(PushKind::SUnsubscribe, "a")).unwrap();
        assert_eq!(*receiver.lost.borrow(), Some("a node closed its connection"));
    }
}
