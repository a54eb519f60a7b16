//! The inbox.

use std::sync::Arc;

use super::{Pen, command, message, message_if_idle, new_session, note, run, user};
use k8sops_core::{
    CommandBody, CommandReceipt, INBOX_LIMIT, INBOX_LIMIT_ALL, SessionCommand, SessionStore, StoreError,
};

pub(super) async fn the_inbox_keeps_its_order_and_is_consumed_with_the_commit(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    for n in 0..5 {
        let receipt = store.submit_command(session, command(&format!("c{n}"), message("hi"))).await.expect("taken");
        assert_eq!((receipt.seq, receipt.duplicate), (1, false));
    }
    let entries = store.list_inbox(session).await.expect("the inbox");
    let ids: Vec<_> = entries.iter().map(|entry| entry.command.command_id.as_str()).collect();
    assert_eq!(ids, ["c0", "c1", "c2", "c3", "c4"]);
    assert!(entries.is_sorted_by_key(|entry| entry.position));
    // A commit that is refused consumes nothing.
    let head = std::mem::replace(&mut pen.state.summary.last_seq, 7);
    assert!(pen.write(vec![note("x")], &[entries[0].position], false).await.is_err());
    pen.state.summary.last_seq = head;
    assert_eq!(store.list_inbox(session).await.expect("the inbox").len(), 5);
    pen.write(vec![note("x")], &[entries[1].position, entries[3].position], true).await.expect("a commit");
    let left: Vec<_> = store.list_inbox(session).await.expect("the inbox");
    assert_eq!(left, [entries[0].clone(), entries[2].clone(), entries[4].clone()]);
    // Without an event too.
    pen.write(Vec::new(), &[entries[0].position], false).await.expect("a commit");
    store.submit_command(session, command("c5", message("hi"))).await.expect("taken");
    let left = store.list_inbox(session).await.expect("the inbox");
    assert!(left.last().is_some_and(|new| new.position > entries[4].position), "positions are not used again");
    assert_eq!(left.last().map(|new| new.accepted_seq), Some(2));
}

pub(super) async fn a_command_is_taken_once_and_its_receipt_is_kept(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    let first = command("c1", message("hi"));
    let receipt = store.submit_command(session, first.clone()).await.expect("taken");
    let position = store.list_inbox(session).await.expect("the inbox")[0].position;
    let again = |receipt: &CommandReceipt| CommandReceipt { duplicate: true, ..receipt.clone() };
    // While it waits, and after it was consumed; with ids of its own the second time, as a new request has.
    for _ in 0..2 {
        let CommandBody::Message { content, .. } = &first.body else { unreachable!("it is a message") };
        let second = SessionCommand { body: message(content), ..first.clone() };
        assert_eq!(store.submit_command(session, second).await.expect("known"), again(&receipt));
        let other = command("c1", CommandBody::Cancel { run_id: None });
        let refused = store.submit_command(session, other).await;
        assert!(matches!(refused, Err(StoreError::CommandIdReused)), "{refused:?}");
        let kept = store.find_receipt(session, &first.by, &first.command_id).await.expect("receipts");
        assert_eq!(kept.as_ref(), Some(&receipt));
        pen.write(run("hi"), &[position], true).await.expect("a commit");
    }
    // Of somebody else it is another command.
    let approver = SessionCommand { by: user("ben"), ..command("c1", CommandBody::Cancel { run_id: None }) };
    assert_eq!(store.find_receipt(session, &approver.by, &approver.command_id).await.expect("receipts"), None);
    let theirs = store.submit_command(session, approver.clone()).await.expect("taken");
    assert!(!theirs.duplicate);
    let kept = store.find_receipt(session, &approver.by, &approver.command_id).await.expect("receipts");
    assert_eq!(kept.as_ref(), Some(&theirs));
    let position = store.list_inbox(session).await.expect("the inbox")[0].position;
    pen.write(Vec::new(), &[position], false).await.expect("a commit");
    assert!(store.list_inbox(session).await.expect("the inbox").is_empty());
}

pub(super) async fn a_summary_says_whether_a_message_waits(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let waits = async |expected: bool, when: &str| {
        let summary = store.read_summary(session).await.expect("the index").expect("a summary");
        assert_eq!(summary.waiting, expected, "{when}");
        assert_eq!(store.list_sessions(&user("anna"), None, 10).await.expect("the index"), [summary], "listed: {when}");
    };
    waits(false, "a new session").await;
    store.submit_command(session, command("cancel", CommandBody::Cancel { run_id: None })).await.expect("taken");
    waits(false, "a cancel is no message").await;
    store.submit_command(session, command("c1", message("hi"))).await.expect("taken");
    waits(true, "before anybody holds the session").await;
    let mut pen = Pen::take(store, session, "a").await;
    waits(true, "held, not taken up").await;
    store.release_lease(pen.lease).await.expect("released");
    waits(true, "given up again").await;
    pen = Pen::take(store, session, "b").await;
    let positions: Vec<u64> = store.list_inbox(session).await.expect("the inbox").iter().map(|e| e.position).collect();
    pen.write(vec![note("x")], &positions[..1], false).await.expect("a commit");
    waits(true, "the cancel was taken up").await;
    // A writer may have begun from a summary that was told of the message.
    pen.state.summary.waiting = true;
    pen.write(run("hi"), &positions[1..], true).await.expect("a commit");
    waits(false, "taken up").await;
    store.submit_command(session, command("c2", message("again"))).await.expect("taken");
    waits(true, "the next").await;
}

pub(super) async fn a_busy_session_refuses_a_message_that_asks_for_it(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    store.submit_command(session, command("cancel", CommandBody::Cancel { run_id: None })).await.expect("taken");
    store.submit_command(session, command("c1", message_if_idle("hi"))).await.expect("idle: a cancel is no run");
    let refused = store.submit_command(session, command("c2", message_if_idle("hi"))).await;
    assert!(matches!(refused, Err(StoreError::Busy(_))), "a message waits: {refused:?}");
    let positions: Vec<u64> = store.list_inbox(session).await.expect("the inbox").iter().map(|e| e.position).collect();
    let mut events = run("hi");
    let finished = events.pop().expect("three events");
    pen.write(events, &positions, false).await.expect("a commit");
    let refused = store.submit_command(session, command("c2", message_if_idle("hi"))).await;
    assert!(matches!(refused, Err(StoreError::Busy(_))), "a run is open: {refused:?}");
    pen.write(vec![finished], &[], false).await.expect("a commit");
    store.submit_command(session, command("c2", message_if_idle("hi"))).await.expect("idle again");
}

pub(super) async fn a_full_inbox_refuses_more(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    for n in 0..INBOX_LIMIT {
        store.submit_command(session, command(&format!("c{n}"), message("hi"))).await.expect("taken");
    }
    let refused = store.submit_command(session, command("one-more", message("hi"))).await;
    assert!(matches!(refused, Err(StoreError::InboxFull(INBOX_LIMIT))), "{refused:?}");
    let missing = command("one-more", message("hi"));
    assert_eq!(store.find_receipt(session, &missing.by, &missing.command_id).await.expect("receipts"), None);
    // However many messages wait, a cancel finds room; even that has an end.
    for n in INBOX_LIMIT..INBOX_LIMIT_ALL {
        store
            .submit_command(session, command(&format!("c{n}"), CommandBody::Cancel { run_id: None }))
            .await
            .expect("taken");
    }
    let refused = store.submit_command(session, command("too-many", CommandBody::Cancel { run_id: None })).await;
    assert!(matches!(refused, Err(StoreError::InboxFull(INBOX_LIMIT_ALL))), "{refused:?}");
    store.submit_command(session, command("c0", message("hi"))).await.expect_err("other ids, other fingerprint");
}
