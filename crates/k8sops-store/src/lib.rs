//! Storage backends for sessions: implementations of the ports of `k8sops-core`.
//!
//! | backend | for | durability |
//! |---|---|---|
//! | [`InMemoryStore`] | tests, trying out | none |
//! | [`FilesystemStore`] | one machine | a write is on the disk before it is acknowledged |
//! | [`RedisStore`] | any number of processes | that of the Redis deployment |
//!
//! What all backends promise is checked by one suite, [`contract`] (feature `contract`), which every backend passes.
//!
//! A backend implements [`SessionStore`](k8sops_core::SessionStore), which is the sum of the ports, in a folder of its own.
//! The modules beside them hold what several backends share: `inbox_state` and `lease_state` (the rules of inboxes and
//! leases, for backends that one process has to itself), `user_memory_set` and `vector_index` (memories and their exact
//! search), `memory_record` (memories as JSON), `output_limit` (the size limit of tool outputs).

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod filesystem;
mod in_memory;
mod inbox_state;
mod lease_state;
mod log_retention;
mod memory_record;
mod options;
mod output_limit;
mod record_map;
mod redis;
mod user_memory_set;
mod vector_index;

pub use filesystem::{FilesystemStore, probe_write_access};
pub use in_memory::InMemoryStore;
pub use log_retention::LogRetention;
pub use options::{RedisOptions, RedisTopology, StoreBackend, StoreOptions};

pub use self::redis::{ConfirmationPolicy, RedisConfig, RedisDeployment, RedisStore};
