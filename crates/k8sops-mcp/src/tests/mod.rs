//! Tests of the crate as a whole, against servers in this process, child processes and HTTP servers.

mod elicitation;
mod http;
mod http_json;
mod http_server;
mod hub;
mod input_required;
mod malformed_messages;
mod per_user;
mod process_scope;
mod stdio;
mod tool_subscription;
