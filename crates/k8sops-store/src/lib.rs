//! The port [`SessionStore`](k8sops_core::SessionStore) made real.
//!
//! | backend | for | durability |
//! |---|---|---|
//! | [`InMemoryStore`] | tests, trying out | none |
//! | [`FilesystemStore`] | one machine | a write is on the disk before it is acknowledged |
//! | [`RedisStore`] | any number of processes | that of the Redis |
//!
//! What all of them promise is written as a suite that each passes: [`contract`].

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod filesystem;
mod inbox;
mod memories;
mod memory;
mod options;
mod outputs;
mod redis;
mod scan;

pub use filesystem::FilesystemStore;
pub use memory::InMemoryStore;
pub use options::{RedisOptions, RedisTopology, StoreBackend, StoreOptions};

pub use self::redis::{RedisConfig, RedisDeployment, RedisStore};
