//! Opens connections to Redis, with limits of time and of rate.

use std::time::{Duration, Instant};

use redis::RedisResult;
use tokio::sync::Mutex;

use super::{
    config::RedisConfig,
    outage::to_store_error,
    query::read_reply,
    script::ScriptCall,
    scripts::ListMissingRights,
    subscriber_connection::SubscriberConnection,
    target::{CONNECT_TIMEOUT, ConnectionTarget, TargetConnection, timed_out},
};
use k8sops_core::{BackendError, StoreError, StoreOutage};

/// For this long after a failed attempt to connect, callers get its error instead of trying again themselves.
const CONNECT_ERROR_TTL: Duration = Duration::from_millis(100);
/// Upper bound of an attempt to connect. It includes what has no limits of its own: names are resolved, sentinels are queried.
pub(super) const CONNECT_LIMIT: Duration = CONNECT_TIMEOUT.saturating_mul(2);

/// Opens connections, one at a time. While Redis is unavailable, an attempt serves all callers that wait for it.
pub(super) struct RedisConnector {
    target: ConnectionTarget,
    /// What is checked of a new connection.
    rights_check: Option<ListMissingRights>,
    last_error: Mutex<Option<(Instant, StoreError)>>,
}

impl RedisConnector {
    /// Creates a connector of connections that wait `response_timeout` for each reply.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub(super) fn new(config: &RedisConfig, response_timeout: Duration) -> Result<Self, StoreError> {
        let target = ConnectionTarget::new(config, response_timeout);
        let target = target.map_err(|error| StoreError::unavailable("Redis", error))?;
        Ok(Self { target, rights_check: None, last_error: Mutex::default() })
    }

    /// Opens connections only while their user has these rights. A script that fails for a missing right has already written
    /// what comes before.
    pub(super) fn with_rights_check(self, check: ListMissingRights) -> Self {
        Self { rights_check: Some(check), ..self }
    }

    /// Opens a connection, unless that failed less than [`CONNECT_ERROR_TTL`] ago.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn connect(&self) -> Result<TargetConnection, StoreError> {
        let mut last_error = self.last_error.lock().await;
        if let Some((at, error)) = &*last_error
            && at.elapsed() < CONNECT_ERROR_TTL
        {
            return Err(error.clone());
        }
        let connecting = tokio::time::timeout(CONNECT_LIMIT, async {
            let mut connection = self.target.connect().await.map_err(to_store_error)?;
            self.check_rights(&mut connection).await?;
            Ok(connection)
        });
        let connected = connecting.await.unwrap_or_else(|_| Err(to_store_error(timed_out("connecting"))));
        *last_error = connected.as_ref().err().map(|error| (Instant::now(), error.clone()));
        connected
    }

    /// Fails if the user lacks a right that a script needs, and names it.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn check_rights(&self, connection: &mut TargetConnection) -> Result<(), StoreError> {
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

    /// Opens a connection for published messages.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub(super) async fn connect_subscriber(&self) -> RedisResult<SubscriberConnection> {
        let connecting = tokio::time::timeout(CONNECT_LIMIT, self.target.connect_subscriber());
        connecting.await.unwrap_or_else(|_| Err(timed_out("connecting")))
    }
}
