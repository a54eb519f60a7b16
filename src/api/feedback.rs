//! `/v1/sessions/{session_id}/messages/{message_id}/feedback`: what a user thinks of a reply.

use actix_web::{post, web};
use k8sops_core::{EventBody, MessageFeedback, MessageId, ReplyFeedback, SessionEvent, SessionId};

use super::{
    caller::{Caller, CanWrite},
    commands::{RateMessage, feedback_command},
    error_responses::document_errors,
    extractors::{IdempotencyKey, JsonBody, SessionPath},
    problem::ProblemDetails,
    state::ApiState,
};
use crate::runtime::SessionsError;

document_errors!(
    RateMessageErrors: InvalidJson, InvalidRequest, SessionNotFound, MessageNotFound, SessionDamaged, PayloadTooLarge,
    CommandIdReused, InboxFull, StoreUnavailable, Stopping, Pending
);

/// Rates a reply of the agent.
///
/// The rating is logged as `message_feedback`, is in `feedback` of the message, and changes nothing of what the model reads. The
/// newest rating counts; the same rating again has no effect. Only the user of the session can rate its replies, and
/// needs the role `user`.
#[utoipa::path(
    operation_id = "rate_message", tag = "messages",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("message_id" = MessageId, Path, description = "A reply of the agent: the id from `assistant_message`"),
        ("idempotency-key" = Option<String>, Header, description = "Requests with the same key are executed once"),
    ),
    request_body = RateMessage,
    responses((status = 200, description = "The rating as it was logged", body = MessageFeedback), RateMessageErrors)
)]
#[post("/sessions/{session_id}/messages/{message_id}/feedback")]
pub(super) async fn rate_message(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    session: SessionPath,
    path: web::Path<(String, String)>,
    key: IdempotencyKey,
    body: JsonBody<RateMessage>,
) -> Result<web::Json<MessageFeedback>, ProblemDetails> {
    let message_id: MessageId = path.1.parse()?;
    let body = body.0.checked()?;
    let session_id = session.session_id;
    let loaded = state.sessions.load_session(&caller.user, session_id).await?;
    let reply = loaded.find_reply(message_id).ok_or(SessionsError::ReplyNotFound(message_id))?;
    if let Some(ReplyFeedback { rating, comment, by, .. }) = &reply.feedback
        && (*rating, comment) == (body.rating, &body.comment)
    {
        let (comment, by) = (comment.clone(), by.clone());
        return Ok(web::Json(MessageFeedback { message_id, rating: *rating, comment, by, command_id: None }));
    }
    let RateMessage { rating, comment } = body.clone();
    let command = feedback_command(&caller.user, key.into_command_id(), message_id, body);
    // Another request may log the same rating first. This one is not logged then, and that one answers it.
    let is_this_rating = |event: &SessionEvent| match &event.body {
        EventBody::MessageFeedback(e) => (e.message_id, e.rating, &e.comment) == (message_id, rating, &comment),
        _ => false,
    };
    let event = state.sessions.apply_command_after(loaded.last_seq(), session_id, command, is_this_rating).await?;
    match &event.body {
        EventBody::MessageFeedback(feedback) => Ok(web::Json(feedback.clone())),
        _ => Err(SessionsError::Pending.into()),
    }
}
