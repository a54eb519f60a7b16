//! Cross-origin requests of web pages whose origin the operator lists (`K8SOPS_CORS_ORIGINS`).
//!
//! A page must send its key or token itself: cookies and stored passwords are not accepted.

use actix_cors::{Cors, CorsError};
use actix_web::{
    HttpResponse,
    body::{EitherBody, MessageBody},
    dev::ServiceResponse,
    http::{Method, StatusCode, header},
    middleware::Condition,
};

use super::{problem::ProblemDetails, state::ApiState};

/// Request headers that a page may send in addition to those that every page may send.
const ALLOWED_HEADERS: [&str; 22] = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "traceparent",
    "tracestate",
    "x-k8sops-task",
    "x-k8sops-thread",
    "x-mcp-authorization",
    // Those of the official SDK for OpenAI's API, which pages use as well.
    "x-stainless-arch",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
];
/// Response headers that a page may read in addition to those that every page may read.
const EXPOSED_HEADERS: [&str; 7] =
    ["location", "mcp-session-id", "retry-after", "warning", "www-authenticate", "x-k8sops-session", "x-request-id"];
/// How long a browser may cache the answer to a preflight request, in seconds.
const MAX_AGE_SECONDS: usize = 600;

/// Returns the CORS middleware. It is inactive if no origins are listed.
pub fn cors(state: &ApiState) -> Condition<Cors> {
    cors_for(&state.server.cors_origins)
}

fn cors_for(origins: &[String]) -> Condition<Cors> {
    let cors = origins.iter().fold(Cors::default(), |cors, origin| cors.allowed_origin(origin));
    let cors = cors
        .allowed_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allowed_headers(ALLOWED_HEADERS)
        .expose_headers(EXPOSED_HEADERS)
        .max_age(MAX_AGE_SECONDS);
    Condition::new(!origins.is_empty(), cors)
}

/// Adapts responses of the CORS middleware to the rest of the API: errors are problem documents, and the empty answer to a
/// preflight request has status 204.
pub(super) fn adapt_cors_response<B: MessageBody + 'static>(
    response: ServiceResponse<B>,
) -> ServiceResponse<EitherBody<B>> {
    if let Some(error) = response.response().error().and_then(|error| error.as_error::<CorsError>()) {
        let problem = HttpResponse::from_error(ProblemDetails::invalid(error.to_string()));
        return response.into_response(problem).map_into_right_body();
    }
    let mut response = response;
    if response.request().method() == Method::OPTIONS
        && response.status() == StatusCode::OK
        && response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_METHODS)
    {
        *response.response_mut().status_mut() = StatusCode::NO_CONTENT;
    }
    response.map_into_left_body()
}

#[cfg(test)]
mod tests {
    use actix_web::{
        App, HttpResponse,
        middleware::{Next, from_fn},
        test::{TestRequest, call_service, init_service},
        web,
    };

    use super::*;

    #[actix_web::test]
    async fn preflight_is_answered_without_body_or_with_a_problem() {
        let origin = "https://ops.example.com";
        let app = App::new()
            .wrap(cors_for(&[origin.to_owned()]))
            .wrap(from_fn(async |request, next: Next<_>| next.call(request).await.map(adapt_cors_response)))
            .route("/", web::get().to(HttpResponse::Ok));
        let app = init_service(app).await;
        let preflight = |requested_header: &str| {
            TestRequest::with_uri("/")
                .method(Method::OPTIONS)
                .insert_header((header::ORIGIN, origin))
                .insert_header((header::ACCESS_CONTROL_REQUEST_METHOD, "GET"))
                .insert_header((header::ACCESS_CONTROL_REQUEST_HEADERS, requested_header))
                .to_request()
        };
        let allowed = call_service(&app, preflight("authorization")).await;
        assert_eq!(allowed.status(), StatusCode::NO_CONTENT);
        assert_eq!(allowed.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), origin);
        let rejected = call_service(&app, preflight("x-unlisted")).await;
        assert_eq!(rejected.status(), StatusCode::BAD_REQUEST);
        assert_eq!(rejected.headers().get(header::CONTENT_TYPE).unwrap(), "application/problem+json");
        let request = TestRequest::with_uri("/").insert_header((header::ORIGIN, origin)).to_request();
        let response = call_service(&app, request).await;
        assert_eq!(response.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), origin);
        assert!(response.headers().contains_key(header::ACCESS_CONTROL_EXPOSE_HEADERS));
    }
}
