//! Where Redis is.

use std::time::Duration;

use secrecy::SecretString;

/// Where Redis is, and how sessions are kept in it.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// Addresses of the server, of some nodes of the cluster, or of the sentinels.
    pub urls: Vec<SecretString>,
    /// What listens at these addresses.
    pub topology: RedisDeployment,
    /// PEM certificates of the authorities that must have signed the certificate of the server. They replace those of the
    /// system.
    pub ca: Option<Vec<u8>>,
    /// Prefix of the names of all keys.
    pub prefix: String,
    /// A session without activity for this long is deleted. `None`: sessions are never deleted.
    pub session_ttl: Option<Duration>,
    /// Accept a server that evicts keys when its memory is full.
    pub allow_eviction: bool,
    /// What confirms that a write survives a failure of the server.
    pub confirm: ConfirmationPolicy,
    /// How long a write waits for its confirmation.
    pub confirm_timeout: Duration,
    /// Keep only the checkpoint and the events after it, instead of the whole log.
    pub shallow: bool,
}

/// What listens at the addresses in a [`RedisConfig`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisDeployment {
    /// One server, or a proxy that looks like one.
    Single,
    /// Nodes of a Redis Cluster.
    Cluster,
    /// Sentinels that know the address of the master with this name.
    Sentinel(String),
}

/// What confirms that a write survives a failure of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfirmationPolicy {
    /// The append-only file, if the server writes one and can say what is on its disk; else nothing.
    Auto,
    /// Nothing: a write is as safe as the server's answer.
    None,
    /// The server's own disk (`WAITAOF`).
    AppendOnlyFile,
    /// This many replicas (`WAIT`).
    Replicas(u32),
}

#[cfg(test)]
impl RedisConfig {
    /// Returns the configuration of tests with the servers at these addresses.
    pub(super) fn of_test(urls: Vec<String>, topology: RedisDeployment) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            topology,
            ca: None,
            prefix: "test".to_owned(),
            session_ttl: None,
            allow_eviction: false,
            confirm: ConfirmationPolicy::None,
            confirm_timeout: Duration::from_secs(5),
            shallow: false,
        }
    }
}
