//! Outputs of any size, truncated to what a model can use.
//!
//! ```text
//! text ─▶ cleaned up ─▶ within the budget? ─yes─▶ content
//!                          │no
//!                          ▼
//!      objects or rows as a table, unusual ones first ─┐
//!      lines of a log, folded, errors first ───────────┼─▶ content with a note on what was left out
//!      head and tail ──────────────────────────────────┘
//! ```
//!
//! The whole output is stored elsewhere; [`page_lines`] and [`search_lines`] show parts of it.

mod budget;
mod cleanup;
mod fit;
mod kubernetes_objects;
mod log_lines;
mod paging;
mod tables;
#[cfg(test)]
mod tests;
mod truncate;

pub(crate) use budget::OutputBudget;
pub(crate) use fit::{TruncatedOutput, fit_output};
pub(crate) use paging::{page_lines, search_lines};
