//! Sessions in Redis, for any number of processes.
//!
//! Every write is one Lua script on the keys of one session, which are on one node: all of it takes effect, or nothing
//! ([`scripts`]). What spans sessions ([`registry`]: the list of each user, the schedule of sessions with work) is written
//! separately and corrected when it is read: it may be behind the sessions, but the sessions are never behind it. The names
//! of keys are in [`keys`].

mod background_tasks;
#[cfg(test)]
mod bulk_tests;
mod config;
mod confirmation;
mod connection;
mod connector;
mod encoding;
mod held_logs;
mod inbox;
mod keys;
mod leases;
mod lost_keys;
mod memories;
mod memory_cache;
mod notifications;
mod offload;
mod outage;
mod outputs;
mod pool;
mod query;
mod records;
mod registry;
mod script;
mod scripts;
mod server_setup;
mod session_index;
mod session_log;
mod shard_subscriber;
mod store;
mod subscriber;
mod subscriber_connection;
mod target;
mod usage;
mod write_confirmation;

pub use config::{ConfirmationPolicy, RedisConfig, RedisDeployment};
pub use store::RedisStore;
