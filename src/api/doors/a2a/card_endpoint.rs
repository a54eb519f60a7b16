//! `/.well-known/agent-card.json`.

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::{self, ETag, EntityTag, Header as _, IfNoneMatch},
    web,
};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::agent_card::{AgentCard, CardCredentials, PushSupport, describe_agent};
use crate::api::{negotiation::JSON, public_base::public_base, state::ApiState};

/// How long clients may keep the card. It says by which host it was asked for, so that no proxy may keep it.
const CACHE_CONTROL: &str = "private, max-age=300";

/// Returns the card of the agent for A2A clients: what it can do, and where.
///
/// The addresses in it are those by which the card was asked for, as `Host`, `Forwarded` and `X-Forwarded-*` say. If they name none,
/// it is the address that the client has connected to.
#[utoipa::path(
    operation_id = "get_agent_card", tag = "door: a2a",
    responses(
        (status = 200, description = "The card of A2A 1.0", body = AgentCard),
        (status = 304, description = "The card that the client has is current"),
    )
)]
#[get("/.well-known/agent-card.json")]
pub(in crate::api) async fn get_agent_card(request: HttpRequest, state: web::Data<ApiState>) -> HttpResponse {
    let base = public_base(&request);
    let credentials = match state.authenticator.accepts_tokens() {
        true => CardCredentials::BearerToken,
        false => CardCredentials::NotHere,
    };
    let push = match state.notifier.is_enabled() {
        true => PushSupport::Available,
        false => PushSupport::Unavailable,
    };
    let body = serde_json::to_string(&describe_agent(&base, credentials, push)).unwrap_or_default();
    let tag = EntityTag::new_strong(HEXLOWER.encode(&Sha256::digest(&body)[..16]));
    let is_current = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut response = if is_current { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(ETag(tag)).insert_header((header::CACHE_CONTROL, CACHE_CONTROL));
    if is_current { response.finish() } else { response.content_type(JSON).body(body) }
}
