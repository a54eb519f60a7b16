//! Keeps web pages of other origins out. A service on the loopback interface that authenticates nobody is reachable from
//! every page in its user's browser: by a form or `fetch` that needs no answer, by a WebSocket (which knows no CORS), and,
//! when a host name is made to point to 127.0.0.1, as if it were that page's own server.

use std::net::IpAddr;

use actix_web::{
    dev::ServiceRequest,
    http::{Uri, header},
    web,
};

use super::{Api, Code, Problem};

/// Refuses a request that a web page of another origin makes, or that names a host which is not this one.
pub(super) fn check(request: &ServiceRequest) -> Result<(), Problem> {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    let loopback = request.app_data::<web::Data<Api>>().is_some_and(|api| is_loopback(&api.server.host));
    if loopback && !is_loopback(name_of(host)) {
        let detail =
            format!("this service listens on the loopback interface and is not {host:?}; use localhost or 127.0.0.1");
        return Err(Problem::new(Code::OriginNotAllowed, detail));
    }
    match text(header::ORIGIN) {
        Some(origin) if !same_origin(origin, host) => {
            let detail = format!("pages of {origin} may not use this service; only its own origin may");
            Err(Problem::new(Code::OriginNotAllowed, detail))
        }
        _ => Ok(()),
    }
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
