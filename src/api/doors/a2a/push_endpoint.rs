//! `/a2a/v1/tasks/{task_id}/pushNotificationConfigs`: where what becomes of a task is posted.

use actix_web::{HttpResponse, delete, get, post, web};

use super::{
    a2a_error::{StatusBody, reject_body},
    http_endpoint::{HttpExchange, json_response},
    push_config_body::{PushConfigList, PushConfigRequest, PushConfigResource},
};
use crate::api::{doors::door_body::ConversationBody, error_responses::document_errors, problem::ProblemDetails};

document_errors!(
    PushConfigErrors: InvalidRequest, SessionNotFound, SessionDamaged, StoreUnavailable, Stopping
);
document_errors!(
    PushConfigDeletionErrors: InvalidRequest, RoleRequired, SessionNotFound, SessionDamaged, StoreUnavailable, Stopping
);
document_errors!(
    PushConfigChangeErrors: InvalidJson, InvalidRequest, RoleRequired, SessionNotFound, SessionDamaged, PayloadTooLarge,
    StoreUnavailable, Stopping, Overloaded
);

/// Posts what becomes of a task from now on to a URL.
///
/// Bodies are those of the task's stream, without text that is not logged yet. A repetition has the same `X-K8sops-Notification-Id`.
#[utoipa::path(
    operation_id = "create_push_notification_config", tag = "door: a2a",
    params(("task_id" = String, Path, description = "The id of the task")),
    request_body = PushConfigRequest,
    responses(
        (status = 200, description = "The configuration, without the credentials", content(
            (PushConfigResource = "application/json"), (PushConfigResource = "application/a2a+json"),
        )),
        (status = 400, description = "`PUSH_NOTIFICATION_NOT_SUPPORTED` if the operator has allowed no receivers",
            body = StatusBody),
        PushConfigChangeErrors
    )
)]
#[post("/a2a/v1/tasks/{task_id}/pushNotificationConfigs")]
pub(in crate::api) async fn create_push_notification_config(
    exchange: HttpExchange,
    task_id: web::Path<String>,
    body: Result<ConversationBody<PushConfigRequest>, ProblemDetails>,
) -> Result<HttpResponse, ProblemDetails> {
    let body = body.map_err(|problem| reject_body(&exchange.request, problem));
    exchange
        .answer(async |service| {
            service.ensure_push_notifications()?;
            service.create_push_config(&task_id, body?.0).await.map(json_response)
        })
        .await
}

/// Lists where what becomes of a task is posted.
#[utoipa::path(
    operation_id = "list_push_notification_configs", tag = "door: a2a",
    params(("task_id" = String, Path, description = "The id of the task")),
    responses(
        (status = 200, description = "The configurations", content(
            (PushConfigList = "application/json"), (PushConfigList = "application/a2a+json"),
        )),
        (status = 400, description = "`PUSH_NOTIFICATION_NOT_SUPPORTED` if the operator has allowed no receivers",
            body = StatusBody),
        PushConfigErrors
    )
)]
#[get("/a2a/v1/tasks/{task_id}/pushNotificationConfigs")]
pub(in crate::api) async fn list_push_notification_configs(
    exchange: HttpExchange,
    task_id: web::Path<String>,
) -> Result<HttpResponse, ProblemDetails> {
    exchange.answer(async |service| service.list_push_configs(&task_id).await.map(json_response)).await
}

/// Returns a configuration of a task.
#[utoipa::path(
    operation_id = "get_push_notification_config", tag = "door: a2a",
    params(
        ("task_id" = String, Path, description = "The id of the task"),
        ("config_id" = String, Path, description = "The id of the configuration"),
    ),
    responses(
        (status = 200, description = "The configuration, without the credentials", content(
            (PushConfigResource = "application/json"), (PushConfigResource = "application/a2a+json"),
        )),
        (status = 400, description = "`PUSH_NOTIFICATION_NOT_SUPPORTED` if the operator has allowed no receivers",
            body = StatusBody),
        PushConfigErrors
    )
)]
#[get("/a2a/v1/tasks/{task_id}/pushNotificationConfigs/{config_id}")]
pub(in crate::api) async fn get_push_notification_config(
    exchange: HttpExchange,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ProblemDetails> {
    let (task_id, config_id) = path.into_inner();
    exchange.answer(async |service| service.get_push_config(&task_id, &config_id).await.map(json_response)).await
}

/// Stops posting what becomes of a task.
#[utoipa::path(
    operation_id = "delete_push_notification_config", tag = "door: a2a",
    params(
        ("task_id" = String, Path, description = "The id of the task"),
        ("config_id" = String, Path, description = "The id of the configuration"),
    ),
    responses(
        (status = 200, description = "Nothing is posted by this configuration any more", content(
            (Object = "application/json"), (Object = "application/a2a+json"),
        )),
        (status = 400, description = "`PUSH_NOTIFICATION_NOT_SUPPORTED` if the operator has allowed no receivers",
            body = StatusBody),
        PushConfigDeletionErrors
    )
)]
#[delete("/a2a/v1/tasks/{task_id}/pushNotificationConfigs/{config_id}")]
pub(in crate::api) async fn delete_push_notification_config(
    exchange: HttpExchange,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ProblemDetails> {
    let (task_id, config_id) = path.into_inner();
    exchange.answer(async |service| service.delete_push_config(&task_id, &config_id).await.map(json_response)).await
}
