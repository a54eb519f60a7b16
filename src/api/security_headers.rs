//! Headers that tell browsers what they must not do with a response.
//!
//! The service sets them itself, because not every deployment has a proxy that does. Source: the OWASP REST Security Cheat Sheet.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers of every response: its type is not guessed, no page of another origin shows or embeds it, and links from it do not
/// name it.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
];
/// What a response of the API may load if a browser shows it: nothing.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// What the pages under `/docs` may load: their own files. Swagger UI sets styles and images inline.
const PAGES_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// What the console may load and talk to: its own files and this service. Nothing is inline, and no text becomes markup
/// except through the sanitizer.
const CONSOLE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
    trusted-types dompurify";

/// Adds the headers to a response for this path, except those that it already has.
pub(super) fn add_security_headers(path: &str, headers: &mut HeaderMap) {
    let mut add = |name: HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    for (name, value) in HEADERS {
        add(name, value);
    }
    let policy = match path {
        _ if path.starts_with("/docs") => PAGES_POLICY,
        _ if path == "/" || path.starts_with("/console/") => CONSOLE_POLICY,
        _ => API_POLICY,
    };
    add(header::CONTENT_SECURITY_POLICY, policy);
    if path.starts_with("/v1/") {
        // Answers belong to their caller, also those to requests without `Authorization`.
        add(header::CACHE_CONTROL, "no-store");
    }
}
