//! The configuration as a whole.

use std::collections::BTreeMap;

use k8sops_agent::{AgentOptions, BudgetOptions, ContextOptions, PromptOptions, SpendingLimits};
use k8sops_core::mask_url;
use k8sops_mcp::McpOptions;
use k8sops_models::{ProviderCatalogOptions, ProviderOptions, ToolBounds};
use k8sops_settings::{
    EffectiveSetting, SettingReader, SettingSources, SourceError, reader::ReadReport, render::render_effective,
};
use k8sops_store::{RedisOptions, RedisTopology, StoreBackend, StoreOptions};
use k8sops_telemetry::{LogOptions, TelemetryOptions};
use k8sops_tools::{ApprovalBy, ApprovalMode, ToolOptions};
use secrecy::ExposeSecret as _;

use super::{
    CONFIG_VARIABLE,
    catalog::settings_catalog,
    llm::LlmConfig,
    memory::{LongTermConfig, expand_store_path},
};
use crate::{
    api::{LimitOptions, ServerOptions},
    audit::AuditOptions,
    auth::{AuthConfig, AuthMode},
    notifier::NotifierOptions,
    runtime::SessionOptions,
};

/// Prefix of the variables that belong to k8sops alone. One that is set and unknown is probably a typo.
const OWN_PREFIX: &str = "K8SOPS_";

/// Everything that can be configured, checked: an `AppConfig` that exists can be run.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// Section `server`.
    pub server: ServerOptions,
    /// Section `auth`.
    pub auth: AuthConfig,
    /// Section `limits`.
    pub limits: LimitOptions,
    /// Section `llm`: the defaults of new sessions.
    pub llm: LlmConfig,
    /// Section `providers`: providers by their ids, those of `config/models.yaml` included.
    pub providers: BTreeMap<String, ProviderOptions>,
    /// Section `mcp`.
    pub mcp: McpOptions,
    /// Section `memory`: where sessions are kept.
    pub store: StoreOptions,
    /// Section `memory.redis`.
    pub redis: RedisOptions,
    /// Section `memory`: sessions of a user.
    pub sessions: SessionOptions,
    /// Section `memory`: use of the context window.
    pub context: ContextOptions,
    /// Sections `memory.long_term` and `memory.embeddings`.
    pub long_term: LongTermConfig,
    /// Section `agent`.
    pub agent: AgentOptions,
    /// Section `agent.prompt`.
    pub prompt: PromptOptions,
    /// Section `budgets`.
    pub budgets: SpendingLimits,
    /// Section `tools`.
    pub tools: ToolOptions,
    /// Section `log`.
    pub log: LogOptions,
    /// Section `telemetry`.
    pub telemetry: TelemetryOptions,
    /// Section `audit`.
    pub audit: AuditOptions,
    /// Section `notifications`.
    pub notifier: NotifierOptions,
}

/// A configuration that can be run, and how it came about.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// The configuration.
    pub config: AppConfig,
    /// Every setting in effect.
    pub effective: Vec<EffectiveSetting>,
    /// What is odd and does not stop the start, one line each.
    pub warnings: Vec<String>,
}

/// Why there is no configuration. No message contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Something is wrong, one line for each problem.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

impl ConfigError {
    /// All problems, one line each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::Source(error) => vec![error.to_string()],
            Self::Invalid(problems) => problems.clone(),
        }
    }
}

impl LoadedConfig {
    /// Loads the configuration of this process.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first problem.
    pub fn load_from_process() -> Result<Self, ConfigError> {
        AppConfig::load(SettingSources::read_from_process(CONFIG_VARIABLE)?)
    }

    /// Renders the settings in effect with their origins; secrets are masked, live settings are marked.
    #[must_use]
    pub fn render(&self) -> String {
        render_effective(&settings_catalog(), &self.effective)
    }
}

impl AppConfig {
    /// Returns the bounds of tools that hold for every dialect: a session may change its model within a turn.
    #[must_use]
    pub fn tool_bounds(&self) -> ToolBounds {
        let dialects = self.providers.values().next().map(|provider| provider.dialect.known.clone());
        dialects.unwrap_or_default().common_tool_bounds()
    }

    /// Loads a configuration: defaults, the user's YAML, `.env`, the environment; later wins.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first problem.
    pub fn load(sources: SettingSources) -> Result<LoadedConfig, ConfigError> {
        let mut reader = SettingReader::new(&settings_catalog(), sources);
        let config = Self::read_settings(&mut reader);
        reader.warn_of_unknown_variables(OWN_PREFIX);
        let ReadReport { effective, warnings, problems } = reader.finish();
        if problems.is_empty() {
            Ok(LoadedConfig { config, effective, warnings })
        } else {
            Err(ConfigError::Invalid(problems))
        }
    }

    fn read_settings(reader: &mut SettingReader) -> Self {
        let server = reader.read_section();
        let auth = AuthConfig::read_settings(reader);
        let limits = reader.read_section();
        let mut providers = reader.read_section::<ProviderCatalogOptions>().into_providers(reader);
        let llm = LlmConfig::read_settings(reader, &mut providers);
        let mcp = reader.read_section();
        let store = expand_store_path(reader.read_section(), reader);
        let redis = reader.read_section();
        check_redis(reader, &store, &redis);
        let sessions = reader.read_section();
        let context = reader.read_section();
        let long_term = LongTermConfig::read_settings(reader, &providers);
        let budgets = reader.read_section::<BudgetOptions>().spending_limits();
        warn_of_missing_prices(reader, &budgets, &llm, &providers);
        let tools: ToolOptions = reader.read_section();
        check_approval(reader, &tools, &auth);
        Self {
            server,
            auth,
            limits,
            llm,
            providers,
            mcp,
            store,
            redis,
            sessions,
            context,
            long_term,
            budgets,
            tools,
            agent: reader.read_section(),
            prompt: reader.read_section(),
            log: reader.read_section(),
            telemetry: reader.read_section(),
            audit: reader.read_section(),
            notifier: reader.read_section(),
        }
    }
}

fn check_redis(reader: &mut SettingReader, store: &StoreOptions, redis: &RedisOptions) {
    let is_used = store.backend == StoreBackend::Redis && redis.topology == RedisTopology::Single;
    if is_used && redis.url.len() > 1 {
        let shown: Vec<String> = redis.url.iter().map(|url| mask_url(url.expose_secret())).collect();
        let origin = reader.origin_of("memory.redis.url");
        let allowed = "one URL, or several with REDIS_TOPOLOGY=cluster or sentinel";
        reader.report_invalid("memory.redis.url", &shown.join(","), &origin, allowed);
    }
}

fn warn_of_missing_prices(
    reader: &mut SettingReader,
    budgets: &SpendingLimits,
    llm: &LlmConfig,
    providers: &BTreeMap<String, ProviderOptions>,
) {
    let has_budget = [budgets.turn, budgets.session, budgets.user_day].iter().any(|budget| budget.usd.is_some());
    let model = providers.get(&llm.provider).and_then(|p| p.models.iter().find(|model| model.id == llm.model));
    if has_budget && model.is_none_or(|model| model.prices.is_none()) {
        reader.report_warning(format!(
            "a budget in US dollars is set, and {} of {} has no prices in the catalog: its usage costs nothing there",
            llm.model, llm.provider
        ));
    }
}

fn check_approval(reader: &mut SettingReader, tools: &ToolOptions, auth: &AuthConfig) {
    if tools.approval_by != ApprovalBy::Approver {
        return;
    }
    if matches!(auth.mode, AuthMode::None) {
        reader.report_problem(
            "TOOL_APPROVAL_BY is `approver`, and AUTH_MODE=none has one user only, so that no other user could approve; \
             allowed: owner, or another AUTH_MODE",
        );
    }
    if tools.approval == ApprovalMode::Auto {
        reader.report_problem(
            "TOOL_APPROVAL_BY is `approver`, and with TOOL_APPROVAL=auto no approval would be requested; allowed: \
             TOOL_APPROVAL=ask, with rules (tools.rules) for the tools that may run without approval",
        );
    }
}
