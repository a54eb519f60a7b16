//! Connections to Redis that one caller uses at a time, for what is large or blocks.
//!
//! A connection goes back into the pool only after its last query got its reply: the rest of a reply that its caller gave up on
//! would hold up the next caller.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{BuildError, Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, TimeoutType, Timeouts},
};
use redis::{FromRedisValue, Pipeline, RedisResult, ServerErrorKind, Value};

use super::{
    connector::{CONNECT_LIMIT, RedisConnector},
    outage::to_store_error,
    query::{RedisQuery, ends_connection, is_worth_retry, read_reply},
    script::{Script, ScriptCall},
    target::{TargetConnection, timed_out},
};
use k8sops_core::StoreError;

/// How long a caller waits for a connection that others use. Less than a lease lasts.
const WAIT_LIMIT: Duration = Duration::from_secs(5);
/// How long an idle connection may take to respond. One that does not is replaced.
const CHECK_LIMIT: Duration = Duration::from_secs(1);
/// A connection that was used more recently is not checked before it is used again.
const CHECK_AFTER: Duration = Duration::from_secs(1);
/// An unused connection is closed after this: it holds buffers of the size of its largest reply, and what is between it and
/// Redis forgets idle connections.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Connections to Redis, each for one caller at a time. They are opened when they are needed.
///
/// Only these connections may carry `WAIT` and `WAITAOF`. On a [`SharedConnection`](super::connection::SharedConnection) they
/// would hold up all commands behind them, and wait for the writes of other callers.
pub(super) struct ConnectionPool {
    pool: Pool<ConnectionManager>,
    /// What the connections are for, in the plural.
    purpose: &'static str,
}

impl ConnectionPool {
    /// Creates a pool of at most `max_size` connections. `purpose` says in errors what they are for, in the plural.
    ///
    /// # Errors
    /// The pool cannot be built.
    pub(super) fn new(connector: RedisConnector, max_size: usize, purpose: &'static str) -> Result<Self, StoreError> {
        let manager = ConnectionManager { connector, generation: Arc::default() };
        let pool = Pool::builder(manager)
            .max_size(max_size)
            // Connections that are not needed stay unused, and are closed.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(WAIT_LIMIT),
                // Connections are opened one at a time.
                create: Some(CONNECT_LIMIT * 2),
                recycle: Some(CHECK_LIMIT * 2),
            })
            .build()
            .map_err(|error: BuildError| StoreError::unavailable("connection pool", error))?;
        Ok(Self { pool, purpose })
    }

    /// Runs a query that can safely be repeated. It is repeated once if its connection turns out to be broken.
    ///
    /// # Errors
    /// `Unavailable`, also if no connection becomes free in time; `Corrupt`.
    pub(super) async fn query<T: FromRedisValue>(&self, query: impl Into<RedisQuery<'_>>) -> Result<T, StoreError> {
        let query = query.into();
        let mut may_retry = true;
        loop {
            let mut connection = self.take_connection().await?;
            let error = match connection.send(&query).await {
                Ok(reply) => return read_reply(reply),
                Err(error) => error,
            };
            if !(may_retry && is_worth_retry(&error)) {
                return Err(to_store_error(error));
            }
            may_retry = false;
        }
    }

    /// Runs a script that can safely be repeated, like [`query`](Self::query).
    ///
    /// # Errors
    /// `Unavailable`, also if no connection becomes free in time; `Corrupt`.
    pub(super) async fn run_script<S: Script>(&self, script: &S) -> Result<S::Reply, StoreError> {
        self.query(&ScriptCall::new(script)).await
    }

    /// Sends commands to the node that has `key`, one right after the other on one connection, and returns the reply to each.
    /// They are sent again together if their connection breaks, so they must be safe to repeat.
    ///
    /// For `WAIT` and `WAITAOF`, which wait for what their own connection has written: one that came later, on another
    /// connection or to another node, would confirm what is not confirmed. They must end well before the connections' limit for
    /// replies.
    ///
    /// # Errors
    /// `Unavailable`: no connection becomes free in time, or none can be opened. The inner error is that of the commands as a
    /// whole; errors of single commands are among the replies.
    pub(super) async fn send_to_node_of(
        &self,
        key: &str,
        commands: &Pipeline,
    ) -> Result<RedisResult<Vec<Value>>, StoreError> {
        let mut may_retry = true;
        loop {
            let mut connection = self.take_connection().await?;
            match connection.send_to_node_of(key, commands).await {
                Err(error) if may_retry && is_worth_retry(&error) => may_retry = false,
                replies => return Ok(replies),
            }
        }
    }

    async fn take_connection(&self) -> Result<Object<ConnectionManager>, StoreError> {
        self.close_idle_connections();
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Timeout(TimeoutType::Wait) => {
                let size = self.pool.status().max_size;
                let waited = WAIT_LIMIT.as_secs();
                StoreError::Unavailable(
                    format!("all {size} connections to Redis for {} were in use for {waited} s", self.purpose).into(),
                )
            }
            PoolError::Timeout(_) => to_store_error(timed_out("connecting")),
            error => StoreError::Unavailable(format!("connections to Redis for {}: {error}", self.purpose).into()),
        })
    }

    /// Closes connections that have not been used for [`IDLE_LIMIT`].
    pub(super) fn close_idle_connections(&self) {
        self.pool.retain(|_, metrics| metrics.last_used() < IDLE_LIMIT);
    }
}

/// Opens the connections of a pool, and says which can be used again.
struct ConnectionManager {
    connector: RedisConnector,
    /// Increases when a connection breaks. Connections that were opened before are not used again: the server has restarted or
    /// failed over, or does not respond.
    generation: Arc<AtomicU64>,
}

struct PooledConnection {
    connection: TargetConnection,
    generation: u64,
    current_generation: Arc<AtomicU64>,
    state: PooledState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PooledState {
    Idle,
    /// A reply is awaited. Its caller may have given up.
    InUse,
}

impl PooledConnection {
    async fn send(&mut self, query: &RedisQuery<'_>) -> RedisResult<Value> {
        self.state = PooledState::InUse;
        let reply = query.send(&mut self.connection).await;
        self.state = PooledState::Idle;
        if reply.as_ref().is_err_and(ends_connection) {
            self.end_generation();
        }
        reply
    }

    async fn send_to_node_of(&mut self, key: &str, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        self.state = PooledState::InUse;
        let replies = self.connection.send_to_node_of(key, commands.clone()).await;
        self.state = PooledState::Idle;
        let leads_to_replica = |reply: &Value| {
            let Value::ServerError(error) = reply else { return false };
            matches!(error.kind(), Some(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
        };
        match &replies {
            Ok(replies) if replies.iter().any(leads_to_replica) => self.end_generation(),
            Err(error) if ends_connection(error) => self.end_generation(),
            Ok(_) | Err(_) => {}
        }
        replies
    }

    /// Has no connection used again that is as old as this one. Those that several callers find broken end one generation.
    fn end_generation(&self) {
        let next = self.generation + 1;
        let _ = self.current_generation.compare_exchange(self.generation, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Manager for ConnectionManager {
    type Type = PooledConnection;
    type Error = StoreError;

    async fn create(&self) -> Result<PooledConnection, StoreError> {
        // Read before connecting: what breaks meanwhile may be what this connection leads to.
        let generation = self.generation.load(Ordering::Relaxed);
        Ok(PooledConnection {
            connection: self.connector.connect().await?,
            generation,
            current_generation: Arc::clone(&self.generation),
            state: PooledState::Idle,
        })
    }

    async fn recycle(&self, pooled: &mut PooledConnection, metrics: &Metrics) -> Result<(), RecycleError<StoreError>> {
        let is_current = pooled.generation == self.generation.load(Ordering::Relaxed);
        if !is_current || pooled.state == PooledState::InUse {
            return Err(RecycleError::message("not used again"));
        }
        if metrics.last_used() < CHECK_AFTER {
            return Ok(());
        }
        // A connection that does not respond would hold up its caller for as long as a large reply may take.
        if let Ok(Ok(())) = tokio::time::timeout(CHECK_LIMIT, pooled.connection.check_alive()).await {
            return Ok(());
        }
        pooled.end_generation();
        Err(RecycleError::message("does not respond"))
    }
}

#[cfg(test)]
mod tests;
