//! The store itself: its connections and keys. Each port is implemented in a module of its own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::FromRedisValue;

use super::{
    background_tasks::BackgroundTasks,
    config::{RedisConfig, RedisDeployment},
    confirmation::{MAX_ROUNDS, RoundParameters, WriteConfirmer},
    connection::SharedConnection,
    connector::RedisConnector,
    held_logs::HeldLogs,
    keys::RedisKeys,
    memory_cache::MemoryCache,
    pool::ConnectionPool,
    query::RedisQuery,
    registry::RedisSessionRegistry,
    scripts::{ListMissingRights, SCRIPT_COMMANDS},
    subscriber::NotificationSubscriber,
};
use k8sops_core::{Notifications, SMALL_PAGE_SIZE, SessionStore, StoreError};

/// The most connections of each pool. A server sends one reply at a time, so that more would not be faster; and one is held
/// only while a reply arrives, however slow the client that it is for.
const BULK_CONNECTIONS: usize = 8;
/// A reply of 100 MB takes 8 s over 100 Mbit/s.
const BULK_RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The most connections that wait for confirmations: two servers' rounds.
const CONFIRMATION_CONNECTIONS: usize = 2 * MAX_ROUNDS;
/// How much longer a reply may take than Redis waits for a confirmation.
const CONFIRMATION_RESPONSE_MARGIN: Duration = Duration::from_secs(2);

/// Sessions in Redis.
pub struct RedisStore {
    /// For short writes.
    pub(super) writes: Arc<SharedConnection>,
    /// For short reads: a list of many sessions must not delay commits.
    pub(super) reads: Arc<SharedConnection>,
    /// For replies that may be large: those of one session must not delay any other command.
    pub(super) bulk_reads: ConnectionPool,
    /// For writes that may be large or wait. They are not in the same pool as reads, so that slow reads cannot delay commits.
    pub(super) bulk_writes: ConnectionPool,
    pub(super) subscriber: NotificationSubscriber,
    pub(super) keys: RedisKeys,
    pub(super) registry: Arc<RedisSessionRegistry>,
    pub(super) shallow: bool,
    pub(super) session_ttl: Option<Duration>,
    pub(super) memory_cache: MemoryCache,
    pub(super) allow_eviction: bool,
    pub(super) confirmer: WriteConfirmer,
    pub(super) held_logs: HeldLogs,
    pub(super) background: BackgroundTasks,
}

impl RedisStore {
    /// Creates a store of sessions in the Redis that `config` names. The store connects when it is first used. Must be
    /// called on a Tokio runtime.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let keys = RedisKeys::new(&config.prefix, &config.topology);
        let rights_check = || ListMissingRights {
            any_key: keys.deployment_key(),
            commands: SCRIPT_COMMANDS.map(str::to_owned).to_vec(),
        };
        let bulk_reads = RedisConnector::new(config, BULK_RESPONSE_TIMEOUT)?;
        let bulk_writes = RedisConnector::new(config, BULK_RESPONSE_TIMEOUT)?.with_rights_check(rights_check());
        let writes = Arc::new(SharedConnection::with_rights_check(config, rights_check())?);
        let reads = Arc::new(SharedConnection::new(config)?);
        let confirming = RedisConnector::new(config, config.confirm_timeout + CONFIRMATION_RESPONSE_MARGIN)?;
        let parameters = RoundParameters {
            policy: config.confirm,
            limit: config.confirm_timeout,
            connections: ConnectionPool::new(confirming, CONFIRMATION_CONNECTIONS, "confirmations")?,
        };
        let is_cluster = config.topology == RedisDeployment::Cluster;
        let confirmer = WriteConfirmer::new(parameters, reads.clone(), is_cluster);
        Ok(Self {
            subscriber: NotificationSubscriber::spawn(reads.clone(), keys.clone()),
            registry: Arc::new(RedisSessionRegistry::new(writes.clone(), reads.clone(), keys.clone())),
            writes,
            reads,
            bulk_reads: ConnectionPool::new(bulk_reads, BULK_CONNECTIONS, "large reads")?,
            bulk_writes: ConnectionPool::new(bulk_writes, BULK_CONNECTIONS, "large writes")?,
            keys,
            shallow: config.shallow,
            session_ttl: config.session_ttl.filter(|ttl| ttl.as_millis() > 0),
            memory_cache: MemoryCache::default(),
            allow_eviction: config.allow_eviction,
            confirmer,
            held_logs: HeldLogs::default(),
            background: BackgroundTasks::default(),
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
        store.check_confirmation_mode().await?;
        Ok(store)
    }
}

/// How large a reply may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplySize {
    /// At most some hundred KiB.
    Small,
    Large,
}

impl ReplySize {
    /// The size of a page of at most `count` events or commands.
    pub(super) fn of_page(count: usize) -> Self {
        if count <= SMALL_PAGE_SIZE { Self::Small } else { Self::Large }
    }
}

impl RedisStore {
    /// Reads on the shared connection, or on one of the pool if the reply may be large.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn read<T: FromRedisValue>(
        &self,
        query: impl Into<RedisQuery<'_>>,
        reply: ReplySize,
    ) -> Result<T, StoreError> {
        match reply {
            ReplySize::Small => self.reads.query(query).await,
            ReplySize::Large => self.bulk_reads.query(query).await,
        }
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
        self.check_confirmation_mode().await?;
        self.check_replicas().await?;
        self.reads.query(&redis::cmd("PING")).await
    }

    async fn describe_setup(&self) -> Vec<String> {
        RedisStore::describe_setup(self).await
    }

    fn notifications(&self) -> Option<&dyn Notifications> {
        Some(self)
    }
}
