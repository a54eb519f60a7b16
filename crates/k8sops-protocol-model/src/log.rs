//! The log of the session, as far as the protocol depends on it: one message, one call that changes something, one approval.

/// The process with this number: 0 is A, 1 is B.
pub(crate) type ProcessIndex = usize;

/// A set of small numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct NumberSet(u8);

impl NumberSet {
    /// Adds a number below 8.
    pub(crate) fn insert(&mut self, number: u8) {
        self.0 |= 1 << number;
    }

    /// Adds all numbers of another set.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether the set has the number.
    pub(crate) fn contains(self, number: u8) -> bool {
        self.0 & (1 << number) != 0
    }

    /// Whether the set has all numbers of another one.
    pub(crate) fn has_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether the set has no number.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ModelEvent {
    /// `user_message` and `run_started`.
    UserMessage {
        /// The run that the message starts; fixed when the message was accepted.
        run: u8,
    },
    /// `assistant_message` with the call, and `approval_requested`.
    CallRequested {
        /// The id of the approval.
        approval: u8,
    },
    /// `approval_resolved`.
    Approved {
        /// The id of the approval.
        approval: u8,
    },
    /// `tool_start`.
    ToolStart {
        /// The run that makes the call. Its name and arguments are the same in all runs.
        run: u8,
    },
    /// `tool_end`, and the end of the run.
    ToolEnd(RecordedEnd),
    /// `run_recovered`.
    RunRecovered,
    /// `log_truncated`.
    LogTruncated {
        /// The runs whose calls were sent on the lost branch.
        lost_runs: NumberSet,
    },
}

/// How a call ended, as its `tool_end` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum RecordedEnd {
    /// The tool returned.
    Succeeded,
    /// The call may have taken effect.
    Unknown,
    /// The call was not sent, because its start was not confirmed.
    NotSent,
}

/// An event at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LogEntry {
    /// The seq of the event.
    pub(crate) seq: u8,
    /// The number of the lease under which it was written. Two owners never write the same event: it has a time and ids.
    pub(crate) lease: u8,
    /// What it says.
    pub(crate) event: ModelEvent,
}

/// A log. It stands for its own chain value: two logs have the same one if they have the same entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct ModelLog(pub(crate) Vec<LogEntry>);

/// The newest run of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoggedRun {
    /// The number of the run.
    pub(crate) run: u8,
    /// The approval that was requested.
    pub(crate) approval: Option<u8>,
    /// Whether it was granted.
    pub(crate) is_approved: bool,
    /// Whether the call has a `tool_start`.
    pub(crate) is_started: bool,
    /// Whether the run has ended.
    pub(crate) is_ended: bool,
}

impl ModelLog {
    /// The seq of the newest event; 0 if there is none.
    pub(crate) fn last_seq(&self) -> u8 {
        self.0.last().map_or(0, |entry| entry.seq)
    }

    /// Whether `other` is this log or continues it.
    pub(crate) fn is_continued_by(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// Whether the log has this entry.
    pub(crate) fn has(&self, entry: LogEntry) -> bool {
        self.0.contains(&entry)
    }

    /// The events of the log.
    pub(crate) fn events(&self) -> impl Iterator<Item = ModelEvent> {
        self.0.iter().map(|entry| entry.event)
    }

    /// The newest run, as the projection has it.
    pub(crate) fn newest_run(&self) -> Option<LoggedRun> {
        let mut newest: Option<LoggedRun> = None;
        for event in self.events() {
            match (event, &mut newest) {
                (ModelEvent::UserMessage { run }, _) => {
                    newest =
                        Some(LoggedRun { run, approval: None, is_approved: false, is_started: false, is_ended: false });
                }
                (ModelEvent::CallRequested { approval }, Some(run)) => run.approval = Some(approval),
                (ModelEvent::Approved { approval }, Some(run)) => run.is_approved |= run.approval == Some(approval),
                (ModelEvent::ToolStart { .. }, Some(run)) => run.is_started = true,
                (ModelEvent::ToolEnd(_), Some(run)) => run.is_ended = true,
                _ => {}
            }
        }
        newest
    }

    /// The newest run, if it has not ended.
    pub(crate) fn open_run(&self) -> Option<LoggedRun> {
        self.newest_run().filter(|run| !run.is_ended)
    }

    /// The runs whose calls were sent on lost branches.
    pub(crate) fn lost_runs(&self) -> NumberSet {
        let mut runs = NumberSet::default();
        for event in self.events() {
            if let ModelEvent::LogTruncated { lost_runs } = event {
                runs.extend(lost_runs);
            }
        }
        runs
    }

    /// The entries from the newest `log_truncated` on; none if there was no loss.
    pub(crate) fn entries_since_truncation(&self) -> &[LogEntry] {
        let is_truncation = |entry: &LogEntry| matches!(entry.event, ModelEvent::LogTruncated { .. });
        self.0.iter().rposition(is_truncation).map_or(&[], |at| &self.0[at..])
    }
}
