//! Rejects requests of foreign web pages.
//!
//! Without authentication a service on the loopback interface can be reached by every page in a browser on the same machine:
//! by a form or a `fetch` whose response it does not need, by a WebSocket (to which CORS does not apply), and by DNS
//! rebinding, where a host name of the page's own origin resolves to 127.0.0.1.

use std::net::IpAddr;

use actix_web::{
    dev::ServiceRequest,
    http::{Uri, header},
    web,
};

use super::{problem::ProblemDetails, problem_code::ProblemCode, state::ApiState};

/// Rejects a request of a web page with an origin that is not allowed, or with a `Host` that does not name this service.
pub(super) fn check_origin(request: &ServiceRequest) -> Result<(), ProblemDetails> {
    let Some(state) = request.app_data::<web::Data<ApiState>>() else { return Ok(()) };
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    if is_loopback(&state.server.host) && !is_loopback(host_name(host)) {
        let detail = format!(
            "this service listens on the loopback interface and does not serve the host {host:?}; use localhost or 127.0.0.1"
        );
        return Err(ProblemDetails::new(ProblemCode::OriginNotAllowed, detail));
    }
    match text(header::ORIGIN) {
        Some(origin) if !is_same_origin(origin, host) && !state.server.cors_origins.iter().any(|o| o == origin) => {
            let detail = format!(
                "web pages of {origin} may not use this service; allowed are its own origin and K8SOPS_CORS_ORIGINS"
            );
            Err(ProblemDetails::new(ProblemCode::OriginNotAllowed, detail))
        }
        _ => Ok(()),
    }
}

fn is_same_origin(origin: &str, host: &str) -> bool {
    let uri = origin.parse::<Uri>().ok();
    uri.and_then(|uri| Some(uri.authority()?.as_str().eq_ignore_ascii_case(host))).unwrap_or(false)
}

/// Returns the name in a `Host` header, without the port.
fn host_name(host: &str) -> &str {
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
    fn only_the_own_origin_is_the_is_same_origin() {
        assert!(is_same_origin("http://localhost:8080", "localhost:8080"));
        for (origin, host) in [
            ("http://evil.example", "localhost:8080"),
            ("http://localhost:3000", "localhost:8080"),
            ("null", "localhost"),
        ] {
            assert!(!is_same_origin(origin, host), "{origin} {host}");
        }
    }

    #[test]
    fn host_header_may_have_a_port() {
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
            assert_eq!(is_loopback(host_name(host)), loopback, "{host}");
        }
    }
}
