//! `k8sops demo`: the service with a simulated cluster, and rules in place of a language model.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use k8sops_mcp::InProcessConnector;
use k8sops_models::ModelCatalog;
use k8sops_store::StoreBackend;
use k8sops_telemetry::logs;

use super::{application::Application, build::BuildOverrides, signals::ShutdownSignals};
use crate::{
    api,
    config::{AppConfig, SettingSources},
    demo,
};

/// Where the demo listens. Absent values are taken from the environment, or are the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DemoOptions {
    /// The address.
    pub host: Option<String>,
    /// The port. 0 uses a free port.
    pub port: Option<u16>,
    /// The folder that keeps the sessions. Without one they are in memory.
    pub data: Option<PathBuf>,
}

/// Runs the demo until the process is told to stop. It stores nothing unless `data` is set, and the environment only affects where
/// it listens and which web pages may call it.
///
/// # Errors
/// The demo cannot start, or failed.
pub async fn serve_demo(options: DemoOptions) -> anyhow::Result<()> {
    let env = [
        ("MEMORY_BACKEND", "memory"),
        // The path is unused. Without it, the home folder would have to be known.
        ("MEMORY_FILESYSTEM_PATH", "."),
        // The rules search for no tools, so all of them are sent.
        ("K8SOPS_SERVER_TOOL_SCHEMA_TOKENS", "10000"),
    ];
    let mut env = BTreeMap::from(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // A variable is not read if an option replaces it, so that an invalid value is no error.
    let from_environment = [
        ("K8SOPS_HOST", options.host.is_none()),
        ("K8SOPS_PORT", options.port.is_none()),
        ("K8SOPS_CORS_ORIGINS", true),
    ];
    for (name, _) in from_environment.into_iter().filter(|(_, is_read)| *is_read) {
        env.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
    }
    let mut config = AppConfig::load(SettingSources { env, ..SettingSources::default() })?.config;
    config.server.host = options.host.unwrap_or(config.server.host);
    config.server.port = options.port.unwrap_or(config.server.port);
    if let Some(folder) = options.data {
        config.store.backend = StoreBackend::Filesystem;
        config.store.path = folder;
    }
    config.log.level = "warn".into();
    let _exporter = logs::install_subscriber(&config.log, None)?;
    let signals = ShutdownSignals::listen()?;
    let app = Application::build_demo(&config).await?;
    print_instructions(&format!("http://{}:{}", config.server.host, app.port()));
    app.run_until_signaled(signals).await
}

fn print_instructions(url: &str) {
    println!("{}\n", api::DEMO_NOTICE);
    println!("k8sops demo listens on {url}  (API pages: {url}/docs)\n");
    println!("Open {url}/ in a browser, or try this in another terminal:\n");
    let program = own_command();
    println!("  {program} ask --url {url} \"what is broken?\"");
    println!("  {program} chat --url {url}\n");
    println!("or without k8sops:\n");
    println!("  id=$(curl -s -XPOST {url}/v1/sessions | grep -o '\"session_id\":\"[^\"]*' | cut -d'\"' -f4)");
    println!(
        "  curl -N -H 'accept: text/event-stream' -d '{{\"content\": \"what is broken?\"}}' {url}/v1/sessions/$id/messages\n"
    );
}

/// Returns the program as the user has called it, so that the lines work from where the user is.
fn own_command() -> String {
    let name = std::env::args().next().filter(|name| !name.is_empty()).unwrap_or_else(|| "k8sops".to_owned());
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    if is_plain { name } else { format!("'{}'", name.replace('\'', "'\\''")) }
}

impl Application {
    /// Builds the demo: the real service with a rule-based stand-in for the model and an in-process MCP server of a simulated
    /// cluster.
    ///
    /// # Errors
    /// As for [`Self::build`].
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
}
