//! How much of a session's log is kept.

/// How much of a session's log is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogRetention {
    /// The whole log.
    #[default]
    Full,
    /// The newest checkpoint and the events after it (`MEMORY_SHALLOW`).
    SinceCheckpoint,
}

impl LogRetention {
    /// The retention that `MEMORY_SHALLOW` asks for.
    #[must_use]
    pub fn from_shallow(shallow: bool) -> Self {
        if shallow { Self::SinceCheckpoint } else { Self::Full }
    }

    /// How many bytes at the beginning of a log were acknowledged, if the log had `known_bytes` once: none of a log that is
    /// shortened at every checkpoint.
    pub(crate) fn acknowledged_bytes(self, known_bytes: u64) -> u64 {
        match self {
            Self::Full => known_bytes,
            Self::SinceCheckpoint => 0,
        }
    }
}
