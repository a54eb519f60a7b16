//! The task of a run.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use k8sops_agent::{LogClosed, Run, RunEnd};
use k8sops_core::{ApprovalAudience, RunFailed, RunId, SessionFeed, SessionId, TokenUsage};
use k8sops_tools::{ApprovalBy, ToolExecutor};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{Instrument as _, Span};

use super::{
    effects::{MemoryQuery, RunStart},
    inputs::RunEnding,
};
use crate::runtime::{
    inner::RuntimeInner,
    instrumented,
    lease::LeaseValidity,
    memory_extraction::{RetrievalTask, UserMemoryRetriever, start_retrieval},
    model_candidates::model_candidates,
    preview_writer::PreviewWriter,
    run_handle::{FirstEventTimer, RunHandle, SessionProjection, TaskMessage, panic_message},
    usage_recorder::UserUsage,
};

/// The task of a run, which is aborted when this is dropped.
pub(super) struct RunTask {
    cancel: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

/// What a run needs of its session.
pub(super) struct RunContext {
    pub(super) shared: Arc<RuntimeInner>,
    pub(super) session: SessionId,
    pub(super) projection: Arc<SessionProjection>,
    pub(super) feed: Arc<SessionFeed>,
    pub(super) previews: Option<Arc<PreviewWriter>>,
    pub(super) tools: Arc<dyn ToolExecutor>,
    pub(super) lease_validity: Arc<LeaseValidity>,
    pub(super) actor: mpsc::Sender<TaskMessage>,
}

impl RunTask {
    /// Starts the task of a run. It waits until the start of the run is committed, which `is_committed` tells, and sends its
    /// end to the actor.
    pub(super) fn start(context: RunContext, start: RunStart, is_committed: oneshot::Receiver<()>, span: Span) -> Self {
        let cancel = CancellationToken::new();
        let watch = context.shared.worker_watch.clone();
        let task = run_and_report(context, start, is_committed, cancel.clone()).instrument(span);
        Self { cancel, _task: AbortOnDropHandle::new(tokio::spawn(watch.watch_task("run", task))) }
    }

    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }
}

async fn run_and_report(
    context: RunContext,
    start: RunStart,
    is_committed: oneshot::Receiver<()>,
    cancel: CancellationToken,
) {
    let (session, actor) = (context.session, context.actor.clone());
    let run = AssertUnwindSafe(run_when_committed(context, start, is_committed, cancel));
    let ending = run.catch_unwind().await.unwrap_or_else(|panic| {
        tracing::error!(%session, panic = panic_message(&*panic), "run panicked");
        RunEnding::Failed(run_failure(
            "internal",
            "the run failed because of a bug in k8sops; see the log of the service",
            true,
        ))
    });
    // An actor that is gone needs no result.
    let _ = actor.send(TaskMessage::RunEnded(ending)).await;
}

async fn run_when_committed(
    context: RunContext,
    start: RunStart,
    is_committed: oneshot::Receiver<()>,
    cancel: CancellationToken,
) -> RunEnding {
    // Concurrently with the commit of the message.
    let retrieval = start.recall.as_ref().and_then(|query| context.retrieve_memories(query));
    if !start.attachments.is_empty() {
        context.tools.store_attachments(&start.attachments).await;
    }
    if is_committed.await.is_err() {
        return RunEnding::LogClosed;
    }
    let halt = context.shared.halt.clone();
    if halt.is_cancelled() {
        return RunEnding::Halted;
    }
    let run = match context.create_run(start.run_id, retrieval, cancel) {
        Ok(run) => run,
        Err(failure) => return RunEnding::Failed(*failure),
    };
    tokio::select! {
        () = run.tools.wait_until_ready() => {}
        () = run.cancel.cancelled() => {}
        () = run.halt.cancelled() => {}
    }
    match run.run_to_completion().await {
        Ok(RunEnd::Closed) => RunEnding::Closed,
        Err(LogClosed) => RunEnding::LogClosed,
        Ok(RunEnd::Halted) => RunEnding::Halted,
    }
}

impl RunContext {
    fn retrieve_memories(&self, query: &MemoryQuery) -> Option<RetrievalTask> {
        let memory = self.shared.dependencies.memory.as_ref()?;
        Some(start_retrieval(&self.shared, memory, &query.user, &query.message))
    }

    /// Creates the run that is open in the log.
    ///
    /// # Errors
    /// The failure of the run, if its provider is not configured.
    fn create_run(
        self,
        run_id: RunId,
        retrieval: Option<RetrievalTask>,
        cancel: CancellationToken,
    ) -> Result<Run, Box<RunFailed>> {
        let Self { shared, session, projection, feed, previews, tools, lease_validity, actor } = self;
        let dependencies = &shared.dependencies;
        let settings = projection.read(|state| {
            let mut settings = state.summary.settings.clone();
            if let Some(run) = &state.run {
                settings.provider.clone_from(&run.provider);
                settings.model.clone_from(&run.model);
            }
            settings
        });
        let (provider, model) = (&settings.provider, &settings.model);
        let at = projection.read(instrumented::span_context);
        let candidates = model_candidates(dependencies, provider, model, &at);
        if candidates.is_empty() {
            let message = format!("provider {provider:?} is no longer configured; choose another in the settings");
            return Err(Box::new(run_failure("provider_unknown", &message, false)));
        }
        let user = projection.read(|state| state.summary.user_id.clone());
        let memory = dependencies.memory.clone().map(|memory| {
            Arc::new(UserMemoryRetriever::new(memory, dependencies.metrics.clone(), user, retrieval)) as _
        });
        let log = RunHandle {
            run_id,
            actor,
            projection: projection.clone(),
            feed,
            previews,
            lease_validity,
            first_event: FirstEventTimer::new(dependencies.metrics.clone()),
            session,
            shared: shared.clone(),
        };
        Ok(Run {
            log: Arc::new(log),
            candidates,
            prepared: projection.prepared.clone(),
            usage_source: Arc::new(UserUsage { shared: shared.clone(), projection }),
            memory,
            tools,
            settings,
            approval_audience: match dependencies.approval_by {
                ApprovalBy::Owner => ApprovalAudience::Owner,
                ApprovalBy::Approver => ApprovalAudience::Approver,
            },
            system: dependencies.system.clone(),
            limits: dependencies.limits.load().as_ref().clone(),
            cancel,
            halt: shared.halt.clone(),
        })
    }
}

fn run_failure(code: &str, message: &str, retryable: bool) -> RunFailed {
    RunFailed {
        code: code.into(),
        message: message.into(),
        retryable,
        provider_request_id: None,
        usage: TokenUsage::default(),
    }
}
