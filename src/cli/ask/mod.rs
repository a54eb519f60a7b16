//! `k8sops ask`: one question, one answer, for a shell or a script.
//!
//! ```text
//! words, files, standard input ─▶ question ─▶ session ─▶ frames ─┬─▶ standard output: the answer, or events with --json
//!                                                               └─▶ standard error: tool calls, notes
//! ```

mod command;
mod outcome;
mod output;
mod run_watcher;

pub use command::{AskOptions, run};
