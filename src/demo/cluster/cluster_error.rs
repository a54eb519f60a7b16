//! Why a call to the simulated cluster is rejected.

/// A rejected call, with the message that kubectl prints for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SimulatedClusterError(String);

impl SimulatedClusterError {
    /// An error with this message.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// The error that kubectl prints for an object that does not exist.
pub(super) fn not_found(resource: &str, name: &str) -> SimulatedClusterError {
    SimulatedClusterError::new(format!("Error from server (NotFound): {resource} \"{name}\" not found"))
}
