//! The store itself: its connections and keys. Each port is implemented in a module of its own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    config::RedisConfig,
    connection::SharedConnection,
    keys::RedisKeys,
    memory_cache::MemoryCache,
    registry::RedisSessionRegistry,
    scripts::{ListMissingRights, SCRIPT_COMMANDS},
    subscriber::NotificationSubscriber,
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
    pub(super) allow_eviction: bool,
}

impl RedisStore {
    /// Creates a store of sessions in the Redis that `config` names. The store connects when it is first used. Must be
    /// called on a Tokio runtime.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let keys = RedisKeys::new(&config.prefix);
        let rights_check =
            ListMissingRights { any_key: keys.deployment_key(), commands: SCRIPT_COMMANDS.map(str::to_owned).to_vec() };
        let writes = Arc::new(SharedConnection::with_rights_check(config, rights_check)?);
        let reads = Arc::new(SharedConnection::new(config)?);
        Ok(Self {
            subscriber: NotificationSubscriber::spawn(reads.clone(), keys.clone()),
            registry: RedisSessionRegistry::new(writes.clone(), reads.clone(), keys.clone()),
            writes,
            reads,
            keys,
            shallow: config.shallow,
            session_ttl: config.session_ttl.filter(|ttl| ttl.as_millis() > 0),
            memory_cache: MemoryCache::default(),
            allow_eviction: config.allow_eviction,
        })
    }

    /// Creates a store like [`new`](Self::new), and rejects a server that cannot be used. A server that does not answer is
    /// accepted: it may start later.
    ///
    /// # Errors
    /// The configuration is invalid, or the server evicts keys.
    pub async fn open(config: &RedisConfig) -> Result<Self, StoreError> {
        let store = Self::new(config)?;
        store.check_eviction().await?;
        Ok(store)
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
        self.writes.ping().await?;
        self.check_eviction().await?;
        self.reads.query(&redis::cmd("PING")).await
    }

    async fn describe_setup(&self) -> Vec<String> {
        RedisStore::describe_setup(self).await
    }

    fn notifications(&self) -> Option<&dyn Notifications> {
        Some(self)
    }
}
