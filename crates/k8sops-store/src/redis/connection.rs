//! Connections to Redis that all callers share: opened when one is needed, discarded when broken.
//!
//! A broken connection is reconnected by the next query. There is no backoff here: the callers retry with backoff (the session
//! actor in `src/runtime` while the store is unavailable, and `subscriber`, which reconnects its connection for notifications).

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use redis::{FromRedisValue, RedisError, RedisResult};
use tokio::{
    runtime::{Handle, Id},
    sync::Mutex,
};

use super::{
    config::RedisConfig,
    connector::RedisConnector,
    outage::to_store_error,
    query::{RedisQuery, ends_connection, is_worth_retry, read_reply},
    script::{Script, ScriptCall},
    scripts::ListMissingRights,
    subscriber_connection::SubscriberConnection,
    target::TargetConnection,
};
use k8sops_core::StoreError;

/// A healthy Redis responds to a short command a thousand times faster.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to Redis that the callers on an async runtime share, and that is opened again after it broke. It is for short
/// commands: what is large, or blocks, holds up all others, and goes through a
/// [`ConnectionPool`](super::pool::ConnectionPool).
///
/// Each runtime has its own, because a connection is served by the runtime that opened it: with one for all, a command of a worker
/// wakes another thread, and so does its reply.
pub(super) struct SharedConnection {
    connector: RedisConnector,
    slots: RwLock<HashMap<Id, Arc<Mutex<ConnectionSlot>>>>,
}

#[derive(Default)]
struct ConnectionSlot {
    connection: Option<OpenConnection>,
    /// The number of connections so far. A connection that several callers find broken is discarded once.
    generation: u64,
}

#[derive(Clone)]
struct OpenConnection {
    connection: TargetConnection,
    generation: u64,
}

impl SharedConnection {
    pub(super) fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        Ok(Self { connector: RedisConnector::new(config, RESPONSE_TIMEOUT)?, slots: RwLock::default() })
    }

    /// Creates a connection that is used only while its user has these rights.
    pub(super) fn with_rights_check(config: &RedisConfig, check: ListMissingRights) -> Result<Self, StoreError> {
        let connector = RedisConnector::new(config, RESPONSE_TIMEOUT)?.with_rights_check(check);
        Ok(Self { connector, slots: RwLock::default() })
    }

    /// Returns the slot of the current runtime.
    fn slot_of_runtime(&self) -> Arc<Mutex<ConnectionSlot>> {
        let runtime = Handle::current().id();
        if let Some(slot) = self.slots.read().get(&runtime) {
            return slot.clone();
        }
        self.slots.write().entry(runtime).or_default().clone()
    }

    async fn open(&self) -> Result<OpenConnection, StoreError> {
        let slot = self.slot_of_runtime();
        let mut slot = slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok(connection.clone());
        }
        let connection = self.connector.connect().await?;
        slot.generation += 1;
        let connection = OpenConnection { connection, generation: slot.generation };
        slot.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Checks the rights of the user again.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let mut open = self.open().await?;
        let checked = self.connector.check_rights(&mut open.connection).await;
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
            if !(may_retry && is_worth_retry(&error)) {
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
        if ends_connection(error) {
            self.discard(broken).await;
        }
    }

    async fn discard(&self, broken: &OpenConnection) {
        let slot = self.slot_of_runtime();
        let mut slot = slot.lock().await;
        if slot.generation == broken.generation {
            slot.connection = None;
        }
    }

    /// Opens a connection that is not shared, for published messages.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub(super) async fn connect_subscriber(&self) -> RedisResult<SubscriberConnection> {
        self.connector.connect_subscriber().await
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use k8sops_testing::redis::{RedisFlavor, RedisServer};
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::redis::RedisDeployment;

    fn connection_to(server: &RedisServer) -> SharedConnection {
        let config = RedisConfig::of_test(vec![server.url()], RedisDeployment::Single);
        SharedConnection::new(&config).unwrap()
    }

    fn runtime_of_worker() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    async fn client_id(connection: &SharedConnection) -> u64 {
        connection.query(redis::cmd("CLIENT").arg("ID")).await.unwrap()
    }

    #[ignore = "needs the test bed: bash tests/run.sh"]
    #[tokio::test(flavor = "multi_thread")]
    async fn each_runtime_has_a_connection_which_outlives_the_others() {
        let server = RedisServer::start(RedisFlavor::Redis8).await;
        let shared = Arc::new(connection_to(&server));
        let own = client_id(&shared).await;
        let of_worker = shared.clone();
        let (of_worker, again) = thread::spawn(move || {
            let worker = runtime_of_worker();
            // A runtime that shuts down ends the task of its connection.
            worker.block_on(async { (client_id(&of_worker).await, client_id(&of_worker).await) })
        })
        .join()
        .unwrap();
        assert_ne!(own, of_worker);
        assert_eq!(of_worker, again);
        assert_eq!(client_id(&shared).await, own);
        server.cli(&["CLIENT", "KILL", "ID", &own.to_string()]).await;
        assert_ne!(client_id(&shared).await, own, "it is opened again");
    }
}
