//! Writes previews of the open message to the store, for watchers on other replicas: its text, collected for some tens of
//! milliseconds. Nothing waits for it.

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};

use tokio::{sync::Notify, time::sleep};

use k8sops_core::{MessageId, MessagePreview, RunId, SessionLease, SessionStore, TextDelta};

/// How long text is collected before it is written.
const WRITE_INTERVAL: Duration = Duration::from_millis(50);

/// Collects and writes previews.
#[derive(Default)]
pub(super) struct PreviewWriter {
    // A synchronous mutex: held for a push, never across an await.
    buffer: Mutex<PreviewBuffer>,
    more: Notify,
}

#[derive(Default)]
struct PreviewBuffer {
    message: Option<MessageId>,
    /// Bytes of the message's text and reasoning so far.
    text: usize,
    reasoning: usize,
    pieces: Vec<MessagePreview>,
}

/// Which of the two texts of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MessagePreviewKind {
    Text,
    Reasoning,
}

impl PreviewWriter {
    fn lock(&self) -> MutexGuard<'_, PreviewBuffer> {
        self.buffer.lock()
    }

    /// Adds a chunk of the open message. A chunk of another message replaces the open one.
    pub(super) fn push_chunk(&self, run_id: RunId, message_id: MessageId, kind: MessagePreviewKind, content: &str) {
        let mut buffer = self.lock();
        if buffer.message != Some(message_id) {
            *buffer = PreviewBuffer { message: Some(message_id), ..PreviewBuffer::default() };
        }
        let at = match kind {
            MessagePreviewKind::Text => &mut buffer.text,
            MessagePreviewKind::Reasoning => &mut buffer.reasoning,
        };
        let offset = *at;
        *at += content.len();
        let same = match (buffer.pieces.last_mut(), kind) {
            (Some(MessagePreview::Token(last)), MessagePreviewKind::Text)
            | (Some(MessagePreview::Reasoning(last)), MessagePreviewKind::Reasoning) => Some(last),
            _ => None,
        };
        if let Some(last) = same {
            last.content.push_str(content);
        } else {
            let delta = TextDelta { message_id, run_id, offset, content: content.to_owned() };
            buffer.pieces.push(match kind {
                MessagePreviewKind::Text => MessagePreview::Token(delta),
                MessagePreviewKind::Reasoning => MessagePreview::Reasoning(delta),
            });
        }
        drop(buffer);
        self.more.notify_one();
    }

    /// Drops what was not written, because it is void or in the log.
    pub(super) fn clear(&self) {
        self.lock().pieces.clear();
    }

    /// Writes collected chunks until the future is dropped.
    pub(super) async fn run(self: Arc<Self>, store: Arc<dyn SessionStore>, lease: SessionLease) {
        let Some(shared) = store.notifications() else { return };
        loop {
            self.more.notified().await;
            sleep(WRITE_INTERVAL).await;
            let (message, pieces) = {
                let mut buffer = self.lock();
                (buffer.message, std::mem::take(&mut buffer.pieces))
            };
            let Some(message) = message.filter(|_| !pieces.is_empty()) else { continue };
            if let Err(error) = shared.write_preview(lease, message, &pieces).await {
                // The committed message replaces the preview.
                tracing::debug!(session = %lease.session, %error, "preview write failed");
            }
        }
    }
}
