//! The one place that knows all parts: builds them from the configuration, runs until told to stop, stops in order.

mod reload;
mod sockets;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use actix_web::{HttpServer, middleware::from_fn, web};
use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    api,
    api::{ApiState, RequestQuota, ServiceMode},
    audit::AuditTrail,
    auth::{AuthMode, Authenticator},
    config::{AppConfig, LoadedConfig, SettingSources},
    demo,
    runtime::{Parts, Room, Sessions},
};
use k8sops_agent::{memory::LongTermMemory, system_prompt};
use k8sops_core::{SessionStore, StoreError};
use k8sops_mcp::{CallLimits, InProcessConnector, McpConnector, McpHub, build_connector};
use k8sops_models::{EmbeddingModel, ModelCatalog, ProviderEmbedder, RetryPolicy};
use k8sops_store::{
    FilesystemStore, InMemoryStore, RedisConfig, RedisDeployment, RedisOptions, RedisStore, RedisTopology,
    StoreBackend, StoreOptions,
};
use k8sops_telemetry::{Metrics, logs};
use k8sops_tools::{SessionToolFactory, ToolCatalog, UserTokens};

/// The service, built and bound to a port, not yet running.
pub struct Application {
    listener: TcpListener,
    bound: SocketAddr,
    api: web::Data<ApiState>,
    audit: AuditTrail,
    tasks: TaskTracker,
    /// Ends what runs beside the sessions, the supervisors of the MCP servers, when it is dropped.
    background: DropGuard,
    shutdown_timeout: Duration,
    /// Connections at a time.
    connections: usize,
}

/// How long a client may take to send the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long what is left may take to end when the MCP servers are closed: words to servers that nobody waits for.
const TASKS_LIMIT: Duration = Duration::from_secs(2);
/// When a second signal was not obeyed by then, the process ends all the same.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// What is put in place of the configured parts.
#[derive(Default)]
pub struct BuildOverrides {
    /// A catalog with models of the caller's own: for the demo and for tests.
    pub catalog: Option<ModelCatalog>,
    /// More MCP servers than the configured ones.
    pub servers: Vec<(String, Arc<dyn McpConnector>)>,
    /// Whether this is the demo.
    pub demo: bool,
}

impl Application {
    /// Builds the service as configured.
    ///
    /// # Errors
    /// What cannot be had: the port, the store.
    pub async fn build(config: &AppConfig) -> anyhow::Result<Self> {
        Self::build_with(config, BuildOverrides::default()).await
    }

    /// Builds the demo: a rule-based stand-in for the model, an in-process MCP server over a simulated cluster. All that is
    /// between them is the real thing.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub async fn build_demo(config: &AppConfig) -> anyhow::Result<Self> {
        let cluster = Arc::new(demo::SimulatedCluster::new());
        let connector = InProcessConnector::new(move || Ok(demo::connect_demo_server(cluster.clone())));
        let mut catalog = ModelCatalog::new(&BTreeMap::new());
        catalog.register_provider(demo::provider_info(), Arc::new(demo::RuleModel::default()));
        let overrides = BuildOverrides {
            catalog: Some(catalog),
            servers: vec![("demo-cluster".into(), Arc::new(connector))],
            demo: true,
        };
        Self::build_with(config, overrides).await
    }

    /// Builds the service with some parts replaced.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub async fn build_with(config: &AppConfig, overrides: BuildOverrides) -> anyhow::Result<Self> {
        let address = format!("{}:{}", config.server.host, config.server.port);
        let listener = sockets::listen(&address)?;
        let bound = listener.local_addr()?;
        let open_to_all = matches!(config.auth.mode, AuthMode::None) && !bound.ip().is_loopback();
        if open_to_all && (overrides.demo || !config.auth.allow_insecure) {
            let host = &config.server.host;
            anyhow::bail!(if overrides.demo {
                format!("the demo knows no users and listens on the loopback interface only, not on {host}")
            } else {
                format!(
                    "K8SOPS_HOST is `{host}`, where others can reach it, and AUTH_MODE=none would let all of them in; set \
                     AUTH_MODE to api_key, jwt or proxy, or listen on 127.0.0.1 (AUTH_ALLOW_INSECURE=true does it all the same)"
                )
            });
        }
        let catalog = Arc::new(match overrides.catalog {
            Some(catalog) => catalog,
            None => ModelCatalog::new(&config.providers),
        });
        let defaults = if overrides.demo { demo::session_settings() } else { config.llm.session_settings() };
        // What every new session begins with must be what a session may have.
        catalog.validate_settings(&defaults).map_err(|error| {
            anyhow::anyhow!("the settings of new sessions are refused: {error} (LLM_PROVIDER, LLM_MODEL, LLM_TEMPERATURE, LLM_MAX_TOKENS)")
        })?;
        let mut servers: Vec<(String, Arc<dyn McpConnector>)> = Vec::new();
        for server in &config.mcp.servers {
            servers.push((server.name.clone(), build_connector(&server.transport)?));
        }
        servers.extend(overrides.servers);
        let store =
            open_store(&config.store, &config.redis).await.map_err(|error| match (config.store.backend, error) {
                (StoreBackend::Filesystem, StoreError::Unavailable(why)) => {
                    let folder = config.store.path.display();
                    anyhow::anyhow!("cannot keep sessions in {folder}: {why}; {}", StoreOptions::PATH_ADVICE)
                }
                (_, error) => error.into(),
            })?;
        // The last that can fail is the identity: what is started after it would have to be ended again.
        let tasks = TaskTracker::new();
        let background = CancellationToken::new();
        let auth = Authenticator::start(&config.auth, &config.sessions.user_id, &tasks, &background)?;
        let mcp = McpHub::start(servers, &config.mcp, tasks.clone(), &background);
        let background = background.drop_guard();
        let tools = Arc::new(ToolCatalog::new(mcp.clone(), &config.tools));
        let limits = CallLimits { idle: config.mcp.idle_timeout, total: config.mcp.call_timeout };
        let tokens = UserTokens::default();
        let toolbox = SessionToolFactory::new(
            tools.clone(),
            mcp.clone(),
            store.clone(),
            store.clone(),
            limits,
            tokens.clone(),
            config.tools.clone(),
        );
        let metrics = Arc::new(Metrics::new());
        let models = catalog
            .providers()
            .into_iter()
            .flat_map(|provider| provider.models.into_iter().map(move |model| (provider.id.clone(), model.id)));
        let chosen = config.llm.fallback.iter().map(|choice| (choice.provider.clone(), choice.model.clone()));
        metrics.set_known_models(models.chain([(defaults.provider.clone(), defaults.model.clone())]).chain(chosen));
        let replica = uuid::Uuid::now_v7().to_string();
        let audit = match &config.audit.log {
            Some(to) => AuditTrail::open(to, &replica, metrics.clone())?,
            None => AuditTrail::default(),
        };
        let long_term = &config.long_term;
        let memory = LongTermMemory::new(store.clone(), embedder(config)?, long_term.max_memories);
        let sessions = Sessions::new(Parts {
            store: store.clone(),
            catalog: catalog.clone(),
            tools: Arc::new(toolbox),
            system: system_prompt(&config.agent.instructions),
            limits: ArcSwap::from_pointee(run_limits(config)),
            fallback: config.llm.fallback.clone(),
            memory: long_term.enabled.then(|| memory.clone()),
            room: ArcSwap::from_pointee(capacity_limits(config)),
            shallow: config.store.shallow,
            approval_by: config.tools.approval_by,
            metrics: metrics.clone(),
            audit: audit.clone(),
            replica,
        });
        let api = web::Data::new(ApiState {
            sessions,
            catalog,
            mcp,
            tools,
            tokens,
            audit: audit.clone(),
            memory,
            store,
            auth,
            metrics_access: config.auth.metrics,
            quota: RequestQuota::new(config.limits),
            server: config.server.clone(),
            day_budget: ArcSwap::from_pointee(config.budgets.user_day),
            fallback: config.llm.fallback.clone(),
            defaults: ArcSwap::from_pointee(defaults),
            metrics,
            mode: if overrides.demo { ServiceMode::Demo } else { ServiceMode::Serve },
            halt: CancellationToken::new(),
        });
        Ok(Self {
            listener,
            bound,
            api,
            audit,
            tasks,
            background,
            shutdown_timeout: config.server.shutdown_timeout,
            connections: config.limits.connections,
        })
    }

    /// Whether other machines can reach it.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        !self.bound.ip().is_loopback()
    }

    /// The port that it is bound to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.bound.port()
    }

    /// What the handlers reach; for tests and for what is printed at the start.
    #[must_use]
    pub fn api(&self) -> web::Data<ApiState> {
        self.api.clone()
    }

    /// Runs until `stop`, then stops in order: no new work, runs come to rest, streams and sockets are closed with a word,
    /// requests are answered, MCP servers are let go. The same when it cannot run at all.
    ///
    /// # Errors
    /// The server could not run.
    pub async fn run_until_stopped(self, stop: CancellationToken) -> anyhow::Result<()> {
        self.run(&Signals { stop, at_once: CancellationToken::new() }).await
    }

    /// Runs until the process is told to stop; when it is told so twice, it ends here.
    async fn run_until_signalled(self, signals: Signals) -> anyhow::Result<()> {
        let ended = self.run(&signals).await;
        if signals.at_once.is_cancelled() {
            std::process::exit(130);
        }
        ended
    }

    async fn run(self, signals: &Signals) -> anyhow::Result<()> {
        let Self { listener, api, audit, tasks, background, shutdown_timeout, connections, .. } = self;
        let in_order = async {
            let server_stops = CancellationToken::new();
            let mut server = tokio::spawn(serve_http(listener, api.clone(), connections, server_stops.clone()));
            let early = tokio::select! {
                () = signals.stop.cancelled() => None,
                ended = &mut server => Some(ended),
            };
            tracing::info!("stopping");
            api.sessions.stop(shutdown_timeout).await;
            api.halt.cancel();
            server_stops.cancel();
            let ended = match early {
                Some(ended) => ended,
                None => server.await,
            };
            api.memory.shutdown().await;
            api.sessions.close();
            audit.close().await;
            api.mcp.close().await;
            drop(background);
            tasks.close();
            if tokio::time::timeout(TASKS_LIMIT, tasks.wait()).await.is_err() {
                tracing::warn!("not all that runs in the background ended in time");
            }
            ended?
        };
        tokio::select! {
            biased;
            () = signals.at_once.cancelled() => {
                api.mcp.close_immediately().await;
                anyhow::bail!("stopped at once; what was in progress is recovered at the next start")
            }
            ended = in_order => ended,
        }
    }
}

/// Takes up what an earlier process left, and answers requests until `stops`.
async fn serve_http(
    listener: TcpListener,
    api: web::Data<ApiState>,
    connections: usize,
    stops: CancellationToken,
) -> anyhow::Result<()> {
    let recovered = api.sessions.recover().await?;
    if recovered > 0 {
        tracing::info!(sessions = recovered, "going on with what an earlier process left");
    }
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let server = HttpServer::new(move || {
        actix_web::App::new().wrap(from_fn(api::gate)).configure(|config| api::routes(config, &api))
    })
    .workers(workers)
    // Those beyond wait in the kernel's queue until one is closed.
    .max_connections(connections.div_ceil(workers))
    // Whoever has sent no whole head by then is closed, however steadily it drips; one that sends nothing, too.
    .client_request_timeout(HEAD_LIMIT)
    // A stream whose client is gone ends at once instead of at its next write.
    .h1_allow_half_closed(false)
    // A token is a small packet: with Nagle's algorithm it would wait for the acknowledgement of the one before, which
    // the other side may delay by 40 ms.
    .tcp_nodelay(true)
    .disable_signals()
    .shutdown_signal(stops.cancelled_owned())
    .shutdown_timeout(5)
    .listen(listener)?
    .run();
    Ok(server.await?)
}

/// What bounds a run, as configured.
fn run_limits(config: &AppConfig) -> k8sops_agent::RunLimits {
    k8sops_agent::RunLimits {
        max_steps: config.agent.max_steps,
        max_calls: config.agent.max_calls,
        max_time: config.agent.max_time,
        max_repeats: config.agent.max_repeats,
        retry: RetryPolicy::new(config.agent.max_attempts, config.agent.max_wait),
        budgets: config.budgets,
        context: k8sops_agent::ContextPolicy {
            threshold: config.context.context_threshold,
            max_tokens: config.context.max_context_tokens,
        },
        parallel_tools: config.agent.parallel_tools,
        approval_ttl: config.tools.approval_ttl,
    }
}

/// What there is room for, as configured.
fn capacity_limits(config: &AppConfig) -> Room {
    Room {
        sessions_per_user: config.sessions.max_sessions,
        runs: config.limits.runs,
        runs_per_user: config.limits.runs_per_user,
    }
}

/// Opens the configured store.
pub(crate) async fn open_store(
    store: &StoreOptions,
    redis: &RedisOptions,
) -> Result<Arc<dyn SessionStore>, StoreError> {
    Ok(match store.backend {
        StoreBackend::Memory => Arc::new(InMemoryStore::new(store.shallow)),
        StoreBackend::Filesystem => Arc::new(FilesystemStore::open(&store.path, store.shallow).await?),
        StoreBackend::Redis => Arc::new(RedisStore::new(&redis_config(store, redis)?)?),
    })
}

fn redis_config(store: &StoreOptions, redis: &RedisOptions) -> Result<RedisConfig, StoreError> {
    let read = |path: &PathBuf| {
        std::fs::read(path)
            .map_err(|error| StoreError::unavailable(format!("cannot read REDIS_CA_FILE {}", path.display()), error))
    };
    Ok(RedisConfig {
        urls: redis.url.clone(),
        topology: match redis.topology {
            RedisTopology::Single => RedisDeployment::Single,
            RedisTopology::Cluster => RedisDeployment::Cluster,
            RedisTopology::Sentinel => RedisDeployment::Sentinel(redis.sentinel_master.clone()),
        },
        ca: redis.ca_file.as_ref().map(read).transpose()?,
        prefix: redis.prefix.clone(),
        session_ttl: redis.session_ttl,
        shallow: store.shallow,
    })
}

/// Runs the service until the process is told to stop.
///
/// # Errors
/// It cannot start, or broke off.
pub async fn serve(loaded: LoadedConfig) -> anyhow::Result<()> {
    let config = &loaded.config;
    // Before anything is said: whoever reads it may stop the program at once.
    let signals = Signals::listen()?;
    let files = sockets::raise_file_limit();
    let mut app = Application::build(config).await?;
    if let Some(files) = files.filter(|files| sockets::connections_within(*files) < app.connections) {
        let fit = sockets::connections_within(files);
        tracing::warn!(
            "{files} open files are allowed (ulimit -Hn), into which {fit} connections fit: more wait, though \
             K8SOPS_MAX_CONNECTIONS allows {}",
            app.connections
        );
        app.connections = fit;
    }
    // Ends with this function.
    let _reloading = reload::reload_on_hangup(&loaded, app.api())?;
    let port = app.port();
    if app.is_exposed() && !app.api.auth.is_enabled() {
        eprintln!(
            "k8sops: warning: NOBODY IS AUTHENTICATED (AUTH_MODE=none, AUTH_ALLOW_INSECURE=true): anybody who can reach \
             {}:{port} can use your model, your tools and your clusters; set AUTH_MODE, or K8SOPS_HOST=127.0.0.1",
            config.server.host
        );
    }
    println!("k8sops listens on http://{}:{port}", config.server.host);
    if config.store.backend == StoreBackend::Memory {
        println!("Sessions are kept in memory: nothing survives the process (MEMORY_BACKEND=filesystem keeps them).");
    }
    if !app.api.catalog.is_configured(&config.llm.provider) {
        println!(
            "Provider {} has no key, so that runs will fail; `k8sops doctor` says what to do.",
            config.llm.provider
        );
    }
    if config.mcp.servers.is_empty() {
        println!("No MCP server is configured, so that the agent has no tools; `k8sops doctor` says what to do.");
    }
    let _reopening = config.audit.log.is_some().then(|| reopen_on_hangup(app.audit.clone())).transpose()?;
    app.run_until_signalled(signals).await
}

/// Has the audit trail go on in a new file whenever SIGHUP says that the old one was moved away.
fn reopen_on_hangup(audit: AuditTrail) -> std::io::Result<AbortOnDropHandle<()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            audit.reopen().await;
        }
    })))
}

/// What compares memories by meaning, where one is configured.
fn embedder(config: &AppConfig) -> anyhow::Result<Option<Arc<dyn EmbeddingModel>>> {
    let Some(chosen) = &config.long_term.embeddings else { return Ok(None) };
    let Some(provider) = config.providers.get(&chosen.provider) else {
        anyhow::bail!("EMBEDDING_PROVIDER is {}, and there is no such provider", chosen.provider)
    };
    let embedder = ProviderEmbedder::new(&chosen.provider, provider, &chosen.model, chosen.dimensions)?;
    Ok(Some(Arc::new(embedder)))
}

/// Where the demo listens; absent: as the environment says, or by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DemoOptions {
    /// The address.
    pub host: Option<String>,
    /// The port; 0 takes a free one.
    pub port: Option<u16>,
}

/// Runs the demo until the process is told to stop. The environment has no say in it but where it listens: it needs
/// nothing, and keeps nothing.
///
/// # Errors
/// It cannot start, or broke off.
pub async fn serve_demo(options: DemoOptions) -> anyhow::Result<()> {
    // The folder is not used; without a name for it the home folder would have to be known.
    let env = [("MEMORY_BACKEND", "memory"), ("MEMORY_FILESYSTEM_PATH", ".")];
    let mut env = BTreeMap::from(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // What the command line says must not fail for what it replaces.
    let left_open = [("K8SOPS_HOST", options.host.is_none()), ("K8SOPS_PORT", options.port.is_none())];
    for (name, _) in left_open.into_iter().filter(|(_, open)| *open) {
        env.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
    }
    let mut config = AppConfig::load(SettingSources { env, ..SettingSources::default() })?.config;
    config.server.host = options.host.unwrap_or(config.server.host);
    config.server.port = options.port.unwrap_or(config.server.port);
    config.log.level = "warn".into();
    let _exporter = logs::install_subscriber(&config.log, None)?;
    let host = config.server.host.clone();
    let signals = Signals::listen()?;
    let app = Application::build_demo(&config).await?;
    let url = format!("http://{host}:{}", app.port());
    println!("{}\n", api::DEMO_NOTICE);
    println!("k8sops demo listens on {url}  (its API as pages: {url}/docs)");
    println!("Try, in another terminal:\n");
    println!("  k8sops chat --url {url}\n");
    println!("  id=$(curl -s -XPOST {url}/v1/sessions | grep -o '\"session_id\":\"[^\"]*' | cut -d'\"' -f4)");
    println!(
        "  curl -N -H 'accept: text/event-stream' -d '{{\"content\": \"what is broken?\"}}' {url}/v1/sessions/$id/messages\n"
    );
    app.run_until_signalled(signals).await
}

/// What the process is told by SIGTERM and SIGINT.
struct Signals {
    /// Cancelled by the first: stop in order.
    stop: CancellationToken,
    /// Cancelled by the second: stop at once, but leave nothing behind that would run on without this process.
    at_once: CancellationToken,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let signals = Self { stop: CancellationToken::new(), at_once: CancellationToken::new() };
        let (stop, at_once) = (signals.stop.clone(), signals.at_once.clone());
        tokio::spawn(async move {
            let mut told = async || {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            told().await;
            stop.cancel();
            told().await;
            at_once.cancel();
            let _ = tokio::time::timeout(KILL_LIMIT, told()).await;
            std::process::exit(130);
        });
        Ok(signals)
    }
}
