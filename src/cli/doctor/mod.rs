//! `k8sops doctor`: tries what a start of the service would need, one line for each: what is right, or what to do.
//!
//! A check is given the part that it tries and says what it found; [`checks`] builds the parts. [`run`] tries them all at
//! once, so that one that hangs delays no other, and prints in the order given.

mod identity;
mod mcp;
mod provider;
mod report;
mod store;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use secrecy::SecretString;

pub use self::{
    identity::IdentityCheck,
    mcp::{McpCheck, NoMcpServers, mcp_line},
    provider::ProviderCheck,
    report::{Check, Finding, Line, run},
    store::{Opened, StoreCheck},
};
use crate::{
    app,
    config::{ConfigError, LoadedConfig, SettingOrigin, TOKEN_VARIABLE},
};
use k8sops_core::StoreError;
use k8sops_models::ModelCatalog;

/// What to try.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// A key or token, to see whose it is.
    #[arg(long, env = TOKEN_VARIABLE, hide_env_values = true)]
    pub token: Option<SecretString>,
}

/// The configuration: what is wrong or odd with it.
pub struct ConfigurationCheck(Vec<Line>);

impl ConfigurationCheck {
    /// What loading it said.
    #[must_use]
    pub fn new(loaded: &Result<LoadedConfig, ConfigError>) -> Self {
        let what = "configuration";
        Self(match loaded {
            Err(error) => {
                error.problems().iter().map(|p| Line::fail(what, p, "`k8sops config` shows what is in force")).collect()
            }
            Ok(loaded) => {
                let set = loaded.effective.iter().filter(|setting| setting.origin != SettingOrigin::Default).count();
                let fact = format!("{} settings, {set} of them yours", loaded.effective.len());
                let warnings = loaded.warnings.iter().map(|warning| Line::note(what, warning));
                std::iter::once(Line::ok(what, fact)).chain(warnings).collect()
            }
        })
    }
}

#[async_trait]
impl Check for ConfigurationCheck {
    fn what(&self) -> String {
        "configuration".to_owned()
    }

    async fn run(self: Box<Self>) -> Vec<Line> {
        self.0
    }
}

/// All that is tried: what loading the configuration said and, when it can be used, the parts that a start would use.
pub async fn checks(loaded: &Result<LoadedConfig, ConfigError>, options: Options) -> Vec<Box<dyn Check>> {
    let mut checks: Vec<Box<dyn Check>> = vec![Box::new(ConfigurationCheck::new(loaded))];
    let Ok(LoadedConfig { config, .. }) = loaded else { return checks };
    checks.push(Box::new(IdentityCheck {
        config: config.auth.clone(),
        server: config.server.clone(),
        everybody: config.sessions.user_id.clone(),
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
        checks.push(Box::new(NoMcpServers));
    }
    for server in &config.mcp.servers {
        let status = mcp::connected_once(server.clone(), config.mcp.clone()).boxed();
        checks.push(Box::new(McpCheck { config: server.clone(), status }));
    }
    let opened = match app::open_store(&config.store, &config.redis).await {
        Ok(store) => Opened::Store(store),
        Err(StoreError::InUse(why)) => Opened::InUse(why),
        Err(error) => Opened::Failed(error.to_string()),
    };
    checks.push(Box::new(StoreCheck { config: config.store.clone(), redis: config.redis.clone(), opened }));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppConfig, SettingSources};

    pub(super) fn config(env: &[(&str, &str)]) -> LoadedConfig {
        let env = env.iter().chain(&[("HOME", "/h")]).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        AppConfig::load(SettingSources { env, ..SettingSources::default() }).unwrap()
    }

    #[tokio::test]
    async fn a_wrong_configuration_is_one_line_for_each_fault() {
        let sources =
            SettingSources { env: [("K8SOPS_PORT".to_owned(), "x".to_owned())].into(), ..SettingSources::default() };
        let mut out = Vec::new();
        let check = ConfigurationCheck::new(&AppConfig::load(sources));
        assert!(!run(vec![Box::new(check)], &mut out).await.unwrap());
        let report = String::from_utf8(out).unwrap();
        assert!(
            report.starts_with("FAIL  configuration: K8SOPS_PORT is `x`; allowed: a whole number from 0 to 65535"),
            "{report}"
        );
        let mut out = Vec::new();
        assert!(run(vec![Box::new(ConfigurationCheck::new(&Ok(config(&[]))))], &mut out).await.unwrap());
        assert!(String::from_utf8(out).unwrap().contains("note  configuration: Anthropic"));
    }
}
