//! The one place that knows all parts: builds them from the configuration, runs until told to stop, stops in order.

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{HttpServer, middleware::from_fn, web};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agent::{self, system_prompt},
    api::{self, Api, Mode},
    config::{Backend, Config},
    demo,
    mcp::{Connector, InProcessConnector, McpHub, connector_for},
    models::{Catalog, RetryPolicy},
    runtime::{Parts, Sessions},
    session::{SessionStore, Settings},
    store::{FilesystemStore, MemoryStore},
    telemetry::Metrics,
    tools::ToolCatalog,
};

/// The service, built and bound to a port, not yet running.
pub struct App {
    listener: TcpListener,
    api: web::Data<Api>,
    tasks: TaskTracker,
    /// Ends what runs beside the sessions: the supervisors of the MCP servers.
    background: CancellationToken,
    shutdown_timeout: Duration,
}

/// What is put in place of the configured parts.
#[derive(Default)]
pub struct Overrides {
    /// A catalog with models of the caller's own: for the demo and for tests.
    pub catalog: Option<Catalog>,
    /// More MCP servers than the configured ones.
    pub servers: Vec<(String, Arc<dyn Connector>)>,
    /// Whether this is the demo.
    pub demo: bool,
}

impl App {
    /// Builds the service as configured.
    ///
    /// # Errors
    /// What cannot be had: the port, the store.
    pub async fn build(config: &Config) -> anyhow::Result<Self> {
        Self::build_with(config, Overrides::default()).await
    }

    /// Builds the demo: a rule-based stand-in for the model, an in-process MCP server over a simulated cluster. All that is
    /// between them is the real thing.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub async fn build_demo(config: &Config) -> anyhow::Result<Self> {
        let cluster = Arc::new(demo::Cluster::new());
        let connector = InProcessConnector::new(move || demo::connect(cluster.clone()));
        let mut catalog = Catalog::new(&std::collections::BTreeMap::new());
        catalog.insert(demo::provider_info(), Arc::new(demo::RuleModel::default()));
        let overrides = Overrides {
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
    pub async fn build_with(config: &Config, overrides: Overrides) -> anyhow::Result<Self> {
        let address = format!("{}:{}", config.server.host, config.server.port);
        let listener = TcpListener::bind(&address).map_err(|error| {
            anyhow::anyhow!("cannot listen on {address}: {error}; choose another with K8SOPS_HOST and K8SOPS_PORT")
        })?;
        let store: Arc<dyn SessionStore> = match config.memory.backend {
            Backend::Memory => Arc::new(MemoryStore::new(config.memory.shallow)),
            Backend::Filesystem => Arc::new(FilesystemStore::open(&config.memory.path, config.memory.shallow).await?),
        };
        let tasks = TaskTracker::new();
        let background = CancellationToken::new();
        let mut servers: Vec<(String, Arc<dyn Connector>)> = Vec::new();
        for server in &config.mcp.servers {
            servers.push((server.name.clone(), connector_for(&server.transport)?));
        }
        servers.extend(overrides.servers);
        let mcp = McpHub::start(servers, &config.mcp, &tasks, background.child_token());
        let tools = Arc::new(ToolCatalog::new(mcp.clone(), &config.tools, config.mcp.call_timeout));
        let catalog = Arc::new(match overrides.catalog {
            Some(catalog) => catalog,
            None => Catalog::new(&config.providers),
        });
        let defaults = if overrides.demo { demo::settings() } else { Settings::from(&config.llm) };
        let metrics = Arc::new(Metrics::new());
        let sessions = Sessions::new(Parts {
            store: store.clone(),
            catalog: catalog.clone(),
            tools: tools.clone(),
            system: system_prompt(&config.agent.instructions),
            limits: agent::Limits {
                max_steps: config.agent.max_steps,
                retry: RetryPolicy::new(config.agent.max_attempts),
                parallel_tools: config.agent.parallel_tools,
                approval_ttl: config.tools.approval_ttl,
            },
            max_sessions: config.memory.max_sessions,
            metrics: metrics.clone(),
        });
        let api = web::Data::new(Api {
            sessions,
            catalog,
            mcp,
            tools,
            store,
            user: config.memory.user_id.clone(),
            server: config.server.clone(),
            defaults,
            metrics,
            mode: if overrides.demo { Mode::Demo } else { Mode::Serve },
            halt: CancellationToken::new(),
        });
        Ok(Self { listener, api, tasks, background, shutdown_timeout: config.server.shutdown_timeout })
    }

    /// The port that it is bound to.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn port(&self) -> std::io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// What the handlers reach; for tests and for what is printed at the start.
    #[must_use]
    pub fn api(&self) -> web::Data<Api> {
        self.api.clone()
    }

    /// Runs until `stop`, then stops in order: no new work, runs come to rest, streams and sockets are closed with a word,
    /// requests are answered, MCP servers are let go.
    ///
    /// # Errors
    /// The server could not run.
    pub async fn run_until_stopped(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, api, tasks, background, shutdown_timeout } = self;
        let recovered = api.sessions.recover().await?;
        if recovered > 0 {
            tracing::info!(sessions = recovered, "going on with what an earlier process left");
        }
        let data = api.clone();
        let server_stops = CancellationToken::new();
        let server = HttpServer::new(move || {
            actix_web::App::new().wrap(from_fn(api::gate)).configure(|config| api::routes(config, &data))
        })
        // A stream whose client is gone ends at once instead of at its next write.
        .h1_allow_half_closed(false)
        .disable_signals()
        .shutdown_signal(server_stops.clone().cancelled_owned())
        .shutdown_timeout(5)
        .listen(listener)?
        .run();
        let mut server = tokio::spawn(server);
        let early = tokio::select! {
            () = stop.cancelled() => None,
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
        background.cancel();
        api.mcp.close().await;
        tasks.close();
        tasks.wait().await;
        Ok(ended??)
    }
}
