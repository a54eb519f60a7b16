//! What a user is asked before or while a call runs.

use super::*;

#[tokio::test]
async fn a_change_waits_for_its_approval_and_runs_with_the_arguments_that_were_approved() {
    let log = Log::new("change");
    let model = ScriptedModel::new([vec![call("change", json!({"replicas": 0}))]]);
    let tools = Arc::<Tools>::default();
    let run = run(&log, &model, &tools);
    let (end, ()) = tokio::join!(run.run_to_completion(), async {
        let id = log.approval().await;
        assert!(tools.called().is_empty());
        log.resolve(id, ApprovalDecision::Approve, Some(json!({"replicas": 3})), None);
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
            "warning",
            "run_finished"
        ]
    );
    assert_eq!(log.warnings(), ["unverified_change"]);
}

#[tokio::test]
async fn an_answer_stands_whatever_the_rules_have_become_since() {
    for (decision, arguments, ran) in [
        (ApprovalDecision::Deny, None, vec![]),
        (ApprovalDecision::Approve, Some(json!({"n": 2})), vec![json!({"n": 2})]),
    ] {
        let log = Log::new("go");
        let model = ScriptedModel::new([vec![call("change", json!({"n": 1}))]]);
        let before = run(&log, &model, &Arc::default());
        let (_, id) = tokio::join!(before.run_to_completion(), async {
            let id = log.approval().await;
            before.halt.cancel();
            id
        });
        log.resolve(id, decision, arguments, None);
        // Now it need not be asked any more.
        let tools = Arc::new(Tools { asks_nothing: true, ..Tools::default() });
        run(&log, &model, &tools).run_to_completion().await.unwrap();
        assert_eq!(tools.called().into_iter().map(|(_, arguments)| arguments).collect::<Vec<_>>(), ran);
        log.assert_can_go_on();
    }
}

#[tokio::test]
async fn a_refusal_is_told_to_the_model_with_its_comment_and_nothing_is_run() {
    for (decision, comment, expected) in [
        (ApprovalDecision::Deny, Some("not on Friday"), "not on Friday"),
        (ApprovalDecision::Expired, None, "the approval expired"),
    ] {
        let log = Log::new("change");
        let model = ScriptedModel::new([vec![call("change", json!({}))]]);
        let tools = Arc::<Tools>::default();
        let run = run(&log, &model, &tools);
        let (end, ()) = tokio::join!(run.run_to_completion(), async {
            log.resolve(log.approval().await, decision, None, comment);
        });
        end.unwrap();
        assert!(tools.called().is_empty());
        let (status, content) = log.ends().remove(0);
        assert_eq!(status, ToolStatus::Denied);
        assert!(content.contains(expected), "{content}");
    }
}

#[tokio::test]
async fn what_a_change_would_do_is_shown_with_the_question() {
    let log = Log::new("change it");
    let model = ScriptedModel::new([vec![call("change", json!({}))], vec![text("done")]]);
    let asked = async {
        let id = log.approval().await;
        let preview = log.state.read().pending_approvals().next().unwrap().preview.clone();
        log.resolve(id, ApprovalDecision::Approve, None, None);
        preview
    };
    let (_, preview) =
        tokio::join!(async { run(&log, &model, &Arc::default()).run_to_completion().await.unwrap() }, asked);
    assert_eq!(preview.as_deref(), Some("would change"));
}

#[tokio::test]
async fn a_trusted_call_runs_unless_its_arguments_come_from_an_output() {
    for (arguments, asks) in [(json!({"name": "payments-api"}), false), (json!({"name": "done-by-attacker"}), true)] {
        let log = Log::new("restart payments-api");
        log.commit(vec![EventBody::AssistantMessage(AssistantMessageEvent {
            message_id: MessageId::new(),
            content: String::new(),
            reasoning: None,
            tool_calls: vec![ToolCall { id: "c0".parse().unwrap(), name: "look".into(), arguments: json!({}) }],
            citations: vec![],
            usage: TokenUsage::default(),
            stop_reason: StopReason::ToolUse,
            provider: None,
            model: None,
            provider_data: None,
        })]);
        log.commit(vec![EventBody::ToolEnd(ToolEnd {
            tool_call_id: "c0".parse().unwrap(),
            name: "look".into(),
            server: "test".into(),
            status: ToolStatus::Ok,
            content: "payments-api done-by-attacker".into(),
            structured: None,
            truncated: false,
            bytes: 4,
            duration_ms: 1,
        })]);
        let model = ScriptedModel::new([vec![call("trusted", arguments)], vec![text("ok")]]);
        let tools = Arc::<Tools>::default();
        let run = run(&log, &model, &tools);
        let answered = async {
            if asks {
                let id = log.approval().await;
                let asked = log.state.read().pending_approvals().next().unwrap().reason.clone();
                assert!(asked.contains("\"done-by-attacker\"") && asked.contains("output of look"), "{asked}");
                log.resolve(id, ApprovalDecision::Deny, None, None);
            }
        };
        let (end, ()) = tokio::join!(run.run_to_completion(), answered);
        end.unwrap();
        assert_eq!(tools.called().is_empty(), asks);
        assert_eq!(log.kinds().contains(&"approval_requested"), asks);
    }
}

#[tokio::test]
async fn an_approval_lapses_when_what_it_showed_has_changed() {
    let log = Log::new("change");
    let model = ScriptedModel::new([vec![call("change", json!({"replicas": 0}))], vec![text("done")]]);
    let tools = Arc::new(Tools { changes_before_call: Mutex::new(vec!["replicas is 4 now"]), ..Tools::default() });
    let run = run(&log, &model, &tools);
    let (end, ()) = tokio::join!(run.run_to_completion(), async {
        let first = log.approval().await;
        log.resolve(first, ApprovalDecision::Approve, Some(json!({"replicas": 3})), None);
        let again = log.approval().await;
        assert!(tools.called().is_empty());
        let asked = log.state.read().pending_approvals().next().unwrap().clone();
        assert_eq!((asked.replaces, &asked.arguments), (Some(first), &json!({"replicas": 3})));
        let status = log.state.read().run.as_ref().unwrap().approval_status(first, Timestamp::now());
        assert_eq!(status, Some(InteractionStatus::Closed));
        log.resolve(again, ApprovalDecision::Approve, None, None);
    });
    end.unwrap();
    assert_eq!(tools.called(), [("change".to_owned(), json!({"replicas": 3}))]);
    assert_eq!(log.warnings(), ["approval_stale", "unverified_change"]);
    assert_eq!(log.kinds().iter().filter(|kind| **kind == "approval_requested").count(), 2);
    log.assert_can_go_on();
}

#[tokio::test]
async fn another_owner_asks_again_after_an_approval_lapsed() {
    let log = Log::new("change");
    let model = ScriptedModel::new([vec![call("change", json!({"replicas": 0}))], vec![text("done")]]);
    let before = run(&log, &model, &Arc::default());
    let (_, first) = tokio::join!(before.run_to_completion(), async {
        let first = log.approval().await;
        before.halt.cancel();
        first
    });
    log.resolve(first, ApprovalDecision::Approve, Some(json!({"replicas": 3})), None);
    // The next owner finds the change, asks, and stops before the answer; the third one runs what was approved last.
    let tools = Arc::new(Tools { changes_before_call: Mutex::new(vec!["replicas is 4 now"]), ..Tools::default() });
    let second = run(&log, &model, &tools);
    let (_, again) = tokio::join!(second.run_to_completion(), async {
        let again = log.approval().await;
        second.halt.cancel();
        again
    });
    assert_ne!(first, again);
    assert!(tools.called().is_empty());
    log.resolve(again, ApprovalDecision::Approve, None, None);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    assert_eq!(tools.called(), [("change".to_owned(), json!({"replicas": 3}))]);
    log.assert_can_go_on();
}

#[tokio::test]
async fn a_question_of_a_server_is_answered_by_the_user() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![call("asks", json!({}))], vec![text("ok")]]);
    let tools = Arc::<Tools>::default();
    let run = run(&log, &model, &tools);
    let answered = async {
        let asked = log.input().await;
        assert_eq!((asked.message.as_str(), asked.server.as_str()), ("sure?", "test"));
        let content = json!({"sure": true}).as_object().cloned();
        log.commit(vec![EventBody::InputResolved(InputResolved {
            input_id: asked.input_id,
            action: InputAction::Accept,
            content,
            by: EventAuthor::System,
            command_id: None,
        })]);
    };
    let (end, ()) = tokio::join!(run.run_to_completion(), answered);
    end.unwrap();
    assert_eq!(log.ends()[0].1, "Accept({\"sure\": Bool(true)})");
    log.assert_can_go_on();
}

#[tokio::test]
async fn a_stop_cancels_a_question_so_that_its_call_can_end() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![call("asks", json!({}))], vec![text("ok")]]);
    let run = run(&log, &model, &Arc::default());
    let stopped = async {
        log.input().await;
        run.halt.cancel();
    };
    let (end, ()) = tokio::join!(run.run_to_completion(), stopped);
    assert_eq!(end, Ok(RunEnd::Halted));
    assert_eq!(log.ends()[0].1, "Cancel");
}

#[tokio::test]
async fn waiting_for_the_user_is_not_counted_in_what_a_run_may_take() {
    let log = Log::new("change it");
    let at = |ms| Timestamp::from_millis(ms);
    let start = log.state.read().run.as_ref().unwrap().started_at;
    let id = ApprovalId::new();
    let event = |ms, body| {
        let mut state = log.state.write();
        let draft =
            EventDraft { ts: start.saturating_add(Duration::from_millis(ms)), ..EventDraft::in_run(log.run_id, body) };
        let event = draft.into_event(state.summary.session_id, state.last_seq() + 1);
        state.apply_event(&event);
    };
    let tool_calls = vec![ToolCall { id: "c".parse().unwrap(), name: "change".into(), arguments: json!({}) }];
    event(
        1_000,
        EventBody::AssistantMessage(AssistantMessageEvent {
            message_id: MessageId::new(),
            content: String::new(),
            reasoning: None,
            tool_calls,
            citations: vec![],
            usage: TokenUsage::default(),
            stop_reason: StopReason::ToolUse,
            provider: None,
            model: None,
            provider_data: None,
        }),
    );
    event(
        2_000,
        EventBody::ApprovalRequested(ApprovalRequested {
            answered_by: ApprovalAudience::Owner,
            approval_id: id,
            tool_call_id: "c".parse().unwrap(),
            name: "change".into(),
            arguments: json!({}),
            effect: ToolEffect::Mutating,
            reason: String::new(),
            preview: None,
            expires_at: at(i64::MAX / 2),
            summary: String::new(),
            objects: Vec::new(),
            dependents: Vec::new(),
            server: "test".into(),
            cluster: None,
            preview_detail: None,
            replaces: None,
        }),
    );
    let worked =
        |ms| log.state.read().run.as_ref().unwrap().active_time(start.saturating_add(Duration::from_millis(ms)));
    assert_eq!(worked(50_000), Duration::from_secs(2));
    event(
        60_000,
        EventBody::ApprovalResolved(ApprovalResolved {
            approval_id: id,
            decision: ApprovalDecision::Approve,
            arguments: None,
            by: EventAuthor::System,
            comment: None,
            command_id: None,
        }),
    );
    assert_eq!(worked(63_000), Duration::from_secs(5));
    // The clock jumps by an hour. Then the owner ends, and there is no other one for a minute.
    let recovered =
        |attempt| EventBody::RunRecovered(RunRecovered { attempt, superseded: Vec::new(), reason: String::new() });
    event(3_660_000, EventBody::Warning(SessionWarning::new("test", "jump")));
    assert_eq!(worked(3_660_000), Duration::from_secs(602));
    event(3_720_000, recovered(2));
    assert_eq!(worked(3_721_000), Duration::from_secs(603));
    // The next owner's clock is right.
    event(120_000, recovered(3));
    assert_eq!(worked(121_000), Duration::from_secs(121));
}
