//! Redis and Valkey servers in processes of their own: single, with TLS, as a cluster, behind a Sentinel. They can be killed,
//! paused and restarted.

mod cluster;
mod failover_pair;
mod flavor;
mod redis_cli;
mod sentinel;
mod server;
mod tls;

pub use cluster::RedisCluster;
pub use failover_pair::RedisFailoverPair;
pub use flavor::RedisFlavor;
pub use sentinel::{RedisSentinel, wait_until_caught_up};
pub use server::{RedisServer, next_port};
