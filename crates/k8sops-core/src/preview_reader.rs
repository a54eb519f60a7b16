//! Reads from a feed what its owner writes for watchers in other processes.

use std::{future::poll_fn, sync::Arc};

use crate::{
    feed::SessionFeed,
    feed_waiters::WaiterId,
    preview_update::{PreviewPosition, PreviewUpdate},
};

/// Reads from a feed what is to be written of its open message.
#[derive(Debug)]
pub struct PreviewReader {
    feed: Arc<SessionFeed>,
    waiter: WaiterId,
    written: PreviewPosition,
}

impl PreviewReader {
    /// Creates a reader for which nothing was written yet.
    #[must_use]
    pub fn new(feed: Arc<SessionFeed>) -> Self {
        Self { waiter: feed.create_waiter(), feed, written: PreviewPosition::default() }
    }

    /// Returns the text that was not written yet, if there is any; it counts as written from now on.
    pub fn take_update(&mut self) -> Option<PreviewUpdate> {
        self.feed.unwritten_preview(&mut self.written)
    }

    /// Waits for text that was not written yet; it counts as written from now on. Nothing is lost if the future is dropped.
    pub async fn next_update(&mut self) -> PreviewUpdate {
        let Self { feed, waiter, written } = self;
        poll_fn(|context| feed.poll_preview(context, *waiter, written)).await
    }

    /// Makes the next update the whole text.
    pub fn start_over(&mut self) {
        self.written = PreviewPosition::default();
    }
}

impl Drop for PreviewReader {
    fn drop(&mut self) {
        self.feed.remove_waiter(self.waiter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{MessageId, RunId},
        preview::MessagePreview,
        preview_update::PreviewExtent,
    };
    use std::time::Duration;
    use tokio::time::timeout;

    /// The kind, offset and content of a piece.
    type Piece = (char, usize, String);

    fn pieces(update: Option<PreviewUpdate>) -> Option<(PreviewExtent, Vec<Piece>)> {
        let update = update?;
        let piece = |piece: &MessagePreview| match piece {
            MessagePreview::Token(delta) => ('t', delta.offset, delta.content.clone()),
            MessagePreview::Reasoning(delta) => ('r', delta.offset, delta.content.clone()),
        };
        Some((update.extent, update.pieces.iter().map(piece).collect()))
    }

    #[test]
    fn updates_continue_what_was_written() {
        let (feed, run) = (Arc::new(SessionFeed::new(0)), RunId::new());
        let [first, second] = [MessageId::new(), MessageId::new()];
        let mut reader = PreviewReader::new(feed.clone());
        let piece = |kind, offset, content: &str| (kind, offset, content.to_owned());
        assert_eq!(pieces(reader.take_update()), None, "no message is open");
        feed.append_reasoning(run, first, "hm");
        feed.append_text(run, first, "äö");
        let whole = vec![piece('r', 0, "hm"), piece('t', 0, "äö")];
        assert_eq!(pieces(reader.take_update()), Some((PreviewExtent::Whole, whole.clone())));
        assert_eq!(pieces(reader.take_update()), None, "all of it was written");
        feed.append_text(run, first, "ü");
        let rest = vec![piece('t', 4, "ü")];
        assert_eq!(pieces(reader.take_update()), Some((PreviewExtent::Continuation, rest)));
        // A process that has nothing of it gets all of it.
        let all = vec![piece('r', 0, "hm"), piece('t', 0, "äöü")];
        reader.start_over();
        assert_eq!(pieces(reader.take_update()), Some((PreviewExtent::Whole, all)));
        feed.discard_open_message();
        assert_eq!(pieces(reader.take_update()), None, "its text is void");
        feed.append_text(run, second, "b");
        let next = vec![piece('t', 0, "b")];
        assert_eq!(pieces(reader.take_update()), Some((PreviewExtent::Whole, next)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_waits_for_text() {
        let (feed, run, message) = (Arc::new(SessionFeed::new(0)), RunId::new(), MessageId::new());
        let mut reader = PreviewReader::new(feed.clone());
        let short = Duration::from_secs(1);
        for text in ["a", "b"] {
            assert!(timeout(short, reader.next_update()).await.is_err(), "there is nothing new");
            let (update, _) = tokio::join!(reader.next_update(), async { feed.append_text(run, message, text) });
            assert_eq!(update.pieces.len(), 1);
        }
    }
}
