//! Keeps web pages of other origins out. A service on the loopback interface that authenticates nobody is reachable from
//! every page in its user's browser: by a form or `fetch` that needs no answer, by a WebSocket (which knows no CORS), and,
//! when a host name is made to point to 127.0.0.1, as if it were that page's own server.
//!
//! Origins that the operator lists (`K8SOPS_CORS_ORIGINS`) are let in, by the rules of CORS: a page must bring its key or
//! token itself, since no cookie or stored password goes along.

use std::net::IpAddr;

use actix_web::{
    HttpResponse,
    dev::ServiceRequest,
    http::{
        Method, Uri,
        header::{self, HeaderMap, HeaderValue},
    },
    web,
};

use super::{ApiState, ProblemCode, ProblemDetails};

/// Refuses a request that a web page of another origin makes, or that names a host which is not this one.
pub(super) fn check(request: &ServiceRequest) -> Result<(), ProblemDetails> {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    let loopback = request.app_data::<web::Data<ApiState>>().is_some_and(|api| is_loopback(&api.server.host));
    if loopback && !is_loopback(name_of(host)) {
        let detail =
            format!("this service listens on the loopback interface and is not {host:?}; use localhost or 127.0.0.1");
        return Err(ProblemDetails::new(ProblemCode::OriginNotAllowed, detail));
    }
    match text(header::ORIGIN) {
        Some(origin) if !same_origin(origin, host) && listed(request).is_none() => {
            let detail = format!(
                "pages of {origin} may not use this service; only its own origin may, and those in K8SOPS_CORS_ORIGINS"
            );
            Err(ProblemDetails::new(ProblemCode::OriginNotAllowed, detail))
        }
        _ => Ok(()),
    }
}

/// What a page may send beyond what every page may.
const ALLOWED_HEADERS: &str =
    "accept, authorization, content-type, idempotency-key, last-event-id, traceparent, tracestate, x-mcp-authorization";
/// What a page may read beyond what every page may.
const EXPOSED_HEADERS: &str = "location, retry-after, www-authenticate, x-request-id";

/// The request's origin, if the operator lists it.
pub(super) fn listed(request: &ServiceRequest) -> Option<HeaderValue> {
    let origin = request.headers().get(header::ORIGIN)?;
    let api = request.app_data::<web::Data<ApiState>>()?;
    api.server.cors_origins.iter().any(|listed| listed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// The answer to a browser that asks what a page of a listed origin may do.
pub(super) fn preflight(request: &ServiceRequest) -> Option<HttpResponse> {
    let asks = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && listed(request).is_some();
    asks.then(|| {
        HttpResponse::NoContent()
            .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PATCH, DELETE"))
            .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS))
            .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
            .finish()
    })
}

/// Lets a page of a listed origin read the answer.
pub(super) fn share(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

fn same_origin(origin: &str, host: &str) -> bool {
    origin
        .parse::<Uri>()
        .ok()
        .and_then(|uri| Some(uri.authority()?.as_str().eq_ignore_ascii_case(host)))
        .unwrap_or(false)
}

/// The name in a `Host` header, without the port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_let_in_only_from_the_origin_of_the_service_itself() {
        assert!(same_origin("http://localhost:8080", "localhost:8080"));
        for (origin, host) in [
            ("http://evil.example", "localhost:8080"),
            ("http://localhost:3000", "localhost:8080"),
            ("null", "localhost"),
        ] {
            assert!(!same_origin(origin, host), "{origin} {host}");
        }
    }

    #[test]
    fn a_host_header_is_read_with_and_without_port() {
        for (host, loopback) in [
            ("localhost:8080", true),
            ("localhost", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("evil.example:8080", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(name_of(host)), loopback, "{host}");
        }
    }
}
