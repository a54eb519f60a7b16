//! The door for other agents: A2A 1.0 over JSON-RPC and HTTP+JSON.
//!
//! | module | holds |
//! |---|---|
//! | `card_endpoint`, `agent_card` | the card by which clients find the agent |
//! | `rpc_endpoint`, `http_endpoint`, `push_endpoint` | the handlers of the two bindings |
//! | `agent_service` | the methods, whatever the binding |
//! | `push_service`, `push_config_body`, `task_notifications` | push notifications: the methods, configurations, and what is posted |
//! | `client_message`, `task_query`, `proto_json` | what clients send |
//! | `service_parameters` | the headers `A2A-Version` and `A2A-Extensions` |
//! | `message_turn` | from a message to the task that answers it |
//! | `task_id`, `task_reading`, `task_list` | tasks as parts of logs |
//! | `task_builder`, `text_artifact` | a run as a task, and as the updates of a task |
//! | `task_resource` | tasks, messages, artifacts and updates as clients get them |
//! | `task_stream` | the updates of a task as a stream |
//! | `human_input` | the extension `hitl/v1` of kagent: approvals and questions for programs |
//! | `a2a_error` | errors in the forms of both bindings |
//!
//! A context is a session, and a task is a run. Ids are made of the log, so that every replica knows every task.

use actix_web::web;

mod a2a_error;
mod agent_card;
mod agent_service;
pub(in crate::api) mod card_endpoint;
mod client_message;
pub(in crate::api) mod http_endpoint;
mod human_input;
mod message_turn;
mod proto_json;
mod push_config_body;
pub(in crate::api) mod push_endpoint;
mod push_service;
pub(in crate::api) mod rpc_endpoint;
mod service_parameters;
mod task_builder;
mod task_id;
mod task_list;
pub(in crate::api) mod task_notifications;
mod task_query;
mod task_reading;
mod task_resource;
mod task_stream;
mod text_artifact;

pub(super) use a2a_error::express_problem;

/// Registers the routes that the OpenAPI document does not describe.
pub(in crate::api) fn register_unlisted_routes(config: &mut web::ServiceConfig) {
    config
        .route("/a2a/", web::post().to(rpc_endpoint::call_agent_with_slash))
        .route("/a2a/v1/extendedAgentCard", web::get().to(http_endpoint::get_extended_agent_card));
}
