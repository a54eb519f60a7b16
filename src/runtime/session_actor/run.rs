//! The run of a session: its start, its task, and its failure after a panic.

use std::sync::Arc;

use tokio::task::JoinError;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument as _;

use super::{SessionActor, run_task::RunTask};
use crate::runtime::{
    instrumented, memory_extraction,
    memory_extraction::UserMemoryRetriever,
    model_candidates,
    run_handle::{FirstEventTimer, RunHandle},
    usage_recorder::UserUsage,
};
use k8sops_agent::{MemoryRetriever, Run, run_failure_events};
use k8sops_core::{
    CommandBody, EventAuthor, EventBody, EventDraft, InboxEntry, RunFailed, RunId, RunStarted, SessionSettings,
    TitleChanged, TokenUsage, UserMessageEvent, derive_title,
};
use k8sops_telemetry::spans;

impl SessionActor<'_> {
    /// Queues a message and the start of its run.
    pub(super) fn start_run_from_message(&mut self, entry: &InboxEntry, settings: &SessionSettings, titled: bool) {
        let CommandBody::Message { message_id, run_id, content, cause, .. } = &entry.command.body else { return };
        let span = spans::run_span(cause, self.held.lease.session, *run_id, &settings.provider, &settings.model, 1);
        self.span.start(*run_id, span);
        self.writer.span = self.span.current();
        let title = derive_title(content);
        if !titled && !title.is_empty() {
            let body = TitleChanged { title, by: EventAuthor::System, command_id: None };
            self.writer.queue_events([EventDraft::new(EventBody::TitleChanged(body))]);
        }
        let message = UserMessageEvent {
            message_id: *message_id,
            content: content.clone(),
            command_id: Some(entry.command.command_id.clone()),
        };
        let memory = self.shared.dependencies.memory.as_ref().filter(|_| settings.memory);
        if let Some(memory) = memory {
            // Concurrently with the commit of the message.
            self.retrieval = Some((
                *run_id,
                memory_extraction::start_retrieval(
                    memory,
                    &self.shared.dependencies.metrics,
                    &entry.command.by,
                    content,
                ),
            ));
        }
        let started = RunStarted {
            provider: settings.provider.clone(),
            model: settings.model.clone(),
            attempt: 1,
            cause: cause.clone(),
            memory: memory.is_some(),
        };
        self.writer.queue_events([
            EventDraft::in_run(*run_id, EventBody::UserMessage(message)),
            EventDraft::in_run(*run_id, EventBody::RunStarted(started)),
        ]);
        self.writer.consume_inbox_entry(entry.position);
    }

    pub(super) fn cancel_run(&mut self, run_id: RunId) {
        // Its task may not be started yet.
        self.cancelled = Some(run_id);
        if let Some(run) = &self.run {
            run.cancel.cancel();
        }
    }

    /// Starts the task of the open run, if it has none.
    pub(super) fn start_run(&mut self) {
        if self.run.is_some() || !self.writer.is_idle() || self.shared.halt.is_cancelled() {
            return;
        }
        let session = self.held.lease.session;
        let open = self.projection.read(|state| {
            let run = state.run.as_ref()?;
            let span = self.span.get_or_start(session, run);
            Some((run.run_id, run.provider.clone(), run.model.clone(), state.summary.settings.clone(), span))
        });
        let Some((run_id, provider, model_id, mut settings, span)) = open else { return };
        self.writer.span = span.clone();
        let dependencies = &self.shared.dependencies;
        let at = self.projection.read(instrumented::span_context);
        let candidates = model_candidates::model_candidates(dependencies, &provider, &model_id, &at);
        if candidates.is_empty() {
            self.fail_run(RunFailed {
                code: "provider_unknown".into(),
                message: format!("provider {provider:?} is no longer configured; choose another in the settings"),
                retryable: false,
                provider_request_id: None,
                usage: TokenUsage::default(),
            });
            return;
        }
        settings.provider = provider;
        settings.model = model_id;
        let user = self.projection.read(|state| state.summary.user_id.clone());
        self.shared.admission.mark_running(self.held.lease.session, &user);
        let cancel = CancellationToken::new();
        if self.cancelled == Some(run_id) {
            cancel.cancel();
        }
        let run = Run {
            log: Arc::new(RunHandle {
                run_id,
                appends: self.to_appends.clone(),
                projection: self.projection.clone(),
                feed: self.slot.feed.clone(),
                previews: self.previews.as_ref().map(|(previews, _)| previews.clone()),
                lease_validity: self.held.validity(),
                first_event: FirstEventTimer::new(dependencies.metrics.clone()),
                session,
                shared: self.shared.clone(),
            }),
            candidates,
            usage_source: Arc::new(UserUsage { shared: self.shared.clone(), projection: self.projection.clone() }),
            memory: self.memory_retriever(run_id),
            tools: self.tools.clone(),
            settings,
            system: dependencies.system.clone(),
            limits: dependencies.limits.load().as_ref().clone(),
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
        let thread = self.shared.threads.worker_or_current(self.shared.registry.last_watcher(session));
        let shared = self.shared.clone();
        let task = async move { shared.worker_watch.watch_task("run", task.instrument(span)).await };
        let task = AbortOnDropHandle::new(thread.spawn(task));
        self.run = Some(RunTask { cancel, task });
        // The inbox may hold a cancel or an interrupting message for it.
        self.inbox_may_have_news = true;
    }

    /// Returns the memory retriever of a run.
    pub(super) fn memory_retriever(&mut self, run_id: RunId) -> Option<Arc<dyn MemoryRetriever>> {
        let memory = self.shared.dependencies.memory.clone()?;
        let user = self.projection.read(|state| state.summary.user_id.clone());
        let begun = self.retrieval.take().filter(|(of, _)| *of == run_id).map(|(_, begun)| begun);
        Some(Arc::new(UserMemoryRetriever::new(memory, self.shared.dependencies.metrics.clone(), user, begun)))
    }

    pub(super) fn run_panicked(&mut self, panic: &JoinError) {
        tracing::error!(session = %self.held.lease.session, %panic, "run panicked");
        self.fail_run(RunFailed {
            code: "internal".into(),
            message: "the run failed because of a bug in k8sops; see the log of the service".into(),
            retryable: true,
            provider_request_id: None,
            usage: TokenUsage::default(),
        });
    }

    /// Fails the open run, if any, for a reason outside of its loop.
    pub(super) fn fail_run(&mut self, failure: RunFailed) {
        let Some(run) = self.projection.read(|state| state.run.clone()) else { return };
        self.writer.queue_events(
            run_failure_events(&run, failure).into_iter().map(|body| EventDraft::in_run(run.run_id, body)),
        );
    }
}
