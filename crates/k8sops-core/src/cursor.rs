//! Cursors: a reader's position in a log. A cursor replays the log from any seq and then follows it live, in order, without
//! gaps and repetitions.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use crate::{
    event::SessionEvent,
    feed::{FeedStep, SessionFeed},
    frame::{SessionSnapshot, StreamFrame, StreamGap, TransientEvent},
    ids::SessionId,
    ports::{SessionLog, StoreError},
    replay::{REPLAY_PAGE_SIZE, load_state},
    stream_position::StreamPosition,
};

/// A reader of one session.
///
/// A message of the model that is committed after the cursor was opened is preceded by all its text as `token` events, so
/// that a client that only prints tokens misses nothing. Older messages come as `assistant_message` alone.
pub struct EventCursor {
    log: Arc<dyn SessionLog>,
    session: SessionId,
    feed: Arc<SessionFeed>,
    feed_changed: watch::Receiver<()>,
    /// The seq of the last event that was returned, or is in `ready`.
    after: u64,
    /// Events after this one were committed while the cursor was open.
    live_after: u64,
    position: StreamPosition,
    ready: VecDeque<StreamFrame>,
}

/// Whether a cursor can go on.
#[derive(PartialEq, Eq)]
enum CursorState {
    Open,
    SessionDeleted,
}

impl EventCursor {
    /// A cursor whose first event is the one after `after`. `feed` must know where the log ends.
    #[must_use]
    pub fn new(log: Arc<dyn SessionLog>, session: SessionId, feed: Arc<SessionFeed>, after: u64) -> Self {
        Self {
            feed_changed: feed.subscribe(),
            live_after: feed.last_seq(),
            position: StreamPosition::default(),
            ready: VecDeque::new(),
            log,
            session,
            feed,
            after,
        }
    }

    /// Treats all events after the cursor as new, so that the text of their messages comes as `token` events, too.
    #[must_use]
    pub fn with_full_text(mut self) -> Self {
        self.live_after = self.after;
        self
    }

    /// Puts a snapshot of the session first, and continues after it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn start_with_snapshot(&mut self) -> Result<(), StoreError> {
        let state = load_state(self.log.as_ref(), self.session).await?.state;
        self.after = state.last_seq();
        self.ready.push_back(StreamFrame::Transient(TransientEvent::Snapshot(SessionSnapshot::from(&state))));
        Ok(())
    }

    /// Waits for the next frame; `None` if the session was deleted.
    ///
    /// Cancel safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// Those of the store. The call can be repeated.
    pub async fn next(&mut self) -> Result<Option<StreamFrame>, StoreError> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            // Before reading: a change that comes after the read must end the wait below.
            self.feed_changed.mark_unchanged();
            if self.advance().await? == CursorState::SessionDeleted {
                return Ok(None);
            }
            if self.ready.is_empty() && self.feed_changed.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// The next frame if it is available without waiting for a new event; `None` at the end of the log.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn next_logged(&mut self) -> Result<Option<StreamFrame>, StoreError> {
        if self.ready.is_empty() && self.after < self.feed.last_seq() {
            self.advance().await?;
        }
        Ok(self.ready.pop_front())
    }

    /// Whether a frame is available at once, so that a writer need not flush yet.
    #[must_use]
    pub fn has_ready_frame(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Moves what comes next into `ready`.
    async fn advance(&mut self) -> Result<CursorState, StoreError> {
        match self.feed.next_step(self.after, &mut self.position) {
            FeedStep::Closed => return Ok(CursorState::SessionDeleted),
            FeedStep::UpToDate(frames) => self.ready.extend(frames),
            FeedStep::Events(events) => self.push_events(&events),
            FeedStep::ReadStore => {
                let page = match self.log.read_events(self.session, self.after, REPLAY_PAGE_SIZE).await {
                    Err(StoreError::NotFound(_)) => return Ok(CursorState::SessionDeleted),
                    page => page?,
                };
                if page.oldest_seq > self.after + 1 {
                    let gap = StreamGap { requested: self.after, oldest_seq: page.oldest_seq };
                    self.start_with_snapshot().await?;
                    self.ready.push_front(StreamFrame::Transient(TransientEvent::Gap(gap)));
                } else {
                    self.push_events(&page.events);
                }
            }
        }
        Ok(CursorState::Open)
    }

    fn push_events(&mut self, events: &[Arc<SessionEvent>]) {
        for event in events {
            debug_assert_eq!(event.seq, self.after + 1, "a log has no gaps");
            if event.seq > self.live_after {
                self.ready.extend(self.position.complete_preview(event));
            }
            self.position.record_sent(event);
            self.after = event.seq;
            self.ready.push_back(StreamFrame::Event(event.clone()));
        }
    }
}
