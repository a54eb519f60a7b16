//! A connection that receives what is published, to one server or to the shards of a cluster.

use std::time::Duration;

use futures_util::StreamExt;
use redis::{Msg, RedisResult, aio::PubSub};
use tokio::time::timeout;

use super::shard_subscriber::{ShardSubscriber, connection_lost};

/// How long a server may take to respond to a check.
const PING_LIMIT: Duration = Duration::from_secs(3);

/// A connection that receives what is published to its channels.
pub(super) enum SubscriberConnection {
    /// By `SUBSCRIBE`.
    Server(PubSub),
    /// By `SSUBSCRIBE`.
    Cluster(ShardSubscriber),
}

impl SubscriberConnection {
    pub(super) async fn subscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::Server(pubsub) => pubsub.subscribe(channels).await,
            Self::Cluster(shards) => shards.subscribe(channels).await,
        }
    }

    pub(super) async fn unsubscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::Server(pubsub) => pubsub.unsubscribe(channels).await,
            Self::Cluster(shards) => shards.unsubscribe(channels).await,
        }
    }

    /// Returns the next message. Safe to cancel.
    ///
    /// # Errors
    /// The connection is broken: messages may have been lost.
    pub(super) async fn next_message(&mut self) -> RedisResult<Msg> {
        match self {
            Self::Server(pubsub) => {
                pubsub.on_message().next().await.ok_or_else(|| connection_lost("closed by the server"))
            }
            Self::Cluster(shards) => shards.next_message().await,
        }
    }

    /// Fails if what is at the other end does not respond.
    pub(super) async fn ping(&mut self) -> RedisResult<()> {
        let ping = async {
            match self {
                Self::Server(pubsub) => pubsub.ping::<redis::Value>().await.map(drop),
                Self::Cluster(shards) => shards.ping().await,
            }
        };
        timeout(PING_LIMIT, ping).await.unwrap_or_else(|_| Err(connection_lost("ping timed out")))
    }

    /// Returns how long to wait before a lost connection is opened again. The slots of a cluster move one after the other, and
    /// each that moves ends the connection.
    pub(super) fn reopening_delay(&self) -> Duration {
        match self {
            Self::Server(_) => Duration::ZERO,
            Self::Cluster(_) => Duration::from_millis(250),
        }
    }
}
