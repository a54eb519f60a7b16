//! Recognizes WebSocket handshakes and the token that they may contain.

use actix_web::{HttpRequest, http::header};

/// The sub-protocol of our WebSockets.
pub(super) const SUBPROTOCOL: &str = "k8sops.v1";
/// The prefix of the sub-protocol that carries a token. A browser cannot send it in another header.
const TOKEN_SUBPROTOCOL_PREFIX: &str = "bearer.";

/// Whether a request is a WebSocket handshake.
pub(super) fn is_handshake(request: &HttpRequest) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
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
    let headers = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
    headers.flat_map(|value| value.split(',').map(str::trim))
}
