//! The keys of one session, the scripts that change them, and the nodes that hold them. A script of `crates/k8sops-store/src/redis/lua`
//! is a method here, with the same checks in the same order.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use crate::{
    log::{LogEntry, ModelEvent, ModelLog, NumberSet, ProcessIndex},
    settings::{PromotionRule, ProtocolRule, ProtocolSettings, StoreCopies, WriteConfirmation},
};

/// The keys of the session on one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct ReplicatedSession {
    /// The replication offset. Counted only where a promotion depends on it, because it multiplies the states.
    pub(crate) offset: u8,
    /// The epoch of the newest lease.
    pub(crate) epoch: u8,
    /// The newest lease; `None` before the first one.
    pub(crate) lease: Option<RecordedLease>,
    /// The log.
    pub(crate) log: ModelLog,
    /// Commands that were not consumed.
    pub(crate) inbox: Vec<InboxCommand>,
    /// The run of the accepted message.
    pub(crate) message_receipt: Option<u8>,
    /// The approvals whose answer was accepted.
    pub(crate) approval_receipts: NumberSet,
    /// The highest seq that was used on a lost branch; 0 if no loss is reported.
    pub(crate) lost_seq: u8,
    /// The runs whose calls were sent on a lost branch.
    pub(crate) lost_runs: NumberSet,
}

/// A lease as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RecordedLease {
    /// The process that holds it.
    pub(crate) holder: ProcessIndex,
    /// A number that no other lease has. The real store knows the epoch only.
    pub(crate) number: u8,
}

/// A command in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum InboxCommand {
    /// The client's message.
    Message {
        /// Its run.
        run: u8,
    },
    /// The client's approval.
    Resolve {
        /// What it answers.
        approval: u8,
    },
}

/// What a script answers to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubmitReply {
    /// It is in the inbox now.
    Accepted,
    /// It was accepted before. Nothing was written.
    Known,
}

/// A commit that a script rejected: its owner starts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitRejected;

/// A commit of an owner.
#[derive(Debug, Clone)]
pub(crate) struct CommitRequest<'a> {
    /// The epoch of the owner's lease.
    pub(crate) epoch: u8,
    /// The number of the owner's lease.
    pub(crate) lease: u8,
    /// The log that the commit follows.
    pub(crate) expected: &'a ModelLog,
    /// The seq of the first event.
    pub(crate) first_seq: u8,
    /// The events.
    pub(crate) events: &'a [ModelEvent],
    /// The command that is consumed.
    pub(crate) consumed: Option<InboxCommand>,
}

impl ReplicatedSession {
    /// `commit_events.lua`. Returns the entries that were appended.
    ///
    /// # Errors
    /// The epoch, the seq or the chain value is not the expected one, or the seq was used on a lost branch.
    pub(crate) fn commit_events(
        &mut self,
        settings: &ProtocolSettings,
        commit: &CommitRequest<'_>,
    ) -> Result<Vec<LogEntry>, CommitRejected> {
        if settings.keeps(ProtocolRule::CompareEpoch) && (self.epoch != commit.epoch || self.lease.is_none()) {
            return Err(CommitRejected);
        }
        if self.log.last_seq() != commit.expected.last_seq() {
            return Err(CommitRejected);
        }
        if settings.keeps(ProtocolRule::CompareLineage) && self.log != *commit.expected {
            return Err(CommitRejected);
        }
        if self.lost_seq > 0 && commit.first_seq <= self.lost_seq {
            return Err(CommitRejected);
        }
        if let Some(ModelEvent::LogTruncated { lost_runs }) = commit.events.first()
            && !lost_runs.has_all(self.lost_runs)
        {
            return Err(CommitRejected);
        }
        let entries: Vec<_> = (commit.first_seq..)
            .zip(commit.events)
            .map(|(seq, event)| LogEntry { seq, lease: commit.lease, event: *event })
            .collect();
        self.log.0.extend(&entries);
        if matches!(commit.events.first(), Some(ModelEvent::LogTruncated { .. })) {
            self.lost_seq = 0;
            self.lost_runs = NumberSet::default();
        }
        self.inbox.retain(|command| Some(*command) != commit.consumed);
        Ok(entries)
    }

    /// `acquire_lease.lua`, after its check that no other lease is valid. Returns the epoch.
    pub(crate) fn acquire_lease(&mut self, lease: RecordedLease) -> u8 {
        self.epoch += 1;
        self.lease = Some(lease);
        self.epoch
    }

    /// `submit_command.lua`.
    pub(crate) fn submit_command(&mut self, command: InboxCommand) -> SubmitReply {
        match command {
            InboxCommand::Message { .. } if self.message_receipt.is_some() => return SubmitReply::Known,
            InboxCommand::Resolve { approval } if self.approval_receipts.contains(approval) => {
                return SubmitReply::Known;
            }
            InboxCommand::Message { run } => self.message_receipt = Some(run),
            InboxCommand::Resolve { approval } => self.approval_receipts.insert(approval),
        }
        self.inbox.push(command);
        SubmitReply::Accepted
    }

    /// `report_lost_branch.lua`.
    pub(crate) fn report_lost_branch(&mut self, known_seq: u8, lost_runs: NumberSet) {
        if known_seq <= self.log.last_seq() && lost_runs.is_empty() {
            return;
        }
        self.lost_seq = self.lost_seq.max(known_seq);
        self.lost_runs.extend(lost_runs);
    }

    /// Whether a process has a reason to own the session.
    pub(crate) fn has_work(&self) -> bool {
        self.log.open_run().is_some() || !self.inbox.is_empty() || self.lost_seq > 0
    }
}

/// A primary and the copies that follow it. A copy is the set of the versions that it may have: which one it had is decided when
/// it is promoted. A confirmation leaves the newest one only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PrimaryNode {
    /// What the primary has.
    pub(crate) session: ReplicatedSession,
    /// What each copy may have.
    pub(crate) copies: Vec<BTreeSet<SharedSession>>,
}

/// A version of the session that several copies may have. Its hash is computed once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SharedSession {
    digest: u64,
    /// The version.
    pub(crate) session: Arc<ReplicatedSession>,
}

impl SharedSession {
    /// Shares a version.
    pub(crate) fn new(session: &ReplicatedSession) -> Self {
        let mut hasher = DefaultHasher::new();
        session.hash(&mut hasher);
        Self { digest: hasher.finish(), session: Arc::new(session.clone()) }
    }
}

impl Hash for SharedSession {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl PrimaryNode {
    /// A primary with copies that have received everything.
    pub(crate) fn with_copies(session: ReplicatedSession, count: usize) -> Self {
        let copies = vec![BTreeSet::from([SharedSession::new(&session)]); count];
        Self { session, copies }
    }

    /// Runs a script. What it has changed reaches the copies some time later, or never.
    pub(crate) fn write<R>(
        &mut self,
        settings: &ProtocolSettings,
        script: impl FnOnce(&mut ReplicatedSession) -> R,
    ) -> R {
        let before = self.session.clone();
        let reply = script(&mut self.session);
        if self.session != before {
            if settings.promotion == PromotionRule::MostAdvanced {
                self.session.offset += 1;
            }
            let shared = SharedSession::new(&self.session);
            for copy in self.copies.iter_mut().filter(|copy| !copy.is_empty()) {
                copy.insert(shared.clone());
            }
        }
        reply
    }

    /// The sets of copies, as bit masks, that can confirm a write; none if too few follow this primary.
    pub(crate) fn possible_confirmations(&self, settings: &ProtocolSettings) -> Vec<u8> {
        let needed = match (settings.confirmation, settings.copies) {
            (WriteConfirmation::Replicas(needed), _) => needed,
            (WriteConfirmation::AppendOnlyFile, StoreCopies::AppendOnlyFile) => 1,
            // The file of the primary says nothing about its replicas.
            (WriteConfirmation::AppendOnlyFile, StoreCopies::Replicas(_)) | (WriteConfirmation::Off, _) => 0,
        };
        (0..1_u8 << self.copies.len()).filter(|mask| mask.count_ones() as usize == needed).collect()
    }

    /// Records that the copies of a mask have everything.
    pub(crate) fn confirm(&mut self, mask: u8) {
        for (index, copy) in self.copies.iter_mut().enumerate() {
            if mask & (1 << index) != 0 && !copy.is_empty() {
                *copy = BTreeSet::from([SharedSession::new(&self.session)]);
            }
        }
    }
}
