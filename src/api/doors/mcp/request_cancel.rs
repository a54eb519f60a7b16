//! `notifications/cancelled`: cancels the run of an earlier request, on any replica.

use actix_web::web;
use k8sops_core::CommandId;
use serde_json::Value;

use super::client_protocol::ClientProtocol;
use crate::{
    api::{
        caller::{Caller, CanWrite},
        commands::cancel_command,
        doors::{client_door::ClientDoor, thread_session::thread_session_id},
        problem::ProblemDetails,
        state::ApiState,
    },
    runtime::SessionsError,
};

/// How many sessions of a user are searched for the run.
const SEARCHED_SESSIONS: usize = 50;

/// Cancels the run of the client's request with this id, if it has not ended. An unknown request is no error: its response and
/// the notification may have crossed.
pub(super) async fn cancel_request(
    state: &web::Data<ApiState>,
    caller: &Caller,
    protocol: &ClientProtocol,
    request_id: &Value,
) -> Result<(), ProblemDetails> {
    let Some(key) = protocol.request_key(request_id) else { return Ok(()) };
    let caller = Caller::<CanWrite>::new(caller.identity.clone())?;
    let own = thread_session_id(&caller.user, ClientDoor::Mcp, key.as_str());
    let listed = state.sessions.list_sessions(&caller.user, None, SEARCHED_SESSIONS).await?;
    let working = listed.iter().filter(|summary| summary.is_processing()).map(|summary| summary.session_id);
    for session in std::iter::once(own).chain(working.filter(|session| *session != own)) {
        // Only a request that named no session has one of its own.
        let summary = match state.sessions.get_session(&caller.user, session).await {
            Ok(summary) => summary,
            Err(SessionsError::NotFound(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(receipt) = state.sessions.find_receipt(&caller.user, session, &key).await? else { continue };
        if receipt.run_id.is_some() && summary.open_run == receipt.run_id {
            let command = cancel_command(&caller.user, CommandId::generate());
            state.sessions.submit_command(session, command).await?;
        }
        return Ok(());
    }
    Ok(())
}
