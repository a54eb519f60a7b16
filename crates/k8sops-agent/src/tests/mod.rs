//! A run, in all the ways it can go, with a scripted model, tools that tests hold in their hands, and a log in memory.
mod approvals;
mod context;
mod interrupted;
mod model_selection;
mod model_step;
mod request_ladder;
mod servers;
mod strict_servers;
mod tool_calls;

use parking_lot::{Mutex, RwLock};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::SpendingLimits;
use k8sops_core::*;
use k8sops_models::{ChatRequest, FoundTools, ModelError, ModelErrorKind, RetryPolicy, ToolChoice, ToolSpec};
use k8sops_testing::scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text};
use k8sops_tools::{
    ApprovalRequirement, CallPreview, ClassifiedCall, ElicitationForm, ElicitationRequest, PreviewFreshness,
    ToolCallContext, ToolExecutor, ToolOutcome, ToolRef, UntrustedWord,
};

type Watch = Box<dyn Fn(usize) + Send>;

/// A session's log with one run open, in memory.
struct Log {
    run_id: RunId,
    state: RwLock<SessionState>,
    events: Mutex<Vec<SessionEvent>>,
    /// Sizes of the commits.
    commits: Mutex<Vec<usize>>,
    changes: watch::Sender<u64>,
    /// Called after each append and each preview, with their number so far.
    after_step: Mutex<Option<Watch>>,
    steps: AtomicUsize,
    holds: AtomicBool,
    /// What the confirmation of a start answers; it never answers if this is `None`.
    confirmation: Mutex<Option<StartConfirmation>>,
    /// Calls whose start was to be confirmed.
    confirmed: Mutex<Vec<ToolCallId>>,
    unsent: Mutex<Vec<ToolCallId>>,
}

impl Log {
    fn new(message: &str) -> Arc<Self> {
        let session = SessionId::new();
        let run_id = RunId::new();
        let settings = SessionSettings::for_model("scripted", "m");
        let user: UserId = "default".parse().unwrap();
        let first = EventBody::SessionCreated(SessionCreated {
            user_id: user.clone(),
            title: None,
            settings,
            by: EventAuthor::User(user),
            origin: SessionOrigin::User,
        });
        let first = EventDraft::new(first).into_event(session, 1);
        let log = Self {
            run_id,
            state: RwLock::new(SessionState::from_first_event(&first).unwrap()),
            events: Mutex::new(vec![first]),
            commits: Mutex::default(),
            changes: watch::Sender::new(1),
            after_step: Mutex::default(),
            steps: AtomicUsize::new(0),
            holds: AtomicBool::new(true),
            confirmation: Mutex::new(Some(StartConfirmation::Confirmed)),
            confirmed: Mutex::default(),
            unsent: Mutex::default(),
        };
        again(&log, message);
        Arc::new(log)
    }

    fn commit(&self, bodies: Vec<EventBody>) {
        self.commits.lock().push(bodies.len());
        let mut state = self.state.write();
        for body in bodies {
            let event =
                EventDraft::in_run(self.run_id, body).into_event(state.summary.session_id, state.last_seq() + 1);
            state.apply_event(&event);
            self.events.lock().push(event);
        }
        self.changes.send_replace(state.last_seq());
    }

    fn step(&self) {
        let n = self.steps.fetch_add(1, Ordering::SeqCst);
        if let Some(after) = &*self.after_step.lock() {
            after(n);
        }
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.events.lock().iter().skip(3).map(|e| e.body.event_type()).collect()
    }

    fn ends(&self) -> Vec<(ToolStatus, String)> {
        let events = self.events.lock();
        let ends = events.iter().filter_map(|e| match &e.body {
            EventBody::ToolEnd(e) => Some((e.status, e.content.clone())),
            _ => None,
        });
        ends.collect()
    }

    fn warnings(&self) -> Vec<String> {
        let events = self.events.lock();
        let warnings = events.iter().filter_map(|e| match &e.body {
            EventBody::Warning(e) => Some(e.code.clone()),
            _ => None,
        });
        warnings.collect()
    }

    /// Waits until a server asks something.
    async fn input(&self) -> InputRequested {
        let mut changes = self.changes.subscribe();
        loop {
            let pending = self.state.read().pending_inputs().next().cloned();
            if let Some(asked) = pending {
                return asked;
            }
            changes.changed().await.unwrap();
        }
    }

    fn last(&self) -> EventBody {
        self.events.lock().last().unwrap().body.clone()
    }

    fn outcome(&self) -> RunOutcome {
        match self.last() {
            EventBody::RunFinished(e) => e.outcome,
            other => panic!("the run did not finish: {other:?}"),
        }
    }

    /// Waits until an approval is asked for; its id.
    async fn approval(&self) -> ApprovalId {
        let mut changes = self.changes.subscribe();
        loop {
            let pending = self.state.read().pending_approvals().next().map(|a| a.approval_id);
            if let Some(id) = pending {
                return id;
            }
            changes.changed().await.unwrap();
        }
    }

    fn resolve(
        &self,
        approval_id: ApprovalId,
        decision: ApprovalDecision,
        arguments: Option<Value>,
        comment: Option<&str>,
    ) {
        self.commit(vec![EventBody::ApprovalResolved(ApprovalResolved {
            approval_id,
            decision,
            arguments,
            by: EventAuthor::System,
            comment: comment.map(Into::into),
            command_id: None,
        })]);
    }

    /// Every tool call in the conversation has its result, and the run has ended.
    fn assert_can_go_on(&self) {
        let state = self.state.read();
        assert!(state.run.is_none(), "the run is open: {:?}", state.run);
        let calls = state.messages.iter().flat_map(|m| match m.as_ref() {
            ChatMessage::Assistant(m) => m.tool_calls.clone(),
            _ => Vec::new(),
        });
        for call in calls {
            let results = state
                .messages
                .iter()
                .filter(|m| matches!(m.as_ref(), ChatMessage::Tool(t) if t.tool_call_id == call.id));
            assert_eq!(results.count(), 1, "call {} has not one result", call.id);
        }
    }
}

#[async_trait]
impl RunLog for Log {
    async fn append_events(&self, events: Vec<EventBody>) -> Result<(), LogClosed> {
        self.commit(events);
        self.step();
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn confirm_call_start(&self, call: &ToolCallId) -> StartConfirmation {
        let is_started = self.state.read().run.iter().flat_map(|run| &run.calls).any(|open| open.started.is_some());
        assert!(is_started, "only what was committed can be confirmed");
        self.confirmed.lock().push(call.clone());
        let answer = *self.confirmation.lock();
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    fn record_unsent_call(&self, call: &ToolCallId) {
        self.unsent.lock().push(call.clone());
    }

    fn view(&self) -> RunView {
        RunView::from(&*self.state.read())
    }

    fn holds_lease(&self) -> bool {
        self.holds.load(Ordering::SeqCst)
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn send_preview(&self, _message: MessageId, _chunk: PreviewChunk<'_>) {
        self.step();
    }

    fn send_progress(&self, _progress: ToolProgress) {}
}

/// Tools by name: `look` is read, `change` mutating and asks, `force` mutating and open, `never` denied.
#[derive(Default)]
struct Tools {
    calls: Mutex<Vec<(String, Value)>>,
    gates: HashMap<&'static str, TestGate>,
    /// `change` needs no approval.
    asks_nothing: bool,
    /// Whether the requests to the model list a tool.
    is_offered: bool,
    /// Servers that are not connected.
    unavailable: Vec<String>,
    /// What changes between an approval and its call, the last one first.
    changes_before_call: Mutex<Vec<&'static str>>,
    running: AtomicUsize,
    most: AtomicUsize,
    /// What connected servers say of themselves.
    servers: Mutex<Vec<ServerIntroduction>>,
}

impl Tools {
    fn held(name: &'static str) -> (Arc<Self>, TestGate) {
        let gate = TestGate::new();
        (Arc::new(Self { gates: HashMap::from([(name, gate.clone())]), ..Self::default() }), gate)
    }

    fn called(&self) -> Vec<(String, Value)> {
        self.calls.lock().clone()
    }
}

#[async_trait]
impl ToolExecutor for Tools {
    fn contains_secret(&self, text: &str) -> bool {
        k8sops_tools::contains_secret(text)
    }

    async fn introduce_servers(&self, known: &[ServerIntroduction]) -> Vec<ServerIntroduction> {
        let is_new = |server: &&ServerIntroduction| known.iter().all(|other| other.server != server.server);
        self.servers.lock().iter().filter(is_new).cloned().collect()
    }

    fn tool_specs(&self, _messages: &[Arc<ChatMessage>]) -> Arc<[ToolSpec]> {
        let tool = ToolSpec { name: "look".into(), description: String::new(), input_schema: Map::new() };
        if self.is_offered { Arc::new([tool]) } else { Arc::new([]) }
    }

    /// Every result of `find_tools` found the tool `hidden`.
    fn found_tools(&self, messages: &[Arc<ChatMessage>]) -> FoundTools {
        let hidden = ToolSpec { name: "hidden".into(), description: "Found.".into(), input_schema: Map::new() };
        let searches = messages.iter().filter_map(|message| match message.as_ref() {
            ChatMessage::Tool(result) if result.name == "find_tools" && result.status == ToolStatus::Ok => {
                Some((result.tool_call_id.clone(), vec![hidden.clone()]))
            }
            _ => None,
        });
        searches.collect()
    }

    fn unavailable_servers(&self) -> Vec<String> {
        self.unavailable.clone()
    }

    fn classify_call(
        &self,
        name: &str,
        _arguments: &Map<String, Value>,
        untrusted_word: Option<&UntrustedWord>,
    ) -> Option<ClassifiedCall> {
        let ask = |reason: String| ApprovalRequirement::Ask { reason };
        let (effect, approval) = match (name, untrusted_word) {
            ("look" | "asks", _) => (ToolEffect::Read, ApprovalRequirement::Run),
            ("trusted", Some(found)) => (ToolEffect::Mutating, ask(format!("{:?}, from {}", found.word, found.source))),
            ("change", _) if !self.asks_nothing => (ToolEffect::Mutating, ask("by test".into())),
            ("trusted" | "change" | "force", _) => (ToolEffect::Mutating, ApprovalRequirement::Run),
            ("never", _) => {
                (ToolEffect::Mutating, ApprovalRequirement::Deny { reason: "the operator allows none".into() })
            }
            _ => return None,
        };
        Some(ClassifiedCall {
            tool: ToolRef::new("test", name),
            effect,
            approval,
            reason: "by test".into(),
            is_assumed: false,
        })
    }

    async fn preview_call(&self, name: &str, _: &Map<String, Value>, _: ApprovalId) -> CallPreview {
        let text = (name == "change").then(|| "would change".to_owned());
        CallPreview { text, ..CallPreview::default() }
    }

    async fn check_preview(&self, _: &ApprovalRequested) -> PreviewFreshness {
        match self.changes_before_call.lock().pop() {
            Some(what) => PreviewFreshness::Changed { what: what.into() },
            None => PreviewFreshness::Current,
        }
    }

    async fn execute_call(
        &self,
        class: &ClassifiedCall,
        arguments: &Map<String, Value>,
        context: ToolCallContext,
    ) -> ToolOutcome {
        let name = class.tool.tool();
        if name == "asks" {
            let schema = json!({"type": "object"}).as_object().unwrap().clone();
            let question = ElicitationRequest { message: "sure?".into(), form: ElicitationForm::Fields(schema) };
            let answer = format!("{:?}", context.elicitation_handler.handle_elicitation(question).await);
            let bytes = answer.len() as u64;
            return ToolOutcome { status: ToolStatus::Ok, content: answer, structured: None, truncated: false, bytes };
        }
        self.calls.lock().push((name.into(), Value::Object(arguments.clone())));
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if let Some(gate) = self.gates.get(name) {
            gate.pass().await;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        ToolOutcome { status: ToolStatus::Ok, content: "done".into(), structured: None, truncated: false, bytes: 4 }
    }
}

/// A user who has used nothing.
struct Nothing;

#[async_trait]
impl UsageSource for Nothing {
    async fn user_usage_today(&self) -> Option<TokenUsage> {
        Some(TokenUsage::default())
    }
}

/// Begins a run, the first of a session or another.
fn again(log: &Log, message: &str) {
    log.commit(vec![
        EventBody::UserMessage(UserMessageEvent {
            message_id: MessageId::new(),
            content: message.into(),
            attachments: Vec::new(),
            command_id: None,
        }),
        EventBody::RunStarted(RunStarted {
            provider: "scripted".into(),
            model: "m".into(),
            attempt: 1,
            memory: false,
            cause: Default::default(),
        }),
    ]);
}

fn candidate(provider: &str, model: &Arc<ScriptedModel>) -> ModelCandidate {
    ModelCandidate {
        provider: provider.into(),
        model: "m".into(),
        chat: model.clone(),
        context_window: None,
        max_tokens: None,
        prices: None,
        form: Arc::default(),
        circuit: Arc::default(),
    }
}

fn run(log: &Arc<Log>, model: &Arc<ScriptedModel>, tools: &Arc<Tools>) -> Run {
    Run {
        approval_audience: ApprovalAudience::Owner,
        log: log.clone(),
        candidates: vec![candidate("scripted", model)],
        usage_source: Arc::new(Nothing),
        memory: None,
        tools: tools.clone(),
        settings: log.state.read().summary.settings.clone(),
        system: "be brief".into(),
        prepared: Arc::default(),
        limits: RunLimits {
            context: ContextPolicy { threshold: 75, max_tokens: 100_000 },
            budgets: SpendingLimits::default(),
            max_steps: 3,
            max_calls: 10,
            max_time: Duration::from_secs(600),
            max_repeats: 5,
            retry: RetryPolicy::new(3, Duration::from_mins(2)),
            parallel_tools: 2,
            approval_ttl: Duration::from_secs(60),
        },
        cancel: CancellationToken::new(),
        halt: CancellationToken::new(),
    }
}
