//! Opens the configured store.

use std::{path::PathBuf, sync::Arc};

use k8sops_core::{SessionStore, StoreError};
use k8sops_store::{
    FilesystemStore, InMemoryStore, LogRetention, RedisConfig, RedisDeployment, RedisOptions, RedisStore,
    RedisTopology, StoreBackend, StoreOptions,
};

/// Opens the configured store.
pub(crate) async fn open_store(
    store: &StoreOptions,
    redis: &RedisOptions,
) -> Result<Arc<dyn SessionStore>, StoreError> {
    let retention = LogRetention::from_shallow(store.shallow);
    Ok(match store.backend {
        StoreBackend::Memory => Arc::new(InMemoryStore::new(retention)),
        StoreBackend::Filesystem => Arc::new(FilesystemStore::open(&store.path, retention).await?),
        StoreBackend::Redis => Arc::new(RedisStore::open(&redis_config(store, redis)?).await?),
    })
}

fn redis_config(store: &StoreOptions, redis: &RedisOptions) -> Result<RedisConfig, StoreError> {
    let read = |path: &PathBuf| {
        std::fs::read(path)
            .map_err(|error| StoreError::unavailable(format!("cannot read REDIS_CA_FILE {}", path.display()), error))
    };
    Ok(RedisConfig {
        urls: redis.url.clone(),
        topology: match redis.topology {
            RedisTopology::Single => RedisDeployment::Single,
            RedisTopology::Cluster => RedisDeployment::Cluster,
            RedisTopology::Sentinel => RedisDeployment::Sentinel(redis.sentinel_master.clone()),
        },
        ca: redis.ca_file.as_ref().map(read).transpose()?,
        prefix: redis.prefix.clone(),
        session_ttl: redis.session_ttl,
        allow_eviction: redis.allow_eviction,
        confirm: redis.confirm,
        confirm_timeout: redis.confirm_timeout,
        shallow: store.shallow,
    })
}
