//! Where clients of MCP get tokens: the metadata of RFC 9728, and the challenge that names it.

use actix_web::{HttpRequest, web};
use serde::Serialize;

use crate::api::{doors::ClientDoor, problem::ProblemDetails, problem_code::ProblemCode, state::ApiState};

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
    let issuer = state.authenticator.token_issuer();
    let Some((issuer, base)) = issuer.zip(public_base(&request)) else {
        let detail = "this service has no issuer from which clients get tokens (AUTH_MODE)";
        return Err(ProblemDetails::new(ProblemCode::NotFound, detail));
    };
    Ok(web::Json(ResourceMetadata {
        resource: format!("{base}/mcp"),
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
    Some(format!("resource_metadata=\"{}{METADATA_PATH}\"", public_base(request)?))
}

/// Returns the beginning of the URLs by which the client reaches the service: what its proxy says, else what the request says.
fn public_base(request: &HttpRequest) -> Option<String> {
    let connection = request.connection_info();
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let is_plain = matches!(connection.scheme(), "http" | "https") && connection.host().chars().all(is_host);
    is_plain.then(|| format!("{}://{}", connection.scheme(), connection.host()))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn url_is_the_one_of_the_client() {
        for (headers, base) in [
            (vec![("host", "k8sops.example.com")], Some("http://k8sops.example.com")),
            (
                vec![
                    ("host", "10.0.0.1:8080"),
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-host", "ops.example.com"),
                ],
                Some("https://ops.example.com"),
            ),
            (vec![("host", "[::1]:8080")], Some("http://[::1]:8080")),
            (vec![("host", "a\", error=\"x")], None),
            (vec![("host", "a"), ("x-forwarded-proto", "javascript")], None),
        ] {
            let request =
                headers.iter().fold(TestRequest::get().uri("/mcp"), |request, header| request.insert_header(*header));
            assert_eq!(public_base(&request.to_http_request()).as_deref(), base, "{headers:?}");
        }
    }
}
