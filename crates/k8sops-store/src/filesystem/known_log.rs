//! What the index knows of a session's file.

/// What is known of the beginning of a session's file that was on the disk once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct KnownLog {
    /// Its size.
    pub(super) bytes: u64,
    /// Where the newest checkpoint in it starts; 0 if there is none, `None` if that is not known.
    pub(super) checkpoint_start: Option<u64>,
}
