//! `/v1/providers` and `/v1/tools`: what the agent can use.

use actix_web::{get, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState,
    extract::{Caller, CanWrite},
};
use k8sops_models::ProviderInfo;
use k8sops_tools::ToolInfo;

/// The providers and their models.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderList {
    /// The provider of a new session.
    default_provider: String,
    /// The model of a new session.
    default_model: String,
    /// Who is asked, in this order, while a session's own model is down.
    fallback: Vec<ModelName>,
    /// Models that have failed, as this replica knows, and are left alone for a while before they are asked again.
    unavailable: Vec<ModelName>,
    /// All providers.
    providers: Vec<ProviderInfo>,
}

/// A model of a provider.
#[derive(Debug, Serialize, ToSchema)]
struct ModelName {
    /// The provider's id.
    provider: String,
    /// The model's id.
    model: String,
}

/// The catalog of providers and models.
#[utoipa::path(
    operation_id = "list_providers", tag = "catalog",
    responses((status = 200, description = "The catalog", body = ProviderList))
)]
#[get("/providers")]
pub(super) async fn providers(api: web::Data<ApiState>, _caller: Caller) -> web::Json<ProviderList> {
    web::Json(ProviderList {
        default_provider: api.defaults.load().provider.clone(),
        default_model: api.defaults.load().model.clone(),
        fallback: api
            .fallback
            .iter()
            .map(|choice| ModelName { provider: choice.provider.clone(), model: choice.model.clone() })
            .collect(),
        unavailable: api
            .catalog
            .open_circuits()
            .into_iter()
            .map(|(provider, model)| ModelName { provider, model })
            .collect(),
        providers: api.catalog.providers(),
    })
}

/// The discovered tools.
#[derive(Debug, Serialize, ToSchema)]
pub struct ToolList {
    /// Sorted by name.
    tools: Vec<ToolInfo>,
}

/// The tools of all servers, each with its effect class and why it has it.
///
/// The tools of a server that is away just now are listed as they were last known; `/v1/info` says which servers are
/// connected.
#[utoipa::path(
    operation_id = "list_tools", tag = "catalog",
    responses((status = 200, description = "The tools", body = ToolList))
)]
#[get("/tools")]
pub(super) async fn tools(api: web::Data<ApiState>, _caller: Caller) -> web::Json<ToolList> {
    web::Json(ToolList { tools: api.tools.list_tools() })
}

/// Asks all servers for their tools anew, and answers with what they say.
#[utoipa::path(
    operation_id = "refresh_tools", tag = "catalog",
    responses((status = 200, description = "The tools as they are now", body = ToolList))
)]
#[post("/tools/refresh")]
pub(super) async fn refresh(api: web::Data<ApiState>, _caller: Caller<CanWrite>) -> web::Json<ToolList> {
    api.mcp.refresh_tools().await;
    web::Json(ToolList { tools: api.tools.list_tools() })
}
