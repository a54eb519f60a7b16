//! Opens the configured store.

use std::{path::PathBuf, sync::Arc};

use k8sops_core::{SessionStore, StoreError};
use k8sops_store::{FilesystemStore, InMemoryStore, RedisConfig, RedisStore, Topology};

use crate::config::{Backend, MemoryConfig, RedisTopology};

/// Opens the configured store.
pub(crate) async fn open_store(config: &MemoryConfig) -> Result<Arc<dyn SessionStore>, StoreError> {
    Ok(match config.backend {
        Backend::Memory => Arc::new(InMemoryStore::new(config.shallow)),
        Backend::Filesystem => Arc::new(FilesystemStore::open(&config.path, config.shallow).await?),
        Backend::Redis => Arc::new(RedisStore::new(&redis_config(config)?)?),
    })
}

fn redis_config(config: &MemoryConfig) -> Result<RedisConfig, StoreError> {
    let redis = &config.redis;
    let read = |path: &PathBuf| {
        std::fs::read(path)
            .map_err(|error| StoreError::unavailable(format!("cannot read REDIS_CA_FILE {}", path.display()), error))
    };
    Ok(RedisConfig {
        urls: redis.urls.clone(),
        topology: match redis.topology {
            RedisTopology::Single => Topology::Single,
            RedisTopology::Cluster => Topology::Cluster,
            RedisTopology::Sentinel => Topology::Sentinel(redis.sentinel_master.clone()),
        },
        ca: redis.ca_file.as_ref().map(read).transpose()?,
        prefix: redis.prefix.clone(),
        session_ttl: redis.session_ttl,
        shallow: config.shallow,
    })
}
