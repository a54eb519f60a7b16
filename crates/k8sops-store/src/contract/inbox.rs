//! Rules of the inbox.

use std::sync::Arc;

use super::fixtures::{
    CheckpointWrite, SessionWriter, create_test_session, fold_drafts, message_body, message_body_if_idle, read_log,
    run_drafts, test_command, test_user, warning_draft,
};
use k8sops_core::{
    CommandBody, CommandReceipt, INBOX_LIMIT, INBOX_LIMIT_ALL, LogCommit, NewCommandCommit, SessionCommand,
    SessionStore, StoreError,
};

pub(super) async fn commands_are_consumed_with_the_commit(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    for n in 0..5 {
        let receipt = store.submit_command(session, test_command(&format!("c{n}"), message_body("hi"))).await.unwrap();
        assert_eq!((receipt.seq, receipt.duplicate), (1, false));
    }
    let entries = store.list_inbox(session).await.unwrap();
    let ids: Vec<_> = entries.iter().map(|entry| entry.command.command_id.as_str()).collect();
    assert_eq!(ids, ["c0", "c1", "c2", "c3", "c4"]);
    assert!(entries.is_sorted_by_key(|entry| entry.position));
    // A rejected commit consumes nothing.
    let head = std::mem::replace(&mut writer.state.summary.last_seq, 7);
    assert!(writer.commit(vec![warning_draft("x")], &[entries[0].position], CheckpointWrite::Skip).await.is_err());
    writer.state.summary.last_seq = head;
    assert_eq!(store.list_inbox(session).await.unwrap().len(), 5);
    writer
        .commit(vec![warning_draft("x")], &[entries[1].position, entries[3].position], CheckpointWrite::Write)
        .await
        .unwrap();
    let left: Vec<_> = store.list_inbox(session).await.unwrap();
    assert_eq!(left, [entries[0].clone(), entries[2].clone(), entries[4].clone()]);
    // A commit without events consumes commands, too.
    writer.commit(Vec::new(), &[entries[0].position], CheckpointWrite::Skip).await.unwrap();
    store.submit_command(session, test_command("c5", message_body("hi"))).await.unwrap();
    let left = store.list_inbox(session).await.unwrap();
    assert!(left.last().is_some_and(|new| new.position > entries[4].position), "positions are not reused");
    assert_eq!(left.last().map(|new| new.accepted_seq), Some(2));
}

pub(super) async fn duplicate_command_returns_its_first_receipt(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    let first = test_command("c1", message_body("hi"));
    let receipt = store.submit_command(session, first.clone()).await.unwrap();
    let position = store.list_inbox(session).await.unwrap()[0].position;
    let again = |receipt: &CommandReceipt| CommandReceipt { duplicate: true, ..receipt.clone() };
    // While the command waits, and after it was consumed. The repeated command has new ids, as a repeated request has.
    for consumed in [&[position][..], &[]] {
        let CommandBody::Message { content, .. } = &first.body else { unreachable!("it is a message") };
        let second = SessionCommand { body: message_body(content), ..first.clone() };
        assert_eq!(store.submit_command(session, second).await.unwrap(), again(&receipt));
        let other = test_command("c1", CommandBody::Cancel { run_id: None });
        let refused = store.submit_command(session, other).await;
        assert!(matches!(refused, Err(StoreError::CommandIdReused)), "{refused:?}");
        let kept = store.find_receipt(session, &first.by, &first.command_id).await.unwrap();
        assert_eq!(kept.as_ref(), Some(&receipt));
        writer.commit(run_drafts("hi"), consumed, CheckpointWrite::Write).await.unwrap();
    }
    // The same id of another sender is another command.
    let approver = SessionCommand { by: test_user("ben"), ..test_command("c1", CommandBody::Cancel { run_id: None }) };
    assert_eq!(store.find_receipt(session, &approver.by, &approver.command_id).await.unwrap(), None);
    let theirs = store.submit_command(session, approver.clone()).await.unwrap();
    assert!(!theirs.duplicate);
    let kept = store.find_receipt(session, &approver.by, &approver.command_id).await.unwrap();
    assert_eq!(kept.as_ref(), Some(&theirs));
    let position = store.list_inbox(session).await.unwrap()[0].position;
    writer.commit(Vec::new(), &[position], CheckpointWrite::Skip).await.unwrap();
    assert!(store.list_inbox(session).await.unwrap().is_empty());
}

pub(super) async fn message_that_its_sender_submits_again_is_no_duplicate(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    let [waiting, committed] = ["c1", "c2"].map(|id| test_command(id, message_body("hi")));
    let committed_receipt = writer.commit_new_command(&committed, run_drafts("hi")).await.unwrap().unwrap();
    let waiting_receipt = store.submit_command(session, waiting.clone()).await.unwrap();
    // The ids of its run are those of the first submission, of which the sender may have got no reply.
    for (command, receipt) in [(waiting, waiting_receipt), (committed, committed_receipt)] {
        assert_eq!(store.submit_command(session, command).await.unwrap(), receipt);
    }
    assert_eq!(store.list_inbox(session).await.unwrap().len(), 1);
}

pub(super) async fn summary_tells_whether_a_message_waits(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let waits = async |expected: bool, when: &str| {
        let summary = store.read_summary(session).await.unwrap().unwrap();
        assert_eq!(summary.waiting, expected, "{when}");
        assert_eq!(store.list_sessions(&test_user("anna"), None, 10).await.unwrap(), [summary], "listed: {when}");
    };
    waits(false, "a new session").await;
    store.submit_command(session, test_command("cancel", CommandBody::Cancel { run_id: None })).await.unwrap();
    waits(false, "a cancel is no message").await;
    store.submit_command(session, test_command("c1", message_body("hi"))).await.unwrap();
    waits(true, "before the session has an owner").await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    waits(true, "owned, not consumed").await;
    store.release_lease(writer.lease).await.unwrap();
    waits(true, "released again").await;
    writer = SessionWriter::acquire(store, session, "b").await;
    let positions: Vec<u64> = store.list_inbox(session).await.unwrap().iter().map(|e| e.position).collect();
    writer.commit(vec![warning_draft("x")], &positions[..1], CheckpointWrite::Skip).await.unwrap();
    waits(true, "the cancel was consumed").await;
    // The writer may have loaded a summary that had the flag set.
    writer.state.summary.waiting = true;
    writer.commit(run_drafts("hi"), &positions[1..], CheckpointWrite::Write).await.unwrap();
    waits(false, "consumed").await;
    store.submit_command(session, test_command("c2", message_body("again"))).await.unwrap();
    waits(true, "the next").await;
}

pub(super) async fn busy_session_rejects_message_on_request(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    store.submit_command(session, test_command("cancel", CommandBody::Cancel { run_id: None })).await.unwrap();
    store.submit_command(session, test_command("c1", message_body_if_idle("hi"))).await.unwrap();
    let refused = store.submit_command(session, test_command("c2", message_body_if_idle("hi"))).await;
    assert!(matches!(refused, Err(StoreError::Busy(_))), "a message waits: {refused:?}");
    let positions: Vec<u64> = store.list_inbox(session).await.unwrap().iter().map(|e| e.position).collect();
    let mut events = run_drafts("hi");
    let finished = events.pop().unwrap();
    writer.commit(events, &positions, CheckpointWrite::Skip).await.unwrap();
    let refused = store.submit_command(session, test_command("c2", message_body_if_idle("hi"))).await;
    assert!(matches!(refused, Err(StoreError::Busy(_))), "a run is open: {refused:?}");
    writer.append(vec![finished]).await.unwrap();
    store.submit_command(session, test_command("c2", message_body_if_idle("hi"))).await.unwrap();
}

pub(super) async fn full_inbox_rejects_commands(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    for n in 0..INBOX_LIMIT {
        store.submit_command(session, test_command(&format!("c{n}"), message_body("hi"))).await.unwrap();
    }
    let refused = store.submit_command(session, test_command("one-more", message_body("hi"))).await;
    assert!(matches!(refused, Err(StoreError::InboxFull(INBOX_LIMIT))), "{refused:?}");
    let missing = test_command("one-more", message_body("hi"));
    assert_eq!(store.find_receipt(session, &missing.by, &missing.command_id).await.unwrap(), None);
    // A cancel is accepted behind any number of messages, up to the limit of all commands.
    for n in INBOX_LIMIT..INBOX_LIMIT_ALL {
        store
            .submit_command(session, test_command(&format!("c{n}"), CommandBody::Cancel { run_id: None }))
            .await
            .unwrap();
    }
    let refused = store.submit_command(session, test_command("too-many", CommandBody::Cancel { run_id: None })).await;
    assert!(matches!(refused, Err(StoreError::InboxFull(INBOX_LIMIT_ALL))), "{refused:?}");
    store
        .submit_command(session, test_command("c0", message_body("hi")))
        .await
        .expect_err("other ids, other fingerprint");
}

pub(super) async fn new_command_is_committed_with_its_events(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    let command = test_command("c1", message_body("hi"));
    let receipt = writer.commit_new_command(&command, run_drafts("hi")).await.unwrap().expect("nothing waits");
    assert_eq!(receipt, CommandReceipt::for_command(&command, 1));
    assert_eq!(read_log(store, session, 0, 100).await.len(), 4);
    assert!(store.list_inbox(session).await.unwrap().is_empty());
    assert!(!store.read_summary(session).await.unwrap().unwrap().waiting);
    assert_eq!(store.find_lost_messages(session).await.unwrap().count, 0);
    // It was accepted, and is known from now on.
    assert_eq!(store.find_receipt(session, &command.by, &command.command_id).await.unwrap().as_ref(), Some(&receipt));
    let CommandBody::Message { content, .. } = &command.body else { unreachable!("it is a message") };
    let again = SessionCommand { body: message_body(content), ..command.clone() };
    let duplicate = store.submit_command(session, again.clone()).await.unwrap();
    assert_eq!(duplicate, CommandReceipt { duplicate: true, ..receipt.clone() });
    let other = test_command("c1", CommandBody::Cancel { run_id: None });
    let refused = store.submit_command(session, other).await;
    assert!(matches!(refused, Err(StoreError::CommandIdReused)), "{refused:?}");
    // It is not handled again by a commit, either.
    assert_eq!(writer.commit_new_command(&again, run_drafts("hi")).await.unwrap(), None);
    assert_eq!(read_log(store, session, 0, 100).await.len(), 4);
    // The writer continues.
    let next = test_command("c2", message_body("more"));
    assert_eq!(writer.commit_new_command(&next, run_drafts("more")).await.unwrap().unwrap().seq, 4);
    writer.append(vec![warning_draft("x")]).await.unwrap();
    store.submit_command(session, test_command("c3", message_body("waits"))).await.unwrap();
    assert_eq!(store.list_inbox(session).await.unwrap().len(), 1);
}

pub(super) async fn command_that_is_not_alone_is_declined(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    let second = test_command("c2", message_body("second"));
    for (id, body) in [("c1", message_body("first")), ("cancel", CommandBody::Cancel { run_id: None })] {
        store.submit_command(session, test_command(id, body)).await.unwrap();
        assert_eq!(writer.commit_new_command(&second, run_drafts("second")).await.unwrap(), None, "behind {id}");
        let position = store.list_inbox(session).await.unwrap()[0].position;
        // The writer continues as if it had not tried.
        writer.commit(vec![warning_draft(id)], &[position], CheckpointWrite::Skip).await.unwrap();
    }
    // Together with what it cannot do.
    let (events, after) = fold_drafts(&writer.state, run_drafts("second"));
    for (consumed, checkpoint) in [(&[1][..], None), (&[], Some(&writer.state))] {
        let commit = LogCommit { consumed, checkpoint, ..writer.next_commit(&events, &after) };
        assert_eq!(store.commit_new_command(commit, &second).await.unwrap(), NewCommandCommit::Declined);
    }
    // An error accepts nothing.
    let stale = LogCommit { expected_seq: 1, ..writer.next_commit(&events, &after) };
    let refused = store.commit_new_command(stale, &second).await;
    assert!(matches!(refused, Err(StoreError::SeqConflict { .. })), "{refused:?}");
    store.release_lease(writer.lease).await.unwrap();
    let refused = writer.commit_new_command(&second, run_drafts("second")).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    assert_eq!(store.find_receipt(session, &second.by, &second.command_id).await.unwrap(), None);
    assert!(store.list_inbox(session).await.unwrap().is_empty());
    assert_eq!(read_log(store, session, 0, 100).await.len(), 3);
    writer = SessionWriter::acquire(store, session, "b").await;
    assert!(writer.commit_new_command(&second, run_drafts("second")).await.unwrap().is_some());
}
