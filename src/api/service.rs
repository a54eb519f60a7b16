//! `/v1/info`, the health probes and the metrics.

use actix_web::{FromRequest as _, HttpRequest, HttpResponse, get, web};
use k8sops_core::{ApprovalAudience, UserId};
use k8sops_tools::ApprovalBy;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    attachments::MAX_ATTACHMENTS,
    caller::{Caller, CanAdminister},
    error_responses::document_errors,
    problem::ProblemDetails,
    problem_code::ProblemCode,
    state::{ApiState, ServiceMode},
};
use crate::auth::{MetricsAccess, UserRole};

document_errors!(ReadinessErrors: StoreUnavailable, Stopping);

/// Information about the service. It contains no secrets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Info)]
pub(super) struct ServiceInfo {
    /// The name of the service, `k8sops`.
    name: &'static str,
    /// The version of the service.
    version: &'static str,
    /// The id of the process that answered, as in the leases of sessions. It changes with every start.
    replica: String,
    /// Whether this is the service or the demo.
    mode: ServiceMode,
    /// Whether a language model replies. It is false in the demo.
    language_model: bool,
    /// The caller.
    user_id: UserId,
    /// The caller's roles.
    roles: Vec<UserRole>,
    /// Who answers approvals: the user of the session (`owner`), or another user (`approver`).
    approvals_by: ApprovalAudience,
    /// A notice for users. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<&'static str>,
    /// Where sessions are stored.
    store: StoreInfo,
    /// The MCP servers.
    mcp_servers: Vec<McpServerInfo>,
    /// Whether all configured MCP servers are connected.
    mcp_connected: bool,
    /// The provider of a new session.
    default_provider: String,
    /// The model of a new session.
    default_model: String,
    /// Whether long-term memory is enabled.
    long_term_memory: bool,
    /// The limits of requests.
    limits: RequestLimits,
    /// The protocols in which clients may connect: the names in `K8SOPS_DOORS`.
    doors: Vec<&'static str>,
}

/// Where sessions are stored.
#[derive(Debug, Serialize, ToSchema)]
struct StoreInfo {
    /// `memory`, `filesystem` or `redis`.
    backend: &'static str,
    /// Whether sessions survive a restart.
    durable: bool,
}

/// The state of an MCP server.
#[derive(Debug, Serialize, ToSchema)]
struct McpServerInfo {
    /// The name of the server in the configuration.
    name: String,
    /// `stdio`, `http` or `in-process`.
    transport: &'static str,
    /// Whether tools of the server can be called at the moment.
    connected: bool,
    /// `starting` until the first attempt to connect has ended, then `connected` or `disconnected`.
    status: &'static str,
    /// Why the server is not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The number of tools.
    tools: usize,
}

/// The limits of requests.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Limits)]
struct RequestLimits {
    /// The maximum size of a message, in bytes.
    max_message_bytes: usize,
    /// The maximum size of the attachments of a message together, in bytes.
    max_attachment_bytes: usize,
    /// The maximum number of attachments of a message.
    max_attachments: usize,
    /// The maximum size of a body or WebSocket frame, in bytes.
    max_frame_bytes: usize,
}

/// The notice of the demo.
pub const DEMO_NOTICE: &str = "This is the demo: it has no language model and no cluster. A rule-based stand-in picks tools \
    by the words of a message and reports what they return from a small simulated cluster.";

/// Returns information about the service.
#[utoipa::path(
    operation_id = "get_info", tag = "service",
    responses((status = 200, description = "The information", body = ServiceInfo))
)]
#[get("/info")]
pub(super) async fn get_info(state: web::Data<ApiState>, caller: Caller) -> web::Json<ServiceInfo> {
    let mcp_servers = state.mcp.statuses().into_iter().map(|s| McpServerInfo {
        name: s.name.clone(),
        transport: s.transport,
        connected: s.connected,
        status: match (s.connected, s.starting) {
            (true, _) => "connected",
            (false, true) => "starting",
            (false, false) => "disconnected",
        },
        error: s.error.clone(),
        tools: s.tools.len(),
    });
    let backend = state.store.backend_name();
    web::Json(ServiceInfo {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        replica: state.sessions.replica_name().to_owned(),
        mode: state.mode,
        language_model: state.mode == ServiceMode::Serve,
        roles: caller.identity.roles.iter().collect(),
        user_id: caller.user,
        approvals_by: match state.sessions.approval_by() {
            ApprovalBy::Owner => ApprovalAudience::Owner,
            ApprovalBy::Approver => ApprovalAudience::Approver,
        },
        notice: (state.mode == ServiceMode::Demo).then_some(DEMO_NOTICE),
        store: StoreInfo { backend, durable: backend != "memory" },
        mcp_servers: mcp_servers.collect(),
        mcp_connected: state.mcp.all_connected(),
        default_provider: state.default_settings.load().provider.clone(),
        default_model: state.default_settings.load().model.clone(),
        long_term_memory: state.sessions.has_long_term_memory(),
        limits: RequestLimits {
            max_message_bytes: state.server.max_message_bytes,
            max_attachment_bytes: state.server.max_attachment_bytes,
            max_attachments: MAX_ATTACHMENTS,
            max_frame_bytes: state.server.max_frame_bytes,
        },
        doors: state.server.doors.names(),
    })
}

/// The result of a probe.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct HealthStatus {
    /// `ok`.
    status: &'static str,
}

/// Liveness probe: the process responds.
#[utoipa::path(
    operation_id = "healthz", tag = "service",
    responses((status = 200, description = "The process is alive", body = HealthStatus))
)]
#[get("/healthz")]
pub(super) async fn healthz() -> web::Json<HealthStatus> {
    web::Json(HealthStatus { status: "ok" })
}

/// Readiness probe: the store responds and the service is not shutting down. Unavailable MCP servers do not affect it.
#[utoipa::path(
    operation_id = "readyz", tag = "service",
    responses((status = 200, description = "The service accepts requests", body = HealthStatus), ReadinessErrors)
)]
#[get("/readyz")]
pub(super) async fn readyz(state: web::Data<ApiState>) -> Result<web::Json<HealthStatus>, ProblemDetails> {
    if state.sessions.is_stopping() {
        return Err(ProblemDetails::new(
            ProblemCode::Stopping,
            "the service is shutting down; use another replica or retry later",
        ));
    }
    state.store.ping().await?;
    Ok(web::Json(HealthStatus { status: "ok" }))
}

/// Returns the metrics in Prometheus format.
#[utoipa::path(
    operation_id = "metrics", tag = "service",
    responses((status = 200, description = "The Prometheus text format", body = String, content_type = "text/plain"))
)]
#[get("/metrics")]
pub(super) async fn get_metrics(
    state: web::Data<ApiState>,
    request: HttpRequest,
) -> Result<HttpResponse, ProblemDetails> {
    if state.metrics_access == MetricsAccess::Admin {
        Caller::<CanAdminister>::extract(&request).await?;
    }
    state.metrics.set_open_circuits(&state.catalog.open_circuits());
    let servers = state.mcp.statuses();
    state.metrics.set_mcp_connections(servers.iter().map(|server| (&*server.name, server.connected)));
    state.metrics.set_replica_load(state.sessions.owned_count(), state.sessions.alive_task_count());
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(state.metrics.render()))
}
