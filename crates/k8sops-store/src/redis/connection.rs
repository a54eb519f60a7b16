//! Connections to Redis: opened when one is needed, shared by all callers, discarded when broken.
//!
//! A broken connection is reconnected by the next query, at most once per [`CONNECT_ERROR_TTL`]. There is no backoff here: the
//! callers retry with backoff (the session actor in `src/runtime` while the store is unavailable, and `subscriber`, which
//! reconnects its connection for notifications).

use std::time::{Duration, Instant};

use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionLike, PubSub},
};
use tokio::sync::Mutex;

use super::{
    config::RedisConfig,
    outage::{classify_error, to_store_error},
    script::{Script, ScriptCall},
    scripts::ListMissingRights,
    target::{CONNECT_TIMEOUT, ConnectionTarget, TargetConnection, timed_out},
};
use k8sops_core::{BackendError, StoreError, StoreOutage};

/// For this long after a failed attempt to connect, callers get its error instead of trying again themselves.
const CONNECT_ERROR_TTL: Duration = Duration::from_millis(100);

/// A connection to Redis that callers share, and that is opened again after it broke.
pub(super) struct SharedConnection {
    target: ConnectionTarget,
    slot: Mutex<ConnectionSlot>,
    /// What is checked of a new connection.
    rights_check: Option<ListMissingRights>,
}

#[derive(Default)]
struct ConnectionSlot {
    connection: Option<OpenConnection>,
    /// The number of connections so far. A connection that several callers find broken is discarded once.
    generation: u64,
    last_error: Option<(Instant, StoreError)>,
}

#[derive(Clone)]
struct OpenConnection {
    connection: TargetConnection,
    generation: u64,
}

impl SharedConnection {
    pub(super) fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let target = ConnectionTarget::new(config).map_err(|error| StoreError::unavailable("Redis", error))?;
        Ok(Self { target, slot: Mutex::default(), rights_check: None })
    }

    /// Creates a connection that is used only while its user has these rights. A script that fails for a missing right has
    /// already written what comes before.
    pub(super) fn with_rights_check(config: &RedisConfig, check: ListMissingRights) -> Result<Self, StoreError> {
        Ok(Self { rights_check: Some(check), ..Self::new(config)? })
    }

    async fn open(&self) -> Result<OpenConnection, StoreError> {
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok(connection.clone());
        }
        if let Some((at, error)) = &slot.last_error
            && at.elapsed() < CONNECT_ERROR_TTL
        {
            return Err(error.clone());
        }
        // Connecting also resolves names and queries sentinels, which have no timeouts.
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT * 2, self.target.connect());
        let connected = match connecting.await.unwrap_or_else(|_| Err(timed_out("connecting"))) {
            Ok(mut connection) => self.check_rights(&mut connection).await.map(|()| connection),
            Err(error) => Err(to_store_error(error)),
        };
        match connected {
            Ok(connection) => {
                slot.generation += 1;
                slot.last_error = None;
                let connection = OpenConnection { connection, generation: slot.generation };
                slot.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                slot.last_error = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Fails if the user lacks a right that a script needs, and names it.
    async fn check_rights(&self, connection: &mut TargetConnection) -> Result<(), StoreError> {
        let Some(check) = &self.rights_check else { return Ok(()) };
        let reply = ScriptCall::new(check).execute(connection).await.map_err(to_store_error)?;
        let missing: Vec<String> = read_reply(reply)?;
        if missing.is_empty() {
            return Ok(());
        }
        let problem = format!(
            "the user of Redis may not run {} on keys like {}; give it these rights (ACL SETUSER)",
            missing.join(", "),
            check.any_key
        );
        Err(StoreError::Unavailable(BackendError::new(problem).with_outage(StoreOutage::AccessDenied)))
    }

    /// Checks the rights of the user again.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let mut open = self.open().await?;
        let checked = self.check_rights(&mut open.connection).await;
        if checked.is_err() {
            self.discard(&open).await;
        }
        checked
    }

    /// Runs a query that can safely be repeated. It is repeated once if its connection turns out to be broken.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn query<T: FromRedisValue>(&self, query: impl Into<RedisQuery<'_>>) -> Result<T, StoreError> {
        let query = query.into();
        let mut may_retry = true;
        loop {
            let mut open = self.open().await?;
            let error = match query.send(&mut open.connection).await {
                Ok(reply) => return read_reply(reply),
                Err(error) => error,
            };
            self.discard_if_broken(&open, &error).await;
            // A connection that the server closed while it was idle reports that at its next use. A timeout is not
            // retried: the server is likely to time out again.
            if !(may_retry && is_connection_broken(&error) && !error.is_timeout()) {
                return Err(to_store_error(error));
            }
            may_retry = false;
        }
    }

    /// Runs a script that can safely be repeated, like [`query`](Self::query).
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn run_script<S: Script>(&self, script: &S) -> Result<S::Reply, StoreError> {
        self.query(&ScriptCall::new(script)).await
    }

    /// Runs a script that must not be repeated.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn run_script_once<S: Script>(&self, script: &S) -> Result<S::Reply, StoreError> {
        let mut open = self.open().await?;
        match ScriptCall::new(script).execute(&mut open.connection).await {
            Ok(reply) => read_reply(reply),
            Err(error) => {
                self.discard_if_broken(&open, &error).await;
                Err(to_store_error(error))
            }
        }
    }

    /// Discards a connection on which a query failed, unless the failure says that it can still be used.
    async fn discard_if_broken(&self, broken: &OpenConnection, error: &RedisError) {
        let master_moved = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
                | ErrorKind::ClusterConnectionNotFound
        );
        let lacks_right = classify_error(error).0 == StoreOutage::AccessDenied;
        if master_moved || lacks_right || is_connection_broken(error) || error.is_unrecoverable_error() {
            self.discard(broken).await;
        }
    }

    async fn discard(&self, broken: &OpenConnection) {
        let mut slot = self.slot.lock().await;
        if slot.generation == broken.generation {
            slot.connection = None;
        }
    }

    /// Opens a connection that is not shared, for published messages.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub(super) async fn connect_pubsub(&self) -> RedisResult<PubSub> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT * 2, self.target.connect_pubsub());
        connecting.await.unwrap_or_else(|_| Err(timed_out("connecting")))
    }
}

/// What can be sent to Redis.
pub(super) enum RedisQuery<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
    Script(&'a ScriptCall<'a>),
}

impl<'a> From<&'a Cmd> for RedisQuery<'a> {
    fn from(command: &'a Cmd) -> Self {
        Self::Command(command)
    }
}

/// For commands that are built where they are sent.
impl<'a> From<&'a mut Cmd> for RedisQuery<'a> {
    fn from(command: &'a mut Cmd) -> Self {
        Self::Command(command)
    }
}

impl<'a> From<&'a Pipeline> for RedisQuery<'a> {
    fn from(pipeline: &'a Pipeline) -> Self {
        Self::Pipeline(pipeline)
    }
}

impl<'a> From<&'a ScriptCall<'a>> for RedisQuery<'a> {
    fn from(call: &'a ScriptCall<'a>) -> Self {
        Self::Script(call)
    }
}

impl RedisQuery<'_> {
    async fn send(&self, connection: &mut (impl ConnectionLike + Send)) -> RedisResult<Value> {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            Self::Pipeline(pipeline) => pipeline.query_async(connection).await,
            Self::Script(call) => call.execute(connection).await,
        }
    }
}

/// Reads a whole reply. Only here is a value not what was stored: a reply that did not arrive whole is an outage.
fn read_reply<T: FromRedisValue>(reply: Value) -> Result<T, StoreError> {
    T::from_redis_value(reply).map_err(|error| StoreError::corrupt("Redis", RedisError::from(error)))
}

/// Whether an error leaves nothing that the connection could be used for: it is closed, or its bytes are no replies.
fn is_connection_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.kind() == ErrorKind::Parse
}
