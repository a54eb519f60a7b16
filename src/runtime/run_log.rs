//! The way from a run to its owner: what the agent room calls [`RunLog`].

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    lease::Term,
    previews::{Kind, Previews},
};
use k8sops_agent::{LogClosed, PreviewChunk, RunLog, RunView};
use k8sops_core::{EventBody, EventDraft, MessageId, RunId, SessionFeed, SessionState, ToolProgress};
use k8sops_telemetry::Metrics;

/// The committed projection, shared by the owner (who writes it after each commit) and its run (which reads it).
#[derive(Debug)]
pub(super) struct Projection {
    // A plain lock: held for a copy or for the fold of a few events, never across an await.
    state: RwLock<SessionState>,
    changes: watch::Sender<u64>,
}

impl Projection {
    pub(super) fn new(state: SessionState) -> Self {
        let changes = watch::Sender::new(state.last_seq());
        Self { state: RwLock::new(state), changes }
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&SessionState) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Cuts a conversation back that weighs more than twice `keep`.
    pub(super) fn forget_oldest(&self, keep: u64) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.weight() > 2 * keep {
            state.forget_oldest(keep);
        }
    }

    pub(super) fn fold(&self, events: &[Arc<k8sops_core::SessionEvent>]) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            state.apply(event);
        }
        let last_seq = state.last_seq();
        drop(state);
        self.changes.send_replace(last_seq);
    }
}

/// Events that a run wants committed.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) drafts: Vec<EventDraft>,
    /// Told when they are durable; dropped when they never will be.
    pub(super) done: oneshot::Sender<()>,
}

/// A run's log.
pub(super) struct OwnedLog {
    pub(super) run_id: RunId,
    pub(super) appends: mpsc::Sender<Append>,
    pub(super) projection: Arc<Projection>,
    pub(super) feed: Arc<SessionFeed>,
    /// For watchers on other replicas, where there are any.
    pub(super) previews: Option<Arc<Previews>>,
    pub(super) term: Arc<Term>,
    pub(super) first: FirstEvent,
}

/// Times the first piece that a run shows.
pub(super) struct FirstEvent {
    began: Instant,
    shown: AtomicBool,
    metrics: Arc<Metrics>,
}

impl FirstEvent {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { began: Instant::now(), shown: AtomicBool::new(false), metrics }
    }

    fn shown(&self) {
        // Looked at for every token, written once.
        if !self.shown.load(Ordering::Relaxed) && !self.shown.swap(true, Ordering::Relaxed) {
            self.metrics.record_first_event(self.began.elapsed());
        }
    }
}

#[async_trait]
impl RunLog for OwnedLog {
    async fn append_events(&self, events: Vec<EventBody>) -> Result<(), LogClosed> {
        if events.iter().any(|event| matches!(event, EventBody::AssistantMessage(_))) {
            self.first.shown();
        }
        let (done, durable) = oneshot::channel();
        let drafts = events.into_iter().map(|body| EventDraft::in_run(self.run_id, body)).collect();
        self.appends.send(Append { drafts, done }).await.map_err(|_| LogClosed)?;
        durable.await.map_err(|_| LogClosed)
    }

    fn view(&self) -> RunView {
        self.projection.read(|state| RunView::from(state))
    }

    fn holds_lease(&self) -> bool {
        self.term.holds()
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.projection.changes.subscribe()
    }

    fn send_preview(&self, message: MessageId, piece: PreviewChunk<'_>) {
        self.first.shown();
        match piece {
            PreviewChunk::Text(text) => {
                self.feed.text(self.run_id, message, text);
                self.previews.iter().for_each(|p| p.push(self.run_id, message, Kind::Text, text));
            }
            PreviewChunk::Reasoning(text) => {
                self.feed.reasoning(self.run_id, message, text);
                self.previews.iter().for_each(|p| p.push(self.run_id, message, Kind::Reasoning, text));
            }
            PreviewChunk::Void => {
                self.feed.void();
                self.previews.iter().for_each(|p| p.clear());
            }
        }
    }

    fn send_progress(&self, progress: ToolProgress) {
        self.feed.progress(progress);
    }
}
