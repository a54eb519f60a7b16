//! The list of checks.

use futures_util::FutureExt as _;
use secrecy::SecretString;

use super::{
    configuration::ConfigurationCheck,
    identity::IdentityCheck,
    mcp::{McpServerCheck, NoMcpServersCheck, probe_mcp_server},
    provider::ProviderCheck,
    report::HealthCheck,
    store::{StoreCheck, StoreOpening},
};
use crate::{
    app,
    config::{ConfigError, Loaded, settings::TOKEN_VARIABLE},
};
use k8sops_core::StoreError;
use k8sops_models::ModelCatalog;

/// Options of `k8sops doctor`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DoctorOptions {
    /// API key or token to check; the report says whose it is.
    #[arg(long, env = TOKEN_VARIABLE, hide_env_values = true)]
    pub token: Option<SecretString>,
}

/// Returns all checks: the result of loading the configuration and, if it is valid, the parts that the service would use.
pub async fn build_checks(loaded: &Result<Loaded, ConfigError>, options: DoctorOptions) -> Vec<Box<dyn HealthCheck>> {
    let mut checks: Vec<Box<dyn HealthCheck>> = vec![Box::new(ConfigurationCheck::new(loaded))];
    let Ok(Loaded { config, .. }) = loaded else { return checks };
    checks.push(Box::new(IdentityCheck {
        config: config.auth.clone(),
        server: config.server.clone(),
        default_user: config.memory.user_id.clone(),
        token: options.token,
    }));
    let catalog = ModelCatalog::new(&config.providers);
    for (id, provider) in &config.providers {
        let chosen = *id == config.llm.provider;
        let first = provider.models.first().map(|model| model.id.clone());
        let model = if chosen { config.llm.model.clone() } else { first.unwrap_or_default() };
        let chat = catalog.chat_model(id);
        checks.push(Box::new(ProviderCheck { id: id.clone(), config: provider.clone(), model, chosen, chat }));
    }
    if config.mcp.servers.is_empty() {
        checks.push(Box::new(NoMcpServersCheck));
    }
    for server in &config.mcp.servers {
        let status = probe_mcp_server(server.clone(), config.mcp.clone()).boxed();
        checks.push(Box::new(McpServerCheck { config: server.clone(), status }));
    }
    let opening = match app::open_store(&config.memory).await {
        Ok(store) => StoreOpening::Opened(store),
        Err(StoreError::InUse(owner)) => StoreOpening::InUse(owner),
        Err(error) => StoreOpening::Failed(error),
    };
    checks.push(Box::new(StoreCheck { config: config.memory.clone(), opening }));
    checks
}
