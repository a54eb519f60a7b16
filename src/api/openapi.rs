//! The OpenAPI document, generated from the handlers.

use std::sync::LazyLock;

use actix_web::dev::ResourceDef;
use k8sops_core::{AccountGap, AccountHello, EventBody, MessageQueued, SessionDeleted, SessionEvent, TransientEvent};
use utoipa::{
    OpenApi,
    openapi::{
        self, RefOr, Schema,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_actix_web::AppExt;

use super::{
    error_responses::error_responses, examples::add_examples, operations::register_operations, problem::ProblemDetails,
    problem_code::ProblemCode,
};

/// The document as an object.
static CONTRACT: LazyLock<openapi::OpenApi> = LazyLock::new(|| {
    let app = actix_web::App::new().into_utoipa_app().openapi(ApiContract::openapi());
    let (_, mut contract) = app.configure(register_operations).split_for_parts();
    add_common_errors(&mut contract);
    add_security_scheme(&mut contract);
    describe_payloads(&mut contract);
    name_variants(&mut contract);
    add_examples(&mut contract);
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
            if path.starts_with("/v1/") || path == "/metrics" {
                codes.extend([
                    ProblemCode::Unauthenticated,
                    ProblemCode::RoleRequired,
                    ProblemCode::TooManyRequests,
                    ProblemCode::IdentityUnavailable,
                ]);
                let no_scopes: [&str; 0] = [];
                operation.security = Some(vec![SecurityRequirement::new("bearer", no_scopes)]);
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

/// Names each variant of a tagged union, for example `MessageUser`. Client generators use these names for their types, and
/// some cannot generate a union with anonymous variants.
pub(super) fn name_variants(contract: &mut openapi::OpenApi) {
    let Some(components) = &mut contract.components else { return };
    let mut named = Vec::new();
    for (union, schema) in &mut components.schemas {
        let RefOr::T(Schema::OneOf(schema)) = schema else { continue };
        for variant in &mut schema.items {
            let RefOr::T(Schema::AllOf(parts)) = &*variant else { continue };
            let Some(tag) = parts.items.iter().find_map(variant_tag) else { continue };
            let capitalized = tag.split('_').flat_map(|part| [part[..1].to_uppercase(), part[1..].to_owned()]);
            let name = format!("{union}{}", capitalized.collect::<String>());
            let reference = RefOr::Ref(openapi::Ref::from_schema_name(&name));
            named.push((name, std::mem::replace(variant, reference)));
        }
    }
    components.schemas.extend(named);
}

/// Returns the tag of a variant: the only value of the only field of this part of its schema.
fn variant_tag(part: &RefOr<Schema>) -> Option<&str> {
    let RefOr::T(Schema::Object(part)) = part else { return None };
    match part.properties.values().next()? {
        RefOr::T(Schema::Object(field)) if part.properties.len() == 1 => field.enum_values.as_ref()?.first()?.as_str(),
        _ => None,
    }
}
