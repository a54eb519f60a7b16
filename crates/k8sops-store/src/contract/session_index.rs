//! Rules of the session index: lists, unfinished work, deletion.

use std::{sync::Arc, time::Duration};

use super::fixtures::{
    CheckpointWrite, SessionWriter, acquire_when_free, create_test_session, message_body, run_drafts,
    session_created_at, test_command, test_user, warning_draft,
};
use k8sops_core::{
    EventDraft, IdleDeletion, ListCursor, OwnSessions, RemainingWork, SessionId, SessionStore, StoreError, Timestamp,
};

pub(super) async fn deleted_session_is_not_found_anywhere(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let other = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    store.submit_command(session, test_command("c1", message_body("hi"))).await.unwrap();
    store.delete_session(session).await.unwrap();
    let assert_not_found =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    assert_not_found(writer.append(vec![warning_draft("x")]).await);
    assert_not_found(store.read_events(session, 0, 1).await.map(drop));
    assert_not_found(store.list_inbox(session).await.map(drop));
    assert_not_found(store.read_checkpoint(session).await.map(drop));
    assert_not_found(store.submit_command(session, test_command("c2", message_body("hi"))).await.map(drop));
    assert_not_found(store.acquire_lease(session, "b", Duration::from_secs(1)).await.map(drop));
    assert_not_found(store.delete_session(session).await);
    store.release_lease(writer.lease).await.unwrap();
    assert_eq!(store.read_summary(session).await.unwrap(), None);
    assert_eq!(store.count_sessions(&test_user("anna")).await.unwrap(), 1);
    assert!(store.claim_unfinished_sessions(OwnSessions::default()).await.unwrap().sessions.is_empty());
    let left = store.list_sessions(&test_user("anna"), None, 10).await.unwrap();
    assert_eq!(left.iter().map(|s| s.session_id).collect::<Vec<_>>(), [other]);
}

pub(super) async fn busy_session_is_not_deleted_as_idle(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    store.submit_command(session, test_command("c", message_body("hi"))).await.unwrap();
    assert_eq!(store.delete_idle_session(session).await.unwrap(), IdleDeletion::Busy, "a message waits");
    let waiting = store.list_inbox(session).await.unwrap()[0].position;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    let mut events = run_drafts("hi");
    let finished = events.pop().unwrap();
    writer.commit(events, &[waiting], CheckpointWrite::Skip).await.unwrap();
    assert_eq!(store.delete_idle_session(session).await.unwrap(), IdleDeletion::Busy, "a run is open");
    writer.append(vec![finished]).await.unwrap();
    assert_eq!(store.delete_idle_session(session).await.unwrap(), IdleDeletion::Deleted, "it has no work");
    assert_eq!(store.read_summary(session).await.unwrap(), None);
    assert!(matches!(store.delete_idle_session(session).await, Err(StoreError::NotFound(_))));
}

pub(super) async fn session_id_is_unique(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    for name in ["anna", "bert"] {
        let again = store.create_session(&session_created_at(session, &test_user(name), 5)).await;
        assert!(matches!(again, Err(StoreError::Exists(_))), "{again:?}");
    }
    assert_eq!(store.count_sessions(&test_user("bert")).await.unwrap(), 0);
}

pub(super) async fn list_is_sorted_by_newest_activity(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let anna = test_user("anna");
    let bert = test_user("bert");
    let mut sessions = Vec::new();
    for n in 0..7 {
        let session = SessionId::new();
        // Two sessions each have the same time: the greater id comes first.
        store.create_session(&session_created_at(session, &anna, 1_000 + n / 2)).await.unwrap();
        sessions.push((Timestamp::from_millis(1_000 + n / 2), session));
    }
    store.create_session(&session_created_at(SessionId::new(), &bert, 9_000)).await.unwrap();
    let mut writer = SessionWriter::acquire(store, sessions[2].1, "a").await;
    let active = EventDraft { ts: Timestamp::from_millis(5_000), ..warning_draft("x") };
    writer.append(vec![active]).await.unwrap();
    sessions[2].0 = Timestamp::from_millis(5_000);
    sessions.sort();
    sessions.reverse();
    let expected: Vec<SessionId> = sessions.into_iter().map(|(_, session)| session).collect();
    for limit in [1, 2, 3, 10] {
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let page = store.list_sessions(&anna, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(ListCursor { updated_at: last.updated_at, session_id: last.session_id });
            listed.extend(page.into_iter().map(|summary| summary.session_id));
        }
        assert_eq!(listed, expected, "in pages of {limit}");
    }
    assert_eq!(store.count_sessions(&anna).await.unwrap(), 7);
    assert_eq!(store.count_sessions(&test_user("unknown")).await.unwrap(), 0);
}

pub(super) async fn only_unfinished_sessions_are_claimed(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let idle = create_test_session(store).await;
    let asked = create_test_session(store).await;
    let running = create_test_session(store).await;
    store.submit_command(asked, test_command("c", message_body("hi"))).await.unwrap();
    await_claim(store, asked, idle).await;
    // A session with an open run whose owner releases it.
    store.submit_command(running, test_command("c", message_body("hi"))).await.unwrap();
    let mut writer = SessionWriter::acquire(store, running, "a").await;
    let waiting = store.list_inbox(running).await.unwrap()[0].position;
    let mut events = run_drafts("hi");
    let finished = events.pop().unwrap();
    writer.commit(events, &[waiting], CheckpointWrite::Skip).await.unwrap();
    assert_eq!(
        store.release_lease(writer.lease).await.unwrap(),
        RemainingWork::Unfinished,
        "an open run is work that is left"
    );
    await_claim(store, running, idle).await;
    // A session whose owner dies.
    let late = store.acquire_lease(running, "b", Duration::from_millis(300)).await.unwrap();
    await_claim(store, running, idle).await;
    // A session whose owner dies, after a former owner released its expired lease.
    acquire_when_free(store, running, "c", Duration::from_millis(300)).await;
    assert_eq!(
        store.release_lease(late).await.unwrap(),
        RemainingWork::None,
        "only the current owner knows what is left"
    );
    await_claim(store, running, idle).await;
    let lease = acquire_when_free(store, running, "b", Duration::from_secs(60)).await;
    let mut writer = SessionWriter { lease, ..writer };
    writer.append(vec![finished]).await.unwrap();
    assert_eq!(store.release_lease(writer.lease).await.unwrap(), RemainingWork::None, "nothing is left");
    for _ in 0..3 {
        assert!(
            !store.claim_unfinished_sessions(OwnSessions::default()).await.unwrap().sessions.contains(&running),
            "it has no work"
        );
    }
}

/// Waits until `session` is claimed as unfinished, and checks that `idle` is not.
async fn await_claim(store: &dyn SessionStore, session: SessionId, idle: SessionId) {
    let claimed = async {
        loop {
            let unfinished = store.claim_unfinished_sessions(OwnSessions::default()).await.unwrap().sessions;
            assert!(!unfinished.contains(&idle), "it has no work");
            if unfinished.contains(&session) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), claimed).await.unwrap();
}

pub(super) async fn unknown_session_is_not_found(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = SessionId::new();
    assert_eq!(store.read_summary(session).await.unwrap(), None);
    assert!(matches!(store.read_events(session, 0, 1).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.acquire_lease(session, "a", Duration::from_secs(1)).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.delete_session(session).await, Err(StoreError::NotFound(_))));
}
