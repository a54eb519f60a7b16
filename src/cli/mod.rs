//! Commands for people at a terminal: `chat`, a client of the API, `doctor`, `prompt`, and `audit`.
//!
//! `chat` talks to the service as any other client does and knows only the API. `doctor`, `prompt` and `audit` use the parts of the
//! service directly.

pub mod audit;
pub mod chat;
mod command_outcome;
pub mod doctor;
pub mod prompt;

pub use command_outcome::CommandOutcome;
