//! Commands for people at a terminal: `chat`, `ask` and `approvals`, clients of the API; `mcp` for programs that start MCP servers;
//! `doctor`, `prompt`, and `audit`.
//!
//! The clients talk to the service as any other client does and know only the API; where no service runs, they start one in their
//! process. `doctor`, `prompt` and `audit` use the parts of the service directly.
//!
//! - `question`: a message of words and files
//! - `service`: the client of the API, its WebSocket, and the service that a command starts
//! - `transcript`: frames of a session to updates of a screen
//! - `terminal`: text that is safe to print, and the screen

mod approval_card;
pub mod approvals;
pub mod ask;
pub mod audit;
pub mod chat;
mod command_outcome;
pub mod crash_tour;
pub mod doctor;
pub mod mcp_stdio;
pub mod prompt;
mod question;
mod service;
mod terminal;
mod transcript;

pub use command_outcome::CommandOutcome;
pub use service::{ApiClientError, ServiceOptions};
