//! The runtime over the memory store: the log stays consistent for any order of commands.

use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::poll;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::task::yield_now;

mod confirmation;
mod first_token;
mod late_offers;
mod lost_events;
mod scenarios;
mod threads;

use super::*;
use crate::audit::{AuditDestination, AuditTrail};
use arc_swap::ArcSwap;
use k8sops_agent::RunLimits;
use k8sops_core::*;
use k8sops_models::{ModelCatalog, ModelInfo, ProviderInfo, RetryPolicy, ToolSpec};
use k8sops_store::InMemoryStore;
use k8sops_telemetry::Metrics;
use k8sops_testing::{
    hooked_store::{HookedStore, StoreHooks, StoreWrite},
    quiet_notifications::QuietNotifications,
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
};
use k8sops_tools::{
    ApprovalBy, ApprovalRequirement, ArgumentMismatch, ClassifiedCall, ToolCallContext, ToolExecutor,
    ToolExecutorFactory, ToolOutcome, ToolRef, UntrustedWord,
};

/// `look` runs at once, `change` asks. A call with the argument `panic` panics.
struct FixtureTools;

#[async_trait]
impl ToolExecutor for FixtureTools {
    fn contains_secret(&self, text: &str) -> bool {
        k8sops_tools::contains_secret(text)
    }

    fn tool_specs(&self, _messages: &[Arc<ChatMessage>]) -> Arc<[ToolSpec]> {
        Arc::new([])
    }

    fn classify_call(&self, name: &str, _: &Map<String, Value>, _: Option<&UntrustedWord>) -> Option<ClassifiedCall> {
        let (effect, approval) = match name {
            "look" => (ToolEffect::Read, ApprovalRequirement::Run),
            "change" => (ToolEffect::Mutating, ApprovalRequirement::Ask { reason: String::new() }),
            _ => return None,
        };
        Some(ClassifiedCall {
            tool: ToolRef::new("test", name),
            effect,
            approval,
            reason: String::new(),
            is_assumed: false,
        })
    }

    async fn execute_call(
        &self,
        _: &ClassifiedCall,
        arguments: &Map<String, Value>,
        _: ToolCallContext,
    ) -> ToolOutcome {
        tokio::task::yield_now().await;
        assert!(!arguments.contains_key("panic"), "the test lets this call panic");
        ToolOutcome { status: ToolStatus::Ok, content: "done".into(), structured: None, truncated: false, bytes: 4 }
    }
}

#[async_trait]
impl ToolExecutorFactory for FixtureTools {
    fn create_executor(&self, _: SessionId, _: &UserId) -> Arc<dyn ToolExecutor> {
        Arc::new(Self)
    }

    fn validate_arguments(&self, name: &str, arguments: &Map<String, Value>) -> Result<(), ArgumentMismatch> {
        if arguments.contains_key("wrong") {
            return Err(ArgumentMismatch { tool: name.to_owned(), problems: vec!["`wrong` is not allowed".into()] });
        }
        Ok(())
    }

    async fn prepare_attachments(
        &self,
        _: SessionId,
        sent: Vec<SentAttachment>,
        _: Option<u32>,
    ) -> Vec<SentAttachment> {
        sent
    }
}

/// A store in memory that counts commits and checkpoints, and fails or delays commits when a test wants it to.
type WatchedStore = HookedStore<InMemoryStore, CommitWatch>;

#[derive(Default)]
struct CommitWatch {
    /// Commits to fail from now on.
    failing: AtomicUsize,
    /// Commits that panic from now on.
    panicking: AtomicUsize,
    commits: AtomicUsize,
    submits: AtomicUsize,
    /// Weights of the checkpoints that were written.
    checkpoints: Mutex<Vec<u64>>,
    /// Held by a test to keep a commit in flight.
    slow: Mutex<Option<TestGate>>,
    /// Held by a test before commands are put into the inbox.
    slow_submits: Mutex<Option<TestGate>>,
    /// Submissions to fail from now on.
    failing_submits: AtomicUsize,
    /// Whether no command is confirmed.
    commands_unconfirmed: AtomicBool,
    /// Whether no event is confirmed.
    events_unconfirmed: AtomicBool,
    /// Makes the store one that several processes share.
    shared: Option<QuietNotifications>,
}

#[async_trait]
impl StoreHooks for CommitWatch {
    async fn before_write(&self, write: StoreWrite<'_>) -> Result<(), StoreError> {
        let is_unconfirmed = match write {
            StoreWrite::Confirm(ConfirmableWrite::Command { .. }) => self.commands_unconfirmed.load(Ordering::SeqCst),
            StoreWrite::Confirm(ConfirmableWrite::Events(_)) => self.events_unconfirmed.load(Ordering::SeqCst),
            _ => false,
        };
        if is_unconfirmed {
            let error = BackendError::new("no replica has it").with_outage(StoreOutage::Unconfirmed);
            return Err(StoreError::Unavailable(error));
        }
        if matches!(write, StoreWrite::Submit) {
            self.submits.fetch_add(1, Ordering::SeqCst);
            if self.failing_submits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                return Err(StoreError::Unavailable("away".into()));
            }
        }
        let StoreWrite::Commit(commit) = write else {
            let slow = self.slow_submits.lock().clone().filter(|_| matches!(write, StoreWrite::Submit));
            if let Some(gate) = slow {
                gate.pass().await;
            }
            yield_now().await;
            return Ok(());
        };
        let slow = self.slow.lock().clone();
        if let Some(gate) = slow {
            gate.pass().await;
        }
        if self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(StoreError::Unavailable("away".into()));
        }
        let panics = self.panicking.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        assert!(!panics, "the test lets this commit panic");
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.checkpoints.lock().extend(commit.checkpoint.map(SessionState::estimated_bytes));
        Ok(())
    }

    fn notifications(&self) -> Option<&dyn Notifications> {
        self.shared.as_ref().map(|quiet| quiet as &dyn Notifications)
    }

    async fn after_write(&self, write: StoreWrite<'_>) {
        if !matches!(write, StoreWrite::Commit(_)) {
            yield_now().await;
        }
    }
}

struct RuntimeFixture {
    sessions: Sessions,
    store: Arc<WatchedStore>,
    user: UserId,
    session: SessionId,
    /// How far the wall clock is ahead of the system's.
    clock_offset_ms: Arc<AtomicU64>,
}

impl RuntimeFixture {
    async fn new(model: &Arc<ScriptedModel>) -> Self {
        Self::with_audit(model, AuditTrail::default()).await
    }

    async fn with_audit(model: &Arc<ScriptedModel>, audit: AuditTrail) -> Self {
        Self::with_store(model, audit, CommitWatch::default()).await
    }

    /// A process of several that share a store.
    async fn with_shared_store(model: &Arc<ScriptedModel>) -> Self {
        let shared = CommitWatch { shared: Some(QuietNotifications::default()), ..CommitWatch::default() };
        Self::with_store(model, AuditTrail::default(), shared).await
    }

    async fn with_store(model: &Arc<ScriptedModel>, audit: AuditTrail, watch: CommitWatch) -> Self {
        let store = HookedStore::new(InMemoryStore::default(), watch);
        let clock_offset_ms = Arc::new(AtomicU64::new(0));
        let sessions = Self::start_process(model, audit, store.clone(), clock_offset_ms.clone());
        let user: UserId = "default".parse().unwrap();
        let settings = SessionSettings::for_model("p", "m");
        let session = sessions.create_session(&user, new_session(settings), None).await.unwrap().summary.session_id;
        Self { sessions, store, user, session, clock_offset_ms }
    }

    /// Another process with the same store.
    fn join_process(&self, model: &Arc<ScriptedModel>) -> Self {
        let Self { store, user, session, clock_offset_ms, .. } = self;
        let sessions = Self::start_process(model, AuditTrail::default(), store.clone(), clock_offset_ms.clone());
        Self {
            sessions,
            store: store.clone(),
            user: user.clone(),
            session: *session,
            clock_offset_ms: clock_offset_ms.clone(),
        }
    }

    fn start_process(
        model: &Arc<ScriptedModel>,
        audit: AuditTrail,
        store: Arc<WatchedStore>,
        clock_offset_ms: Arc<AtomicU64>,
    ) -> Sessions {
        let mut catalog = ModelCatalog::new(&BTreeMap::new());
        let info = ModelInfo {
            id: "m".into(),
            name: "m".into(),
            description: String::new(),
            context_window: None,
            max_output_tokens: None,
            features: Vec::new(),
            prices: None,
        };
        let provider = ProviderInfo { id: "p".into(), name: "p".into(), configured: true, models: vec![info] };
        catalog.register_provider(provider, model.clone());
        Sessions::new(Dependencies {
            store,
            catalog: Arc::new(catalog),
            tools: Arc::new(FixtureTools),
            memory: None,
            system: "".into(),
            fallback: Vec::new(),
            limits: ArcSwap::from_pointee(RunLimits {
                context: k8sops_agent::ContextPolicy { threshold: 75, max_tokens: 100_000 },
                budgets: Default::default(),
                max_steps: 5,
                max_calls: 20,
                max_time: Duration::from_secs(600),
                max_repeats: 5,
                retry: RetryPolicy::new(2, Duration::from_mins(2)),
                parallel_tools: 4,
                approval_ttl: Duration::from_secs(3600),
            }),
            capacity: ArcSwap::from_pointee(CapacityLimits { sessions_per_user: 10, runs: 100, runs_per_user: 100 }),
            shallow: false,
            approval_by: ApprovalBy::Owner,
            metrics: Arc::new(Metrics::new()),
            audit,
            replica: uuid::Uuid::now_v7().to_string(),
            clock: WallClock::new(move || {
                Timestamp::now().saturating_add(Duration::from_millis(clock_offset_ms.load(Ordering::SeqCst)))
            }),
        })
    }

    async fn submit(&self, body: CommandBody) -> Result<CommandReceipt, SessionsError> {
        let command = SessionCommand {
            command_id: CommandId::generate(),
            fingerprint: String::new(),
            by: self.user.clone(),
            body,
        };
        self.sessions.submit_command(self.session, command).await
    }

    async fn say(&self, content: &str) -> CommandReceipt {
        self.submit(message(content, OnBusy::Enqueue)).await.unwrap()
    }

    async fn log(&self) -> Vec<Arc<SessionEvent>> {
        self.store.read_events(self.session, 0, usize::MAX).await.unwrap().events
    }

    /// Waits until nothing waits and nothing runs. Approvals that come up on the way are answered with `decide`.
    async fn rest(&self, decide: ApprovalDecision) {
        let head = self.sessions.get_session(&self.user, self.session).await.unwrap().last_seq;
        let mut cursor = self.sessions.open_cursor(&self.user, self.session, head).await.unwrap();
        loop {
            // The inbox first: what leaves it after the look is a run that the summary shows, or has had its end.
            let nothing_waits = self.store.list_inbox(self.session).await.unwrap().is_empty();
            let summary = self.sessions.get_session(&self.user, self.session).await.unwrap();
            if nothing_waits && summary.open_run.is_none() {
                return;
            }
            let state = load_state(self.store.as_ref(), self.session).await.unwrap().state;
            for approval in state.pending_approvals() {
                let body = CommandBody::Resolve {
                    approval_id: approval.approval_id,
                    decision: decide,
                    arguments: None,
                    comment: None,
                    approver: false,
                };
                let taken = self.submit(body).await;
                // It is asked about twice when the first answer has not been taken up yet.
                let late = matches!(taken, Err(SessionsError::ApprovalClosed(_) | SessionsError::ApprovalNotFound(_)));
                assert!(taken.is_ok() || late, "{taken:?}");
            }
            let more = tokio::time::timeout(Duration::from_millis(20), cursor.next()).await;
            if let Ok(more) = more {
                more.unwrap();
            }
        }
    }
}

fn message(content: &str, on_busy: OnBusy) -> CommandBody {
    CommandBody::Message {
        message_id: MessageId::new(),
        run_id: RunId::new(),
        content: content.into(),
        attachments: Vec::new(),
        on_busy,
        cause: Default::default(),
    }
}

/// What must hold of every log.
fn assert_whole(log: &[Arc<SessionEvent>], state: &SessionState) {
    let seqs: Vec<u64> = log.iter().map(|e| e.seq).collect();
    assert_eq!(seqs, (1..=log.len() as u64).collect::<Vec<_>>(), "the log has gaps");
    let fold = SessionState::fold_events(None, log.iter().map(AsRef::as_ref)).unwrap();
    assert_eq!(&fold, state, "the fold of the log is not the stored state");
    let mut open: Option<RunId> = None;
    for event in log {
        match (&event.body, event.run_id) {
            (EventBody::UserMessage(_), run) => assert_eq!(std::mem::replace(&mut open, run), None, "runs interleave"),
            (body, Some(run)) => {
                assert_eq!(open, Some(run), "an event of another run");
                if body.ends_run() {
                    open = None;
                }
            }
            _ => {}
        }
    }
    assert_eq!(open, None);
    for message in &state.messages {
        if let ChatMessage::Assistant(m) = message.as_ref() {
            for call in &m.tool_calls {
                let results = state
                    .messages
                    .iter()
                    .filter(|m| matches!(m.as_ref(), ChatMessage::Tool(t) if t.tool_call_id == call.id));
                assert_eq!(results.count(), 1, "a tool call without its one result");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum ClientAction {
    Say(OnBusy),
    Cancel,
    Settings,
    Title,
    Yield,
    /// The next commits fail: so many.
    FailCommits(usize),
}

fn actions(failures: u32) -> impl Strategy<Value = Vec<ClientAction>> {
    let act = prop_oneof![
        failures => (1_usize..4).prop_map(ClientAction::FailCommits),
        4 => prop_oneof![Just(OnBusy::Enqueue), Just(OnBusy::Reject), Just(OnBusy::Interrupt)].prop_map(ClientAction::Say),
        2 => Just(ClientAction::Cancel),
        1 => Just(ClientAction::Settings),
        1 => Just(ClientAction::Title),
        2 => Just(ClientAction::Yield),
    ];
    prop::collection::vec(act, 1..14)
}

fn replies() -> impl Strategy<Value = Vec<Vec<ReplyStep>>> {
    let reply = prop_oneof![
        3 => Just(vec![text("a"), text("b")]),
        2 => Just(vec![text("see"), call("look", json!({})), call("look", json!({}))]),
        2 => Just(vec![call("change", json!({})), call("look", json!({}))]),
        1 => Just(vec![call("nothing", json!({}))]),
        1 => Just(vec![text("broken"), ReplyStep::Fail(k8sops_models::ModelError::new(k8sops_models::ModelErrorKind::InvalidRequest, "no"))]),
        1 => Just(vec![]),
    ];
    prop::collection::vec(reply, 0..12)
}

/// Does what clients do, and checks what is left of it.
async fn interleave_commands(actions: Vec<ClientAction>, replies: Vec<Vec<ReplyStep>>, decision: ApprovalDecision) {
    let fixture = RuntimeFixture::new(&ScriptedModel::new(replies)).await;
    let mut accepted = Vec::new();
    for action in actions {
        let result = match action {
            ClientAction::Say(on_busy) => {
                fixture.submit(message("hi", on_busy)).await.map(|receipt| accepted.extend(receipt.run_id))
            }
            ClientAction::Cancel => fixture.submit(CommandBody::Cancel { run_id: None }).await.map(drop),
            ClientAction::Settings => {
                let patch = SettingsPatch { temperature: Some(Some(0.5)), ..SettingsPatch::default() };
                fixture.submit(CommandBody::Settings(patch)).await.map(drop)
            }
            ClientAction::Title => fixture.submit(CommandBody::Title { title: "t".into() }).await.map(drop),
            ClientAction::Yield => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(())
            }
            ClientAction::FailCommits(count) => {
                fixture.store.failing.store(count, Ordering::SeqCst);
                Ok(())
            }
        };
        assert!(matches!(result, Ok(()) | Err(SessionsError::Store(StoreError::Busy(_)))), "{result:?}");
    }
    fixture.rest(decision).await;
    let log = fixture.log().await;
    let state = load_state(fixture.store.as_ref(), fixture.session).await.unwrap().state;
    assert_whole(&log, &state);
    assert_eq!(fixture.sessions.get_session(&fixture.user, fixture.session).await.unwrap(), state.summary);
    // Every message that was accepted has had its run, once.
    let messages = log.iter().filter(|event| matches!(event.body, EventBody::UserMessage(_)));
    let mut begun: Vec<RunId> = messages.filter_map(|event| event.run_id).collect();
    begun.sort();
    accepted.sort();
    assert_eq!(begun, accepted);
}

fn decisions() -> impl Strategy<Value = ApprovalDecision> {
    prop_oneof![Just(ApprovalDecision::Approve), Just(ApprovalDecision::Deny)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn interleaved_commands_keep_the_log_whole(actions in actions(0), replies in replies(), decision in decisions()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(interleave_commands(actions, replies, decision));
    }

    #[test]
    fn failed_commits_keep_the_log_whole(actions in actions(2), replies in replies(), decision in decisions()) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap().block_on(interleave_commands(actions, replies, decision));
    }
}

/// A session of a user with these settings.
fn new_session(settings: SessionSettings) -> NewSession {
    NewSession { title: None, settings, origin: SessionOrigin::User }
}
