//! Authenticates requests before they reach a route. Only the routes in [`is_public`] can be reached without credentials.

use actix_web::{
    HttpMessage as _, HttpRequest,
    dev::ServiceRequest,
    http::{Method, header},
    web,
};
use secrecy::SecretString;

use super::{
    doors::mcp::protected_resource::{METADATA_PATH, metadata_parameter},
    problem::ProblemDetails,
    problem_code::ProblemCode,
    state::ApiState,
    tickets::{session_of_path, take_ticket},
    ws_handshake::{is_handshake, offers_subprotocol, subprotocol_token},
};
use crate::{
    audit::{AuditAction, AuditRecord},
    auth::{AuthRejection, CallerIdentity, Credentials, MetricsAccess, TicketError},
};

/// The header with the user's token for MCP servers, for callers whose `Authorization` must not be passed on.
const MCP_TOKEN_HEADER: &str = "x-mcp-authorization";

/// The card of the agent, by which clients learn how to authenticate.
const AGENT_CARD: &str = "/.well-known/agent-card.json";

/// Whether a path is public: the probes, the API description and the files of the console, which are the same for all, and
/// links to shared sessions, which are credentials themselves. What a client reads to get a token is public, too.
fn is_public(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz" | "/openapi.json" | "/asyncapi.json" | "/docs" | AGENT_CARD)
        || path == METADATA_PATH
        || path.starts_with("/docs/")
        || path.starts_with("/shared/")
        || path.starts_with("/console/")
}

/// Attaches the caller's identity to a request, unless its route is public.
pub(super) async fn authenticate_request(request: &mut ServiceRequest) -> Result<(), ProblemDetails> {
    let ticket = take_ticket(request);
    let Some(state) = request.app_data::<web::Data<ApiState>>() else { return Ok(()) };
    let path = request.path();
    if is_public(path) || (path == "/metrics" && state.metrics_access == MetricsAccess::Open) {
        return Ok(());
    }
    if let Some(ticket) = ticket {
        let identity = redeem_ticket(state, &ticket, path).await?;
        state.quota.count_request(&identity.user)?;
        request.extensions_mut().insert(identity);
        return Ok(());
    }
    let token = bearer_token(request.request()).or_else(|| subprotocol_token(request.request()));
    if token.is_none() && state.authenticator.accepts_tokens() && authenticates_by_first_message(request) {
        return Ok(());
    }
    let mut identity = identify_caller(state, request.request(), token.as_deref()).await?;
    if let Some(value) = request.headers().get(MCP_TOKEN_HEADER).and_then(|value| value.to_str().ok()) {
        identity.user_token = parse_token(value);
    }
    state.quota.count_request(&identity.user)?;
    request.extensions_mut().insert(identity);
    Ok(())
}

/// Identifies the caller by a token, or by the headers of a proxy.
pub(super) async fn identify_caller(
    state: &ApiState,
    request: &HttpRequest,
    token: Option<&str>,
) -> Result<CallerIdentity, ProblemDetails> {
    let header = |name: &str| request.headers().get_all(name).map(|value| value.as_bytes().to_vec()).collect();
    let peer = request.peer_addr().map(|peer| peer.ip());
    match state.authenticator.authenticate(&Credentials { bearer: token, peer, header: &header }).await {
        Ok(identity) => Ok(identity),
        Err(rejection) => Err(reject_caller(state, rejection, metadata_parameter(request, state)).await),
    }
}

/// Identifies the caller by a ticket, which is used up.
async fn redeem_ticket(state: &ApiState, ticket: &str, path: &str) -> Result<CallerIdentity, ProblemDetails> {
    match state.tickets.redeem_ticket(&state.authenticator, ticket, session_of_path(path)).await {
        Ok(identity) => Ok(identity),
        Err(TicketError::Rejected(rejection)) => Err(reject_caller(state, rejection, None).await),
        Err(TicketError::Store(error)) => Err(error.into()),
    }
}

/// Counts a caller that is not accepted, and returns the answer. `parameter` is added to its challenge.
async fn reject_caller(state: &ApiState, rejection: AuthRejection, parameter: Option<String>) -> ProblemDetails {
    if matches!(rejection, AuthRejection::Invalid(_)) && state.quota.count_rejected_caller().is_reported() {
        state.audit.record(vec![AuditRecord::new(AuditAction::LoginFailed)]).await;
    }
    let mut challenge = format!("{} realm=\"k8sops\"", state.authenticator.challenge_scheme());
    challenge.extend(parameter.map(|parameter| format!(", {parameter}")));
    match rejection {
        AuthRejection::Missing(why) => ProblemDetails::unauthenticated(why, challenge),
        AuthRejection::Invalid(why) => {
            ProblemDetails::unauthenticated(why, format!("{challenge}, error=\"invalid_token\""))
        }
        AuthRejection::Unavailable(why) => ProblemDetails::new(ProblemCode::IdentityUnavailable, why),
    }
}

/// Returns the token of the `Authorization` header.
fn bearer_token(request: &HttpRequest) -> Option<String> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

/// Returns the token of a header value, with or without the prefix `Bearer`.
pub(super) fn parse_token(header: &str) -> Option<SecretString> {
    let token = match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token,
        _ => header,
    };
    let token = token.trim();
    (!token.is_empty()).then(|| token.into())
}

/// Whether a request is a WebSocket handshake whose client authenticates in its first message.
fn authenticates_by_first_message(request: &ServiceRequest) -> bool {
    let path = request.path();
    request.method() == Method::GET
        && path.starts_with("/v1/sessions/")
        && path.ends_with("/ws")
        && is_handshake(request.request())
        && offers_subprotocol(request.request())
}
