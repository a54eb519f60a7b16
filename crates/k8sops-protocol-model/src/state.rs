//! Everything at one moment, and what can be asked about it.

use crate::{
    log::{ModelEvent, ModelLog, NumberSet, RecordedEnd},
    process::{PrimaryName, ServiceProcess},
    store::{InboxCommand, PrimaryNode, ReplicatedSession},
};

/// The number of replicas of k8sops.
pub(crate) const PROCESSES: usize = 2;

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ProtocolState {
    /// The primary.
    pub(crate) current: PrimaryNode,
    /// The former primary, while it does not know of the failover.
    pub(crate) former: Option<PrimaryNode>,
    /// The replicas of k8sops.
    pub(crate) processes: Vec<ServiceProcess>,
    /// What the client was told.
    pub(crate) acknowledged: ClientAcknowledgements,
    /// What has been used of the bounds.
    pub(crate) spent: SpentBounds,
    /// What happened to the cluster.
    pub(crate) effects: u8,
    /// A call was sent after another owner had logged its end.
    pub(crate) was_late: bool,
    /// A process whose lease was not the newest one committed.
    pub(crate) was_superseded: bool,
}

/// What the client was told to be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct ClientAcknowledgements {
    /// The message.
    pub(crate) message: bool,
    /// The answers to these approvals.
    pub(crate) approvals: NumberSet,
}

/// How often something has happened that is bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct SpentBounds {
    /// Failovers or restarts.
    pub(crate) failovers: u8,
    /// Crashes.
    pub(crate) crashes: u8,
    /// Leases.
    pub(crate) leases: u8,
    /// Runs.
    pub(crate) runs: u8,
    /// Approvals that were requested.
    pub(crate) approvals: u8,
}

impl ProtocolState {
    /// The node of this name, if it takes writes.
    pub(crate) fn node(&self, name: PrimaryName) -> Option<&PrimaryNode> {
        match name {
            PrimaryName::Current => Some(&self.current),
            PrimaryName::Former => self.former.as_ref(),
        }
    }

    /// As [`Self::node`].
    pub(crate) fn node_mut(&mut self, name: PrimaryName) -> Option<&mut PrimaryNode> {
        match name {
            PrimaryName::Current => Some(&mut self.current),
            PrimaryName::Former => self.former.as_mut(),
        }
    }

    /// Drops, after the last failover, what nothing depends on any more, so that states that differ in nothing else are one:
    /// the versions of copies, what a watcher knows that the log has, and a former primary that no process reads.
    pub(crate) fn forget_what_is_over(&mut self) {
        let is_former_used = self.processes.iter().any(|process| process.connection == PrimaryName::Former);
        if let Some(former) = self.former.as_mut().filter(|_| !is_former_used) {
            former.session = ReplicatedSession::default();
        }
        for node in std::iter::once(&mut self.current).chain(&mut self.former) {
            node.copies.iter_mut().for_each(std::collections::BTreeSet::clear);
        }
        for process in &mut self.processes {
            if process.connection == PrimaryName::Current
                && process.ownership.is_none()
                && process.known.is_continued_by(&self.current.session.log)
            {
                process.known = ModelLog::default();
                process.sent_runs = NumberSet::default();
                process.has_compared = true;
            }
        }
    }

    /// The log on the current primary.
    pub(crate) fn log(&self) -> &ModelLog {
        &self.current.session.log
    }

    /// Whether everything that was acknowledged is on the current primary.
    pub(crate) fn has_acknowledged(&self) -> bool {
        let session = &self.current.session;
        let is_there = |run: u8| {
            session.inbox.contains(&InboxCommand::Message { run })
                || session.log.events().any(|event| event == ModelEvent::UserMessage { run })
        };
        let has_message = !self.acknowledged.message || session.message_receipt.is_some_and(is_there);
        let has_answer = |approval: u8| {
            session.approval_receipts.contains(approval)
                && (session.inbox.contains(&InboxCommand::Resolve { approval })
                    || session.log.events().any(|event| event == ModelEvent::Approved { approval })
                    || session.log.open_run().is_none_or(|run| run.approval != Some(approval)))
        };
        has_message && (0..8).all(|approval| !self.acknowledged.approvals.contains(approval) || has_answer(approval))
    }

    /// Whether each call that a process knows to be lost is announced, or is about to be by the owner.
    pub(crate) fn has_announced_lost_calls(&self) -> bool {
        let mut announced = self.log().lost_runs();
        announced.extend(self.current.session.lost_runs);
        self.processes.iter().filter(|process| process.has_compared).all(|process| {
            let pending = process.ownership.as_ref().and_then(|owned| owned.pending_loss);
            process.seen().all(|entry| match entry.event {
                ModelEvent::ToolStart { run } => {
                    self.log().has(*entry)
                        || announced.contains(run)
                        || pending.is_some_and(|loss| loss.runs.contains(run))
                }
                _ => true,
            })
        })
    }

    /// Whether no seq from the newest `log_truncated` on stands for another event that a process has seen.
    pub(crate) fn has_unique_seqs(&self) -> bool {
        let since = self.log().entries_since_truncation();
        since.is_empty()
            || self.processes.iter().flat_map(ServiceProcess::seen).all(|seen| {
                let other = since.iter().find(|entry| entry.seq == seen.seq);
                other.is_none_or(|other| other == seen)
            })
    }

    /// Whether a call ended like this.
    pub(crate) fn ends_with(&self, end: RecordedEnd) -> bool {
        self.log().events().any(|event| event == ModelEvent::ToolEnd(end))
    }
}
