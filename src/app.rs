//! TEMPORARY: the names that `main` calls. Replaced by the real `app` when this branch is merged.

use crate::{cli::doctor::Check, config::Loaded};

/// Where the demo listens; absent: as by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DemoOptions {
    /// The address.
    pub host: Option<String>,
    /// The port; 0 takes a free one.
    pub port: Option<u16>,
}

/// Runs the service until it is told to stop. Logs are set up already.
///
/// # Errors
/// It cannot start.
#[allow(clippy::unused_async)] // a placeholder
pub async fn serve(_loaded: Loaded) -> anyhow::Result<()> {
    anyhow::bail!("`serve` is not wired up in this branch")
}

/// Runs the demo until it is told to stop.
///
/// # Errors
/// It cannot start.
#[allow(clippy::unused_async)] // a placeholder
pub async fn demo(_options: DemoOptions) -> anyhow::Result<()> {
    anyhow::bail!("`demo` is not wired up in this branch")
}

/// What `k8sops doctor` tries beyond the configuration.
#[allow(clippy::unused_async)] // a placeholder
pub async fn doctor_checks(_loaded: &Loaded) -> Vec<Box<dyn Check>> {
    Vec::new()
}

/// `openapi.json`.
#[must_use]
pub fn openapi_json() -> String {
    "{}".to_owned()
}
