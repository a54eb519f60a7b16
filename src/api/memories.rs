//! `/v1/memories`: what is remembered of the calling user, theirs to read, correct and erase. It can be whether or not
//! `MEMORY_LONG_TERM_ENABLED` has anything added to it.

use std::collections::HashMap;

use actix_web::{HttpResponse, delete, get, http::header, patch, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiState, ProblemCode, ProblemDetails,
    extract::{Body, Caller, CanWrite, Query},
    problem::document_errors,
};
use crate::audit::{AuditAction, AuditRecord};
use k8sops_agent::memory::MemoryCorrection;
use k8sops_core::{MemoryId, MemoryKind, Timestamp, UserId, UserMemory};
use k8sops_tools::contains_secret;

document_errors!(ListErrors: InvalidRequest, StoreUnavailable);
document_errors!(GetErrors: InvalidRequest, MemoryNotFound, StoreUnavailable);
document_errors!(UpdateErrors: InvalidJson, InvalidRequest, MemoryNotFound, PayloadTooLarge, StoreUnavailable);
document_errors!(ForgetAllErrors: StoreUnavailable);

/// The most characters of a memory that its user writes: several times what one is that k8sops found itself.
const MAX_CONTENT: usize = 2000;
/// The most tags of a memory, and characters of one.
const MAX_TAGS: (usize, usize) = (16, 64);

/// Which memories.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Those that speak to this text, the best first, by meaning and by words; without it all, the newest first.
    #[serde(default)]
    query: Option<String>,
    /// Only those of this kind.
    #[serde(default)]
    #[param(inline)]
    kind: Option<MemoryKind>,
    /// Those too that do not hold any more: superseded by a newer one, or expired. They are never found by a query.
    #[serde(default)]
    all: bool,
    /// How many at the most, 1 to 200.
    #[serde(default = "default_limit")]
    #[param(default = 50, minimum = 1, maximum = 200)]
    limit: usize,
    /// `next_cursor` of the page before; not with `query`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Option<MemoryId>,
}

fn default_limit() -> usize {
    50
}

/// A memory, as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemoryView {
    #[serde(flatten)]
    memory: UserMemory,
    /// Whether it holds: it is neither superseded nor expired.
    current: bool,
    /// How much it speaks to the query, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
}

impl MemoryView {
    fn new(memory: UserMemory, score: Option<f32>) -> Self {
        Self { current: memory.is_current(Timestamp::now()), memory, score }
    }
}

/// A part of what is remembered.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemoryList {
    /// The best, or the newest, first.
    memories: Vec<MemoryView>,
    /// For the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    next_cursor: Option<MemoryId>,
}

/// What is remembered of the calling user.
#[utoipa::path(
    operation_id = "list_memories", tag = "memories",
    params(Wanted),
    responses((status = 200, description = "A page of memories", body = MemoryList), ListErrors)
)]
#[get("/memories")]
pub(super) async fn list(
    api: web::Data<ApiState>,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Result<web::Json<MemoryList>, ProblemDetails> {
    if !(1..=200).contains(&wanted.limit) {
        return Err(ProblemDetails::invalid("limit must be 1 to 200"));
    }
    let of_kind = |memory: &UserMemory| wanted.kind.is_none_or(|kind| memory.kind == kind);
    if let Some(query) = wanted.query.as_deref() {
        if query.trim().is_empty() || wanted.cursor.is_some() || wanted.all {
            return Err(ProblemDetails::invalid(
                "query must not be empty, and goes without cursor and all: it finds what holds, in one page",
            ));
        }
        // All of them: those of another kind are left out afterwards.
        let found = api.memory.search_memories(&caller.user, query, usize::MAX).await?;
        let mut all: HashMap<MemoryId, UserMemory> =
            api.memory.list_memories(&caller.user).await?.into_iter().map(|memory| (memory.id, memory)).collect();
        let memories = found.into_iter().filter_map(|note| Some((all.remove(&note.id)?, note.score)));
        let memories = memories.filter(|(memory, _)| of_kind(memory)).take(wanted.limit);
        let memories = memories.map(|(memory, score)| MemoryView::new(memory, score)).collect();
        return Ok(web::Json(MemoryList { memories, next_cursor: None }));
    }
    let now = Timestamp::now();
    let all = api.memory.list_memories(&caller.user).await?.into_iter();
    let mut rest = all
        .filter(|memory| of_kind(memory) && (wanted.all || memory.is_current(now)))
        .filter(|memory| wanted.cursor.is_none_or(|before| memory.id < before))
        .map(|memory| MemoryView::new(memory, None));
    let memories: Vec<MemoryView> = rest.by_ref().take(wanted.limit).collect();
    let next_cursor = memories.last().map(|view| view.memory.id).filter(|_| rest.next().is_some());
    Ok(web::Json(MemoryList { memories, next_cursor }))
}

/// All that is remembered of the calling user, one memory per line, those that do not hold any more included.
#[utoipa::path(
    operation_id = "export_memories", tag = "memories",
    responses(
        (status = 200, description = "One JSON object (Memory) per line", body = String, content_type = "application/x-ndjson"),
        ForgetAllErrors,
    )
)]
#[get("/memories/export")]
pub(super) async fn export(api: web::Data<ApiState>, caller: Caller) -> Result<HttpResponse, ProblemDetails> {
    let mut lines = Vec::new();
    for memory in api.memory.list_memories(&caller.user).await? {
        serde_json::to_writer(&mut lines, &memory).map_err(|error| {
            ProblemDetails::new(ProblemCode::Internal, format!("a memory cannot be written: {error}"))
        })?;
        lines.push(b'\n');
    }
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"memories.ndjson\""))
        .body(lines))
}

/// One memory.
#[utoipa::path(
    operation_id = "get_memory", tag = "memories",
    params(("memory_id" = MemoryId, Path, description = "The memory")),
    responses((status = 200, description = "The memory", body = MemoryView), GetErrors)
)]
#[get("/memories/{memory_id}")]
pub(super) async fn get(
    api: web::Data<ApiState>,
    caller: Caller,
    path: web::Path<String>,
) -> Result<web::Json<MemoryView>, ProblemDetails> {
    let id: MemoryId = path.parse()?;
    let memory = api.memory.list_memories(&caller.user).await?.into_iter().find(|memory| memory.id == id);
    memory.map(|memory| web::Json(MemoryView::new(memory, None))).ok_or_else(|| not_found(id))
}

/// A correction of a memory. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectMemory {
    /// What it says, 1 to 2000 characters.
    #[serde(default)]
    content: Option<String>,
    /// Its kind.
    #[serde(default)]
    kind: Option<MemoryKind>,
    /// Words under which it may be looked for, at most 16.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// Corrects a memory. What its user says of it counts as sure, and holds again if it was superseded.
#[utoipa::path(
    operation_id = "correct_memory", tag = "memories",
    params(("memory_id" = MemoryId, Path, description = "The memory")),
    request_body = CorrectMemory,
    responses((status = 200, description = "The memory as it is now", body = MemoryView), UpdateErrors)
)]
#[patch("/memories/{memory_id}")]
pub(super) async fn correct(
    api: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    path: web::Path<String>,
    body: Body<CorrectMemory>,
) -> Result<web::Json<MemoryView>, ProblemDetails> {
    let id: MemoryId = path.parse()?;
    let corrected = api.memory.correct_memory(&caller.user, id, checked(body.0)?).await?;
    corrected.map(|memory| web::Json(MemoryView::new(memory, None))).ok_or_else(|| not_found(id))
}

fn checked(correction: CorrectMemory) -> Result<MemoryCorrection, ProblemDetails> {
    let CorrectMemory { content, kind, tags } = correction;
    if content.is_none() && kind.is_none() && tags.is_none() {
        return Err(ProblemDetails::invalid("nothing to correct: give content, kind or tags"));
    }
    let content = content.map(|content| content.trim().to_owned());
    if content.as_ref().is_some_and(|content| content.is_empty() || content.chars().count() > MAX_CONTENT) {
        return Err(ProblemDetails::invalid(format!(
            "content must be 1 to {MAX_CONTENT} characters; DELETE the memory to be rid of it"
        )));
    }
    let tags: Option<Vec<String>> = tags.map(|tags| tags.iter().map(|tag| tag.trim().to_lowercase()).collect());
    let fits = |tag: &String| !tag.is_empty() && tag.chars().count() <= MAX_TAGS.1;
    if tags.as_ref().is_some_and(|tags| tags.len() > MAX_TAGS.0 || !tags.iter().all(fits)) {
        let (most, longest) = MAX_TAGS;
        return Err(ProblemDetails::invalid(format!("tags must be at most {most} words of 1 to {longest} characters")));
    }
    if content.iter().chain(tags.iter().flatten()).any(|text| contains_secret(text)) {
        return Err(ProblemDetails::invalid("this looks like a credential, and none is ever kept in a memory"));
    }
    Ok(MemoryCorrection { content, kind, tags })
}

/// Forgets a memory, with its vector.
#[utoipa::path(
    operation_id = "delete_memory", tag = "memories",
    params(("memory_id" = MemoryId, Path, description = "The memory")),
    responses((status = 204, description = "It is gone"), GetErrors)
)]
#[delete("/memories/{memory_id}")]
pub(super) async fn forget(
    api: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    path: web::Path<String>,
) -> Result<HttpResponse, ProblemDetails> {
    let id: MemoryId = path.parse()?;
    let (forgetting, user) = (api.clone(), caller.user);
    let forgotten = async move {
        let forgotten = forgetting.memory.delete_memory(&user, id).await;
        if matches!(forgotten, Ok(true)) {
            note_deleted(&forgetting, &user).await;
        }
        forgotten
    };
    if api.sessions.to_the_end(forgotten).await? { Ok(HttpResponse::NoContent().finish()) } else { Err(not_found(id)) }
}

/// What was forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub struct Forgotten {
    /// How many memories there were.
    deleted: usize,
}

/// Forgets all that is remembered of the calling user, vectors and all. What is said in sessions from now on may be
/// remembered; `memory: false` in a session's settings keeps it off the record.
#[utoipa::path(
    operation_id = "delete_memories", tag = "memories",
    responses((status = 200, description = "All of it is gone", body = Forgotten), ForgetAllErrors)
)]
#[delete("/memories")]
pub(super) async fn forget_all(
    api: web::Data<ApiState>,
    caller: Caller<CanWrite>,
) -> Result<web::Json<Forgotten>, ProblemDetails> {
    let (forgetting, user) = (api.clone(), caller.user);
    let forgotten = async move {
        let deleted = forgetting.memory.delete_all_memories(&user).await;
        if deleted.is_ok() {
            note_deleted(&forgetting, &user).await;
        }
        deleted
    };
    Ok(web::Json(Forgotten { deleted: api.sessions.to_the_end(forgotten).await? }))
}

async fn note_deleted(api: &ApiState, user: &UserId) {
    api.audit.record(vec![AuditRecord::new(AuditAction::MemoryDeleted).with_actor(format!("user:{user}"))]).await;
}

fn not_found(id: MemoryId) -> ProblemDetails {
    ProblemDetails::new(
        ProblemCode::MemoryNotFound,
        format!("there is no memory {id}; GET /v1/memories lists what there is"),
    )
}
