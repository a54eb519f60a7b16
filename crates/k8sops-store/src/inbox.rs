//! The part of a session that is not its log: commands that wait, receipts of those that were taken, and who may write.
//! The same rules for every store that has to keep them itself.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use k8sops_core::{
    CommandId, CommandReceipt, INBOX_LIMIT, INBOX_LIMIT_ALL, InboxEntry, LeaseEpoch, LogCommit, SessionCommand,
    SessionId, SessionLease, SessionSummary, StoreError, UserId,
};

/// Receipts that are kept, so that a command that is sent again is known; the newest.
const RECEIPTS: usize = 1000;

/// Commands that wait, and receipts of those that were taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct InboxState {
    next: u64,
    pub(super) waiting: Vec<InboxEntry>,
    receipts: VecDeque<CommandReceipt>,
}

impl InboxState {
    /// What becomes of a command: the receipt of an earlier one like it, or the entry that it would be.
    pub(super) fn admit(
        &self,
        session: SessionId,
        command: SessionCommand,
        last_seq: u64,
        open_run: bool,
    ) -> Result<Admission, StoreError> {
        if let Some(first) = self.receipt(&command.by, &command.command_id) {
            return if first.fingerprint == command.fingerprint {
                Ok(Admission::Known(CommandReceipt { duplicate: true, ..first }))
            } else {
                Err(StoreError::CommandIdReused)
            };
        }
        let messages = self.messages().count();
        if command.only_if_idle() && (open_run || messages > 0) {
            return Err(StoreError::Busy(session));
        }
        if command.is_message() && messages >= INBOX_LIMIT {
            return Err(StoreError::InboxFull(INBOX_LIMIT));
        }
        if self.waiting.len() >= INBOX_LIMIT_ALL {
            return Err(StoreError::InboxFull(INBOX_LIMIT_ALL));
        }
        Ok(Admission::New(Box::new(InboxEntry { position: self.next + 1, accepted_seq: last_seq, command })))
    }

    /// Messages that wait.
    fn messages(&self) -> impl Iterator<Item = &InboxEntry> {
        self.waiting.iter().filter(|entry| entry.command.is_message())
    }

    pub(super) fn message_waits(&self) -> bool {
        self.messages().next().is_some()
    }

    /// A session's summary with what this inbox adds to it.
    pub(super) fn shown(&self, summary: &SessionSummary) -> SessionSummary {
        SessionSummary { waiting: self.message_waits(), ..summary.clone() }
    }

    /// The receipt of a command that was taken.
    pub(super) fn receipt(&self, by: &UserId, command: &CommandId) -> Option<CommandReceipt> {
        self.receipts.iter().find(|receipt| receipt.matches_command(by, command)).cloned()
    }

    /// Takes an entry in.
    pub(super) fn take(&mut self, entry: InboxEntry) -> CommandReceipt {
        let receipt = CommandReceipt::for_command(&entry.command, entry.accepted_seq);
        self.next = entry.position;
        self.waiting.push(entry);
        if self.receipts.len() == RECEIPTS {
            self.receipts.pop_front();
        }
        self.receipts.push_back(receipt.clone());
        receipt
    }

    pub(super) fn consume(&mut self, positions: &[u64]) {
        self.waiting.retain(|entry| !positions.contains(&entry.position));
    }
}

/// See [`InboxState::admit`].
pub(super) enum Admission {
    /// It was taken before.
    Known(CommandReceipt),
    /// It is new, and goes in as this.
    New(Box<InboxEntry>),
}

/// Who may write to a session.
#[derive(Debug, Clone, Default)]
pub(super) struct Ownership {
    /// The newest epoch that was given out.
    pub(super) epoch: u64,
    /// Who holds it, and until when.
    holder: Option<(String, Instant)>,
    /// The newest epoch was given back: nobody may write under it any more.
    released: bool,
}

impl Ownership {
    /// Ownership of a session whose log knows of `epoch`.
    pub(super) fn after(epoch: u64) -> Self {
        // Whoever had that epoch had it in a process that is gone.
        Self { epoch, holder: None, released: true }
    }

    /// Gives the session out under an epoch greater than its newest, and greater than `floor`.
    pub(super) fn acquire(
        &mut self,
        session: SessionId,
        owner: &str,
        ttl: Duration,
        floor: u64,
    ) -> Result<SessionLease, StoreError> {
        if self.holder.as_ref().is_some_and(|(holder, until)| holder != owner && *until > Instant::now()) {
            return Err(StoreError::Held(session));
        }
        self.epoch = self.epoch.max(floor) + 1;
        self.holder = Some((owner.to_owned(), Instant::now() + ttl));
        self.released = false;
        Ok(SessionLease { session, epoch: LeaseEpoch(self.epoch) })
    }

    pub(super) fn renew(&mut self, lease: SessionLease, ttl: Duration) -> Result<(), StoreError> {
        self.check(lease.session, lease.epoch)?;
        if let Some((_, until)) = &mut self.holder {
            *until = Instant::now() + ttl;
        }
        Ok(())
    }

    /// Whether this was the newest lease.
    pub(super) fn release(&mut self, lease: SessionLease) -> bool {
        let newest = lease.epoch.0 == self.epoch;
        if newest {
            self.holder = None;
            self.released = true;
        }
        newest
    }

    /// Whether a commit may be written to a log that ends at `last_seq`.
    pub(super) fn admit(&self, commit: &LogCommit<'_>, last_seq: u64) -> Result<(), StoreError> {
        let session = commit.session;
        self.check(session, commit.epoch)?;
        let gapless = commit.events.iter().zip(commit.expected_seq + 1..).all(|(event, seq)| event.seq == seq);
        let checkpoint = commit.checkpoint.is_none_or(|state| state.last_seq() == commit.expected_seq);
        if commit.expected_seq != last_seq || !gapless || !checkpoint {
            return Err(StoreError::SeqConflict { session, expected: commit.expected_seq, found: last_seq });
        }
        Ok(())
    }

    fn check(&self, session: SessionId, epoch: LeaseEpoch) -> Result<(), StoreError> {
        if epoch.0 == self.epoch && !self.released {
            Ok(())
        } else {
            Err(StoreError::Fenced { session, attempted: epoch, current: LeaseEpoch(self.epoch) })
        }
    }
}
