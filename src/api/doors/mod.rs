//! Doors: the protocols of other clients, each a translation over one core. The native API stays the reference: a turn over any
//! door leaves the same log.
//!
//! ```text
//! request ─▶ thread_session ─▶ turn_opening (message, answer, attach) ─▶ RunCursor ─▶ TurnFollower ─▶ encoder of the door
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `client_door` | the doors, and which of them are open (`K8SOPS_DOORS`) |
//! | `thread_session` | from a client's thread to a session, without a table |
//! | `turn_opening` | sends a message or answers, unless the session waits for something else |
//! | `run_cursor` | follows one run until it rests: at its end, or where it waits for its user |
//! | `preceding_run` | what the run before waits for, for a message that is queued behind it |
//! | `turn_follower`, `turn_stream` | the same with keep-alive, shutdown and outages of the store, as a response body |
//! | `waiting_interactions`, `spoken_answer` | what a run waits for, and answers in words: `approve 0fb77b` |
//! | `message_text` | the text of a message with parts |
//! | `uuid_digits` | ids that hold UUIDs without hyphens |
//! | `client_headers` | what clients of OpenAI's API say in headers |
//! | `door_body`, `door_errors` | bodies with whole conversations, and errors in the form of a door |
//! | `openai` | `/v1/models`, `/v1/chat/completions` |
//! | `responses` | `/v1/responses` |
//! | `agui` | `/agui`, `/api/agui/chat` |
//! | `mcp` | `/mcp` |
//! | `a2a` | `/a2a`, the card of the agent |
//!
//! A door has no state: what it needs is derived from the request and the log, so that any replica can continue a turn.

pub(super) mod a2a;
pub(super) mod agui;
mod client_door;
mod client_headers;
mod door_body;
mod door_errors;
pub(super) mod mcp;
mod message_text;
pub(super) mod openai;
mod preceding_run;
pub(super) mod responses;
mod run_cursor;
mod spoken_answer;
mod thread_session;
mod turn_follower;
mod turn_opening;
mod turn_stream;
mod uuid_digits;
mod waiting_interactions;

pub(super) use client_door::{ClientDoor, DOORS, OpenDoors};
pub(super) use door_errors::express_error;
