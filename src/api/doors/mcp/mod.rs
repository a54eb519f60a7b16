//! The door for clients of MCP: the agent as a server with the tools `ask` and `get_session`.
//!
//! | module | holds |
//! |---|---|
//! | `endpoint` | the handlers, and the methods of the protocol |
//! | `json_rpc` | messages of JSON-RPC |
//! | `client_protocol` | the version that a client speaks, and what it can do |
//! | `tool_definitions` | the tools, and their arguments |
//! | `ask_turn` | sends a question, or continues one that waited |
//! | `ask_encoder`, `ask_result` | a run as progress, elicitations and a result |
//! | `elicitation` | what a run waits for as forms, and the answers |
//! | `stream_token` | the place of a run in ids that a client sends back |
//! | `session_report` | the result of `get_session` |
//! | `request_cancel` | `notifications/cancelled` |
//!
//! Two eras of the protocol are in use. Up to 2025-11-25 a client begins with `initialize` and gets a session id; the server
//! sends elicitations as requests, and a client that disconnects leaves the run alone. From 2026-07-28 on every request says what
//! the client can do, elicitations are a result that the client answers by sending the request again, and a disconnect cancels.
//! Neither needs state: session ids, ids of elicitations and event ids say what they stand for. A server library keeps them in
//! the memory of one replica, which is why the transport is here.

mod ask_encoder;
mod ask_result;
mod ask_turn;
mod client_protocol;
mod elicitation;
pub(in crate::api) mod endpoint;
mod json_rpc;
pub(in crate::api) mod protected_resource;
mod request_cancel;
mod session_report;
mod stream_token;
mod tool_definitions;

pub(super) use json_rpc::RpcError;
