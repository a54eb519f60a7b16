//! Calls of tools: side by side or one after another, wrong ones, and the bounds of a run.

use super::*;

#[tokio::test]
async fn calls_that_only_look_run_side_by_side_up_to_the_limit_and_the_model_sees_their_results() {
    let log = Log::new("look around");
    let looks = (0..5).map(|n| call("look", json!({"n": n}))).collect();
    let model = ScriptedModel::new([looks, vec![text("seen")]]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    assert_eq!(tools.called().len(), 5);
    assert_eq!(tools.most.load(Ordering::SeqCst), 2);
    let results = model.requests()[1].messages.iter().filter(|m| matches!(m.as_ref(), ChatMessage::Tool(_))).count();
    assert_eq!(results, 5);
    assert_eq!(log.outcome(), RunOutcome::Completed);
    log.assert_can_go_on();
}

#[tokio::test]
async fn calls_that_change_something_never_run_side_by_side() {
    let log = Log::new("change it all");
    let model = ScriptedModel::new([(0..4).map(|n| call("force", json!({"n": n}))).collect()]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    assert_eq!((tools.called().len(), tools.most.load(Ordering::SeqCst)), (4, 1));
}

#[tokio::test]
async fn at_the_limit_of_steps_the_model_is_asked_once_more_without_tools() {
    let log = Log::new("loop");
    let again = || vec![call("look", json!({}))];
    let model = ScriptedModel::new([again(), again(), again(), vec![text("so far"), call("look", json!({}))]]);
    run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
    let choices: Vec<_> = model.requests().iter().map(|r| r.tool_choice).collect();
    assert_eq!(choices, [ToolChoice::Auto, ToolChoice::Auto, ToolChoice::Auto, ToolChoice::None]);
    assert_eq!(log.outcome(), RunOutcome::Limit);
    log.assert_can_go_on();
}

#[tokio::test]
async fn what_the_model_gets_wrong_in_a_call_is_told_to_it() {
    let log = Log::new("go");
    let model =
        ScriptedModel::new([vec![call("dance", json!({})), call("look", json!("{broken")), call("never", json!({}))]]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    let ends = log.ends();
    let of = |part: &str| ends.iter().find(|(_, content)| content.contains(part)).map(|(status, _)| *status);
    assert_eq!(of("no tool \"dance\""), Some(ToolStatus::Error));
    assert_eq!(of("not a JSON object"), Some(ToolStatus::Error));
    assert_eq!(of("operator allows none"), Some(ToolStatus::Denied));
    assert!(tools.called().is_empty());
    assert_eq!(log.outcome(), RunOutcome::Completed);
}

#[tokio::test]
async fn a_call_that_was_cut_at_the_limit_of_tokens_is_not_run_and_the_model_is_told() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![call("force", json!("")), ReplyStep::End(StopReason::MaxTokens)]]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    assert!(tools.called().is_empty());
    assert!(log.ends()[0].1.contains("cut at the limit of its tokens"), "{:?}", log.ends());
    assert_eq!(log.outcome(), RunOutcome::Completed);
    log.assert_can_go_on();
}

#[tokio::test]
async fn at_the_limit_of_calls_the_rest_is_not_run_and_the_model_answers() {
    let log = Log::new("look everywhere");
    let looks = (0..15).map(|n| call("look", json!({"n": n}))).collect();
    let model = ScriptedModel::new([looks, vec![text("so far")]]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    assert_eq!(tools.called().len(), 10);
    let refused = log.ends().iter().filter(|(_, content)| content.contains("limit of 10 tool calls")).count();
    assert_eq!(refused, 5);
    assert_eq!(model.requests()[1].tool_choice, ToolChoice::None);
    assert_eq!(log.warnings(), ["limit_calls"]);
    assert_eq!(log.outcome(), RunOutcome::Limit);
    log.assert_can_go_on();
}

#[tokio::test]
async fn a_run_that_has_worked_for_too_long_ends_with_an_answer() {
    let log = Log::new("look");
    let model = ScriptedModel::new([vec![text("nothing yet")]]);
    let mut run = run(&log, &model, &Arc::default());
    run.limits.max_time = Duration::ZERO;
    run.run_to_completion().await.unwrap();
    assert_eq!(model.requests()[0].tool_choice, ToolChoice::None);
    assert_eq!((log.warnings(), log.outcome()), (vec!["limit_time".to_owned()], RunOutcome::Limit));
}

#[tokio::test]
async fn the_same_call_over_and_over_is_remarked_then_refused_then_ends_the_run() {
    let log = Log::new("loop");
    let again = || vec![call("look", json!({"n": 1}))];
    let model = ScriptedModel::new((0..7).map(|_| again()).chain([vec![text("enough")]]));
    let tools = Arc::<Tools>::default();
    let mut run = run(&log, &model, &tools);
    run.limits.max_steps = 20;
    run.run_to_completion().await.unwrap();
    let contents: Vec<String> = log.ends().into_iter().map(|(_, content)| content).collect();
    assert_eq!(contents[..2], ["done", "done"]);
    assert!(contents[2].contains("the 3. time"), "{}", contents[2]);
    assert!(contents[4].contains("the 5. time"), "{}", contents[4]);
    assert!(contents[5..].iter().all(|content| content.starts_with("not run again")), "{contents:?}");
    assert_eq!((tools.called().len(), contents.len()), (5, 7));
    assert_eq!((log.warnings(), log.outcome()), (vec!["limit_repeats".to_owned()], RunOutcome::Limit));
    log.assert_can_go_on();
}

#[tokio::test]
async fn calls_with_other_arguments_are_not_the_same() {
    let log = Log::new("look");
    let steps = (0..8).map(|n| vec![call("look", json!({"n": n}))]).chain([vec![text("seen")]]);
    let model = ScriptedModel::new(steps);
    let tools = Arc::<Tools>::default();
    let mut run = run(&log, &model, &tools);
    run.limits.max_steps = 20;
    run.run_to_completion().await.unwrap();
    assert!(log.ends().iter().all(|(_, content)| content == "done"));
    assert_eq!(log.outcome(), RunOutcome::Completed);
}

/// A test's tools, offered to the model.
fn offered() -> Arc<Tools> {
    Arc::new(Tools { is_offered: true, ..Tools::default() })
}

#[tokio::test]
async fn model_is_asked_to_look_at_what_it_changed() {
    let log = Log::new("set it to 3");
    let model = ScriptedModel::new([
        vec![call("force", json!({"name": "cart"}))],
        vec![call("look", json!({"name": "cart"}))],
        vec![text("it runs [2]")],
    ]);
    run(&log, &model, &offered()).run_to_completion().await.unwrap();
    assert_eq!((log.outcome(), log.warnings()), (RunOutcome::Completed, vec![]));
    let asks = |request: &ChatRequest| match request.messages.last().map(AsRef::as_ref) {
        Some(ChatMessage::Tool(result)) => result.content.contains("not looked at since"),
        _ => false,
    };
    assert_eq!(model.requests().iter().map(asks).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(log.ends()[0].1, "done", "the log has what the tool returned");
    let citations = log.events.lock().iter().find_map(|e| match &e.body {
        EventBody::AssistantMessage(m) if !m.citations.is_empty() => Some(m.citations.clone()),
        _ => None,
    });
    assert_eq!(citations.unwrap().iter().map(|c| c.n).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn change_that_stays_unverified_is_warned_of() {
    let log = Log::new("set it to 3");
    let model = ScriptedModel::new([vec![call("force", json!({"name": "cart"}))], vec![text("done")]]);
    run(&log, &model, &offered()).run_to_completion().await.unwrap();
    assert_eq!((log.outcome(), log.warnings()), (RunOutcome::Completed, vec!["unverified_change".to_owned()]));
    assert_eq!(model.requests().len(), 2);
}

#[tokio::test]
async fn answer_without_evidence_is_warned_of() {
    let log = Log::new("how is the shop?");
    let model = ScriptedModel::new([vec![text("There: 3 pods are fine [4].")]]);
    run(&log, &model, &offered()).run_to_completion().await.unwrap();
    assert_eq!(log.warnings(), ["unsupported_claims", "unknown_citation"]);
}

#[tokio::test]
async fn servers_that_are_down_are_said_with_the_message() {
    let log = Log::new("how is the shop?");
    let model = ScriptedModel::new([vec![text("I cannot tell.")]]);
    let tools = Arc::new(Tools { unavailable: vec!["argocd".into()], ..Tools::default() });
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    assert_eq!(log.warnings(), ["servers_unavailable"]);
    let request = &model.requests()[0];
    let ChatMessage::User(message) = &*request.messages[0] else { panic!("{:?}", request.messages) };
    assert!(message.content.contains("not connected at this moment: argocd."), "{}", message.content);
    assert_eq!(&*request.system, "be brief", "the beginning of the prompt stays the same");
}

#[tokio::test]
async fn change_is_sent_only_after_its_start_is_confirmed() {
    for (tool, is_confirmed) in [("force", true), ("force", false), ("look", false)] {
        let log = Log::new("go");
        let model = ScriptedModel::new([vec![call(tool, json!({}))], vec![text("done")]]);
        let tools = Arc::new(Tools::default());
        if !is_confirmed {
            *log.confirmation.lock() = Some(StartConfirmation::Unconfirmed);
        }
        run(&log, &model, &tools).run_to_completion().await.unwrap();
        let end = log.ends().remove(0);
        let is_sent = is_confirmed || tool == "look";
        assert_eq!(tools.called().len(), usize::from(is_sent), "{tool}: {end:?}");
        assert_eq!(log.confirmed.lock().len(), usize::from(tool == "force"));
        assert_eq!(log.unsent.lock().len(), usize::from(!is_sent));
        let status = if is_sent { ToolStatus::Ok } else { ToolStatus::Error };
        assert_eq!((end.0, end.1.contains("not sent, and nothing was changed")), (status, !is_sent), "{}", end.1);
        assert_eq!(log.outcome(), RunOutcome::Completed);
        log.assert_can_go_on();
    }
}

#[tokio::test]
async fn cancel_ends_a_call_that_waits_for_its_confirmation() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![call("force", json!({}))]]);
    let tools = Arc::new(Tools::default());
    *log.confirmation.lock() = None;
    let run = run(&log, &model, &tools);
    let (end, ()) = tokio::join!(run.run_to_completion(), async {
        while log.confirmed.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        run.cancel.cancel();
    });
    end.unwrap();
    assert_eq!(log.ends().remove(0).0, ToolStatus::Cancelled);
    assert_eq!((tools.called().len(), log.unsent.lock().len()), (0, 1));
    log.assert_can_go_on();
}
