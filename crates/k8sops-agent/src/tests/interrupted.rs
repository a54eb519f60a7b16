//! Cancels, stops and crashes, at every point of a run.

use k8sops_models::{ChatModel, ChatRequest, ReplyStream};

use super::*;

#[tokio::test]
async fn a_cancel_while_the_model_writes_keeps_what_was_written() {
    let log = Log::new("write");
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("half a "), ReplyStep::Wait(gate.clone()), text("sentence")]]);
    let run = run(&log, &model, &Arc::default());
    let (end, ()) = tokio::join!(run.run_to_completion(), async {
        gate.arrived().await;
        run.cancel.cancel();
    });
    end.unwrap();
    assert_eq!(log.outcome(), RunOutcome::Cancelled);
    let state = log.state.read();
    let ChatMessage::Assistant(message) = state.messages.last().unwrap().as_ref() else { panic!() };
    assert_eq!((message.content.as_str(), message.stop_reason), ("half a ", StopReason::Cancelled));
    // The provider bills an aborted reply without reporting it, so the usage is an estimate.
    let usage = state.summary.usage;
    assert!(usage.input_tokens > 0 && (2..=4).contains(&usage.output_tokens), "{usage:?}");
    assert_eq!(state.spent.total_usage(), usage);
}

/// A model that is no provider's.
struct FreeModel(Arc<ScriptedModel>);

#[async_trait]
impl ChatModel for FreeModel {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        self.0.stream(request).await
    }

    fn uses_tokens(&self) -> bool {
        false
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        self.0.check(model).await
    }
}

#[tokio::test]
async fn cancelled_reply_of_a_free_model_uses_no_tokens() {
    let log = Log::new("write");
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("half a "), ReplyStep::Wait(gate.clone()), text("sentence")]]);
    let mut run = run(&log, &model, &Arc::default());
    run.candidates[0].chat = Arc::new(FreeModel(model));
    let (end, ()) = tokio::join!(run.run_to_completion(), async {
        gate.arrived().await;
        run.cancel.cancel();
    });
    end.unwrap();
    assert_eq!((log.outcome(), log.state.read().summary.usage), (RunOutcome::Cancelled, TokenUsage::default()));
}

#[tokio::test]
async fn a_cancel_while_a_tool_runs_says_what_is_known_of_it() {
    for (tool, status) in [("look", ToolStatus::Cancelled), ("force", ToolStatus::Unknown)] {
        let log = Log::new("go");
        let model = ScriptedModel::new([vec![call(tool, json!({}))]]);
        let (tools, gate) = Tools::held(tool);
        let run = run(&log, &model, &tools);
        let (end, ()) = tokio::join!(run.run_to_completion(), async {
            gate.arrived().await;
            run.cancel.cancel();
        });
        end.unwrap();
        assert_eq!(log.ends().remove(0).0, status);
        assert_eq!(log.outcome(), RunOutcome::Cancelled);
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
        *log.after_step.lock() = Some(Box::new(move |n| {
            if n == points {
                *sent_before.lock() = Some(changes(&seen));
                cancel.cancel();
            }
        }));
        let (end, ()) = tokio::join!(run.run_to_completion(), async {
            // Approves when asked; a run that is cancelled before never asks.
            tokio::select! {
                id = log.approval() => log.resolve(id, ApprovalDecision::Approve, None, None),
                () = run.cancel.cancelled() => {}
            }
        });
        end.unwrap();
        log.assert_can_go_on();
        if let Some(sent) = *sent.lock() {
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
    let (end, ()) = tokio::join!(first.run_to_completion(), async {
        log.approval().await;
        first.halt.cancel();
    });
    assert_eq!(end, Ok(RunEnd::Halted));
    let second = run(&log, &model, &tools);
    let (end, ()) = tokio::join!(second.run_to_completion(), async {
        log.resolve(log.approval().await, ApprovalDecision::Approve, None, None);
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
            sent: true,
        })
    };
    log.commit(vec![
        EventBody::AssistantMessage(AssistantMessageEvent {
            message_id: MessageId::new(),
            content: String::new(),
            reasoning: None,
            tool_calls: calls.clone(),
            citations: vec![],
            usage: TokenUsage::default(),
            stop_reason: StopReason::ToolUse,
            provider: None,
            model: None,
            provider_data: None,
        }),
        start(&calls[0], ToolEffect::Read),
        start(&calls[1], ToolEffect::Mutating),
    ]);
    let model = ScriptedModel::new([]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    assert_eq!(tools.called(), [("look".to_owned(), json!({}))]);
    let attempts: Vec<_> = log
        .events
        .lock()
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
        assert_eq!(run(&log, &model, &tools).run_to_completion().await, Err(LogClosed));
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
        citations: vec![],
        usage: TokenUsage::default(),
        stop_reason: StopReason::EndTurn,
        provider: None,
        model: None,
        provider_data: None,
    })]);
    let model = ScriptedModel::new([]);
    run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
    assert!(model.requests().is_empty());
    assert_eq!(log.outcome(), RunOutcome::Completed);
}
