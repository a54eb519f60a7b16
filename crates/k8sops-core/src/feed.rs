//! The live end of one session's log in this process: what its watchers see without asking the store.
//!
//! Nothing is queued per watcher. The feed holds the newest state (the last few events, the text of the open message, the
//! progress of tool calls) and a doorbell; every watcher keeps its own place and takes what it has not seen. So a slow
//! watcher costs nothing, and a fast one sees every piece.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{
    EventBody, MessageId, MessagePreview, RunId, SessionEvent, SessionWarning, StreamFrame, TextDelta, ToolProgress,
    TransientEvent,
};

/// Events kept at hand for watchers that are almost up to date; those further behind read the store.
const TAIL_EVENTS: usize = 32;

/// The live end of a session's log.
#[derive(Debug)]
pub struct SessionFeed {
    // A plain mutex: held for a few copies, never across an await.
    inner: Mutex<Inner>,
    bell: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    /// How far the log reaches.
    last_seq: u64,
    /// How far it was seen here: previews are of what comes after this. Less than `last_seq` while events are known of that
    /// were not seen; a preview could then be of one of them.
    seen: u64,
    /// The newest events, gapless; of use only while its back is `last_seq`.
    tail: VecDeque<Arc<SessionEvent>>,
    open: Option<OpenMessage>,
    progress: Vec<ToolProgress>,
    /// Grows with every change of `progress`.
    progress_version: u64,
    /// How often the watchers were told that the store is away, and at which seq the last time.
    warnings: u64,
    warned_at: Option<u64>,
    closed: bool,
}

/// The message that the model is writing now.
#[derive(Debug)]
struct OpenMessage {
    message_id: MessageId,
    run_id: RunId,
    text: String,
    reasoning: String,
}

/// A watcher's place among the things that are not logged.
#[derive(Debug, Default, Clone)]
pub(super) struct PreviewPlace {
    /// Bytes of text and of reasoning of a message that were sent.
    message: Option<(MessageId, usize, usize)>,
    /// The last message that was sent whole, and the last run whose end was sent. A watcher that reads the store can know
    /// of a commit before the feed does; it must not show a preview of what it has seen the end of.
    closed_message: Option<MessageId>,
    closed_run: Option<RunId>,
    progress_version: u64,
    warnings: u64,
}

/// What a watcher that is at `after` does next.
#[derive(Debug)]
pub(super) enum Step {
    /// These events come next.
    Events(Vec<Arc<SessionEvent>>),
    /// It is behind the tail: read the store.
    Behind,
    /// It has all events; these previews come next (none: wait for the bell).
    UpToDate(Vec<StreamFrame>),
    /// The session is gone.
    Closed,
}

impl SessionFeed {
    /// A feed of a log whose newest event has the seq `last_seq`.
    #[must_use]
    pub fn new(last_seq: u64) -> Self {
        Self { inner: Mutex::new(Inner { last_seq, seen: last_seq, ..Inner::default() }), bell: watch::Sender::new(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every method leaves `Inner` whole at each statement, so that a panic elsewhere in a holder does no harm.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seq of the newest event that this feed knows of.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.lock().last_seq
    }

    /// The seq of the newest event that was published here, or need not be.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.lock().seen
    }

    /// The message that is being written.
    #[must_use]
    pub fn open_message(&self) -> Option<MessageId> {
        self.lock().open.as_ref().map(|open| open.message_id)
    }

    /// A writer begins that knows the log up to `last_seq`: what was seen of an open message is void.
    pub fn take_over(&self, last_seq: u64) {
        let mut inner = self.lock();
        inner.open = None;
        inner.progress.clear();
        inner.seen = inner.seen.max(last_seq);
        inner.last_seq = inner.last_seq.max(last_seq);
        drop(inner);
        self.bell.send_replace(());
    }

    /// Learns from elsewhere (the store) how far the log reaches.
    pub fn observe(&self, last_seq: u64) {
        let mut inner = self.lock();
        if last_seq > inner.last_seq {
            // Before anything is known, nothing can be missing.
            if inner.last_seq == 0 {
                inner.seen = last_seq;
            }
            inner.last_seq = last_seq;
            drop(inner);
            self.bell.send_replace(());
        }
    }

    /// Makes events visible that were committed. In their order, each once.
    pub fn publish(&self, events: &[Arc<SessionEvent>]) {
        if events.is_empty() {
            return;
        }
        let mut inner = self.lock();
        for event in events {
            // Seen before: from the owner in this process, or from the store.
            if event.seq <= inner.seen {
                continue;
            }
            inner.seen = event.seq;
            match &event.body {
                EventBody::AssistantMessage(e) => {
                    inner.open.take_if(|open| open.message_id == e.message_id);
                }
                EventBody::RunRecovered(_) | EventBody::RunFinished(_) | EventBody::RunFailed(_) => {
                    inner.open = None;
                    inner.progress.clear();
                }
                EventBody::ToolEnd(e) => inner.progress.retain(|p| p.tool_call_id != e.tool_call_id),
                _ => {}
            }
            if inner.tail.back().is_none_or(|newest| newest.seq + 1 == event.seq) {
                if inner.tail.len() == TAIL_EVENTS {
                    inner.tail.pop_front();
                }
                inner.tail.push_back(event.clone());
            } else {
                inner.tail.clear();
                inner.tail.push_back(event.clone());
            }
            inner.last_seq = inner.last_seq.max(event.seq);
        }
        drop(inner);
        self.bell.send_replace(());
    }

    /// More text of the open message. A new `message_id` begins a new one.
    pub fn text(&self, run_id: RunId, message_id: MessageId, piece: &str) {
        self.lock().open_or_begin(run_id, message_id).text.push_str(piece);
        self.bell.send_replace(());
    }

    /// More reasoning of the open message.
    pub fn reasoning(&self, run_id: RunId, message_id: MessageId, piece: &str) {
        self.lock().open_or_begin(run_id, message_id).reasoning.push_str(piece);
        self.bell.send_replace(());
    }

    /// A piece of the open message that was read from the store, where it may have been read before.
    pub fn preview(&self, piece: &MessagePreview) {
        let (MessagePreview::Token(delta) | MessagePreview::Reasoning(delta)) = piece;
        let mut inner = self.lock();
        let open = inner.open_or_begin(delta.run_id, delta.message_id);
        let text = if matches!(piece, MessagePreview::Token(_)) { &mut open.text } else { &mut open.reasoning };
        // What does not fit on what is there was lost on the way, and comes with the message.
        if let Some(new) = text.len().checked_sub(delta.offset).and_then(|known| delta.content.get(known..)) {
            text.push_str(new);
        }
        drop(inner);
        self.bell.send_replace(());
    }

    /// Tells the watchers, once until the log grows again, that the store is away.
    pub fn warn_unavailable(&self) {
        let mut inner = self.lock();
        if inner.warned_at != Some(inner.last_seq) {
            inner.warned_at = Some(inner.last_seq);
            inner.warnings += 1;
            drop(inner);
            self.bell.send_replace(());
        }
    }

    /// How far a tool call is.
    pub fn progress(&self, progress: ToolProgress) {
        let mut inner = self.lock();
        inner.progress_version += 1;
        inner.progress.retain(|p| p.tool_call_id != progress.tool_call_id);
        inner.progress.push(progress);
        drop(inner);
        self.bell.send_replace(());
    }

    /// Drops the open message: its text is void.
    pub fn void(&self) {
        self.lock().open = None;
    }

    /// The session is gone: every stream ends.
    pub fn close(&self) {
        self.lock().closed = true;
        self.bell.send_replace(());
    }

    pub(super) fn listen(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    pub(super) fn step(&self, after: u64, place: &mut PreviewPlace) -> Step {
        let inner = self.lock();
        if inner.closed {
            return Step::Closed;
        }
        if after < inner.last_seq {
            let at_hand = inner.tail.back().is_some_and(|newest| newest.seq == inner.last_seq)
                && inner.tail.front().is_some_and(|oldest| oldest.seq <= after + 1);
            return if at_hand {
                Step::Events(inner.tail.iter().filter(|e| e.seq > after).cloned().collect())
            } else {
                Step::Behind
            };
        }
        let mut frames = Vec::new();
        let current = after == inner.last_seq && inner.seen == inner.last_seq;
        if let Some(open) = inner.open.as_ref().filter(|open| current && !place.is_closed(open)) {
            let (text_at, reasoning_at) = place.of(open.message_id);
            for (kind, text, at) in
                [(TextKind::Reasoning, &open.reasoning, reasoning_at), (TextKind::Text, &open.text, text_at)]
            {
                frames.extend(kind.rest(open.run_id, open.message_id, text, at));
            }
            place.message = Some((open.message_id, open.text.len(), open.reasoning.len()));
        }
        if place.progress_version < inner.progress_version {
            place.progress_version = inner.progress_version;
            frames
                .extend(inner.progress.iter().map(|p| StreamFrame::Transient(TransientEvent::ToolProgress(p.clone()))));
        }
        if place.warnings < inner.warnings {
            place.warnings = inner.warnings;
            frames.push(StreamFrame::Transient(TransientEvent::Warning(SessionWarning::new(
                "store_unavailable",
                "the store is away; runs stop, and all goes on by itself when it is back",
            ))));
        }
        Step::UpToDate(frames)
    }
}

impl Inner {
    fn open_or_begin(&mut self, run_id: RunId, message_id: MessageId) -> &mut OpenMessage {
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

impl PreviewPlace {
    /// Bytes of text and of reasoning of `message` that were sent.
    fn of(&self, message: MessageId) -> (usize, usize) {
        match self.message {
            Some((id, text, reasoning)) if id == message => (text, reasoning),
            _ => (0, 0),
        }
    }

    fn is_closed(&self, open: &OpenMessage) -> bool {
        self.closed_message == Some(open.message_id) || self.closed_run == Some(open.run_id)
    }

    /// Notes what the watcher is sent of the log.
    pub(super) fn pass(&mut self, event: &SessionEvent) {
        match &event.body {
            EventBody::AssistantMessage(e) => self.closed_message = Some(e.message_id),
            body if body.ends_run() => self.closed_run = event.run_id,
            _ => {}
        }
    }

    /// The text of a closed message that the watcher has not been sent, so that its deltas are whole before the
    /// `assistant_message` comes.
    pub(super) fn finish(&mut self, event: &SessionEvent) -> Vec<StreamFrame> {
        let (EventBody::AssistantMessage(e), Some(run_id)) = (&event.body, event.run_id) else { return Vec::new() };
        let (text_at, reasoning_at) = self.of(e.message_id);
        let mut frames = Vec::new();
        if let Some(reasoning) = &e.reasoning {
            frames.extend(TextKind::Reasoning.rest(run_id, e.message_id, reasoning, reasoning_at));
        }
        frames.extend(TextKind::Text.rest(run_id, e.message_id, &e.content, text_at));
        frames
    }
}

#[derive(Clone, Copy)]
enum TextKind {
    Text,
    Reasoning,
}

impl TextKind {
    /// What of `text` comes after the first `at` bytes, if anything does.
    fn rest(self, run_id: RunId, message_id: MessageId, text: &str, at: usize) -> Option<StreamFrame> {
        if at == text.len() {
            return None;
        }
        // A place that is not in the text can only mean that the text was replaced: it starts anew.
        let (offset, piece) = text.get(at..).map_or((0, text), |piece| (at, piece));
        let delta = TextDelta { message_id, run_id, offset, content: piece.to_owned() };
        Some(StreamFrame::Transient(match self {
            Self::Text => TransientEvent::Token(delta),
            Self::Reasoning => TransientEvent::Reasoning(delta),
        }))
    }
}
