//! A run, in all the ways it can go, with a scripted model, tools that tests hold in their hands, and a log in memory.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    models::{ModelError, ToolChoice, ToolSpec},
    session::*,
    test_support::scripted::{Gate, ScriptedModel, Step, call, text},
    tools::{CallClass, Gate as ApprovalGate, ProgressSink, Target, ToolOutcome},
};

type Watch = Box<dyn Fn(usize) + Send>;

/// A session's log with one run open, in memory.
struct Log {
    run_id: RunId,
    state: RwLock<SessionState>,
    events: Mutex<Vec<Event>>,
    /// Sizes of the commits.
    commits: Mutex<Vec<usize>>,
    changes: watch::Sender<u64>,
    /// Called after each append and each preview, with their number so far.
    after_step: Mutex<Option<Watch>>,
    steps: AtomicUsize,
    holds: AtomicBool,
}

impl Log {
    fn new(message: &str) -> Arc<Self> {
        let session = SessionId::new();
        let run_id = RunId::new();
        let settings = Settings { provider: "scripted".into(), model: "m".into(), temperature: None, max_tokens: None };
        let user: UserId = "default".parse().unwrap();
        let first = EventBody::SessionCreated(SessionCreated {
            user_id: user.clone(),
            title: None,
            settings,
            by: Actor::User(user),
        });
        let first = EventDraft::new(first).at(session, 1);
        let log = Self {
            run_id,
            state: RwLock::new(SessionState::begin(&first).unwrap()),
            events: Mutex::new(vec![first]),
            commits: Mutex::default(),
            changes: watch::Sender::new(1),
            after_step: Mutex::default(),
            steps: AtomicUsize::new(0),
            holds: AtomicBool::new(true),
        };
        log.commit(vec![
            EventBody::UserMessage(UserMessageEvent {
                message_id: MessageId::new(),
                content: message.into(),
                command_id: None,
            }),
            EventBody::RunStarted(RunStarted { provider: "scripted".into(), model: "m".into(), attempt: 1 }),
        ]);
        Arc::new(log)
    }

    fn commit(&self, bodies: Vec<EventBody>) {
        self.commits.lock().unwrap().push(bodies.len());
        let mut state = self.state.write().unwrap();
        for body in bodies {
            let event = EventDraft::in_run(self.run_id, body).at(state.summary.session_id, state.last_seq() + 1);
            state.apply(&event);
            self.events.lock().unwrap().push(event);
        }
        self.changes.send_replace(state.last_seq());
    }

    fn step(&self) {
        let n = self.steps.fetch_add(1, Ordering::SeqCst);
        if let Some(after) = &*self.after_step.lock().unwrap() {
            after(n);
        }
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.events.lock().unwrap().iter().skip(3).map(|e| e.body.kind()).collect()
    }

    fn ends(&self) -> Vec<(ToolStatus, String)> {
        let events = self.events.lock().unwrap();
        let ends = events.iter().filter_map(|e| match &e.body {
            EventBody::ToolEnd(e) => Some((e.status, e.content.clone())),
            _ => None,
        });
        ends.collect()
    }

    fn last(&self) -> EventBody {
        self.events.lock().unwrap().last().unwrap().body.clone()
    }

    fn outcome(&self) -> Outcome {
        match self.last() {
            EventBody::RunFinished(e) => e.outcome,
            other => panic!("the run did not finish: {other:?}"),
        }
    }

    /// Waits until an approval is asked for; its id.
    async fn approval(&self) -> ApprovalId {
        let mut changes = self.changes.subscribe();
        loop {
            let pending = self.state.read().unwrap().pending_approvals().next().map(|a| a.approval_id);
            if let Some(id) = pending {
                return id;
            }
            changes.changed().await.unwrap();
        }
    }

    fn resolve(&self, approval_id: ApprovalId, decision: Decision, arguments: Option<Value>, comment: Option<&str>) {
        self.commit(vec![EventBody::ApprovalResolved(ApprovalResolved {
            approval_id,
            decision,
            arguments,
            by: Actor::System,
            comment: comment.map(Into::into),
            command_id: None,
        })]);
    }

    /// Every tool call in the conversation has its result, and the run has ended.
    fn assert_can_go_on(&self) {
        let state = self.state.read().unwrap();
        assert!(state.run.is_none(), "the run is open: {:?}", state.run);
        let calls = state.messages.iter().flat_map(|m| match m.as_ref() {
            Message::Assistant(m) => m.tool_calls.clone(),
            _ => Vec::new(),
        });
        for call in calls {
            let results =
                state.messages.iter().filter(|m| matches!(m.as_ref(), Message::Tool(t) if t.tool_call_id == call.id));
            assert_eq!(results.count(), 1, "call {} has not one result", call.id);
        }
    }
}

#[async_trait]
impl RunLog for Log {
    async fn append(&self, events: Vec<EventBody>) -> Result<(), LogClosed> {
        self.commit(events);
        self.step();
        tokio::task::yield_now().await;
        Ok(())
    }

    fn view(&self) -> RunView {
        RunView::from(&*self.state.read().unwrap())
    }

    fn holds(&self) -> bool {
        self.holds.load(Ordering::SeqCst)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn preview(&self, _message: MessageId, _piece: Piece<'_>) {
        self.step();
    }

    fn progress(&self, _progress: ToolProgress) {}
}

/// Tools by name: `look` is read, `change` mutating and asks, `force` mutating and open, `never` denied.
#[derive(Default)]
struct Tools {
    calls: Mutex<Vec<(String, Value)>>,
    gates: HashMap<&'static str, Gate>,
    /// `change` needs no approval.
    asks_nothing: bool,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Tools {
    fn held(name: &'static str) -> (Arc<Self>, Gate) {
        let gate = Gate::new();
        (Arc::new(Self { gates: HashMap::from([(name, gate.clone())]), ..Self::default() }), gate)
    }

    fn called(&self) -> Vec<(String, Value)> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait]
impl ToolExecutor for Tools {
    fn specs(&self) -> Arc<[ToolSpec]> {
        Arc::new([])
    }

    fn classify(&self, name: &str, _arguments: &Map<String, Value>) -> Option<CallClass> {
        let (effect, gate) = match name {
            "look" => (Effect::Read, ApprovalGate::Open),
            "change" if !self.asks_nothing => (Effect::Mutating, ApprovalGate::Ask),
            "change" | "force" => (Effect::Mutating, ApprovalGate::Open),
            "never" => (Effect::Mutating, ApprovalGate::Deny),
            _ => return None,
        };
        Some(CallClass { target: Target::new("test", name), effect, gate, reason: "by test".into() })
    }

    async fn call(&self, class: &CallClass, arguments: &Map<String, Value>, _progress: ProgressSink) -> ToolOutcome {
        let name = class.target.tool();
        self.calls.lock().unwrap().push((name.into(), Value::Object(arguments.clone())));
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

fn run(log: &Arc<Log>, model: &Arc<ScriptedModel>, tools: &Arc<Tools>) -> Run {
    Run {
        log: log.clone(),
        model: model.clone(),
        tools: tools.clone(),
        settings: log.state.read().unwrap().summary.settings.clone(),
        system: "be brief".into(),
        limits: Limits {
            max_steps: 3,
            retry: RetryPolicy::new(3),
            parallel_tools: 2,
            approval_ttl: Duration::from_secs(60),
        },
        cancel: CancellationToken::new(),
        halt: CancellationToken::new(),
    }
}

#[tokio::test]
async fn a_reply_without_tools_ends_the_run_in_the_same_commit() {
    let log = Log::new("hi");
    let model = ScriptedModel::new([vec![Step::Reasoning("hm".into()), text("hel"), text("lo")]]);
    assert_eq!(run(&log, &model, &Arc::default()).drive().await, Ok(RunEnd::Closed));
    assert_eq!(log.kinds(), ["assistant_message", "run_finished"]);
    assert_eq!(*log.commits.lock().unwrap(), [2, 2]);
    let EventBody::RunFinished(end) = log.last() else { panic!() };
    assert_eq!((end.outcome, end.usage.output_tokens), (Outcome::Completed, 5));
    log.assert_can_go_on();
}

#[tokio::test]
async fn calls_that_only_look_run_side_by_side_up_to_the_limit_and_the_model_sees_their_results() {
    let log = Log::new("look around");
    let looks = (0..5).map(|n| call("look", json!({"n": n}))).collect();
    let model = ScriptedModel::new([looks, vec![text("seen")]]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).drive().await.unwrap();
    assert_eq!(tools.called().len(), 5);
    assert_eq!(tools.most.load(Ordering::SeqCst), 2);
    let results = model.requests()[1].messages.iter().filter(|m| matches!(m.as_ref(), Message::Tool(_))).count();
    assert_eq!(results, 5);
    assert_eq!(log.outcome(), Outcome::Completed);
    log.assert_can_go_on();
}

#[tokio::test]
async fn calls_that_change_something_never_run_side_by_side() {
    let log = Log::new("change it all");
    let model = ScriptedModel::new([(0..4).map(|n| call("force", json!({"n": n}))).collect()]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).drive().await.unwrap();
    assert_eq!((tools.called().len(), tools.most.load(Ordering::SeqCst)), (4, 1));
}

#[tokio::test]
async fn at_the_limit_of_steps_the_model_is_asked_once_more_without_tools() {
    let log = Log::new("loop");
    let again = || vec![call("look", json!({}))];
    let model = ScriptedModel::new([again(), again(), again(), vec![text("so far"), call("look", json!({}))]]);
    run(&log, &model, &Arc::default()).drive().await.unwrap();
    let choices: Vec<_> = model.requests().iter().map(|r| r.tool_choice).collect();
    assert_eq!(choices, [ToolChoice::Auto, ToolChoice::Auto, ToolChoice::Auto, ToolChoice::None]);
    assert_eq!(log.outcome(), Outcome::Limit);
    log.assert_can_go_on();
}

#[tokio::test]
async fn what_the_model_gets_wrong_in_a_call_is_told_to_it() {
    let log = Log::new("go");
    let model =
        ScriptedModel::new([vec![call("dance", json!({})), call("look", json!("{broken")), call("never", json!({}))]]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).drive().await.unwrap();
    let ends = log.ends();
    let of = |part: &str| ends.iter().find(|(_, content)| content.contains(part)).map(|(status, _)| *status);
    assert_eq!(of("no tool \"dance\""), Some(ToolStatus::Error));
    assert_eq!(of("not a JSON object"), Some(ToolStatus::Error));
    assert_eq!(of("operator allows none"), Some(ToolStatus::Denied));
    assert!(tools.called().is_empty());
    assert_eq!(log.outcome(), Outcome::Completed);
}

#[tokio::test]
async fn nothing_is_run_of_a_reply_that_was_refused() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![text("I"), call("force", json!({})), Step::End(StopReason::Refusal)]]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).drive().await.unwrap();
    assert!(tools.called().is_empty());
    assert_eq!(log.kinds(), ["assistant_message", "run_failed"]);
    let EventBody::RunFailed(failed) = log.last() else { panic!() };
    assert_eq!(failed.code, "refusal");
    log.assert_can_go_on();
}

#[tokio::test]
async fn a_call_that_was_cut_at_the_limit_of_tokens_is_not_run_and_the_model_is_told() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![call("force", json!("")), Step::End(StopReason::MaxTokens)]]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).drive().await.unwrap();
    assert!(tools.called().is_empty());
    assert!(log.ends()[0].1.contains("not a JSON object"), "{:?}", log.ends());
    assert_eq!(log.outcome(), Outcome::Completed);
    log.assert_can_go_on();
}

#[tokio::test]
async fn a_change_waits_for_its_approval_and_runs_with_the_arguments_that_were_approved() {
    let log = Log::new("change");
    let model = ScriptedModel::new([vec![call("change", json!({"replicas": 0}))]]);
    let tools = Arc::<Tools>::default();
    let run = run(&log, &model, &tools);
    let (end, ()) = tokio::join!(run.drive(), async {
        let id = log.approval().await;
        assert!(tools.called().is_empty());
        log.resolve(id, Decision::Approve, Some(json!({"replicas": 3})), None);
    });
    end.unwrap();
    assert_eq!(tools.called(), [("change".to_owned(), json!({"replicas": 3}))]);
    assert_eq!(
        log.kinds(),
        [
            "assistant_message",
            "approval_requested",
            "approval_resolved",
            "tool_start",
            "tool_end",
            "assistant_message",
            "run_finished"
        ]
    );
}

#[tokio::test]
async fn an_answer_stands_whatever_the_rules_have_become_since() {
    for (decision, arguments, ran) in
        [(Decision::Deny, None, vec![]), (Decision::Approve, Some(json!({"n": 2})), vec![json!({"n": 2})])]
    {
        let log = Log::new("go");
        let model = ScriptedModel::new([vec![call("change", json!({"n": 1}))]]);
        let before = run(&log, &model, &Arc::default());
        let (_, id) = tokio::join!(before.drive(), async {
            let id = log.approval().await;
            before.halt.cancel();
            id
        });
        log.resolve(id, decision, arguments, None);
        // Now it need not be asked any more.
        let tools = Arc::new(Tools { asks_nothing: true, ..Tools::default() });
        run(&log, &model, &tools).drive().await.unwrap();
        assert_eq!(tools.called().into_iter().map(|(_, arguments)| arguments).collect::<Vec<_>>(), ran);
        log.assert_can_go_on();
    }
}

#[tokio::test]
async fn a_refusal_is_told_to_the_model_with_its_comment_and_nothing_is_run() {
    for (decision, comment, told) in [
        (Decision::Deny, Some("not on Friday"), "not on Friday"),
        (Decision::Expired, None, "nobody approved it in time"),
    ] {
        let log = Log::new("change");
        let model = ScriptedModel::new([vec![call("change", json!({}))]]);
        let tools = Arc::<Tools>::default();
        let run = run(&log, &model, &tools);
        let (end, ()) = tokio::join!(run.drive(), async {
            log.resolve(log.approval().await, decision, None, comment);
        });
        end.unwrap();
        assert!(tools.called().is_empty());
        let (status, content) = log.ends().remove(0);
        assert_eq!(status, ToolStatus::Denied);
        assert!(content.contains(told), "{content}");
    }
}

#[tokio::test]
async fn a_cancel_while_the_model_writes_keeps_what_was_written() {
    let log = Log::new("write");
    let gate = Gate::new();
    let model = ScriptedModel::new([vec![text("half a "), Step::Wait(gate.clone()), text("sentence")]]);
    let run = run(&log, &model, &Arc::default());
    let (end, ()) = tokio::join!(run.drive(), async {
        gate.arrived().await;
        run.cancel.cancel();
    });
    end.unwrap();
    assert_eq!(log.outcome(), Outcome::Cancelled);
    let state = log.state.read().unwrap();
    let Message::Assistant(message) = state.messages.last().unwrap().as_ref() else { panic!() };
    assert_eq!((message.content.as_str(), message.stop_reason), ("half a ", StopReason::Cancelled));
}

#[tokio::test]
async fn a_cancel_while_a_tool_runs_says_what_is_known_of_it() {
    for (tool, status) in [("look", ToolStatus::Cancelled), ("force", ToolStatus::Unknown)] {
        let log = Log::new("go");
        let model = ScriptedModel::new([vec![call(tool, json!({}))]]);
        let (tools, gate) = Tools::held(tool);
        let run = run(&log, &model, &tools);
        let (end, ()) = tokio::join!(run.drive(), async {
            gate.arrived().await;
            run.cancel.cancel();
        });
        end.unwrap();
        assert_eq!(log.ends().remove(0).0, status);
        assert_eq!(log.outcome(), Outcome::Cancelled);
        log.assert_can_go_on();
    }
}

#[tokio::test]
async fn a_cancel_at_any_point_leaves_a_log_that_the_next_turn_can_continue_from() {
    let script = || {
        let calls = vec![
            text("let me "),
            text("see"),
            call("look", json!({})),
            call("force", json!({})),
            call("change", json!({})),
        ];
        ScriptedModel::new([calls, vec![text("a"), call("look", json!({}))], vec![text("done")]])
    };
    let mut points = 0;
    loop {
        let log = Log::new("go");
        let (model, tools) = (script(), Arc::<Tools>::default());
        let run = run(&log, &model, &tools);
        let (cancel, sent, seen) = (run.cancel.clone(), Arc::new(Mutex::new(None)), tools.clone());
        let changes = |tools: &Tools| tools.called().iter().filter(|(name, _)| name != "look").count();
        let sent_before = sent.clone();
        *log.after_step.lock().unwrap() = Some(Box::new(move |n| {
            if n == points {
                *sent_before.lock().unwrap() = Some(changes(&seen));
                cancel.cancel();
            }
        }));
        let (end, ()) = tokio::join!(run.drive(), async {
            // Approves when asked; a run that is cancelled before never asks.
            tokio::select! {
                id = log.approval() => log.resolve(id, Decision::Approve, None, None),
                () = run.cancel.cancelled() => {}
            }
        });
        end.unwrap();
        log.assert_can_go_on();
        if let Some(sent) = *sent.lock().unwrap() {
            assert_eq!(changes(&tools), sent, "a change was sent after the cancel, at point {points}");
        }
        if !run.cancel.is_cancelled() {
            break;
        }
        points += 1;
    }
    assert!(points > 10, "only {points} points were tried");
}

#[tokio::test]
async fn a_halt_leaves_the_approval_open_and_the_next_process_goes_on_with_it() {
    let log = Log::new("change");
    let model = ScriptedModel::new([vec![call("change", json!({}))]]);
    let tools = Arc::<Tools>::default();
    let first = run(&log, &model, &tools);
    let (end, ()) = tokio::join!(first.drive(), async {
        log.approval().await;
        first.halt.cancel();
    });
    assert_eq!(end, Ok(RunEnd::Halted));
    let second = run(&log, &model, &tools);
    let (end, ()) = tokio::join!(second.drive(), async {
        log.resolve(log.approval().await, Decision::Approve, None, None);
    });
    assert_eq!(end, Ok(RunEnd::Closed));
    assert_eq!(log.kinds().iter().filter(|k| **k == "approval_requested").count(), 1);
    assert_eq!(tools.called().len(), 1);
}

#[tokio::test]
async fn after_a_crash_only_calls_that_look_are_sent_again() {
    let log = Log::new("go");
    let calls: Vec<ToolCall> = ["look", "force"]
        .map(|name| ToolCall { id: ToolCallId::generate(), name: name.into(), arguments: json!({}) })
        .into();
    let start = |call: &ToolCall, effect| {
        EventBody::ToolStart(ToolStart {
            tool_call_id: call.id.clone(),
            name: call.name.clone(),
            server: "test".into(),
            arguments: json!({}),
            effect,
            attempt: 1,
        })
    };
    log.commit(vec![
        EventBody::AssistantMessage(AssistantMessageEvent {
            message_id: MessageId::new(),
            content: String::new(),
            reasoning: None,
            tool_calls: calls.clone(),
            usage: Usage::default(),
            stop_reason: StopReason::ToolUse,
        }),
        start(&calls[0], Effect::Read),
        start(&calls[1], Effect::Mutating),
    ]);
    let model = ScriptedModel::new([]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).drive().await.unwrap();
    assert_eq!(tools.called(), [("look".to_owned(), json!({}))]);
    let attempts: Vec<_> = log
        .events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|e| match &e.body {
            EventBody::ToolStart(e) => Some((e.name.clone(), e.attempt)),
            _ => None,
        })
        .collect();
    assert_eq!(attempts.last(), Some(&("look".to_owned(), 2)));
    assert!(log.ends().iter().any(|(status, _)| *status == ToolStatus::Unknown));
    // What the model said before the crash is not asked for again: one request, for what comes after the results.
    assert_eq!(model.requests().len(), 1);
    log.assert_can_go_on();
}

#[tokio::test]
async fn a_process_that_lost_the_session_sends_no_call() {
    for name in ["look", "force"] {
        let log = Log::new("go");
        let (model, tools) = (ScriptedModel::new([vec![call(name, json!({}))]]), Arc::<Tools>::default());
        log.holds.store(false, Ordering::SeqCst);
        assert_eq!(run(&log, &model, &tools).drive().await, Err(LogClosed));
        assert_eq!(log.kinds(), ["assistant_message", "tool_start"]);
        assert!(tools.called().is_empty());
    }
}

#[tokio::test]
async fn a_final_reply_that_was_committed_before_a_crash_is_not_asked_for_again() {
    let log = Log::new("go");
    log.commit(vec![EventBody::AssistantMessage(AssistantMessageEvent {
        message_id: MessageId::new(),
        content: "all is well".into(),
        reasoning: None,
        tool_calls: Vec::new(),
        usage: Usage::default(),
        stop_reason: StopReason::EndTurn,
    })]);
    let model = ScriptedModel::new([]);
    run(&log, &model, &Arc::default()).drive().await.unwrap();
    assert!(model.requests().is_empty());
    assert_eq!(log.outcome(), Outcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_tried_again_as_a_new_message() {
    let log = Log::new("go");
    let broken = Step::Fail(ModelError::Network("cut".into()));
    let model = ScriptedModel::new([vec![text("half"), broken], vec![text("whole")]]);
    run(&log, &model, &Arc::default()).drive().await.unwrap();
    assert_eq!(log.kinds(), ["run_recovered", "warning", "assistant_message", "run_finished"]);
    let events = log.events.lock().unwrap();
    let EventBody::RunRecovered(recovered) = &events[3].body else { panic!() };
    let EventBody::AssistantMessage(message) = &events[5].body else { panic!() };
    assert_eq!(recovered.attempt, 2);
    assert!(!recovered.superseded.contains(&message.message_id));
    assert_eq!(message.content, "whole");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_stays_down_fails_the_run_with_its_code() {
    let log = Log::new("go");
    let down = || vec![Step::Fail(ModelError::Overloaded("busy".into()))];
    let model = ScriptedModel::new([down(), down(), down(), down()]);
    run(&log, &model, &Arc::default()).drive().await.unwrap();
    let EventBody::RunFailed(failed) = log.last() else { panic!("{:?}", log.kinds()) };
    assert_eq!((failed.code.as_str(), failed.retryable), ("overloaded", true));
    assert_eq!(model.requests().len(), 3);
    log.assert_can_go_on();
}

#[tokio::test]
async fn what_cannot_get_better_is_not_tried_again() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![Step::Fail(ModelError::Auth("no key".into()))]]);
    run(&log, &model, &Arc::default()).drive().await.unwrap();
    assert_eq!(model.requests().len(), 1);
    assert!(matches!(log.last(), EventBody::RunFailed(f) if f.code == "auth" && !f.retryable));
}

#[tokio::test]
async fn an_empty_reply_is_a_failure_that_says_so() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![]]);
    run(&log, &model, &Arc::default()).drive().await.unwrap();
    assert!(matches!(log.last(), EventBody::RunFailed(f) if f.code == "empty_reply" && f.retryable));
}
