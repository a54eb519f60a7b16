//! The log as a run sees it: the implementation of [`RunLog`] that hands events to the session actor, and the channel to it.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use parking_lot::RwLock;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use super::{inner::RuntimeInner, lease::LeaseValidity, preview_writer::PreviewWriter, session_actor::RunEnding};
use k8sops_agent::{LogClosed, PreparedMessages, PreviewChunk, RunLog, RunView, StartConfirmation};
use k8sops_core::{
    ConfirmableWrite, EventBody, EventDraft, MemorySaved, MessageId, MessageOpening, RunId, SessionFeed, SessionId,
    SessionState, ToolCallId, ToolProgress,
};
use k8sops_telemetry::Metrics;

/// The committed projection, shared by the session actor, which updates it after each commit, and its run, which reads it.
#[derive(Debug)]
pub(super) struct SessionProjection {
    // A synchronous lock: held for a copy or for a few events, never across an await.
    state: RwLock<SessionState>,
    changes: watch::Sender<u64>,
    /// What runs computed of its messages.
    pub(super) prepared: Arc<PreparedMessages>,
}

impl SessionProjection {
    pub(super) fn new(state: SessionState) -> Self {
        let changes = watch::Sender::new(state.last_seq());
        Self { state: RwLock::new(state), changes, prepared: Arc::default() }
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&SessionState) -> T) -> T {
        look(&self.state.read())
    }

    /// Drops the oldest turns of a conversation that weighs more than twice `keep`.
    pub(super) fn forget_oldest(&self, keep: u64) {
        let mut state = self.state.write();
        if state.estimated_bytes() > 2 * keep {
            state.drop_oldest_turns(keep);
        }
    }

    pub(super) fn apply_events(&self, events: &[Arc<k8sops_core::SessionEvent>]) {
        let mut state = self.state.write();
        for event in events {
            state.apply_event(event);
        }
        let last_seq = state.last_seq();
        drop(state);
        self.changes.send_replace(last_seq);
    }
}

/// What the tasks of a session send to its actor, all over one channel.
#[derive(Debug)]
pub(super) enum TaskMessage {
    /// Events of the run to be committed. `done` receives a message when they are durable; it is dropped if they never will be.
    Append { drafts: Vec<EventDraft>, done: oneshot::Sender<()> },
    /// The run's task has ended: the last message of the run.
    RunEnded(RunEnding),
    /// The memory extraction has ended.
    MemoriesExtracted(MemorySaved),
}

/// Returns what a task said when it panicked.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The log of one run.
pub(super) struct RunHandle {
    pub(super) run_id: RunId,
    pub(super) actor: mpsc::Sender<TaskMessage>,
    pub(super) projection: Arc<SessionProjection>,
    pub(super) feed: Arc<SessionFeed>,
    /// Previews for watchers on other replicas; `None` with a store of a single process.
    pub(super) previews: Option<Arc<PreviewWriter>>,
    pub(super) lease_validity: Arc<LeaseValidity>,
    pub(super) first_event: FirstEventTimer,
    pub(super) session: SessionId,
    pub(super) shared: Arc<RuntimeInner>,
}

/// Records the time to the first event of a run, once.
pub(super) struct FirstEventTimer {
    began: Instant,
    shown: AtomicBool,
    metrics: Arc<Metrics>,
}

impl FirstEventTimer {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { began: Instant::now(), shown: AtomicBool::new(false), metrics }
    }

    fn record_once(&self) {
        // Read for every token, written once.
        if !self.shown.load(Ordering::Relaxed) && !self.shown.swap(true, Ordering::Relaxed) {
            self.metrics.record_first_event(self.began.elapsed());
        }
    }
}

impl RunHandle {
    fn record_opening(&self, opening: MessageOpening) {
        if opening == MessageOpening::Opened {
            self.previews.iter().for_each(|previews| previews.record_opening());
        }
    }
}

#[async_trait]
impl RunLog for RunHandle {
    async fn append_events(&self, events: Vec<EventBody>) -> Result<(), LogClosed> {
        if events.iter().any(|event| matches!(event, EventBody::AssistantMessage(_))) {
            self.first_event.record_once();
        }
        let (done, durable) = oneshot::channel();
        let drafts = events.into_iter().map(|body| EventDraft::in_run(self.run_id, body)).collect();
        self.actor.send(TaskMessage::Append { drafts, done }).await.map_err(|_| LogClosed)?;
        durable.await.map_err(|_| LogClosed)
    }

    async fn confirm_call_start(&self, call: &ToolCallId) -> StartConfirmation {
        // The start was committed and published before, so the log has it up to here.
        let published = self.feed.held_position().published;
        match self.shared.confirm_write(self.session, ConfirmableWrite::Events(published)).await {
            Ok(()) => StartConfirmation::Confirmed,
            Err(error) => {
                tracing::warn!(session = %self.session, %call, %error, "tool call not sent: its start is not confirmed");
                StartConfirmation::Unconfirmed
            }
        }
    }

    fn record_unsent_call(&self, call: &ToolCallId) {
        self.shared.known_logs.record_unsent_call(self.session, call);
    }

    fn view(&self) -> RunView {
        self.projection.read(|state| RunView::from(state))
    }

    fn holds_lease(&self) -> bool {
        self.lease_validity.is_held()
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.projection.changes.subscribe()
    }

    fn send_preview(&self, message: MessageId, piece: PreviewChunk<'_>) {
        self.first_event.record_once();
        match piece {
            PreviewChunk::Text(text) => {
                self.record_opening(self.feed.append_text(self.run_id, message, text));
            }
            PreviewChunk::Reasoning(text) => {
                self.record_opening(self.feed.append_reasoning(self.run_id, message, text));
            }
            PreviewChunk::Void => self.feed.discard_open_message(),
        }
    }

    fn send_progress(&self, progress: ToolProgress) {
        self.feed.update_progress(progress);
    }
}
