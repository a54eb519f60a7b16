//! A small Kubernetes cluster, simulated in memory.
//!
//! The simulation is deterministic: the same calls at the same times return the same answers, down to the names of the
//! pods. A change has the consequences that it has in a real cluster, after a shortened delay.
//!
//! ```text
//! call ──▶ SimulatedCluster (lock, clock) ──▶ ClusterState: advance to now (controllers) ─▶ change ─▶ controllers ─▶ kubectl output
//! ```

mod cluster_error;
mod cluster_state;
mod container_logs;
mod controllers;
mod initial_state;
mod kubectl_output;
pub(super) mod quantity;
mod simulated_cluster;
#[cfg(test)]
mod tests;

pub use cluster_error::SimulatedClusterError;
pub use cluster_state::ContainerInstance;
pub use simulated_cluster::{RolloutStatus, SimulatedCluster};
