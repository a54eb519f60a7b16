//! Rules of logs and leases: commits, fencing, checkpoints.

use std::{sync::Arc, time::Duration};

use super::fixtures::{
    CheckpointWrite, SessionWriter, acquire_when_free, create_test_session, message_body, read_log, run_drafts,
    test_command, warning_draft,
};
use k8sops_core::{
    ConfirmableWrite, EventBody, EventDraft, LeaseEpoch, LogCommit, LogHead, LogLineage, LogTruncated, LostBranch,
    LostToolCall, RunId, SessionLease, SessionStore, StoreError, load_state,
};

pub(super) async fn committed_events_are_read_from_any_seq(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    for n in 0..20 {
        let drafts = (0..n % 4).map(|m| warning_draft(&format!("{n}.{m} ä\n\"{}", "x".repeat(n * 200)))).collect();
        writer.commit(drafts, &[], CheckpointWrite::when(n % 7 == 6)).await.unwrap();
    }
    let all = read_log(store, session, 0, 1000).await;
    assert_eq!(all.len() as u64, writer.state.last_seq());
    for after in 0..=all.len() {
        let rest = &all[after..];
        for limit in [1, 2, 3, 7, 1000] {
            assert_eq!(read_log(store, session, after as u64, limit).await, rest, "after {after} in pages of {limit}");
        }
    }
    let beyond = store.read_events(session, 10_000, 10).await.unwrap();
    assert!(beyond.events.is_empty());
    assert_eq!((beyond.last_seq, beyond.oldest_seq), (writer.state.last_seq(), 1));
    assert_eq!(store.read_summary(session).await.unwrap(), Some(writer.state.summary));
}

pub(super) async fn old_epoch_is_fenced(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut late = SessionWriter::acquire(store, session, "a").await;
    store.release_lease(late.lease).await.unwrap();
    let mut new = SessionWriter::acquire(store, session, "b").await;
    assert!(new.lease.epoch > late.lease.epoch, "an epoch only grows");
    let refused = late.commit(vec![warning_draft("late")], &[], CheckpointWrite::Write).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    let refused = store.renew_lease(late.lease, Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    // Releasing a lost lease is no error, and does not affect the owner.
    store.release_lease(late.lease).await.unwrap();
    new.append(vec![warning_draft("new")]).await.unwrap();
    assert_eq!(read_log(store, session, 1, 10).await.len(), 1);
}

pub(super) async fn released_lease_is_fenced(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    store.release_lease(writer.lease).await.unwrap();
    let refused = writer.append(vec![warning_draft("late")]).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    let never = SessionLease { session, epoch: LeaseEpoch(999) };
    let refused = store.renew_lease(never, Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
}

pub(super) async fn wrong_expected_seq_is_rejected(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    let before = writer.state.clone();
    let lineage = writer.lineage;
    writer.append(vec![warning_draft("one")]).await.unwrap();
    let after = std::mem::replace(&mut writer.state, before);
    writer.lineage = lineage;
    let refused = writer.append(vec![warning_draft("again")]).await;
    assert!(matches!(refused, Err(StoreError::SeqConflict { expected: 1, found: 2, .. })), "{refused:?}");
    assert_eq!(load_state(store, session).await.unwrap().state, after);
}

pub(super) async fn events_with_gaps_are_rejected(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let writer = SessionWriter::acquire(store, session, "a").await;
    for seqs in [&[1][..], &[3], &[2, 4], &[2, 2]] {
        let events: Vec<_> = seqs.iter().map(|seq| Arc::new(warning_draft("x").into_event(session, *seq))).collect();
        let commit = LogCommit {
            session,
            epoch: writer.lease.epoch,
            expected_seq: 1,
            expected_lineage: writer.lineage,
            events: &events,
            consumed: &[],
            summary: &writer.state.summary,
            checkpoint: None,
        };
        let refused = store.commit_events(commit).await;
        assert!(matches!(refused, Err(StoreError::SeqConflict { .. })), "{seqs:?}: {refused:?}");
    }
    assert_eq!(read_log(store, session, 0, 10).await.len(), 1);
}

pub(super) async fn one_of_two_concurrent_writers_wins(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut one = SessionWriter::acquire(store, session, "a").await;
    for n in 0..10 {
        let mut other = SessionWriter { store, lease: one.lease, state: one.state.clone(), lineage: one.lineage };
        let (first, second) =
            tokio::join!(one.append(vec![warning_draft("one")]), other.append(vec![warning_draft("other")]));
        assert!(first.is_ok() != second.is_ok(), "round {n}: {first:?} {second:?}");
        let loaded = load_state(store, session).await.unwrap();
        one.state = loaded.state;
        one.lineage = loaded.head.lineage;
    }
    assert_eq!(read_log(store, session, 0, 100).await.len(), 11);
}

pub(super) async fn lease_is_held_until_it_expires(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let long = Duration::from_secs(60);
    let lease = store.acquire_lease(session, "a", Duration::from_millis(50)).await.unwrap();
    store.renew_lease(lease, long).await.unwrap();
    let held = store.acquire_lease(session, "b", long).await;
    assert!(matches!(held, Err(StoreError::Held(_))), "{held:?}");
    store.renew_lease(lease, Duration::from_millis(1)).await.unwrap();
    let taken = acquire_when_free(store, session, "b", long).await;
    assert!(taken.epoch > lease.epoch);
    assert!(matches!(store.renew_lease(lease, long).await, Err(StoreError::Fenced { .. })));
}

pub(super) async fn checkpoint_and_later_events_equal_the_fold(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    assert_eq!(store.read_checkpoint(session).await.unwrap(), None);
    for n in 0..12 {
        let before = writer.state.clone();
        let checkpoint = n % 3 == 2;
        writer.commit(run_drafts(&format!("turn {n}")), &[], CheckpointWrite::when(checkpoint)).await.unwrap();
        if checkpoint {
            assert_eq!(store.read_checkpoint(session).await.unwrap(), Some(before));
        }
        assert_eq!(load_state(store, session).await.unwrap().state, writer.state, "after turn {n}");
    }
    let mut empty = SessionWriter { store, lease: writer.lease, state: writer.state.clone(), lineage: writer.lineage };
    empty.commit(Vec::new(), &[], CheckpointWrite::Write).await.unwrap();
    assert_eq!(store.read_checkpoint(session).await.unwrap(), Some(writer.state));
}

pub(super) async fn chain_value_is_read_at_any_seq(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    let Some(first) = writer.lineage else { return assert_no_chain(&mut writer).await };
    let mut heads = vec![LogHead { seq: 1, lineage: Some(first) }];
    for n in 0..6 {
        writer.append((0..n % 3).map(|m| warning_draft(&format!("{n}.{m}"))).collect()).await.unwrap();
        assert_eq!(load_state(store, session).await.unwrap().head.lineage, writer.lineage);
        heads.push(LogHead { seq: writer.state.last_seq(), lineage: writer.lineage });
    }
    heads.dedup();
    let other = LogLineage::extend(None, b"another log");
    for held in &heads {
        for limit in [1, 2, 100] {
            let page = store.read_events(session, held.seq, limit).await.unwrap();
            assert!(page.continues(*held), "{held:?}");
            assert!(page.continues(LogHead::at_seq(held.seq)), "{held:?}");
            assert!(!page.continues(LogHead { lineage: Some(other), ..*held }), "{held:?}");
            let end = store.read_events(session, page.end().seq, 1).await.unwrap();
            assert!(page.end().lineage.is_some() && end.continues(page.end()), "{held:?} in pages of {limit}");
        }
    }
    let beyond = LogHead::at_seq(writer.state.last_seq() + 1);
    assert!(!store.read_events(session, beyond.seq, 1).await.unwrap().continues(beyond));
}

async fn assert_no_chain(writer: &mut SessionWriter<'_>) {
    writer.append(vec![warning_draft("x")]).await.unwrap();
    assert_eq!(writer.lineage, None, "a store that keeps no chain values returns none");
}

pub(super) async fn commit_after_a_lost_branch_is_rejected(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    if writer.lineage.is_none() {
        return;
    }
    let known = writer.lineage.replace(LogLineage::extend(None, b"a lost branch"));
    let refused = writer.append(vec![warning_draft("late")]).await;
    assert!(matches!(refused, Err(StoreError::Forked { seq: 1, .. })), "{refused:?}");
    writer.lineage = known;
    writer.append(vec![warning_draft("one")]).await.unwrap();
}

/// Commits the event that says what was lost.
async fn commit_truncation(
    store: &dyn SessionStore,
    writer: &mut SessionWriter<'_>,
    lost: &LostBranch,
) -> Result<(), StoreError> {
    let session = writer.lease.session;
    let truncated = LogTruncated { from_seq: 2, lost: 6, lost_calls: lost.calls.clone() };
    let event = EventDraft::new(EventBody::LogTruncated(truncated)).into_event(session, lost.next_seq(1, 0));
    let mut after = writer.state.clone();
    after.apply_event(&event);
    let commit = LogCommit {
        session,
        epoch: writer.lease.epoch,
        expected_seq: 1,
        expected_lineage: writer.lineage,
        events: &[Arc::new(event)],
        consumed: &[],
        summary: &after.summary,
        checkpoint: None,
    };
    writer.lineage = store.commit_events(commit).await?;
    writer.state = after;
    Ok(())
}

pub(super) async fn seqs_of_a_lost_branch_are_left_out(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    if writer.lineage.is_none() {
        return;
    }
    let call = |id: &str| LostToolCall {
        run_id: RunId::new(),
        tool_call_id: id.parse().expect("a valid id"),
        name: "scale".into(),
        server: "k8s".into(),
        arguments: serde_json::json!({"replicas": 0}),
    };
    let calls = [call("call_1"), call("call_2")];
    for report in
        [LostBranch { known_seq: 7, calls: vec![calls[0].clone()] }, LostBranch { known_seq: 5, calls: calls.to_vec() }]
    {
        store.report_lost_branch(session, &report).await.unwrap();
    }
    let refused = writer.append(vec![warning_draft("seq 2 was used")]).await;
    assert!(matches!(refused, Err(StoreError::Forked { seq: 7, .. })), "{refused:?}");
    let loaded = load_state(store, session).await.unwrap();
    let lost = loaded.lost_branch.expect("it was reported");
    assert_eq!(lost, LostBranch { known_seq: 7, calls: calls.to_vec() });

    // A report that comes after the owner has loaded the session is not erased by what the owner says.
    let late = LostBranch { known_seq: 6, calls: vec![call("call_3")] };
    store.report_lost_branch(session, &late).await.unwrap();
    let refused = commit_truncation(store, &mut writer, &lost).await;
    assert!(matches!(refused, Err(StoreError::Forked { .. })), "{refused:?}");
    let lost = load_state(store, session).await.unwrap().lost_branch.expect("it was reported");
    assert_eq!(lost.calls.len(), 3);
    commit_truncation(store, &mut writer, &lost).await.unwrap();
    writer.append(vec![warning_draft("next")]).await.unwrap();
    let loaded = load_state(store, session).await.unwrap();
    assert_eq!((loaded.state, loaded.lost_branch), (writer.state, None));
    let seqs: Vec<u64> = read_log(store, session, 0, 1).await.iter().map(|event| event.seq).collect();
    assert!(
        matches!(seqs[..], [1, said_lost, next] if said_lost > lost.known_seq && next == said_lost + 1),
        "{seqs:?}"
    );
    let page = store.read_events(session, 5, 10).await.unwrap();
    assert!(!page.continues(LogHead::at_seq(5)), "5 is one of the seqs that are left out");
    assert!(store.read_events(session, 1, 10).await.unwrap().continues(LogHead::at_seq(1)));
}

pub(super) async fn writes_are_confirmed(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    store.confirm_write(session, ConfirmableWrite::Creation).await.unwrap();
    let command = test_command("c1", message_body("hi"));
    store.submit_command(session, command.clone()).await.unwrap();
    let submitted = ConfirmableWrite::Command { by: &command.by, command_id: &command.command_id };
    store.confirm_write(session, submitted).await.unwrap();
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    let position = store.list_inbox(session).await.unwrap()[0].position;
    writer.commit(run_drafts("hi"), &[position], CheckpointWrite::Skip).await.unwrap();
    let head = LogHead { seq: writer.state.last_seq(), lineage: writer.lineage };
    for round in 0..2 {
        // A command that was handled is as confirmed as one that waits, and events that others follow as the newest.
        store.confirm_write(session, submitted).await.unwrap();
        store.confirm_write(session, ConfirmableWrite::Events(head)).await.unwrap();
        writer.append(vec![warning_draft(&round.to_string())]).await.unwrap();
    }
}
