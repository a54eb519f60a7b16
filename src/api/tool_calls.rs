//! `/v1/sessions/{session_id}/tool_calls/{tool_call_id}/output`: the complete output of a tool call, in parts.

use actix_web::{HttpRequest, HttpResponse, get, http::header, web};
use k8sops_core::{OutputPart, SessionId, ToolCallId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    caller::Caller,
    error_responses::document_errors,
    extractors::{QueryParameters, SessionPath},
    negotiation::{JSON, TEXT, preferred_media_type},
    problem::ProblemDetails,
    state::ApiState,
};
use crate::runtime::ToolOutputPart;

document_errors!(ToolOutputErrors: InvalidRequest, SessionNotFound, SessionDamaged, OutputNotFound, StoreUnavailable);

/// The response header with the number of bytes that are not stored.
const MISSING_BYTES: header::HeaderName = header::HeaderName::from_static("k8sops-missing-bytes");
/// The default size of a part, in bytes.
const DEFAULT_LIMIT: usize = 64 * 1024;
/// The maximum size of a part, in bytes.
const MAX_LIMIT: usize = 4 * 1024 * 1024;
/// The maximum size of a character, in bytes. So many bytes before and after a part are read to find character boundaries.
const MAX_CHAR_BYTES: usize = 4;

/// Which part of the output is returned.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OutputRangeQuery {
    /// Where the part starts, in bytes of UTF-8. An offset within a character is moved to its start.
    #[serde(default)]
    #[param(default = 0)]
    offset: u64,
    /// The maximum size of the part, in bytes.
    #[serde(default = "default_limit")]
    #[param(default = 65536, minimum = 4, maximum = 4_194_304)]
    limit: usize,
}

fn default_limit() -> usize {
    DEFAULT_LIMIT
}

/// A part of the complete output of a tool call. Secrets are redacted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutputPage {
    /// The tool call.
    tool_call_id: ToolCallId,
    /// Where the part starts, in bytes.
    offset: u64,
    /// The text of the part.
    content: String,
    /// The size of the complete output, in bytes.
    total_bytes: u64,
    /// Where the next part starts. `null` in the last part.
    next_offset: Option<u64>,
    /// How many bytes of the output come after `total_bytes` and are not stored. Only in the last part, and absent if there
    /// are none. The header `k8sops-missing-bytes` has the same number.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_bytes: Option<u64>,
}

/// Returns the complete output of a tool call, in parts.
///
/// With `Accept: text/plain` the response is the text of the part. Otherwise it also contains the offset of the next part.
#[utoipa::path(
    operation_id = "get_tool_output", tag = "messages",
    params(
        ("session_id" = SessionId, Path, description = "The session"),
        ("tool_call_id" = ToolCallId, Path, description = "The id from `tool_start` or `tool_end`"),
        OutputRangeQuery,
    ),
    responses(
        (status = 200, description = "A part of the output", content((OutputPage = "application/json"), (String = "text/plain"))),
        ToolOutputErrors
    )
)]
#[get("/sessions/{session_id}/tool_calls/{tool_call_id}/output")]
pub(super) async fn get_tool_output(
    state: web::Data<ApiState>,
    caller: Caller,
    session: SessionPath,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    QueryParameters(range): QueryParameters<OutputRangeQuery>,
) -> Result<HttpResponse, ProblemDetails> {
    let call: ToolCallId = path.1.parse()?;
    let window = range.window()?;
    let ToolOutputPart { part, missing_bytes } =
        state.sessions.read_tool_output(&caller.user, session.session_id, &call, window.from, window.bytes).await?;
    let part = window.cut(&part);
    let missing_bytes = (missing_bytes > 0 && part.next_offset.is_none()).then_some(missing_bytes);
    let mut response = part.respond(&request, |TextPart { offset, content, total_bytes, next_offset }| OutputPage {
        tool_call_id: call,
        offset,
        content,
        total_bytes,
        next_offset,
        missing_bytes,
    });
    if let Some(missing) = missing_bytes {
        response.headers_mut().insert(MISSING_BYTES, header::HeaderValue::from(missing));
    }
    Ok(response)
}

/// What is read of a stored text to return a part of it, with the bytes around it that show where characters start.
pub(super) struct TextWindow {
    pub(super) from: u64,
    pub(super) bytes: usize,
    margin: usize,
    limit: usize,
}

/// A part of a stored text.
pub(super) struct TextPart {
    pub(super) offset: u64,
    pub(super) content: String,
    pub(super) total_bytes: u64,
    pub(super) next_offset: Option<u64>,
}

impl TextPart {
    /// Returns the part as plain text or, by default, as the JSON of a page. It must not be cached, because it may be removed.
    pub(super) fn respond<P: Serialize>(self, request: &HttpRequest, page: impl FnOnce(Self) -> P) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if preferred_media_type(request, &[JSON, TEXT]) == TEXT {
            return response.content_type("text/plain; charset=utf-8").body(self.content);
        }
        response.json(page(self))
    }
}

impl OutputRangeQuery {
    pub(super) fn window(&self) -> Result<TextWindow, ProblemDetails> {
        let Self { offset, limit } = *self;
        if !(MAX_CHAR_BYTES..=MAX_LIMIT).contains(&limit) {
            return Err(ProblemDetails::invalid(format!("limit must be {MAX_CHAR_BYTES} to {MAX_LIMIT}")));
        }
        let margin = usize::try_from(offset).unwrap_or(usize::MAX).min(MAX_CHAR_BYTES - 1);
        Ok(TextWindow { from: offset - margin as u64, bytes: margin + limit + MAX_CHAR_BYTES, margin, limit })
    }
}

impl TextWindow {
    /// Cuts the part out of what was read.
    pub(super) fn cut(&self, found: &OutputPart) -> TextPart {
        let start = char_start(&found.bytes, self.margin);
        let end = char_start(&found.bytes, start + self.limit);
        let offset = self.from + start as u64;
        let next = offset + (end - start) as u64;
        TextPart {
            offset,
            content: String::from_utf8_lossy(&found.bytes[start..end]).into_owned(),
            total_bytes: found.total,
            next_offset: (next < found.total).then_some(next),
        }
    }
}

/// Returns the start of the character that contains this byte.
fn char_start(bytes: &[u8], at: usize) -> usize {
    let mut at = at.min(bytes.len());
    while at > 0 && at < bytes.len() && bytes[at] & 0b1100_0000 == 0b1000_0000 {
        at -= 1;
    }
    at
}
