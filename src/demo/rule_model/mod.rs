//! A rule-based stand-in for a language model.
//!
//! It searches a message for known words, calls the matching tools, and reports what they return. It is **not** a language
//! model, and every name and description that users see says so.
//!
//! ```text
//! ChatRequest ─▶ RunProgress (user message, tool results) ─▶ intent (words) ─▶ planner ─▶ tool calls, or the final reply
//! ```
//!
//! It keeps no state between two calls: like any model it works from the messages of the request alone.

mod diagnosis;
mod intent;
mod model;
mod name_matching;
mod planner;
mod run_progress;
mod table;
#[cfg(test)]
mod tests;
mod vocabulary;
mod wording;

pub use model::RuleModel;

/// The id under which the rules stand among the providers.
pub const PROVIDER_ID: &str = "demo";
/// The provider's name, as people are shown it.
pub const PROVIDER_NAME: &str = "Demo (rules, not a language model)";
/// The id of the one "model".
pub const MODEL_ID: &str = "rules";
/// The model's name, as people are shown it.
pub const MODEL_NAME: &str = "Rules (not a language model)";
