//! Mounts all routes.

use actix_web::web;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    asyncapi::asyncapi_json,
    console::register_console,
    documents::ContractDocuments,
    doors::{
        ClientDoor, a2a,
        mcp::protected_resource::{METADATA_PATH, get_resource_metadata},
    },
    fallback::answer_unmatched,
    openapi::openapi_json,
    operations::register_operations,
    problem::ProblemDetails,
    state::ApiState,
    swagger_ui::register_pages,
};

/// Registers all routes, and the answer to requests without a route.
pub fn register_routes(config: &mut web::ServiceConfig, state: &web::Data<ApiState>) {
    let documents = ContractDocuments { openapi: openapi_json, asyncapi: asyncapi_json };
    config
        .app_data(state.clone())
        .app_data(web::Data::new(documents))
        .app_data(web::PayloadConfig::new(state.server.max_frame_bytes))
        .app_data(
            web::PathConfig::default().error_handler(|error, _| ProblemDetails::invalid(error.to_string()).into()),
        )
        .configure(|config| register_operations(&mut ServiceConfig::new(config), &state.server.doors))
        .configure(register_pages)
        .configure(|config| {
            if state.server.doors.contains(ClientDoor::Mcp) {
                config.route(METADATA_PATH, web::get().to(get_resource_metadata));
            }
            if state.server.doors.contains(ClientDoor::A2a) {
                config.configure(a2a::register_unlisted_routes);
            }
        })
        .configure(|config| {
            if state.server.console {
                register_console(config);
            }
        })
        .default_service(web::to(answer_unmatched));
}
