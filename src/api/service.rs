//! `/v1/info`, the probes and the metrics.

use actix_web::{FromRequest as _, HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState, ProblemCode, ProblemDetails, extract::Caller, identity::CanAdminister, problem::document_errors,
};
use crate::auth::MetricsAccess;

document_errors!(NotReady: StoreUnavailable, Stopping);

/// How the service was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Mode)]
pub enum ServiceMode {
    /// The real service.
    Serve,
    /// A rule-based stand-in for the model and a simulated cluster.
    Demo,
}

/// Facts about the service. No secrets.
#[derive(Debug, Serialize, ToSchema)]
pub struct Info {
    /// `k8sops`.
    name: &'static str,
    /// Its version.
    version: &'static str,
    /// The process that answered, by its name in the leases of sessions; another after every start.
    replica: String,
    /// `serve` or `demo`.
    mode: ServiceMode,
    /// Whether a language model answers. False in the demo.
    language_model: bool,
    /// What a user should know before anything else; absent when there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<&'static str>,
    /// Where sessions are kept.
    store: StoreInfo,
    /// The MCP servers.
    mcp_servers: Vec<McpServerInfo>,
    /// Every configured MCP server is connected.
    mcp_connected: bool,
    /// The provider of a new session.
    default_provider: String,
    /// The model of a new session.
    default_model: String,
    /// Whether facts and incidents are remembered beyond a session.
    long_term_memory: bool,
    /// What requests are bounded by.
    limits: Limits,
}

/// Where sessions are kept.
#[derive(Debug, Serialize, ToSchema)]
struct StoreInfo {
    /// `memory` or `filesystem`.
    backend: &'static str,
    /// Whether sessions survive the process.
    durable: bool,
}

/// An MCP server as it stands.
#[derive(Debug, Serialize, ToSchema)]
struct McpServerInfo {
    /// Its name in the configuration.
    name: String,
    /// `stdio`, `http` or `in-process`.
    transport: &'static str,
    /// Whether calls can be made now.
    connected: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// How many tools it has.
    tools: usize,
}

/// What requests are bounded by.
#[derive(Debug, Serialize, ToSchema)]
struct Limits {
    /// The largest message, in bytes.
    max_message_bytes: usize,
    /// The largest body and WebSocket frame, in bytes.
    max_frame_bytes: usize,
}

/// What the demo says of itself.
pub const DEMO_NOTICE: &str = "This is the demo: there is no language model in it, and no cluster. A rule-based stand-in \
    picks tools by the words of a message and reports what they return, over a small simulated cluster.";

/// Facts about the service.
#[utoipa::path(
    operation_id = "get_info", tag = "service",
    responses((status = 200, description = "The facts", body = Info))
)]
#[get("/info")]
pub(super) async fn info(api: web::Data<ApiState>, _caller: Caller) -> web::Json<Info> {
    let mcp_servers = api.mcp.statuses().into_iter().map(|s| McpServerInfo {
        name: s.name.clone(),
        transport: s.transport,
        connected: s.connected,
        error: s.error.clone(),
        tools: s.tools.len(),
    });
    let backend = api.store.backend_name();
    web::Json(Info {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        replica: api.sessions.replica().to_owned(),
        mode: api.mode,
        language_model: api.mode == ServiceMode::Serve,
        notice: (api.mode == ServiceMode::Demo).then_some(DEMO_NOTICE),
        store: StoreInfo { backend, durable: backend != "memory" },
        mcp_servers: mcp_servers.collect(),
        mcp_connected: api.mcp.all_connected(),
        default_provider: api.defaults.load().provider.clone(),
        default_model: api.defaults.load().model.clone(),
        long_term_memory: api.sessions.remembers(),
        limits: Limits { max_message_bytes: api.server.max_message_bytes, max_frame_bytes: api.server.max_frame_bytes },
    })
}

/// What a probe says.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    status: &'static str,
}

/// Liveness: the process answers.
#[utoipa::path(
    operation_id = "healthz", tag = "service",
    responses((status = 200, description = "It is alive", body = Health))
)]
#[get("/healthz")]
pub(super) async fn healthz() -> web::Json<Health> {
    web::Json(Health { status: "ok" })
}

/// Readiness: the store answers, and the service is not stopping. An MCP server that is down does not make it unready.
#[utoipa::path(
    operation_id = "readyz", tag = "service",
    responses((status = 200, description = "It takes requests", body = Health), NotReady)
)]
#[get("/readyz")]
pub(super) async fn readyz(api: web::Data<ApiState>) -> Result<web::Json<Health>, ProblemDetails> {
    if api.sessions.is_stopping() {
        return Err(ProblemDetails::new(
            ProblemCode::Stopping,
            "the service is stopping; send requests to another replica, or try again in a moment",
        ));
    }
    api.store.ping().await?;
    Ok(web::Json(Health { status: "ok" }))
}

/// Prometheus metrics.
#[utoipa::path(
    operation_id = "metrics", tag = "service",
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain"))
)]
#[get("/metrics")]
pub(super) async fn metrics(api: web::Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, ProblemDetails> {
    if api.metrics_access == MetricsAccess::Admin {
        Caller::<CanAdminister>::extract(&request).await?;
    }
    api.metrics.set_open_circuits(&api.catalog.open_circuits());
    let servers = api.mcp.statuses();
    api.metrics.set_mcp_connections(servers.iter().map(|server| (&*server.name, server.connected)));
    api.metrics.set_replica_load(api.sessions.owned(), api.sessions.tasks_alive());
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(api.metrics.render()))
}
