//! What spans sessions: the list, the work, deletion.

use std::{sync::Arc, time::Duration};

use super::{Pen, acquire_in_a_while, command, created, message, new_session, note, run, user};
use k8sops_core::{
    EventDraft, IdleDeletion, ListCursor, RemainingWork, SessionId, SessionStore, StoreError, Timestamp,
};

pub(super) async fn a_deleted_session_is_gone_from_everywhere(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let (session, other) = (new_session(store).await, new_session(store).await);
    let mut pen = Pen::take(store, session, "a").await;
    store.submit_command(session, command("c1", message("hi"))).await.expect("taken");
    store.delete_session(session).await.expect("deleted");
    let gone = |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    gone(pen.write(vec![note("x")], &[], false).await);
    gone(store.read_events(session, 0, 1).await.map(drop));
    gone(store.list_inbox(session).await.map(drop));
    gone(store.read_checkpoint(session).await.map(drop));
    gone(store.submit_command(session, command("c2", message("hi"))).await.map(drop));
    gone(store.acquire_lease(session, "b", Duration::from_secs(1)).await.map(drop));
    gone(store.delete_session(session).await);
    store.release_lease(pen.lease).await.expect("giving up what is gone is no error");
    assert_eq!(store.read_summary(session).await.expect("the index"), None);
    assert_eq!(store.count_sessions(&user("anna")).await.expect("the index"), 1);
    assert!(store.claim_unfinished_sessions().await.expect("the index").is_empty());
    let left = store.list_sessions(&user("anna"), None, 10).await.expect("the index");
    assert_eq!(left.iter().map(|s| s.session_id).collect::<Vec<_>>(), [other]);
}

pub(super) async fn only_a_session_without_work_is_deleted_when_that_is_asked_for(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    store.submit_command(session, command("c", message("hi"))).await.expect("taken");
    assert_eq!(store.delete_idle_session(session).await.expect("asked"), IdleDeletion::Busy, "a message waits");
    let waiting = store.list_inbox(session).await.expect("the inbox")[0].position;
    let mut pen = Pen::take(store, session, "a").await;
    let mut events = run("hi");
    let finished = events.pop().expect("three events");
    pen.write(events, &[waiting], false).await.expect("a commit");
    assert_eq!(store.delete_idle_session(session).await.expect("asked"), IdleDeletion::Busy, "a run is open");
    pen.write(vec![finished], &[], false).await.expect("a commit");
    assert_eq!(store.delete_idle_session(session).await.expect("asked"), IdleDeletion::Deleted, "it has no work");
    assert_eq!(store.read_summary(session).await.expect("the index"), None);
    assert!(matches!(store.delete_idle_session(session).await, Err(StoreError::NotFound(_))));
}

pub(super) async fn an_id_is_taken_once(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    for name in ["anna", "bert"] {
        let again = store.create_session(&created(session, &user(name), 5)).await;
        assert!(matches!(again, Err(StoreError::Exists(_))), "{again:?}");
    }
    assert_eq!(store.count_sessions(&user("bert")).await.expect("the index"), 0);
}

pub(super) async fn the_list_has_the_newest_activity_first(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let (anna, bert) = (user("anna"), user("bert"));
    let mut sessions = Vec::new();
    for n in 0..7 {
        let session = SessionId::new();
        // Two at the same time: then the greater id comes first.
        store.create_session(&created(session, &anna, 1_000 + n / 2)).await.expect("a new session");
        sessions.push((Timestamp::from_millis(1_000 + n / 2), session));
    }
    store.create_session(&created(SessionId::new(), &bert, 9_000)).await.expect("a new session");
    let mut pen = Pen::take(store, sessions[2].1, "a").await;
    let active = EventDraft { ts: Timestamp::from_millis(5_000), ..note("x") };
    pen.write(vec![active], &[], false).await.expect("a commit");
    sessions[2].0 = Timestamp::from_millis(5_000);
    sessions.sort();
    sessions.reverse();
    let expected: Vec<SessionId> = sessions.into_iter().map(|(_, session)| session).collect();
    for limit in [1, 2, 3, 10] {
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let page = store.list_sessions(&anna, after, limit).await.expect("the index");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(ListCursor { updated_at: last.updated_at, session_id: last.session_id });
            listed.extend(page.into_iter().map(|summary| summary.session_id));
        }
        assert_eq!(listed, expected, "in pages of {limit}");
    }
    assert_eq!(store.count_sessions(&anna).await.expect("the index"), 7);
    assert_eq!(store.count_sessions(&user("nobody")).await.expect("the index"), 0);
}

pub(super) async fn sessions_with_work_are_found_and_others_are_not(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let (idle, asked, running) = (new_session(store).await, new_session(store).await, new_session(store).await);
    store.submit_command(asked, command("c", message("hi"))).await.expect("taken");
    found(store, asked, idle).await;
    // An open run whose owner gives it up.
    store.submit_command(running, command("c", message("hi"))).await.expect("taken");
    let mut pen = Pen::take(store, running, "a").await;
    let waiting = store.list_inbox(running).await.expect("the inbox")[0].position;
    let mut events = run("hi");
    let finished = events.pop().expect("three events");
    pen.write(events, &[waiting], false).await.expect("a commit");
    assert_eq!(
        store.release_lease(pen.lease).await.expect("released"),
        RemainingWork::Unfinished,
        "an open run is work that is left"
    );
    found(store, running, idle).await;
    // One whose owner is gone without a word.
    let late = store.acquire_lease(running, "b", Duration::from_millis(300)).await.expect("free");
    found(store, running, idle).await;
    // One whose owner is gone without a word, after the owner before it came late and let go.
    acquire_in_a_while(store, running, "c", Duration::from_millis(300)).await;
    assert_eq!(
        store.release_lease(late).await.expect("there is nothing to release"),
        RemainingWork::None,
        "what is left is not its own to say"
    );
    found(store, running, idle).await;
    let lease = acquire_in_a_while(store, running, "b", Duration::from_secs(60)).await;
    let mut pen = Pen { lease, ..pen };
    pen.write(vec![finished], &[], false).await.expect("a commit");
    assert_eq!(store.release_lease(pen.lease).await.expect("released"), RemainingWork::None, "nothing is left");
    for _ in 0..3 {
        assert!(!store.claim_unfinished_sessions().await.expect("the index").contains(&running), "it has no work");
    }
}

/// Waits until `session` is among those that have work and nobody who does it; `idle` never is.
async fn found(store: &dyn SessionStore, session: SessionId, idle: SessionId) {
    let looking = async {
        loop {
            let unfinished = store.claim_unfinished_sessions().await.expect("the index");
            assert!(!unfinished.contains(&idle), "it has no work");
            if unfinished.contains(&session) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), looking).await.expect("a session with work is found in a while");
}

pub(super) async fn a_session_that_never_was_is_not_found(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = SessionId::new();
    assert_eq!(store.read_summary(session).await.expect("the index"), None);
    assert!(matches!(store.read_events(session, 0, 1).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.acquire_lease(session, "a", Duration::from_secs(1)).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.delete_session(session).await, Err(StoreError::NotFound(_))));
}
