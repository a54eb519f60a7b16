//! What varies between two runs of the checker: the store, how writes are confirmed, what may fail, and which rule is left out.

/// What the checker is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProtocolSettings {
    /// The copies of the primary's data.
    pub(crate) copies: StoreCopies,
    /// How effects and acknowledgements are confirmed.
    pub(crate) confirmation: WriteConfirmation,
    /// Which copy becomes the primary in a failover.
    pub(crate) promotion: PromotionRule,
    /// Whether the former primary can go on to serve processes that do not know of a failover.
    pub(crate) split_brain: bool,
    /// A rule of the protocol that is left out, to show what it is for.
    pub(crate) omitted: Option<ProtocolRule>,
    /// Bounds of the search.
    pub(crate) bounds: SearchBounds,
}

/// The copies of the primary's data, from which the service goes on after the primary has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreCopies {
    /// So many replicas, each of which receives the primary's writes in order and may lag.
    Replicas(usize),
    /// The append-only file of a single server. What was not synced is lost in a restart.
    AppendOnlyFile,
}

/// How effects and acknowledgements are confirmed (`REDIS_CONFIRM`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteConfirmation {
    /// Not at all.
    Off,
    /// By the append-only file of the server that took the write.
    AppendOnlyFile,
    /// By at least so many replicas.
    Replicas(usize),
}

/// Which copy becomes the primary in a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PromotionRule {
    /// Any replica, however far it lags.
    Any,
    /// The replica that has received the most of those that can be reached.
    MostAdvanced,
}

/// A rule of the protocol. Each can be left out, and then the checker must find what the rule prevents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProtocolRule {
    /// A commit names the chain value that it follows.
    CompareLineage,
    /// A commit names its lease's epoch.
    CompareEpoch,
    /// The lease is checked once more before a call is sent.
    CheckLease,
    /// Before it waits for a confirmation, a process looks for the write, and writes a mark behind it on the same connection.
    MarkBeforeWait,
    /// A repeated command is confirmed before it is acknowledged again.
    ConfirmRetries,
    /// `log_truncated` leaves a reserve of seqs free.
    ReserveSeqs,
    /// Processes remember what they have seen, compare it, and report what is lost.
    RememberLogs,
}

/// Upper bounds of what may happen, which make the number of states finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SearchBounds {
    /// Failovers or restarts of the store.
    pub(crate) failovers: u8,
    /// Crashes of processes.
    pub(crate) crashes: u8,
    /// Leases that are acquired.
    pub(crate) leases: u8,
    /// Times that the client's message is accepted as a new one.
    pub(crate) runs: u8,
    /// Whether a process that does not own the session reads the log before a failover, and therefore can find a loss.
    pub(crate) watchers: bool,
}

impl ProtocolSettings {
    /// Whether a rule of the protocol is in force.
    pub(crate) fn keeps(&self, rule: ProtocolRule) -> bool {
        self.omitted != Some(rule)
    }
}
