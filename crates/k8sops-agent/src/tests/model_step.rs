//! Replies of the model: whole, broken, refused, empty.

use super::*;

#[tokio::test]
async fn a_reply_without_tools_ends_the_run_in_the_same_commit() {
    let log = Log::new("hi");
    let model = ScriptedModel::new([vec![ReplyStep::Reasoning("hm".into()), text("hel"), text("lo")]]);
    assert_eq!(run(&log, &model, &Arc::default()).run_to_completion().await, Ok(RunEnd::Closed));
    assert_eq!(log.kinds(), ["assistant_message", "run_finished"]);
    assert_eq!(*log.commits.lock(), [2, 2]);
    let EventBody::RunFinished(end) = log.last() else { panic!() };
    assert_eq!((end.outcome, end.usage.output_tokens), (RunOutcome::Completed, 5));
    log.assert_can_go_on();
}

#[tokio::test]
async fn nothing_is_run_of_a_reply_that_was_refused() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![text("I"), call("force", json!({})), ReplyStep::End(StopReason::Refusal)]]);
    let tools = Arc::<Tools>::default();
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    assert!(tools.called().is_empty());
    assert_eq!(log.kinds(), ["assistant_message", "run_failed"]);
    let EventBody::RunFailed(failed) = log.last() else { panic!() };
    assert_eq!(failed.code, "refusal");
    log.assert_can_go_on();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_tried_again_as_a_new_message() {
    let log = Log::new("go");
    let broken = ReplyStep::Fail(ModelError::new(ModelErrorKind::Network, "cut"));
    let model = ScriptedModel::new([vec![text("half"), broken], vec![text("whole")]]);
    run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
    assert_eq!(log.kinds(), ["run_recovered", "warning", "assistant_message", "run_finished"]);
    let events = log.events.lock();
    let EventBody::RunRecovered(recovered) = &events[3].body else { panic!() };
    let EventBody::AssistantMessage(message) = &events[5].body else { panic!() };
    assert_eq!(recovered.attempt, 2);
    assert!(!recovered.superseded.contains(&message.message_id));
    assert_eq!(message.content, "whole");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_stays_down_fails_the_run_with_its_code() {
    let log = Log::new("go");
    let down = || vec![ReplyStep::Fail(ModelError::new(ModelErrorKind::Overloaded, "busy"))];
    let model = ScriptedModel::new([down(), down(), down(), down()]);
    run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
    let EventBody::RunFailed(failed) = log.last() else { panic!("{:?}", log.kinds()) };
    assert_eq!((failed.code.as_str(), failed.retryable), ("overloaded", true));
    assert_eq!(model.requests().len(), 3);
    log.assert_can_go_on();
}

#[tokio::test]
async fn what_cannot_get_better_is_not_tried_again() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![ReplyStep::Fail(ModelError::new(ModelErrorKind::Auth, "no key"))]]);
    run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
    assert_eq!(model.requests().len(), 1);
    assert!(matches!(log.last(), EventBody::RunFailed(f) if f.code == "auth" && !f.retryable));
}

#[tokio::test(start_paused = true)]
async fn an_empty_reply_is_a_failure_that_says_so() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![], vec![]]);
    run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
    assert_eq!(model.requests().len(), 2, "it is requested once more");
    assert!(matches!(log.last(), EventBody::RunFailed(f) if f.code == "empty_reply" && f.retryable));
}

fn dropped_calls(log: &Log) -> Vec<DroppedCall> {
    let events = log.events.lock();
    let calls = events.iter().filter_map(|event| match &event.body {
        EventBody::Warning(warning) => warning.dropped_call.as_deref().cloned(),
        _ => None,
    });
    calls.collect()
}

fn broken(input_tokens: u64) -> Vec<ReplyStep> {
    let usage = TokenUsage { input_tokens, ..TokenUsage::default() };
    let error = ModelError::new(ModelErrorKind::Network, "cut").with_usage(usage);
    vec![text("half"), ReplyStep::Fail(error)]
}

#[tokio::test(start_paused = true)]
async fn tokens_of_dropped_attempts_are_counted() {
    let log = Log::new("go");
    let model = ScriptedModel::new([broken(1000), vec![text("whole")]]);
    run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
    assert_eq!(log.kinds(), ["run_recovered", "warning", "assistant_message", "run_finished"]);
    assert_eq!(dropped_calls(&log).iter().map(|call| call.usage.input_tokens).collect::<Vec<_>>(), [1000]);
    let EventBody::RunFinished(end) = log.last() else { panic!() };
    assert_eq!(end.usage.input_tokens, 1010);
    let state = log.state.read();
    assert_eq!((state.summary.usage.input_tokens, state.spent.total_usage().input_tokens), (1010, 1010));
}

#[tokio::test(start_paused = true)]
async fn tokens_of_a_model_that_gave_up_are_counted_for_it() {
    let failing = || ScriptedModel::new([broken(1), broken(2), broken(4)]);
    let log = Log::new("go");
    run(&log, &failing(), &Arc::default()).run_to_completion().await.unwrap();
    let EventBody::RunFailed(failed) = log.last() else { panic!() };
    assert_eq!((failed.usage.input_tokens, log.warnings().last().unwrap().as_str()), (7, "call_dropped"));

    let log = Log::new("go");
    let mut run = run(&log, &failing(), &Arc::default());
    run.candidates.push(candidate("second", &ScriptedModel::new([])));
    run.run_to_completion().await.unwrap();
    let EventBody::RunFinished(end) = log.last() else { panic!() };
    assert_eq!(end.usage.input_tokens, 17, "the reply of the fallback has 10");
    let state = log.state.read();
    let of_model = |provider: &str| -> u64 {
        let models = state.spent.models.iter().filter(|model| model.provider == provider);
        models.map(|model| model.usage.input_tokens).sum()
    };
    assert_eq!((of_model("scripted"), of_model("second")), (7, 10));
}

#[tokio::test(start_paused = true)]
async fn tokens_of_an_empty_reply_are_counted_once() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![], vec![text("whole")]]);
    run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
    assert_eq!((log.state.read().summary.usage.input_tokens, dropped_calls(&log).len()), (20, 1));
    let log = Log::new("go");
    run(&log, &ScriptedModel::new([vec![], vec![]]), &Arc::default()).run_to_completion().await.unwrap();
    assert_eq!(log.state.read().summary.usage.input_tokens, 20, "the last empty reply is in the log");
}
