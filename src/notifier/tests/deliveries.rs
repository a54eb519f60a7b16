//! Configurations, order, retries and the end, on one replica.

use super::*;

#[tokio::test(start_paused = true)]
async fn notifications_come_in_order_until_the_task_ends() {
    let fixture = Fixture::new();
    let notifier = fixture.start_replica();
    let task = task();
    fixture.source.commit([3, 4]);
    notifier.save_config(&config(&task, "a"), FROM_START).await.unwrap();
    fixture.receiver.has_accepted(URL, &["3", "4"]).await;
    assert_eq!(fixture.open_deliveries().await, 1);
    fixture.source.commit([5, 9]);
    fixture.source.end();
    fixture.all_delivered().await;
    assert_eq!(fixture.receiver.accepted(URL), ["3", "4", "5", "9"]);
    assert!(fixture.has_metric("k8sops_notifications_total{outcome=\"delivered\"} 4"));
    // The configuration is kept.
    assert_eq!(notifier.list_configs(&task).await.unwrap(), [config(&task, "a")]);
    notifier.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_before_the_position_is_not_sent() {
    let fixture = Fixture::new();
    let notifier = fixture.start_replica();
    fixture.source.commit([3, 4, 5]);
    fixture.source.end();
    notifier.save_config(&config(&task(), "a"), NotificationPosition::after_event(4)).await.unwrap();
    fixture.all_delivered().await;
    assert_eq!(fixture.receiver.accepted(URL), ["5"]);
    notifier.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn refused_notification_is_repeated_before_the_next_one() {
    let fixture = Fixture::new();
    let notifier = fixture.start_replica();
    let failures = [SendFailure::Status(500), SendFailure::Timeout, SendFailure::Status(307)].map(Reaction::Fail);
    fixture.receiver.react(failures);
    fixture.source.commit([1, 2]);
    fixture.source.end();
    notifier.save_config(&config(&task(), "a"), FROM_START).await.unwrap();
    fixture.all_delivered().await;
    assert_eq!(fixture.receiver.accepted(URL), ["1", "2"]);
    assert_eq!(fixture.receiver.attempts(), 5);
    assert!(fixture.has_metric("k8sops_notifications_total{outcome=\"failed\"} 3"));
    notifier.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn receiver_that_never_accepts_is_given_up() {
    let fixture = Fixture::new();
    let notifier = fixture.start_replica();
    fixture.receiver.react_always(Reaction::Fail(SendFailure::Unreachable));
    fixture.source.commit([1, 2]);
    let task = task();
    notifier.save_config(&config(&task, "a"), FROM_START).await.unwrap();
    fixture.all_delivered().await;
    assert_eq!(fixture.receiver.attempts(), ATTEMPTS as usize);
    assert!(fixture.has_metric("k8sops_notifications_total{outcome=\"given_up\"} 1"));
    assert_eq!(notifier.find_config(&task, "a").await.unwrap(), None);
    notifier.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn receiver_that_is_gone_is_given_up_at_once() {
    let fixture = Fixture::new();
    let notifier = fixture.start_replica();
    fixture.receiver.react_always(Reaction::Fail(SendFailure::Gone));
    fixture.source.commit([1]);
    notifier.save_config(&config(&task(), "a"), FROM_START).await.unwrap();
    fixture.all_delivered().await;
    assert_eq!(fixture.receiver.attempts(), 1);
    notifier.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn attempts_of_an_earlier_process_count() {
    let fixture = Fixture::new();
    fixture.receiver.react([Reaction::Fail(SendFailure::Timeout), Reaction::Fail(SendFailure::Timeout)]);
    fixture.receiver.react_always(Reaction::Hang);
    fixture.source.commit([1]);
    let notifier = fixture.start_replica();
    notifier.save_config(&config(&task(), "a"), FROM_START).await.unwrap();
    eventually("it is sent three times", async || fixture.receiver.attempts() == 3).await;
    notifier.shutdown().await;
    fixture.receiver.react_always(Reaction::Fail(SendFailure::Timeout));
    let next = fixture.start_replica();
    fixture.all_delivered().await;
    // Two failed before, and the third was interrupted.
    assert_eq!(fixture.receiver.attempts(), ATTEMPTS as usize + 1);
    next.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn hanging_receiver_holds_up_no_other() {
    let fixture = Fixture::new();
    let notifier = fixture.start_replica();
    fixture.receiver.react([Reaction::Hang]);
    fixture.source.commit([1, 2]);
    let task = task();
    notifier.save_config(&config(&task, "hanging"), FROM_START).await.unwrap();
    eventually("it hangs", async || fixture.receiver.attempts() == 1).await;
    let other = PushConfig { url: format!("{URL}/other"), ..config(&task, "other") };
    notifier.save_config(&other, FROM_START).await.unwrap();
    fixture.receiver.has_accepted(&other.url, &["1", "2"]).await;
    assert!(fixture.receiver.accepted(URL).is_empty());
    // A removed configuration stops its delivery.
    assert!(notifier.remove_config(&task, "hanging").await.unwrap().is_some());
    fixture.source.end();
    fixture.all_delivered().await;
    assert!(fixture.receiver.accepted(URL).is_empty());
    notifier.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn configuration_that_is_made_again_is_delivered_from_its_own_start() {
    let fixture = Fixture::new();
    let notifier = fixture.start_replica();
    let task = task();
    fixture.source.commit([1]);
    notifier.save_config(&config(&task, "a"), FROM_START).await.unwrap();
    fixture.receiver.has_accepted(URL, &["1"]).await;
    // In place of the other one: what was accepted is not sent again.
    let changed = PushConfig { url: format!("{URL}/changed"), ..config(&task, "a") };
    notifier.save_config(&changed, FROM_START).await.unwrap();
    fixture.source.commit([2]);
    fixture.receiver.has_accepted(&changed.url, &["2"]).await;
    assert_eq!(notifier.list_configs(&task).await.unwrap(), std::slice::from_ref(&changed));
    notifier.remove_config(&task, "a").await.unwrap();
    notifier.save_config(&changed, FROM_START).await.unwrap();
    fixture.receiver.has_accepted(&changed.url, &["2", "1", "2"]).await;
    notifier.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn configurations_are_checked_counted_and_of_one_task() {
    let fixture = Fixture::new();
    let notifier = fixture.start_replica();
    let (task, other_task) = (task(), PushTask { run: RunId::new(), ..task() });
    for at in 0..MAX_CONFIGS_PER_TASK {
        notifier.save_config(&config(&task, &format!("c{at}")), FROM_START).await.unwrap();
    }
    let one_more = notifier.save_config(&config(&task, "more"), FROM_START).await;
    assert!(matches!(one_more, Err(PushConfigError::TooMany)), "{one_more:?}");
    notifier.save_config(&config(&task, "c3"), FROM_START).await.unwrap();
    notifier.save_config(&config(&other_task, "c3"), FROM_START).await.unwrap();
    assert_eq!(notifier.list_configs(&task).await.unwrap().len(), MAX_CONFIGS_PER_TASK);
    assert_eq!(notifier.list_configs(&other_task).await.unwrap().len(), 1);
    assert!(notifier.remove_config(&task, "c3").await.unwrap().is_some());
    assert!(notifier.remove_config(&task, "c3").await.unwrap().is_none());
    assert!(notifier.find_config(&other_task, "c3").await.unwrap().is_some());
    let with_token = PushConfig { token: Some("a\nb".into()), ..config(&task, "a") };
    assert!(matches!(notifier.save_config(&with_token, FROM_START).await, Err(PushConfigError::Invalid(_))));
    let elsewhere = PushConfig { url: "https://elsewhere.example/s3cret".into(), ..config(&task, "a") };
    let refused = notifier.save_config(&elsewhere, FROM_START).await.unwrap_err();
    assert!(matches!(refused, PushConfigError::Target(TargetRejection::HostNotAllowed)));
    assert!(!refused.to_string().contains("s3cret"));
    notifier.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn notifier_without_allowed_receivers_does_nothing() {
    let fixture = Fixture::new();
    let options = NotifierOptions { allow: Vec::new(), ..Fixture::options() };
    let notifier = Notifier::new(&options, fixture.store.clone(), "replica".into());
    notifier.start(&options, Arc::new(fixture.source.clone()), fixture.metrics.clone()).unwrap();
    assert!(!notifier.is_enabled());
    let task = task();
    let saved = notifier.save_config(&config(&task, "a"), FROM_START).await;
    assert!(matches!(saved, Err(PushConfigError::NotSupported)));
    assert!(matches!(notifier.list_configs(&task).await, Err(PushConfigError::NotSupported)));
    assert_eq!(fixture.open_deliveries().await, 0);
    notifier.shutdown().await;
}
