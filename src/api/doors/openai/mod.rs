//! The door for clients of OpenAI's API: models and chat completions.
//!
//! | module | holds |
//! |---|---|
//! | `endpoint` | the handlers |
//! | `completion_request` | what clients send |
//! | `chat_history` | the conversation as the client tells it |
//! | `history_match` | finds the session of a client that names no thread |
//! | `client_tasks` | titles, tags and follow-up questions, answered without a run |
//! | `chat_text` | a run as text: answer, reasoning, what waits |
//! | `completion_response` | what clients get: completions, chunks, models |
//!
//! Only the newest message is sent to the session, whose log has the rest. Tool calls are shown as reasoning and never as
//! `tool_calls`: the client would call the tools itself.

pub(super) mod chat_history;
mod chat_text;
pub(super) mod client_tasks;
pub(super) mod completion_request;
pub(super) mod completion_response;
pub(in crate::api) mod endpoint;
pub(super) mod history_match;
