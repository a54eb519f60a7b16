//! What all parts of the runtime share.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use k8sops_agent::{RunLimits, memory::LongTermMemory};
use k8sops_core::{ConfirmableWrite, SessionId, SessionStore, StoreError, load_state};
use k8sops_models::{ModelCatalog, ModelChoice};
use k8sops_telemetry::{Metrics, OutageLog};
use k8sops_tools::{ApprovalBy, ToolExecutorFactory};
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    account_hub::AccountHub,
    admission::{AdmissionControl, CapacityLimits},
    conversation_cache::ConversationCache,
    known_logs::KnownLogs,
    pending_approvals::PendingApprovalIndex,
    remote_tail::RemoteTails,
    session_registry::SessionRegistry,
    wall_clock::WallClock,
    worker_threads::WorkerThreads,
    worker_watch::WorkerWatch,
};
use crate::audit::AuditTrail;

/// What the runtime is built from.
pub struct Dependencies {
    /// The store of sessions.
    pub store: Arc<dyn SessionStore>,
    /// The models.
    pub catalog: Arc<ModelCatalog>,
    /// Creates the tools of a session.
    pub tools: Arc<dyn ToolExecutorFactory>,
    /// The system prompt.
    pub system: Arc<str>,
    /// The limits of new runs; a run in progress keeps those it started with.
    pub limits: ArcSwap<RunLimits>,
    /// Fallback models, in their order.
    pub fallback: Vec<ModelChoice>,
    /// Long-term memory; `None` when it is off.
    pub memory: Option<Arc<LongTermMemory>>,
    /// The capacity limits in force.
    pub capacity: ArcSwap<CapacityLimits>,
    /// `MEMORY_SHALLOW`: whether old turns are dropped at checkpoints.
    pub shallow: bool,
    /// `TOOL_APPROVAL_BY`: who answers requests for approval.
    pub approval_by: ApprovalBy,
    /// The metrics of the service.
    pub metrics: Arc<Metrics>,
    /// The audit trail.
    pub audit: AuditTrail,
    /// The name of this process in leases and in the audit trail.
    pub replica: String,
    /// The clock by which approvals and questions expire.
    pub clock: WallClock,
}

pub(super) struct RuntimeInner {
    pub(super) dependencies: Dependencies,
    pub(super) registry: SessionRegistry,
    pub(super) accounts: Arc<AccountHub>,
    pub(super) remote_tails: Arc<RemoteTails>,
    pub(super) known_logs: Arc<KnownLogs>,
    pub(super) conversations: ConversationCache,
    /// The outages of the store, for the log of the service.
    pub(super) store_outages: Arc<OutageLog>,
    pub(super) admission: AdmissionControl,
    pub(super) pending_approvals: PendingApprovalIndex,
    /// Stops the tasks that follow other replicas.
    pub(super) closed: CancellationToken,
    /// Serializes the creation of sessions, so that the limit of sessions holds.
    pub(super) creating: Mutex<()>,
    pub(super) threads: WorkerThreads,
    pub(super) worker_watch: Arc<WorkerWatch>,
    pub(super) tasks: TaskTracker,
    pub(super) halt: CancellationToken,
    /// The name of this process in leases.
    pub(super) replica: String,
}

impl RuntimeInner {
    /// Reads all that an owner reads of a session that was found to be damaged, and forgets the damage if it was repaired.
    ///
    /// # Errors
    /// Those of the store: `Corrupt` if it is still damaged.
    pub(super) async fn verify_repair(&self, session: SessionId) -> Result<(), StoreError> {
        let store = self.dependencies.store.as_ref();
        let loaded = load_state(store, session).await?;
        store.list_inbox(session).await?;
        store.find_lost_messages(session).await?;
        self.known_logs.record_read(session, &[], loaded.head);
        self.known_logs.record_repair(session);
        Ok(())
    }

    /// Waits until a write is confirmed, see [`WriteConfirmation`](k8sops_core::WriteConfirmation).
    ///
    /// # Errors
    /// Those of [`confirm_write`](k8sops_core::WriteConfirmation::confirm_write).
    pub(super) async fn confirm_write(
        &self,
        session: SessionId,
        write: ConfirmableWrite<'_>,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        let confirmed = self.dependencies.store.confirm_write(session, write).await;
        self.dependencies.metrics.record_confirmation(began.elapsed());
        if confirmed.is_err() {
            self.dependencies.metrics.count_store_error("unconfirmed");
        }
        confirmed
    }
}
