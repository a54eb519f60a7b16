//! Long-term memory: what is known about a user across sessions.
//!
//! ```text
//! message ─▶ embedding ─▶ nearest memories in the store ───────┐
//!         └▶ keywords ──▶ memories that share them (index) ────┴▶ rank ─▶ the best, above a minimum score
//!
//! extraction ─▶ candidates by embedding and keywords ─▶ merge ─▶ write, retried if another writer was faster
//! ```
//!
//! Memories without an embedding of the model in use get one in the background (`embedding_backfill`).

mod claim_similarity;
mod embedding_backfill;
mod extraction;
mod keyword_index;
mod keywords;
mod long_term;
mod merge;
mod rank;
#[cfg(test)]
mod tests;

pub use extraction::{EXTRACTION_SYSTEM_PROMPT, extraction_request, parse_extraction};
pub use long_term::{ExtractionPass, LongTermMemory, MemoryCorrection};
pub use merge::ExtractedMemory;
