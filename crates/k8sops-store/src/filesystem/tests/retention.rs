//! How large files become, and how long they are open.

use std::{fs, sync::Arc};

use tempfile::TempDir;

use super::{open_store, session_path};
use crate::{
    FilesystemStore, InMemoryStore, LogRetention,
    contract::{
        CheckpointWrite, SessionWriter, create_test_session, message_body, run_drafts, test_command, warning_draft,
    },
};
use k8sops_core::*;

#[tokio::test]
async fn commit_size_does_not_grow_with_the_log() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    let size = || fs::metadata(session_path(dir.path(), session)).unwrap().len();
    let mut grown = Vec::new();
    for _ in 0..300 {
        let before = size();
        writer.append(run_drafts("the same message")).await.unwrap();
        grown.push(size() - before);
    }
    assert!(grown[299] <= grown[9] + 20, "{} bytes at turn 10, {} at turn 300", grown[9], grown[299]);
}

#[tokio::test]
async fn shallow_log_keeps_events_since_the_checkpoint() {
    let dir = TempDir::new().unwrap();
    for store in [
        Arc::new(FilesystemStore::open(dir.path(), LogRetention::SinceCheckpoint).await.unwrap())
            as Arc<dyn SessionStore>,
        Arc::new(InMemoryStore::new(LogRetention::SinceCheckpoint)),
    ] {
        let session = create_test_session(store.as_ref()).await;
        let mut writer = SessionWriter::acquire(store.as_ref(), session, "a").await;
        for _ in 0..10 {
            writer.append(run_drafts("hi")).await.unwrap();
        }
        let checkpoint_seq = writer.state.last_seq();
        store.submit_command(session, test_command("c1", message_body("waits"))).await.unwrap();
        writer.commit(run_drafts("after"), &[], CheckpointWrite::Write).await.unwrap();
        let page = store.read_events(session, 0, 100).await.unwrap();
        assert_eq!((page.oldest_seq, page.events.first().unwrap().seq), (checkpoint_seq + 1, checkpoint_seq + 1));
        assert_eq!(page.events.len(), 3);
        assert_eq!(load_state(store.as_ref(), session).await.unwrap().state, writer.state);
        assert_eq!(store.list_inbox(session).await.unwrap().len(), 1);
        writer.append(vec![warning_draft("later")]).await.unwrap();
        assert_eq!(store.read_events(session, checkpoint_seq, 100).await.unwrap().events.len(), 4);
    }
}

#[tokio::test]
async fn shallow_session_file_stays_small() {
    let dir = TempDir::new().unwrap();
    let store = FilesystemStore::open(dir.path(), LogRetention::SinceCheckpoint).await.unwrap();
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    for n in 0..50 {
        writer.commit(vec![warning_draft(&"x".repeat(1000))], &[], CheckpointWrite::when(n % 5 == 4)).await.unwrap();
    }
    let state = writer.state.clone();
    drop(store);
    assert!(fs::metadata(session_path(dir.path(), session)).unwrap().len() < 10_000);
    let store = FilesystemStore::open(dir.path(), LogRetention::SinceCheckpoint).await.unwrap();
    assert_eq!(load_state(&store, session).await.unwrap().state, state);
}

#[tokio::test]
async fn idle_files_are_closed_but_for_a_few() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let sessions = &store.files().sessions;
    let mut all = Vec::new();
    for _ in 0..100 {
        let session = create_test_session(&store).await;
        store.submit_command(session, test_command("c", message_body("hi"))).await.unwrap();
        all.push(session);
    }
    let idle = sessions.open_count();
    assert!(idle < 70, "{idle}");
    let other = sessions.hold_open(all[0]);
    store.list_inbox(all[0]).await.unwrap();
    assert_eq!(sessions.open_count(), idle + 1, "another caller has it");
    drop(other);
    for session in &all {
        assert!(store.read_summary(*session).await.unwrap().unwrap().waiting);
        assert_eq!(store.delete_idle_session(*session).await.unwrap(), IdleDeletion::Busy, "a message waits");
    }
    assert!(sessions.open_count() <= idle + 1);
    for session in &all {
        store.delete_session(*session).await.unwrap();
    }
    assert_eq!(sessions.open_count(), 0);
}
