//! Messages that are handed to the owner of an idle session, which accepts them with the start of their runs. A message that it does
//! not take is put into the inbox as any other command.

use std::{sync::Arc, time::Duration};

use k8sops_core::{CommandBody, CommandReceipt, SessionCommand, SessionSummary};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// More messages for one owner are put into the inbox.
const MAX_OFFERS: usize = 1;

/// How long the sender of a message waits for the owner, whose store may be stalled. Submitting a message takes some milliseconds.
const ACCEPTANCE_LIMIT: Duration = Duration::from_millis(500);
/// How long the sender of a message that cannot be submitted waits for a commit that has begun. A store ends it much earlier.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);

/// A message for an owner that can start its run at once. It is declined by dropping it.
#[derive(Debug)]
pub(super) struct MessageOffer {
    pub(super) message: Arc<SessionCommand>,
    /// Receives that the commit of the message begins. It is closed when the sender does not wait for that any more.
    begun: Option<oneshot::Sender<()>>,
    /// Receives the receipt once the message and the start of its run are durable.
    accepted: oneshot::Sender<CommandReceipt>,
}

/// The sender has put the message into the inbox.
#[derive(Debug)]
pub(super) struct OfferWithdrawn;

impl MessageOffer {
    /// Returns an offer of a message, and what its sender waits for.
    pub(super) fn new(message: Arc<SessionCommand>) -> (Self, OfferAnswer) {
        let (to_sender, begun) = oneshot::channel();
        let (accepted, receipt) = oneshot::channel();
        (Self { message, begun: Some(to_sender), accepted }, OfferAnswer { begun, receipt })
    }

    /// Tells the sender that the commit of the message begins.
    ///
    /// # Errors
    /// The sender has withdrawn the message. It must not be committed.
    pub(super) fn begin_commit(&mut self) -> Result<(), OfferWithdrawn> {
        self.begun.take().and_then(|begun| begun.send(()).ok()).ok_or(OfferWithdrawn)
    }

    /// Tells the sender that the message is accepted.
    pub(super) fn accept(self, receipt: CommandReceipt) {
        // The sender may be gone.
        let _ = self.accepted.send(receipt);
    }
}

/// The sender's side of an offer.
#[derive(Debug)]
pub(super) struct OfferAnswer {
    begun: oneshot::Receiver<()>,
    receipt: oneshot::Receiver<CommandReceipt>,
}

impl OfferAnswer {
    /// Waits for the owner, for a short time. A message whose commit has not begun by then is withdrawn.
    pub(super) async fn wait(mut self) -> OfferOutcome {
        match timeout(ACCEPTANCE_LIMIT, &mut self.receipt).await {
            Ok(Ok(receipt)) => OfferOutcome::Accepted(receipt),
            Ok(Err(_)) => OfferOutcome::Declined,
            Err(_) => {
                self.begun.close();
                match self.begun.try_recv() {
                    Ok(()) => OfferOutcome::Begun(CommitInProgress(self.receipt)),
                    Err(_) => OfferOutcome::Declined,
                }
            }
        }
    }
}

/// What became of a message that could be accepted with the start of its run. One that was not accepted is submitted. In any case it
/// is accepted once, because it keeps its id.
#[derive(Debug)]
pub(super) enum OfferOutcome {
    /// It is accepted.
    Accepted(CommandReceipt),
    /// The owner does not accept it, or its commit has failed.
    Declined,
    /// Its commit takes long.
    Begun(CommitInProgress),
    /// No owner in this process could accept it.
    NotOffered,
}

/// A commit that may accept a message.
#[derive(Debug)]
pub(super) struct CommitInProgress(oneshot::Receiver<CommandReceipt>);

impl CommitInProgress {
    /// Returns the receipt of the message if the commit accepts it.
    pub(super) async fn wait(self) -> Option<CommandReceipt> {
        timeout(COMMIT_LIMIT, self.0).await.ok()?.ok()
    }
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
