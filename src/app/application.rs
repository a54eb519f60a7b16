//! The service as a value: built and bound to a port, then run until it is told to stop.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_web::web;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{http_server::serve_http, signals::ShutdownSignals};
use crate::{api::ApiState, audit::AuditTrail};

/// How long background tasks may take to end after the MCP servers are closed. They only send farewells to servers, for which
/// nothing waits.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(2);

/// The service, built and bound to a port but not running yet.
pub struct Application {
    pub(super) listener: TcpListener,
    pub(super) bound: SocketAddr,
    pub(super) state: web::Data<ApiState>,
    pub(super) audit: AuditTrail,
    pub(super) tasks: TaskTracker,
    /// Cancels the tasks outside of sessions, such as the supervisors of MCP servers, when it is dropped.
    pub(super) background: DropGuard,
    pub(super) shutdown_timeout: Duration,
    /// The maximum number of concurrent connections.
    pub(super) max_connections: usize,
}

impl Application {
    /// Whether other machines can reach the service.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        !self.bound.ip().is_loopback()
    }

    /// Returns the port that the service is bound to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.bound.port()
    }

    /// Returns the state that the handlers share.
    #[must_use]
    pub fn state(&self) -> web::Data<ApiState> {
        self.state.clone()
    }

    /// Runs until `stop`, then shuts down gracefully: rejects new work, lets runs reach a safe point, closes streams, answers
    /// open requests, and closes the MCP servers. A service that fails to run is shut down in the same way.
    ///
    /// # Errors
    /// The server cannot run.
    pub async fn run_until_stopped(self, stop: CancellationToken) -> anyhow::Result<()> {
        self.run(&ShutdownSignals { stop, stop_now: CancellationToken::new() }).await
    }

    /// Runs until the process gets a signal to stop. Exits the process at the second signal.
    pub(super) async fn run_until_signaled(self, signals: ShutdownSignals) -> anyhow::Result<()> {
        let ended = self.run(&signals).await;
        if signals.stop_now.is_cancelled() {
            std::process::exit(130);
        }
        ended
    }

    async fn run(self, signals: &ShutdownSignals) -> anyhow::Result<()> {
        let Self { listener, state, audit, tasks, background, shutdown_timeout, max_connections, .. } = self;
        let graceful = async {
            let server_stop = CancellationToken::new();
            let mut server = tokio::spawn(serve_http(listener, state.clone(), max_connections, server_stop.clone()));
            let failed = tokio::select! {
                () = signals.stop.cancelled() => None,
                ended = &mut server => Some(ended),
            };
            tracing::info!("shutting down");
            state.sessions.shutdown(shutdown_timeout).await;
            state.shutdown.cancel();
            server_stop.cancel();
            let ended = match failed {
                Some(ended) => ended,
                None => server.await,
            };
            state.notifier.shutdown().await;
            state.memory.shutdown().await;
            state.sessions.close().await;
            audit.close().await;
            state.mcp.close().await;
            drop(background);
            tasks.close();
            if tokio::time::timeout(BACKGROUND_TIMEOUT, tasks.wait()).await.is_err() {
                tracing::warn!(timeout = ?BACKGROUND_TIMEOUT, "background tasks still running at exit");
            }
            ended?
        };
        tokio::select! {
            biased;
            () = signals.stop_now.cancelled() => {
                state.mcp.close_immediately().await;
                anyhow::bail!("stopped immediately; work in progress is recovered at the next start")
            }
            ended = graceful => ended,
        }
    }
}
