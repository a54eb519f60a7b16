//! Cursors: a reader's position in a log. A cursor replays the log from any seq and then follows it live, in order, without
//! gaps and repetitions. If the store has lost events that a cursor has passed, the cursor says so with a gap and a snapshot,
//! and continues on what is left.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use crate::{
    event::SessionEvent,
    feed::{FeedStep, SessionFeed},
    frame::{GapReason, SessionSnapshot, StreamFrame, StreamGap, TransientEvent},
    ids::SessionId,
    lineage::LogContinuity,
    ports::{SessionLog, StoreError},
    replay::{REPLAY_PAGE_SIZE, load_state, load_state_before},
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
    /// The forks of the feed after which the cursor started over.
    fork_count: u64,
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
            fork_count: feed.fork_count(),
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

    /// Starts over on what the store has left, because it has lost the event at the cursor: a gap and a snapshot come first,
    /// and then the events that were written since the loss.
    ///
    /// # Errors
    /// Those of the store. The call can be repeated.
    pub async fn start_after_truncation(&mut self) -> Result<(), StoreError> {
        let lost = self.after;
        let is_end = |event: &SessionEvent| event.seq > lost && event.body.is_log_truncated();
        let loaded = load_state_before(self.log.as_ref(), self.session, is_end).await?;
        self.after = loaded.state.last_seq();
        self.live_after = self.after;
        self.position.forget_messages();
        let gap = StreamGap { requested: lost, oldest_seq: loaded.oldest_seq, reason: GapReason::LogTruncated };
        let snapshot = TransientEvent::Snapshot(SessionSnapshot::from(&loaded.state));
        self.ready.extend([TransientEvent::Gap(gap), snapshot].map(StreamFrame::Transient));
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
        let is_behind = self.after < self.feed.last_seq() || self.fork_count != self.feed.fork_count();
        if self.ready.is_empty() && is_behind {
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
        let step = self.feed.next_step(self.after, self.fork_count, &mut self.position);
        match step {
            FeedStep::SessionDeleted => return Ok(CursorState::SessionDeleted),
            FeedStep::LogDamaged => {
                return Err(StoreError::Corrupt(format!("the log of session {}", self.session).into()));
            }
            FeedStep::StartOver(fork_count) => {
                self.start_after_truncation().await?;
                self.fork_count = fork_count;
            }
            FeedStep::UpToDate(frames) => self.ready.extend(frames),
            FeedStep::Events(events) => self.push_or_start_over(&events).await?,
            FeedStep::ReadStore => {
                let held = self.feed.held_position();
                let page = match self.log.read_events(self.session, self.after, self.page_limit()).await {
                    Err(StoreError::NotFound(_)) => return Ok(CursorState::SessionDeleted),
                    page => page?,
                };
                if self.feed.observe_head(&held, page.head()) == LogContinuity::Forked {
                    // The next step starts over.
                } else if page.oldest_seq > self.after + 1 {
                    let reason = GapReason::NotKept;
                    let gap = StreamGap { requested: self.after, oldest_seq: page.oldest_seq, reason };
                    self.start_with_snapshot().await?;
                    self.ready.push_front(StreamFrame::Transient(TransientEvent::Gap(gap)));
                } else if page.events.is_empty() && page.last_seq > self.after {
                    let found = format!("the log of session {} ends after seq {}", self.session, self.after);
                    return Err(StoreError::Corrupt(format!("{found}, not {}", page.last_seq).into()));
                } else {
                    self.push_or_start_over(&page.events).await?;
                }
            }
        }
        Ok(CursorState::Open)
    }

    /// How many events to read: what is missing as far as is known, so that a reader who is close behind reads a small page.
    fn page_limit(&self) -> usize {
        let missing = usize::try_from(self.feed.last_seq().saturating_sub(self.after)).unwrap_or(usize::MAX);
        missing.clamp(1, REPLAY_PAGE_SIZE)
    }

    /// Moves events into `ready`, unless the first says that the event at the cursor is lost.
    async fn push_or_start_over(&mut self, events: &[Arc<SessionEvent>]) -> Result<(), StoreError> {
        if events.first().is_some_and(|first| first.body.says_lost(self.after)) {
            return self.start_after_truncation().await;
        }
        if let Some(first) = events.first().filter(|first| !first.body.may_follow(self.after, first.seq)) {
            let found = format!("the log of session {} has no event after seq {}", self.session, self.after);
            return Err(StoreError::Corrupt(format!("{found}, the next is {}", first.seq).into()));
        }
        self.push_events(events);
        Ok(())
    }

    fn push_events(&mut self, events: &[Arc<SessionEvent>]) {
        for event in events {
            debug_assert!(event.body.may_follow(self.after, event.seq), "a log has no gaps");
            if event.seq > self.live_after {
                self.ready.extend(self.position.complete_preview(event));
            }
            self.position.record_sent(event);
            self.after = event.seq;
            self.ready.push_back(StreamFrame::Event(event.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
