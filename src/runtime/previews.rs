//! What the watchers on other replicas see of an open message: its text, put together over some tens of milliseconds and
//! written to the store beside the run. Nothing waits for it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

use k8sops_core::{MessageId, MessagePreview, RunId, SessionLease, SessionStore, TextDelta};

/// How long text is gathered before it is written.
const GATHER: Duration = Duration::from_millis(50);

/// Text that is to be written.
#[derive(Default)]
pub(super) struct Previews {
    // A plain mutex: held for a push, never across an await.
    gathered: Mutex<Gathered>,
    more: Notify,
}

#[derive(Default)]
struct Gathered {
    message: Option<MessageId>,
    /// Bytes of the message's text and reasoning so far.
    text: usize,
    reasoning: usize,
    pieces: Vec<MessagePreview>,
}

/// Which of a message's two texts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Reasoning,
}

impl Previews {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a piece of the open message; one of another message begins that one.
    pub(super) fn push(&self, run_id: RunId, message_id: MessageId, kind: Kind, content: &str) {
        let mut gathered = self.lock();
        if gathered.message != Some(message_id) {
            *gathered = Gathered { message: Some(message_id), ..Gathered::default() };
        }
        let at = match kind {
            Kind::Text => &mut gathered.text,
            Kind::Reasoning => &mut gathered.reasoning,
        };
        let offset = *at;
        *at += content.len();
        let same = match (gathered.pieces.last_mut(), kind) {
            (Some(MessagePreview::Token(last)), Kind::Text)
            | (Some(MessagePreview::Reasoning(last)), Kind::Reasoning) => Some(last),
            _ => None,
        };
        if let Some(last) = same {
            last.content.push_str(content);
        } else {
            let delta = TextDelta { message_id, run_id, offset, content: content.to_owned() };
            gathered.pieces.push(match kind {
                Kind::Text => MessagePreview::Token(delta),
                Kind::Reasoning => MessagePreview::Reasoning(delta),
            });
        }
        drop(gathered);
        self.more.notify_one();
    }

    /// Drops what was not written: it is void, or stands in the log.
    pub(super) fn clear(&self) {
        self.lock().pieces.clear();
    }

    /// Writes what comes, for as long as it is let.
    pub(super) async fn write(self: Arc<Self>, store: Arc<dyn SessionStore>, lease: SessionLease) {
        let Some(shared) = store.notifications() else { return };
        loop {
            self.more.notified().await;
            sleep(GATHER).await;
            let (message, pieces) = {
                let mut gathered = self.lock();
                (gathered.message, std::mem::take(&mut gathered.pieces))
            };
            let Some(message) = message.filter(|_| !pieces.is_empty()) else { continue };
            if let Err(error) = shared.write_preview(lease, message, &pieces).await {
                // The message itself makes it good.
                tracing::debug!(session = %lease.session, %error, "a preview was not written");
            }
        }
    }
}
