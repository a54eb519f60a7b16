//! The list of checks.

use futures_util::FutureExt as _;
use secrecy::SecretString;

use super::{
    configuration::ConfigurationCheck,
    identity::IdentityCheck,
    mcp::{McpServerCheck, NoMcpServersCheck, probe_mcp_server},
    provider::{ProviderCheck, ProviderUsage},
    report::HealthCheck,
    store::{StoreCheck, StoreOpening},
};
use crate::{
    app,
    config::{ConfigError, LoadedConfig, TOKEN_VARIABLE},
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
pub async fn build_checks(
    loaded: &Result<LoadedConfig, ConfigError>,
    options: DoctorOptions,
) -> Vec<Box<dyn HealthCheck>> {
    let mut checks: Vec<Box<dyn HealthCheck>> = vec![Box::new(ConfigurationCheck::new(loaded))];
    let Ok(LoadedConfig { config, .. }) = loaded else { return checks };
    checks.push(Box::new(IdentityCheck {
        config: config.auth.clone(),
        server: config.server.clone(),
        default_user: config.sessions.user_id.clone(),
        token: options.token,
    }));
    let catalog = ModelCatalog::new(&config.providers);
    for (id, provider) in &config.providers {
        let usage = match *id == config.llm.provider {
            true => ProviderUsage::NewSessions,
            false => ProviderUsage::Optional,
        };
        let first = provider.models.first().map(|model| model.id.clone());
        let model = match usage {
            ProviderUsage::NewSessions => config.llm.model.clone(),
            ProviderUsage::Optional => first.unwrap_or_default(),
        };
        let chat = catalog.chat_model(id);
        checks.push(Box::new(ProviderCheck { id: id.clone(), config: provider.clone(), model, usage, chat }));
    }
    if config.mcp.servers.is_empty() {
        checks.push(Box::new(NoMcpServersCheck));
    }
    for server in &config.mcp.servers {
        let probed = probe_mcp_server(server.clone(), config.mcp.clone()).boxed();
        checks.push(Box::new(McpServerCheck {
            config: server.clone(),
            connect_timeout: config.mcp.connect_timeout,
            probed,
        }));
    }
    let opening = match app::open_store(&config.store, &config.redis).await {
        Ok(store) => StoreOpening::Opened(store),
        Err(StoreError::InUse(owner)) => StoreOpening::InUse(owner),
        Err(error) => StoreOpening::Failed(error),
    };
    checks.push(Box::new(StoreCheck { config: config.store.clone(), redis: config.redis.clone(), opening }));
    checks
}
