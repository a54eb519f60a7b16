//! What the index knows of a session's file.

/// More than this is not replayed within a millisecond.
const LONG_BYTES: u64 = 32 * 1024;

/// What is known of the beginning of a session's file that was on the disk once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct KnownLog {
    /// Its size.
    pub(super) bytes: u64,
    /// Where the newest checkpoint in it starts; 0 if there is none, `None` if that is not known.
    pub(super) checkpoint_start: Option<u64>,
}

impl KnownLog {
    /// Whether opening the file takes longer than a short piece of work may: what is after its newest checkpoint is replayed.
    pub(super) fn is_long(&self) -> bool {
        self.bytes.saturating_sub(self.checkpoint_start.unwrap_or(0)) > LONG_BYTES
    }
}
