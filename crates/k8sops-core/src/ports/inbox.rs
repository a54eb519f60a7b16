//! The port [`Inbox`]: commands that were accepted and not yet handled.

use async_trait::async_trait;

use super::StoreError;
use crate::{
    command::{CommandReceipt, InboxEntry, SessionCommand},
    ids::{CommandId, RunId, SessionId, UserId},
};

/// The most messages that an inbox holds; one more is rejected with `InboxFull`.
pub const INBOX_LIMIT: usize = 100;

/// The most commands of all kinds that an inbox holds. A cancel must be accepted behind any number of messages.
pub const INBOX_LIMIT_ALL: usize = 2 * INBOX_LIMIT;

/// Messages that were accepted and are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostMessages {
    /// How many they are.
    pub count: u64,
    /// The runs that they would have started, as far as they are known.
    pub runs: Vec<RunId>,
}

/// The durable queue of commands of each session. Commands leave it with the commit that handles them
/// ([`LogCommit::consumed`](super::LogCommit::consumed)).
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// Appends a command. It is durable as far as a write is, and is acknowledged to its sender once
    /// [`confirm_write`](super::WriteConfirmation::confirm_write) has returned.
    ///
    /// A command id that the same sender used before returns the first receipt, marked `duplicate` (for the last thousand
    /// commands of the session at least). A message that asks for it ([`SessionCommand::only_if_idle`]) fails with `Busy`
    /// if a run is open or a message is in the inbox.
    async fn submit_command(&self, session: SessionId, command: SessionCommand) -> Result<CommandReceipt, StoreError>;

    /// The receipt of an accepted command, as far back as [`Self::submit_command`] knows duplicates.
    async fn find_receipt(
        &self,
        session: SessionId,
        by: &UserId,
        command: &CommandId,
    ) -> Result<Option<CommandReceipt>, StoreError>;

    /// The commands in the inbox, in the order in which they were accepted.
    async fn list_inbox(&self, session: SessionId) -> Result<Vec<InboxEntry>, StoreError>;

    /// Messages that were accepted and are gone: neither the inbox nor the log has them. They are reported until a commit says
    /// so ([`LogCommit::says_messages_lost`](super::LogCommit::says_messages_lost)).
    ///
    /// A store that one process has to itself cannot lose a part of a session unnoticed.
    async fn find_lost_messages(&self, _session: SessionId) -> Result<LostMessages, StoreError> {
        Ok(LostMessages::default())
    }
}
