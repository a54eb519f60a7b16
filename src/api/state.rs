//! The state that all handlers share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use k8sops_agent::{SpendingLimit, memory::LongTermMemory};
use k8sops_core::{SessionSettings, SessionStatus, SessionStore, SessionSummary};
use k8sops_mcp::McpHub;
use k8sops_models::{ModelCatalog, ModelChoice};
use k8sops_telemetry::Metrics;
use k8sops_tools::{ToolCatalog, UserTokens};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{log_throttle::LogThrottle, options::ServerOptions, quota::RequestQuota};
use crate::{
    audit::AuditTrail,
    auth::{Authenticator, MetricsAccess, TicketOffice},
    notifier::Notifier,
    runtime::Sessions,
};

/// Everything that handlers use.
pub struct ApiState {
    /// The sessions of this replica and, through the store, of all others.
    pub sessions: Sessions,
    /// The providers and models.
    pub catalog: Arc<ModelCatalog>,
    /// The connections to MCP servers.
    pub mcp: Arc<McpHub>,
    /// The tools of the MCP servers.
    pub tools: Arc<ToolCatalog>,
    /// The users' own tokens, for MCP servers that are called with them.
    pub user_tokens: UserTokens,
    /// The audit trail, for actions outside of sessions.
    pub audit: AuditTrail,
    /// The long-term memories of all users.
    pub memory: Arc<LongTermMemory>,
    /// The store, for the readiness probe and usage reports.
    pub store: Arc<dyn SessionStore>,
    /// Authenticates callers.
    pub authenticator: Authenticator,
    /// Issues and accepts single-use tickets.
    pub tickets: TicketOffice,
    /// Who may read the metrics.
    pub metrics_access: MetricsAccess,
    /// Limits of requests and streams, per user and in total.
    pub quota: RequestQuota,
    /// Limits of a single request, and the accepted origins.
    pub server: ServerOptions,
    /// What a user may spend per day. Replaced by a config reload.
    pub day_budget: ArcSwap<SpendingLimit>,
    /// The models that are tried when a session's own model is unavailable.
    pub fallback: Vec<ModelChoice>,
    /// The settings of a new session. Replaced by a config reload.
    pub default_settings: ArcSwap<SessionSettings>,
    /// Push notifications.
    pub notifier: Notifier,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Whether this is the service or the demo.
    pub mode: ServiceMode,
    /// Throttles what is logged about clients that flood a WebSocket.
    pub flood_log: LogThrottle,
    /// Ends all streams when it is cancelled.
    pub shutdown: CancellationToken,
}

impl ApiState {
    /// Returns whether a session is able to work, and whether it is working.
    #[must_use]
    pub fn session_status(&self, summary: &SessionSummary) -> SessionStatus {
        SessionStatus {
            mcp_connected: self.mcp.all_connected(),
            agent_ready: self.catalog.is_configured(&summary.settings.provider),
            is_processing: summary.is_processing(),
        }
    }
}

/// How the service was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Mode)]
pub enum ServiceMode {
    /// The service, started by `k8sops serve`.
    Serve,
    /// The demo: a simulated cluster, and rules in place of a language model.
    Demo,
}
