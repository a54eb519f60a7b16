//! The contract: `/openapi.json`, generated from the handlers, and its pages at `/docs`, served offline.

use std::{
    borrow::Cow,
    convert::Infallible,
    sync::{Arc, LazyLock},
};

use actix_web::{HttpRequest, HttpResponse, body::SizedStream, dev::ResourceDef, get, http::header, web};
use futures_util::{Stream, stream};
use utoipa::{
    OpenApi,
    openapi::{
        self, RefOr, Schema,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_actix_web::{AppExt, service_config::ServiceConfig};
use utoipa_swagger_ui::Config;

use super::{
    ProblemCode, approvals, asyncapi, catalog, events, examples, inputs, memories, messages, no_route,
    problem::{ProblemDetails, documented},
    service, sessions, settings, tool_calls, usage, ws,
};
use k8sops_core::{EventBody, SessionEvent, TransientEvent};

/// Bytes of a page that are sent at a time.
const PIECE: usize = 32 * 1024;

/// The contract, as generated from the handlers.
static CONTRACT: LazyLock<openapi::OpenApi> = LazyLock::new(|| {
    let (_, mut contract) =
        actix_web::App::new().into_utoipa_app().openapi(Contract::openapi()).configure(operations).split_for_parts();
    add_errors_of_all(&mut contract);
    describe_payloads(&mut contract);
    name_variants(&mut contract);
    examples::add(&mut contract);
    contract
});

/// The errors that every operation has, whatever it does: [`super::gate`] stands before each, and each may have a fault. And
/// that a caller must be known, where one must be.
fn add_errors_of_all(contract: &mut openapi::OpenApi) {
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
                let none: [&str; 0] = [];
                operation.security = Some(vec![SecurityRequirement::new("bearer", none)]);
            }
            if operation.request_body.is_some() {
                codes.push(ProblemCode::RequestTimeout);
            }
            for (status, answer) in documented(&codes) {
                match (operation.responses.responses.get_mut(&status), answer) {
                    (Some(RefOr::T(own)), RefOr::T(answer)) => {
                        own.description = format!("{}, {}", own.description, answer.description);
                        own.headers.extend(answer.headers);
                    }
                    (_, answer) => {
                        operation.responses.responses.insert(status, answer);
                    }
                }
            }
        }
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "A key that the operator gave out (`AUTH_MODE=api_key`) or a token of the issuer (`jwt`). Not needed with `none`, nor \
         behind a proxy that authenticates (`proxy`).",
    ));
    if let Some(components) = &mut contract.components {
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    }
}

/// Gives what an event carries the description of the event: in the code it only points there, which says nothing to a
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
            && payload.description.as_ref().is_some_and(|words| words.starts_with("See [`"))
        {
            payload.description = Some(description);
        }
    }
}

/// Gives each variant of a union that a word tells apart a name of its own, `MessageUser`: generators of clients call
/// their types by it, and some make none of a union whose variants have no names.
pub(super) fn name_variants(contract: &mut openapi::OpenApi) {
    let Some(components) = &mut contract.components else { return };
    let mut named = Vec::new();
    for (union, schema) in &mut components.schemas {
        let RefOr::T(Schema::OneOf(schema)) = schema else { continue };
        for variant in &mut schema.items {
            let RefOr::T(Schema::AllOf(parts)) = &*variant else { continue };
            let Some(word) = parts.items.iter().find_map(word) else { continue };
            let word = word.split('_').flat_map(|part| [part[..1].to_uppercase(), part[1..].to_owned()]);
            let name = format!("{union}{}", word.collect::<String>());
            let reference = RefOr::Ref(openapi::Ref::from_schema_name(&name));
            named.push((name, std::mem::replace(variant, reference)));
        }
    }
    components.schemas.extend(named);
}

/// The word that tells a variant from the others of its union: the only value of its only field.
fn word(part: &RefOr<Schema>) -> Option<&str> {
    let RefOr::T(Schema::Object(part)) = part else { return None };
    match part.properties.values().next()? {
        RefOr::T(Schema::Object(field)) if part.properties.len() == 1 => field.enum_values.as_ref()?.first()?.as_str(),
        _ => None,
    }
}

/// The contract as it is served and kept in `openapi/openapi.json`.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
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
                       with the number of the last event it has seen misses nothing and gets nothing twice.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(ProblemDetails, SessionEvent, EventBody, TransientEvent)),
    tags(
        (name = "sessions", description = "Conversations and their settings"),
        (name = "messages", description = "Talk to the agent"),
        (name = "approvals", description = "Let a call run, or not"),
        (name = "events", description = "The log of a session, replayed and live"),
        (name = "memories", description = "What is remembered of the user beyond a session"),
        (name = "catalog", description = "Models and tools"),
        (name = "usage", description = "What was used, and what may be"),
        (name = "service", description = "Facts, probes, metrics and this document"),
    )
)]
struct Contract;

/// Every operation of the API.
fn operations(config: &mut ServiceConfig) {
    config.service(
        utoipa_actix_web::scope("/v1")
            .service(sessions::create)
            .service(sessions::list)
            .service(sessions::get)
            .service(sessions::update)
            .service(sessions::delete)
            .service(settings::get)
            .service(settings::update)
            .service(messages::send)
            .service(messages::list)
            .service(messages::cancel)
            .service(approvals::list)
            .service(approvals::resolve)
            .service(inputs::answer_input)
            .service(tool_calls::output)
            .service(events::follow)
            .service(ws::open)
            .service(memories::list)
            .service(memories::export)
            .service(memories::forget_all)
            .service(memories::get)
            .service(memories::correct)
            .service(memories::forget)
            .service(usage::report)
            .service(catalog::providers)
            .service(catalog::tools)
            .service(catalog::refresh)
            .service(service::info),
    );
    config
        .service(service::healthz)
        .service(service::readyz)
        .service(service::metrics)
        .service(openapi_document)
        .service(asyncapi_document);
}

/// This document.
#[utoipa::path(
    operation_id = "openapi", tag = "service",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object))
)]
#[get("/openapi.json")]
async fn openapi_document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(DOCUMENT.as_str())
}

/// The contract of the WebSocket: the commands that go up and the frames that come down.
#[utoipa::path(
    operation_id = "asyncapi", tag = "service",
    responses((status = 200, description = "AsyncAPI 3.0", content_type = "application/json", body = Object))
)]
#[get("/asyncapi.json")]
async fn asyncapi_document() -> HttpResponse {
    static TEXT: LazyLock<String> = LazyLock::new(|| asyncapi::document().to_string());
    HttpResponse::Ok().content_type("application/json").body(TEXT.as_str())
}

/// Serves all operations, and the pages that show them.
pub(super) fn serve(config: &mut web::ServiceConfig) {
    operations(&mut ServiceConfig::new(config));
    config.route("/docs", web::get().to(to_docs)).route("/docs/{file:.*}", web::get().to(docs_file));
}

async fn to_docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

async fn docs_file(request: HttpRequest) -> HttpResponse {
    static CONFIG: LazyLock<Arc<Config<'_>>> =
        LazyLock::new(|| Arc::new(Config::from("/openapi.json").try_it_out_enabled(true)));
    match utoipa_swagger_ui::serve(request.match_info().query("file"), CONFIG.clone()) {
        Ok(Some(file)) => {
            let mut response = HttpResponse::Ok();
            if file.gzpipped {
                response.insert_header(header::ContentEncoding::Gzip);
            }
            let page = match file.bytes {
                Cow::Borrowed(page) => web::Bytes::from_static(page),
                Cow::Owned(page) => page.into(),
            };
            response.content_type(file.content_type).body(in_pieces(page))
        }
        Ok(None) => no_route(request).await,
        Err(error) => ProblemDetails::new(ProblemCode::Internal, error.to_string()).response(),
    }
}

/// A page in pieces, each made when the one before was taken: whoever asks for one and does not read it costs a piece of it.
fn in_pieces(page: web::Bytes) -> SizedStream<impl Stream<Item = Result<web::Bytes, Infallible>>> {
    let length = page.len() as u64;
    let pieces = (0..page.len()).step_by(PIECE).map(move |from| Ok(page.slice(from..page.len().min(from + PIECE))));
    SizedStream::new(length, stream::iter(pieces))
}

/// The contract, for what is made of it.
pub(super) fn contract() -> &'static openapi::OpenApi {
    &CONTRACT
}

/// The OpenAPI document, as the program writes it.
#[must_use]
pub fn openapi_json() -> &'static str {
    &DOCUMENT
}

/// The methods that the contract knows at a path of a request.
pub(super) fn methods_of(path: &str) -> Vec<&'static str> {
    static PATHS: LazyLock<Vec<(ResourceDef, Vec<&'static str>)>> = LazyLock::new(|| {
        CONTRACT.paths.paths.iter().map(|(path, item)| (ResourceDef::new(path.as_str()), methods(item))).collect()
    });
    PATHS.iter().filter(|(pattern, _)| pattern.is_match(path)).flat_map(|(_, methods)| methods.clone()).collect()
}

fn methods(item: &openapi::PathItem) -> Vec<&'static str> {
    [
        ("DELETE", item.delete.is_some()),
        ("GET", item.get.is_some()),
        ("PATCH", item.patch.is_some()),
        ("POST", item.post.is_some()),
        ("PUT", item.put.is_some()),
    ]
    .into_iter()
    .filter_map(|(method, known)| known.then_some(method))
    .collect()
}
