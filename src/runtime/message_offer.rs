//! Messages that are handed to the owner of an idle session, which accepts them with the start of their runs. A message that it does
//! not take is put into the inbox as any other command.

use std::sync::Arc;

use k8sops_core::{CommandBody, CommandReceipt, SessionCommand, SessionSummary};
use tokio::sync::{mpsc, oneshot};

/// More messages for one owner are put into the inbox.
const MAX_OFFERS: usize = 1;

/// A message for an owner that can start its run at once. It is declined by dropping it.
#[derive(Debug)]
pub(super) struct MessageOffer {
    pub(super) message: Arc<SessionCommand>,
    /// Receives the receipt once the message and the start of its run are durable.
    pub(super) accepted: oneshot::Sender<CommandReceipt>,
}

/// Returns the channel over which an owner is offered messages.
pub(super) fn message_offers() -> (mpsc::Sender<MessageOffer>, mpsc::Receiver<MessageOffer>) {
    mpsc::channel(MAX_OFFERS)
}

/// Returns whether a command is a message that can be accepted with the start of its run.
pub(super) fn is_offerable(command: &SessionCommand, summary: &SessionSummary) -> bool {
    // Whole attachments are stored while the message waits in the inbox, so that none is lost.
    let CommandBody::Message { attachments, .. } = &command.body else { return false };
    !summary.is_processing() && attachments.iter().all(|sent| sent.whole.is_none())
}
