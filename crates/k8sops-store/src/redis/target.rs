//! The servers that a configuration names, and how to connect to them.

use std::time::Duration;

use redis::{
    Client, Cmd, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisError, RedisFuture, RedisResult, TlsCertificates,
    Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder, ClusterConfig},
    cluster_async::ClusterConnection,
    cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr},
    io::tcp::TcpSettings,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;

use super::{
    config::{RedisConfig, RedisDeployment},
    shard_subscriber::ShardPushReceiver,
    subscriber_connection::SubscriberConnection,
};

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How to connect to the servers that a configuration names.
pub(super) struct ConnectionTarget {
    servers: TargetServers,
    response_timeout: Duration,
}

enum TargetServers {
    Single(Client),
    Cluster {
        client: Box<ClusterClient>,
        /// For subscriptions, which need version 3 of the protocol.
        subscriber: Box<ClusterClient>,
    },
    Sentinel(Mutex<SentinelClient>),
}

/// A connection to one server or to a cluster. Any number of callers use it at the same time: commands are pipelined.
#[derive(Clone)]
pub(super) enum TargetConnection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionTarget {
    /// Creates the target of connections that wait `response_timeout` for each reply.
    pub(super) fn new(config: &RedisConfig, response_timeout: Duration) -> RedisResult<Self> {
        Ok(Self { servers: TargetServers::new(config, response_timeout)?, response_timeout })
    }

    pub(super) async fn connect(&self) -> RedisResult<TargetConnection> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.response_timeout));
        match &self.servers {
            TargetServers::Single(client) => {
                client.get_multiplexed_async_connection_with_config(&config).await.map(TargetConnection::Server)
            }
            TargetServers::Cluster { client, .. } => client.get_async_connection().await.map(TargetConnection::Cluster),
            TargetServers::Sentinel(client) => {
                client.lock().await.get_async_connection_with_config(&config).await.map(TargetConnection::Server)
            }
        }
    }

    pub(super) async fn connect_subscriber(&self) -> RedisResult<SubscriberConnection> {
        match &self.servers {
            TargetServers::Single(client) => client.get_async_pubsub().await.map(SubscriberConnection::Server),
            TargetServers::Cluster { subscriber, .. } => {
                let receiver = ShardPushReceiver::new();
                let config = ClusterConfig::new()
                    .set_connection_timeout(CONNECT_TIMEOUT)
                    .set_response_timeout(self.response_timeout)
                    .set_push_sender(receiver.sender());
                let connection = subscriber.get_async_connection_with_config(config).await?;
                Ok(SubscriberConnection::Cluster(receiver.with_connection(connection)))
            }
            TargetServers::Sentinel(client) => {
                let master = client.lock().await.async_get_client().await?;
                master.get_async_pubsub().await.map(SubscriberConnection::Server)
            }
        }
    }
}

impl TargetServers {
    fn new(config: &RedisConfig, response_timeout: Duration) -> RedisResult<Self> {
        let urls = || config.urls.iter().map(ExposeSecret::expose_secret);
        let certificates =
            || config.ca.as_ref().map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) });
        // With Nagle's algorithm, each commit would wait for the acknowledgement of the previous one, which the server
        // delays by 40 ms.
        let tcp = TcpSettings::default().set_nodelay(true);
        let client = |url: &str| {
            let info = url.into_connection_info()?.set_tcp_settings(tcp.clone());
            match certificates() {
                Some(certificates) if url.starts_with("rediss://") => Client::build_with_tls(info, certificates),
                _ => Client::open(info),
            }
        };
        match &config.topology {
            RedisDeployment::Single => Ok(Self::Single(client(urls().next().unwrap_or_default())?)),
            RedisDeployment::Cluster => {
                let builder = || {
                    let builder = ClusterClientBuilder::new(urls())
                        .tcp_settings(tcp.clone())
                        .connection_timeout(CONNECT_TIMEOUT)
                        .response_timeout(response_timeout)
                        // Enough to find a node that has just become master. The caller handles longer outages.
                        .retries(4)
                        .min_retry_wait(20)
                        .max_retry_wait(300)
                        .overall_response_timeout(Some(response_timeout));
                    match certificates() {
                        Some(certificates) => builder.certs(certificates),
                        None => builder,
                    }
                };
                Ok(Self::Cluster {
                    client: Box::new(builder().build()?),
                    subscriber: Box::new(builder().use_protocol(ProtocolVersion::RESP3).build()?),
                })
            }
            RedisDeployment::Sentinel(master) => {
                let nodes = urls().map(client).collect::<RedisResult<Vec<_>>>()?;
                let first = nodes.first().map(|node| node.get_connection_info().clone());
                let addresses: Vec<_> = nodes.iter().map(|n| n.get_connection_info().addr().clone()).collect();
                let mut builder = SentinelClientBuilder::new(addresses, master.clone(), SentinelServerType::Master)?
                    .set_client_to_redis_tcp_settings(tcp.clone());
                // The credentials, the database and the encryption in the addresses apply to Redis and to the sentinels.
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
}

impl TargetConnection {
    /// Fails if what is at the other end does not respond. A connection to a cluster replaces its broken connections to nodes by
    /// itself, and is not checked.
    pub(super) async fn check_alive(&mut self) -> RedisResult<()> {
        match self {
            Self::Server(connection) => redis::cmd("PING").query_async(connection).await,
            Self::Cluster(_) => Ok(()),
        }
    }

    /// Sends commands to the node of `key`, one right after the other on one connection, and returns the reply to each. They
    /// are no transaction.
    ///
    /// By themselves, `WAIT` and `WAITAOF` would be sent to every node of a cluster. A cluster that moved the key meanwhile
    /// is sent all commands again.
    pub(super) async fn send_to_node_of(&mut self, key: &str, commands: Pipeline) -> RedisResult<Vec<Value>> {
        let count = commands.len();
        match self {
            Self::Server(connection) => connection.req_packed_commands(&commands, 0, count).await,
            Self::Cluster(connection) => {
                let node = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
                connection.route_pipeline(commands, 0, count, node).await
            }
        }
    }
}

impl ConnectionLike for TargetConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

pub(super) fn timed_out(action: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{action} timed out")).into()
}
