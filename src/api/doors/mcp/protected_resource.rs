//! Where clients of MCP get tokens: the metadata of RFC 9728, and the challenge that names it.

use actix_web::{HttpRequest, web};
use serde::Serialize;

use crate::api::{
    doors::ClientDoor, problem::ProblemDetails, problem_code::ProblemCode, public_base::public_base, state::ApiState,
};

/// The path of the metadata.
pub(in crate::api) const METADATA_PATH: &str = "/.well-known/oauth-protected-resource/mcp";

/// What a client has to know to get a token for `/mcp`.
#[derive(Debug, Serialize)]
pub(in crate::api) struct ResourceMetadata {
    /// The URL of the endpoint, as the client reaches it.
    resource: String,
    /// The issuer whose tokens are accepted.
    authorization_servers: Vec<String>,
    /// `header`: a token is sent as `Authorization: Bearer`.
    bearer_methods_supported: Vec<&'static str>,
    /// `k8sops`.
    resource_name: &'static str,
}

/// Returns where clients of MCP get tokens (RFC 9728).
///
/// It is there with `AUTH_MODE=jwt`, for everyone: a client reads it before it has a token. It belongs to the protocol of tokens,
/// not to the API, and is therefore not in the OpenAPI document.
pub(in crate::api) async fn get_resource_metadata(
    request: HttpRequest,
    state: web::Data<ApiState>,
) -> Result<web::Json<ResourceMetadata>, ProblemDetails> {
    let Some(issuer) = state.authenticator.token_issuer() else {
        let detail = "this service has no issuer from which clients get tokens (AUTH_MODE)";
        return Err(ProblemDetails::new(ProblemCode::NotFound, detail));
    };
    Ok(web::Json(ResourceMetadata {
        resource: format!("{}/mcp", public_base(&request)),
        authorization_servers: vec![issuer.to_owned()],
        bearer_methods_supported: vec!["header"],
        resource_name: "k8sops",
    }))
}

/// Returns the parameter of an authentication challenge that names the metadata, for requests to the door.
pub(in crate::api) fn metadata_parameter(request: &HttpRequest, state: &ApiState) -> Option<String> {
    if ClientDoor::of_path(request.path()) != Some(ClientDoor::Mcp) {
        return None;
    }
    state.authenticator.token_issuer()?;
    Some(format!("resource_metadata=\"{}{METADATA_PATH}\"", public_base(request)))
}
