//! `k8sops serve`.

use k8sops_models::tokens;
use k8sops_store::StoreBackend;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use super::{
    application::Application, process_memory::return_freed_memory, reload::reload_on_hangup, signals::ShutdownSignals,
    sockets,
};
use crate::{
    audit::AuditTrail,
    config::{AppConfig, LoadedConfig},
};

/// Runs the service until the process is told to stop.
///
/// # Errors
/// The service cannot start, or failed.
pub async fn serve(loaded: LoadedConfig) -> anyhow::Result<()> {
    let config = &loaded.config;
    // Before anything is printed: a reader of the output may stop the program right away.
    let signals = ShutdownSignals::listen()?;
    let file_limit = sockets::raise_file_limit();
    let mut app = Application::build(config).await?;
    if let Some(max_files) = file_limit
        && sockets::max_connections_for(max_files) < app.max_connections
    {
        let max_connections = sockets::max_connections_for(max_files);
        tracing::warn!(
            open_file_limit = max_files,
            max_connections,
            configured = app.max_connections,
            "K8SOPS_MAX_CONNECTIONS exceeds the open file limit (ulimit -Hn), using a lower limit"
        );
        app.max_connections = max_connections;
    }
    // The tasks end with this function.
    let _reloading = reload_on_hangup(&loaded, app.state())?;
    print_startup(&app, config);
    let _reopening = config.audit.log.is_some().then(|| reopen_on_hangup(app.audit.clone())).transpose()?;
    // The first message would wait for that. It is done when the port is open, because it takes longer than the start.
    drop(tokio::task::spawn_blocking(tokens::unpack_vocabulary));
    let _returning = return_freed_memory();
    app.run_until_signaled(signals).await
}

/// Prints the address, and what an operator should know about the configuration.
fn print_startup(app: &Application, config: &AppConfig) {
    let host = &config.server.host;
    let port = app.port();
    if app.is_exposed() && !app.state.authenticator.is_enabled() {
        eprintln!(
            "k8sops: warning: AUTHENTICATION IS OFF (AUTH_MODE=none, AUTH_ALLOW_INSECURE=true): everyone who can reach \
             {host}:{port} can use your model, your tools and your clusters; set AUTH_MODE, or K8SOPS_HOST=127.0.0.1",
        );
    }
    println!("k8sops listens on http://{host}:{port}");
    if config.store.backend == StoreBackend::Memory {
        println!("Sessions are stored in memory and lost at exit (MEMORY_BACKEND=filesystem keeps them).");
    }
    if !app.state.catalog.is_configured(&config.llm.provider) {
        println!("Provider {} has no API key, so runs will fail; `k8sops doctor` has advice.", config.llm.provider);
    }
    if config.mcp.servers.is_empty() {
        println!("No MCP server is configured, so the agent has no tools; `k8sops doctor` has advice.");
    }
}

/// Reopens the audit trail at SIGHUP, by which log rotation reports that the old file was moved away.
fn reopen_on_hangup(audit: AuditTrail) -> std::io::Result<AbortOnDropHandle<()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            audit.reopen().await;
        }
    })))
}
