//! The OpenAPI document, generated from the handlers.

use std::sync::LazyLock;

use actix_web::dev::ResourceDef;
use k8sops_core::{AccountGap, AccountHello, EventBody, MessageQueued, SessionDeleted, SessionEvent, TransientEvent};
use serde_json::json;
use utoipa::{
    OpenApi,
    openapi::{
        self, RefOr, Schema,
        extensions::Extensions,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_actix_web::AppExt;

use super::{
    doors::{ClientDoor, OpenDoors},
    error_responses::error_responses,
    examples::add_examples,
    negotiation::{NDJSON, SSE},
    openapi_unions::{name_shared_values, name_whole_variants, remove_unused_schemas},
    operations::register_operations,
    problem::ProblemDetails,
    problem_code::ProblemCode,
};

/// The document as an object.
static CONTRACT: LazyLock<openapi::OpenApi> = LazyLock::new(|| {
    let app = actix_web::App::new().into_utoipa_app().openapi(ApiContract::openapi());
    let (_, mut contract) = app.configure(|config| register_operations(config, &OpenDoors::all())).split_for_parts();
    add_common_errors(&mut contract);
    express_door_errors(&mut contract);
    add_security_scheme(&mut contract);
    describe_payloads(&mut contract);
    name_whole_variants(&mut contract);
    describe_streams(&mut contract);
    add_examples(&mut contract);
    remove_unused_schemas(&mut contract);
    name_shared_values(&mut contract);
    contract
});

/// The document as text, as it is served and stored in `openapi/openapi.json`.
static CONTRACT_JSON: LazyLock<String> = LazyLock::new(|| {
    let mut text = CONTRACT.to_pretty_json().expect("the document is made of plain data");
    text.push('\n');
    text
});

#[derive(OpenApi)]
#[openapi(
    info(
        title = "k8sops",
        description = "A headless Kubernetes-operations agent: durable sessions, streamed over REST, WebSocket and SSE, \
                       tools through MCP.\n\nEvery event of a session has a sequence number. A client that reconnects \
                       with the number of the last event that it received misses no event and receives none twice.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "The service that serves this document")),
    components(schemas(
        ProblemDetails, SessionEvent, EventBody, TransientEvent, AccountHello, AccountGap, SessionDeleted, MessageQueued
    )),
    tags(
        (name = "sessions", description = "Conversations and their settings"),
        (name = "messages", description = "Messages to and from the agent"),
        (name = "approvals", description = "Approval of tool calls, and questions of MCP servers"),
        (name = "events", description = "The log of a session, replayed and live"),
        (name = "memories", description = "Long-term memories of the user"),
        (name = "catalog", description = "Models and tools"),
        (name = "usage", description = "Usage and budgets"),
        (name = "door: openai", description = "For clients of OpenAI's API: models and chat completions"),
        (name = "door: responses", description = "For clients of OpenAI's Responses API"),
        (name = "door: agui", description = "For clients of AG-UI"),
        (name = "door: mcp", description = "For clients of MCP"),
        (name = "door: a2a", description = "For other agents, by A2A 1.0"),
        (name = "service", description = "Service information, probes, metrics and this document"),
    )
)]
struct ApiContract;

/// Returns the OpenAPI document as JSON.
#[must_use]
pub fn openapi_json() -> &'static str {
    &CONTRACT_JSON
}

/// Returns the OpenAPI document.
pub(super) fn openapi_contract() -> &'static openapi::OpenApi {
    &CONTRACT
}

/// Returns the methods that the path of a request has: those that the document lists, and `HEAD` beside `GET`.
pub(super) fn documented_methods(path: &str) -> Vec<&'static str> {
    static PATHS: LazyLock<Vec<(ResourceDef, Vec<&'static str>)>> = LazyLock::new(|| {
        let paths = CONTRACT.paths.paths.iter();
        paths.map(|(path, item)| (ResourceDef::new(path.as_str()), methods_of(item))).collect()
    });
    PATHS.iter().filter(|(pattern, _)| pattern.is_match(path)).flat_map(|(_, methods)| methods.clone()).collect()
}

fn methods_of(item: &openapi::PathItem) -> Vec<&'static str> {
    [
        ("DELETE", item.delete.is_some()),
        ("GET", item.get.is_some()),
        ("HEAD", item.get.is_some()),
        ("PATCH", item.patch.is_some()),
        ("POST", item.post.is_some()),
        ("PUT", item.put.is_some()),
    ]
    .into_iter()
    .filter_map(|(method, exists)| exists.then_some(method))
    .collect()
}

/// Adds the errors that every operation can return, which come from the middleware, and the security requirement.
fn add_common_errors(contract: &mut openapi::OpenApi) {
    for (path, item) in &mut contract.paths.paths {
        let operations = [&mut item.delete, &mut item.get, &mut item.patch, &mut item.post, &mut item.put];
        for operation in operations.into_iter().flatten() {
            let mut codes = vec![ProblemCode::OriginNotAllowed, ProblemCode::Internal];
            if ClientDoor::of_path(path).is_some() || path == "/v1/info" || path == "/metrics" {
                codes.extend([
                    ProblemCode::Unauthenticated,
                    ProblemCode::RoleRequired,
                    ProblemCode::TooManyRequests,
                    ProblemCode::IdentityUnavailable,
                ]);
                let no_scopes: [&str; 0] = [];
                operation.security = Some(vec![SecurityRequirement::new("bearer", no_scopes)]);
            } else {
                operation.security = Some(Vec::new());
            }
            if operation.request_body.is_some() {
                codes.push(ProblemCode::RequestTimeout);
            }
            for (status, common) in error_responses(&codes) {
                match (operation.responses.responses.get_mut(&status), common) {
                    (Some(RefOr::T(own)), RefOr::T(common)) => {
                        own.description = format!("{}, {}", own.description, common.description);
                        own.headers.extend(common.headers);
                    }
                    (_, common) => {
                        operation.responses.responses.insert(status, common);
                    }
                }
            }
        }
    }
}

/// Documents the errors of a door in its own form.
fn express_door_errors(contract: &mut openapi::OpenApi) {
    let paths = contract.paths.paths.iter_mut();
    for (path, item) in paths {
        let error = match ClientDoor::of_path(path) {
            Some(ClientDoor::OpenAi | ClientDoor::Responses) => "OpenAiError",
            Some(ClientDoor::Mcp) => "JsonRpcResponse",
            Some(ClientDoor::A2a) if matches!(path.as_str(), "/a2a" | "/a2a/") => "A2aRpcResponse",
            Some(ClientDoor::A2a) => "A2aStatus",
            Some(ClientDoor::Native | ClientDoor::AgUi) | None => continue,
        };
        for operation in [&mut item.delete, &mut item.get, &mut item.post].into_iter().flatten() {
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else { continue };
                if status.starts_with(['4', '5']) {
                    let schema = openapi::Ref::from_schema_name(error);
                    let content = openapi::ContentBuilder::new().schema(Some(schema)).build();
                    response.content = [("application/json".to_owned(), content.into())].into_iter().collect();
                }
            }
        }
    }
}

fn add_security_scheme(contract: &mut openapi::OpenApi) {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "An API key that the operator issued (`AUTH_MODE=api_key`) or a token of the OIDC issuer (`jwt`). Not required with \
         `none`, nor behind a proxy that authenticates users (`proxy`).",
    ));
    if let Some(components) = &mut contract.components {
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    }
}

/// Copies the description of an event to its payload, whose doc comment only links to the event. Such a link says nothing to a
/// reader of the document.
fn describe_payloads(contract: &mut openapi::OpenApi) {
    let Some(components) = &mut contract.components else { return };
    let unions = components.schemas.values().filter_map(|schema| match schema {
        RefOr::T(Schema::OneOf(union)) => Some(&union.items),
        _ => None,
    });
    let payloads = unions.flatten().filter_map(|variant| match variant {
        RefOr::T(Schema::AllOf(variant)) => match variant.items.first()? {
            RefOr::Ref(payload) => {
                Some((payload.ref_location.rsplit('/').next()?.to_owned(), variant.description.clone()?))
            }
            RefOr::T(_) => None,
        },
        _ => None,
    });
    for (name, description) in payloads.collect::<Vec<_>>() {
        if let Some(RefOr::T(Schema::Object(payload))) = components.schemas.get_mut(&name)
            && payload.description.as_ref().is_some_and(|text| text.starts_with("See [`"))
        {
            payload.description = Some(description);
        }
    }
}

/// Says what the messages or lines of a stream hold. OpenAPI 3.1 knows streams only as text.
fn describe_streams(contract: &mut openapi::OpenApi) {
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let one_of = |names: &[&str]| json!({"oneOf": names.iter().copied().map(reference).collect::<Vec<_>>()});
    let operations = contract.paths.paths.values_mut().flat_map(|item| [&mut item.get, &mut item.post]).flatten();
    for operation in operations {
        let item = match operation.operation_id.as_deref() {
            Some("stream_events" | "send_message") => one_of(&["Event", "Transient"]),
            Some("stream_account") => {
                one_of(&["Event", "AccountHello", "AccountGap", "SessionDeleted", "MessageQueued"])
            }
            Some("export_memories") => reference("Memory"),
            _ => continue,
        };
        for response in operation.responses.responses.values_mut() {
            let RefOr::T(response) = response else { continue };
            for (_, content) in response.content.iter_mut().filter(|(kind, _)| [SSE, NDJSON].contains(&kind.as_str())) {
                let RefOr::T(content) = content else { continue };
                if let Some(RefOr::T(Schema::Object(text))) = &mut content.schema {
                    text.extensions = Some(Extensions::from_iter([("contentSchema", item.clone())]));
                }
            }
        }
    }
}
