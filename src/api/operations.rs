//! The list of all operations.

use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    account_events, approvals, catalog, documents,
    doors::{
        ClientDoor, OpenDoors,
        a2a::{card_endpoint, http_endpoint as a2a, push_endpoint, rpc_endpoint},
        agui::endpoint as agui,
        mcp::endpoint as mcp,
        openai::endpoint as openai,
        responses::endpoint as responses,
    },
    events, export, feedback, inputs, memories, messages, service, sessions, settings, tickets, tool_calls, usage, ws,
};

/// Registers every operation of the open doors, both as a route and in the OpenAPI document.
pub(super) fn register_operations(config: &mut ServiceConfig, doors: &OpenDoors) {
    // Before the scope of the native API, which would answer for all paths below it.
    if doors.contains(ClientDoor::OpenAi) {
        config.service(openai::list_models).service(openai::get_model).service(openai::create_chat_completion);
    }
    if doors.contains(ClientDoor::Responses) {
        config
            .service(responses::create_response)
            .service(responses::get_response)
            .service(responses::cancel_response)
            .service(responses::list_input_items);
    }
    if doors.contains(ClientDoor::AgUi) {
        config.service(agui::run_agent).service(agui::run_agent_for_headlamp);
    }
    if doors.contains(ClientDoor::Mcp) {
        config.service(mcp::send_mcp_message).service(mcp::resume_mcp_stream);
    }
    if doors.contains(ClientDoor::A2a) {
        register_agent_operations(config);
    }
    if doors.contains(ClientDoor::Native) {
        register_native_operations(config);
    } else {
        config.service(utoipa_actix_web::scope("/v1").service(service::get_info));
    }
    config
        .service(service::healthz)
        .service(service::readyz)
        .service(service::get_metrics)
        .service(documents::openapi_document)
        .service(documents::asyncapi_document);
}

fn register_agent_operations(config: &mut ServiceConfig) {
    config
        .service(card_endpoint::get_agent_card)
        .service(rpc_endpoint::call_agent)
        .service(a2a::send_agent_message)
        .service(a2a::stream_agent_message)
        .service(a2a::list_agent_tasks)
        .service(push_endpoint::create_push_notification_config)
        .service(push_endpoint::list_push_notification_configs)
        .service(push_endpoint::get_push_notification_config)
        .service(push_endpoint::delete_push_notification_config)
        // Before the task itself, whose path would match these.
        .service(a2a::subscribe_to_agent_task)
        .service(a2a::subscribe_to_agent_task_by_post)
        .service(a2a::cancel_agent_task)
        .service(a2a::get_agent_task);
}

fn register_native_operations(config: &mut ServiceConfig) {
    config.service(
        utoipa_actix_web::scope("/v1")
            .service(sessions::create_session)
            .service(sessions::list_sessions)
            .service(sessions::get_session)
            .service(sessions::update_session)
            .service(sessions::delete_session)
            .service(export::export_session)
            .service(export::create_share)
            .service(export::list_shares)
            .service(export::revoke_share)
            .service(settings::get_settings)
            .service(settings::update_settings)
            .service(messages::send_message)
            .service(messages::list_messages)
            .service(feedback::rate_message)
            .service(messages::cancel_run)
            .service(approvals::list_approvals)
            .service(approvals::resolve_approval)
            .service(approvals::get_approval_preview)
            .service(inputs::list_inputs)
            .service(inputs::answer_input)
            .service(tool_calls::get_tool_output)
            .service(events::stream_events)
            .service(account_events::stream_account)
            .service(ws::open_websocket)
            .service(memories::list_memories)
            .service(memories::export_memories)
            .service(memories::delete_memories)
            .service(memories::get_memory)
            .service(memories::correct_memory)
            .service(memories::delete_memory)
            .service(tickets::create_ticket)
            .service(usage::get_usage)
            .service(catalog::list_providers)
            .service(catalog::list_tools)
            .service(catalog::refresh_tools)
            .service(service::get_info),
    );
    config.service(export::get_shared_report);
}
