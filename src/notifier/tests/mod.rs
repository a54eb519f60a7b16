//! Delivery over the store in memory, with a source and a receiver that tests control. Time is paused: delays pass at once.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use k8sops_core::{Notifications, RecordGroup, RunId, SessionId, SessionStore};
use k8sops_store::{InMemoryStore, LogRetention};
use k8sops_telemetry::Metrics;
use k8sops_testing::{
    eventually,
    hooked_store::{HookedStore, StoreHooks},
    quiet_notifications::QuietNotifications,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    http_sender::{NotificationSender, SendFailure},
    push_store::PushStore,
    target_policy::AllowedTarget,
    *,
};

mod deliveries;
mod replicas;

/// What a run has said so far, and whether it has ended.
type Log = (Vec<u64>, bool);

/// Notifications `1`, `2`, … as far as a test has committed them.
#[derive(Clone)]
struct FixtureSource(watch::Sender<Log>);

struct FixtureStream {
    log: watch::Receiver<Log>,
    next: usize,
}

impl FixtureSource {
    fn new() -> Self {
        Self(watch::channel((Vec::new(), false)).0)
    }

    fn commit(&self, seqs: impl IntoIterator<Item = u64>) {
        self.0.send_modify(|(log, _)| log.extend(seqs));
    }

    fn end(&self) {
        self.0.send_modify(|(_, ended)| *ended = true);
    }
}

#[async_trait]
impl NotificationSource for FixtureSource {
    fn content_type(&self) -> &'static str {
        "application/test"
    }

    async fn open_task(&self, _: &PushTask) -> Result<Box<dyn NotificationStream>, NotificationSourceError> {
        Ok(Box::new(FixtureStream { log: self.0.subscribe(), next: 0 }))
    }
}

#[async_trait]
impl NotificationStream for FixtureStream {
    async fn next_notification(&mut self) -> Result<Option<PushNotification>, NotificationSourceError> {
        let next = self.next;
        let log = self.log.wait_for(|(log, ended)| log.len() > next || *ended).await;
        let Ok(Some(seq)) = log.map(|log| log.0.get(next).copied()) else { return Ok(None) };
        self.next += 1;
        let position = NotificationPosition { seq, index: 0 };
        Ok(Some(PushNotification { position, body: seq.to_string() }))
    }
}

/// What a receiver does with the next request.
#[derive(Clone, Copy)]
enum Reaction {
    Accept,
    Fail(SendFailure),
    /// The request is never answered.
    Hang,
}

/// A receiver that accepts, unless a test says otherwise for the next requests.
#[derive(Clone, Default)]
struct FixtureReceiver(Arc<Mutex<ReceiverState>>);

#[derive(Default)]
struct ReceiverState {
    reactions: VecDeque<Reaction>,
    /// What comes when `reactions` is empty.
    always: Option<Reaction>,
    attempts: usize,
    accepted: Vec<(String, String)>,
}

impl FixtureReceiver {
    fn react(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.0.lock().reactions.extend(reactions);
    }

    fn react_always(&self, reaction: Reaction) {
        self.0.lock().always = Some(reaction);
    }

    fn attempts(&self) -> usize {
        self.0.lock().attempts
    }

    /// The bodies that a configuration's URL has accepted.
    fn accepted(&self, url: &str) -> Vec<String> {
        self.0.lock().accepted.iter().filter(|(to, _)| to == url).map(|(_, body)| body.clone()).collect()
    }

    async fn has_accepted(&self, url: &str, bodies: &[&str]) {
        eventually(&format!("{url} has {bodies:?}"), async || {
            let accepted = self.accepted(url);
            if accepted == bodies { Ok(()) } else { Err(format!("{accepted:?}")) }
        })
        .await;
    }
}

#[async_trait]
impl NotificationSender for FixtureReceiver {
    async fn send(
        &self,
        config: &PushConfig,
        notification: &PushNotification,
        _: &'static str,
    ) -> Result<(), SendFailure> {
        let reaction = {
            let mut state = self.0.lock();
            state.attempts += 1;
            state.reactions.pop_front().or(state.always).unwrap_or(Reaction::Accept)
        };
        match reaction {
            Reaction::Accept => {
                self.0.lock().accepted.push((config.url.clone(), notification.body.clone()));
                Ok(())
            }
            Reaction::Fail(failure) => Err(failure),
            Reaction::Hang => std::future::pending().await,
        }
    }
}

/// A store that several replicas share.
#[derive(Default)]
struct SharedHooks {
    notifications: QuietNotifications,
}

impl StoreHooks for SharedHooks {
    fn notifications(&self) -> Option<&dyn Notifications> {
        Some(&self.notifications)
    }
}

/// A store, a run and a receiver, which any number of replicas use.
struct Fixture {
    store: Arc<dyn SessionStore>,
    source: FixtureSource,
    receiver: FixtureReceiver,
    metrics: Arc<Metrics>,
    replicas: AtomicUsize,
}

const URL: &str = "https://receiver.example/hook";
const ATTEMPTS: u32 = 4;

impl Fixture {
    fn new() -> Self {
        Self::with_store(Arc::new(InMemoryStore::new(LogRetention::default())))
    }

    fn shared() -> Self {
        Self::with_store(HookedStore::new(InMemoryStore::new(LogRetention::default()), SharedHooks::default()))
    }

    fn with_store(store: Arc<dyn SessionStore>) -> Self {
        let (source, receiver) = (FixtureSource::new(), FixtureReceiver::default());
        Self { store, source, receiver, metrics: Arc::new(Metrics::new()), replicas: AtomicUsize::new(0) }
    }

    fn options() -> NotifierOptions {
        let allow = vec![AllowedTarget::parse("receiver.example").unwrap()];
        NotifierOptions { allow, timeout: Duration::from_secs(10), attempts: ATTEMPTS }
    }

    fn start_replica(&self) -> Notifier {
        let name = format!("replica-{}", self.replicas.fetch_add(1, Ordering::SeqCst));
        let notifier = Notifier::new(&Self::options(), self.store.clone(), name);
        let sender = Arc::new(self.receiver.clone());
        notifier.start_with_sender(&Self::options(), Arc::new(self.source.clone()), sender, self.metrics.clone());
        notifier
    }

    /// The ids of deliveries that have not ended.
    async fn open_deliveries(&self) -> usize {
        self.store.list_records(&RecordGroup::push_deliveries()).await.unwrap().len()
    }

    async fn all_delivered(&self) {
        eventually("all is delivered", async || self.open_deliveries().await == 0).await;
    }

    fn has_metric(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|rendered| rendered == line)
    }
}

fn task() -> PushTask {
    PushTask {
        user: "anna".parse().unwrap(),
        session: SessionId::new(),
        run: RunId::new(),
        context: None,
        extensions: vec![],
    }
}

fn config(task: &PushTask, id: &str) -> PushConfig {
    PushConfig { id: id.into(), task: task.clone(), url: URL.into(), token: None, authentication: None }
}

const FROM_START: NotificationPosition = NotificationPosition { seq: 0, index: 0 };
