//! Long-term memory: what is known of a user beyond a session.
//!
//! This room ranks memories against what a user says, and merges what was learned with what is known.
//!
//! ```text
//! user's words ─▶ vector (Embedder) ─▶ the nearest in the store ─┐
//!              └▶ words ─▶ those with the most of them (index) ──┴▶ rank ─▶ the best, if good enough
//!
//! learned ─▶ the nearest and those with its words ─▶ merge ─▶ the store, if nobody has written since; else once more
//! ```
//!
//! Memories without a vector of the model in use get one in the background (`upkeep`).

mod extract;
mod index;
mod long_term;
mod lru;
mod merge;
mod rank;
mod telling;
#[cfg(test)]
mod tests;
mod upkeep;
mod words;

pub use extract::{TASK as EXTRACTION_TASK, question as extraction_question, read as read_extraction};
pub use long_term::{Correction, LongTermMemory, Look};
pub use merge::Learned;
