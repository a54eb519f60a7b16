//! The agent: one run is the loop over model and tools that answers a user's message.
//!
//! The loop keeps no state of its own. Each iteration reads the projection of the log ([`RunView`]) and does the next thing;
//! what it does becomes events, and only committed events are acted upon. A run that another process started is therefore
//! resumed by the same code path that a run without interruption takes.
//!
//! ```text
//!        ┌────────────── RunView (the projection of the log) ◀────────────┐
//!        ▼                                                                │
//!  open tool calls? ──yes──▶ tool_calls: approve, execute, end each ──────┤ append_events (durable)
//!        │no                                                              │
//!  model spoke last? ──no──▶ model_step: stream and commit a reply ───────┘
//!        │yes
//!        ▼
//!  run_finished
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`Run`] | the parts of a run and its loop |
//! | [`RunLog`] | the port through which a run reads and writes its session's log |
//! | `model_step`, `model_selection`, `reply_attempts` | one reply: which model is called, attempts, fallback |
//! | `request_ladder` | simpler forms of a conversation that a model rejects |
//! | `retry_wait` | the wait before a retry, for replies, summaries and other completions |
//! | `tool_calls`, `provenance`, `elicitation` | the tool calls of a reply: approval, execution, questions of their servers |
//! | `context`, `history`, `compaction` | what of the conversation is sent, and the summary of the rest |
//! | `prepared_messages` | what requests need of a message, computed once |
//! | `user_text`, `memory_context` | a message as the model reads it, with its time and the memories recalled for it |
//! | `unavailable_servers` | the servers that a run has to do without |
//! | `citations`, `change_verification` | what an answer must not leave open: outputs it cites, a change it did not look at |
//! | `prompt`, `server_notes` | the system prompt, and the MCP servers in it |
//! | `limits`, `budget` | the bounds of a run |
//! | [`memory`] | long-term memory: extraction, ranking, merging |
//!
//! The crate knows neither HTTP nor a store: model, tools and log are parameters.

mod budget;
mod cancellation;
mod change_verification;
mod citations;
mod compaction;
mod completion;
mod context;
mod elicitation;
mod history;
mod limits;
pub mod memory;
mod memory_context;
mod model_selection;
mod model_step;
mod options;
mod prepared_messages;
mod prompt;
mod provenance;
mod reply_attempts;
mod request_ladder;
mod retry_wait;
mod run;
mod run_events;
mod run_log;
mod server_notes;
#[cfg(test)]
mod tests;
mod tool_calls;
mod unavailable_servers;
mod user_text;

pub use budget::{UsageSource, is_budget_spent};
pub use compaction::transcript_line;
pub use completion::OneShotCompletion;
pub use context::ContextPolicy;
pub use limits::RunLimits;
pub use model_selection::ModelCandidate;
pub use options::{
    AgentOptions, BudgetOptions, ContextOptions, EmbeddingOptions, LongTermMemoryOptions, PromptOptions, SpendingLimit,
    SpendingLimits,
};
pub use prepared_messages::PreparedMessages;
pub use prompt::{PromptPart, prompt_parts, system_prompt};
pub use request_ladder::without_rejected_content;
pub use run::{Run, RunEnd};
pub use run_events::run_failure_events;
pub use run_log::{LogClosed, PreviewChunk, RunLog, RunView, StartConfirmation};
pub use server_notes::describe_servers;
pub use user_text::MemoryRetriever;
