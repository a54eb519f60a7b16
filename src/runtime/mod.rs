//! Sessions alive: who works on which session in this process, and the doors through which clients reach them.
//!
//! This room joins `session`, `store` and `agent`. A session that nobody works on and nobody watches takes no memory here.
//! A command goes into the store's inbox first; then the session's owner is woken, or made. The owner ([`owner`]) is the
//! one task that writes to the session's log; it ends when there is nothing left to do.

mod approvals;
mod asking;
mod commands;
mod error;
mod follow;
mod learning;
mod lease;
mod lifecycle;
mod load;
mod observed;
mod options;
mod owner;
mod previews;
mod reading;
mod registry;
mod replicas;
mod run_log;
#[cfg(test)]
mod tests;
mod waiting;
mod writer;

use std::{
    future::{Future, pending},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::Mutex};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use crate::audit::AuditTrail;
use k8sops_agent::{RunLimits, memory::LongTermMemory};
use k8sops_core::{SessionId, SessionStore, StoreError};
use k8sops_models::{ModelCatalog, ModelChoice};
use k8sops_telemetry::Metrics;
use k8sops_tools::{ApprovalBy, ToolExecutorFactory};

pub use approvals::WaitingApproval;
pub use error::SessionsError;
pub use load::Room;
pub use options::SessionOptions;

use follow::Followers;
use load::Load;
use registry::Registry;
use waiting::Waiting;

/// What sessions are made of.
pub struct Parts {
    /// Where they are kept.
    pub store: Arc<dyn SessionStore>,
    /// Who answers.
    pub catalog: Arc<ModelCatalog>,
    /// What the agent may call.
    pub tools: Arc<dyn ToolExecutorFactory>,
    /// The system prompt.
    pub system: Arc<str>,
    /// What bounds a run that begins now; one in progress keeps what it began with.
    pub limits: ArcSwap<RunLimits>,
    /// Who is asked when a session's own model is down, in this order.
    pub fallback: Vec<ModelChoice>,
    /// What is remembered of users; `None`: nothing is.
    pub memory: Option<Arc<LongTermMemory>>,
    /// What there is room for from now on; what is there already stays.
    pub room: ArcSwap<Room>,
    /// `MEMORY_SHALLOW`: what a session takes to store has a bound, and old turns are forgotten for it.
    pub shallow: bool,
    /// `TOOL_APPROVAL_BY`: who answers requests for approval.
    pub approval_by: ApprovalBy,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The audit trail.
    pub audit: AuditTrail,
    /// Names this process in leases and in the audit trail.
    pub replica: String,
}

/// All sessions, as this process sees them. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) parts: Parts,
    registry: Registry,
    followers: Arc<Followers>,
    load: Load,
    waiting: Waiting,
    /// Ends what keeps up with other replicas.
    closed: CancellationToken,
    /// Held while a session is created, so that the limit of sessions is looked at by one at a time.
    creating: Mutex<()>,
    /// Owners live on the runtime that built this, not on the HTTP worker that happened to wake them.
    runtime: Handle,
    tasks: TaskTracker,
    halt: CancellationToken,
    /// Names this process in leases.
    replica: String,
}

impl Sessions {
    /// Sessions made of `parts`. Must be called on the runtime that is to run them.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let followers = Arc::new(Followers::new(parts.store.clone()));
        let replica = parts.replica.clone();
        Self(Arc::new(Shared {
            load: Load::default(),
            waiting: Waiting::default(),
            parts,
            followers,
            closed: CancellationToken::new(),
            registry: Registry::default(),
            creating: Mutex::new(()),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            halt: CancellationToken::new(),
            replica,
        }))
    }

    /// Bounds the runs that begin from now on by other limits.
    pub fn set_limits(&self, limits: RunLimits) {
        self.0.parts.limits.store(Arc::new(limits));
    }

    /// Has room for more, or for less: what is there already stays.
    pub fn set_room(&self, room: Room) {
        self.0.parts.room.store(Arc::new(room));
    }

    /// Wakes every session that an earlier process left with work to do, and, when the store is shared, attends from now on
    /// to what other processes do. Called once, before the service is ready.
    ///
    /// # Errors
    /// Those of a store that is not shared. One that is may be away now, and is asked again.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        if self.0.parts.store.notifications().is_none() {
            return self.0.take_over().await;
        }
        let (closed, runtime) = (&self.0.closed, &self.0.runtime);
        runtime.spawn(closed.clone().run_until_cancelled_owned(self.0.followers.clone().run()));
        runtime.spawn(closed.clone().run_until_cancelled_owned(replicas::attend(self.0.clone())));
        Ok(0)
    }

    /// The name of this process in the leases of sessions.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.0.replica
    }

    /// Tasks of the runtime that sessions live on.
    #[must_use]
    pub fn tasks_alive(&self) -> usize {
        self.0.runtime.metrics().num_alive_tasks()
    }

    /// Who answers requests for approval.
    #[must_use]
    pub fn approval_by(&self) -> ApprovalBy {
        self.0.parts.approval_by
    }

    /// Whether something is remembered beyond sessions.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.0.parts.memory.is_some()
    }

    /// Sessions that this process works on now.
    #[must_use]
    pub fn owned(&self) -> usize {
        self.0.registry.owned()
    }

    /// Stops: no new commands and runs; runs in progress leave off at the next place where nothing is half done, and are
    /// gone on with by the next process. Returns when all owners have ended, or `grace` is over.
    pub async fn stop(&self, grace: Duration) {
        self.0.halt.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(
                "sessions did not come to rest in time; what was in progress is recovered at the next start"
            );
        }
    }

    /// Keeps up with other replicas no more. Called last, when nobody watches any session.
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    /// Whether [`Self::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.halt.is_cancelled()
    }

    /// Does something to its end, also when nobody waits for it any more: a connection that breaks takes its handler with
    /// it, at whatever the handler was waiting for.
    pub async fn to_the_end<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.0.tasks.spawn_on(work.in_current_span(), &self.0.runtime).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The runtime goes away, and with it who waits here.
            Err(_) => pending().await,
        }
    }

    fn refuse_when_stopping(&self) -> Result<(), SessionsError> {
        if self.is_stopping() { Err(SessionsError::Stopping) } else { Ok(()) }
    }
}

impl Shared {
    /// Wakes the session's owner; makes one if there is none.
    fn ring(self: &Arc<Self>, session: SessionId) {
        if let Some(place) = self.registry.ring(session)
            && !self.halt.is_cancelled()
        {
            self.tasks.spawn_on(owner::own(self.clone(), session, place), &self.runtime);
        }
    }
}
