//! Recognizes WebSocket handshakes and the token that they may contain.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE},
};

use super::{problem::ProblemDetails, problem_code::ProblemCode};

/// The sub-protocol of our WebSockets.
pub(super) const SUBPROTOCOL: &str = "k8sops.v1";
/// The prefix of the sub-protocol that carries a token. A browser cannot send it in another header.
const TOKEN_SUBPROTOCOL_PREFIX: &str = "bearer.";

/// Whether a request is a WebSocket handshake.
pub(super) fn is_handshake(request: &HttpRequest) -> bool {
    let upgrade = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// Whether a request offers our sub-protocol.
pub(super) fn offers_subprotocol(request: &HttpRequest) -> bool {
    subprotocols(request).any(|offer| offer == SUBPROTOCOL)
}

/// Returns the token among the offered sub-protocols of a handshake.
pub(super) fn subprotocol_token(request: &HttpRequest) -> Option<String> {
    if !is_handshake(request) {
        return None;
    }
    subprotocols(request).find_map(|offer| offer.strip_prefix(TOKEN_SUBPROTOCOL_PREFIX)).map(str::to_owned)
}

fn subprotocols(request: &HttpRequest) -> impl Iterator<Item = &str> {
    let headers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
    headers.flat_map(|value| value.split(',').map(str::trim))
}

/// Returns the response to a request that is no handshake of the protocol that we speak (RFC 6455, section 4.2.2).
pub(super) fn require_websocket(detail: &str) -> HttpResponse {
    let mut response = ProblemDetails::new(ProblemCode::UpgradeRequired, detail).response();
    for (name, value) in [(UPGRADE, "websocket"), (SEC_WEBSOCKET_VERSION, "13")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
