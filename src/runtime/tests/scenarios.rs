//! Single scenarios: commits, takeovers, cancels and clients that disconnect.

use super::*;

#[tokio::test]
async fn events_during_a_commit_join_the_next_commit() {
    let looks = (0..8).map(|_| call("look", json!({}))).collect();
    let fixture = RuntimeFixture::new(&ScriptedModel::new([looks])).await;
    fixture.say("look around").await;
    fixture.rest(ApprovalDecision::Approve).await;
    let commits = fixture.store.commits.load(Ordering::SeqCst);
    // 8 starts and 8 ends in four at a time, and five events around them: one commit each would be 21.
    assert!(commits <= 12, "{commits} commits");
}

#[tokio::test(start_paused = true)]
async fn unavailable_store_only_delays_a_run() {
    let model = ScriptedModel::new([vec![text("first try")]]);
    let fixture = RuntimeFixture::new(&model).await;
    fixture.store.failing.store(3, Ordering::SeqCst);
    let receipt = fixture.say("hi").await;
    fixture.rest(ApprovalDecision::Approve).await;
    let log = fixture.log().await;
    let state = load_state(fixture.store.as_ref(), fixture.session).await.unwrap().state;
    assert_whole(&log, &state);
    assert!(log.iter().any(|e| e.run_id == receipt.run_id && matches!(e.body, EventBody::RunFinished(_))));
}

#[tokio::test(start_paused = true)]
async fn idle_owner_releases_its_session() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([])).await;
    fixture.say("hi").await;
    fixture.rest(ApprovalDecision::Approve).await;
    assert_eq!(fixture.sessions.owned_count(), 1);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(fixture.sessions.owned_count(), 0);
    // And the next message finds a new one.
    fixture.say("again").await;
    fixture.rest(ApprovalDecision::Approve).await;
    assert_eq!(fixture.log().await.iter().filter(|e| e.body.ends_run()).count(), 2);
}

#[tokio::test]
async fn checkpoints_weigh_at_most_twice_the_log() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([])).await;
    let content = "x".repeat(4000);
    for _ in 0..150 {
        fixture.say(&content).await;
        fixture.rest(ApprovalDecision::Approve).await;
    }
    let log: u64 = fixture.log().await.iter().map(|e| e.estimated_bytes()).sum();
    let checkpoints = fixture.store.checkpoints.lock();
    let written: u64 = checkpoints.iter().sum();
    assert!(checkpoints.len() >= 3, "{checkpoints:?}");
    assert!(written <= 2 * log, "{written} bytes of checkpoints for {log} bytes of log");
}

#[tokio::test]
async fn early_cancel_cancels_its_run() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("never said"), ReplyStep::Hang]]);
    // In a shared store, a session without an owner takes messages in its inbox.
    let fixture = RuntimeFixture::with_shared_store(&model).await;
    *fixture.store.slow.lock() = Some(gate.clone());
    fixture.say("hi").await;
    gate.arrived().await;
    fixture.submit(CommandBody::Cancel { run_id: None }).await.unwrap();
    *fixture.store.slow.lock() = None;
    gate.open();
    fixture.rest(ApprovalDecision::Approve).await;
    assert!(
        matches!(&fixture.log().await.last().unwrap().body, EventBody::RunFinished(e) if e.outcome == RunOutcome::Cancelled)
    );
}

#[tokio::test]
async fn first_of_concurrent_answers_counts() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([vec![call("change", json!({}))]])).await;
    let receipt = fixture.say("hi").await;
    let mut cursor = fixture.sessions.open_cursor(&fixture.user, fixture.session, receipt.seq).await.unwrap();
    let approval_id = loop {
        if let Some(StreamFrame::Event(event)) = cursor.next().await.unwrap()
            && let EventBody::ApprovalRequested(asked) = &event.body
        {
            break asked.approval_id;
        }
    };
    for decision in [ApprovalDecision::Deny, ApprovalDecision::Approve, ApprovalDecision::Approve] {
        let body = CommandBody::Resolve { approval_id, decision, arguments: None, comment: None, approver: false };
        let command = SessionCommand {
            command_id: CommandId::generate(),
            fingerprint: String::new(),
            by: fixture.user.clone(),
            body,
        };
        // Past the door, so that the owner finds them all at once.
        fixture.store.submit_command(fixture.session, command).await.unwrap();
    }
    fixture.submit(CommandBody::Title { title: "wake up".into() }).await.unwrap();
    fixture.rest(ApprovalDecision::Approve).await;
    let answers: Vec<ApprovalDecision> = fixture
        .log()
        .await
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ApprovalResolved(answer) => Some(answer.decision),
            _ => None,
        })
        .collect();
    assert_eq!(answers, [ApprovalDecision::Deny]);
}

/// The timer of the owner stands still while the machine is suspended, and the wall clock does not.
#[tokio::test]
async fn answer_after_the_expiry_does_not_count_whatever_the_timers_say() {
    for past_the_api in [false, true] {
        let fixture = RuntimeFixture::new(&ScriptedModel::new([vec![call("change", json!({}))]])).await;
        let receipt = fixture.say("hi").await;
        let mut cursor = fixture.sessions.open_cursor(&fixture.user, fixture.session, receipt.seq).await.unwrap();
        let mut next = async || match cursor.next().await.unwrap() {
            Some(StreamFrame::Event(event)) => Some(event),
            _ => None,
        };
        let approval_id = loop {
            if let Some(event) = next().await
                && let EventBody::ApprovalRequested(asked) = &event.body
            {
                break asked.approval_id;
            }
        };
        assert_eq!(fixture.sessions.list_pending_approvals(&fixture.user, false).await.unwrap().len(), 1);
        fixture.clock_offset_ms.store(3_600_001, Ordering::SeqCst);
        assert!(fixture.sessions.list_pending_approvals(&fixture.user, false).await.unwrap().is_empty());
        let decision = ApprovalDecision::Approve;
        let body = CommandBody::Resolve { approval_id, decision, arguments: None, comment: None, approver: false };
        if past_the_api {
            leave(&fixture, body).await;
            fixture.submit(CommandBody::Title { title: "wake up".into() }).await.unwrap();
        } else {
            assert!(matches!(fixture.submit(body).await, Err(SessionsError::ApprovalClosed(_))));
        }
        let resolved = tokio::time::timeout(Duration::from_secs(2), async {
            loop {
                if let Some(event) = next().await
                    && let EventBody::ApprovalResolved(resolved) = &event.body
                {
                    return resolved.decision;
                }
            }
        });
        assert_eq!(resolved.await.unwrap(), ApprovalDecision::Expired);
        fixture.rest(ApprovalDecision::Deny).await;
        assert!(
            !fixture.log().await.iter().any(|event| matches!(&event.body, EventBody::ToolStart(start) if start.sent))
        );
    }
}

/// Nothing but the wall clock says that an approval expires after the machine was suspended.
#[tokio::test(start_paused = true)]
async fn owner_looks_at_the_wall_clock_while_an_approval_is_pending() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([vec![call("change", json!({}))]])).await;
    fixture.say("hi").await;
    while fixture.sessions.list_pending_approvals(&fixture.user, false).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fixture.clock_offset_ms.store(3_600_001, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(6)).await;
    fixture.rest(ApprovalDecision::Deny).await;
    let expired = |event: &Arc<SessionEvent>| matches!(&event.body, EventBody::ApprovalResolved(answer) if answer.decision == ApprovalDecision::Expired);
    assert!(fixture.log().await.iter().any(expired));
}

/// Takes a command past the door: into the inbox, without waking anybody.
async fn leave(fixture: &RuntimeFixture, body: CommandBody) {
    let command = SessionCommand {
        command_id: CommandId::generate(),
        fingerprint: String::new(),
        by: fixture.user.clone(),
        body,
    };
    fixture.store.submit_command(fixture.session, command).await.unwrap();
}

/// How the runs ended, in their order.
async fn outcomes(fixture: &RuntimeFixture) -> Vec<(Option<RunId>, RunOutcome)> {
    let ends = fixture.log().await;
    let ends = ends.iter().filter_map(|event| match &event.body {
        EventBody::RunFinished(end) => Some((event.run_id, end.outcome)),
        _ => None,
    });
    ends.collect()
}

#[tokio::test(start_paused = true)]
async fn pending_cancel_survives_a_takeover() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("half"), ReplyStep::Wait(gate.clone())], vec![text("and on it goes")]]);
    let fixture = RuntimeFixture::new(&model).await;
    let receipt = fixture.say("hi").await;
    gate.arrived().await;
    // The store goes away just when the run would write its end.
    fixture.store.failing.store(2, Ordering::SeqCst);
    fixture.submit(CommandBody::Cancel { run_id: None }).await.unwrap();
    fixture.rest(ApprovalDecision::Approve).await;
    assert_eq!(outcomes(&fixture).await, [(receipt.run_id, RunOutcome::Cancelled)]);
    assert_eq!(model.requests().len(), 1, "the model is not asked again");
}

#[tokio::test]
async fn cancel_ends_only_its_run() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("one"), ReplyStep::Wait(gate.clone())], vec![text("two")]]);
    let fixture = RuntimeFixture::new(&model).await;
    let first = fixture.say("one").await;
    gate.arrived().await;
    // Both find the first run over: the message waits for it, and the cancel came too late.
    leave(&fixture, message("two", OnBusy::Enqueue)).await;
    leave(&fixture, CommandBody::Cancel { run_id: first.run_id }).await;
    gate.open();
    fixture.rest(ApprovalDecision::Approve).await;
    let outcomes: Vec<RunOutcome> = outcomes(&fixture).await.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [RunOutcome::Completed; 2]);
}

#[tokio::test]
async fn interrupting_message_interrupts_another() {
    // Whichever of the two asks the model first.
    let fixture = RuntimeFixture::new(&ScriptedModel::new([vec![text("a")], vec![text("b")]])).await;
    leave(&fixture, message("one", OnBusy::Interrupt)).await;
    leave(&fixture, message("two", OnBusy::Interrupt)).await;
    fixture.submit(CommandBody::Title { title: "wake up".into() }).await.unwrap();
    fixture.rest(ApprovalDecision::Approve).await;
    let outcomes: Vec<RunOutcome> = outcomes(&fixture).await.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [RunOutcome::Cancelled, RunOutcome::Completed]);
}

#[tokio::test(start_paused = true)]
async fn queued_message_runs_after_a_failed_start() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([])).await;
    let gone = SettingsPatch { provider: Some("gone".into()), ..SettingsPatch::default() };
    leave(&fixture, CommandBody::Settings(gone)).await;
    leave(&fixture, message("one", OnBusy::Enqueue)).await;
    leave(&fixture, message("two", OnBusy::Enqueue)).await;
    let began = tokio::time::Instant::now();
    fixture.submit(CommandBody::Title { title: "wake up".into() }).await.unwrap();
    fixture.rest(ApprovalDecision::Approve).await;
    let failed = fixture.log().await.iter().filter(|e| matches!(e.body, EventBody::RunFailed(_))).count();
    assert_eq!(failed, 2);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn panicked_run_fails_and_the_next_message_is_answered() {
    let model = ScriptedModel::new([vec![call("look", json!({"panic": true}))], vec![text("fine")]]);
    let fixture = RuntimeFixture::new(&model).await;
    let first = fixture.say("one").await;
    let second = fixture.say("two").await;
    fixture.rest(ApprovalDecision::Approve).await;
    let log = fixture.log().await;
    assert_whole(&log, &load_state(fixture.store.as_ref(), fixture.session).await.unwrap().state);
    let failed = log.iter().find(|event| event.run_id == first.run_id && event.body.ends_run()).unwrap();
    assert!(matches!(&failed.body, EventBody::RunFailed(failed) if failed.code == "internal"), "{failed:?}");
    assert_eq!(outcomes(&fixture).await, [(second.run_id, RunOutcome::Completed)]);
}

#[tokio::test(start_paused = true)]
async fn shutdown_leaves_the_run_to_the_next_owner() {
    let gate = TestGate::new();
    let fixture = RuntimeFixture::new(&ScriptedModel::new([vec![text("half"), ReplyStep::Wait(gate.clone())]])).await;
    let receipt = fixture.say("hi").await;
    gate.arrived().await;
    let waiting = fixture.say("later").await;
    fixture.sessions.shutdown(Duration::from_secs(30)).await;
    assert_eq!(fixture.sessions.owned_count(), 0);
    let summary = fixture.store.read_summary(fixture.session).await.unwrap().unwrap();
    assert_eq!(summary.open_run, receipt.run_id, "the run is not ended");
    let left = fixture.store.list_inbox(fixture.session).await.unwrap();
    assert_eq!(left.iter().map(|entry| entry.command.run_id()).collect::<Vec<_>>(), [waiting.run_id]);
    fixture.store.acquire_lease(fixture.session, "another", Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn user_title_is_kept() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([])).await;
    leave(&fixture, CommandBody::Title { title: "mine".into() }).await;
    fixture.say("a message that a title could be made of").await;
    fixture.rest(ApprovalDecision::Approve).await;
    assert_eq!(fixture.sessions.get_session(&fixture.user, fixture.session).await.unwrap().title, "mine");
}

#[tokio::test]
async fn session_deleted_during_a_run_stays_deleted() {
    let gate = TestGate::new();
    let fixture =
        RuntimeFixture::new(&ScriptedModel::new([vec![text("a"), ReplyStep::Wait(gate.clone()), text("b")]])).await;
    fixture.say("hi").await;
    gate.arrived().await;
    let mut cursor = fixture.sessions.open_cursor(&fixture.user, fixture.session, 0).await.unwrap();
    fixture.sessions.delete_session(&fixture.user, fixture.session).await.unwrap();
    gate.open();
    while cursor.next().await.unwrap().is_some() {}
    let gone = fixture.sessions.get_session(&fixture.user, fixture.session).await;
    assert!(matches!(gone, Err(SessionsError::NotFound(_))));
}

/// Begins something, and gives it up after so many looks at it, as a handler does whose client hangs up.
async fn hang_up_after<T>(looks: usize, work: impl Future<Output = T>) {
    let mut work = std::pin::pin!(work);
    for _ in 0..looks {
        if poll!(work.as_mut()).is_ready() {
            return;
        }
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn message_of_a_disconnected_client_runs_or_is_absent() {
    for looks in 0..8 {
        let fixture = RuntimeFixture::new(&ScriptedModel::new([vec![text("hi")], vec![text("hi")]])).await;
        fixture.sessions.set_capacity_limits(CapacityLimits { sessions_per_user: 10, runs: 1, runs_per_user: 1 });
        hang_up_after(looks, fixture.submit(message("hi", OnBusy::Enqueue))).await;
        fixture.sessions.0.tasks.close();
        tokio::time::timeout(Duration::from_secs(30), fixture.sessions.0.tasks.wait()).await.unwrap();
        assert!(
            fixture.store.list_inbox(fixture.session).await.unwrap().is_empty(),
            "the session has no work, after {looks} polls"
        );
        // The one place for a run is free again.
        fixture.sessions.0.tasks.reopen();
        fixture.say("again").await;
        fixture.rest(ApprovalDecision::Deny).await;
    }
}

#[tokio::test]
async fn audit_records_survive_disconnected_clients() {
    let mut created = 0;
    for looks in 0..8 {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = AuditTrail::open(&AuditDestination::File(path.clone()), "r", Arc::new(Metrics::new())).unwrap();
        let fixture = RuntimeFixture::with_audit(&ScriptedModel::new([]), audit.clone()).await;
        hang_up_after(
            looks,
            fixture.sessions.create_session(&fixture.user, new_session(SessionSettings::for_model("p", "m")), None),
        )
        .await;
        hang_up_after(looks, fixture.sessions.delete_session(&fixture.user, fixture.session)).await;
        fixture.sessions.0.tasks.close();
        tokio::time::timeout(Duration::from_secs(30), fixture.sessions.0.tasks.wait()).await.unwrap();
        audit.close().await;
        let trail = std::fs::read_to_string(path).unwrap();
        let deleted = fixture.store.read_summary(fixture.session).await.unwrap().is_none();
        assert_eq!(trail.matches("session_deleted").count(), usize::from(deleted), "after {looks} looks: {trail}");
        let left = fixture.store.count_sessions(&fixture.user).await.unwrap() + usize::from(deleted);
        assert_eq!(trail.matches("session_created").count(), left, "after {looks} looks: {trail}");
        created += left - 1;
    }
    assert!(created > 0);
}
