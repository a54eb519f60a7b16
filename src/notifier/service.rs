//! The notifier: configurations for the API, and the tasks that deliver.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8sops_core::{ErrorChain, RecordId, SessionStore, StoreError};
use k8sops_telemetry::Metrics;
use tokio::{
    sync::{Notify, Semaphore},
    task::{self, JoinSet},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    delivery_task::{DeliveryContext, DeliveryEnd},
    http_sender::{HttpSender, NotificationSender},
    notification_source::{NotificationPosition, NotificationSource},
    options::NotifierOptions,
    push_config::{PushConfig, PushTask},
    push_store::{ClaimOutcome, PushStore},
    target_policy::{TargetPolicy, TargetRejection},
};

/// How many configurations a task may have.
pub const MAX_CONFIGS_PER_TASK: usize = 10;
/// How many configurations the tasks of a session may have together.
const MAX_CONFIGS_PER_SESSION: usize = 1000;
/// How many configurations a replica delivers for at the same time. Others wait for another replica, or until one has ended.
const MAX_DELIVERIES: usize = 1000;
/// How many requests a replica makes at the same time.
const MAX_REQUESTS: usize = 64;
/// How often a replica looks for deliveries that another one has left.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Why a configuration is refused. No message contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum PushConfigError {
    /// There are no push notifications.
    #[error("push notifications are off (K8SOPS_NOTIFY_ALLOW)")]
    NotSupported,
    /// The receiver is refused.
    #[error(transparent)]
    Target(#[from] TargetRejection),
    /// A field is invalid.
    #[error("{0}")]
    Invalid(&'static str),
    /// The task has the most configurations that a task may have.
    #[error("the task has {MAX_CONFIGS_PER_TASK} push notification configurations already; delete one first")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Push notifications: which were asked for, and their delivery. Cheap to clone.
#[derive(Clone)]
pub struct Notifier(Arc<NotifierInner>);

struct NotifierInner {
    /// Empty if there are no push notifications.
    policy: Arc<TargetPolicy>,
    is_enabled: bool,
    store: PushStore,
    /// A configuration was made or removed.
    changed: Notify,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Notifier {
    /// Creates the notifier. Without allowed receivers it never does anything.
    #[must_use]
    pub fn new(options: &NotifierOptions, store: Arc<dyn SessionStore>, replica: String) -> Self {
        Self(Arc::new(NotifierInner {
            policy: Arc::new(TargetPolicy::new(options.allow.clone())),
            is_enabled: !options.allow.is_empty(),
            store: PushStore::new(store, replica),
            changed: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Starts to deliver what is and will be asked for, in the form of `source`. Must be called on an async runtime, once.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn start(
        &self,
        options: &NotifierOptions,
        source: Arc<dyn NotificationSource>,
        metrics: Arc<Metrics>,
    ) -> Result<(), reqwest::Error> {
        if self.is_enabled() {
            let sender = HttpSender::new(self.0.policy.clone(), options.timeout)?;
            self.start_with_sender(options, source, Arc::new(sender), metrics);
        }
        Ok(())
    }

    pub(super) fn start_with_sender(
        &self,
        options: &NotifierOptions,
        source: Arc<dyn NotificationSource>,
        sender: Arc<dyn NotificationSender>,
        metrics: Arc<Metrics>,
    ) {
        let context = Arc::new(DeliveryContext {
            store: self.0.store.clone(),
            source,
            sender,
            metrics,
            max_attempts: options.attempts,
            requests: Semaphore::new(MAX_REQUESTS),
        });
        self.0.tasks.spawn(supervise_deliveries(self.0.clone(), context));
    }

    /// Stops to deliver. What is not delivered is delivered by another replica, or after the next start.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Whether there are push notifications.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_enabled
    }

    /// Checks a configuration without writing it.
    ///
    /// # Errors
    /// All of [`PushConfigError`] but `TooMany` and `Store`.
    pub fn check_config(&self, config: &PushConfig) -> Result<(), PushConfigError> {
        self.ensure_enabled()?;
        self.0.policy.check_url(&config.url)?;
        config.find_problem().map_or(Ok(()), |problem| Err(PushConfigError::Invalid(problem)))
    }

    /// Writes a configuration, in place of the one of the same task and id. Notifications after `position` are delivered, or,
    /// if they are being delivered already, those that the receiver has not accepted.
    ///
    /// # Errors
    /// See [`PushConfigError`].
    pub async fn save_config(
        &self,
        config: &PushConfig,
        position: NotificationPosition,
    ) -> Result<(), PushConfigError> {
        self.check_config(config)?;
        let mut others = self.0.store.list_configs(config.task.session).await?;
        others.retain(|other| other.task.run != config.task.run || other.id != config.id);
        let of_task = others.iter().filter(|other| other.task.run == config.task.run).count();
        if of_task >= MAX_CONFIGS_PER_TASK || others.len() >= MAX_CONFIGS_PER_SESSION {
            return Err(PushConfigError::TooMany);
        }
        self.0.store.save_config(config, position).await?;
        self.0.changed.notify_one();
        Ok(())
    }

    /// Returns the configuration of a task with this id.
    ///
    /// # Errors
    /// `NotSupported`, and those of the store.
    pub async fn find_config(&self, task: &PushTask, id: &str) -> Result<Option<PushConfig>, PushConfigError> {
        self.ensure_enabled()?;
        Ok(self.0.store.find_config(task, id).await?)
    }

    /// Returns the configurations of a task, in the order of their ids.
    ///
    /// # Errors
    /// `NotSupported`, and those of the store.
    pub async fn list_configs(&self, task: &PushTask) -> Result<Vec<PushConfig>, PushConfigError> {
        self.ensure_enabled()?;
        let mut configs = self.0.store.list_configs(task.session).await?;
        configs.retain(|config| config.task.run == task.run);
        configs.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(configs)
    }

    /// Removes a configuration, and stops its delivery. Returns it if it existed.
    ///
    /// # Errors
    /// `NotSupported`, and those of the store.
    pub async fn remove_config(&self, task: &PushTask, id: &str) -> Result<Option<PushConfig>, PushConfigError> {
        self.ensure_enabled()?;
        let removed = self.0.store.remove_config(task, id).await?;
        self.0.changed.notify_one();
        Ok(removed)
    }

    fn ensure_enabled(&self) -> Result<(), PushConfigError> {
        if self.is_enabled() { Ok(()) } else { Err(PushConfigError::NotSupported) }
    }
}

/// Runs a task for each delivery that no other replica makes.
async fn supervise_deliveries(inner: Arc<NotifierInner>, context: Arc<DeliveryContext>) {
    let mut deliveries = RunningDeliveries { context, running: HashMap::new(), tasks: JoinSet::new() };
    loop {
        if let Err(error) = deliveries.start_free().await {
            tracing::debug!(error = %ErrorChain(&error), "push notifications wait for the store");
        }
        tokio::select! {
            () = inner.stop.cancelled() => break,
            () = inner.changed.notified() => {}
            () = sleep(LOOK_INTERVAL) => {}
            Some(ended) = deliveries.tasks.join_next_with_id() => {
                let ended = ended.map_or_else(|panicked| panicked.id(), |(id, ())| id);
                deliveries.running.retain(|_, delivery| delivery.task != ended);
            }
        }
    }
    deliveries.stop_all().await;
}

struct RunningDeliveries {
    context: Arc<DeliveryContext>,
    running: HashMap<RecordId, RunningDelivery>,
    tasks: JoinSet<()>,
}

struct RunningDelivery {
    stop: CancellationToken,
    task: task::Id,
}

impl RunningDeliveries {
    /// Starts the deliveries that are not made, and stops those that were removed.
    async fn start_free(&mut self) -> Result<(), StoreError> {
        let store = self.context.store.clone();
        let listed = store.list_deliveries().await?;
        for (_, removed) in self.running.iter().filter(|(id, _)| !listed.contains(*id)) {
            removed.stop.cancel();
        }
        if listed.iter().all(|id| self.running.contains_key(id)) {
            return Ok(());
        }
        let claimed = store.list_claimed().await?;
        for id in listed {
            if self.running.len() >= MAX_DELIVERIES {
                break;
            }
            if !self.running.contains_key(&id)
                && !claimed.contains(&id)
                && store.claim_delivery(&id).await? == ClaimOutcome::Held
            {
                self.start_delivery(id);
            }
        }
        Ok(())
    }

    fn start_delivery(&mut self, id: RecordId) {
        let stop = CancellationToken::new();
        let (context, record, stopped) = (self.context.clone(), id.clone(), stop.clone());
        let task = self.tasks.spawn(async move {
            let end = stopped.run_until_cancelled(context.run_delivery(&record)).await;
            if end != Some(DeliveryEnd::ClaimLost)
                && let Err(error) = context.store.release_claim(&record).await
            {
                // It expires.
                tracing::debug!(error = %ErrorChain(&error), "releasing the claim of a delivery failed");
            }
        });
        self.running.insert(id, RunningDelivery { stop, task: task.id() });
    }

    /// Stops all deliveries, and releases their claims.
    async fn stop_all(&mut self) {
        self.running.values().for_each(|delivery| delivery.stop.cancel());
        while self.tasks.join_next().await.is_some() {}
    }
}
