//! `/v1/providers` and `/v1/tools`: the models and tools that are available to the agent.

use actix_web::{get, post, web};
use k8sops_models::ProviderInfo;
use k8sops_tools::{LeftOutTool, ToolInfo};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    caller::{Caller, CanWrite},
    state::ApiState,
};

/// The providers and their models.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProviderList {
    /// The provider of a new session.
    default_provider: String,
    /// The model of a new session.
    default_model: String,
    /// The models that are tried, in this order, when a session's own model is unavailable.
    fallback: Vec<ModelName>,
    /// The models that have failed repeatedly on this replica and are not called for a while.
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

/// Lists the providers and models.
#[utoipa::path(
    operation_id = "list_providers", tag = "catalog",
    responses((status = 200, description = "The catalog", body = ProviderList))
)]
#[get("/providers")]
pub(super) async fn list_providers(state: web::Data<ApiState>, _caller: Caller) -> web::Json<ProviderList> {
    let unavailable = state.catalog.open_circuits().into_iter();
    web::Json(ProviderList {
        default_provider: state.default_settings.load().provider.clone(),
        default_model: state.default_settings.load().model.clone(),
        fallback: state
            .fallback
            .iter()
            .map(|choice| ModelName { provider: choice.provider.clone(), model: choice.model.clone() })
            .collect(),
        unavailable: unavailable.map(|(provider, model)| ModelName { provider, model }).collect(),
        providers: state.catalog.providers(),
    })
}

/// The tools of all MCP servers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ToolList {
    /// The tools, sorted by name.
    tools: Vec<ToolInfo>,
    /// The tools that servers list and no model gets, with the reason.
    left_out: Vec<LeftOutTool>,
}

impl ToolList {
    fn from_catalog(state: &ApiState) -> Self {
        Self { tools: state.tools.list_tools(), left_out: state.tools.list_left_out() }
    }
}

/// Lists the tools of all MCP servers, each with its effect class and the reason for it.
///
/// The tools of a server that is unavailable are listed as they were last known. `/v1/info` shows which servers are connected.
#[utoipa::path(
    operation_id = "list_tools", tag = "catalog",
    responses((status = 200, description = "The tools", body = ToolList))
)]
#[get("/tools")]
pub(super) async fn list_tools(state: web::Data<ApiState>, _caller: Caller) -> web::Json<ToolList> {
    web::Json(ToolList::from_catalog(&state))
}

/// Queries all MCP servers for their tools, and returns them.
#[utoipa::path(
    operation_id = "refresh_tools", tag = "catalog",
    responses((status = 200, description = "The refreshed tools", body = ToolList))
)]
#[post("/tools/refresh")]
pub(super) async fn refresh_tools(state: web::Data<ApiState>, _caller: Caller<CanWrite>) -> web::Json<ToolList> {
    state.mcp.refresh_tools().await;
    web::Json(ToolList::from_catalog(&state))
}
