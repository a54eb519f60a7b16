//! The runtime as the API sees it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    future::{Future, pending},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

use k8sops_agent::RunLimits;
use k8sops_core::StoreError;
use k8sops_tools::ApprovalBy;
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use super::{
    account_hub::AccountHub,
    admission::{AdmissionControl, CapacityLimits},
    conversation_cache::ConversationCache,
    error::SessionsError,
    inner::{Dependencies, RuntimeInner},
    known_logs::KnownLogs,
    pending_approvals::PendingApprovalIndex,
    remote_tail::RemoteTails,
    session_registry::SessionRegistry,
    store_watch::StoreWatch,
    takeover,
    worker_threads::WorkerThreads,
    worker_watch::name_current_work,
};

/// The operations on sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(pub(super) Arc<RuntimeInner>);

impl Sessions {
    /// Creates the runtime of sessions. Must be called on the async runtime that will run them.
    #[must_use]
    pub fn new(dependencies: Dependencies) -> Self {
        let known_logs = Arc::new(KnownLogs::default());
        let remote_tails =
            Arc::new(RemoteTails::new(dependencies.store.clone(), known_logs.clone(), dependencies.replica.clone()));
        let replica = dependencies.replica.clone();
        let (accounts, reading) = AccountHub::new(dependencies.store.clone(), replica.clone());
        let closed = CancellationToken::new();
        tokio::spawn(closed.clone().run_until_cancelled_owned(reading));
        Self(Arc::new(RuntimeInner {
            accounts,
            admission: AdmissionControl::default(),
            pending_approvals: PendingApprovalIndex::default(),
            dependencies,
            remote_tails,
            known_logs,
            conversations: ConversationCache::default(),
            store_outages: Arc::default(),
            closed,
            registry: SessionRegistry::default(),
            creating: Mutex::new(()),
            threads: WorkerThreads::new(),
            worker_watch: Arc::default(),
            tasks: TaskTracker::new(),
            halt: CancellationToken::new(),
            replica,
        }))
    }

    /// Replaces the limits of new runs.
    pub fn set_run_limits(&self, limits: RunLimits) {
        self.0.dependencies.limits.store(Arc::new(limits));
    }

    /// Replaces the capacity limits. Sessions and runs above them stay.
    pub fn set_capacity_limits(&self, limits: CapacityLimits) {
        self.0.dependencies.capacity.store(Arc::new(limits));
    }

    /// Wakes an owner for every session with unfinished work. With a shared store, starts following other replicas. Call it once,
    /// before the service is ready.
    ///
    /// # Errors
    /// Errors of a store that is not shared. A shared store may be unavailable now and is retried.
    pub async fn start(&self) -> Result<usize, StoreError> {
        if self.0.dependencies.store.notifications().is_none() {
            return self.0.resume_unfinished_sessions().await.map(|claimed| claimed.sessions.len());
        }
        let (closed, runtime) = (&self.0.closed, self.0.threads.base());
        runtime.spawn(closed.clone().run_until_cancelled_owned(self.0.remote_tails.clone().run()));
        runtime.spawn(closed.clone().run_until_cancelled_owned(takeover::watch_other_replicas(self.0.clone())));
        Ok(0)
    }

    /// Returns the name of this process in leases.
    #[must_use]
    pub fn replica_name(&self) -> &str {
        &self.0.replica
    }

    /// Lets sessions live on the current thread, which must run an async runtime until [`Self::shutdown`] has returned.
    pub fn add_worker_thread(&self) {
        self.0.threads.add_current();
    }

    /// Returns for how long each kind of task has computed without a pause at most, in builds that measure it (debug assertions, or the
    /// feature `worker-watch`). The sessions of the same thread waited for it.
    #[must_use]
    pub fn longest_holds(&self) -> BTreeMap<String, Duration> {
        self.0.worker_watch.longest_holds()
    }

    /// Runs a task of a worker, and records for how long it holds the thread.
    pub fn watch_task<F: Future>(&self, task: &'static str, future: F) -> impl Future<Output = F::Output> + use<F> {
        self.0.worker_watch.watch_task(task, future)
    }

    /// Says what the task that is polled works on from now on, for [`Self::longest_holds`].
    pub fn name_current_work(work: impl Display) {
        name_current_work(work);
    }

    /// Returns the number of alive tasks of the async runtimes.
    #[must_use]
    pub fn alive_task_count(&self) -> usize {
        self.0.threads.alive_task_count()
    }

    /// Returns who may answer approval requests.
    #[must_use]
    pub fn approval_by(&self) -> ApprovalBy {
        self.0.dependencies.approval_by
    }

    /// Returns whether long-term memory is on.
    #[must_use]
    pub fn has_long_term_memory(&self) -> bool {
        self.0.dependencies.memory.is_some()
    }

    /// Returns the number of sessions that this process owns.
    #[must_use]
    pub fn owned_count(&self) -> usize {
        self.0.registry.count_owned()
    }

    /// Shuts down: rejects new commands and runs. In-progress runs stop at the next safe point and are resumed by the next owner.
    /// Returns when all session actors have ended, or after `grace`.
    pub async fn shutdown(&self, grace: Duration) {
        self.0.halt.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("shutdown grace period over, open runs are resumed at the next start");
        }
    }

    /// Stops following other replicas, and closes the store. Call it last, when no session has watchers.
    pub async fn close(&self) {
        self.0.closed.cancel();
        if let Err(error) = self.0.dependencies.store.close().await {
            tracing::warn!(%error, "store not closed, the next start finishes its writes");
        }
    }

    /// Returns whether [`Self::shutdown`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.halt.is_cancelled()
    }

    /// Runs a future to completion, even if the caller is dropped: actix drops a handler together with its connection, at any
    /// await point.
    pub async fn run_to_completion<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.0.tasks.spawn_on(work.in_current_span(), &self.0.threads.choose_worker(None)).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The async runtime is shutting down, and the caller with it.
            Err(_) => pending().await,
        }
    }

    /// Returns what a task uses that retries reads from the store.
    #[must_use]
    pub fn watch_store(&self) -> StoreWatch {
        StoreWatch::new(self.0.store_outages.observer())
    }

    pub(super) fn ensure_running(&self) -> Result<(), SessionsError> {
        if self.is_stopping() { Err(SessionsError::Stopping) } else { Ok(()) }
    }
}
