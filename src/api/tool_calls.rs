//! `/v1/sessions/{session_id}/tool_calls/{tool_call_id}/output`: the whole output of a call, in parts.

use actix_web::{HttpRequest, HttpResponse, get, http::header, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiState, ProblemDetails,
    extract::{Caller, Query, SessionPath},
    problem::document_errors,
    stream::preferred,
};
use k8sops_core::{SessionId, ToolCallId};

document_errors!(OutputErrors: InvalidRequest, SessionNotFound, SessionDamaged, OutputNotFound, StoreUnavailable);

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
/// Bytes of a part, if the client does not say.
const DEFAULT_LIMIT: usize = 64 * 1024;
/// The most bytes of a part.
const MAX_LIMIT: usize = 4 * 1024 * 1024;
/// A character has no more bytes: so many are looked at before and behind a part, to cut between characters.
const CHARACTER: usize = 4;

/// Which part.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// Where it begins, in bytes of UTF-8 text; one in the middle of a character is moved to its beginning.
    #[serde(default)]
    #[param(default = 0)]
    offset: u64,
    /// The most bytes of it.
    #[serde(default = "default_limit")]
    #[param(default = 65536, minimum = 4, maximum = 4_194_304)]
    limit: usize,
}

fn default_limit() -> usize {
    DEFAULT_LIMIT
}

/// A part of a whole output. Values of secrets are masked in it as everywhere.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutputPage {
    /// The call.
    tool_call_id: ToolCallId,
    /// Where the part begins, in bytes.
    offset: u64,
    /// The part.
    content: String,
    /// Bytes of the whole.
    total_bytes: u64,
    /// Where the next part begins; `null` when this is the last.
    next_offset: Option<u64>,
}

/// The whole output of a tool call, in parts.
///
/// With `Accept: text/plain` the part itself, else a page with the place of the next one.
#[utoipa::path(
    operation_id = "get_tool_output", tag = "messages",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("tool_call_id" = ToolCallId, Path, description = "From `tool_start` or `tool_end`"),
        Part,
    ),
    responses(
        (status = 200, description = "A part of the output", content((OutputPage = "application/json"), (String = "text/plain"))),
        OutputErrors
    )
)]
#[get("/sessions/{session_id}/tool_calls/{tool_call_id}/output")]
pub(super) async fn output(
    api: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    Query(Part { offset, limit }): Query<Part>,
) -> Result<HttpResponse, ProblemDetails> {
    if !(CHARACTER..=MAX_LIMIT).contains(&limit) {
        return Err(ProblemDetails::invalid(format!("limit must be {CHARACTER} to {MAX_LIMIT}")));
    }
    let call: ToolCallId = path.1.parse()?;
    let before = offset.min(CHARACTER as u64 - 1);
    let asked = usize::try_from(before).unwrap_or(0) + limit + CHARACTER;
    let found = api.sessions.read_tool_output(&caller.user, session.0, &call, offset - before, asked).await?;
    let start = boundary(&found.bytes, usize::try_from(before).unwrap_or(0));
    let end = boundary(&found.bytes, start + limit);
    let content = String::from_utf8_lossy(&found.bytes[start..end]).into_owned();
    let offset = offset - before + start as u64;
    let next = offset + (end - start) as u64;
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    if preferred(&request, &[JSON, TEXT]) == TEXT {
        return Ok(response.content_type("text/plain; charset=utf-8").body(content));
    }
    let next_offset = (next < found.total).then_some(next);
    Ok(response.json(OutputPage { tool_call_id: call, offset, content, total_bytes: found.total, next_offset }))
}

/// The beginning of the character at a place.
fn boundary(bytes: &[u8], at: usize) -> usize {
    let mut at = at.min(bytes.len());
    while at > 0 && at < bytes.len() && bytes[at] & 0b1100_0000 == 0b1000_0000 {
        at -= 1;
    }
    at
}
