//! The middleware around every request.

use std::time::Instant;

use actix_web::{
    Error,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Version, header::HeaderName},
    middleware::Next,
    web,
};
use k8sops_telemetry::{request_id, spans, trace_context};
use tokio::task::yield_now;
use tracing::Instrument as _;

use super::{
    authentication::authenticate_request,
    cors::adapt_cors_response,
    doors::{ClientDoor, express_error},
    origin::check_origin,
    problem::ProblemDetails,
    problem_code::ProblemCode,
    request_body::retain_body,
    security_headers::add_security_headers,
    state::ApiState,
};
use crate::runtime::Sessions;

/// The route label of requests that match no route, whatever their path.
const UNMATCHED_ROUTE: &str = "none";

/// The outermost middleware: assigns the request id and the trace span, rejects foreign web pages, and records metrics.
///
/// # Errors
/// Those of the inner service.
pub async fn track_request<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<EitherBody<B>>>, Error> {
    let started = Instant::now();
    // A client can send requests faster than they are answered. Other connections of this thread have their turn in between.
    yield_now().await;
    let state = request.app_data::<web::Data<ApiState>>().cloned();
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let id = request_id::accept_or_generate(header(request_id::REQUEST_ID_HEADER));
    let method = request.method().to_string();
    let matched = request.resource_map().match_pattern(request.path());
    let route = matched.as_deref().unwrap_or(UNMATCHED_ROUTE);
    Sessions::name_current_work(format_args!("{method} {route}"));
    let span =
        spans::request_span(&id, &method, route, header(trace_context::TRACEPARENT), header(trace_context::TRACESTATE));
    let door = ClientDoor::of_path(request.path());
    let body = retain_body(&mut request);
    let is_http10 = request.version() <= Version::HTTP_10;
    let handled = async {
        let handled = match check_origin(&request) {
            Ok(()) => next.call(request).await.map(adapt_cors_response),
            Err(problem) => Ok(request.error_response(problem).map_into_right_body()),
        };
        handled.map(express_error)
    };
    let handled = request_id::scope(id.clone(), handled.instrument(span.clone()));
    let mut result = handled.await;
    if let Some(body) = &body {
        body.discard_rest().await;
    }
    let status = match &result {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    spans::record_http_status(&span, status.as_u16());
    if let Some(metrics) = state.as_ref().map(|state| &state.metrics) {
        metrics.record_http_request(route, &method, status.as_u16(), started.elapsed());
        if let Some(door) = door {
            metrics.count_door_request(door.name(), status.as_u16());
        }
        match problem_code(&result) {
            Some(code) if ProblemCode::STORE_OUTAGES.contains(&code) => metrics.count_store_error("unavailable"),
            Some(ProblemCode::SessionDamaged) => metrics.count_store_error("corrupt"),
            _ => {}
        }
    }
    if let Ok(response) = &mut result {
        if let Ok(id) = id.parse() {
            response.headers_mut().insert(HeaderName::from_static(request_id::REQUEST_ID_HEADER), id);
        }
        let path = response.request().path().to_owned();
        add_security_headers(&path, response.headers_mut());
    }
    if let Ok(response) = &mut result
        && is_http10
    {
        // Such a client, nginx by default, does not know chunks: a stream ends with its connection.
        response.response_mut().head_mut().no_chunking(true);
    }
    result.map(|response| match body {
        Some(body) => body.attach_to(response),
        None => response.map_into_left_body(),
    })
}

/// Rejects requests without valid credentials, except those of public routes.
///
/// # Errors
/// Those of the inner service.
pub async fn authenticate<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match authenticate_request(&mut request).await {
        Ok(()) => next.call(request).await.map(ServiceResponse::map_into_left_body),
        Err(problem) => Ok(request.error_response(problem).map_into_right_body()),
    }
}

fn problem_code<B>(result: &Result<ServiceResponse<B>, Error>) -> Option<ProblemCode> {
    let error = match result {
        Ok(response) => response.response().error()?,
        Err(error) => error,
    };
    error.as_error::<ProblemDetails>().map(|problem| problem.code)
}
