//! The live end of one session's log in this process, which streams read without asking the store.
//!
//! Streams have no queues. The feed holds the newest state (the last few events, the text of the open message, the progress
//! of tool calls) and wakes all streams when it changes; every stream keeps its own position and reads what it has not sent.
//! A slow stream therefore costs nothing, and a fast one sees every delta.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::{Mutex, MutexGuard};

use crate::{
    event::{EventBody, SessionEvent, SessionWarning},
    feed_waiters::{FeedWaiters, WaiterId},
    frame::{StreamFrame, ToolProgress, TransientEvent},
    ids::{MessageId, RunId},
    lineage::{LogContinuity, LogHead, LogLineage},
    ports::EventPage,
    preview::MessagePreview,
    preview_update::{PreviewPosition, PreviewUpdate},
    stream_position::{OpenMessage, StreamPosition},
};

/// Events in memory for streams that are almost up to date; those further behind read the store.
const TAIL_EVENTS: usize = 32;

/// The live end of a session's log.
#[derive(Debug)]
pub struct SessionFeed {
    // Held for a few copies, never across an await.
    state: Mutex<FeedState>,
}

#[derive(Debug, Default)]
struct FeedState {
    /// The newest event in the log, as far as is known.
    newest: LogHead,
    /// The newest event that was published here. Before `newest` while events are known to exist that were not published; a
    /// preview could then belong to a message that one of them closes.
    published: LogHead,
    /// How often the store was found to have lost events.
    fork_count: u64,
    /// The newest events, without gaps; of use only while the last one is `newest`.
    tail: VecDeque<Arc<SessionEvent>>,
    open: Option<OpenMessage>,
    progress: Vec<ToolProgress>,
    /// Grows with every change of `progress`.
    progress_version: u64,
    /// How often streams were warned that the store is unavailable, and the newest seq of the last time.
    warnings: u64,
    warned_at: Option<u64>,
    end: Option<FeedEnd>,
    waiters: FeedWaiters,
}

/// Why streams end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FeedEnd {
    SessionDeleted,
    LogDamaged,
}

/// Whether a chunk was the first one of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageOpening {
    /// It opened the message.
    Opened,
    /// The message was open.
    Continued,
}

/// What a feed held of the log before a look into the store.
#[derive(Debug, Clone, Copy)]
pub struct HeldPosition {
    /// The newest event that was published.
    pub published: LogHead,
    newest: LogHead,
    fork_count: u64,
}

impl HeldPosition {
    /// Compares a page, which was read after `published`, with what was held before it was read.
    #[must_use]
    pub fn compare(&self, page: &EventPage) -> LogContinuity {
        if page.head().contradicts(self.newest) || !page.continues(self.published) {
            LogContinuity::Forked
        } else {
            LogContinuity::Continued
        }
    }
}

/// What a stream at some position does next.
#[derive(Debug)]
pub(crate) enum FeedStep {
    /// Start over: the store has lost events. Holds the new count of forks.
    StartOver(u64),
    /// Send these events.
    Events(Vec<Arc<SessionEvent>>),
    /// Read the store: the position is behind the events in memory.
    ReadStore,
    /// All events were sent. The previews that were not are in `frames`; if there are none, wait for a change.
    UpToDate,
    /// End: the session was deleted.
    SessionDeleted,
    /// End: the log cannot be read.
    LogDamaged,
}

impl SessionFeed {
    /// A feed of a log whose newest event is `last_seq`.
    #[must_use]
    pub fn new(last_seq: u64) -> Self {
        let head = LogHead::at_seq(last_seq);
        let state = FeedState { newest: head, published: head, ..FeedState::default() };
        Self { state: Mutex::new(state) }
    }

    /// What this feed holds of the log, to compare it with what is read from the store from now on.
    #[must_use]
    pub fn held_position(&self) -> HeldPosition {
        let state = self.state.lock();
        HeldPosition { published: state.published, newest: state.newest, fork_count: state.fork_count }
    }

    /// How often the store was found to have lost events.
    pub(crate) fn fork_count(&self) -> u64 {
        self.state.lock().fork_count
    }

    /// The seq of the newest event in the log, as far as this feed knows.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.state.lock().newest.seq
    }

    /// The id of the message that the model is writing.
    #[must_use]
    pub fn open_message_id(&self) -> Option<MessageId> {
        self.state.lock().open.as_ref().map(|open| open.message_id)
    }

    /// Prepares the feed for a new session owner in this process, which has loaded the log up to `head`: the preview of the
    /// former owner is void. Drops everything if the store has lost events.
    pub fn reset_for_owner(&self, head: LogHead) {
        let mut state = self.state.lock();
        // Nothing is committed but by this owner, so what the feed knows beyond `head` is lost.
        if head.contradicts(state.newest) {
            state.start_over(head);
        }
        state.open = None;
        state.progress.clear();
        state.published = head;
        state.newest = head;
        Self::unlock_and_wake(state);
    }

    /// Compares what this feed held before a look into the store with where the log was found to end. If the store has lost
    /// events, the feed drops what it holds, and streams start over.
    pub fn observe_head(&self, held: &HeldPosition, found: LogHead) -> LogContinuity {
        let mut state = self.state.lock();
        if held.fork_count != state.fork_count {
            return LogContinuity::Continued;
        }
        let continuity = if found.contradicts(held.newest) {
            state.start_over(found);
            LogContinuity::Forked
        } else if found.seq > state.newest.seq {
            // A feed that knows of no event has missed none.
            if state.newest.seq == 0 {
                state.published = found;
            }
            state.newest = found;
            LogContinuity::Continued
        } else {
            return LogContinuity::Continued;
        };
        Self::unlock_and_wake(state);
        continuity
    }

    /// Drops what the feed holds, because the store has lost events of it; streams start over. `held` is what the feed held
    /// when this was found, `found` where the log ends now.
    pub fn start_over(&self, held: &HeldPosition, found: LogHead) {
        let mut state = self.state.lock();
        if held.fork_count == state.fork_count {
            state.start_over(found);
            Self::unlock_and_wake(state);
        }
    }

    /// Publishes committed events, in their order, with the chain value after them. Events that were published before are
    /// skipped.
    pub fn publish_events(&self, events: &[Arc<SessionEvent>], lineage: Option<LogLineage>) {
        self.publish_read(events, lineage, &[]);
    }

    /// Publishes events that were read from the store, as [`Self::publish_events`] does, and then previews that were read before
    /// them. A preview can follow these events, so no stream may see it first; what they end has no preview any more.
    pub fn publish_read(&self, events: &[Arc<SessionEvent>], lineage: Option<LogLineage>, previews: &[MessagePreview]) {
        if events.is_empty() && previews.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        for event in events {
            // The same event can come from the owner in this process and from the store.
            if event.seq > state.published.seq {
                state.append_event(event);
            }
        }
        if let Some(last) = events.last() {
            if state.published.seq == last.seq {
                state.published.lineage = lineage;
            }
            if state.newest.seq == last.seq {
                state.newest.lineage = lineage;
            }
        }
        for preview in previews.iter().filter(|preview| !events.iter().any(|event| preview.is_ended_by(event))) {
            state.apply_preview(preview);
        }
        Self::unlock_and_wake(state);
    }

    /// Appends text to the open message. A new `message_id` opens a new message.
    pub fn append_text(&self, run_id: RunId, message_id: MessageId, text: &str) -> MessageOpening {
        self.append_chunk(run_id, message_id, |open| open.text.push_str(text))
    }

    /// Appends reasoning to the open message. A new `message_id` opens a new message.
    pub fn append_reasoning(&self, run_id: RunId, message_id: MessageId, text: &str) -> MessageOpening {
        self.append_chunk(run_id, message_id, |open| open.reasoning.push_str(text))
    }

    fn append_chunk(
        &self,
        run_id: RunId,
        message_id: MessageId,
        append: impl FnOnce(&mut OpenMessage),
    ) -> MessageOpening {
        let mut state = self.state.lock();
        let is_open = state.open.as_ref().is_some_and(|open| open.message_id == message_id);
        append(state.open_message(run_id, message_id));
        Self::unlock_and_wake(state);
        if is_open { MessageOpening::Continued } else { MessageOpening::Opened }
    }

    /// Returns the text of the open message that was not written yet for watchers in other processes.
    pub(crate) fn unwritten_preview(&self, written: &mut PreviewPosition) -> Option<PreviewUpdate> {
        self.state.lock().unwritten_preview(written)
    }

    /// Waits until there is text for [`Self::unwritten_preview`].
    pub(crate) fn poll_preview(
        &self,
        context: &Context<'_>,
        id: WaiterId,
        written: &mut PreviewPosition,
    ) -> Poll<PreviewUpdate> {
        let mut state = self.state.lock();
        if let Some(update) = state.unwritten_preview(written) {
            return Poll::Ready(update);
        }
        state.waiters.register(id, context.waker());
        Poll::Pending
    }

    /// Warns streams that the store is unavailable, once until the log grows again.
    pub fn warn_store_unavailable(&self) {
        let mut state = self.state.lock();
        if state.warned_at != Some(state.newest.seq) {
            state.warned_at = Some(state.newest.seq);
            state.warnings += 1;
            Self::unlock_and_wake(state);
        }
    }

    /// Sets the progress of a tool call.
    pub fn update_progress(&self, progress: ToolProgress) {
        let mut state = self.state.lock();
        state.progress_version += 1;
        state.progress.retain(|p| p.tool_call_id != progress.tool_call_id);
        state.progress.push(progress);
        Self::unlock_and_wake(state);
    }

    /// Discards the open message: its text is void.
    pub fn discard_open_message(&self) {
        self.state.lock().open = None;
    }

    /// Ends all streams, because the session was deleted.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.end = Some(FeedEnd::SessionDeleted);
        Self::unlock_and_wake(state);
    }

    /// Ends all streams with an error, because the log was found to be damaged.
    pub fn close_damaged(&self) {
        let mut state = self.state.lock();
        state.end = Some(FeedEnd::LogDamaged);
        Self::unlock_and_wake(state);
    }

    /// Returns the name of a new stream.
    pub(crate) fn create_waiter(&self) -> WaiterId {
        self.state.lock().waiters.create_id()
    }

    /// Forgets a stream that has ended.
    pub(crate) fn remove_waiter(&self, id: WaiterId) {
        self.state.lock().waiters.remove(id);
    }

    /// What a stream does next that has sent all events up to `after`, has started over `fork_count` times, and has sent of
    /// the previews what `position` says. Appends previews to `frames`.
    pub(crate) fn next_step(
        &self,
        after: u64,
        fork_count: u64,
        position: &mut StreamPosition,
        frames: &mut VecDeque<StreamFrame>,
    ) -> FeedStep {
        self.state.lock().next_step(after, fork_count, position, frames)
    }

    /// Waits until a stream has something to do. It is looked for and waited for under one lock, so that no change is missed.
    pub(crate) fn poll_step(
        &self,
        context: &Context<'_>,
        id: WaiterId,
        after: u64,
        fork_count: u64,
        position: &mut StreamPosition,
        frames: &mut VecDeque<StreamFrame>,
    ) -> Poll<FeedStep> {
        let mut state = self.state.lock();
        match state.next_step(after, fork_count, position, frames) {
            FeedStep::UpToDate if frames.is_empty() => {
                state.waiters.register(id, context.waker());
                Poll::Pending
            }
            step => Poll::Ready(step),
        }
    }

    fn unlock_and_wake(mut state: MutexGuard<'_, FeedState>) {
        let waiting = state.waiters.take();
        drop(state);
        waiting.wake();
    }
}

impl FeedState {
    /// See [`SessionFeed::next_step`].
    fn next_step(
        &self,
        after: u64,
        fork_count: u64,
        position: &mut StreamPosition,
        frames: &mut VecDeque<StreamFrame>,
    ) -> FeedStep {
        match self.end {
            Some(FeedEnd::SessionDeleted) => return FeedStep::SessionDeleted,
            Some(FeedEnd::LogDamaged) => return FeedStep::LogDamaged,
            None => {}
        }
        if fork_count != self.fork_count {
            return FeedStep::StartOver(self.fork_count);
        }
        if after < self.newest.seq {
            let in_memory = self.tail.back().is_some_and(|newest| newest.seq == self.newest.seq)
                && self.tail.front().is_some_and(|oldest| oldest.seq <= after + 1);
            return if in_memory {
                FeedStep::Events(self.tail.iter().filter(|e| e.seq > after).cloned().collect())
            } else {
                FeedStep::ReadStore
            };
        }
        let is_current = after == self.newest.seq && self.published.seq == self.newest.seq;
        if let Some(open) = self.open.as_ref().filter(|_| is_current) {
            position.advance_to(open, frames);
        }
        if position.progress_version < self.progress_version {
            position.progress_version = self.progress_version;
            let progress = self.progress.iter().cloned();
            frames.extend(progress.map(|p| StreamFrame::Transient(TransientEvent::ToolProgress(p))));
        }
        if position.warnings < self.warnings {
            position.warnings = self.warnings;
            frames.push_back(StreamFrame::Transient(TransientEvent::Warning(SessionWarning::new(
                "store_unavailable",
                "the store is unavailable; runs are interrupted, and resume when the store is available again",
            ))));
        }
        FeedStep::UpToDate
    }

    fn unwritten_preview(&self, written: &mut PreviewPosition) -> Option<PreviewUpdate> {
        written.advance_to(self.open.as_ref()?)
    }

    /// Drops what is held of a log that has lost events and ends at `head`.
    fn start_over(&mut self, head: LogHead) {
        self.newest = head;
        self.published = head;
        self.fork_count += 1;
        self.tail.clear();
        self.open = None;
        self.progress.clear();
        self.warned_at = None;
    }

    fn append_event(&mut self, event: &Arc<SessionEvent>) {
        self.published = LogHead::at_seq(event.seq);
        match &event.body {
            EventBody::AssistantMessage(e) => {
                self.open.take_if(|open| open.message_id == e.message_id);
            }
            EventBody::RunRecovered(_) | EventBody::RunFinished(_) | EventBody::RunFailed(_) => {
                self.open = None;
                self.progress.clear();
            }
            EventBody::ToolEnd(e) => self.progress.retain(|p| p.tool_call_id != e.tool_call_id),
            _ => {}
        }
        if self.tail.back().is_some_and(|newest| newest.seq + 1 != event.seq) {
            self.tail.clear();
        } else if self.tail.len() == TAIL_EVENTS {
            self.tail.pop_front();
        }
        self.tail.push_back(event.clone());
        if event.seq > self.newest.seq {
            self.newest = self.published;
        }
    }

    /// Applies a preview chunk that was read from the store, where it may have been read before.
    fn apply_preview(&mut self, chunk: &MessagePreview) {
        let (MessagePreview::Token(delta) | MessagePreview::Reasoning(delta)) = chunk;
        let open = self.open_message(delta.run_id, delta.message_id);
        let text = if matches!(chunk, MessagePreview::Token(_)) { &mut open.text } else { &mut open.reasoning };
        // A chunk behind a lost one does not fit; the committed message makes up for it.
        if let Some(new) = text.len().checked_sub(delta.offset).and_then(|known| delta.content.get(known..)) {
            text.push_str(new);
        }
    }

    fn open_message(&mut self, run_id: RunId, message_id: MessageId) -> &mut OpenMessage {
        if self.open.as_ref().is_none_or(|open| open.message_id != message_id) {
            self.open = None;
        }
        self.open.get_or_insert_with(|| OpenMessage {
            message_id,
            run_id,
            text: String::new(),
            reasoning: String::new(),
        })
    }
}
