//! Conversations that a model rejects, and the forms in which it accepts them.

use super::*;
use k8sops_models::{ChatRequest, ProviderErrorDetails};

/// A rejection that names nothing.
fn rejected() -> Vec<ReplyStep> {
    let details = ProviderErrorDetails {
        status: Some(400),
        message: Some("Bad Request".into()),
        ..ProviderErrorDetails::default()
    };
    vec![ReplyStep::Fail(
        ModelError::new(ModelErrorKind::InvalidRequest, "rejected (400): Bad Request").with_details(details),
    )]
}

fn filtered() -> Vec<ReplyStep> {
    vec![ReplyStep::Fail(ModelError::new(ModelErrorKind::ContentFiltered, "refused by a filter"))]
}

fn forms(model: &ScriptedModel) -> Vec<RequestForm> {
    model.requests().iter().map(|request| request.form).collect()
}

fn outputs(request: &ChatRequest) -> Vec<String> {
    let outputs = request.messages.iter().filter_map(|message| match &**message {
        ChatMessage::Tool(message) => Some(message.content.clone()),
        _ => None,
    });
    outputs.collect()
}

fn simplified(log: &Log) -> Vec<SimplifiedRequest> {
    let events = log.events.lock();
    let simplified = events.iter().filter_map(|event| match &event.body {
        EventBody::Warning(warning) => warning.simplified.clone(),
        _ => None,
    });
    simplified.collect()
}

#[tokio::test(start_paused = true)]
async fn first_message_has_no_simpler_form() {
    let log = Log::new("go");
    let model = ScriptedModel::new([rejected()]);
    run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
    assert_eq!(model.requests().len(), 1);
    assert!(matches!(log.last(), EventBody::RunFailed(f) if f.code == "invalid_request"));
}

#[tokio::test(start_paused = true)]
async fn form_that_helped_is_said_once_and_remembered() {
    use RequestForm::{Native, Plain, Strict};

    let log = Log::new("go");
    let model = ScriptedModel::new([vec![call("look", json!({}))], rejected(), rejected(), vec![text("seen")]]);
    let run = run(&log, &model, &Arc::default());
    run.run_to_completion().await.unwrap();
    assert_eq!(forms(&model), [Native, Native, Strict, Plain]);
    assert_eq!(log.outcome(), RunOutcome::Completed);
    assert_eq!(log.warnings(), ["request_simplified"]);
    assert_eq!(simplified(&log)[0].step, SimplificationStep::Plain);
    assert_eq!(run.candidates[0].form.current(), Plain, "the process begins there");

    // Another process knows it from the log.
    let other = Run { candidates: vec![candidate("scripted", &model)], ..run };
    again(&log, "and now?");
    other.run_to_completion().await.unwrap();
    assert_eq!(forms(&model)[4..], [Plain]);
    assert_eq!(log.warnings().len(), 1, "it is not said again");
}

#[tokio::test(start_paused = true)]
async fn filtered_output_is_left_out_and_the_form_stays() {
    let log = Log::new("go");
    let model = ScriptedModel::new([vec![call("look", json!({}))], filtered(), vec![text("I cannot see it.")]]);
    let run = run(&log, &model, &Arc::default());
    run.run_to_completion().await.unwrap();
    assert_eq!(forms(&model), [RequestForm::Native; 3]);
    assert!(outputs(&model.requests()[2])[0].starts_with("[left out"));
    assert_eq!(log.outcome(), RunOutcome::Completed);

    // It stays out, and what is new stays in.
    model.add_replies([vec![call("look", json!({}))], vec![text("fine")]]);
    again(&log, "and now?");
    run.run_to_completion().await.unwrap();
    let last = outputs(model.requests().last().unwrap());
    assert!(last[0].starts_with("[left out") && !last[1].starts_with("[left out"), "{last:?}");
    assert_eq!((run.candidates[0].form.current(), log.warnings().len()), (RequestForm::Native, 1));
}

#[tokio::test(start_paused = true)]
async fn filtered_message_does_not_stay_in_the_way() {
    let log = Log::new("something bad");
    let model = ScriptedModel::new([filtered()]);
    let run = run(&log, &model, &Arc::default());
    run.run_to_completion().await.unwrap();
    assert!(matches!(log.last(), EventBody::RunFailed(f) if f.code == "content_filter" && !f.retryable));
    model.add_replies([filtered(), vec![text("twelve")]]);
    again(&log, "how many nodes?");
    run.run_to_completion().await.unwrap();
    assert_eq!(log.outcome(), RunOutcome::Completed);
    let requests = model.requests();
    assert_eq!((requests[1].messages.len(), requests[2].messages.len()), (4, 2));
    again(&log, "and pods?");
    run.run_to_completion().await.unwrap();
    assert_eq!(model.requests()[3].messages.len(), 5, "the first message stays out, and all others stay in");
}

#[tokio::test(start_paused = true)]
async fn last_step_sends_the_newest_message_alone() {
    let log = Log::new("go");
    let mut replies = vec![vec![call("look", json!({}))]];
    replies.extend((0..5).map(|_| rejected()));
    let model = ScriptedModel::new(replies);
    let run = run(&log, &model, &Arc::default());
    run.run_to_completion().await.unwrap();
    let last = model.requests().pop().unwrap();
    assert_eq!((last.form, last.messages.len()), (RequestForm::Bare, 1));
    assert_eq!(log.outcome(), RunOutcome::Completed);
    assert_eq!(run.candidates[0].form.current(), RequestForm::Native, "nothing is known of the form");
}

#[tokio::test(start_paused = true)]
async fn unexplained_rejection_of_every_form_goes_to_the_fallback() {
    let log = Log::new("go");
    let mut replies = vec![vec![call("look", json!({}))]];
    replies.extend((0..9).map(|_| rejected()));
    let (first, second) = (ScriptedModel::new(replies), ScriptedModel::new([vec![text("seen")]]));
    let mut run = run(&log, &first, &Arc::default());
    run.candidates.push(candidate("second", &second));
    run.run_to_completion().await.unwrap();
    assert_eq!(log.outcome(), RunOutcome::Completed);
    assert_eq!(log.warnings(), ["fallback"]);
    assert_eq!(second.requests()[0].form, RequestForm::Native);
    assert!(first.requests().len() <= 7, "each step is tried once");
    assert_eq!(run.candidates[0].circuit.admit_call(), k8sops_models::CircuitAdmission::Allowed);
}

#[tokio::test(start_paused = true)]
async fn what_the_user_can_mend_is_not_simplified() {
    for kind in [ModelErrorKind::Auth, ModelErrorKind::Quota, ModelErrorKind::ModelNotFound] {
        let log = Log::new("go");
        let fails = vec![ReplyStep::Fail(ModelError::new(kind, "no"))];
        let model = ScriptedModel::new([vec![call("look", json!({}))], fails]);
        run(&log, &model, &Arc::default()).run_to_completion().await.unwrap();
        assert_eq!(model.requests().len(), 2, "{kind:?}");
    }
}
