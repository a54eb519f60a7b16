//! Connections to where the keys live: made when one is needed, shared by all that need one, thrown away when broken.

use std::time::{Duration, Instant};

use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult,
    ServerErrorKind, TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSub},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::scripts::Call;
use k8sops_core::StoreError;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long an answer may take. A Redis that is well answers in a thousandth of it.
const RESPONSE: Duration = Duration::from_secs(2);
/// While it is this long since connecting failed, callers get that failure instead of each trying for themselves.
const FAILED_FOR: Duration = Duration::from_millis(100);

/// Where Redis is, and what it is.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// One server, or where to begin: some nodes of the cluster, the sentinels.
    pub urls: Vec<SecretString>,
    /// What is at these addresses.
    pub topology: Topology,
    /// PEM with the certificates that a server's must be signed by, in the place of the system's.
    pub ca: Option<Vec<u8>>,
    /// What the names of all keys begin with.
    pub prefix: String,
    /// A session that nothing happened to for this long is deleted; `None`: never.
    pub session_ttl: Option<Duration>,
    /// Keep the checkpoint and what came after it, or the whole log.
    pub shallow: bool,
}

/// What is at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// Redis itself, or something that stands for it.
    Single,
    /// Nodes of a Redis Cluster.
    Cluster,
    /// Sentinels, which know where the master of this name is.
    Sentinel(String),
}

/// The way to Redis.
pub(super) struct Link {
    target: Target,
    slot: Mutex<Slot>,
}

enum Target {
    Single(Client),
    Cluster(Box<ClusterClient>, Vec<Client>),
    Sentinel(Mutex<SentinelClient>),
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// Counts connections, so that one that is found broken is thrown away once.
    generation: u64,
    failed: Option<(Instant, StoreError)>,
}

/// A connection that any number of callers use at once; commands are pipelined.
#[derive(Clone)]
pub(super) struct Connection {
    kind: Kind,
    generation: u64,
}

#[derive(Clone)]
enum Kind {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    pub(super) fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let target = Target::new(config).map_err(|error| StoreError::unavailable("Redis", error))?;
        Ok(Self { target, slot: Mutex::default() })
    }

    /// A connection.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn get(&self) -> Result<Connection, StoreError> {
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok(connection.clone());
        }
        if let Some((at, error)) = &slot.failed
            && at.elapsed() < FAILED_FOR
        {
            return Err(error.clone());
        }
        // What connects also resolves names and asks sentinels, which have no limits of their own.
        let connecting = tokio::time::timeout(CONNECT * 2, self.target.connect());
        let connected = connecting.await.unwrap_or_else(|_| Err(timed_out("connecting")));
        match connected {
            Ok(kind) => {
                slot.generation += 1;
                slot.failed = None;
                let connection = Connection { kind, generation: slot.generation };
                slot.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let error = unavailable(error);
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// The answer to something that can be asked twice; it is asked again once when its connection turned out to be broken.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn ask<T: FromRedisValue>(&self, question: impl Into<Question<'_>>) -> Result<T, StoreError> {
        let question = question.into();
        let mut again = true;
        loop {
            let mut connection = self.get().await?;
            let error = match question.put(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.failed(&connection, &error).await;
            // A connection that the server closed while nobody looked says so at its next use. A server that does not
            // answer will not do so either when it is asked at once again.
            if !(again && error.is_io_error() && !error.is_timeout()) {
                return Err(unavailable(error));
            }
            again = false;
        }
    }

    /// Takes note of how a command on a connection failed: one that is no good any more is not given out again.
    pub(super) async fn failed(&self, connection: &Connection, error: &RedisError) {
        let moved = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
                | ErrorKind::ClusterConnectionNotFound
        );
        if moved || error.is_io_error() || error.is_unrecoverable_error() {
            let mut slot = self.slot.lock().await;
            if slot.generation == connection.generation {
                slot.connection = None;
            }
        }
    }

    /// A connection of its own, for messages that are published.
    ///
    /// # Errors
    /// It cannot be had.
    pub(super) async fn pubsub(&self) -> RedisResult<PubSub> {
        tokio::time::timeout(CONNECT * 2, self.target.pubsub()).await.unwrap_or_else(|_| Err(timed_out("connecting")))
    }
}

/// What Redis is asked.
pub(super) enum Question<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
    Script(&'a Call<'a>),
}

impl<'a> From<&'a Cmd> for Question<'a> {
    fn from(command: &'a Cmd) -> Self {
        Self::Command(command)
    }
}

impl<'a> From<&'a Pipeline> for Question<'a> {
    fn from(pipeline: &'a Pipeline) -> Self {
        Self::Pipeline(pipeline)
    }
}

impl<'a> From<&'a Call<'a>> for Question<'a> {
    fn from(call: &'a Call<'a>) -> Self {
        Self::Script(call)
    }
}

impl Question<'_> {
    async fn put<T: FromRedisValue>(&self, connection: &mut Connection) -> RedisResult<T> {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            Self::Pipeline(pipeline) => pipeline.query_async(connection).await,
            Self::Script(call) => call.run(connection).await,
        }
    }
}

impl Target {
    fn new(config: &RedisConfig) -> RedisResult<Self> {
        let urls = || config.urls.iter().map(ExposeSecret::expose_secret);
        let certificates =
            || config.ca.as_ref().map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) });
        // Small packets both ways: with Nagle's algorithm each commit would wait for the acknowledgement of the one
        // before, which the other side delays by 40 ms.
        let tcp = TcpSettings::default().set_nodelay(true);
        let client = |url: &str| {
            let info = url.into_connection_info()?.set_tcp_settings(tcp.clone());
            match certificates() {
                Some(certificates) if url.starts_with("rediss://") => Client::build_with_tls(info, certificates),
                _ => Client::open(info),
            }
        };
        match &config.topology {
            Topology::Single => Ok(Self::Single(client(urls().next().unwrap_or_default())?)),
            Topology::Cluster => {
                let mut builder = ClusterClientBuilder::new(urls())
                    .tcp_settings(tcp.clone())
                    .connection_timeout(CONNECT)
                    .response_timeout(RESPONSE)
                    // A node that has just become master is found within these; what is longer is the caller's matter.
                    .retries(4)
                    .min_retry_wait(20)
                    .max_retry_wait(300)
                    .overall_response_timeout(Some(RESPONSE));
                if let Some(certificates) = certificates() {
                    builder = builder.certs(certificates);
                }
                let nodes = urls().map(client).collect::<RedisResult<Vec<_>>>()?;
                Ok(Self::Cluster(Box::new(builder.build()?), nodes))
            }
            Topology::Sentinel(master) => {
                let nodes = urls().map(client).collect::<RedisResult<Vec<_>>>()?;
                let first = nodes.first().map(|node| node.get_connection_info().clone());
                let addresses: Vec<_> = nodes.iter().map(|n| n.get_connection_info().addr().clone()).collect();
                let mut builder = SentinelClientBuilder::new(addresses, master.clone(), SentinelServerType::Master)?
                    .set_client_to_redis_tcp_settings(tcp.clone());
                // The credentials, the database and the encryption in the addresses are those of Redis and of the
                // sentinels both.
                if let Some(info) = first {
                    let redis = info.redis_settings();
                    builder = builder.set_client_to_redis_db(redis.db());
                    if let Some(user) = redis.username() {
                        builder = builder.set_client_to_redis_username(user).set_client_to_sentinel_username(user);
                    }
                    if let Some(password) = redis.password() {
                        builder =
                            builder.set_client_to_redis_password(password).set_client_to_sentinel_password(password);
                    }
                    if matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. }) {
                        builder = builder
                            .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
                            .set_client_to_sentinel_tls_mode(redis::TlsMode::Secure);
                        if let Some(pem) = certificates() {
                            builder = builder.set_client_to_redis_certificates(pem.clone());
                            builder = builder.set_client_to_sentinel_certificates(pem);
                        }
                    }
                }
                Ok(Self::Sentinel(Mutex::new(builder.build()?)))
            }
        }
    }

    async fn connect(&self) -> RedisResult<Kind> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE));
        match self {
            Self::Single(client) => client.get_multiplexed_async_connection_with_config(&config).await.map(Kind::One),
            Self::Cluster(client, _) => client.get_async_connection().await.map(Kind::Cluster),
            Self::Sentinel(client) => {
                client.lock().await.get_async_connection_with_config(&config).await.map(Kind::One)
            }
        }
    }

    async fn pubsub(&self) -> RedisResult<PubSub> {
        match self {
            Self::Single(client) => client.get_async_pubsub().await,
            // What is published at one node of a cluster is heard at all.
            Self::Cluster(_, nodes) => {
                let mut last = timed_out("connecting");
                for node in nodes {
                    match node.get_async_pubsub().await {
                        Ok(pubsub) => return Ok(pubsub),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Self::Sentinel(client) => {
                let master = client.lock().await.async_get_client().await?;
                master.get_async_pubsub().await
            }
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match &mut self.kind {
            Kind::One(connection) => connection.req_packed_command(cmd),
            Kind::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match &mut self.kind {
            Kind::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Kind::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match &self.kind {
            Kind::One(connection) => connection.get_db(),
            Kind::Cluster(connection) => connection.get_db(),
        }
    }
}

fn timed_out(doing: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{doing} took too long")).into()
}

/// A failure of Redis, in the words of the port.
pub(super) fn unavailable(error: RedisError) -> StoreError {
    match error.kind() {
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => StoreError::corrupt("Redis", error),
        _ => StoreError::unavailable("Redis", error),
    }
}
