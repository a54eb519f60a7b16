//! The live end of one session's log in this process, which streams read without asking the store.
//!
//! Streams have no queues. The feed holds the newest state (the last few events, the text of the open message, the progress
//! of tool calls) and wakes all streams when it changes; every stream keeps its own position and reads what it has not sent.
//! A slow stream therefore costs nothing, and a fast one sees every delta.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    event::{EventBody, SessionEvent, SessionWarning},
    frame::{StreamFrame, ToolProgress, TransientEvent},
    ids::{MessageId, RunId},
    preview::MessagePreview,
    stream_position::{OpenMessage, StreamPosition},
};

/// Events in memory for streams that are almost up to date; those further behind read the store.
const TAIL_EVENTS: usize = 32;

/// The live end of a session's log.
#[derive(Debug)]
pub struct SessionFeed {
    // Held for a few copies, never across an await.
    state: Mutex<FeedState>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct FeedState {
    /// The seq of the newest event in the log, as far as is known.
    last_seq: u64,
    /// The seq of the newest event that was published here. Less than `last_seq` while events are known to exist that were
    /// not published; a preview could then belong to a message that one of them closes.
    published_seq: u64,
    /// The newest events, without gaps; of use only while the last one is `last_seq`.
    tail: VecDeque<Arc<SessionEvent>>,
    open: Option<OpenMessage>,
    progress: Vec<ToolProgress>,
    /// Grows with every change of `progress`.
    progress_version: u64,
    /// How often streams were warned that the store is unavailable, and the `last_seq` of the last time.
    warnings: u64,
    warned_at: Option<u64>,
    closed: bool,
}

/// What a stream at some position does next.
#[derive(Debug)]
pub(crate) enum FeedStep {
    /// Send these events.
    Events(Vec<Arc<SessionEvent>>),
    /// Read the store: the position is behind the events in memory.
    ReadStore,
    /// Send these previews (if empty: wait for a change); all events were sent.
    UpToDate(Vec<StreamFrame>),
    /// End: the session was deleted.
    Closed,
}

impl SessionFeed {
    /// A feed of a log whose newest event is `last_seq`.
    #[must_use]
    pub fn new(last_seq: u64) -> Self {
        let state = FeedState { last_seq, published_seq: last_seq, ..FeedState::default() };
        Self { state: Mutex::new(state), changed: watch::Sender::new(()) }
    }

    /// The seq of the newest event in the log, as far as this feed knows.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.state.lock().last_seq
    }

    /// The seq of the newest event that was published here, or that existed before the feed.
    #[must_use]
    pub fn published_seq(&self) -> u64 {
        self.state.lock().published_seq
    }

    /// The id of the message that the model is writing.
    #[must_use]
    pub fn open_message_id(&self) -> Option<MessageId> {
        self.state.lock().open.as_ref().map(|open| open.message_id)
    }

    /// Prepares the feed for a new session owner in this process, which knows the log up to `last_seq`: the preview of the
    /// former owner is void.
    pub fn reset_for_owner(&self, last_seq: u64) {
        let mut state = self.state.lock();
        state.open = None;
        state.progress.clear();
        state.published_seq = state.published_seq.max(last_seq);
        state.last_seq = state.last_seq.max(last_seq);
        drop(state);
        self.wake_streams();
    }

    /// Tells the feed where the log ends, as read from the store.
    pub fn observe_last_seq(&self, last_seq: u64) {
        let mut state = self.state.lock();
        if last_seq > state.last_seq {
            // A feed that knows of no event has missed none.
            if state.last_seq == 0 {
                state.published_seq = last_seq;
            }
            state.last_seq = last_seq;
            drop(state);
            self.wake_streams();
        }
    }

    /// Publishes committed events, in their order. Events that were published before are skipped.
    pub fn publish_events(&self, events: &[Arc<SessionEvent>]) {
        if events.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        for event in events {
            // The same event can come from the owner in this process and from the store.
            if event.seq > state.published_seq {
                state.append_event(event);
            }
        }
        drop(state);
        self.wake_streams();
    }

    /// Appends text to the open message. A new `message_id` opens a new message.
    pub fn append_text(&self, run_id: RunId, message_id: MessageId, text: &str) {
        self.state.lock().open_message(run_id, message_id).text.push_str(text);
        self.wake_streams();
    }

    /// Appends reasoning to the open message. A new `message_id` opens a new message.
    pub fn append_reasoning(&self, run_id: RunId, message_id: MessageId, text: &str) {
        self.state.lock().open_message(run_id, message_id).reasoning.push_str(text);
        self.wake_streams();
    }

    /// Applies a preview chunk that was read from the store, where it may have been read before.
    pub fn apply_preview(&self, chunk: &MessagePreview) {
        let (MessagePreview::Token(delta) | MessagePreview::Reasoning(delta)) = chunk;
        let mut state = self.state.lock();
        let open = state.open_message(delta.run_id, delta.message_id);
        let text = if matches!(chunk, MessagePreview::Token(_)) { &mut open.text } else { &mut open.reasoning };
        // A chunk behind a lost one does not fit; the committed message makes up for it.
        if let Some(new) = text.len().checked_sub(delta.offset).and_then(|known| delta.content.get(known..)) {
            text.push_str(new);
        }
        drop(state);
        self.wake_streams();
    }

    /// Warns streams that the store is unavailable, once until the log grows again.
    pub fn warn_store_unavailable(&self) {
        let mut state = self.state.lock();
        if state.warned_at != Some(state.last_seq) {
            state.warned_at = Some(state.last_seq);
            state.warnings += 1;
            drop(state);
            self.wake_streams();
        }
    }

    /// Sets the progress of a tool call.
    pub fn update_progress(&self, progress: ToolProgress) {
        let mut state = self.state.lock();
        state.progress_version += 1;
        state.progress.retain(|p| p.tool_call_id != progress.tool_call_id);
        state.progress.push(progress);
        drop(state);
        self.wake_streams();
    }

    /// Discards the open message: its text is void.
    pub fn discard_open_message(&self) {
        self.state.lock().open = None;
    }

    /// Ends all streams, because the session was deleted.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake_streams();
    }

    /// A receiver that is notified whenever the feed changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What a stream does next that has sent all events up to `after`, and of the previews what `position` says.
    pub(crate) fn next_step(&self, after: u64, position: &mut StreamPosition) -> FeedStep {
        let state = self.state.lock();
        if state.closed {
            return FeedStep::Closed;
        }
        if after < state.last_seq {
            let in_memory = state.tail.back().is_some_and(|newest| newest.seq == state.last_seq)
                && state.tail.front().is_some_and(|oldest| oldest.seq <= after + 1);
            return if in_memory {
                FeedStep::Events(state.tail.iter().filter(|e| e.seq > after).cloned().collect())
            } else {
                FeedStep::ReadStore
            };
        }
        let mut frames = Vec::new();
        let is_current = after == state.last_seq && state.published_seq == state.last_seq;
        if let Some(open) = state.open.as_ref().filter(|_| is_current) {
            frames.extend(position.advance_to(open));
        }
        if position.progress_version < state.progress_version {
            position.progress_version = state.progress_version;
            let progress = state.progress.iter().cloned();
            frames.extend(progress.map(|p| StreamFrame::Transient(TransientEvent::ToolProgress(p))));
        }
        if position.warnings < state.warnings {
            position.warnings = state.warnings;
            frames.push(StreamFrame::Transient(TransientEvent::Warning(SessionWarning::new(
                "store_unavailable",
                "the store is unavailable; runs are interrupted, and resume when the store is available again",
            ))));
        }
        FeedStep::UpToDate(frames)
    }

    fn wake_streams(&self) {
        self.changed.send_replace(());
    }
}

impl FeedState {
    fn append_event(&mut self, event: &Arc<SessionEvent>) {
        self.published_seq = event.seq;
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
        self.last_seq = self.last_seq.max(event.seq);
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
