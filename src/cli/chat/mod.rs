//! `k8sops chat`: a terminal client of the API that uses the same WebSocket as any other client.
//!
//! ```text
//! LineSource (lines, Ctrl-C) ─▶ TerminalChat ─▶ ApiClient (REST) ─▶ service
//!                                │       ▲
//!                       commands ▼       │ frames
//!                       SessionConnection (WebSocket, reconnects) ◀─▶ service
//!                                        │
//!                                        ▼
//!                       TranscriptView (frames ─▶ screen updates) ─▶ TerminalScreen
//! ```
//! [`transcript`] is pure and [`screen`] only writes. [`terminal_chat`] joins them and decides when the user is prompted.

mod command;
mod connection_events;
mod context_report;
mod export;
mod line_handling;
mod line_helper;
mod line_source;
mod message_commands;
mod output_commands;
mod question_answers;
mod session_commands;
mod terminal_chat;
mod user_input;

#[cfg(test)]
mod tests;

pub use command::{ChatOptions, run};
