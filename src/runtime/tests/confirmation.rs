//! A store that does not confirm that its writes survive a failure.

use super::*;

fn is_unconfirmed<T>(result: &Result<T, SessionsError>) -> bool {
    matches!(result, Err(SessionsError::Store(error)) if error.outage() == Some(StoreOutage::Unconfirmed))
}

fn tool_ends(log: &[Arc<SessionEvent>]) -> Vec<(ToolStatus, String)> {
    let ends = log.iter().filter_map(|event| match &event.body {
        EventBody::ToolEnd(end) => Some((end.status, end.content.clone())),
        _ => None,
    });
    ends.collect()
}

#[tokio::test(start_paused = true)]
async fn command_is_acknowledged_only_when_it_is_confirmed() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([vec![text("hello")]])).await;
    fixture.store.commands_unconfirmed.store(true, Ordering::SeqCst);
    let command = SessionCommand {
        command_id: CommandId::generate(),
        fingerprint: "f".into(),
        by: fixture.user.clone(),
        body: message("hi", OnBusy::Enqueue),
    };
    for _ in 0..2 {
        let accepted = fixture.sessions.submit_command(fixture.session, command.clone()).await;
        assert!(is_unconfirmed(&accepted), "a repeated command is not more confirmed: {accepted:?}");
    }
    fixture.store.commands_unconfirmed.store(false, Ordering::SeqCst);
    fixture.sessions.submit_command(fixture.session, command).await.unwrap();
    fixture.rest(ApprovalDecision::Approve).await;
    let log = fixture.log().await;
    assert_eq!(log.iter().filter(|event| event.body.event_type() == "user_message").count(), 1);
    assert_eq!(log.last().unwrap().body.event_type(), "run_finished");
}

#[tokio::test(start_paused = true)]
async fn unsent_call_is_not_taken_for_a_sent_one_after_a_loss() {
    let replies = [vec![call("change", json!({"replicas": 0}))], vec![text("it was not sent")], vec![text("done")]];
    let fixture = RuntimeFixture::new(&ScriptedModel::new(replies)).await;
    fixture.store.events_unconfirmed.store(true, Ordering::SeqCst);
    fixture.say("change it").await;
    fixture.rest(ApprovalDecision::Approve).await;
    let log = fixture.log().await;
    let (status, content) = tool_ends(&log).remove(0);
    assert_eq!(status, ToolStatus::Error);
    assert!(content.starts_with("not sent"), "{content}");
    assert_eq!(log.last().unwrap().body.event_type(), "run_finished");

    let asked = log.iter().find(|event| event.body.event_type() == "approval_requested").unwrap().seq;
    fixture.store.inner().lose_events_after(fixture.session, asked);
    fixture.store.events_unconfirmed.store(false, Ordering::SeqCst);
    fixture.say("and now?").await;
    fixture.rest(ApprovalDecision::Approve).await;
    let log = fixture.log().await;
    let truncated = log.iter().find_map(|event| match &event.body {
        EventBody::LogTruncated(truncated) => Some(truncated),
        _ => None,
    });
    assert_eq!(truncated.unwrap().lost_calls, [], "no call was sent");
    assert_eq!(tool_ends(&log), [(ToolStatus::Ok, "done".to_owned())], "it is made for the first time");
}
