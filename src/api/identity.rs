//! Who makes a request: looked at once, before any route, and handed to the handlers as a [`Caller`]. A route that is not
//! listed as open here is not reached by anybody unknown, and a handler cannot name a user without a `Caller`.

use std::{future::Ready, marker::PhantomData};

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest,
    dev::{Payload, ServiceRequest},
    http::{Method, header},
    web,
};
use secrecy::SecretString;

use super::{ApiState, ProblemCode, ProblemDetails};
use crate::{
    audit::{AuditAction, AuditRecord},
    auth::{AuthRejection, CallerIdentity, Credentials, MetricsAccess, RoleSet, UserRole},
};
use k8sops_core::UserId;

/// The sub-protocol of our WebSockets.
pub(super) const SUBPROTOCOL: &str = "k8sops.v1";
/// Stands before the token among the sub-protocols that a browser offers; it has no other place for one.
const PROTOCOL_TOKEN: &str = "bearer.";
/// The header with a token for MCP servers, where `Authorization` holds none that may be passed on.
const MCP_TOKEN: &str = "x-mcp-authorization";

/// What may be seen of everybody: that the service lives, and the contract.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/openapi.json" | "/asyncapi.json" | "/docs") || path.starts_with("/docs/")
}

/// Lets a request through to its route: with the identity of its caller, or where none is needed.
pub(super) async fn admit(request: &ServiceRequest) -> Result<(), ProblemDetails> {
    let Some(api) = request.app_data::<web::Data<ApiState>>() else { return Ok(()) };
    let path = request.path();
    if is_open(path) || (path == "/metrics" && api.metrics_access == MetricsAccess::Open) {
        return Ok(());
    }
    let token = bearer(request.request()).or_else(|| offered_token(request.request()));
    if token.is_none() && api.auth.accepts_tokens() && says_who_later(request) {
        return Ok(());
    }
    let mut identity = identify(api, request.request(), token.as_deref()).await?;
    if let Some(own) = request.headers().get(MCP_TOKEN).and_then(|value| value.to_str().ok()) {
        identity.user_token = token_of(own);
    }
    api.quota.request(&identity.user)?;
    request.extensions_mut().insert(identity);
    Ok(())
}

/// Who presents a token, or comes from a proxy.
pub(super) async fn identify(
    api: &ApiState,
    request: &HttpRequest,
    token: Option<&str>,
) -> Result<CallerIdentity, ProblemDetails> {
    let header = |name: &str| -> Vec<String> {
        request.headers().get_all(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    };
    let peer = request.peer_addr().map(|peer| peer.ip());
    let identified = api.auth.authenticate(&Credentials { bearer: token, peer, header: &header }).await;
    if matches!(identified, Err(AuthRejection::Invalid(_))) && api.quota.note_refusal() {
        api.audit.record(vec![AuditRecord::new(AuditAction::LoginFailed)]).await;
    }
    identified.map_err(|refusal| {
        let scheme = api.auth.challenge_scheme();
        match refusal {
            AuthRejection::Missing(why) => ProblemDetails::unauthenticated(why, format!("{scheme} realm=\"k8sops\"")),
            AuthRejection::Invalid(why) => {
                ProblemDetails::unauthenticated(why, format!("{scheme} realm=\"k8sops\", error=\"invalid_token\""))
            }
            AuthRejection::Unavailable(why) => ProblemDetails::new(ProblemCode::IdentityUnavailable, why),
        }
    })
}

/// The token in `Authorization`.
fn bearer(request: &HttpRequest) -> Option<String> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

/// The token in the value of a header, with `Bearer` before it or without.
pub(super) fn token_of(header: &str) -> Option<SecretString> {
    let token = match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token,
        _ => header,
    };
    let token = token.trim();
    (!token.is_empty()).then(|| token.into())
}

fn protocols(request: &HttpRequest) -> impl Iterator<Item = &str> {
    let headers = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
    headers.flat_map(|value| value.split(',').map(str::trim))
}

/// The token among the sub-protocols of a WebSocket handshake.
fn offered_token(request: &HttpRequest) -> Option<String> {
    if !is_upgrade(request) {
        return None;
    }
    protocols(request).find_map(|offer| offer.strip_prefix(PROTOCOL_TOKEN)).map(str::to_owned)
}

/// Whether it is the handshake of a WebSocket that will say in its first message who it is: one that speaks our protocol.
fn says_who_later(request: &ServiceRequest) -> bool {
    let path = request.path();
    request.method() == Method::GET
        && path.starts_with("/v1/sessions/")
        && path.ends_with("/ws")
        && is_upgrade(request.request())
        && protocols(request.request()).any(|offer| offer == SUBPROTOCOL)
}

/// Whether it is the handshake of a WebSocket.
pub(super) fn is_upgrade(request: &HttpRequest) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// What a caller must be allowed to reach a handler.
pub(super) trait AccessRequirement {
    /// The roles of which one is needed, for whoever has none of them.
    const ROLES: &'static str;

    fn met_by(roles: RoleSet) -> bool;
}

/// Looking at what is one's own.
pub(super) struct CanRead;

impl AccessRequirement for CanRead {
    const ROLES: &'static str = "viewer, user, approver or admin";

    fn met_by(roles: RoleSet) -> bool {
        roles.can_read()
    }
}

/// Changing what is one's own.
pub(super) struct CanWrite;

impl AccessRequirement for CanWrite {
    const ROLES: &'static str = "user or admin";

    fn met_by(roles: RoleSet) -> bool {
        roles.can_write()
    }
}

/// Answering a request for approval.
pub(super) struct CanApprove;

impl AccessRequirement for CanApprove {
    const ROLES: &'static str = "user, approver or admin";

    fn met_by(roles: RoleSet) -> bool {
        roles.can_approve()
    }
}

/// Reading what concerns all.
pub(super) struct CanAdminister;

impl AccessRequirement for CanAdminister {
    const ROLES: &'static str = "admin";

    fn met_by(roles: RoleSet) -> bool {
        roles.contains(UserRole::Admin)
    }
}

/// The user who makes the request, and may do what the handler does. A handler that lacks it cannot reach a session.
pub(super) struct Caller<N = CanRead> {
    /// Whose sessions they reach.
    pub(super) user: UserId,
    /// Who they are.
    pub(super) identity: CallerIdentity,
    needs: PhantomData<N>,
}

impl<N: AccessRequirement> Caller<N> {
    /// A caller, if their roles are enough.
    pub(super) fn new(identity: CallerIdentity) -> Result<Self, ProblemDetails> {
        if !N::met_by(identity.roles) {
            return Err(role_required(N::ROLES, identity.roles));
        }
        Ok(Self { user: identity.user.clone(), identity, needs: PhantomData })
    }
}

impl<N: AccessRequirement> FromRequest for Caller<N> {
    type Error = ProblemDetails;
    type Future = Ready<Result<Self, ProblemDetails>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let identity = request.extensions().get::<CallerIdentity>().cloned();
        let nobody = || ProblemDetails::unauthenticated("it is not known who calls", "Bearer realm=\"k8sops\"".into());
        std::future::ready(identity.ok_or_else(nobody).and_then(Self::new))
    }
}

fn role_required(needed: &str, roles: RoleSet) -> ProblemDetails {
    let yours = if roles.can_read() { format!("yours: {roles}") } else { "you have none".to_owned() };
    ProblemDetails::new(ProblemCode::RoleRequired, format!("this needs the role {needed}; {yours}"))
}
