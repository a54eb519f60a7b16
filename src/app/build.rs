//! Builds all parts of the service and connects them.

use std::sync::Arc;

use actix_web::web;
use arc_swap::ArcSwap;
use k8sops_agent::{memory::LongTermMemory, prompt_parts, system_prompt};
use k8sops_core::{ErrorChain, SessionSettings, SessionStore, StoreError};
use k8sops_mcp::{CallLimits, McpConnector, McpHub, build_server_connector};
use k8sops_models::{EmbeddingModel, ModelCatalog, ProviderEmbedder};
use k8sops_store::{StoreBackend, StoreOptions};
use k8sops_telemetry::Metrics;
use k8sops_tools::{SessionToolFactory, ToolCatalog, UserTokens};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    application::Application,
    limits::{capacity_limits, run_limits},
    sockets,
    store::open_store,
};
use crate::{
    api::{ApiState, LogThrottle, RequestQuota, ServiceMode, task_notifications},
    audit::AuditTrail,
    auth::{AuthMode, Authenticator, TicketOffice},
    config::AppConfig,
    demo,
    notifier::Notifier,
    runtime::{Dependencies, Sessions, WallClock},
};

/// Dependencies that replace the configured ones.
#[derive(Default)]
pub struct BuildOverrides {
    /// A catalog with other models, for the demo and for tests.
    pub catalog: Option<ModelCatalog>,
    /// MCP servers in addition to the configured ones.
    pub servers: Vec<(String, Arc<dyn McpConnector>)>,
    /// Whether this is the demo.
    pub demo: bool,
}

impl Application {
    /// Builds the service as configured.
    ///
    /// # Errors
    /// A required resource is unavailable, such as the port or the store.
    pub async fn build(config: &AppConfig) -> anyhow::Result<Self> {
        Self::build_with(config, BuildOverrides::default()).await
    }

    /// Builds the service with some parts replaced.
    ///
    /// # Errors
    /// As for [`Self::build`].
    pub async fn build_with(config: &AppConfig, overrides: BuildOverrides) -> anyhow::Result<Self> {
        let listener = sockets::listen(&format!("{}:{}", config.server.host, config.server.port))?;
        let bound = listener.local_addr()?;
        let mode = if overrides.demo { ServiceMode::Demo } else { ServiceMode::Serve };
        let is_open = matches!(config.auth.mode, AuthMode::None) && !bound.ip().is_loopback();
        if is_open {
            check_open_access(config, mode)?;
        }
        let catalog = Arc::new(overrides.catalog.unwrap_or_else(|| ModelCatalog::new(&config.providers)));
        let default_settings = match mode {
            ServiceMode::Demo => demo::session_settings(),
            ServiceMode::Serve => config.llm.session_settings(),
        };
        // New sessions start with these settings, so they must be valid.
        catalog.validate_settings(&default_settings).map_err(|error| {
            anyhow::anyhow!(
                "the default settings of sessions are invalid: {error} (LLM_PROVIDER, LLM_MODEL, LLM_TEMPERATURE, \
                 LLM_MAX_TOKENS)"
            )
        })?;
        let mut servers: Vec<(String, Arc<dyn McpConnector>)> = Vec::new();
        for server in &config.mcp.servers {
            servers.push((server.name.clone(), build_server_connector(server)?));
        }
        servers.extend(overrides.servers);
        let store = open_session_store(config).await?;
        // Authentication is started last of the parts that can fail. Later parts would have to be stopped again.
        let tasks = TaskTracker::new();
        let background = CancellationToken::new();
        let authenticator = Authenticator::start(&config.auth, &config.sessions.user_id, &tasks, &background)?;
        let mcp = McpHub::start(servers, &config.mcp, tasks.clone(), &background);
        let background = background.drop_guard();
        let embedder = embedding_model(config)?;
        let tools = ToolCatalog::new(mcp.clone(), &config.tools, config.tool_bounds());
        let tools = Arc::new(tools.with_embedder(embedder.clone()));
        let call_limits = CallLimits { idle: config.mcp.idle_timeout, total: config.mcp.call_timeout };
        let user_tokens = UserTokens::default();
        let session_tools = SessionToolFactory::new(
            tools.clone(),
            mcp.clone(),
            store.clone(),
            store.clone(),
            call_limits,
            user_tokens.clone(),
            config.tools.clone(),
        );
        let metrics = Arc::new(Metrics::new());
        register_models(&metrics, &catalog, &default_settings, config);
        let replica = uuid::Uuid::now_v7().to_string();
        let audit = match &config.audit.log {
            Some(to) => AuditTrail::open(to, &replica, metrics.clone())?,
            None => AuditTrail::default(),
        };
        let long_term = &config.long_term;
        let memory = LongTermMemory::new(store.clone(), embedder, long_term.max_memories);
        let notifier = Notifier::new(&config.notifier, store.clone(), replica.clone());
        let sessions = Sessions::new(Dependencies {
            store: store.clone(),
            catalog: catalog.clone(),
            tools: Arc::new(session_tools),
            system: system_prompt(&prompt_parts(&config.prompt, &config.agent.instructions)),
            limits: ArcSwap::from_pointee(run_limits(config)),
            fallback: config.llm.fallback.clone(),
            memory: long_term.enabled.then(|| memory.clone()),
            capacity: ArcSwap::from_pointee(capacity_limits(config)),
            shallow: config.store.shallow,
            approval_by: config.tools.approval_by,
            metrics: metrics.clone(),
            audit: audit.clone(),
            replica,
            clock: WallClock::default(),
        });
        notifier.start(&config.notifier, task_notifications(sessions.clone()), metrics.clone())?;
        let state = web::Data::new(ApiState {
            sessions,
            catalog,
            mcp,
            tools,
            user_tokens,
            audit: audit.clone(),
            memory,
            tickets: TicketOffice::new(store.clone()),
            store,
            authenticator,
            metrics_access: config.auth.metrics,
            quota: RequestQuota::new(config.limits),
            server: config.server.clone(),
            day_budget: ArcSwap::from_pointee(config.budgets.user_day),
            fallback: config.llm.fallback.clone(),
            default_settings: ArcSwap::from_pointee(default_settings),
            notifier,
            metrics,
            mode,
            flood_log: LogThrottle::default(),
            shutdown: CancellationToken::new(),
        });
        Ok(Self {
            listener,
            bound,
            state,
            audit,
            tasks,
            background,
            shutdown_timeout: config.server.shutdown_timeout,
            max_connections: config.limits.connections,
        })
    }
}

/// Rejects a configuration that lets everyone on the network use the service without authentication.
fn check_open_access(config: &AppConfig, mode: ServiceMode) -> anyhow::Result<()> {
    let host = &config.server.host;
    match mode {
        ServiceMode::Demo => {
            anyhow::bail!("the demo has no authentication and listens on the loopback interface only, not on {host}")
        }
        ServiceMode::Serve if !config.auth.allow_insecure => anyhow::bail!(
            "K8SOPS_HOST is `{host}`, which other machines can reach, and AUTH_MODE=none would give all of them access; set \
             AUTH_MODE to api_key, jwt or proxy, or listen on 127.0.0.1 (AUTH_ALLOW_INSECURE=true permits it)"
        ),
        ServiceMode::Serve => Ok(()),
    }
}

async fn open_session_store(config: &AppConfig) -> anyhow::Result<Arc<dyn SessionStore>> {
    open_store(&config.store, &config.redis).await.map_err(|error| match (config.store.backend, error) {
        (StoreBackend::Filesystem, StoreError::Unavailable(why)) => {
            let folder = config.store.path.display();
            let why = ErrorChain(&why);
            anyhow::anyhow!("cannot store sessions in {folder}: {why}; {}", StoreOptions::PATH_ADVICE)
        }
        (_, error) => error.into(),
    })
}

/// Registers the models that metrics may have as labels.
fn register_models(metrics: &Metrics, catalog: &ModelCatalog, defaults: &SessionSettings, config: &AppConfig) {
    let listed = catalog
        .providers()
        .into_iter()
        .flat_map(|provider| provider.models.into_iter().map(move |model| (provider.id.clone(), model.id)));
    let fallback = config.llm.fallback.iter().map(|choice| (choice.provider.clone(), choice.model.clone()));
    metrics.set_known_models(listed.chain([(defaults.provider.clone(), defaults.model.clone())]).chain(fallback));
}

/// Returns the model that compares texts by meaning, if one is configured.
fn embedding_model(config: &AppConfig) -> anyhow::Result<Option<Arc<dyn EmbeddingModel>>> {
    let Some(choice) = &config.long_term.embeddings else { return Ok(None) };
    let Some(provider) = config.providers.get(&choice.provider) else {
        anyhow::bail!("EMBEDDING_PROVIDER is {}, which is not a known provider", choice.provider)
    };
    let model = ProviderEmbedder::new(&choice.provider, provider, &choice.model, choice.dimensions)?;
    Ok(Some(Arc::new(model)))
}
