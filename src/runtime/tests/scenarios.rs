//! Single scenarios: commits, takeovers, cancels and clients that disconnect.

use super::*;

#[tokio::test]
async fn events_during_a_commit_join_the_next_commit() {
    let looks = (0..8).map(|_| call("look", json!({}))).collect();
    let world = World::new(&ScriptedModel::new([looks])).await;
    world.say("look around").await;
    world.rest(ApprovalDecision::Approve).await;
    let commits = world.store.commits.load(Ordering::SeqCst);
    // 8 starts and 8 ends in four at a time, and five events around them: one commit each would be 21.
    assert!(commits <= 12, "{commits} commits");
}

#[tokio::test(start_paused = true)]
async fn unavailable_store_only_delays_a_run() {
    let model = ScriptedModel::new([vec![text("first try")]]);
    let world = World::new(&model).await;
    world.store.failing.store(3, Ordering::SeqCst);
    let receipt = world.say("hi").await;
    world.rest(ApprovalDecision::Approve).await;
    let log = world.log().await;
    let state = load_state(world.store.as_ref(), world.session).await.unwrap().state;
    assert_whole(&log, &state);
    assert!(log.iter().any(|e| e.run_id == receipt.run_id && matches!(e.body, EventBody::RunFinished(_))));
}

#[tokio::test(start_paused = true)]
async fn idle_owner_releases_its_session() {
    let world = World::new(&ScriptedModel::new([])).await;
    world.say("hi").await;
    world.rest(ApprovalDecision::Approve).await;
    assert_eq!(world.sessions.owned_count(), 1);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(world.sessions.owned_count(), 0);
    // And the next message finds a new one.
    world.say("again").await;
    world.rest(ApprovalDecision::Approve).await;
    assert_eq!(world.log().await.iter().filter(|e| e.body.ends_run()).count(), 2);
}

#[tokio::test]
async fn checkpoints_weigh_at_most_twice_the_log() {
    let world = World::new(&ScriptedModel::new([])).await;
    let content = "x".repeat(4000);
    for _ in 0..150 {
        world.say(&content).await;
        world.rest(ApprovalDecision::Approve).await;
    }
    let log: u64 = world.log().await.iter().map(|e| e.estimated_bytes()).sum();
    let checkpoints = world.store.checkpoints.lock();
    let written: u64 = checkpoints.iter().sum();
    assert!(checkpoints.len() >= 3, "{checkpoints:?}");
    assert!(written <= 2 * log, "{written} bytes of checkpoints for {log} bytes of log");
}

#[tokio::test]
async fn early_cancel_cancels_its_run() {
    let gate = TestGate::new();
    let world = World::new(&ScriptedModel::new([vec![text("never said"), ReplyStep::Hang]])).await;
    *world.store.slow.lock() = Some(gate.clone());
    world.say("hi").await;
    gate.arrived().await;
    world.submit(CommandBody::Cancel { run_id: None }).await.unwrap();
    *world.store.slow.lock() = None;
    gate.open();
    world.rest(ApprovalDecision::Approve).await;
    assert!(
        matches!(&world.log().await.last().unwrap().body, EventBody::RunFinished(e) if e.outcome == RunOutcome::Cancelled)
    );
}

#[tokio::test]
async fn first_of_concurrent_answers_counts() {
    let world = World::new(&ScriptedModel::new([vec![call("change", json!({}))]])).await;
    let receipt = world.say("hi").await;
    let mut cursor = world.sessions.open_cursor(&world.user, world.session, receipt.seq).await.unwrap();
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
            by: world.user.clone(),
            body,
        };
        // Past the door, so that the owner finds them all at once.
        world.store.submit_command(world.session, command).await.unwrap();
    }
    world.submit(CommandBody::Title { title: "wake up".into() }).await.unwrap();
    world.rest(ApprovalDecision::Approve).await;
    let answers: Vec<ApprovalDecision> = world
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

/// Takes a command past the door: into the inbox, without waking anybody.
async fn leave(world: &World, body: CommandBody) {
    let command =
        SessionCommand { command_id: CommandId::generate(), fingerprint: String::new(), by: world.user.clone(), body };
    world.store.submit_command(world.session, command).await.unwrap();
}

/// How the runs ended, in their order.
async fn outcomes(world: &World) -> Vec<(Option<RunId>, RunOutcome)> {
    let ends = world.log().await;
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
    let world = World::new(&model).await;
    let receipt = world.say("hi").await;
    gate.arrived().await;
    // The store goes away just when the run would write its end.
    world.store.failing.store(2, Ordering::SeqCst);
    world.submit(CommandBody::Cancel { run_id: None }).await.unwrap();
    world.rest(ApprovalDecision::Approve).await;
    assert_eq!(outcomes(&world).await, [(receipt.run_id, RunOutcome::Cancelled)]);
    assert_eq!(model.requests().len(), 1, "the model is not asked again");
}

#[tokio::test]
async fn cancel_ends_only_its_run() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("one"), ReplyStep::Wait(gate.clone())], vec![text("two")]]);
    let world = World::new(&model).await;
    let first = world.say("one").await;
    gate.arrived().await;
    // Both find the first run over: the message waits for it, and the cancel came too late.
    leave(&world, message("two", OnBusy::Enqueue)).await;
    leave(&world, CommandBody::Cancel { run_id: first.run_id }).await;
    gate.open();
    world.rest(ApprovalDecision::Approve).await;
    let outcomes: Vec<RunOutcome> = outcomes(&world).await.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [RunOutcome::Completed; 2]);
}

#[tokio::test]
async fn interrupting_message_interrupts_another() {
    // Whichever of the two asks the model first.
    let world = World::new(&ScriptedModel::new([vec![text("a")], vec![text("b")]])).await;
    leave(&world, message("one", OnBusy::Interrupt)).await;
    leave(&world, message("two", OnBusy::Interrupt)).await;
    world.submit(CommandBody::Title { title: "wake up".into() }).await.unwrap();
    world.rest(ApprovalDecision::Approve).await;
    let outcomes: Vec<RunOutcome> = outcomes(&world).await.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [RunOutcome::Cancelled, RunOutcome::Completed]);
}

#[tokio::test(start_paused = true)]
async fn queued_message_runs_after_a_failed_start() {
    let world = World::new(&ScriptedModel::new([])).await;
    let gone = SettingsPatch { provider: Some("gone".into()), ..SettingsPatch::default() };
    leave(&world, CommandBody::Settings(gone)).await;
    leave(&world, message("one", OnBusy::Enqueue)).await;
    leave(&world, message("two", OnBusy::Enqueue)).await;
    let began = tokio::time::Instant::now();
    world.submit(CommandBody::Title { title: "wake up".into() }).await.unwrap();
    world.rest(ApprovalDecision::Approve).await;
    let failed = world.log().await.iter().filter(|e| matches!(e.body, EventBody::RunFailed(_))).count();
    assert_eq!(failed, 2);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn user_title_is_kept() {
    let world = World::new(&ScriptedModel::new([])).await;
    leave(&world, CommandBody::Title { title: "mine".into() }).await;
    world.say("a message that a title could be made of").await;
    world.rest(ApprovalDecision::Approve).await;
    assert_eq!(world.sessions.get_session(&world.user, world.session).await.unwrap().title, "mine");
}

#[tokio::test]
async fn session_deleted_during_a_run_stays_deleted() {
    let gate = TestGate::new();
    let world = World::new(&ScriptedModel::new([vec![text("a"), ReplyStep::Wait(gate.clone()), text("b")]])).await;
    world.say("hi").await;
    gate.arrived().await;
    let mut cursor = world.sessions.open_cursor(&world.user, world.session, 0).await.unwrap();
    world.sessions.delete_session(&world.user, world.session).await.unwrap();
    gate.open();
    while cursor.next().await.unwrap().is_some() {}
    let gone = world.sessions.get_session(&world.user, world.session).await;
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
        let world = World::new(&ScriptedModel::new([vec![text("hi")], vec![text("hi")]])).await;
        world.sessions.set_capacity_limits(CapacityLimits { sessions_per_user: 10, runs: 1, runs_per_user: 1 });
        hang_up_after(looks, world.submit(message("hi", OnBusy::Enqueue))).await;
        world.sessions.0.tasks.close();
        tokio::time::timeout(Duration::from_secs(30), world.sessions.0.tasks.wait()).await.unwrap();
        assert!(
            world.store.list_inbox(world.session).await.unwrap().is_empty(),
            "the session has no work, after {looks} polls"
        );
        // The one place for a run is free again.
        world.sessions.0.tasks.reopen();
        world.say("again").await;
        world.rest(ApprovalDecision::Deny).await;
    }
}

#[tokio::test]
async fn audit_records_survive_disconnected_clients() {
    let mut created = 0;
    for looks in 0..8 {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = AuditTrail::open(&AuditDestination::File(path.clone()), "r", Arc::new(Metrics::new())).unwrap();
        let world = World::with_audit(&ScriptedModel::new([]), audit.clone()).await;
        hang_up_after(looks, world.sessions.create_session(&world.user, None, SessionSettings::for_model("p", "m")))
            .await;
        hang_up_after(looks, world.sessions.delete_session(&world.user, world.session)).await;
        world.sessions.0.tasks.close();
        tokio::time::timeout(Duration::from_secs(30), world.sessions.0.tasks.wait()).await.unwrap();
        audit.close().await;
        let trail = std::fs::read_to_string(path).unwrap();
        let deleted = world.store.read_summary(world.session).await.unwrap().is_none();
        assert_eq!(trail.matches("session_deleted").count(), usize::from(deleted), "after {looks} looks: {trail}");
        let left = world.store.count_sessions(&world.user).await.unwrap() + usize::from(deleted);
        assert_eq!(trail.matches("session_created").count(), left, "after {looks} looks: {trail}");
        created += left - 1;
    }
    assert!(created > 0);
}
