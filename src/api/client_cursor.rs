//! A cursor as a client wants it: how much its frames repeat, and how long tokens are held back to be sent together.

use std::time::Duration;

use k8sops_core::{EventCursor, FrameDetail, StoreError, StreamFrame, TransientEvent};
use k8sops_settings::{ValueFormat, formats::duration_in};
use tokio::time::{Instant, sleep_until};

use super::problem::ProblemDetails;

/// How long tokens may be held back. A reader notices longer pauses.
pub(super) const STREAM_HOLD: ValueFormat<Duration> = duration_in(Duration::ZERO, Duration::from_millis(50));

/// How a client wants its frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamForm {
    pub(super) detail: FrameDetail,
    /// How long tokens are held back after each write.
    hold: Duration,
}

impl StreamForm {
    /// Returns the form that the query parameters `compact` and `hold` ask for.
    pub(super) fn from_query(compact: bool, hold: Option<&str>, default: Duration) -> Result<Self, ProblemDetails> {
        let detail = if compact { FrameDetail::Compact } else { FrameDetail::Full };
        let hold = match hold {
            None => default,
            Some(text) => STREAM_HOLD.parse(text).ok_or_else(|| {
                ProblemDetails::invalid(format!("invalid query parameter `hold`: expected {}", STREAM_HOLD.kind()))
            })?,
        };
        Ok(Self { detail, hold })
    }
}

/// A cursor that holds tokens back for its client.
pub(super) struct ClientCursor {
    cursor: EventCursor,
    hold: Duration,
    /// Until when the client gets nothing, because it has just got a token.
    held_until: Option<Instant>,
}

impl ClientCursor {
    pub(super) fn new(cursor: EventCursor, form: StreamForm) -> Self {
        Self { cursor, hold: form.hold, held_until: None }
    }

    /// See [`EventCursor::next`].
    pub(super) async fn next(&mut self) -> Result<Option<StreamFrame>, StoreError> {
        if let Some(until) = self.held_until {
            // The feed does not wake the stream in the meantime.
            sleep_until(until).await;
            self.held_until = None;
        }
        let frame = self.cursor.next().await?;
        let is_text =
            matches!(frame, Some(StreamFrame::Transient(TransientEvent::Token(_) | TransientEvent::Reasoning(_))));
        if is_text && !self.hold.is_zero() && !self.cursor.has_ready_frame() {
            self.held_until = Some(Instant::now() + self.hold);
        }
        Ok(frame)
    }

    /// See [`EventCursor::next_logged`].
    pub(super) async fn next_logged(&mut self) -> Result<Option<StreamFrame>, StoreError> {
        self.cursor.next_logged().await
    }

    /// See [`EventCursor::has_ready_frame`].
    pub(super) fn has_ready_frame(&self) -> bool {
        self.cursor.has_ready_frame()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use k8sops_core::{MessageId, RunId, SessionFeed, SessionId};
    use k8sops_store::InMemoryStore;

    #[tokio::test(start_paused = true)]
    async fn tokens_of_the_hold_come_together() {
        let feed = Arc::new(SessionFeed::new(0));
        let cursor = EventCursor::new(Arc::new(InMemoryStore::default()), SessionId::new(), feed.clone(), 0);
        let form = StreamForm::from_query(false, Some("20ms"), Duration::ZERO).unwrap();
        let mut cursor = ClientCursor::new(cursor, form);
        let (run_id, message_id) = (RunId::new(), MessageId::new());
        let start = Instant::now();
        let writing = async {
            for text in ["a", "b", "c"] {
                feed.append_text(run_id, message_id, text);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let reading = async {
            let mut pieces = Vec::new();
            for _ in 0..2 {
                if let Ok(Some(StreamFrame::Transient(TransientEvent::Token(delta)))) = cursor.next().await {
                    pieces.push((delta.content, start.elapsed().as_millis()));
                }
            }
            pieces
        };
        let pieces = tokio::join!(writing, reading).1;
        assert_eq!(pieces, [("a".to_owned(), 0), ("bc".to_owned(), 20)]);
    }

    #[test]
    fn hold_has_a_bound() {
        let hold =
            |text| StreamForm::from_query(true, text, Duration::from_millis(7)).map(|form| form.hold.as_millis());
        assert_eq!([None, Some("0"), Some("50ms")].map(|text| hold(text).unwrap()), [7, 0, 50]);
        assert!(["51ms", "1s", "x", "-1ms", ""].iter().all(|text| hold(Some(text)).is_err()));
    }
}
