//! `/v1/tickets`: single-use tickets for clients that cannot send a header.

use actix_web::{HttpResponse, dev::ServiceRequest, http::Method, post, web};
use k8sops_core::{SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    caller::Caller, error_responses::document_errors, extractors::JsonBody, problem::ProblemDetails, state::ApiState,
};
use crate::audit::{AuditAction, AuditRecord};

/// The query parameter with a ticket.
const PARAMETER: &str = "ticket";

document_errors!(
    CreateTicketErrors: InvalidJson, InvalidRequest, SessionNotFound, SessionDamaged, PayloadTooLarge, StoreUnavailable
);

/// What a ticket is for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateTicket {
    /// The session that the ticket is limited to. By default it is valid for everything that the caller may read.
    #[serde(default)]
    session_id: Option<SessionId>,
}

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ticket)]
pub(super) struct TicketView {
    /// The ticket. Send it as `?ticket=` with one `GET` request.
    ticket: String,
    /// When the ticket expires, if it is not used.
    expires_at: Timestamp,
    /// The session that the ticket is limited to.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
}

/// Issues a ticket, with which one `GET` request is authenticated as the caller within 30 s.
///
/// A ticket is for clients that cannot send `Authorization`: an `EventSource`, a WebSocket or a download of a browser. Every
/// replica accepts it. A stream that it opened ends when the caller's own credentials expire.
#[utoipa::path(
    operation_id = "create_ticket", tag = "service",
    request_body(content = CreateTicket, description = "May be empty"),
    responses((status = 201, description = "The ticket", body = TicketView), CreateTicketErrors)
)]
#[post("/tickets")]
pub(super) async fn create_ticket(
    state: web::Data<ApiState>,
    caller: Caller,
    body: JsonBody<CreateTicket>,
) -> Result<HttpResponse, ProblemDetails> {
    let session_id = body.0.session_id;
    if let Some(session) = session_id {
        state.sessions.get_session(&caller.user, session).await?;
    }
    let issued = state.tickets.issue_ticket(&caller.identity, session_id).await?;
    let record = AuditRecord::new(AuditAction::TicketIssued).with_actor(format!("user:{}", caller.user));
    let record = session_id.into_iter().fold(record, AuditRecord::with_session);
    state.audit.record(vec![record]).await;
    let view = TicketView { ticket: issued.ticket, expires_at: issued.expires_at, session_id };
    Ok(HttpResponse::Created().json(view))
}

/// Removes the ticket from the query of a `GET` request, and returns it. Nothing behind this sees or logs it.
pub(super) fn take_ticket(request: &mut ServiceRequest) -> Option<String> {
    if request.method() != Method::GET || !request.query_string().contains(PARAMETER) {
        return None;
    }
    let mut ticket = None;
    let mut rest = Vec::new();
    for pair in request.query_string().split('&') {
        match pair.split_once('=') {
            Some((PARAMETER, value)) => ticket = Some(value.to_owned()),
            _ => rest.push(pair),
        }
    }
    ticket.as_ref()?;
    let query = rest.join("&");
    let separator = if query.is_empty() { "" } else { "?" };
    let path = format!("{}{separator}{query}", request.uri().path());
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    request.head_mut().uri = parts.try_into().ok()?;
    ticket
}

/// Returns the session of a path below `/v1/sessions/`.
pub(super) fn session_of_path(path: &str) -> Option<SessionId> {
    path.strip_prefix("/v1/sessions/")?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn ticket_is_removed_from_the_query() {
        for (uri, ticket, left) in [
            ("/v1/events?ticket=abc", Some("abc"), "/v1/events"),
            ("/v1/events?after=1&ticket=abc&follow=true", Some("abc"), "/v1/events?after=1&follow=true"),
            ("/v1/events?ticket=a&ticket=b", Some("b"), "/v1/events"),
            ("/v1/events?ticket=", Some(""), "/v1/events"),
            ("/v1/events?tickets=1", None, "/v1/events?tickets=1"),
            ("/v1/events", None, "/v1/events"),
        ] {
            let mut request = TestRequest::with_uri(uri).to_srv_request();
            assert_eq!(take_ticket(&mut request).as_deref(), ticket, "{uri}");
            assert_eq!(request.uri().to_string(), left, "{uri}");
        }
        let mut post = TestRequest::post().uri("/v1/sessions?ticket=abc").to_srv_request();
        assert_eq!(take_ticket(&mut post), None);
    }
}
