//! The run of a session: its beginning, its task, and how it ends when it cannot say so itself.

use std::sync::Arc;

use tokio::task::JoinError;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument as _;

use super::Owner;
use crate::runtime::{
    Shared, asking,
    asking::UserSpending,
    learning,
    learning::UserRecall,
    observed,
    registry::Place,
    run_log::{FirstEvent, OwnedLog},
};
use k8sops_agent::{LogClosed, MemoryRetriever, Run, RunEnd, run_failure_events};
use k8sops_core::{
    CommandBody, EventAuthor, EventBody, EventDraft, InboxEntry, MessageId, MessagePreview, RunFailed, RunId,
    RunStarted, SessionId, SessionSettings, StoreError, TitleChanged, TokenUsage, UserMessageEvent, title_from,
};
use k8sops_telemetry::spans;

/// A run on its way.
pub(super) struct RunTask {
    cancel: CancellationToken,
    task: AbortOnDropHandle<Result<RunEnd, LogClosed>>,
}

impl Owner<'_> {
    /// Puts a message and the start of its run into the next commit.
    pub(super) fn begin_run(&mut self, entry: &InboxEntry, settings: &SessionSettings, titled: bool) {
        let CommandBody::Message { message_id, run_id, content, cause, .. } = &entry.command.body else { return };
        let span = spans::run_span(cause, self.held.lease.session, *run_id, &settings.provider, &settings.model, 1);
        self.span.begin(*run_id, span);
        self.writer.span = self.span.current();
        let title = title_from(content);
        if !titled && !title.is_empty() {
            let body = TitleChanged { title, by: EventAuthor::System, command_id: None };
            self.writer.push([EventDraft::new(EventBody::TitleChanged(body))]);
        }
        let message = UserMessageEvent {
            message_id: *message_id,
            content: content.clone(),
            command_id: Some(entry.command.command_id.clone()),
        };
        let memory = self.shared.parts.memory.as_ref().filter(|_| settings.memory);
        if let Some(memory) = memory {
            // Beside the commit of the message.
            self.recalling =
                Some((*run_id, learning::begin(memory, &self.shared.parts.metrics, &entry.command.by, content)));
        }
        let started = RunStarted {
            provider: settings.provider.clone(),
            model: settings.model.clone(),
            attempt: 1,
            cause: cause.clone(),
            memory: memory.is_some(),
        };
        self.writer.push([
            EventDraft::in_run(*run_id, EventBody::UserMessage(message)),
            EventDraft::in_run(*run_id, EventBody::RunStarted(started)),
        ]);
        self.writer.consume(entry.position);
    }

    pub(super) fn cancel_run(&mut self, run_id: RunId) {
        // Its task may not be made yet.
        self.cancelled = Some(run_id);
        if let Some(run) = &self.run {
            run.cancel.cancel();
        }
    }

    /// Starts the task of the run that the log says is open, if it has none.
    pub(super) fn start_run(&mut self) {
        if self.run.is_some() || !self.writer.idle() || self.shared.halt.is_cancelled() {
            return;
        }
        let session = self.held.lease.session;
        let open = self.projection.read(|state| {
            let run = state.run.as_ref()?;
            let span = self.span.of(session, run);
            Some((run.run_id, run.provider.clone(), run.model.clone(), state.summary.settings.clone(), span))
        });
        let Some((run_id, provider, model_id, mut settings, span)) = open else { return };
        self.writer.span = span.clone();
        let parts = &self.shared.parts;
        let at = self.projection.read(observed::place);
        let candidates = asking::model_candidates(parts, &provider, &model_id, &at);
        if candidates.is_empty() {
            self.fail_run(RunFailed {
                code: "provider_unknown".into(),
                message: format!("provider {provider:?} is not configured any more; choose another in the settings"),
                retryable: false,
                usage: TokenUsage::default(),
            });
            return;
        }
        settings.provider = provider;
        settings.model = model_id;
        let user = self.projection.read(|state| state.summary.user_id.clone());
        self.shared.load.begin(self.held.lease.session, &user);
        let cancel = CancellationToken::new();
        if self.cancelled == Some(run_id) {
            cancel.cancel();
        }
        let run = Run {
            log: Arc::new(OwnedLog {
                run_id,
                appends: self.to_appends.clone(),
                projection: self.projection.clone(),
                feed: self.place.feed.clone(),
                previews: self.previews.as_ref().map(|(previews, _)| previews.clone()),
                term: self.held.term(),
                first: FirstEvent::new(parts.metrics.clone()),
            }),
            candidates,
            usage_source: Arc::new(UserSpending { shared: self.shared.clone(), projection: self.projection.clone() }),
            memory: self.recall(run_id),
            tools: self.tools.clone(),
            settings,
            system: parts.system.clone(),
            limits: parts.limits.load().as_ref().clone(),
            cancel: cancel.clone(),
            halt: self.shared.halt.clone(),
        };
        let task = async move {
            tokio::select! {
                () = run.tools.wait_until_ready() => {}
                () = run.cancel.cancelled() => {}
                () = run.halt.cancelled() => {}
            }
            run.run_to_completion().await
        };
        let task = tokio::spawn(task.instrument(span));
        let task = AbortOnDropHandle::new(task);
        self.run = Some(RunTask { cancel, task });
        // What waits may be meant for it: a cancel, or a message that interrupts.
        self.look = true;
    }

    /// What a run has of what is remembered of its user.
    pub(super) fn recall(&mut self, run_id: RunId) -> Option<Arc<dyn MemoryRetriever>> {
        let memory = self.shared.parts.memory.clone()?;
        let user = self.projection.read(|state| state.summary.user_id.clone());
        let begun = self.recalling.take().filter(|(of, _)| *of == run_id).map(|(_, begun)| begun);
        Some(Arc::new(UserRecall::new(memory, self.shared.parts.metrics.clone(), user, begun)))
    }

    pub(super) fn run_panicked(&mut self, panic: &JoinError) {
        tracing::error!(session = %self.held.lease.session, %panic, "a run panicked");
        self.fail_run(RunFailed {
            code: "internal".into(),
            message: "the run broke off because of a fault in k8sops; see its log".into(),
            retryable: true,
            usage: TokenUsage::default(),
        });
    }

    /// Closes the open run, if there is one, for a reason that the run could not name itself.
    pub(super) fn fail_run(&mut self, failure: RunFailed) {
        let Some(run) = self.projection.read(|state| state.run.clone()) else { return };
        self.writer
            .push(run_failure_events(&run, failure).into_iter().map(|body| EventDraft::in_run(run.run_id, body)));
    }
}

/// The message that an owner before this one was in the middle of: what was seen of it is void.
pub(super) async fn superseded(
    shared: &Shared,
    session: SessionId,
    place: &Place,
) -> Result<Vec<MessageId>, StoreError> {
    let mut open = place.feed.open_message();
    if let Some(store) = shared.parts.store.notifications() {
        let seen = store.read_preview(session, 0).await?;
        open = open.or(seen.pieces.last().map(MessagePreview::message_id));
    }
    Ok(open.into_iter().collect())
}

/// Waits for the run's task; for ever when there is none.
pub(super) async fn run_ended(run: &mut Option<RunTask>) -> Result<(), JoinError> {
    match run {
        // How it ended stands in the log.
        Some(run) => (&mut run.task).await.map(|_| ()),
        None => std::future::pending().await,
    }
}
