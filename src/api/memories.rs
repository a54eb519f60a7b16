//! `/v1/memories`: the long-term memories of the calling user, who may read, correct and delete them. This works whether or
//! not `MEMORY_LONG_TERM_ENABLED` allows new memories.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, delete, get, http::header, patch, web};
use k8sops_agent::memory::MemoryCorrection;
use k8sops_core::{MemoryId, MemoryKind, Timestamp, UserId, UserMemory, offload_work};
use k8sops_tools::contains_secret;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    caller::{Caller, CanWrite},
    error_responses::document_errors,
    extractors::{JsonBody, QueryParameters},
    long_response::LongBody,
    negotiation::{JSON, NDJSON, preferred_media_type},
    problem::ProblemDetails,
    problem_code::ProblemCode,
    state::ApiState,
};
use crate::audit::{AuditAction, AuditRecord};

document_errors!(ListMemoriesErrors: InvalidRequest, StoreUnavailable);
document_errors!(MemoryErrors: InvalidRequest, MemoryNotFound, StoreUnavailable);
document_errors!(
    CorrectMemoryErrors: InvalidJson, InvalidRequest, MemoryNotFound, PayloadTooLarge, StoreUnavailable
);
document_errors!(AllMemoriesErrors: StoreUnavailable);

/// The maximum length of a corrected memory, in characters: several times that of an extracted one.
const MAX_CONTENT_CHARS: usize = 2000;
/// The maximum number of tags of a memory.
const MAX_TAGS: usize = 16;
/// The maximum length of a tag, in characters.
const MAX_TAG_CHARS: usize = 64;

/// Which memories are returned.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MemoryListQuery {
    /// Only memories that are relevant to this text, by meaning and by words, the most relevant first. Without it, all
    /// memories are listed, newest first.
    #[serde(default)]
    query: Option<String>,
    /// Only memories of this kind.
    #[serde(default)]
    #[param(inline)]
    kind: Option<MemoryKind>,
    /// Whether superseded and expired memories are listed, too. A `query` never finds them.
    #[serde(default)]
    all: bool,
    /// The maximum number of memories, 1 to 200.
    #[serde(default = "default_limit")]
    #[param(default = 50, minimum = 1, maximum = 200)]
    limit: usize,
    /// The `next_cursor` of the previous page. Not allowed with `query`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Option<MemoryId>,
}

fn default_limit() -> usize {
    50
}

/// A memory.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemoryView {
    #[serde(flatten)]
    memory: UserMemory,
    /// Whether the memory is in force: neither superseded nor expired.
    current: bool,
    /// How relevant the memory is to the query, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
}

impl MemoryView {
    fn new(memory: UserMemory) -> Self {
        Self { current: memory.is_valid_at(Timestamp::now()), memory, score: None }
    }

    fn with_score(memory: UserMemory, score: Option<f32>) -> Self {
        Self { score, ..Self::new(memory) }
    }
}

/// A page of memories.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemoryList {
    /// The memories, the most relevant or the newest first.
    memories: Vec<MemoryView>,
    /// The cursor of the next page. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    next_cursor: Option<MemoryId>,
}

/// Lists the memories of the calling user.
#[utoipa::path(
    operation_id = "list_memories", tag = "memories",
    params(MemoryListQuery),
    responses((status = 200, description = "A page of memories", body = MemoryList), ListMemoriesErrors)
)]
#[get("/memories")]
pub(super) async fn list_memories(
    state: web::Data<ApiState>,
    caller: Caller,
    QueryParameters(query): QueryParameters<MemoryListQuery>,
) -> Result<web::Json<MemoryList>, ProblemDetails> {
    if !(1..=200).contains(&query.limit) {
        return Err(ProblemDetails::invalid("limit must be 1 to 200"));
    }
    let page = match query.query.as_deref() {
        Some(text) => search_memories(&state, &caller.user, text, &query).await?,
        None => list_newest_memories(&state, &caller.user, &query).await?,
    };
    Ok(web::Json(page))
}

async fn search_memories(
    state: &ApiState,
    user: &UserId,
    text: &str,
    query: &MemoryListQuery,
) -> Result<MemoryList, ProblemDetails> {
    if text.trim().is_empty() || query.cursor.is_some() || query.all {
        return Err(ProblemDetails::invalid(
            "query must not be empty, and cannot be combined with cursor or all: it finds current memories in one page",
        ));
    }
    // All memories are searched, because those of other kinds are removed only afterwards.
    let found = state.memory.search_memories(user, text, usize::MAX).await?;
    let mut by_id: HashMap<MemoryId, UserMemory> =
        state.memory.list_memories(user).await?.into_iter().map(|memory| (memory.id, memory)).collect();
    let memories = found.into_iter().filter_map(|note| Some((by_id.remove(&note.id)?, note.score)));
    let memories = memories.filter(|(memory, _)| query.matches_kind(memory)).take(query.limit);
    let memories = memories.map(|(memory, score)| MemoryView::with_score(memory, score)).collect();
    Ok(MemoryList { memories, next_cursor: None })
}

async fn list_newest_memories(
    state: &ApiState,
    user: &UserId,
    query: &MemoryListQuery,
) -> Result<MemoryList, ProblemDetails> {
    let now = Timestamp::now();
    let all = state.memory.list_memories(user).await?.into_iter();
    let mut remaining = all
        .filter(|memory| query.matches_kind(memory) && (query.all || memory.is_valid_at(now)))
        .filter(|memory| query.cursor.is_none_or(|cursor| memory.id < cursor))
        .map(MemoryView::new);
    let memories: Vec<MemoryView> = remaining.by_ref().take(query.limit).collect();
    let next_cursor = memories.last().map(|view| view.memory.id).filter(|_| remaining.next().is_some());
    Ok(MemoryList { memories, next_cursor })
}

impl MemoryListQuery {
    fn matches_kind(&self, memory: &UserMemory) -> bool {
        self.kind.is_none_or(|kind| memory.kind == kind)
    }
}

/// Exports all memories of the calling user, including superseded and expired ones.
///
/// One per line, unless `Accept` prefers `application/json`: then as an array.
#[utoipa::path(
    operation_id = "export_memories", tag = "memories",
    responses(
        (status = 200, description = "The memories", content(
            (String = "application/x-ndjson"),
            (Vec<UserMemory> = "application/json"),
        )),
        AllMemoriesErrors,
    )
)]
#[get("/memories/export")]
pub(super) async fn export_memories(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
) -> Result<HttpResponse, ProblemDetails> {
    let memories = state.memory.list_memories(&caller.user).await?;
    let is_array = preferred_media_type(&request, &[NDJSON, JSON]) == JSON;
    let (kind, name) = if is_array { (JSON, "memories.json") } else { (NDJSON, "memories.ndjson") };
    let body = offload_work(move || match is_array {
        true => serde_json::to_string(&memories),
        false => memories.iter().map(|memory| Ok(serde_json::to_string(memory)? + "\n")).collect(),
    });
    let body = body.await.map_err(|error| {
        ProblemDetails::new(ProblemCode::Internal, format!("a memory cannot be serialized: {error}"))
    })?;
    Ok(HttpResponse::Ok()
        .content_type(kind)
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")))
        .body(LongBody::new(body)))
}

/// Returns a memory.
#[utoipa::path(
    operation_id = "get_memory", tag = "memories",
    params(("memory_id" = MemoryId, Path, description = "The memory")),
    responses((status = 200, description = "The memory", body = MemoryView), MemoryErrors)
)]
#[get("/memories/{memory_id}")]
pub(super) async fn get_memory(
    state: web::Data<ApiState>,
    caller: Caller,
    path: web::Path<String>,
) -> Result<web::Json<MemoryView>, ProblemDetails> {
    let id: MemoryId = path.parse()?;
    let memory = state.memory.list_memories(&caller.user).await?.into_iter().find(|memory| memory.id == id);
    memory.map(|memory| web::Json(MemoryView::new(memory))).ok_or_else(|| memory_not_found(id))
}

/// A correction of a memory. Omitted fields are unchanged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CorrectMemory {
    /// The new text, 1 to 2000 characters.
    #[serde(default)]
    content: Option<String>,
    /// The new kind.
    #[serde(default)]
    kind: Option<MemoryKind>,
    /// The new tags, at most 16.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// Corrects a memory. A corrected memory has full confidence, and is in force again if it was superseded.
#[utoipa::path(
    operation_id = "correct_memory", tag = "memories",
    params(("memory_id" = MemoryId, Path, description = "The memory")),
    request_body = CorrectMemory,
    responses((status = 200, description = "The corrected memory", body = MemoryView), CorrectMemoryErrors)
)]
#[patch("/memories/{memory_id}")]
pub(super) async fn correct_memory(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    path: web::Path<String>,
    body: JsonBody<CorrectMemory>,
) -> Result<web::Json<MemoryView>, ProblemDetails> {
    let id: MemoryId = path.parse()?;
    let corrected = state.memory.correct_memory(&caller.user, id, validate_correction(body.0)?).await?;
    corrected.map(|memory| web::Json(MemoryView::new(memory))).ok_or_else(|| memory_not_found(id))
}

fn validate_correction(correction: CorrectMemory) -> Result<MemoryCorrection, ProblemDetails> {
    let CorrectMemory { content, kind, tags } = correction;
    if content.is_none() && kind.is_none() && tags.is_none() {
        return Err(ProblemDetails::invalid("the request changes nothing: set content, kind or tags"));
    }
    let content = content.map(|content| content.trim().to_owned());
    if content.as_ref().is_some_and(|content| content.is_empty() || content.chars().count() > MAX_CONTENT_CHARS) {
        return Err(ProblemDetails::invalid(format!(
            "content must have 1 to {MAX_CONTENT_CHARS} characters; use DELETE to remove the memory"
        )));
    }
    let tags: Option<Vec<String>> = tags.map(|tags| tags.iter().map(|tag| tag.trim().to_lowercase()).collect());
    let is_valid = |tag: &String| !tag.is_empty() && tag.chars().count() <= MAX_TAG_CHARS;
    if tags.as_ref().is_some_and(|tags| tags.len() > MAX_TAGS || !tags.iter().all(is_valid)) {
        return Err(ProblemDetails::invalid(format!(
            "tags must be at most {MAX_TAGS} words of 1 to {MAX_TAG_CHARS} characters"
        )));
    }
    if content.iter().chain(tags.iter().flatten()).any(|text| contains_secret(text)) {
        return Err(ProblemDetails::invalid("the text looks like a credential, which cannot be stored in a memory"));
    }
    Ok(MemoryCorrection { content, kind, tags })
}

/// Deletes a memory and its embedding.
#[utoipa::path(
    operation_id = "delete_memory", tag = "memories",
    params(("memory_id" = MemoryId, Path, description = "The memory")),
    responses((status = 204, description = "The memory is deleted"), MemoryErrors)
)]
#[delete("/memories/{memory_id}")]
pub(super) async fn delete_memory(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    path: web::Path<String>,
) -> Result<HttpResponse, ProblemDetails> {
    let id: MemoryId = path.parse()?;
    let user = caller.user;
    let task_state = state.clone();
    let deletion = async move {
        let deleted = task_state.memory.delete_memory(&user, id).await;
        if matches!(deleted, Ok(true)) {
            audit_deletion(&task_state, &user).await;
        }
        deleted
    };
    if state.sessions.run_to_completion(deletion).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(memory_not_found(id))
    }
}

/// The result of deleting all memories.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Forgotten)]
pub(super) struct MemoriesDeleted {
    /// The number of deleted memories.
    deleted: usize,
}

/// Deletes all memories of the calling user and their embeddings.
///
/// New memories can be created from sessions afterwards. `memory: false` in the settings of a session prevents that.
#[utoipa::path(
    operation_id = "delete_memories", tag = "memories",
    responses((status = 200, description = "All memories are deleted", body = MemoriesDeleted), AllMemoriesErrors)
)]
#[delete("/memories")]
pub(super) async fn delete_memories(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
) -> Result<web::Json<MemoriesDeleted>, ProblemDetails> {
    let user = caller.user;
    let task_state = state.clone();
    let deletion = async move {
        let deleted = task_state.memory.delete_all_memories(&user).await;
        if deleted.is_ok() {
            audit_deletion(&task_state, &user).await;
        }
        deleted
    };
    Ok(web::Json(MemoriesDeleted { deleted: state.sessions.run_to_completion(deletion).await? }))
}

async fn audit_deletion(state: &ApiState, user: &UserId) {
    let record = AuditRecord::new(AuditAction::MemoryDeleted).with_actor(format!("user:{user}"));
    state.audit.record(vec![record]).await;
}

fn memory_not_found(id: MemoryId) -> ProblemDetails {
    let detail = format!("you have no memory {id}; GET /v1/memories lists your memories");
    ProblemDetails::new(ProblemCode::MemoryNotFound, detail)
}
