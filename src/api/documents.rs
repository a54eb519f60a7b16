//! `/openapi.json` and `/asyncapi.json`: the API description.

use actix_web::{HttpResponse, get, web};

/// The documents that are served. They are set by the routes, because they describe these handlers, too.
pub(super) struct ContractDocuments {
    pub(super) openapi: fn() -> &'static str,
    pub(super) asyncapi: fn() -> &'static str,
}

/// Returns this document.
#[utoipa::path(
    operation_id = "openapi", tag = "service",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object))
)]
#[get("/openapi.json")]
pub(super) async fn openapi_document(documents: web::Data<ContractDocuments>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body((documents.openapi)())
}

/// Returns the description of the WebSocket: the commands of clients and the frames of the server.
#[utoipa::path(
    operation_id = "asyncapi", tag = "service",
    responses((status = 200, description = "AsyncAPI 3.0", content_type = "application/json", body = Object))
)]
#[get("/asyncapi.json")]
pub(super) async fn asyncapi_document(documents: web::Data<ContractDocuments>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body((documents.asyncapi)())
}
