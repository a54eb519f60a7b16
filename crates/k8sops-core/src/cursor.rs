//! Cursors: a reader's place in a log. Replay from any seq, then live, in one order, with nothing lost and nothing twice.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use super::{
    READ_PAGE, SessionEvent, SessionFeed, SessionId, SessionLog, SessionSnapshot, StoreError, StreamFrame, StreamGap,
    TransientEvent,
    feed::{PreviewPlace, Step},
    load_state,
};

/// A reader of one session.
///
/// A message of the model that is committed after the cursor was opened comes with all its text as `token` events first:
/// a client that only prints tokens misses nothing. Messages older than the cursor come as `assistant_message` alone.
pub struct EventCursor {
    log: Arc<dyn SessionLog>,
    session: SessionId,
    feed: Arc<SessionFeed>,
    bell: watch::Receiver<()>,
    /// The seq of the last event that was handed out, or is in `ready`.
    after: u64,
    /// Events after this one were committed while the cursor was open.
    live_after: u64,
    place: PreviewPlace,
    ready: VecDeque<StreamFrame>,
}

impl EventCursor {
    /// A cursor whose first event is the one after `after`. `feed` must know how far the log reaches.
    #[must_use]
    pub fn new(log: Arc<dyn SessionLog>, session: SessionId, feed: Arc<SessionFeed>, after: u64) -> Self {
        let bell = feed.listen();
        let live_after = feed.last_seq();
        Self { log, session, feed, bell, after, live_after, place: PreviewPlace::default(), ready: VecDeque::new() }
    }

    /// Counts everything after the cursor as new, so that its messages come with their text as `token` events too.
    #[must_use]
    pub fn with_all_text(mut self) -> Self {
        self.live_after = self.after;
        self
    }

    /// Puts a snapshot of the session first, and goes on after it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn begin_with_snapshot(&mut self) -> Result<(), StoreError> {
        let state = load_state(self.log.as_ref(), self.session).await?.state;
        self.after = state.last_seq();
        self.ready.push_back(StreamFrame::Transient(TransientEvent::Snapshot(SessionSnapshot::from(&state))));
        Ok(())
    }

    /// The next frame; waits for it. `None` when the session was deleted.
    ///
    /// Cancel safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// Those of the store. The same call may be made again.
    pub async fn next(&mut self) -> Result<Option<StreamFrame>, StoreError> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            // Before looking: a ring that comes after the look must wake the wait below.
            self.bell.mark_unchanged();
            if !self.advance().await? {
                return Ok(None);
            }
            if self.ready.is_empty() && self.bell.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// The next frame if there is one without waiting for something new to happen; `None` at the end of what there is.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn next_logged(&mut self) -> Result<Option<StreamFrame>, StoreError> {
        if self.ready.is_empty() && self.after < self.feed.last_seq() {
            self.advance().await?;
        }
        Ok(self.ready.pop_front())
    }

    /// Whether a frame is at hand, so that a writer can go on before it flushes.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Moves what comes next into `ready`; false when the session is gone.
    async fn advance(&mut self) -> Result<bool, StoreError> {
        match self.feed.step(self.after, &mut self.place) {
            Step::Closed => return Ok(false),
            Step::UpToDate(frames) => self.ready.extend(frames),
            Step::Events(events) => self.take(&events),
            Step::Behind => {
                let page = match self.log.read_events(self.session, self.after, READ_PAGE).await {
                    Err(StoreError::NotFound(_)) => return Ok(false),
                    page => page?,
                };
                if page.oldest_seq > self.after + 1 {
                    let gap = StreamGap { requested: self.after, oldest_seq: page.oldest_seq };
                    self.begin_with_snapshot().await?;
                    self.ready.push_front(StreamFrame::Transient(TransientEvent::Gap(gap)));
                } else {
                    self.take(&page.events);
                }
            }
        }
        Ok(true)
    }

    fn take(&mut self, events: &[Arc<SessionEvent>]) {
        for event in events {
            debug_assert_eq!(event.seq, self.after + 1, "a log is gapless");
            if event.seq > self.live_after {
                self.ready.extend(self.place.finish(event));
            }
            self.place.pass(event);
            self.after = event.seq;
            self.ready.push_back(StreamFrame::Event(event.clone()));
        }
    }
}
