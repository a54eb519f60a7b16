//! The store itself: its connections and keys. Each port is implemented in a module of its own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    config::RedisConfig, connection::SharedConnection, keys::RedisKeys, memory_cache::MemoryCache,
    registry::RedisSessionRegistry, subscriber::NotificationSubscriber,
};
use k8sops_core::{Notifications, SessionStore, StoreError};

/// Sessions in Redis.
pub struct RedisStore {
    /// For short commands, which must not wait for long ones.
    pub(super) writes: Arc<SharedConnection>,
    /// For commands that may be long: the replay of one session must not delay the commits of others.
    pub(super) reads: Arc<SharedConnection>,
    pub(super) subscriber: NotificationSubscriber,
    pub(super) keys: RedisKeys,
    pub(super) registry: RedisSessionRegistry,
    pub(super) shallow: bool,
    pub(super) session_ttl: Option<Duration>,
    pub(super) memory_cache: MemoryCache,
}

impl RedisStore {
    /// Creates a store of sessions in the Redis that `config` names. The store connects when it is first used. Must be
    /// called on a Tokio runtime.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let writes = Arc::new(SharedConnection::new(config)?);
        let reads = Arc::new(SharedConnection::new(config)?);
        let keys = RedisKeys::new(&config.prefix);
        Ok(Self {
            subscriber: NotificationSubscriber::spawn(reads.clone(), keys.clone()),
            registry: RedisSessionRegistry::new(writes.clone(), keys.clone()),
            writes,
            reads,
            keys,
            shallow: config.shallow,
            session_ttl: config.session_ttl.filter(|ttl| ttl.as_millis() > 0),
            memory_cache: MemoryCache::default(),
        })
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    fn backend_name(&self) -> &'static str {
        "redis"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // PING is not enough: a replica, or a cluster without a quorum, responds to it and rejects writes.
        self.registry.check_writable().await?;
        self.reads.query(&redis::cmd("PING")).await
    }

    fn notifications(&self) -> Option<&dyn Notifications> {
        Some(self)
    }
}
