//! Long-term memory: what is known of a user beyond a session.
//!
//! This room ranks memories against what a user says, and merges what was learned with what is known. It knows no store and
//! no session: both are functions of the memories that it is given.
//!
//! ```text
//! user's words ─▶ vector (Embedder) ─┐
//!              └▶ words ─────────────┴▶ rank over all memories of the user ─▶ the best, if good enough
//! ```

mod extract;
mod long_term;
mod merge;
mod rank;
#[cfg(test)]
mod tests;
mod words;

pub use extract::{TASK as EXTRACTION_TASK, question as extraction_question, read as read_extraction};
pub use long_term::{Correction, LongTermMemory};
pub use merge::{Learned, merge};
pub use rank::{Ranked, rank};
