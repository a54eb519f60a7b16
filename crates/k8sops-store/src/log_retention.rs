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

    /// What is known of the beginning of a log that was once as `known` says: nothing of a log that is shortened at every
    /// checkpoint.
    pub(crate) fn still_known<T: Default>(self, known: T) -> T {
        match self {
            Self::Full => known,
            Self::SinceCheckpoint => T::default(),
        }
    }
}
