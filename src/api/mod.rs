//! The HTTP API: REST, server-sent events and WebSockets.
//!
//! This layer translates: a request into a command or a query, an event into a frame, an error into a problem document. It
//! makes no decisions of its own. Each resource has a file, named after its URL; [`register_routes`] mounts all of them.
//!
//! ```text
//! request ─▶ track_request (id, trace, metrics, origin) ─▶ answer_head ─▶ CORS ─▶ authenticate ─▶ handler ─▶ runtime::Sessions
//! ```

mod account_events;
mod account_feed;
mod approvals;
mod asyncapi;
mod attachments;
mod authentication;
mod caller;
mod catalog;
mod client_cursor;
mod commands;
mod console;
mod cors;
mod documents;
mod doors;
mod embedded_file;
mod error_responses;
mod event_stream;
mod events;
mod examples;
mod export;
mod extractors;
mod fallback;
mod feedback;
mod head_requests;
mod inputs;
mod log_throttle;
mod long_response;
mod memories;
mod messages;
mod middleware;
mod negotiation;
mod openapi;
mod openapi_unions;
mod operations;
mod options;
mod origin;
mod problem;
mod problem_code;
mod public_base;
mod quota;
mod report_html;
mod report_markdown;
mod report_text;
mod request_body;
mod routes;
mod security_headers;
mod service;
mod sessions;
mod settings;
mod state;
mod swagger_ui;
mod tickets;
mod tool_calls;
mod typed_json;
mod usage;
mod ws;
mod ws_handshake;

pub use asyncapi::asyncapi_yaml;
pub use cors::cors;
pub use doors::a2a::task_notifications::task_notifications;
pub use head_requests::answer_head;
pub use log_throttle::LogThrottle;
pub use middleware::{authenticate, track_request};
pub use openapi::openapi_json;
pub use options::{LimitOptions, ServerOptions};
pub use problem::ProblemDetails;
pub use problem_code::ProblemCode;
pub use public_base::describe_connection;
pub use quota::RequestQuota;
pub use routes::register_routes;
pub use service::DEMO_NOTICE;
pub use state::{ApiState, ServiceMode};
#[cfg(any(test, fuzzing))]
pub use ws::fuzzing::check_client_frame;
pub use ws::serve_upgrade;
