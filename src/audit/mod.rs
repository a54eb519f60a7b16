//! The audit trail: who did what, when, with which arguments (as a hash), and who approved it. It contains no arguments and
//! no tool outputs.
//!
//! A trail is a file of JSON lines. Each process starts a **chain** in it: every record contains the hash of the previous
//! record, so that a changed, removed or moved line is detected ([`verify_trail`]). A single thread writes, so that the order
//! of lines is the order of the chain and no async worker blocks on the disk.
//!
//! ```text
//! AuditTrail::record ───────────────┐
//! AuditTrail::record_durably ◀──ok──┤ bounded channel ─▶ writer thread: format line (chain.rs), write, fsync if awaited
//! AuditTrail::reopen (SIGHUP) ──────┘
//! ```
//!
//! The trail fails closed: a mutating tool call is not sent before its record is on disk.

mod chain;
mod errors;
mod file;
mod options;
mod record;
mod trail;
mod verify;
mod writer;

pub use errors::AuditError;
pub use options::{AuditDestination, AuditOptions};
pub use record::{AuditAction, AuditRecord, canonical_sha256};
pub use trail::AuditTrail;
pub use verify::{TrailFault, TrailReport, verify_trail};

#[cfg(test)]
mod tests;
