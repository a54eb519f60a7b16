//! Outputs of any size, shown within what a model can use so that the line that matters survives.
//!
//! ```text
//! text ─▶ within the budget? ─yes─▶ unchanged
//!              │no
//!              ▼
//!         recognized as            shown as
//!         diff ──────────────────▶ whole hunks
//!         JSON, YAML ────────────▶ parts of the tree; lists of objects by what is unlike the others; events as rows;
//!                                  time series by their statistics
//!         kubectl describe ──────▶ sections
//!         tables ────────────────▶ unusual rows and largest numbers first
//!         log ───────────────────▶ folded lines, errors and unusual values first
//!         other text ────────────▶ chosen lines
//! ```
//!
//! Everything that compares counts the values of each path, column or word over all items, in [`value_statistics`]. Each
//! rule spends its budget to the end. The whole output is stored elsewhere; [`page_lines`] and [`search_lines`] show parts of
//! it.

mod alarm_words;
mod budget;
mod cut_json;
mod describe;
mod diffs;
mod documents;
mod event_rows;
mod facts;
mod fit;
mod line_excerpt;
mod line_groups;
mod line_selection;
mod line_tokens;
mod list_item;
mod node;
mod node_text;
mod noise;
mod object_lists;
mod paging;
#[cfg(test)]
mod planted_fact_tests;
#[cfg(test)]
mod planted_kind_tests;
mod quantity;
mod recognize;
#[cfg(test)]
mod recording_tests;
mod table_layout;
mod tables;
#[cfg(test)]
mod tests;
mod text_lines;
mod time_series;
mod truncate;
mod value_statistics;

pub(crate) use budget::OutputBudget;
pub(crate) use fit::{TruncatedOutput, fit_output};
pub(crate) use paging::{page_lines, search_lines};
