//! The room as a whole, against a server in this process and against child processes.

mod elicitation;
mod http;
mod hub;
mod malformed_messages;
mod per_user;
mod stdio;
mod tool_subscription;
