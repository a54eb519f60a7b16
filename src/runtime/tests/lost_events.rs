//! A store that loses acknowledged events, as a Redis does whose lagging replica is promoted.

use super::*;

/// Submits a message whose run calls `change`, and approves the call. Returns the message.
async fn make_a_change(fixture: &RuntimeFixture) -> CommandBody {
    let body = message("change it", OnBusy::Enqueue);
    fixture.submit(body.clone()).await.unwrap();
    fixture.rest(ApprovalDecision::Approve).await;
    body
}

/// The seq of the first event of a type.
fn seq_of(log: &[Arc<SessionEvent>], event_type: &str) -> u64 {
    log.iter().find(|event| event.body.event_type() == event_type).unwrap().seq
}

/// The types of the events from the first `log_truncated` on.
fn types_after_loss(log: &[Arc<SessionEvent>]) -> Vec<&'static str> {
    let types = log.iter().map(|event| event.body.event_type());
    types.skip_while(|event_type| *event_type != "log_truncated").collect()
}

fn lost_calls(log: &[Arc<SessionEvent>]) -> Vec<LostToolCall> {
    let truncated = log.iter().find_map(|event| match &event.body {
        EventBody::LogTruncated(truncated) => Some(truncated.lost_calls.clone()),
        _ => None,
    });
    truncated.unwrap()
}

/// How many lost calls each message to the model names; messages without any are left out.
fn told_calls(state: &SessionState) -> Vec<usize> {
    let named = state.messages.iter().filter_map(|message| match message.as_ref() {
        ChatMessage::User(message) => Some(message.lost_calls.len()),
        _ => None,
    });
    named.filter(|count| *count > 0).collect()
}

#[tokio::test(start_paused = true)]
async fn call_whose_answer_is_lost_ends_as_unknown() {
    let replies = [vec![call("change", json!({"replicas": 0}))], vec![text("done")], vec![text("I look first")]];
    let fixture = RuntimeFixture::new(&ScriptedModel::new(replies)).await;
    make_a_change(&fixture).await;
    let before = fixture.log().await;
    let asked = seq_of(&before, "approval_requested");
    let newest = before.last().unwrap().seq;
    let mut watcher = fixture.sessions.open_cursor(&fixture.user, fixture.session, newest).await.unwrap();

    fixture.store.inner().lose_events_after(fixture.session, asked);
    fixture.say("and now?").await;
    fixture.rest(ApprovalDecision::Approve).await;
    let after = fixture.log().await;
    let kept = usize::try_from(asked).unwrap();
    assert_eq!(before[..kept], after[..kept]);
    let types = types_after_loss(&after);
    assert!(types.starts_with(&["log_truncated", "run_recovered"]) && !types.contains(&"tool_start"), "{types:?}");
    let new = &after[kept..];
    assert!(new.iter().all(|event| event.seq >= 2000), "no seq has two meanings");
    assert!(matches!(&new[0].body, EventBody::LogTruncated(e) if e.from_seq == asked + 1 && e.lost == newest - asked));
    let is_unknown = |body: &EventBody| matches!(body, EventBody::ToolEnd(end) if end.status == ToolStatus::Unknown);
    assert_eq!(new.iter().filter(|event| is_unknown(&event.body)).count(), 1);
    assert_eq!(lost_calls(&after)[0].arguments, json!({"replicas": 0}));
    let state = load_state(fixture.store.as_ref(), fixture.session).await.unwrap().state;
    assert!(state.lost_calls.is_empty(), "the model was told");
    assert_eq!(told_calls(&state), [1], "in front of the message that its run works on");

    let mut frames = Vec::new();
    while let Some(frame) = watcher.next_logged().await.unwrap() {
        frames.push(frame);
    }
    assert_eq!(
        frames.iter().map(StreamFrame::event_type).take(3).collect::<Vec<_>>(),
        ["gap", "snapshot", "log_truncated"]
    );
    let seen: Vec<u64> = frames.iter().filter_map(StreamFrame::seq).collect();
    assert_eq!(seen, new.iter().map(|event| event.seq).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn repeated_run_does_not_repeat_a_sent_call() {
    let change = || vec![call("change", json!({"replicas": 0}))];
    let replies = [change(), vec![text("done")], change(), vec![text("I look first")]];
    let fixture = RuntimeFixture::new(&ScriptedModel::new(replies)).await;
    let body = make_a_change(&fixture).await;
    // The message is in the inbox again.
    fixture.store.inner().lose_events_after(fixture.session, 1);
    fixture.submit(body).await.unwrap();
    fixture.rest(ApprovalDecision::Approve).await;
    let log = fixture.log().await;
    let types = types_after_loss(&log);
    assert!(!types.contains(&"tool_start") && !types.contains(&"approval_requested"), "{types:?}");
    let ends = log.iter().filter_map(|event| match &event.body {
        EventBody::ToolEnd(end) => Some(end.status),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [ToolStatus::Unknown]);
    assert_eq!(types.last(), Some(&"run_finished"));
}

#[tokio::test(start_paused = true)]
async fn new_message_may_make_the_change_that_is_lost() {
    let change = || vec![call("change", json!({"replicas": 0}))];
    let replies = [change(), vec![text("done")], change(), vec![text("done")]];
    let fixture = RuntimeFixture::new(&ScriptedModel::new(replies)).await;
    make_a_change(&fixture).await;
    fixture.store.inner().lose_events_after(fixture.session, 1);
    make_a_change(&fixture).await;
    let log = fixture.log().await;
    assert_eq!(lost_calls(&log).len(), 1, "the user is told");
    let state = load_state(fixture.store.as_ref(), fixture.session).await.unwrap().state;
    assert_eq!(told_calls(&state), [1], "and the model, with the next message");
    let approved = ["approval_requested", "approval_resolved", "tool_start", "tool_end"];
    assert!(types_after_loss(&log).windows(4).any(|types| types == approved));
}

#[tokio::test(start_paused = true)]
async fn owner_after_a_failover_waits_for_what_other_processes_know() {
    let change = ScriptedModel::new([vec![call("change", json!({"replicas": 0}))], vec![text("done")]]);
    let first = RuntimeFixture::with_shared_store(&change).await;
    make_a_change(&first).await;
    let before = first.log().await;
    let sent = before.iter().find_map(|event| match &event.body {
        EventBody::ToolStart(start) => Some(LostToolCall {
            run_id: event.run_id.unwrap(),
            tool_call_id: start.tool_call_id.clone(),
            name: start.name.clone(),
            server: start.server.clone(),
            arguments: start.arguments.clone(),
        }),
        _ => None,
    });
    let known_seq = before.last().unwrap().seq;
    // The owner of an idle session releases it.
    tokio::time::sleep(Duration::from_secs(30)).await;
    first.store.inner().lose_events_after(first.session, seq_of(&before, "approval_requested"));
    // The store was promoted, as the lease says. The process that has sent the call tells of it a little later.
    let report = async |calls| {
        let lost = LostBranch { known_seq, calls };
        first.store.report_lost_branch(first.session, &lost).await.unwrap();
    };
    report(Vec::new()).await;
    let second = first.join_process(&ScriptedModel::new([vec![text("I look first")], vec![text("hello")]]));
    let takeover = async {
        second.say("and now?").await;
        second.rest(ApprovalDecision::Approve).await;
    };
    tokio::join!(takeover, async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        report(sent.clone().into_iter().collect()).await;
    });
    let log = second.log().await;
    assert_eq!(lost_calls(&log), Vec::from_iter(sent));
    let types = types_after_loss(&log);
    assert!(!types.contains(&"tool_start"), "the change is not made a second time: {types:?}");
    assert_eq!(types.iter().filter(|event_type| **event_type == "log_truncated").count(), 1, "{types:?}");
}
