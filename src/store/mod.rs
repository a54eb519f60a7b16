//! The port [`SessionStore`](crate::session::SessionStore) made real.
//!
//! | backend | for | durability |
//! |---|---|---|
//! | [`MemoryStore`] | tests, trying out | none |
//! | [`FilesystemStore`] | one machine | a write is on the disk before it is acknowledged |
//! | [`RedisStore`] | any number of processes | that of the Redis |
//!
//! What all of them promise is written as a suite that each passes: [`contract`].

#[doc(hidden)]
pub mod contract;
mod filesystem;
mod inbox;
mod memories;
mod memory;
mod outputs;
mod redis;
mod scan;

pub use filesystem::FilesystemStore;
pub use memory::MemoryStore;
pub(crate) use outputs::random_key;

pub use self::redis::{RedisConfig, RedisStore, Topology};
