//! Options of this crate: which store is used, and where it is.

use std::{path::PathBuf, time::Duration};

use crate::redis::ConfirmationPolicy;
use k8sops_core::mask_url;
use k8sops_settings::{
    ValueFormat,
    declaration::{optional, required},
    formats::{BOOLEAN, HOME_PATH, KEY_NAME, PATH, duration_in},
    options, words,
};
use secrecy::{ExposeSecret as _, SecretString};

options! {
    /// Sessions and long-term memory.
    #[derive(Debug, Clone)]
    pub struct StoreOptions at "memory" {
        /// Where sessions are kept: in the memory of the process, in files of this machine, or in Redis, which any number of
        /// replicas share.
        pub backend: StoreBackend = required(STORE_BACKEND, "filesystem").variable("MEMORY_BACKEND"),
        /// Directory of the filesystem backend.
        pub path: PathBuf = required(HOME_PATH, "~/.k8sops").variable("MEMORY_FILESYSTEM_PATH"),
        /// Whether to keep only the last checkpoint of a session and the events after it instead of the whole log.
        pub shallow: bool = required(BOOLEAN, "false").variable("MEMORY_SHALLOW"),
    }
}

options! {
    /// The Redis backend.
    #[derive(Debug, Clone)]
    pub struct RedisOptions at "memory.redis" {
        /// URL of Redis; rediss:// for TLS. For a cluster or sentinels, several URLs separated by commas. It may contain a
        /// password.
        pub url: Vec<SecretString> = required(REDIS_URLS, "redis://127.0.0.1:6379").variable("REDIS_URL"),
        /// Kind of server at the URL.
        pub topology: RedisTopology = required(REDIS_TOPOLOGY, "single").variable("REDIS_TOPOLOGY"),
        /// Name of the master to request from the sentinels.
        pub sentinel_master: String = required(KEY_NAME, "mymaster").variable("REDIS_SENTINEL_MASTER"),
        /// PEM file of the CA certificates that verify the certificate of a rediss:// server.
        pub ca_file: Option<PathBuf> = optional(PATH).variable("REDIS_CA_FILE"),
        /// Prefix of all keys; one per deployment.
        pub prefix: String = required(KEY_NAME, "k8sops").variable("REDIS_PREFIX"),
        /// Time without activity after which a session is deleted; empty: never.
        pub session_ttl: Option<Duration> = optional(SESSION_TTL).variable("REDIS_SESSION_TTL"),
        /// Whether to use a Redis that evicts keys when its memory is full (maxmemory-policy), and thereby loses sessions.
        pub allow_eviction: bool = required(BOOLEAN, "false").variable("REDIS_ALLOW_EVICTION"),
        /// What has to confirm a write before a message is acknowledged, or a tool call that may change something is sent.
        /// none: nothing more than the answer of Redis. aof: its append-only file on its disk. A number: so many replicas.
        /// auto: as aof if Redis can (7.2 or later or Valkey, with an append-only file), else as none.
        pub confirm: ConfirmationPolicy = required(CONFIRMATION_POLICY, "auto").variable("REDIS_CONFIRM"),
        /// How long a confirmation may take. After that, a message gets 503, and a tool call is not sent.
        pub confirm_timeout: Duration = required(CONFIRMATION_TIMEOUT, "5s").variable("REDIS_CONFIRM_TIMEOUT"),
    }
}

/// Kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreBackend {
    /// The memory of the process; sessions are lost when it ends.
    Memory,
    /// JSONL files of one machine.
    Filesystem,
    /// Redis, which any number of replicas share.
    Redis,
}

const STORE_BACKEND: ValueFormat<StoreBackend> = words! {
    "memory" => StoreBackend::Memory,
    "filesystem" => StoreBackend::Filesystem,
    "redis" => StoreBackend::Redis,
};

/// Kind of server at the URL of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisTopology {
    /// One Redis server.
    Single,
    /// Nodes of a Redis Cluster.
    Cluster,
    /// Sentinels.
    Sentinel,
}

const REDIS_TOPOLOGY: ValueFormat<RedisTopology> = words! {
    "single" => RedisTopology::Single,
    "cluster" => RedisTopology::Cluster,
    "sentinel" => RedisTopology::Sentinel,
};

const REDIS_URLS: ValueFormat<Vec<SecretString>> =
    ValueFormat::described("redis:// or rediss:// URLs with commas between", parse_redis_urls)
        .masked_by(mask_redis_urls);

/// More replicas than any deployment has.
const MAX_CONFIRMING_REPLICAS: u32 = 100;

const CONFIRMATION_POLICY: ValueFormat<ConfirmationPolicy> =
    ValueFormat::described("auto, none, aof, or a number of replicas from 1 to 100", parse_confirmation_policy);

const CONFIRMATION_TIMEOUT: ValueFormat<Duration> = duration_in(Duration::from_millis(100), Duration::from_mins(1));

const SESSION_TTL: ValueFormat<Duration> = duration_in(Duration::from_mins(1), Duration::from_hours(3650 * 24));

impl StoreOptions {
    /// What to do about a directory that cannot be used.
    pub const PATH_ADVICE: &str = "make it a directory that this user may write to, or set MEMORY_FILESYSTEM_PATH";
}

impl RedisOptions {
    /// URLs as they may be shown: without passwords.
    #[must_use]
    pub fn masked_urls(&self) -> String {
        self.url.iter().map(|url| mask_url(url.expose_secret())).collect::<Vec<_>>().join(",")
    }
}

fn parse_redis_urls(text: &str) -> Option<Vec<SecretString>> {
    let urls = text.split(',').map(|url| {
        let url = url.trim();
        let parsed = url::Url::parse(url).ok()?;
        let is_usable =
            matches!(parsed.scheme(), "redis" | "rediss") && parsed.host_str().is_some_and(|host| !host.is_empty());
        is_usable.then(|| url.to_owned().into())
    });
    urls.collect()
}

fn parse_confirmation_policy(text: &str) -> Option<ConfirmationPolicy> {
    match text {
        "auto" => Some(ConfirmationPolicy::Auto),
        "none" => Some(ConfirmationPolicy::None),
        "aof" => Some(ConfirmationPolicy::AppendOnlyFile),
        count => {
            let count = count.parse().ok()?;
            (1..=MAX_CONFIRMING_REPLICAS).contains(&count).then_some(ConfirmationPolicy::Replicas(count))
        }
    }
}

fn mask_redis_urls(text: &str) -> String {
    text.split(',').map(|url| mask_url(url.trim())).collect::<Vec<_>>().join(",")
}
