//! The edge: HTTP, SSE and WebSocket. Thin: it turns a request into a command or a look, an event into a frame, an error
//! into a problem document. What is decided is decided elsewhere.
//!
//! One file per resource, in the order of the URLs; [`routes`] has them all.

mod approvals;
mod asyncapi;
mod body;
mod catalog;
mod docs;
mod events;
mod examples;
mod extract;
mod identity;
mod inputs;
mod memories;
mod messages;
mod options;
mod origin;
mod problem;
mod quota;
mod service;
mod sessions;
mod settings;
mod stream;
mod tool_calls;
mod usage;
mod ws;

use std::{sync::Arc, time::Instant};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::HeaderName,
    middleware::Next,
    web,
};
use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use asyncapi::asyncapi_yaml;
pub use docs::openapi_json;
pub use options::{LimitOptions, ServerOptions};
pub use problem::{ProblemCode, ProblemDetails};
pub use quota::RequestQuota;
pub use service::{DEMO_NOTICE, ServiceMode};
#[cfg(fuzzing)]
pub use ws::fuzzing::check_client_frame;

use crate::{
    audit::AuditTrail,
    auth::{Authenticator, MetricsAccess},
    runtime::Sessions,
};
use k8sops_agent::{SpendingLimit, memory::LongTermMemory};
use k8sops_core::{SessionSettings, SessionStatus, SessionStore, SessionSummary};
use k8sops_mcp::McpHub;
use k8sops_models::{ModelCatalog, ModelChoice};
use k8sops_telemetry::{Metrics, request_id, spans, trace_context};
use k8sops_tools::{ToolCatalog, UserTokens};

/// What the handlers reach.
pub struct ApiState {
    /// The sessions.
    pub sessions: Sessions,
    /// The providers and models.
    pub catalog: Arc<ModelCatalog>,
    /// The MCP servers.
    pub mcp: Arc<McpHub>,
    /// Their tools.
    pub tools: Arc<ToolCatalog>,
    /// What users bring for MCP servers that are called with their own tokens.
    pub tokens: UserTokens,
    /// The audit trail, for what happens in no session.
    pub audit: AuditTrail,
    /// What is remembered of users.
    pub memory: Arc<LongTermMemory>,
    /// For the readiness probe.
    pub store: Arc<dyn SessionStore>,
    /// Who callers are.
    pub auth: Authenticator,
    /// Who may read the metrics.
    pub metrics_access: MetricsAccess,
    /// What a user, and all together, may ask for.
    pub quota: RequestQuota,
    /// Limits of requests.
    pub server: ServerOptions,
    /// What a user may use on a day; replaced when the configuration is read anew.
    pub day_budget: ArcSwap<SpendingLimit>,
    /// Who is asked while a session's own model is down.
    pub fallback: Vec<ModelChoice>,
    /// Settings of a new session; replaced when the configuration is read anew.
    pub defaults: ArcSwap<SessionSettings>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// `serve` or `demo`.
    pub mode: ServiceMode,
    /// Streams end when this is cancelled.
    pub halt: CancellationToken,
}

impl ApiState {
    /// Whether a session can work, and does.
    #[must_use]
    pub fn status(&self, summary: &SessionSummary) -> SessionStatus {
        SessionStatus {
            mcp_connected: self.mcp.all_connected(),
            agent_ready: self.catalog.is_configured(&summary.settings.provider),
            is_processing: summary.is_processing(),
        }
    }
}

/// All routes, and the answers for whatever is none.
pub fn routes(config: &mut web::ServiceConfig, api: &web::Data<ApiState>) {
    let limit = api.server.max_frame_bytes;
    config
        .app_data(api.clone())
        .app_data(web::PayloadConfig::new(limit))
        .app_data(
            web::PathConfig::default().error_handler(|error, _| ProblemDetails::invalid(error.to_string()).into()),
        )
        .configure(docs::serve)
        .default_service(web::to(no_route));
}

/// Answers a request for which there is no route: the path is wrong, or only the method.
async fn no_route(request: HttpRequest) -> HttpResponse {
    let methods = docs::methods_of(request.path());
    if methods.is_empty() {
        let detail = format!("no route {}; the routes are in /openapi.json and /docs", request.path());
        return ProblemDetails::new(ProblemCode::NotFound, detail).response();
    }
    let allow = methods.join(", ");
    let detail = format!("{} is not allowed at {}; allowed: {allow}", request.method(), request.path());
    let mut response = ProblemDetails::new(ProblemCode::MethodNotAllowed, detail).response();
    if let Ok(value) = allow.parse() {
        response.headers_mut().insert(actix_web::http::header::ALLOW, value);
    }
    response
}

/// Stands around every request: gives it its id and its place in a trace, keeps foreign web pages and unknown callers out,
/// and counts the answers.
///
/// # Errors
/// Those of the handler.
pub async fn gate<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let began = Instant::now();
    let metrics = request.app_data::<web::Data<ApiState>>().map(|api| api.metrics.clone());
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let id = request_id::accept_or_generate(header(request_id::REQUEST_ID_HEADER));
    let method = request.method().to_string();
    let matched = request.resource_map().match_pattern(request.path());
    // What is no route is one label, whatever was asked for.
    let route = matched.as_deref().unwrap_or("none");
    let span =
        spans::request_span(&id, &method, route, header(trace_context::TRACEPARENT), header(trace_context::TRACESTATE));
    let shared_with = origin::listed(&request);
    let body = body::lend(&mut request);
    let handled = async {
        match admit(&request).await {
            Ok(()) => next.call(request).await.map(ServiceResponse::map_into_left_body),
            Err(answer) => Ok(request.into_response(answer).map_into_right_body()),
        }
    };
    let mut result = request_id::scope(id.clone(), handled.instrument(span.clone())).await;
    if let (Ok(response), Some(origin)) = (&mut result, shared_with) {
        origin::share(response.headers_mut(), origin);
    }
    let status = match &result {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    spans::record_http_status(&span, status.as_u16());
    if let Some(metrics) = metrics {
        metrics.record_http_request(route, &method, status.as_u16(), began.elapsed());
        let code = match &result {
            Err(error) => error.as_error::<ProblemDetails>().map(|problem| problem.code),
            Ok(response) => response.response().error().and_then(|e| e.as_error::<ProblemDetails>()).map(|p| p.code),
        };
        match code {
            Some(ProblemCode::StoreUnavailable) => metrics.count_store_error("unavailable"),
            Some(ProblemCode::SessionDamaged) => metrics.count_store_error("corrupt"),
            _ => {}
        }
    }
    if let Ok(response) = &mut result
        && let Ok(id) = id.parse()
    {
        response.headers_mut().insert(HeaderName::from_static(request_id::REQUEST_ID_HEADER), id);
    }
    match (result, body) {
        (Ok(response), Some(body)) => Ok(body.until_sent(response)),
        (result, _) => result,
    }
}

/// Whether a request gets to its route; the answer to it if it does not.
async fn admit(request: &ServiceRequest) -> Result<(), HttpResponse> {
    origin::check(request).map_err(|problem| problem.response())?;
    if let Some(answer) = origin::preflight(request) {
        return Err(answer);
    }
    identity::admit(request).await.map_err(|problem| problem.response())
}
