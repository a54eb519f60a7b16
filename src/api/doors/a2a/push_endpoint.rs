//! `/a2a/v1/tasks/{task_id}/pushNotificationConfigs`, which say that nothing is posted anywhere.

use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};

use super::{a2a_error::StatusBody, client_message::push_notifications_not_supported, http_endpoint::HttpExchange};
use crate::api::{caller::Caller, problem::ProblemDetails, state::ApiState};

/// Answers that push notifications are not supported.
#[utoipa::path(
    operation_id = "create_push_notification_config", tag = "door: a2a",
    params(("task_id" = String, Path, description = "The id of the task")),
    responses((status = 400, description = "`PUSH_NOTIFICATION_NOT_SUPPORTED`", body = StatusBody))
)]
#[post("/a2a/v1/tasks/{task_id}/pushNotificationConfigs")]
pub(in crate::api) async fn create_push_notification_config(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
) -> Result<HttpResponse, ProblemDetails> {
    refuse(request, state, caller).await
}

/// Answers that push notifications are not supported.
#[utoipa::path(
    operation_id = "list_push_notification_configs", tag = "door: a2a",
    params(("task_id" = String, Path, description = "The id of the task")),
    responses((status = 400, description = "`PUSH_NOTIFICATION_NOT_SUPPORTED`", body = StatusBody))
)]
#[get("/a2a/v1/tasks/{task_id}/pushNotificationConfigs")]
pub(in crate::api) async fn list_push_notification_configs(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
) -> Result<HttpResponse, ProblemDetails> {
    refuse(request, state, caller).await
}

/// Answers that push notifications are not supported.
#[utoipa::path(
    operation_id = "get_push_notification_config", tag = "door: a2a",
    params(
        ("task_id" = String, Path, description = "The id of the task"),
        ("config_id" = String, Path, description = "The id of the configuration"),
    ),
    responses((status = 400, description = "`PUSH_NOTIFICATION_NOT_SUPPORTED`", body = StatusBody))
)]
#[get("/a2a/v1/tasks/{task_id}/pushNotificationConfigs/{config_id}")]
pub(in crate::api) async fn get_push_notification_config(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
) -> Result<HttpResponse, ProblemDetails> {
    refuse(request, state, caller).await
}

/// Answers that push notifications are not supported.
#[utoipa::path(
    operation_id = "delete_push_notification_config", tag = "door: a2a",
    params(
        ("task_id" = String, Path, description = "The id of the task"),
        ("config_id" = String, Path, description = "The id of the configuration"),
    ),
    responses((status = 400, description = "`PUSH_NOTIFICATION_NOT_SUPPORTED`", body = StatusBody))
)]
#[delete("/a2a/v1/tasks/{task_id}/pushNotificationConfigs/{config_id}")]
pub(in crate::api) async fn delete_push_notification_config(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
) -> Result<HttpResponse, ProblemDetails> {
    refuse(request, state, caller).await
}

async fn refuse(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
) -> Result<HttpResponse, ProblemDetails> {
    let exchange = HttpExchange { request, state, caller };
    exchange.answer(async |_| Err(push_notifications_not_supported().into())).await
}
