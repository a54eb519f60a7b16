//! The inbox of one session, for stores that keep it in the memory of the process: commands that wait, and receipts of the
//! commands that were accepted.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};

use k8sops_core::{
    CommandId, CommandReceipt, INBOX_LIMIT, INBOX_LIMIT_ALL, InboxEntry, LogCommit, SessionCommand, SessionId,
    SessionSummary, StoreError, UserId,
};

/// How many of the newest receipts are kept, by which a command that is sent again is recognized.
const RECEIPT_LIMIT: usize = 1000;

/// Commands that wait, and receipts of the commands that were accepted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct InboxState {
    #[serde(rename = "next")]
    last_position: u64,
    #[serde(rename = "waiting")]
    pub(crate) entries: Vec<Arc<InboxEntry>>,
    receipts: VecDeque<CommandReceipt>,
}

/// What [`InboxState::check_command`] decided.
pub(crate) enum CommandAdmission {
    /// The command was accepted before, with this receipt.
    Known(CommandReceipt),
    /// The command is new, and becomes this entry.
    Accepted(Box<InboxEntry>),
}

impl InboxState {
    /// Decides whether a command is accepted. `last_seq` and `has_open_run` describe the session's log.
    pub(crate) fn check_command(
        &self,
        session: SessionId,
        command: SessionCommand,
        last_seq: u64,
        has_open_run: bool,
    ) -> Result<CommandAdmission, StoreError> {
        if let Some(first) = self.find_receipt(&command.by, &command.command_id) {
            return if first.fingerprint == command.fingerprint {
                Ok(CommandAdmission::Known(first.for_known_command(&command)))
            } else {
                Err(StoreError::CommandIdReused)
            };
        }
        let message_count = self.messages().count();
        if command.only_if_idle() && (has_open_run || message_count > 0) {
            return Err(StoreError::Busy(session));
        }
        if command.is_message() && message_count >= INBOX_LIMIT {
            return Err(StoreError::InboxFull(INBOX_LIMIT));
        }
        if self.entries.len() >= INBOX_LIMIT_ALL {
            return Err(StoreError::InboxFull(INBOX_LIMIT_ALL));
        }
        let position = self.last_position + 1;
        Ok(CommandAdmission::Accepted(Box::new(InboxEntry { position, accepted_seq: last_seq, command })))
    }

    /// Returns the entry of a command that a commit accepts and consumes at once; `None` if it is declined, see
    /// [`SessionLog::commit_new_command`](k8sops_core::SessionLog::commit_new_command).
    pub(crate) fn check_new_command(&self, commit: &LogCommit<'_>, command: &SessionCommand) -> Option<InboxEntry> {
        if !self.entries.is_empty() || !commit.consumed.is_empty() || commit.checkpoint.is_some() {
            return None;
        }
        match self.check_command(commit.session, command.clone(), commit.expected_seq, false) {
            Ok(CommandAdmission::Accepted(entry)) => Some(*entry),
            // The command gets its first receipt, or an error, when it is submitted.
            Ok(CommandAdmission::Known(_)) | Err(_) => None,
        }
    }

    fn messages(&self) -> impl Iterator<Item = &Arc<InboxEntry>> {
        self.entries.iter().filter(|entry| entry.command.is_message())
    }

    /// Whether a message waits.
    pub(crate) fn has_message(&self) -> bool {
        self.messages().next().is_some()
    }

    /// A session's summary with [`SessionSummary::waiting`] as of now.
    pub(crate) fn complete_summary(&self, summary: &SessionSummary) -> SessionSummary {
        SessionSummary { waiting: self.has_message(), ..summary.clone() }
    }

    /// The receipt of an accepted command.
    pub(crate) fn find_receipt(&self, by: &UserId, command: &CommandId) -> Option<CommandReceipt> {
        self.receipts.iter().find(|receipt| receipt.matches_command(by, command)).cloned()
    }

    /// Appends an entry and returns its receipt.
    pub(crate) fn append_entry(&mut self, entry: InboxEntry) -> CommandReceipt {
        let receipt = CommandReceipt::for_command(&entry.command, entry.accepted_seq);
        self.last_position = entry.position;
        self.entries.push(Arc::new(entry));
        if self.receipts.len() == RECEIPT_LIMIT {
            self.receipts.pop_front();
        }
        self.receipts.push_back(receipt.clone());
        receipt
    }

    /// Removes the entries at these positions. Their receipts stay.
    pub(crate) fn remove_entries(&mut self, positions: &[u64]) {
        self.entries.retain(|entry| !positions.contains(&entry.position));
    }
}
