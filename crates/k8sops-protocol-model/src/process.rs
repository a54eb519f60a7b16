//! A replica of k8sops: what it remembers of the log, and what it does as the session's owner.

use std::collections::BTreeSet;

use crate::{
    log::{LogEntry, LoggedRun, ModelEvent, ModelLog, NumberSet, RecordedEnd},
    settings::{ProtocolRule, ProtocolSettings},
    store::{InboxCommand, ReplicatedSession},
};

/// The distance that `log_truncated` keeps from every seq that is known to have been used. The service keeps 1,000.
const SEQ_RESERVE: u8 = 10;

/// A replica of k8sops. One that crashes starts again at once, without its memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ServiceProcess {
    /// The primary that it is connected to.
    pub(crate) connection: PrimaryName,
    /// The newest log that it has seen (`known_logs.rs`).
    pub(crate) known: ModelLog,
    /// The runs whose `tool_start` it has committed or read (`SentToolCall`).
    pub(crate) sent_runs: NumberSet,
    /// What it does as the owner.
    pub(crate) ownership: Option<SessionOwnership>,
    /// Entries that it saw and that `known` does not have. The service does not remember them; the properties do.
    pub(crate) forgotten: BTreeSet<LogEntry>,
    /// Whether it has compared what it knows with the primary of this moment.
    pub(crate) has_compared: bool,
}

/// One of the nodes that take writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PrimaryName {
    /// The primary.
    Current,
    /// The former primary, which does not know of the failover.
    Former,
}

/// What an owner holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionOwnership {
    /// The epoch of the lease.
    pub(crate) epoch: u8,
    /// The number of the lease.
    pub(crate) lease: u8,
    /// The log as it was loaded and written.
    pub(crate) view: ModelLog,
    /// The loss that the first commit says.
    pub(crate) pending_loss: Option<LostEvents>,
    /// Whether the first commit says that an open run was taken over.
    pub(crate) must_recover: bool,
    /// Whether the lease is valid by the clock of the process.
    pub(crate) is_valid: bool,
    /// Whether the primary knows of an expiry that is not before the one of the process. Not so after a failover that may have
    /// lost a renewal.
    pub(crate) is_renewed: bool,
    /// The call that this owner has started.
    pub(crate) call: CallStage,
}

/// What an owner knows to be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LostEvents {
    /// The highest seq that is known to have been used.
    pub(crate) known_seq: u8,
    /// The runs whose calls were sent.
    pub(crate) runs: NumberSet,
}

/// How far an owner's own call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CallStage {
    /// This owner has not started it.
    None,
    /// `tool_start` is committed and not confirmed.
    Unconfirmed {
        /// Whether the connection has changed since the commit.
        is_reconnected: bool,
    },
    /// `tool_start` is committed, and confirmed if that is required.
    Confirmed,
    /// The call was sent.
    Sent,
}

/// What an owner commits next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedCommit {
    /// The events.
    pub(crate) events: Vec<ModelEvent>,
    /// The command that is consumed.
    pub(crate) consumed: Option<InboxCommand>,
    /// The seq of the first event.
    pub(crate) first_seq: u8,
}

impl ServiceProcess {
    /// A process that has just started.
    pub(crate) fn started(connection: PrimaryName) -> Self {
        Self {
            connection,
            known: ModelLog::default(),
            sent_runs: NumberSet::default(),
            ownership: None,
            forgotten: BTreeSet::new(),
            has_compared: false,
        }
    }

    /// Replaces the known log (`record_read`).
    pub(crate) fn read(&mut self, log: &ModelLog) {
        let unread = log.0.iter().filter(|entry| !self.known.has(**entry));
        for entry in unread {
            if let ModelEvent::ToolStart { run } = entry.event {
                self.sent_runs.insert(run);
            }
        }
        self.forgotten.extend(self.known.0.iter().filter(|entry| !log.has(**entry)));
        self.known = log.clone();
    }

    /// All entries that the process has seen since it started.
    pub(crate) fn seen(&self) -> impl Iterator<Item = &LogEntry> {
        self.known.0.iter().chain(&self.forgotten)
    }

    /// What the process knows to be lost, if the store has this log (`find_lost_branch`).
    pub(crate) fn find_lost_events(&self, settings: &ProtocolSettings, found: &ModelLog) -> Option<LostEvents> {
        if !settings.keeps(ProtocolRule::RememberLogs) || self.known.is_continued_by(found) {
            return None;
        }
        let mut runs = NumberSet::default();
        for entry in &self.known.0 {
            if let ModelEvent::ToolStart { run } = entry.event
                && self.sent_runs.contains(run)
                && !found.has(*entry)
            {
                runs.insert(run);
            }
        }
        Some(LostEvents { known_seq: self.known.last_seq(), runs })
    }

    /// Loads the session under a new lease (`SessionActor::open`).
    pub(crate) fn open_session(&mut self, settings: &ProtocolSettings, session: &ReplicatedSession, lease: u8) {
        let mut loss = self.find_lost_events(settings, &session.log);
        if session.lost_seq > 0 {
            let known = loss.get_or_insert(LostEvents { known_seq: 0, runs: NumberSet::default() });
            known.known_seq = known.known_seq.max(session.lost_seq);
            known.runs.extend(session.lost_runs);
        }
        if loss.is_none() {
            self.read(&session.log);
        }
        self.has_compared = self.connection == PrimaryName::Current;
        self.ownership = Some(SessionOwnership {
            epoch: session.epoch,
            lease,
            view: session.log.clone(),
            pending_loss: loss,
            must_recover: session.log.open_run().is_some(),
            is_valid: true,
            is_renewed: true,
            call: CallStage::None,
        });
    }

    /// Stops owning the session.
    pub(crate) fn stop_owning(&mut self) {
        if self.ownership.take().is_some_and(|owned| owned.pending_loss.is_some()) {
            // What was found to be lost was not said. It is found again.
            self.has_compared = false;
        }
    }

    /// Applies what the owner has committed (`record_commit`).
    pub(crate) fn apply_commit(&mut self, entries: &[LogEntry]) {
        let Some(owned) = &mut self.ownership else { return };
        owned.view.0.extend(entries);
        owned.pending_loss = None;
        owned.must_recover = false;
        if entries.iter().any(|entry| matches!(entry.event, ModelEvent::ToolEnd(_))) {
            owned.call = CallStage::None;
        }
        let view = owned.view.clone();
        if matches!(entries.first().map(|entry| entry.event), Some(ModelEvent::LogTruncated { .. })) {
            self.sent_runs = NumberSet::default();
        }
        self.read(&view);
    }

    /// Follows a failover or goes over to the current primary.
    pub(crate) fn reconnect(&mut self) {
        self.connection = PrimaryName::Current;
        self.has_compared = false;
        if let Some(owned) = &mut self.ownership {
            owned.is_renewed = false;
            if let CallStage::Unconfirmed { is_reconnected } = &mut owned.call {
                *is_reconnected = true;
            }
        }
    }
}

impl SessionOwnership {
    /// The next commit, given the inbox; `None` if there is nothing to commit now. `next_approval` is the id of the next approval
    /// that is requested.
    pub(crate) fn plan_commit(
        &self,
        settings: &ProtocolSettings,
        inbox: &[InboxCommand],
        next_approval: u8,
    ) -> Option<PlannedCommit> {
        let last_seq = self.view.last_seq();
        let plan = |events, consumed| Some(PlannedCommit { events, consumed, first_seq: last_seq + 1 });
        let recovered = self.must_recover.then_some(ModelEvent::RunRecovered);
        if let Some(loss) = self.pending_loss {
            let used = loss.known_seq.max(last_seq);
            let first_seq = if settings.keeps(ProtocolRule::ReserveSeqs) {
                (used / SEQ_RESERVE + 2) * SEQ_RESERVE
            } else {
                used + 1
            };
            let truncated = ModelEvent::LogTruncated { lost_runs: loss.runs };
            let events = std::iter::once(truncated).chain(recovered).collect();
            return Some(PlannedCommit { events, consumed: None, first_seq });
        }
        if let Some(recovered) = recovered {
            return plan(vec![recovered], None);
        }
        let Some(run) = self.view.open_run() else {
            let message = inbox.iter().find_map(|command| match command {
                InboxCommand::Message { run } => Some(*run),
                InboxCommand::Resolve { .. } => None,
            });
            return match (message, inbox.first()) {
                (Some(run), _) => plan(vec![ModelEvent::UserMessage { run }], Some(InboxCommand::Message { run })),
                // Its approval is closed.
                (None, Some(answer)) => plan(vec![], Some(*answer)),
                (None, None) => None,
            };
        };
        if let Some(event) = self.next_event(run, next_approval) {
            return plan(vec![event], None);
        }
        inbox.iter().find_map(|command| match command {
            InboxCommand::Resolve { approval } if run.approval == Some(*approval) && !run.is_approved => {
                plan(vec![ModelEvent::Approved { approval: *approval }], Some(*command))
            }
            InboxCommand::Resolve { .. } => plan(vec![], Some(*command)),
            InboxCommand::Message { .. } => None,
        })
    }

    /// The next event of an open run; `None` if it waits for an approval or for its call (`tool_calls.rs`).
    fn next_event(&self, run: LoggedRun, next_approval: u8) -> Option<ModelEvent> {
        let Some(_) = run.approval else { return Some(ModelEvent::CallRequested { approval: next_approval }) };
        if run.is_started {
            return match self.call {
                // An earlier owner started it.
                CallStage::None => Some(ModelEvent::ToolEnd(RecordedEnd::Unknown)),
                CallStage::Unconfirmed { .. } => Some(ModelEvent::ToolEnd(RecordedEnd::NotSent)),
                CallStage::Confirmed => None,
                CallStage::Sent => Some(ModelEvent::ToolEnd(RecordedEnd::Succeeded)),
            };
        }
        if self.view.lost_runs().contains(run.run) {
            return Some(ModelEvent::ToolEnd(RecordedEnd::Unknown));
        }
        run.is_approved.then_some(ModelEvent::ToolStart { run: run.run })
    }
}
