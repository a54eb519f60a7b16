//! Models that are down, too small, too dear; and what stands in for them.

use super::*;
use crate::SpendingLimit;
use k8sops_models::{CircuitAdmission, ModelPrices, ModelReply, ProviderNotice};

fn down() -> Vec<ReplyStep> {
    vec![ReplyStep::Fail(ModelError::new(ModelErrorKind::Overloaded, "busy"))]
}

fn two(log: &Arc<Log>, first: &Arc<ScriptedModel>, second: &Arc<ScriptedModel>) -> Run {
    let mut run = run(log, first, &Arc::default());
    run.candidates.push(candidate("second", second));
    run
}

/// Who wrote the messages.
fn writers(log: &Log) -> Vec<String> {
    let events = log.events.lock();
    let writers = events.iter().filter_map(|e| match &e.body {
        EventBody::AssistantMessage(e) => e.provider.clone(),
        _ => None,
    });
    writers.collect()
}

#[tokio::test(start_paused = true)]
async fn the_next_in_line_answers_while_the_first_is_down_and_the_first_is_asked_again_later() {
    let log = Log::new("go");
    let (first, second) = (ScriptedModel::new([down(), down(), down()]), ScriptedModel::new([]));
    let run = two(&log, &first, &second);
    run.run_to_completion().await.unwrap();
    assert_eq!((log.outcome(), writers(&log)), (RunOutcome::Completed, vec!["second".to_owned()]));
    assert_eq!(log.warnings(), ["overloaded", "overloaded", "fallback"]);

    // The next turn knows that the model is unavailable.
    again(&log, "and now?");
    run.run_to_completion().await.unwrap();
    assert_eq!(first.requests().len(), 3, "it is left alone");
    assert_eq!(writers(&log), ["second", "second"]);
    assert_eq!(log.warnings()[3..], ["fallback"], "the turn says who answers");

    // Later one turn looks, once, and without waiting.
    let CircuitAdmission::Rejected(left) = run.candidates[0].circuit.admit_call() else { panic!() };
    tokio::time::advance(left).await;
    first.add_replies([down()]);
    again(&log, "and now?");
    run.run_to_completion().await.unwrap();
    assert_eq!((first.requests().len(), writers(&log).len()), (4, 3));

    let CircuitAdmission::Rejected(left) = run.candidates[0].circuit.admit_call() else { panic!() };
    assert!(left > Duration::from_secs(30), "and is left alone for longer");
    tokio::time::advance(left).await;
    again(&log, "and now?");
    run.run_to_completion().await.unwrap();
    assert_eq!(writers(&log)[3], "scripted", "it is back");
    assert_eq!(run.candidates[0].circuit.admit_call(), CircuitAdmission::Allowed);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_has_begun_goes_on_with_the_next_and_keeps_what_it_knows() {
    let log = Log::new("go");
    let first = ScriptedModel::new([
        vec![call("look", json!({}))],
        vec![ReplyStep::Fail(ModelError::new(ModelErrorKind::Quota, "empty"))],
    ]);
    let second = ScriptedModel::new([vec![text("seen")]]);
    let run = two(&log, &first, &second);
    run.run_to_completion().await.unwrap();
    assert_eq!(writers(&log), ["scripted", "second"]);
    assert_eq!(log.warnings(), ["fallback"], "an empty account is not asked again");
    let asked = second.requests().pop().unwrap();
    assert_eq!((asked.provider.as_str(), asked.messages.len()), ("second", 4));
    log.assert_can_go_on();
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_request_is_not_tried_elsewhere() {
    let log = Log::new("go");
    let first = ScriptedModel::new([vec![ReplyStep::Fail(ModelError::new(ModelErrorKind::InvalidRequest, "no"))]]);
    let second = ScriptedModel::new([]);
    let run = two(&log, &first, &second);
    run.run_to_completion().await.unwrap();
    assert!(matches!(log.last(), EventBody::RunFailed(f) if f.code == "invalid_request"));
    assert!(second.requests().is_empty());
    assert_eq!(run.candidates[0].circuit.admit_call(), CircuitAdmission::Allowed);
}

#[tokio::test(start_paused = true)]
async fn when_all_are_down_the_run_fails_once_and_the_next_run_asks_all_the_same() {
    let log = Log::new("go");
    let (first, second) = (ScriptedModel::new((0..3).map(|_| down())), ScriptedModel::new((0..3).map(|_| down())));
    let run = two(&log, &first, &second);
    run.run_to_completion().await.unwrap();
    assert!(matches!(log.last(), EventBody::RunFailed(f) if f.code == "overloaded" && f.retryable));
    again(&log, "and now?");
    run.run_to_completion().await.unwrap();
    assert_eq!((log.outcome(), writers(&log)), (RunOutcome::Completed, vec!["scripted".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn waits_have_a_budget_and_say_how_long_they_are() {
    let limited = |secs| {
        let retry_after = Some(Duration::from_secs(secs));
        vec![ReplyStep::Fail(ModelError::new(ModelErrorKind::RateLimited, "slow down").with_retry_after(retry_after))]
    };
    let log = Log::new("go");
    let model = ScriptedModel::new([limited(50), limited(90)]);
    let run = run(&log, &model, &Arc::default());
    run.run_to_completion().await.unwrap();
    assert_eq!(model.requests().len(), 2, "the second asked for more than is left of two minutes");
    let events = log.events.lock();
    let EventBody::Warning(warning) = &events[3].body else { panic!() };
    assert_eq!(warning.code, "rate_limited");
    assert!(warning.wait_seconds.is_some_and(|s| (50.0..=50.5).contains(&s)), "{warning:?}");
    assert!(matches!(&events[4].body, EventBody::RunFailed(f) if f.code == "rate_limited" && f.retryable));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_the_user_cancels() {
    let log = Log::new("go");
    let asked = Some(Duration::from_secs(100));
    let limited = ModelError::new(ModelErrorKind::RateLimited, "slow down").with_retry_after(asked);
    let model = ScriptedModel::new([vec![ReplyStep::Fail(limited)]]);
    let run = run(&log, &model, &Arc::default());
    let cancel = run.cancel.clone();
    let began = tokio::time::Instant::now();
    *log.after_step.lock() = Some(Box::new(move |_| cancel.cancel()));
    run.run_to_completion().await.unwrap();
    assert_eq!((log.outcome(), began.elapsed()), (RunOutcome::Cancelled, Duration::ZERO));
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_cut_down_until_it_fits() {
    let log = Log::new("first");
    let too_long = || vec![ReplyStep::Fail(ModelError::new(ModelErrorKind::ContextTooLong, "too long"))];
    let model = ScriptedModel::new([vec![text(&"a".repeat(3000))], vec![text(&"b".repeat(1000))]]);
    let run = run(&log, &model, &Arc::default());
    run.run_to_completion().await.unwrap();
    again(&log, "second");
    run.run_to_completion().await.unwrap();
    again(&log, "third");
    model.add_replies([too_long(), too_long(), vec![call("look", json!({}))], vec![text("fine")]]);
    run.run_to_completion().await.unwrap();
    assert_eq!(log.outcome(), RunOutcome::Completed);
    assert_eq!(
        log.warnings(),
        ["context_too_long", "context_too_long"],
        "the next step is cut down from the beginning"
    );
    let sizes: Vec<_> = model.requests()[2..].iter().map(|r| r.messages.len()).collect();
    assert_eq!(sizes, [8, 5, 2, 4]);
    assert!(matches!(&*model.requests()[4].messages[1], ChatMessage::User(m) if m.content == "third"));
    log.assert_can_go_on();
}

#[tokio::test]
async fn a_message_that_no_model_can_take_fails_the_run_and_says_what_to_do() {
    let log = Log::new("far too long");
    let model = ScriptedModel::new(
        (0..20).map(|_| vec![ReplyStep::Fail(ModelError::new(ModelErrorKind::ContextTooLong, "too long"))]),
    );
    run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
    let EventBody::RunFailed(failed) = log.last() else { panic!("{:?}", log.kinds()) };
    assert_eq!(failed.code, "context_too_long");
    assert!(failed.message.contains("larger context window"), "{}", failed.message);
    assert!(model.requests().len() <= 2);
}

#[tokio::test]
async fn a_paused_reply_goes_on_by_itself() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![text("so far"), ReplyStep::End(StopReason::Paused)], vec![text("done")]]);
    run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
    assert_eq!(
        (log.outcome(), log.kinds()),
        (RunOutcome::Completed, vec!["assistant_message", "assistant_message", "run_finished"])
    );
    assert_eq!(model.requests()[1].messages.len(), 3);
}

/// A user who has used this much today.
struct Used(Mutex<Option<TokenUsage>>);

#[async_trait]
impl UsageSource for Used {
    async fn user_usage_today(&self) -> Option<TokenUsage> {
        *self.0.lock()
    }
}

fn tokens(tokens: u64) -> SpendingLimit {
    SpendingLimit { tokens: Some(tokens), usd: None }
}

#[tokio::test]
async fn a_turn_that_reaches_its_budget_ends_with_an_answer() {
    let log = Log::new("go");
    // Each reply of the script takes 15 tokens.
    let model = ScriptedModel::new([
        vec![call("look", json!({}))],
        vec![call("look", json!({}))],
        vec![text("as far as I got")],
    ]);
    let mut run = run(&log, &model, &Arc::default());
    run.limits.budgets.turn = tokens(30);
    run.run_to_completion().await.unwrap();
    assert_eq!(log.outcome(), RunOutcome::Limit);
    assert_eq!(log.warnings(), ["budget_turn"]);
    assert_eq!(model.requests()[2].tool_choice, ToolChoice::None);
    log.assert_can_go_on();
    // A new turn has a budget of its own.
    again(&log, "more");
    run.run_to_completion().await.unwrap();
    assert_eq!(log.outcome(), RunOutcome::Completed);
}

#[tokio::test]
async fn a_session_or_a_user_that_has_nothing_left_is_told_so_without_another_call() {
    for (of_session, code) in [(true, "budget_session"), (false, "budget_user_day")] {
        let log = Log::new("go");
        let model = ScriptedModel::new([]);
        let usage_source = Arc::new(Used(Mutex::default()));
        let mut run = run(&log, &model, &Arc::default());
        run.usage_source = usage_source.clone();
        let budget = if of_session { &mut run.limits.budgets.session } else { &mut run.limits.budgets.user_day };
        *budget = tokens(15);
        run.run_to_completion().await.unwrap();
        assert_eq!(log.outcome(), RunOutcome::Completed, "what cannot be known does not stop a turn");
        *usage_source.0.lock() = Some(log.state.read().summary.usage);
        again(&log, "more");
        run.run_to_completion().await.unwrap();
        assert_eq!((log.outcome(), log.warnings()), (RunOutcome::Limit, vec![code.to_owned()]));
        assert_eq!(model.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_reply_costs_what_the_catalog_says_and_the_budget_may_be_in_money() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![call("look", json!({}))], vec![text("done")]]);
    let mut run = run(&log, &model, &Arc::default());
    let usd = UsdAmount::from_dollars;
    // 10 tokens in, 5 out.
    run.candidates[0].prices = Some(ModelPrices {
        input: usd(1000.0),
        output: usd(2000.0),
        cached_input: UsdAmount::ZERO,
        cache_write: UsdAmount::ZERO,
        long: None,
    });
    run.limits.budgets.turn = SpendingLimit { tokens: None, usd: Some(usd(0.02)) };
    run.run_to_completion().await.unwrap();
    let EventBody::RunFinished(end) = log.last() else { panic!() };
    assert_eq!((end.outcome, end.usage.cost_usd), (RunOutcome::Limit, usd(0.04)));
    let state = log.state.read();
    assert_eq!(state.summary.usage.cost_usd, usd(0.04));
    assert_eq!((state.spent.models[0].provider.as_str(), state.spent.total_usage().cost_usd), ("scripted", usd(0.04)));
}

/// A model that does something otherwise than asked, and says so in each reply.
struct Odd;

#[async_trait]
impl k8sops_models::ChatModel for Odd {
    async fn stream(&self, _: k8sops_models::ChatRequest) -> Result<k8sops_models::ReplyStream, ModelError> {
        let notice = ProviderNotice { code: "temperature_ignored", message: "it takes none".into() };
        let reply = ModelReply { content: "ok".into(), notices: vec![notice], ..ModelReply::default() };
        Ok(Box::pin(futures_util::stream::iter([Ok(k8sops_models::ReplyDelta::Done(Box::new(reply)))])))
    }

    async fn check(&self, _: &str) -> Result<(), ModelError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_session_is_told_once_of_what_a_model_cannot_do() {
    let log = Log::new("go");
    let mut run = run(&log, &ScriptedModel::new([]), &Arc::default());
    run.candidates[0].chat = Arc::new(Odd);
    run.run_to_completion().await.unwrap();
    again(&log, "more");
    run.run_to_completion().await.unwrap();
    assert_eq!(log.warnings(), ["temperature_ignored"]);
    assert_eq!(writers(&log).len(), 2);
}
